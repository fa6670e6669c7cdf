"""Towers whose frames attend to their neighbours: a clip's features are its own, and nothing takes it for a CLIP."""

import json
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from numpy.typing import NDArray
from small_models import tiny_checkpoint
from video_models import clip_of

from bike_cli.engine.engine import Engine, assemble
from bike_cli.engine.heads.few_shot import Views, as_views
from bike_cli.engine.models.folder import load_folder, save_folder
from bike_cli.engine.models.official import check_official
from bike_cli.engine.models.parts import Checkpoint
from bike_cli.engine.spotting import ClassTexts
from bike_cli.engine.towers.batches import Batches
from bike_cli.engine.towers.neighbours import check_trainable, read_neighbours, reads_neighbours
from bike_cli.engine.towers.placement import place
from bike_cli.engine.towers.transforms import normalise
from bike_cli.errors import ModelError, UsageError

CPU = place("cpu", "fp32")


def checkpoint_of(*, neighbours: bool) -> Checkpoint:
    checkpoint = replace(tiny_checkpoint(), temporal_head=None, attribute_head=None)
    if neighbours:
        read_neighbours(checkpoint.clip.visual)
    return checkpoint


@pytest.fixture(scope="module")
def engine() -> Engine:
    return assemble(checkpoint_of(neighbours=True), CPU)


@pytest.fixture(scope="module")
def video() -> NDArray[np.uint8]:
    """Three clips of four frames: uint8 [3, 4, 40, 48, 3]."""
    return np.random.default_rng(1).integers(0, 256, (3, 4, 40, 48, 3)).astype(np.uint8)


def features(engine: Engine, frames: NDArray[np.uint8], crops: int = 1) -> torch.Tensor:
    return engine.encode_clip(clip_of(frames), crops=crops).frames


# -- clips


def test_a_frame_depends_on_its_neighbours_and_in_time_on_no_others(engine: Engine) -> None:
    frames = np.random.default_rng(2).integers(0, 256, (1, 6, 32, 32, 3)).astype(np.uint8)
    changed = frames.copy()
    changed[0, 0] = 255 - changed[0, 0]

    differs = (features(engine, frames) - features(engine, changed))[0].abs().amax(dim=1)

    # Two blocks carry a change at most two frames far.
    assert (differs[:3] > 1e-4).all()
    assert (differs[3:] == 0).all()


def test_clips_do_not_mix(engine: Engine, video: NDArray[np.uint8]) -> None:
    together = features(engine, video)
    alone = torch.cat([features(engine, clip[None]) for clip in video])

    assert torch.allclose(together, alone, atol=1e-6)


def test_crops_do_not_mix(engine: Engine, video: NDArray[np.uint8]) -> None:
    encoder = engine.encoder
    pixels = normalise(encoder.pixels(video.reshape(-1, *video.shape[2:]), crops=3), encoder.recipe)
    alone = torch.stack([encoder.tower(clip[None]) for clip in pixels.split(4)])  # [3 * 3, 4, D]

    assert torch.allclose(features(engine, video, crops=3), alone, atol=1e-6)
    assert not torch.allclose(alone[:3], alone[3:6], atol=1e-3)


def test_videos_with_clips_of_several_lengths_do_not_mix(engine: Engine, video: NDArray[np.uint8]) -> None:
    clips = [clip_of(video), clip_of(video[:, :2])]

    together = [encoded.frames for encoded in engine.encode_clips(clips)]

    assert all(torch.allclose(a, features(engine, b.frames), atol=1e-6) for a, b in zip(together, clips, strict=True))


@pytest.mark.parametrize("at_once", [1, 4, 5, 9])
def test_batches_hold_whole_clips(engine: Engine, video: NDArray[np.uint8], at_once: int) -> None:
    small = replace(engine, encoder=replace(engine.encoder, batches=Batches(at_once)))

    assert torch.allclose(features(small, video), features(engine, video), atol=1e-6)


def test_frames_alone_are_one_clip(engine: Engine, video: NDArray[np.uint8]) -> None:
    assert torch.equal(engine.encode_frames(video[0]), features(engine, video[:1])[0])
    assert engine.encode_frames(video[0][:0]).shape == (0, 48)


def test_a_clip_that_is_too_large_for_the_device_is_reported(video: NDArray[np.uint8]) -> None:
    engine = assemble(checkpoint_of(neighbours=True), CPU)

    def fails(_: torch.Tensor) -> torch.Tensor:
        raise torch.OutOfMemoryError

    engine = replace(engine, encoder=replace(engine.encoder, tower=fails))
    with pytest.raises(ModelError, match="the device cannot hold one clip"):
        features(engine, video)


# -- nothing takes it for a CLIP


def test_the_same_weights_are_another_model(engine: Engine) -> None:
    plain = assemble(checkpoint_of(neighbours=False), CPU)
    state, other = engine.encoder.model.state_dict(), plain.encoder.model.state_dict()

    assert state.keys() == other.keys()
    assert all(torch.equal(tensor, other[name]) for name, tensor in state.items())
    assert engine.identity != plain.identity
    assert engine.fingerprint != plain.fingerprint


def test_frames_without_their_clip_are_an_error(engine: Engine) -> None:
    with pytest.raises(ValueError, match="this tower takes whole clips"):
        engine.encoder.model.encode_image(torch.zeros(2, 3, 32, 32))


def test_a_folder_says_so(tmp_path: Path, engine: Engine, video: NDArray[np.uint8]) -> None:
    save_folder(tmp_path / "m", engine.as_checkpoint())

    loaded = load_folder(tmp_path / "m")

    assert json.loads((tmp_path / "m" / "config.json").read_text())["temporal"] == "neighbours"
    assert reads_neighbours(loaded.clip.visual)
    assert torch.equal(features(assemble(loaded, CPU), video), features(engine, video))


@pytest.mark.parametrize(
    ("value", "said"),
    [("messages", "temporal is 'messages', but this bike only knows"), (None, "temporal is None")],
)
def test_a_folder_with_another_attention_is_refused(tmp_path: Path, value: object, said: str) -> None:
    save_folder(tmp_path / "m", checkpoint_of(neighbours=True))
    config = json.loads((tmp_path / "m" / "config.json").read_text())
    (tmp_path / "m" / "config.json").write_text(json.dumps({**config, "temporal": value}))

    with pytest.raises(ModelError, match=said):
        load_folder(tmp_path / "m")


@pytest.mark.parametrize("tower", ["resnet", "convnext"])
def test_a_folder_whose_tower_cannot_do_it_is_refused(tmp_path: Path, tower: str) -> None:
    save_folder(tmp_path / "m", tiny_checkpoint(tower))
    config = json.loads((tmp_path / "m" / "config.json").read_text())
    (tmp_path / "m" / "config.json").write_text(json.dumps({**config, "temporal": "neighbours"}))

    with pytest.raises(ModelError, match="which only a plain Vision Transformer can have"):
        load_folder(tmp_path / "m")


def test_compiling_is_refused() -> None:
    with pytest.raises(UsageError, match="compile: frames of this model attend to their neighbours"):
        assemble(checkpoint_of(neighbours=True), CPU, compiled=True)


def test_training_is_refused(engine: Engine) -> None:
    check_trainable(tiny_checkpoint().clip.visual, "plain")
    with pytest.raises(UsageError, match="small one: its frames attend to their neighbours, but bike only trains"):
        check_trainable(engine.encoder.model.visual, engine.name)


def test_an_official_file_is_refused() -> None:
    with pytest.raises(ModelError, match="its frames attend to their neighbours"):
        check_official(checkpoint_of(neighbours=True), "video")


# -- averages of scores


def test_scores_are_averaged_over_frames() -> None:
    frames, classes = torch.randn(2, 5, 8, generator=torch.Generator().manual_seed(1)), torch.eye(8)[:3]

    scores = ClassTexts(classes, None, 1.0, averages_scores=True).scores(frames)

    by_hand = torch.nn.functional.cosine_similarity(frames[:, :, None], classes[None, None], dim=-1).mean(dim=1)
    assert torch.allclose(scores, by_hand, atol=1e-6)


def test_heads_see_the_same_average() -> None:
    frames, classes = torch.randn(2, 5, 8, generator=torch.Generator().manual_seed(1)), torch.eye(8)[:3]
    texts = ClassTexts(classes, None, 1.0, averages_scores=True)

    seen, weights = as_views(frames, texts)

    scores = Views(seen[None], weights.expand(3, -1)[None]).scores(classes)
    assert torch.allclose(scores[0], texts.scores(frames).mean(dim=0), atol=1e-6)
