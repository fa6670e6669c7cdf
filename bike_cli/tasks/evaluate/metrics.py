"""Metrics as pure functions of arrays, and means with their standard errors."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from scipy import special

Bounds = tuple[float, float]

UNBOUNDED: Bounds = (-math.inf, math.inf)
SHARES: Bounds = (0.0, 1.0)
DIFFERENCES: Bounds = (-1.0, 1.0)  # of shares
TOP = 5
FEW = 20  # up to this k, repeated maxima are faster than sorting


@dataclass(frozen=True)
class Mean:
    """A mean over trials or over videos, with its 95 % interval by Student's t, limited to the possible values.

    All but the value is None for a single value.
    """

    value: float
    error: float | None = None  # standard error of the mean
    low: float | None = None  # lower end of the interval
    high: float | None = None  # upper end of the interval

    @classmethod
    def within(cls, bounds: Bounds, value: float, error: float, *, reach: float) -> Mean:
        """Return a mean whose interval reaches that many standard errors to both sides, within bounds."""
        return cls(value, error, max(value - reach * error, bounds[0]), min(value + reach * error, bounds[1]))

    @property
    def margin(self) -> float | None:
        """Half the width of the interval."""
        return None if self.low is None or self.high is None else (self.high - self.low) / 2


def mean_of(values: Sequence[float] | NDArray[np.float64], *, bounds: Bounds = UNBOUNDED) -> Mean:
    """Return the mean of independent values with its standard error; raise ValueError for an empty sequence."""
    numbers = np.asarray(values, dtype=np.float64)
    if not len(numbers):
        raise ValueError("values is empty; give at least one")
    return mean_with_error(float(numbers.mean()), [numbers], bounds=bounds)


def share_of(hits: NDArray[np.bool_]) -> Mean:
    """Return the share of hits. Its error is that of Agresti and Coull, which is not 0 for all or none."""
    count = len(hits) + 4
    share = (int(hits.sum()) + 2) / count
    error = math.sqrt(share * (1 - share) / count)
    return Mean.within(SHARES, float(hits.mean()), error, reach=float(special.ndtri(0.975)))


def mean_with_error(
    value: float,
    sources: Sequence[NDArray[np.float64]],
    *,
    added_variance: float = 0.0,
    bounds: Bounds = UNBOUNDED,
) -> Mean:
    """Return a mean that varies with several independent sources, such as draws and videos.

    Args:
        sources: for each source, the means per draw or per video; those with a single value do not count.
        added_variance: is added to the variance of the mean.
        bounds: the lowest and the highest possible value.
    """
    sources = [numbers for numbers in sources if len(numbers) > 1]
    if not sources:
        return Mean(value)
    variances = [float(numbers.var(ddof=1)) / len(numbers) for numbers in sources]
    variance = math.fsum(variances)
    shares = [part / variance for part in variances] if variance else [1.0] + [0.0] * (len(sources) - 1)
    freedom = 1 / math.fsum(share**2 / (len(numbers) - 1) for share, numbers in zip(shares, sources, strict=True))
    error = math.sqrt(variance + added_variance)
    return Mean.within(bounds, value, error, reach=float(special.stdtrit(freedom, 0.975)))


def confusion(truth: NDArray[np.int64], guesses: NDArray[np.int64], classes: int) -> NDArray[np.int64]:
    """Return how many videos of each class (row) were classified as each class (column): [C, C]."""
    return np.bincount(truth * classes + guesses, minlength=classes**2).reshape(classes, classes)


def divided(amounts: NDArray[np.number], totals: NDArray[np.number]) -> NDArray[np.float64]:
    """Return amounts / totals, NaN where a total is 0."""
    shares: NDArray[np.float64] = np.divide(amounts, totals, out=np.full(amounts.shape, np.nan), where=totals > 0)
    return shares


def top1(counts: NDArray[np.int64]) -> float:
    """Return the share of correctly classified videos, for a confusion matrix with at least one video."""
    return float(np.trace(counts) / counts.sum())


def recalls(counts: NDArray[np.int64]) -> NDArray[np.float64]:
    """Return the share of each class's videos that are classified correctly, [C]; NaN for a class without videos."""
    return divided(np.diag(counts), counts.sum(axis=1))


def mean_class_accuracy(counts: NDArray[np.int64]) -> float:
    """Return mean class accuracy: the mean of the recalls of all classes that have videos."""
    return float(np.nanmean(recalls(counts)))


@dataclass(frozen=True, eq=False)
class Ranking:
    """The videos of one class and the others that rank ahead of them: what average precision needs."""

    positives: NDArray[np.int64]  # [n], indices of the videos of the class, best first
    # int32 [N], indices of the other videos that rank ahead of one of them, grouped by gap.
    negatives: NDArray[np.int32]
    gaps: NDArray[np.int64]  # [n], number of negatives between a positive and the one before it


def ranking(scores: NDArray[np.float64], present: NDArray[np.bool_]) -> Ranking:
    """Return the ranking of one class.

    Only the videos of the class are sorted, and the others inserted between them. That is faster than sorting all.

    Args:
        scores: [V]; of equal scores, videos of other classes rank first, so ties earn nothing.
        present: bool [V], whether each video belongs to the class.
    """
    positives = np.flatnonzero(present)
    positives = positives[np.argsort(-scores[positives], kind="stable")]
    others = np.flatnonzero(~present).astype(np.int32)
    gap = np.searchsorted(-scores[positives], -scores[others], side="left")
    ahead = gap < len(positives)
    gap, others = gap[ahead], others[ahead]
    narrow = gap.astype(np.uint16) if len(positives) < 2**16 else gap  # radix sort: a tenth of the time
    gaps = np.bincount(gap, minlength=len(positives)).astype(np.int64)
    return Ranking(positives, others[np.argsort(narrow, kind="stable")], gaps)


def average_precision(ranked: Ranking) -> float:
    """Return the mean of the precisions at the ranks of the class's videos; NaN for a class without videos."""
    if not len(ranked.positives):
        return math.nan
    hits = np.arange(1, len(ranked.positives) + 1)
    return float((hits / (hits + np.cumsum(ranked.gaps))).mean())


def average_precisions(scores: NDArray[np.float64], present: NDArray[np.bool_]) -> NDArray[np.float64]:
    """Return the average precision of each class, without interpolation, [C]; NaN for a class without videos.

    Args:
        scores: [V, C]; of equal scores, videos of other classes rank first, so ties earn nothing.
        present: bool [V, C], the labels of each video.
    """
    return np.array([average_precision(ranking(s, p)) for s, p in zip(scores.T, present.T, strict=True)])


def mean_average_precision(scores: NDArray[np.float64], present: NDArray[np.bool_]) -> float:
    """Return the mean average precision over the classes that have videos; see `average_precisions`."""
    return float(np.nanmean(average_precisions(scores, present)))


def softmax(scores: NDArray[np.float64]) -> NDArray[np.float64]:
    """Return the softmax over the last axis, in which at least one score is finite; others may be -inf."""
    powers = np.exp(scores - scores.max(axis=-1, keepdims=True))
    powers /= powers.sum(axis=-1, keepdims=True)
    return np.asarray(powers, dtype=np.float64)


def best_places(scores: NDArray[np.float64], k: int) -> NDArray[np.int64]:
    """Return the classes of the k best scores of [V, C], best first, ties in the order of classes: [V, at most k].

    A score of -inf counts as missing: where fewer than k scores remain, the class is -1.
    """
    k = min(k, scores.shape[1])
    if k > FEW:
        best = np.argsort(-scores, axis=1, kind="stable")[:, :k]
        return np.where(np.take_along_axis(scores, best, axis=1) == -np.inf, -1, best)
    left, rows = scores.copy(), np.arange(len(scores))
    best = np.empty((len(scores), k), dtype=np.int64)
    for i in range(k):
        place = left.argmax(axis=1)
        best[:, i] = np.where(left[rows, place] == -np.inf, -1, place)
        left[rows, place] = -np.inf
    return best


def hits_among(scores: NDArray[np.float64], truth: NDArray[np.int64], k: int) -> NDArray[np.bool_]:
    """Return whether each video's class is among its k best of scores [V, C], ties in the order of classes: [V]."""
    return np.asarray((best_places(scores, k) == truth[:, None]).any(axis=1))


def top_shares(scores: NDArray[np.float64], truth: NDArray[np.int64]) -> dict[str, float]:
    """Return `top1` and `top5` of scores [V, C]; top-5 of five classes or fewer is always 1, so it is left out."""
    shares = top1_and_top5(scores, truth)
    return shares if scores.shape[1] > TOP else {"top1": shares["top1"]}


def top1_and_top5(scores: NDArray[np.float64], truth: NDArray[np.int64]) -> dict[str, float]:
    """Return `top1` and `top5` of scores [V, C], for the true classes [V]."""
    return {f"top{k}": float(hits_among(scores, truth, k).mean()) for k in (1, TOP)}
