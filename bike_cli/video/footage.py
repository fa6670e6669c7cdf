"""What every reader takes and returns: `(path, positions_of) -> Footage`."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

PositionsOf = Callable[[int], NDArray[np.int64]]  # frames in the video -> [K, T]


@dataclass(frozen=True)
class Footage:
    """What a reader returns.

    Args:
        frames: uint8 [K, T, H, W, 3].
        positions: int64 [K, T], from 0.
        times_s: float64 [K, T]; NaN without a clock.
        n_frames: frames in the whole video.
        duration_s: end of the last frame; None without a clock.
    """

    frames: NDArray[np.uint8]
    positions: NDArray[np.int64]
    times_s: NDArray[np.float64]
    n_frames: int
    duration_s: float | None


def reason(error: Exception) -> str:
    """Return what an error of a decoder or of the system says, for a message of ours."""
    return getattr(error, "strerror", None) or str(error) or type(error).__name__
