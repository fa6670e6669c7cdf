"""The table of all metrics; intervals and paired comparisons by the bootstrap follow from it.

To add a metric, write a function of `Resamples` and give it a row in `METRICS`.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray

from bike_cli.config import EvalConfig
from bike_cli.tasks.evaluate.answers import Answers, Resamples
from bike_cli.tasks.evaluate.bootstrap import BLOCK, interval, p_value, resamples_of, sign_test
from bike_cli.tasks.evaluate.metrics import average_precision, confusion, divided
from bike_cli.tasks.evaluate.report import ClassMetrics, Comparison, SystemResult
from bike_cli.tasks.evaluate.score_table import ScoreTable, aligned

RESAMPLES = EvalConfig.resamples
MOST_LOOKUPS = 10**10  # what the interval of a costly metric may take
FEWEST_BLOCKS = 4

Evidence = NDArray[np.bool_] | NDArray[np.int64] | NDArray[np.float64]
Values = NDArray[np.float64]  # a metric in each resample, [R]; NaN where it is undefined


# -- the metrics -------------------------------------------------------------------------------------------------------
# Means over classes are over the classes that have a video in the resample.


def _macro_f1(drawn: Resamples) -> Values:
    f1 = divided(2 * drawn.correct, drawn.videos + drawn.guessed)
    return _mean_over_classes(np.where(drawn.videos > 0, f1, np.nan))


def _calibration_error(drawn: Resamples) -> Values:
    groups, excess = drawn.answers.by_bin
    excesses = np.abs(groups.weighted_sums(drawn.counts, excess))
    return divided(excesses.sum(axis=0), groups.sums(drawn.counts).sum(axis=0))


def _auroc_none(drawn: Resamples) -> Values:
    by_place, by_level = drawn.answers.by_doubt
    known, none = by_place.sums(drawn.counts), by_level.sums(drawn.counts)
    below = np.cumsum(known, axis=0)
    won = (none * (below[0:-1:2] + known[1::2] / 2)).sum(axis=0)
    return divided(won, none.sum(axis=0) * below[-1])


def _mean_over_classes(shares: NDArray[np.float64]) -> Values:
    """Return the mean of shares [C, R] over the classes where they are defined: [R]."""
    return divided(np.nansum(shares, axis=0), (~np.isnan(shares)).sum(axis=0))


# -- the table ---------------------------------------------------------------------------------------------------------


def _single_label(answers: Answers) -> bool:
    return not answers.table.multi_label


@dataclass(frozen=True)
class MetricDefinition:
    """One metric."""

    key: str  # its name in reports
    name: str  # its name for people
    meaning: str  # a phrase that explains it
    compute: Callable[[Resamples], Values]  # returns its value in each resample, [R]
    applies: Callable[[Answers], bool] = _single_label  # whether it is defined for some answers
    # What the sign test compares, one row per video. If boolean, True speaks for the system; otherwise a difference may
    # speak for either system, so all of them may speak for the same one.
    evidence: Callable[[Answers], Evidence] = lambda answers: answers.table.logits
    smaller_is_better: bool = False  # whether smaller values are better
    is_costly: bool = False  # whether the interval of a very large table is computed from fewer resamples


METRICS = {
    metric.key: metric
    for metric in (
        MetricDefinition(
            "top1",
            "top-1",
            "share of videos whose best answer is correct",
            lambda drawn: drawn.share(drawn.answers.by_hit),
            applies=lambda answers: True,
            evidence=lambda answers: answers.hits,
        ),
        MetricDefinition(
            "top5",
            "top-5",
            "share of videos whose class is among the five best answers",
            lambda drawn: drawn.share(drawn.answers.by_hit5),
            applies=lambda answers: answers.names_top,
            evidence=lambda answers: answers.hits5,
        ),
        MetricDefinition(
            "mean_class",
            "mean class accuracy",
            "mean over classes of the share of correctly classified videos; each class counts the same",
            lambda drawn: _mean_over_classes(divided(drawn.correct, drawn.videos)),
            evidence=lambda answers: answers.guesses,
        ),
        MetricDefinition(
            "macro_f1",
            "macro F1",
            "mean over classes of F1, the harmonic mean of precision and recall",
            _macro_f1,
            evidence=lambda answers: answers.guesses,
        ),
        MetricDefinition(
            "ece",
            "calibration error",
            "mean distance between confidence and accuracy; smaller is better",
            _calibration_error,
            smaller_is_better=True,
        ),
        MetricDefinition(
            "auroc_none",
            "AUROC, none of these",
            "how well confidence separates known classes from unknown ones; 50 is chance",
            _auroc_none,
            applies=lambda answers: _single_label(answers) and not answers.labelled.all(),
        ),
        MetricDefinition(
            "map",
            "mAP",
            "mean over classes of average precision",
            lambda drawn: _mean_over_classes(drawn.answers.ranked_classes.average_precisions(drawn.counts)),
            applies=lambda answers: answers.names_all,
            is_costly=True,
        ),
    )
}


def metrics_of(answers: Answers) -> list[MetricDefinition]:
    """Return the metrics that apply, the most important first: with several labels per video that is mAP."""
    metrics = [metric for metric in METRICS.values() if metric.applies(answers)]
    return sorted(metrics, key=lambda metric: metric.key != "map") if answers.table.multi_label else metrics


# -- what is computed from it ------------------------------------------------------------------------------------------


def measure(table: ScoreTable, name: str = "", *, seed: int = 0, resamples: int = RESAMPLES) -> SystemResult:
    """Return every metric of a table with its percentile bootstrap interval over videos, and those of each class.

    The same table, seed and number of resamples give the same digits. With very many videos and classes, the interval
    of `map` is computed from the first resamples: 256 for 100,000 videos and 400 classes.

    Raises:
        UsageError: no video has a label.
    """
    answers = Answers(table)
    values, drawn = _bootstrap(answers, seed=seed, resamples=resamples)
    metrics = {key: interval(value, drawn[key]) for key, value in values.items()}
    counts = None if table.multi_label else confusion(answers.truth, answers.guesses, len(table.labels))
    rows = None if counts is None else tuple(tuple(row) for row in counts.tolist())
    return SystemResult(name, metrics, _class_metrics(answers, counts), rows)


def compare(
    first: ScoreTable,
    second: ScoreTable,
    names: tuple[str, str] = ("a", "b"),
    *,
    seed: int = 0,
    resamples: int = RESAMPLES,
) -> list[Comparison]:
    """Return by how much the second table exceeds the first, by a paired bootstrap: both have the same videos drawn.

    Videos and labels may be in different orders. Videos that only one table has are left out.

    Raises:
        UsageError: different labels, a different truth, no video in common, or a video twice in a table.
    """
    *tables, left_out = aligned(first, second)
    answers = [Answers(table) for table in tables]
    (values, drawn), (others, others_drawn) = (_bootstrap(one, seed=seed, resamples=resamples) for one in answers)
    rows = []
    for key in (key for key in values if key in others):
        differences = others_drawn[key] - drawn[key]
        gain = interval(others[key] - values[key], differences)
        p = p_value(differences, least=_sign_test(*(METRICS[key].evidence(one) for one in answers)))
        rows.append(Comparison(*names, key, gain.value, gain.low, gain.high, p, len(tables[0].videos), left_out))
    return rows


def _bootstrap(answers: Answers, *, seed: int, resamples: int) -> tuple[dict[str, float], dict[str, Values]]:
    """Return each metric, and its values in resamples."""
    videos, metrics = len(answers.table.videos), metrics_of(answers)
    blocks = max(FEWEST_BLOCKS, MOST_LOOKUPS // (answers.table.logits.size * BLOCK))
    whole = Resamples(answers, torch.ones(videos, 1))
    values = {metric.key: float(metric.compute(whole)[0]) for metric in metrics}
    parts: dict[str, list[Values]] = {key: [np.empty(0)] for key in values}
    for i, counts in enumerate(resamples_of(videos, seed=seed, resamples=resamples)):
        drawn = Resamples(answers, counts)
        for metric in metrics:
            if i < blocks or not metric.is_costly:
                parts[metric.key].append(metric.compute(drawn))
    return values, {key: np.concatenate(some) for key, some in parts.items()}


def _sign_test(a: Evidence, b: Evidence) -> float:
    """Return the p of the sign test; videos for which both are equal do not count."""
    if a.dtype == np.bool_:
        return sign_test(int((b > a).sum()), int((a > b).sum()))
    return sign_test(int((a != b).reshape(len(a), -1).any(axis=1).sum()), 0)


def _class_metrics(answers: Answers, counts: NDArray[np.int64] | None) -> tuple[ClassMetrics, ...]:
    labels, videos = answers.table.labels, answers.table.present.sum(axis=0)
    recalls = precisions = f1 = averages = np.full(len(labels), np.nan)
    if answers.names_all:
        averages = np.array([average_precision(ranked) for ranked in answers.rankings])
    if counts is not None:
        correct, guessed = np.diag(counts).astype(np.float64), counts.sum(axis=0)
        recalls, precisions = divided(correct, videos), divided(correct, guessed)
        f1 = divided(np.where(videos > 0, 2 * correct, np.nan), videos + guessed)
    columns = zip(recalls.tolist(), precisions.tolist(), f1.tolist(), averages.tolist(), strict=True)
    rows = ([None if math.isnan(value) else value for value in row] for row in columns)
    return tuple(
        ClassMetrics(label, count, *row) for label, count, row in zip(labels, videos.tolist(), rows, strict=True)
    )
