"""Which frame fills which bin, computed slowly and independently of bike: from a plain decode, with exact fractions."""

from collections.abc import Sequence
from dataclasses import dataclass
from fractions import Fraction
from itertools import pairwise
from pathlib import Path

import av
import numpy as np
from numpy.typing import NDArray

from bike_cli.records import Source
from bike_cli.video.streams.outcomes import BinFrame, Outcome
from bike_cli.video.streams.reading import read_frames
from bike_cli.video.streams.values import StreamEnd, StreamRequest


@dataclass(frozen=True)
class Shown:
    """A frame, or None in place of one that cannot be read, from a start to the start of the next one."""

    start: Fraction
    pixels: NDArray[np.uint8] | None


@dataclass(frozen=True)
class Film:
    """All frames of a file in the order in which they are shown, and the end of the last one."""

    frames: Sequence[Shown]
    end: Fraction

    def at(self, time: Fraction) -> Shown:
        """Return the frame that is shown at a time."""
        found = self.frames[0]
        for frame in self.frames:
            if frame.start - self.frames[0].start <= time:
                found = frame
        return found

    def bins(self, fps: float) -> list[NDArray[np.uint8] | None]:
        """Return the pixels that are shown at the middle of each bin."""
        length = self.end - self.frames[0].start
        width = 1 / Fraction(str(fps))
        found = []
        while (middle := (len(found) + Fraction(1, 2)) * width) < length:
            found.append(self.at(middle).pixels)
        return found or [self.at(length / 2).pixels]


def plain_film(path: Path, *, turns: int = 0, stream: int | None = None) -> Film:
    """Decode all of an intact file whose times rise, with nothing but PyAV.

    Args:
        turns: quarter turns, anticlockwise, that show it upright.
        stream: its index in the file; None: FFmpeg's choice.
    """
    with av.open(str(path)) as container:
        chosen = container.streams.best("video") if stream is None else container.streams[stream]
        chosen.codec_context.thread_count = 1
        frames, ends = [], []
        for frame in container.decode(chosen):
            pixels = frame.to_ndarray(format="rgb24", interpolation="BICUBIC")
            start = frame.pts * chosen.time_base
            frames.append(Shown(start, np.rot90(pixels, turns)))
            ends.append(start + frame.duration * chosen.time_base)
    if ends[-1] == frames[-1].start:  # no duration: that of the frame before
        ends[-1] += frames[-1].start - frames[-2].start
    return Film(frames, ends[-1])


@dataclass(frozen=True)
class Streamed:
    """What bike streams."""

    rows: list[BinFrame]
    end: StreamEnd

    def bins(self) -> list[NDArray[np.uint8] | None]:
        """Return the pixels of each bin, from the first one of the video; None where there are none."""
        found: list[NDArray[np.uint8] | None] = [None] * self.end.n_bins
        for row in self.rows:
            for number in range(row.first_bin, row.end_bin):
                assert found[number] is None, f"bin {number} is filled twice"
                found[number] = row.pixels
        return found


def streamed(path: Path, fps: float, **settings: object) -> Streamed:
    """Stream a file in this process."""
    request = StreamRequest(fps, **settings)  # type: ignore[arg-type]
    rows, outcomes = [], []
    for item in read_frames(Source.at(path), request):
        (rows if isinstance(item, BinFrame) else outcomes).append(item)
    assert all(a.end_bin <= b.first_bin for a, b in pairwise(rows)), "rows are out of order"
    (outcome,) = outcomes
    assert isinstance(outcome, Outcome)
    return Streamed(rows, outcome.stream_end(request, [(row.first_bin, row.end_bin) for row in rows]))


def differing(found: Sequence[NDArray[np.uint8] | None], expected: Sequence[NDArray[np.uint8] | None]) -> list[int]:
    """Return the bins with other pixels than expected; all of them if the number of bins differs."""
    if len(found) != len(expected):
        return [*range(max(len(found), len(expected)))]
    return [
        i
        for i, (a, b) in enumerate(zip(found, expected, strict=True))
        if (a is None) != (b is None) or (a is not None and not np.array_equal(a, b))
    ]
