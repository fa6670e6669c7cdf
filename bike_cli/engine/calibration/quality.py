"""How well probabilities and thresholds do: calibration error, log loss, and predictions for clips left out."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import TypeVar

import numpy as np
from numpy.typing import NDArray

from bike_cli.engine.calibration.calibration import rejected_ranks

BINS = 15
LEAVE_ONE_OUT = 100  # clips up to which each is predicted from all others; beyond, each tenth is from the other nine
FOLDS = 10

Fitted = TypeVar("Fitted")


def calibration_error(
    chances: NDArray[np.float64], correct: NDArray[np.bool_], weights: NDArray[np.float64] | None = None
) -> float:
    """Return the expected calibration error: the mean over clips of |accuracy - confidence| of their bin.

    The 15 bins are of equal width, and each has its upper edge.

    Args:
        chances: [n], the probability that each answer is correct.
        correct: bool [n].
        weights: [n], how much each clip counts; None: all the same.
    """
    weights = np.ones(len(chances)) if weights is None else weights
    place = np.clip(np.ceil(chances * BINS).astype(np.int64) - 1, 0, BINS - 1)
    excess = np.bincount(place, weights=weights * (correct - chances), minlength=BINS)
    return float(np.abs(excess).sum() / weights.sum())


def log_loss(logits: NDArray[np.float64], truth: NDArray[np.int64]) -> NDArray[np.float64]:
    """Return -log softmax(logits)[truth] of each clip: [n, C], [n] -> [n]."""
    best = logits.max(axis=1)
    whole = best + np.log(np.exp(logits - best[:, None]).sum(axis=1))
    return np.asarray(whole - logits[np.arange(len(truth)), truth])


def rejected_by_others(values: NDArray[np.float64], promise: float) -> NDArray[np.bool_]:
    """Return whether the threshold of all other known clips rejects each of them, bool [n]; values [n] ascend.

    Without ties, it rejects the first `k` for the rank `k` of n - 1 clips; none where these are too few.
    """
    rank = rejected_ranks(promise, len(values) - 1)
    if rank < 1:
        return np.zeros(len(values), dtype=np.bool_)
    others_no_better = np.searchsorted(values, values, side="right") - 1
    return np.asarray(others_no_better < rank)


def cross_fitted(
    fit: Callable[[NDArray[np.int64]], Fitted],
    predict: Callable[[Fitted, NDArray[np.int64]], NDArray[np.float64]],
    clips: int,
) -> NDArray[np.float64]:
    """Return a number per clip, predicted by a fit to other clips: [n].

    Args:
        fit: to the clips at some places.
        predict: for the clips at other places, [m].
        clips: at least two.
    """
    predicted = np.empty(clips)
    for held_out in _folds(clips):
        others = np.setdiff1d(np.arange(clips), held_out)
        predicted[held_out] = predict(fit(others), held_out)
    return predicted


def _folds(clips: int) -> Iterator[NDArray[np.int64]]:
    order = np.random.default_rng(0).permutation(clips)
    yield from np.array_split(order, clips if clips <= LEAVE_ONE_OUT else FOLDS)
