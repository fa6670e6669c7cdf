"""Clips leave in batches that fill the device: none is lost, and the order stays."""

from types import SimpleNamespace
from typing import cast

import pytest
from hypothesis import given
from hypothesis import strategies as st

from bike_cli.config import SamplingConfig
from bike_cli.engine.engine import Engine
from bike_cli.inference import clip_queue
from bike_cli.inference.clip_queue import ClipQueue


def engine(device: str, at_once: int) -> Engine:
    batches, placement = SimpleNamespace(at_once=at_once), SimpleNamespace(device=SimpleNamespace(type=device))
    return cast(Engine, SimpleNamespace(encoder=SimpleNamespace(batches=batches, placement=placement)))


@given(st.lists(st.integers(1, 300)), st.integers(1, 200))
def test_every_clip_leaves_once_in_order_in_batches_that_cannot_take_the_next(lengths: list[int], most: int) -> None:
    clips: ClipQueue[int] = ClipQueue(engine("cuda", most), SamplingConfig())
    for i, frames in enumerate(lengths):
        clips.add(i, frames)

    batches: list[list[int]] = []
    while len(clips):
        taken = sum(len(batch) for batch in batches)
        assert clips.is_full == (sum(lengths[taken:]) >= most)
        batches.append(clips.take())

    assert [clip for batch in batches for clip in batch] == list(range(len(lengths)))
    for i, batch in enumerate(batches):
        frames = sum(lengths[clip] for clip in batch)
        assert frames <= most or len(batch) == 1
        assert i == len(batches) - 1 or frames + lengths[batch[-1] + 1] > most
    assert clips.take() == []
    assert not clips.is_full


def test_a_cpu_takes_clips_one_by_one() -> None:
    clips: ClipQueue[str] = ClipQueue(engine("cpu", 32), SamplingConfig())
    for name in "ab":
        clips.add(name, 8)

    assert clips.is_full
    assert [clips.take(), clips.take(), clips.take()] == [["a"], ["b"], []]


def test_a_batch_shrinks_with_the_memory_of_the_device() -> None:
    small = engine("cuda", 128)
    clips: ClipQueue[str] = ClipQueue(small, SamplingConfig())
    for name in "abc":
        clips.add(name, 8)
    before = clips.is_full

    small.encoder.batches.at_once = 16

    assert (before, clips.is_full) == (False, True)
    assert clips.take() == ["a", "b"]


@pytest.mark.parametrize(
    ("device", "sampling", "expected"),
    [
        ("cpu", SamplingConfig(), 10),
        ("cuda", SamplingConfig(frames=8), 10 + 32),
        ("cuda", SamplingConfig(frames=8, sampling="keyframe"), 10 + 128),
        ("cuda", SamplingConfig(frames=8, clips=2, crops=3), 10 + 4),
    ],
)
def test_clips_in_flight_fill_two_batches(
    device: str, sampling: SamplingConfig, expected: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(clip_queue, "clips_with_open_files", lambda _: 10_000)

    assert ClipQueue(engine(device, 128), sampling).room(4, 2) == expected


def test_few_open_files_leave_the_workers_their_clips(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(clip_queue, "clips_with_open_files", lambda _: 3)

    assert ClipQueue(engine("cuda", 128), SamplingConfig()).room(4, 2) == 10
