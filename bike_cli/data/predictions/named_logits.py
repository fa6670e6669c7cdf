"""The logits of predictions that name a few of many labels, without a cell for each label that they lack."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from functools import cached_property

import numpy as np
from numpy.typing import NDArray

from bike_cli.shapes import ShowsShapes, check_shape


@dataclass(frozen=True, eq=False, repr=False)
class NamedLogits(ShowsShapes):
    """The logits of the labels that each of V predictions names, one video after another.

    Args:
        starts: int64 [V + 1], ascending; `values[starts[i] : starts[i + 1]]` are those of video i, at least one.
        places: int32 [N], the labels, each at most once per video.
        values: float64 [N].
        labels: the number C of all labels.

    Raises:
        ValueError: shapes or indices that do not match, or a prediction without labels.
    """

    starts: NDArray[np.int64]
    places: NDArray[np.int32]
    values: NDArray[np.float64]
    labels: int

    def __post_init__(self) -> None:
        check_shape("NamedLogits.places", self.places.shape, int(self.starts[-1]))
        check_shape("NamedLogits.values", self.values.shape, int(self.starts[-1]))
        if not (self.sizes > 0).all():
            raise ValueError("NamedLogits.starts must ascend: each prediction has a label")
        if len(self.places) and not 0 <= self.places.min() <= self.places.max() < self.labels:
            raise ValueError(f"NamedLogits.places must be within 0..{self.labels - 1}")

    @property
    def shape(self) -> tuple[int, int]:
        """The shape of the matrix, [V, C]."""
        return len(self.starts) - 1, self.labels

    @property
    def sizes(self) -> NDArray[np.int64]:
        """How many labels each prediction names, [V]."""
        return np.diff(self.starts)

    @cached_property
    def _rows(self) -> NDArray[np.int64]:
        """The video of each value, [N]."""
        return np.repeat(np.arange(len(self.starts) - 1), self.sizes)

    def matrix(self) -> NDArray[np.float64]:
        """Return the logits of all labels, [V, C]; -inf for those that a prediction lacks."""
        logits = np.full(self.shape, -np.inf)
        logits[self._rows, self.places] = self.values
        return logits

    def best(self) -> NDArray[np.float64]:
        """Return the largest logit of each video, [V]; NaN if one of them is."""
        return np.asarray(np.maximum.reduceat(self.values, self.starts[:-1]))

    def ranked(self, k: int) -> NDArray[np.int64]:
        """Return the k best labels of each video, best first, ties in the order of labels: [V, at most k].

        Where a prediction names fewer than k labels, the others are -1.
        """
        order = np.lexsort((self.places, -self.values, self._rows))
        rank = np.arange(len(order)) - np.repeat(self.starts[:-1], self.sizes)
        best = np.full((len(self.starts) - 1, min(k, self.labels)), -1, dtype=np.int64)
        among = rank < best.shape[1]
        best[self._rows[among], rank[among]] = self.places[order][among]
        return best

    def of_videos(self, rows: Sequence[int] | NDArray[np.int64]) -> NamedLogits:
        """Return the logits of some videos, in the given order."""
        chosen = np.asarray(rows, dtype=np.int64)
        sizes = self.sizes[chosen]
        starts = np.concatenate([[0], np.cumsum(sizes)])
        taken = np.arange(starts[-1]) + np.repeat(self.starts[chosen] - starts[:-1], sizes)
        return replace(self, starts=starts, places=self.places[taken], values=self.values[taken])

    def of_labels(self, order: NDArray[np.int64]) -> NamedLogits:
        """Return the logits with the labels in another order, [C]: what was `order[i]` becomes i."""
        return replace(self, places=np.argsort(order).astype(np.int32)[self.places])
