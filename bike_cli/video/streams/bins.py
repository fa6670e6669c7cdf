"""Which frame fills which bin: pure arithmetic on times in seconds.

Comparisons allow for rounding errors of 1 ns: a frame that starts at the middle of a bin fills it.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

_ROUNDING_S = 1e-9


def bins_before(times_s: NDArray[np.float64], fps: float) -> NDArray[np.int64]:
    """Return the number of bins whose middle is before each time.

    A frame that is shown from a to b fills the bins from `bins_before(a)` to `bins_before(b)`, exclusive.
    """
    return np.ceil((times_s - _ROUNDING_S) * fps - 0.5).astype(np.int64)


def bin_count(duration_s: float, fps: float) -> int:
    """Return the number of bins of a video: all whose middle is before its end, but at least one.

    So the last bin is shorter or longer than the others by up to half a bin: it ends with the video.
    """
    return max(1, int(bins_before(np.array(duration_s), fps)))


def end_of_bin(number: int, *, fps: float, duration_s: float) -> float:
    """Return when the bins before a number end, at most the number of bins of a video."""
    return duration_s if number >= bin_count(duration_s, fps) else number / fps


def frames_of_bins(starts_s: NDArray[np.float64], duration_s: float, fps: float) -> NDArray[np.int64]:
    """Return the index of the frame of each bin: the last one that starts before the middle, or at it.

    A video that is shorter than half a bin has one bin, whose middle is that of the video.

    Args:
        starts_s: float64 [M], not decreasing, starting at 0; at least one.
    Returns:
        int64 [n_bins]
    """
    middles_s = (np.arange(bin_count(duration_s, fps)) + 0.5) / fps
    if middles_s[-1] >= duration_s:
        middles_s[-1] = duration_s / 2
    return np.maximum(np.searchsorted(starts_s, middles_s + _ROUNDING_S, side="right") - 1, 0)


def rows_of(
    frames: NDArray[np.int64], first_bin: int, end_bin: int | None
) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    """Return which frames fill a range of bins, a row for each frame that fills several bins in a row.

    Args:
        frames: int64 [n_bins], the frame of each bin of the video.
    Returns:
        the frames, int64 [R], and their bins, int64 [R, 2]: from the first number to the second one, exclusive.
    """
    part = frames[first_bin:end_bin]
    starts = np.flatnonzero(np.append(True, part[1:] != part[:-1])) if len(part) else np.array([], np.int64)
    edges = first_bin + np.append(starts, len(part))
    return part[starts], np.stack([edges[:-1], edges[1:]], axis=1)
