"""The engine: loading a model and encoding clips."""

import math
import re
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import numpy as np
import open_clip
import pytest
import torch
from small_models import assembled

from bike_cli.engine.engine import Engine, load
from bike_cli.engine.models.catalogue import ran_in_0_1
from bike_cli.engine.models.checkpoints import open_checkpoint
from bike_cli.engine.models.folder import save_folder
from bike_cli.engine.models.parts import Checkpoint, new_attribute, new_temporal
from bike_cli.errors import ModelError, UsageError
from bike_cli.records import Clip, FrameTimes, Source


@pytest.fixture
def clip() -> Clip:
    frames = np.random.default_rng(0).integers(0, 256, (2, 3, 40, 90, 3), dtype=np.uint8)
    times = np.array([[0.0, 1.0, 2.0], [3.0, 4.0, 5.0]])
    return Clip(Source.at("a.mp4"), frames, FrameTimes(times, duration_s=6.0))


def test_views_are_crop_major(engine: Engine, clip: Clip) -> None:
    features = engine.encode_clip(clip, crops=3)

    second = engine.encode_frames(clip.frames[1], crops=3).reshape(3, 3, -1)  # [crops, T, D] of clip 1
    assert features.frames.shape == (6, 3, engine.encoder.dim)
    assert torch.allclose(features.frames[1::2], second, atol=1e-5)  # view = crop * 2 + clip
    assert features.times_s[:, 0].tolist() == [0.0, 3.0]


def test_texts_keep_what_the_recipe_spots_with(engine: Engine) -> None:
    assert engine.recipe.spot == "words"
    assert engine.encode_texts(["small red circle"]).tokens.shape[1] == 3
    assert engine.encode_texts(["small red circle"], positions="all").tokens.shape[1] == 77


def test_a_model_without_a_temporal_head_leaves_frames_alone(checkpoint: Checkpoint) -> None:
    plain = Checkpoint(
        "plain", checkpoint.clip, checkpoint.clip_config, image=checkpoint.image, recipe=checkpoint.recipe
    )
    frames = torch.randn(2, 90, 48)

    assert assembled(plain).temporal(frames) is frames


def test_more_frames_than_the_head_has_positions_is_a_usage_error(engine: Engine) -> None:
    with pytest.raises(UsageError, match=r"frames is 78, but the temporal head of small one .* 77"):
        engine.temporal(torch.zeros(1, 78, 48))


def test_the_logit_scale_is_that_of_the_model(engine: Engine) -> None:
    assert engine.logit_scale == pytest.approx(1 / 0.07, rel=1e-5)
    assert math.isfinite(engine.logit_scale)


def test_a_wrong_device_is_reported_before_the_model_is_opened() -> None:
    with pytest.raises(UsageError, match="device"):
        load("no such model", device="warp")


def test_an_unknown_model_is_a_model_error() -> None:
    with pytest.raises(ModelError, match="no such model"):
        load("no such model", device="cpu")


def test_hashes_of_models_that_0_1_ran_are_as_they_were() -> None:
    """Caches and saved classifiers of version 0.1 are found by them."""
    engine = load("tiny", device="cpu", precision="fp32")
    head = "f4dd58f17beb1417aa4c61cfc35e7ab809729405c9758bc973a26c49ce0b852f"

    assert engine.fingerprint == f"6d826ca381a18395-434a9278ca96289e060fad20d1f33ccb-{head[:16]}"
    assert engine.identity.split()[1:] == ["be7a6f247fc3c068f4905544e55ba12ea85a78976ec7b6002fdb3d147ce1ae22", head]


def test_the_short_digest_is_the_same_on_every_device_and_in_a_copy(tmp_path: Path) -> None:
    checkpoint = open_checkpoint("tiny")
    engine = assembled(checkpoint)
    save_folder(tmp_path, checkpoint)

    others = [load("tiny", device="cpu", precision="bf16"), load(str(tmp_path), device="cpu")]

    assert re.fullmatch("[0-9a-f]{8}", engine.short_digest)
    assert {other.short_digest for other in others} == {engine.short_digest}


def trained(checkpoint: Checkpoint) -> Checkpoint:
    for parameter in checkpoint.clip.transformer.parameters():
        parameter.data += 1e-6 * torch.randn_like(parameter)
    return checkpoint


@pytest.mark.parametrize(
    "change",
    [
        trained,
        lambda c: replace(c, recipe=replace(c.recipe, template="class")),
        lambda c: replace(c, image=replace(c.image, mean=(0.1, 0.2, 0.3))),
        lambda c: replace(c, temporal_head=new_temporal(c.clip, seed=9)),
        lambda c: replace(c, attribute_head=new_attribute(c.clip, seed=9)),
    ],
    ids=["weights", "recipe", "image", "temporal head", "attribute head"],
)
def test_the_short_digest_covers_all_that_scores_depend_on(change: Callable[[Checkpoint], Checkpoint]) -> None:
    checkpoint = open_checkpoint("tiny")
    before = assembled(checkpoint).short_digest

    assert assembled(change(checkpoint)).short_digest != before


@pytest.mark.parametrize(
    ("arch", "ran"),
    [
        ("ViT-B-16-quickgelu", True),
        ("ViT-H-14", True),
        ("RN50", True),
        ("convnext_base", True),
        ("PE-Core-B-16", False),
    ],
)
def test_which_models_0_1_ran(arch: str, ran: bool) -> None:
    assert ran_in_0_1(open_clip.get_model_config(arch)) is ran
