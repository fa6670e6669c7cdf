"""Compute how long browsers show the frames of a GIF."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

_MIN_DELAY_S, _DEFAULT_DELAY_S = 0.02, 0.1  # in all browsers, and in FFmpeg before version 6


def browser_times(
    starts: NDArray[np.float64], lengths: NDArray[np.float64]
) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """Return when, and for how long, browsers show the frames of a GIF, in seconds.

    Browsers show a frame with a delay of less than 0.02 s for 0.1 s, because early players could not go faster.

    Args:
        starts, lengths: float64 [M], as written in the file.
    """
    is_short = lengths < _MIN_DELAY_S - 1e-9
    if np.isnan(starts).any() or not is_short.any():
        return starts, lengths
    lengths = np.where(is_short, _DEFAULT_DELAY_S, lengths)
    return starts[0] + np.append(0.0, np.cumsum(lengths[:-1])), lengths
