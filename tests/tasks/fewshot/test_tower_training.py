"""BIKE's few-shot training: which weights change, and what the seed decides."""

import numpy as np
import pytest
import torch
from films import drawn
from numpy.typing import NDArray
from torch import Tensor

from bike_cli.config import ClassifyConfig, SpottingConfig
from bike_cli.engine.engine import Engine
from bike_cli.engine.spotting import ClassTexts
from bike_cli.inference.prepare import prepare
from bike_cli.tasks.fewshot.tower_training import Recipe, ShotTraining

LABELS = ["red square", "blue circle", "green cross"]
SHORT = Recipe(epochs=4, batch=6, rate=1e-4, head_rate=1e-4, warm_up=1)


def clips() -> tuple[list[NDArray[np.uint8]], Tensor]:
    """Two clips of each label, under labels that are one off: there is something to learn."""
    films = [drawn(label, frames=16)[start : start + 4] for label in LABELS for start in (0, 8)]
    return films, torch.tensor([1, 1, 2, 2, 0, 0])


def texts(engine: Engine, *, mean: bool = False) -> ClassTexts:
    return prepare(engine, LABELS, ClassifyConfig(spotting=SpottingConfig(pool="mean" if mean else "tcs"))).texts


def trained(engine: Engine, *, seed: int = 0, mean: bool = False) -> tuple[ShotTraining, list[float]]:
    films, labels = clips()
    training = ShotTraining(engine, films, labels, texts(engine, mean=mean), recipe=SHORT, seed=seed)
    return training, list(training)


def weights(engine: Engine) -> dict[str, Tensor]:
    assert engine.temporal_head is not None
    model = {f"clip.{name}": tensor.clone() for name, tensor in engine.encoder.model.state_dict().items()}
    return model | {f"head.{name}": tensor.clone() for name, tensor in engine.temporal_head.state_dict().items()}


@pytest.mark.slow
@pytest.mark.parametrize("mean", [False, pytest.param(True, marks=pytest.mark.slow)])
def test_the_loss_goes_down(tiny: Engine, mean: bool) -> None:
    _, losses = trained(tiny, mean=mean)

    assert len(losses) == 4
    assert losses[-1] < losses[0]


@pytest.mark.slow
def test_the_image_tower_and_the_temporal_head_learn_and_the_text_stays(tiny: Engine) -> None:
    before, seen = weights(tiny), tiny.encode_frames(drawn(LABELS[0])[:2])

    training, _ = trained(tiny)

    # The engine it began with is left as it was.
    assert all(torch.equal(tensor, before[name]) for name, tensor in weights(tiny).items())
    assert torch.equal(tiny.encode_frames(drawn(LABELS[0])[:2]), seen)
    assert not torch.equal(training.engine.encode_frames(drawn(LABELS[0])[:2]), seen)
    assert training.engine.identity != tiny.identity
    changed = {name for name, tensor in weights(training.engine).items() if not torch.equal(tensor, before[name])}
    assert {name.split(".")[0] for name in changed} == {"clip", "head"}
    assert all(name.startswith(("clip.visual.", "head.")) for name in changed)
    # The table has a row for each of 77 frames, and these clips have four.
    assert len(changed) > 0.9 * sum(name.startswith(("clip.visual.", "head.")) for name in before)


@pytest.mark.slow
def test_a_seed_decides_order_and_crops(tiny: Engine) -> None:
    first, again, other = (trained(tiny, seed=seed)[1] for seed in (3, 3, 4))

    assert first == again
    assert first != other
