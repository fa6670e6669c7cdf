"""95 % confidence intervals that hold for few videos and near 0 and 1, and p-values of paired differences.

`tests/tasks/evaluate/test_coverage.py` simulates how often each of them contains the truth.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import ArrayLike, NDArray
from scipy import special

from bike_cli.tasks.evaluate.report import Metric

TAIL = 0.025  # beyond each end of an interval
FEW = 5  # correct or wrong answers; with fewer, resamples hardly differ from one another
NORMAL = float(special.ndtri(1 - TAIL))

Numbers = NDArray[np.float64]


def proportion_bounds(successes: ArrayLike, trials: ArrayLike) -> tuple[Numbers, Numbers]:
    """Return the ends of the exact (Clopper-Pearson) intervals of shares.

    Args:
        successes: [...]; may be fractional, for a metric that is not a share but behaves like one.
        trials: [...], at least 1.
    """
    hits = np.asarray(successes, dtype=np.float64)
    misses = np.asarray(trials, dtype=np.float64) - hits
    low = np.where(hits > 0, special.betaincinv(np.maximum(hits, 1e-9), misses + 1, TAIL), 0.0)
    high = np.where(misses > 0, special.betaincinv(hits + 1, np.maximum(misses, 1e-9), 1 - TAIL), 1.0)
    return low, high


def proportion_interval(successes: int, trials: int) -> Metric:
    """Return a share with its exact interval."""
    low, high = proportion_bounds(successes, trials)
    return Metric(successes / trials, float(low), float(high))


def mean_proportion_interval(successes: NDArray[np.int64], trials: NDArray[np.int64]) -> Metric:
    """Return the mean of independent shares, [C] each, with its interval; those without trials do not count.

    Few trials say little about the variance of a share. But the variance of the mean, the sum of p (1 - p) / n divided
    by C^2, is at most what it is if all shares equal their mean with weights 1 / n (Jensen's inequality). The interval
    is the exact one of a share of as many trials as give it this variance. If all shares have equally many trials, it
    is the exact interval of the share of all trials together.
    """
    successes, trials = successes[trials > 0], trials[trials > 0]
    shares, weights = successes / trials, 1 / trials
    value, equal = float(shares.mean()), len(shares) ** 2 / float(weights.sum())
    # Two successes and two failures are added, as Agresti and Coull do: of few trials, all may succeed.
    mean = (value * equal + 2) / (equal + 4)
    weighted, size = float(shares @ weights / weights.sum()), float(weights.sum() ** 2 / (weights**3).sum())
    limiting = (weighted * size + 2) / (size + 4)
    count = equal * min(1.0, mean * (1 - mean) / (limiting * (1 - limiting)))
    low, high = proportion_bounds(value * count, count)
    return Metric(value, float(low), float(high))


def bootstrap_interval(value: float, resampled: Numbers, videos: int) -> Metric:
    """Return the interval of a metric between 0 and 1 from its values in resamples.

    The standard error is that of the resamples, and the interval is symmetric on the scale of log-odds. Where fewer
    than `FEW` videos' worth separate the metric from 0 or 1, resamples differ too little. The interval then also covers
    the exact one of a share of the same value.

    Args:
        value: metric of all videos.
        resampled: [R]; NaN resamples are ignored.
        videos: number of videos that the metric depends on, at least 1.
    """
    resampled = resampled[~np.isnan(resampled)]
    edge = 1 / (2 * videos)
    share = min(max(value, edge), 1 - edge)
    slope = share * (1 - share)
    error = float(resampled.std()) * math.sqrt(videos / (videos - 1)) if len(resampled) and videos > 1 else 0.0
    if value in (0.0, 1.0) or videos == 1:
        error = max(error, math.sqrt(slope / videos))
    margin = float(special.stdtrit(max(videos - 1, 1), 1 - TAIL)) * error / slope
    centre = special.logit(share)
    low, high = float(special.expit(centre - margin)), float(special.expit(centre + margin))
    if min(value, 1 - value) * videos < FEW:
        exact_low, exact_high = proportion_bounds(value * videos, videos)
        low, high = min(low, float(exact_low)), max(high, float(exact_high))
    return Metric(value, min(low, value), max(high, value))


def loss_interval(losses: Numbers, of_mistakes: Numbers) -> Metric:
    """Return the mean of losses of at least 0, with its interval, symmetric on the scale of logarithms or longer above.

    The standard error of a mean is that of its resamples, so none are drawn. Of a model that is often certain and
    seldom wrong, a sample may lack the few mistakes that make up most of the mean. So the upper end is at least what
    the mean would be if the largest share of mistakes that may go unseen were added, at their average cost.

    Args:
        losses: [n], at least two.
        of_mistakes: [n], what the loss of each video would be if its answer were wrong.
    """
    count, value = len(losses), float(losses.mean())
    unseen = 1 - TAIL ** (1 / count)  # with a larger share, n videos without any are improbable
    highest = value + unseen * float(of_mistakes.mean())
    if value == 0:
        return Metric(0.0, 0.0, highest)
    error = float(losses.std(ddof=1)) / math.sqrt(count) / value
    margin = float(special.stdtrit(count - 1, 1 - TAIL)) * error
    return Metric(value, value * math.exp(-margin), max(highest, value * math.exp(margin)))


def calibration_interval(value: float, *parts: tuple[Numbers, Numbers, NDArray[np.int64]]) -> Metric:
    """Return the interval of the expected calibration error.

    The estimate is biased upwards: with random errors e in the bins, it exceeds the truth by at most the sum of |e|,
    and falls short of it by at most the sum of e, each with the sign of the true deviation. Both sums are nearly
    normal. So the interval reaches further down than up, and is conservative.

    Args:
        value: the estimate.
        parts: of videos, each of which counts the same. For each video of a part: correctness minus confidence,
            confidence, and bin, [n] each.
    """
    bins = 1 + max(int(places.max()) for _, _, places in parts)
    variances = np.sum([_bin_variances(*part, bins=bins) for part in parts], axis=0) / len(parts) ** 2
    spread = math.sqrt(variances.sum())
    bias = math.sqrt(2 / math.pi) * float(np.sqrt(variances).sum())
    low = value - bias - NORMAL * math.sqrt(1 - 2 / math.pi) * spread
    return Metric(value, max(low, 0.0), min(value + NORMAL * spread, 1.0))


def _bin_variances(excess: Numbers, confidence: Numbers, places: NDArray[np.int64], *, bins: int) -> Numbers:
    """Return the variance of the sum of the excess of each bin, divided by the number of videos: [bins]."""
    sizes = np.bincount(places, minlength=bins).astype(np.float64)
    sums = np.bincount(places, excess, bins)
    squares = np.bincount(places, excess**2, bins) - np.divide(sums**2, sizes, out=np.zeros_like(sums), where=sizes > 0)
    squares *= np.divide(sizes, sizes - 1, out=np.ones_like(sizes), where=sizes > 1)
    # A bin whose answers are all correct, or all wrong, shows no variance. A calibrated model would have that of its
    # confidences; a confident one may have that of a share to which two hits and two misses are added.
    hits = np.bincount(places, excess + confidence, bins)
    shares = (hits + 2) / (sizes + 4)
    floor = np.maximum(np.bincount(places, confidence * (1 - confidence), bins), sizes * shares * (1 - shares))
    return np.asarray(np.maximum(squares, floor) / len(excess) ** 2)


@dataclass(frozen=True)
class Difference:
    """The difference of a metric between two systems on the same videos, with its 95 % interval.

    Args:
        p: two-sided p-value; None where there is no test.
    """

    value: float
    low: float
    high: float
    p: float | None


def share_difference(wins: int, losses: int, videos: int) -> Difference:
    """Return the difference of two shares of the same videos, with the exact p of McNemar's test.

    The interval is Bonett and Price's (https://doi.org/10.3102/1076998611411915).

    Args:
        wins: number of videos that only the second system classifies correctly.
        losses: number of videos that only the first system classifies correctly.
    """
    won, lost = (wins + 1) / (videos + 2), (losses + 1) / (videos + 2)
    margin = NORMAL * math.sqrt((won + lost - (won - lost) ** 2) / (videos + 2))
    p = min(1.0, 2 * float(special.bdtr(min(wins, losses), wins + losses, 0.5)))
    return Difference((wins - losses) / videos, max(won - lost - margin, -1.0), min(won - lost + margin, 1.0), p)


def metric_difference(value: float, resampled: Numbers, videos: int) -> Difference:
    """Return the difference of a metric between 0 and 1, from its values in resamples of the same videos.

    The interval and p are those of Student's t. As in `share_difference`, two videos that speak for either system are
    added to the variance: few videos may all speak for one.

    Args:
        resampled: [R]; NaN resamples are ignored.
        videos: number of videos that the metric depends on, at least 1.
    """
    resampled = resampled[~np.isnan(resampled)]
    variance = float(resampled.var()) * videos / max(videos - 1, 1) if len(resampled) else 0.0
    error = math.sqrt(variance + 2 / (videos + 2) ** 2)
    freedom = max(videos - 1, 1)
    margin = float(special.stdtrit(freedom, 1 - TAIL)) * error
    p = min(1.0, 2 * float(special.stdtr(freedom, -abs(value) / error)))
    return Difference(value, max(value - margin, -1.0), min(value + margin, 1.0), p)


def independent_difference(first: Metric, second: Metric) -> Difference:
    """Return the difference of two metrics, from their own intervals (MOVER); that they share videos is not used."""
    value = second.value - first.value
    low = value - math.hypot(second.value - second.low, first.high - first.value)
    return Difference(value, low, value + math.hypot(second.high - second.value, first.value - first.low), None)


def holm(p: Sequence[float]) -> list[float]:
    """Return p-values adjusted for their number (Holm's method), in the given order."""
    adjusted, largest = [0.0] * len(p), 0.0
    for rank, place in enumerate(sorted(range(len(p)), key=p.__getitem__)):
        largest = max(largest, min(1.0, (len(p) - rank) * p[place]))
        adjusted[place] = largest
    return adjusted
