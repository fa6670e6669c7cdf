"""The bootstrap: metrics of videos that are drawn again and again, with replacement.

A resample says how often each video was drawn. Metrics are computed for many resamples at once, from counts [V, R] that
are summed over groups of videos. The sums are whole numbers below 2^24, which float32 holds exactly in any order.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor
from torch.nn import functional

from bike_cli.tasks.evaluate.metrics import Ranking, divided

BLOCK = 64  # resamples at once; their counts of one video fill a few cache lines
MOST_POSITIVES, MOST_NEGATIVES = 2**13, 2**24  # of the classes that are processed together


def resamples_of(videos: int, *, seed: int, resamples: int) -> Iterator[Tensor]:
    """Yield how often each video is drawn, float32 [V, R], in blocks of at most `BLOCK` resamples."""
    rng = np.random.default_rng(seed)
    for start in range(0, resamples, BLOCK):
        drawn = [rng.integers(0, videos, videos, dtype=np.int64) for _ in range(min(BLOCK, resamples - start))]
        counts = np.stack([np.bincount(d, minlength=videos).astype(np.float32) for d in drawn], axis=1)
        yield torch.from_numpy(counts)


def each_once(videos: int) -> Tensor:
    """Return the counts in which each video is drawn once: [V, 1]."""
    return torch.ones(videos, 1)


@dataclass(frozen=True, eq=False)
class Groups:
    """Videos by group."""

    rows: Tensor  # int32 [N], places of videos, in the order of the groups
    starts: Tensor  # int32 [G], where each group begins

    @classmethod
    def of(cls, group: NDArray[np.int64], *, groups: int, rows: NDArray[np.int64]) -> Groups:
        """Return the videos at `rows` [N] by their group [N], one of 0..groups-1."""
        order = np.argsort(group, kind="stable")
        return cls.in_order(rows[order], np.bincount(group, minlength=groups))

    @classmethod
    def in_order(cls, rows: NDArray[np.int64], sizes: NDArray[np.int64]) -> Groups:
        """Return groups of `sizes` [G] of the videos at `rows`, which are in the order of the groups."""
        starts = np.cumsum(sizes) - sizes
        return cls(torch.from_numpy(rows.astype(np.int32)), torch.from_numpy(starts.astype(np.int32)))

    def sums(self, counts: Tensor) -> NDArray[np.float64]:
        """Return how many drawn videos each group has in each resample of [V, R]: [G, R]."""
        summed = functional.embedding_bag(self.rows, counts, self.starts, mode="sum")
        return summed.numpy().astype(np.float64)

    def weighted_sums(self, counts: Tensor, weights: Tensor) -> NDArray[np.float64]:
        """Return the sum of the drawn videos' weights, float64 [N] in the order of the groups: [G, R]."""
        summed = functional.embedding_bag(
            self.rows, counts.double(), self.starts, mode="sum", per_sample_weights=weights
        )
        return summed.numpy()


class RankedClasses:
    """Classes with their rankings, for average precision in resamples."""

    def __init__(self, rankings: Sequence[Ranking], rows: NDArray[np.int64], *, videos: int) -> None:
        """Keep the rankings of the classes that have a video, of places in `rows` [N] of all `videos`."""
        self._harmonic = np.concatenate([[0.0], np.cumsum(1 / np.arange(1, videos + 1))])  # H(0), H(1), …
        self._parts = [_RankedPart.of_rankings(part, rows) for part in _in_parts(rankings)]

    def average_precisions(self, counts: Tensor) -> NDArray[np.float64]:
        """Return each class's average precision in each resample of [V, R], NaN without a video of it there: [C, R]."""
        return np.concatenate([part.average_precisions(counts, self._harmonic) for part in self._parts])


def _in_parts(rankings: Sequence[Ranking]) -> Iterator[list[Ranking]]:
    """Yield the rankings of classes that have videos in parts that fit a cache, each of one class or more."""
    part: list[Ranking] = []
    positives = negatives = 0
    for ranked in rankings:
        if not len(ranked.positives):
            continue
        positives, negatives = positives + len(ranked.positives), negatives + len(ranked.negatives)
        if part and (positives > MOST_POSITIVES or negatives > MOST_NEGATIVES):
            yield part
            part, positives, negatives = [], len(ranked.positives), len(ranked.negatives)
        part.append(ranked)
    if part:
        yield part


@dataclass(frozen=True, eq=False)
class _RankedPart:
    """Some classes, one after the other."""

    positives: Tensor  # [P], places of their videos, best first
    ahead: Groups  # P groups, the videos of other classes just ahead of each
    first: NDArray[np.int64]  # [C], where each class begins among the P
    of: NDArray[np.int64]  # [P], the class

    @classmethod
    def of_rankings(cls, rankings: Sequence[Ranking], rows: NDArray[np.int64]) -> _RankedPart:
        sizes = np.array([len(r.positives) for r in rankings], dtype=np.int64)
        negatives, gaps = (np.concatenate(x) for x in zip(*((r.negatives, r.gaps) for r in rankings), strict=True))
        positives = torch.from_numpy(rows[np.concatenate([r.positives for r in rankings])])
        first = np.cumsum(sizes) - sizes
        return cls(positives, Groups.in_order(rows[negatives], gaps), first, np.repeat(np.arange(len(sizes)), sizes))

    def average_precisions(self, counts: Tensor, harmonic: NDArray[np.float64]) -> NDArray[np.float64]:
        """Return [C, R].

        A video drawn w times, with a others of the class and f videos not of it ahead, earns the sum over j = 1..w of
        (a+j)/(a+j+f) = w - f (H(a+f+w) - H(a+f)), where H are the harmonic numbers.
        """
        drawn = counts[self.positives].numpy().astype(np.float64)  # [P, R]
        false = self._within_class(self.ahead.sums(counts))
        through = (false + self._within_class(drawn)).astype(np.int64)
        lost = false * (harmonic[through] - harmonic[through - drawn.astype(np.int64)])
        return divided(np.add.reduceat(drawn - lost, self.first, axis=0), np.add.reduceat(drawn, self.first, axis=0))

    def _within_class(self, amounts: NDArray[np.float64]) -> NDArray[np.float64]:
        """Return the running sums [P, R] within each class, of whole numbers."""
        running = np.cumsum(amounts, axis=0)
        before = (running[self.first] - amounts[self.first])[self.of]
        return np.asarray(running - before)
