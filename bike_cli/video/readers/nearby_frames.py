"""Replace frames with nearby ones, for keyframe sampling and drafts."""

from __future__ import annotations

import numpy as np
from av import VideoFrame
from numpy.typing import NDArray

from bike_cli.config import SamplingConfig
from bike_cli.wording import count


def nearest(positions: NDArray[np.int64], candidates: NDArray[np.int64]) -> NDArray[np.int64]:
    """Return the nearest candidate for each position; the earlier of two at the same distance.

    Args:
        positions: int64, any shape.
        candidates: int64 [N], sorted, at least one.
    """
    after = np.clip(np.searchsorted(candidates, positions), 0, len(candidates) - 1)
    before = np.maximum(after - 1, 0)
    is_before = positions - candidates[before] <= np.abs(candidates[after] - positions)
    return np.where(is_before, candidates[before], candidates[after])


def nearer_picture(
    wanted: int, before: tuple[int, VideoFrame], after: tuple[int, VideoFrame]
) -> tuple[int, VideoFrame]:
    """Return the picture whose position is nearer to a position between two pictures; the earlier if both are."""
    return before if abs(wanted - before[0]) <= after[0] - wanted else after


def without_repeats(moved: NDArray[np.int64], asked: NDArray[np.int64]) -> NDArray[np.int64]:
    """Drop positions that moved onto the same frame.

    Repeats that were requested, in a video with too few frames, stay. All clips get the same number of frames: that of
    the clip with the fewest, to which the others are thinned out evenly.

    Args:
        moved, asked: int64 [K, T], in the same order.
    Returns:
        int64 [K, T'], T' <= T; `moved` itself if no positions coincide.
    """
    distinct = [np.unique(row) for row in moved]
    if all(len(row) == len(np.unique(before)) for row, before in zip(distinct, asked, strict=True)):
        return moved
    fewest = min(len(row) for row in distinct)
    return np.stack([row[np.arange(fewest) * len(row) // fewest] for row in distinct])


def shortage_notes(positions: NDArray[np.int64], asked: NDArray[np.int64], *, config: SamplingConfig) -> list[str]:
    """Return a note if there are fewer positions than requested."""
    if positions.shape == asked.shape:
        return []
    reason = "the video has no more keyframes" if config.sampling == "keyframe" else "a draft decodes no more frames"
    return [f"{count(asked.shape[1], 'frame')} requested, {positions.shape[1]} read: {reason} near them"]
