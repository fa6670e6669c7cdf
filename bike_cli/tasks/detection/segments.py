"""True and detected segments as arrays."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

Ints = NDArray[np.int64]
Floats = NDArray[np.float64]

Row = tuple[int, int, float, float, float]  # video, label, start, end, score


@dataclass(frozen=True, eq=False)
class Segments:
    """N segments.

    Args:
        videos: int64 [N], the place of each one's video.
        labels: int64 [N], the place of its label.
        starts, ends: float64 [N], seconds; a segment may end before it starts.
        scores: float64 [N], higher is more certain; 1 for true segments.
    """

    videos: Ints
    labels: Ints
    starts: Floats
    ends: Floats
    scores: Floats

    def __len__(self) -> int:
        return len(self.videos)

    @classmethod
    def of_rows(cls, rows: Iterable[Row]) -> Segments:
        """Return the segments in rows, in their order."""
        videos, labels, starts, ends, scores = list(zip(*rows, strict=True)) or [()] * 5
        return cls(
            np.array(videos, dtype=np.int64),
            np.array(labels, dtype=np.int64),
            np.array(starts, dtype=np.float64),
            np.array(ends, dtype=np.float64),
            np.array(scores, dtype=np.float64),
        )

    def at(self, places: Ints | NDArray[np.bool_]) -> Segments:
        """Return the segments at some places, in their order."""
        return Segments(
            self.videos[places], self.labels[places], self.starts[places], self.ends[places], self.scores[places]
        )

    @property
    def have_length(self) -> NDArray[np.bool_]:
        """Whether each segment ends after it starts: bool [N]."""
        return np.asarray(self.ends > self.starts)
