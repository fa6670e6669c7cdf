"""Fit a scale and a curve to the scores of labelled clips, from as few as there are.

Bare maximum likelihood runs away where nearly all answers are correct, which a few clips often are: the scale grows
without limit, and the next mistake is made with certainty. Both fits have priors that prevent this.

Source: temperature scaling, Guo et al., On Calibration of Modern Neural Networks (2017); the curve's targets, Platt,
Probabilistic Outputs for Support Vector Machines (1999).
"""

from __future__ import annotations

import math

import numpy as np
from numpy.typing import NDArray

from bike_cli.engine.calibration.calibration import SCALES, Curve

PRIOR_SD = 0.5  # of the logarithm of the scale, around 0
TOLERANCE = 1e-10
MOST_STEPS = 100
CURVE_RIDGE = 1e-6  # on the slope for unit spread; only counts where all scores are equal


def fit_scale(logits: NDArray[np.float64], truth: NDArray[np.int64]) -> float:
    """Return the factor on the logits under which the true labels are most probable, a posteriori.

    It minimises the sum over clips of -log softmax(scale * logits)[truth], plus log(scale)^2 / (2 * 0.5^2), from 0.2
    to 2. There, the sum is strictly convex in the scale, so the minimum is unique.

    Args:
        logits: [n, C].
        truth: [n], index of the true label of each clip.
    """
    own = logits[np.arange(len(truth)), truth]

    def slope(scale: float) -> tuple[float, float]:
        """Return the first two derivatives of the sum at a scale."""
        chances = softmax(scale * logits)
        mean = (chances * logits).sum(axis=1)
        spread = (chances * (logits - mean[:, None]) ** 2).sum()
        first = float((mean - own).sum()) + math.log(scale) / (scale * PRIOR_SD**2)
        return first, float(spread) + (1 - math.log(scale)) / (scale * PRIOR_SD) ** 2

    low, high = SCALES
    if slope(low)[0] >= 0:
        return low
    if slope(high)[0] <= 0:
        return high
    scale = 1.0
    for _ in range(MOST_STEPS):
        first, second = slope(scale)
        low, high = (scale, high) if first < 0 else (low, scale)
        proposed = scale - first / second  # Newton's step, which the bracket keeps from leaving it
        if not low < proposed < high:
            proposed = (low + high) / 2
        if abs(proposed - scale) < TOLERANCE:
            return proposed
        scale = proposed
    return scale


def fit_curve(values: NDArray[np.float64], correct: NDArray[np.bool_]) -> Curve:
    """Return the probability that an answer is correct, as a logistic function of its score.

    Targets are (N+ + 1) / (N+ + 2) and 1 / (N- + 2) for N+ correct and N- other answers, so that the curve is finite
    where a score separates them.

    Args:
        values: [n], at least one; the score of each answer.
        correct: bool [n].
    """
    hits = int(correct.sum())
    targets = np.where(correct, (hits + 1) / (hits + 2), 1 / (len(correct) - hits + 2))
    centre, spread = float(values.mean()), float(values.std()) or 1.0
    inputs = np.stack([(values - centre) / spread, np.ones(len(values))], axis=1)  # [n, 2]
    ridge = np.array([CURVE_RIDGE, 0.0])

    def loss(weights: NDArray[np.float64]) -> float:
        logits = inputs @ weights
        return float((np.logaddexp(0, logits) - targets * logits).sum() + (ridge * weights**2).sum() / 2)

    weights = np.zeros(2)
    for _ in range(MOST_STEPS):
        chances = sigmoid(inputs @ weights)
        gradient = inputs.T @ (chances - targets) + ridge * weights
        curvature = (inputs * (chances * (1 - chances))[:, None]).T @ inputs + np.diag(ridge + 1e-12)
        step = np.linalg.solve(curvature, gradient)
        size, before = 1.0, loss(weights)
        while size > TOLERANCE and loss(weights - size * step) > before:
            size /= 2
        weights = weights - size * step
        if np.abs(size * step).max() < TOLERANCE:
            break
    slope = float(weights[0]) / spread
    return Curve(slope, float(weights[1]) - slope * centre)


def softmax(logits: NDArray[np.float64]) -> NDArray[np.float64]:
    """Return the softmax over the last axis."""
    powers = np.exp(logits - logits.max(axis=-1, keepdims=True))
    return np.asarray(powers / powers.sum(axis=-1, keepdims=True))


def sigmoid(logits: NDArray[np.float64]) -> NDArray[np.float64]:
    """Return 1 / (1 + exp(-x)), without overflow."""
    powers = np.exp(-np.abs(logits))
    return np.asarray(np.where(logits >= 0, 1, powers) / (1 + powers))
