"""Fit a scale and a curve to the scores of labelled clips, from as few as there are.

Bare maximum likelihood runs away where nearly all answers are correct, which a few clips often are: the scale grows
without limit, and the next mistake is made with certainty. Both fits have priors that prevent this.

Source: temperature scaling, Guo et al., On Calibration of Modern Neural Networks (2017); a logistic curve, Platt,
Probabilistic Outputs for Support Vector Machines (1999), here with priors instead of smoothed targets.
"""

from __future__ import annotations

import math

import numpy as np
from numpy.typing import NDArray

from bike_cli.engine.calibration.calibration import SCALES, Curve

PRIOR_SD = 0.5  # of the logarithm of the scale, around 0
TOLERANCE = 1e-10
MOST_STEPS = 100
# Standard deviations of the curve's slope, for scores of unit spread, and of its offset; they keep both finite where a
# score separates the clips. On films of benchmarks/rejection.py, with the seed 20261, slopes from 3 to 8 did as well.
SLOPE_SD, OFFSET_SD = 4.0, 10.0


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


def fit_curve(values: NDArray[np.float64], correct: NDArray[np.bool_], is_known: NDArray[np.bool_]) -> Curve:
    """Return the probability that an answer is correct, as a logistic function of its score.

    It is that for videos of which half show one of the labels: how many clips of either kind were collected says
    nothing about the videos to come, so each kind counts half. It is the most probable curve, where the slope for
    scores of unit spread is normal around 0 with a standard deviation of 4, and the offset with one of 10.

    Args:
        values: [n], at least one; the score of each answer.
        correct: bool [n].
        is_known: bool [n], whether the clip has one of the labels.
    """
    weights = half_each(is_known)
    centre = float(np.average(values, weights=weights))
    spread = math.sqrt(float(np.average((values - centre) ** 2, weights=weights))) or 1.0
    inputs = np.stack([(values - centre) / spread, np.ones(len(values))], axis=1)  # [n, 2]
    precision = 1 / np.array([SLOPE_SD, OFFSET_SD]) ** 2

    def loss(curve: NDArray[np.float64]) -> float:
        logits = inputs @ curve
        return float((weights * (np.logaddexp(0, logits) - correct * logits)).sum() + (precision * curve**2).sum() / 2)

    curve = np.zeros(2)
    for _ in range(MOST_STEPS):
        chances = sigmoid(inputs @ curve)
        gradient = inputs.T @ (weights * (chances - correct)) + precision * curve
        curvature = (inputs * (weights * chances * (1 - chances))[:, None]).T @ inputs + np.diag(precision)
        step, before = np.linalg.solve(curvature, gradient), loss(curve)
        size = 1.0
        while size > TOLERANCE and loss(curve - size * step) > before:
            size /= 2
        curve = curve - size * step
        if np.abs(size * step).max() < TOLERANCE:
            break
    slope = float(curve[0]) / spread
    return Curve(slope, float(curve[1]) - slope * centre)


def half_each(is_known: NDArray[np.bool_]) -> NDArray[np.float64]:
    """Return weights with which known clips count as much as all others together: [n], summing to n."""
    known, others = int(is_known.sum()), int((~is_known).sum())
    if not known or not others:
        return np.ones(len(is_known))
    return np.where(is_known, len(is_known) / (2 * known), len(is_known) / (2 * others))


def softmax(logits: NDArray[np.float64]) -> NDArray[np.float64]:
    """Return the softmax over the last axis."""
    powers = np.exp(logits - logits.max(axis=-1, keepdims=True))
    return np.asarray(powers / powers.sum(axis=-1, keepdims=True))


def sigmoid(logits: NDArray[np.float64]) -> NDArray[np.float64]:
    """Return 1 / (1 + exp(-x)), without overflow."""
    powers = np.exp(-np.abs(logits))
    return np.asarray(np.where(logits >= 0, 1, powers) / (1 + powers))
