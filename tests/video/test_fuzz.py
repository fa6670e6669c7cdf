"""Randomly damaged files have exactly one result each, a clip if FFmpeg's libraries decode enough frames."""

import multiprocessing
from collections import Counter
from collections.abc import Iterator, Sequence
from concurrent.futures import TimeoutError as FutureTimeout
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pytest
from films import drawn, write_video
from mutations import mutated, original_of
from numbered_films import CLIPS
from pebble import ProcessExpired, ProcessFuture, ProcessPool
from plain_reader import frames_read

from bike_cli.config import DecodingConfig, SamplingConfig
from bike_cli.records import Clip, Failure, Source
from bike_cli.video.workers import worker
from bike_cli.video.workers.pool import DecodePool

FRAMES = 8
WORKERS, LIMIT_S, LIMIT_MIB = 2, 20, 2000
GAVE_UP = -1  # frames counted by a loop that hung, crashed or ran out of memory
AT_ONCE = 24  # files: clips of 720p wait for their turn in memory
FORMATS = (
    ("film.mp4", "libx264", "mp4"),
    ("film.mkv", "libx265", "matroska"),
    ("film.webm", "libvpx-vp9", "webm"),
    ("film.avi", "mpeg4", "avi"),
    ("film.mov", "mpeg4", "mov"),
    ("another.webm", "libvpx", "webm"),
    ("another.mkv", "mpeg2video", "matroska"),
)


@pytest.fixture(scope="module")
def originals(tmp_path_factory: pytest.TempPathFactory) -> list[Path]:
    """Films of several formats, and the real clips where they are."""
    folder = tmp_path_factory.mktemp("originals")
    noise = np.random.default_rng(0).integers(0, 64, (40, 64, 64, 3), np.uint8)  # or a film is little but headers
    film = noise + drawn("blue circle", frames=40) // 2
    generated = [write_video(folder / name, film, codec=codec, container=form) for name, codec, form in FORMATS]
    return generated + sorted(path for path in CLIPS.glob("*") if path.suffix != ".md")


@dataclass(frozen=True)
class Fate:
    """The result for one file: `ok`, `warned` or the kind of failure, and the frames that the other reader returns."""

    path: Path
    outcome: str
    frames: int

    @property
    def is_classified(self) -> bool:
        return self.outcome in {"ok", "warned"}


@pytest.mark.parametrize(
    "seeds",
    [
        pytest.param(range(0, 1020, 43), id="24"),
        pytest.param(range(2040), id="2040", marks=pytest.mark.slow),
    ],
)
def test_what_can_be_read_of_damaged_files_is_classified(seeds: range, originals: list[Path], tmp_path: Path) -> None:
    before = set(multiprocessing.active_children())

    fates = list(_fates(seeds, originals, tmp_path))

    readable = [fate for fate in fates if fate.frames >= FRAMES]
    missed = [f"{fate.path.name}: {fate.outcome}" for fate in readable if not fate.is_classified]
    told = f"{_counts(fates)}; {len(readable)} hold {FRAMES} frames or more, of these are not classified: {missed}"
    print(f"\n{told}")  # noqa: T201
    assert len(fates) == len(seeds), told
    assert len(readable) > len(seeds) / 4, told
    assert len(missed) <= 0.05 * len(readable), told
    assert set(multiprocessing.active_children()) <= before, told


def _counts(fates: Sequence[Fate]) -> str:
    outcomes = Counter(fate.outcome for fate in fates).most_common()
    gave_up = sum(fate.frames == GAVE_UP for fate in fates)
    counted = ", ".join(f"{count} {outcome}" for outcome, count in outcomes)
    return f"{len(fates)} files: {counted}; the short loop gives up on {gave_up}"


def _fates(seeds: range, originals: Sequence[Path], folder: Path) -> Iterator[Fate]:
    contents = [path.read_bytes() for path in originals]
    with (
        DecodePool(SamplingConfig(FRAMES), DecodingConfig("auto", WORKERS, LIMIT_S, LIMIT_MIB)) as pool,
        _plain() as other,
    ):
        for first in range(0, len(seeds), AT_ONCE):
            paths = []
            for i in seeds[first : first + AT_ONCE]:
                like = originals[original_of(i, n_originals=len(originals))]
                paths.append(folder / f"{i} {like.name}")
                paths[-1].write_bytes(mutated(contents, i))
            coming = [pool.decode(Source.at(path)) for path in paths]
            outcomes = [_named(one.result(timeout=LIMIT_S * AT_ONCE)) for one in coming]
            counting = [other.schedule(frames_read, (str(path),), timeout=LIMIT_S) for path in paths]
            yield from map(Fate, paths, outcomes, map(_count, counting))
            for path in paths:
                path.unlink()


def _named(outcome: Clip | Failure) -> str:
    if isinstance(outcome, Failure):
        return outcome.kind
    return "warned" if outcome.warning else "ok"


@contextmanager
def _plain() -> Iterator[ProcessPool]:
    processes = multiprocessing.get_context("forkserver")
    pool = ProcessPool(WORKERS, initializer=worker.set_up, initargs=(LIMIT_MIB,), context=processes)
    try:
        yield pool
    finally:
        pool.stop()
        pool.join()


def _count(coming: ProcessFuture) -> int:
    try:
        return coming.result()
    except (FutureTimeout, ProcessExpired, MemoryError):
        return GAVE_UP
