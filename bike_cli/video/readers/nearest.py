"""Frames that stand in for others near them: index arithmetic for keyframes and drafts."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from bike_cli.config import SamplingConfig


def nearest(positions: NDArray[np.int64], candidates: NDArray[np.int64]) -> NDArray[np.int64]:
    """Return for each position the nearest candidate; of two as near, the earlier.

    Args:
        positions: of any shape.
        candidates: sorted, at least one.
    """
    after = np.clip(np.searchsorted(candidates, positions), 0, len(candidates) - 1)
    before = np.maximum(after - 1, 0)
    is_before = positions - candidates[before] <= np.abs(candidates[after] - positions)
    return np.where(is_before, candidates[before], candidates[after])


def without_repeats(moved: NDArray[np.int64], asked: NDArray[np.int64]) -> NDArray[np.int64]:
    """Return the positions that are left when those that moved onto one frame are read once.

    Repeats that were asked for, in a video of too few frames, are no reason to drop any. Clips of one video have
    equally many frames: as many as the poorest of them, which the others spread over what they have.

    Args:
        moved, asked: [K, T], in the same order.
    Returns:
        [K, T'], T' <= T; `moved` itself where nothing fell together.
    """
    distinct = [np.unique(row) for row in moved]
    if all(len(row) == len(np.unique(before)) for row, before in zip(distinct, asked, strict=True)):
        return moved
    fewest = min(len(row) for row in distinct)
    return np.stack([row[np.arange(fewest) * len(row) // fewest] for row in distinct])


def fewer(positions: NDArray[np.int64], asked: NDArray[np.int64], *, config: SamplingConfig) -> list[str]:
    """Return the note that says why there are fewer positions than asked for, if there are."""
    if positions.shape == asked.shape:
        return []
    why = "the video has" if config.sampling == "keyframe" else "a draft decodes"
    kind = "keyframes" if config.sampling == "keyframe" else "frames"
    return [f"asked {asked.shape[1]} frames, read {positions.shape[1]}: {why} no more {kind} near them"]
