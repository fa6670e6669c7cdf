"""`bike spot`, killed in the middle of a long file: the next run decodes nothing that the cache has."""

import os
import signal
import sqlite3
import subprocess
import sys
import time
from collections.abc import Iterator
from fractions import Fraction
from functools import cache
from itertools import pairwise
from pathlib import Path

import av
import numpy as np
import pytest
from films import FPS, drawn, write_video
from invoke import BIKE, ONE_THREAD
from numpy.testing import assert_array_equal

import bike_cli as bike
from bike_cli.config import DecodingConfig, StoreConfig
from bike_cli.engine.engine import Engine
from bike_cli.inference import frame_streams
from bike_cli.inference.bin_features import CHUNK
from bike_cli.records import Source, Timeline
from bike_cli.video.readers.packets import PacketTable
from bike_cli.video.readers.runs import DecodedPacket, Run, RunDecoder
from bike_cli.video.streams.reading import read_frames
from bike_cli.video.streams.values import StreamRequest

LABELS = ("red square", "blue circle")
N_BINS = 3 * CHUNK + CHUNK // 2  # of one frame each
LIMIT_S = 600.0

pytestmark = [
    pytest.mark.slow,
    pytest.mark.skipif(sys.platform == "win32", reason="Windows has no SIGKILL"),
]


@pytest.fixture(scope="module")
def film(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A video of seven minutes, with a keyframe every 250 frames."""
    parts = [np.zeros((5 * FPS, 64, 64, 3), np.uint8), *(drawn(label, frames=8) for label in LABELS * 4)]
    frames = np.concatenate(parts)
    path = tmp_path_factory.mktemp("films") / "long.mp4"
    return write_video(path, np.concatenate([frames] * -(-N_BINS // len(frames)))[:N_BINS])


def config_of(cache: Path | None, workers: int) -> bike.SpotConfig:
    store = StoreConfig(cache=cache is not None, cache_dir=None if cache is None else str(cache))
    return bike.SpotConfig(fps=FPS, decoding=DecodingConfig(workers=workers), store=store)


@pytest.fixture(scope="module")
def whole(tiny: Engine, film: Path) -> Timeline:
    """The timeline of the video without a cache."""
    (timeline,) = bike.spot(tiny, [film], LABELS, config_of(None, 1), keeps_scores=True)
    assert isinstance(timeline, Timeline)
    return timeline


def chunks_in(cache: Path) -> list[int]:
    """Return the numbers of the chunks on disk; the key of a chunk ends with its number, from 1."""
    files = [file for file in cache.rglob("*") if file.is_file() and is_database(file)]
    if not files:
        return []
    with sqlite3.connect(f"file:{files[0]}?mode=ro", uri=True) as connection:
        keys = [key for (key,) in connection.execute("SELECT recipe FROM features")]
    return sorted(int.from_bytes(key[-4:], "big") - 1 for key in keys)


def is_database(file: Path) -> bool:
    with file.open("rb") as stream:
        return stream.read(15) == b"SQLite format 3"


def kill_after(chunks: int, film: Path, cache: Path, workers: int) -> list[int]:
    """Run `bike spot`, kill it once some chunks are on disk, and return the numbers of all that are."""
    flags = ["--fps", str(FPS), "--workers", str(workers), "--cache-dir", str(cache), "--device", "cpu", "-q"]
    end_s = time.monotonic() + LIMIT_S
    with subprocess.Popen(
        [*BIKE, "spot", str(film), "-m", "tiny", "-L", ",".join(LABELS), *flags],
        env={**os.environ, **ONE_THREAD},
        stdout=subprocess.DEVNULL,
    ) as process:
        while process.poll() is None and len(chunks_in(cache)) < chunks and time.monotonic() < end_s:
            time.sleep(0.05)
        process.send_signal(signal.SIGKILL)
    assert process.returncode == -signal.SIGKILL
    return chunks_in(cache)


@pytest.fixture
def requests(monkeypatch: pytest.MonkeyPatch) -> Iterator[list[StreamRequest]]:
    """What workers are asked to read."""
    asked: list[StreamRequest] = []

    class Watched(frame_streams.FrameStream):
        def __init__(self, source: Source, request: StreamRequest, decoding: DecodingConfig) -> None:
            asked.append(request)
            super().__init__(source, request, decoding)

    monkeypatch.setattr(frame_streams, "FrameStream", Watched)
    return asked  # type: ignore[return-value]


def frames_decoded(film: Path, request: StreamRequest, monkeypatch: pytest.MonkeyPatch) -> list[int]:
    """Return the numbers of the frames that a worker decodes for a request; each is shown for one bin."""
    decoded: list[int] = []
    decode = RunDecoder.decode

    def watched(self: RunDecoder, run: Run, *, spared: PacketTable | None) -> Iterator[DecodedPacket]:
        for packet in decode(self, run, spared=spared):  # type: ignore[arg-type]
            decoded.extend(picture.pts for picture in packet.pictures if picture.pts is not None)
            yield packet

    with monkeypatch.context() as patch:
        patch.setattr(RunDecoder, "decode", watched)
        for _ in read_frames(Source.at(film), request):
            pass
    return [round(pts * time_base_of(film) * FPS) for pts in decoded]


def keyframes_of(film: Path) -> list[int]:
    with av.open(str(film)) as container:
        packets = [packet for packet in container.demux(video=0) if packet.is_keyframe and packet.pts is not None]
    return sorted(round(packet.pts * time_base_of(film) * FPS) for packet in packets)


@cache
def time_base_of(film: Path) -> Fraction:
    with av.open(str(film)) as container:
        time_base = container.streams.video[0].time_base
    assert time_base is not None
    return time_base


@pytest.mark.parametrize(("workers", "stored"), [(1, [0, 1]), (2, [0, 2])])
def test_no_frame_of_a_stored_chunk_is_decoded_again(
    tiny: Engine,
    film: Path,
    whole: Timeline,
    tmp_path: Path,
    requests: list[StreamRequest],
    monkeypatch: pytest.MonkeyPatch,
    workers: int,
    stored: list[int],
) -> None:
    """With two workers, the second one reads the second half of the video, and its chunks count as well."""
    chunks = kill_after(2, film, tmp_path / "cache", workers)
    assert set(stored) <= set(chunks)
    assert len(chunks) < N_BINS // CHUNK + 1  # it was killed before its end

    (found,) = bike.spot(tiny, [film], LABELS, config_of(tmp_path / "cache", workers), keeps_scores=True)

    keyframes, known = keyframes_of(film), {b for i in chunks for b in range(CHUNK * i, CHUNK * (i + 1))}
    assert len(keyframes) > N_BINS // 250
    gaps = sorted((request.first_bin, request.end_bin or N_BINS) for request in requests)
    assert all(end <= start for (_, end), (start, _) in pairwise(gaps))
    assert {b for start, end in gaps for b in range(start, end)} == set(range(N_BINS)) - known
    for request in requests:
        first = max(number for number in keyframes if number <= request.first_bin)
        decoded = frames_decoded(film, request, monkeypatch)
        # The first frame of a file decides the size of all others.
        assert {number for number in decoded if number < first} <= {0}
        assert max(decoded) < (request.end_bin or N_BINS)
    assert isinstance(found, Timeline)
    assert found.segments == whole.segments
    assert found.scores is not None
    assert whole.scores is not None
    assert_array_equal(found.scores, whole.scores)
