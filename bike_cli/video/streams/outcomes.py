"""What readers of streams yield and return, and what follows from it."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import TypeAlias

import numpy as np
from numpy.typing import NDArray

from bike_cli.video.streams.values import StreamEnd, StreamRequest

Step: TypeAlias = Callable[[], None]  # called for each packet or image: a sign that the reader makes progress

_TOLERANCE = 1.01  # by which a rate may exceed that of the video: 30 frames per second are often 29.97


@dataclass(frozen=True)
class BinFrame:
    """One frame and its bins.

    Args:
        pixels: uint8 [H, W, 3], RGB, possibly a view.
        first_bin, end_bin: the bins that it fills; `end_bin` is exclusive.
    """

    pixels: NDArray[np.uint8]
    first_bin: int
    end_bin: int


@dataclass(frozen=True)
class Outcome:
    """What a reader knows when it has read all requested bins; the fields are those of `StreamEnd`."""

    n_bins: int
    end_s: float
    duration_s: float | None
    notes: tuple[str, ...] = ()
    details: tuple[str, ...] = ()
    decode_s: float = 0.0

    def stream_end(self, request: StreamRequest, filled: Sequence[tuple[int, int]]) -> StreamEnd:
        """Return the end of the stream: requested bins that no frame filled are missing.

        Args:
            filled: the bins of all frames.
        """
        is_missing = np.ones(self.n_bins, bool)
        is_missing[: request.first_bin] = False
        for first, end in filled:
            is_missing[first:end] = False
        missing = np.flatnonzero(is_missing)
        return StreamEnd(
            self.n_bins, self.end_s, self.duration_s, missing, self.notes, self.details, decode_s=self.decode_s
        )


def rate_notes(starts_s: NDArray[np.float64], fps: float) -> list[str]:
    """Return a note if a video has fewer frames per second than requested.

    Args:
        starts_s: float64 [M], when its frames are shown.
    """
    steps = np.diff(starts_s)
    steps = steps[steps > 0]
    if not len(steps):
        return []
    typical = np.median(steps)
    rate = 1 / float(steps[np.abs(steps - typical) <= typical / 2].mean())  # the mean undoes rounding to 1 ms
    if fps <= rate * _TOLERANCE:
        return []
    return [f"{fps:g} frames per second are requested, the video has {rate:.4g}: each frame is read once"]
