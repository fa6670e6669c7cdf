"""The config files of the paper's fine-tuning runs, against the figures of the paper."""

from dataclasses import replace
from pathlib import Path

import pytest

from bike_cli.config import FinetuneConfig
from bike_cli.settings import flatten, leaves, resolve

EXAMPLES = Path(__file__).parents[2] / "examples"
# BIKE (arXiv:2301.00182) and configs/ of github.com/whwu95/BIKE: K400 with 8 frames, the others with 16.
EPOCHS_AND_FRAMES = {
    "k400": (30, 8),
    "ucf101": (20, 16),
    "hmdb51": (20, 16),
    "activitynet": (20, 16),
    "charades": (20, 16),
}
# What the paper or its configs fix, whether bike's default is the same or not.
FIXED = {
    *("model", "template", "frames", "pool", "spot", "temperature", "head", "loss", "freeze"),
    *("batch_size", "epochs", "warmup", "lr", "clip_ratio", "weight_decay"),
}


def recipe(name: str) -> FinetuneConfig:
    return resolve(FinetuneConfig, flags={}, file=EXAMPLES / f"finetune_{name}.yaml", environment={})


def keys_of(name: str) -> list[str]:
    lines = (EXAMPLES / f"finetune_{name}.yaml").read_text(encoding="utf-8").splitlines()
    return [line.partition(":")[0] for line in lines if line and not line.startswith("#")]


def test_every_recipe_is_tested() -> None:
    files = {path.stem.removeprefix("finetune_") for path in EXAMPLES.glob("finetune_*.yaml")}

    assert files == set(EPOCHS_AND_FRAMES)


@pytest.mark.parametrize("name", EPOCHS_AND_FRAMES)
def test_a_recipe_holds_the_paper_s_figures(name: str) -> None:
    config = recipe(name)

    learning, spotting = config.learning, config.spotting
    assert (learning.epochs, config.sampling.frames) == EPOCHS_AND_FRAMES[name]
    assert learning.lr == 5e-5
    assert learning.lr * learning.clip_ratio == pytest.approx(5e-6)
    assert (learning.weight_decay, learning.warm_up, config.batches.batch_size) == (0.2, 5, 256)
    assert (spotting.pool, spotting.spot, spotting.temperature) == ("tcs", "all", 0.01)
    assert (config.engine.model, config.template) == ("base", "bike")
    assert (learning.head, learning.freeze) == ("transf", "text")


@pytest.mark.parametrize("name", EPOCHS_AND_FRAMES)
def test_a_recipe_learns_by_contrast_unless_videos_have_several_labels(name: str) -> None:
    assert recipe(name).learning.loss == ("auto" if name == "charades" else "nce")


@pytest.mark.parametrize("name", EPOCHS_AND_FRAMES)
def test_a_recipe_names_what_the_paper_fixes_and_nothing_else(name: str) -> None:
    keys = keys_of(name)

    assert len(keys) == len(set(keys))
    assert set(keys) == FIXED - ({"loss"} if name == "charades" else set())
    assert set(keys) <= set(leaves(FinetuneConfig))


def test_recipes_differ_from_kinetics_in_epochs_and_frames_alone() -> None:
    k400 = recipe("k400")
    learning, sampling = replace(k400.learning, epochs=20), replace(k400.sampling, frames=16)

    expected = flatten(replace(k400, learning=learning, sampling=sampling))

    assert all(flatten(recipe(name)) == expected for name in ("ucf101", "hmdb51", "activitynet"))
    assert flatten(recipe("charades")) == expected | {"loss": "auto"}


@pytest.mark.parametrize("name", EPOCHS_AND_FRAMES)
def test_a_recipe_says_how_to_run_itself(name: str) -> None:
    text = (EXAMPLES / f"finetune_{name}.yaml").read_text(encoding="utf-8")

    assert "torchrun --nproc-per-node 8 -m bike_cli finetune" in text
    assert f"--config examples/finetune_{name}.yaml" in text
    assert ("--multi-label" in text) == (name == "charades")
