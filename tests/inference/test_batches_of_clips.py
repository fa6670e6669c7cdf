"""A device that works while clips are decoded gets full batches, and every input has its answer, in order.

The device is a stand-in with the interface of a GPU: encoding returns at once, and waiting for its event takes time.
"""

import random
import time
from collections.abc import Iterator, Sequence
from pathlib import Path
from types import SimpleNamespace
from typing import cast

import pytest

from bike_cli.config import DecodingConfig, SamplingConfig
from bike_cli.engine.engine import Engine
from bike_cli.inference.features import Features, Input
from bike_cli.records import Clip, Failure, Source, VideoFeatures
from bike_cli.video.workers.pool import DecodePool

SAMPLING = SamplingConfig(frames=4)


class BusyDevice:
    """Counts the frames of batches, and the batches that it holds at the same time."""

    def __init__(self, engine: Engine, at_once: int, batch_s: float) -> None:
        self._engine, self._batch_s = engine, batch_s
        self.batches: list[int] = []
        self.underway = self.most_underway = 0
        placement = SimpleNamespace(device=SimpleNamespace(type="cuda"), mark=self._mark)
        self.encoder = SimpleNamespace(batches=SimpleNamespace(at_once=at_once), placement=placement)

    def encode_clips(self, clips: Sequence[Clip], *, crops: int) -> list[VideoFeatures]:
        self.batches.append(sum(clip.frames.shape[0] * clip.frames.shape[1] for clip in clips))
        return self._engine.encode_clips(clips, crops=crops)

    def _mark(self) -> SimpleNamespace:
        self.underway += 1
        self.most_underway = max(self.most_underway, self.underway)
        return SimpleNamespace(synchronize=self._wait)

    def _wait(self) -> None:
        time.sleep(self._batch_s)
        self.underway -= 1


def run(
    device: BusyDevice, inputs: Sequence[Input], pool: DecodePool, *, breaks: float = 0.0
) -> list[VideoFeatures | Failure]:
    def arriving() -> Iterator[Input]:
        rng = random.Random(5)
        for one in inputs:
            time.sleep(rng.random() * breaks)
            yield one

    found: list[VideoFeatures | Failure] = []
    for batch in Features(arriving(), [cast(Engine, device)], SAMPLING, pool=pool):
        found += [one if isinstance(one, Failure) else one[0] for one in batch]
    return found


@pytest.fixture(scope="module")
def pool() -> Iterator[DecodePool]:
    with DecodePool(SAMPLING, DecodingConfig(workers=2)) as running:
        yield running


@pytest.mark.parametrize("batch_s", [0.0, 0.05])
@pytest.mark.parametrize("breaks", [0.0, 0.03])
@pytest.mark.parametrize("at_once", [1, 6, 16, 500])
def test_every_input_has_its_answer_in_order(
    tiny: Engine, clips: Path, pool: DecodePool, at_once: int, batch_s: float, breaks: float
) -> None:
    films = [str(film) for film in sorted(clips.iterdir())]
    alone = {film: tiny.encode_clip(_decoded(pool, film)).frames for film in films}
    inputs = [name for film in films for name in (film, f"{film} gone.mp4", film)] * 4
    device = BusyDevice(tiny, at_once, batch_s)

    found = run(device, inputs, pool, breaks=breaks)

    assert [one.source.id for one in found] == inputs
    for one in found:
        assert isinstance(one, Failure) == one.source.id.endswith("gone.mp4")
        assert isinstance(one, Failure) or one.frames.equal(alone[one.source.id])
    assert sum(device.batches) == 4 * 2 * len(films) * SAMPLING.frames
    assert max(device.batches) <= max(at_once, SAMPLING.frames)
    assert device.underway == 0


def test_clips_that_are_ready_fill_batches_and_the_next_waits_on_the_device(
    tiny: Engine, clips: Path, pool: DecodePool
) -> None:
    ready = [_decoded(pool, str(film)) for film in sorted(clips.iterdir())] * 8
    device = BusyDevice(tiny, 16, 0.01)

    run(device, ready, pool)

    assert sum(device.batches) == len(ready) * SAMPLING.frames
    assert device.batches.count(16) >= len(device.batches) - 2  # all but the first and the last
    assert device.most_underway == 2


def test_batches_that_are_not_full_grow_while_the_device_works(tiny: Engine, clips: Path, pool: DecodePool) -> None:
    films = [str(film) for film in sorted(clips.iterdir())] * 8
    device = BusyDevice(tiny, 400, 0.3)

    run(device, films, pool)

    assert device.most_underway == 1
    assert len(device.batches) <= len(films) / 3


def _decoded(pool: DecodePool, film: str) -> Clip:
    clip = pool.decode(Source.at(film)).result()
    assert isinstance(clip, Clip)
    return clip
