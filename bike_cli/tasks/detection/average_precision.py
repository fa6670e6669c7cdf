"""Interpolated average precision, for many resamples of videos at once."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from bike_cli.tasks.detection.matching import RankedSegments
from bike_cli.tasks.detection.segments import Floats
from bike_cli.tasks.evaluate.metrics import divided


def average_precisions(ranked: RankedSegments, counts: Floats, *, labels: int) -> Floats:
    """Return the average precision of each label at each threshold in each resample: [T, C, R].

    Precision at a recall is the largest one at this recall or a greater one. A label without a true segment in a
    resample has NaN; one without a detected segment has 0.

    Args:
        counts: float64 [R, V], how often each video is drawn. A video that is drawn twice counts as two equal videos.
        labels: number of labels, C.
    Source: activitynet/ActivityNet, Evaluation/utils.py, `interpolated_prec_rec`. There, a label without a detected
        segment is 0 too, but one without a true segment ends the program.
    """
    thresholds, resamples = len(ranked.partners), len(counts)
    precisions = np.full((thresholds, labels, resamples), np.nan)
    places = np.arange(labels)
    true_bounds = np.searchsorted(ranked.true.labels, [places, places + 1])
    bounds = np.searchsorted(ranked.detected.labels, [places, places + 1])
    for label in np.flatnonzero(np.diff(true_bounds, axis=0)[0]).tolist():
        true, rows = slice(*true_bounds[:, label]), slice(*bounds[:, label])
        positives = counts[:, ranked.true.videos[true]].sum(axis=1)
        weights = counts[:, ranked.detected.videos[rows]]
        through = np.cumsum(weights, axis=1)  # detected segments up to each one, [R, n]
        for k in range(thresholds):
            found = np.flatnonzero(ranked.partners[k, rows] >= 0)
            precisions[k, label] = divided(_area(weights[:, found], through[:, found]), positives)
    return precisions


def _area(weights: Floats, through: Floats) -> Floats:
    """Return the sum over correct segments of the largest precision from there on: [R].

    Args:
        weights: how often each correct segment is drawn, [R, n].
        through: how many segments are drawn up to each one, [R, n].
    """
    # All copies of a segment are correct, so the precision after the last one is the largest of them. Where no segment
    # is drawn up to one, the sum is 0, too.
    precisions = np.cumsum(weights, axis=1) / np.maximum(through, 1)
    largest = np.maximum.accumulate(precisions[:, ::-1], axis=1)[:, ::-1]
    return np.asarray(np.einsum("rn,rn->r", weights, largest))


def mean_over_labels(precisions: NDArray[np.float64]) -> Floats:
    """Return the mean of [T, C, R] over the labels that have a true segment in a resample: [T, R]."""
    is_known = ~np.isnan(precisions)
    return divided(np.where(is_known, precisions, 0).sum(axis=1), is_known.sum(axis=1))
