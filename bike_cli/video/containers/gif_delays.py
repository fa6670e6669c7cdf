"""How long browsers show the frames of a GIF: arithmetic, no decoder."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

_SHORTEST_S, _INSTEAD_S = 0.02, 0.1  # of all browsers, and of FFmpeg before version 6


def browser_times(
    starts: NDArray[np.float64], lengths: NDArray[np.float64]
) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """Return when browsers show the frames of a GIF and how long, both in seconds.

    They take a delay of less than 0.02 s, which no early player kept to, for 0.1 s.

    Args:
        starts, lengths: float64 [M], as written in the file.
    """
    is_short = lengths < _SHORTEST_S - 1e-9
    if np.isnan(starts).any() or not is_short.any():
        return starts, lengths
    lengths = np.where(is_short, _INSTEAD_S, lengths)
    return starts[0] + np.append(0.0, np.cumsum(lengths[:-1])), lengths
