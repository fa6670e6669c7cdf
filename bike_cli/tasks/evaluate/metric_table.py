"""The table of all metrics; their intervals and paired comparisons follow from it.

To add a metric, write a function of `Resamples` and give it a row in `METRICS`.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace

import numpy as np
import torch
from numpy.typing import NDArray

from bike_cli.config import EvalConfig
from bike_cli.tasks.evaluate.answers import Answers, Resamples
from bike_cli.tasks.evaluate.bootstrap import BLOCK, each_once, resamples_of
from bike_cli.tasks.evaluate.intervals import (
    Difference,
    bootstrap_interval,
    calibration_interval,
    holm,
    independent_difference,
    mean_proportion_interval,
    metric_difference,
    proportion_interval,
    share_difference,
)
from bike_cli.tasks.evaluate.metrics import TOP, average_precision, confusion, divided
from bike_cli.tasks.evaluate.report import ClassMetrics, Comparison, Metric, SystemResult
from bike_cli.tasks.evaluate.score_table import ScoreTable, aligned

RESAMPLES = EvalConfig.resamples
MOST_LOOKUPS = 10**10  # what the interval of a costly metric may take
FEWEST_BLOCKS = 4
FEWEST_CALIBRATED = 20  # videos; of fewer, the interval of the calibration error is too narrow
SIGNIFICANT = 0.05

Hits = NDArray[np.bool_]  # per known video
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


def _brier_score(drawn: Resamples) -> Values:
    answers = drawn.answers
    counts = drawn.counts[torch.from_numpy(answers.known)].double()
    return np.asarray((torch.from_numpy(answers.squared_errors) @ counts / counts.sum(dim=0)).numpy())


def _mean_over_classes(shares: NDArray[np.float64]) -> Values:
    """Return the mean of shares [C, R] over the classes where they are defined: [R]."""
    return divided(np.nansum(shares, axis=0), (~np.isnan(shares)).sum(axis=0))


# -- their intervals ---------------------------------------------------------------------------------------------------


def _mean_class_interval(answers: Answers) -> Metric:
    counts = confusion(answers.truth, answers.guesses, len(answers.table.labels))
    return mean_proportion_interval(np.diag(counts), counts.sum(axis=1))


def _calibration_interval(answers: Answers) -> Metric:
    confidence, bins = answers.confidence[answers.known], answers.bins
    value = float(_calibration_error(Resamples(answers, each_once(len(answers.table.videos))))[0])
    return calibration_interval(value, answers.hits - confidence, confidence, bins)


# -- the table ---------------------------------------------------------------------------------------------------------


def _single_label(answers: Answers) -> bool:
    return not answers.table.multi_label


def _known(answers: Answers) -> int:
    return len(answers.known)


def _has_unknown(answers: Answers) -> bool:
    return _single_label(answers) and not bool(answers.labelled.all())


def _has_cosines(answers: Answers) -> bool:
    return _has_unknown(answers) and answers.table.best_cosines is not None


def _rejects(answers: Answers) -> bool:
    return _single_label(answers) and answers.table.rejected is not None


def _fewer(answers: Answers) -> int:
    return min(len(answers.known), len(answers.none))


@dataclass(frozen=True)
class MetricDefinition:
    """One metric."""

    key: str  # its name in reports
    name: str  # its name for people
    meaning: str  # a phrase that explains it
    compute: Callable[[Resamples], Values]  # returns its value in each resample, [R]
    applies: Callable[[Answers], bool] = _single_label  # whether it is defined for some answers
    # For a share of videos, which ones count; its interval is exact, and differences are tested exactly.
    hits: Callable[[Answers], Hits] | None = None
    interval: Callable[[Answers], Metric] | None = None  # None: from `hits`, or else from resamples
    videos: Callable[[Answers], int] = _known  # number of videos that the metric depends on
    has_test: bool = True  # whether differences are tested
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
            hits=lambda answers: answers.hits,
        ),
        MetricDefinition(
            "top5",
            "top-5",
            "share of videos whose class is among the five best answers",
            lambda drawn: drawn.share(drawn.answers.by_hit5),
            applies=lambda answers: answers.names_top and len(answers.table.labels) > TOP,
            hits=lambda answers: answers.hits5,
        ),
        MetricDefinition(
            "mean_class",
            "mean class accuracy",
            "mean over classes of the share of correctly classified videos; each class counts the same",
            lambda drawn: _mean_over_classes(divided(drawn.correct, drawn.videos)),
            interval=_mean_class_interval,
        ),
        MetricDefinition(
            "macro_f1",
            "macro F1",
            "mean over classes of F1, the harmonic mean of precision and recall",
            _macro_f1,
        ),
        MetricDefinition(
            "ece",
            "calibration error",
            "mean distance between confidence and accuracy; smaller is better",
            _calibration_error,
            applies=lambda answers: (
                _single_label(answers)
                and len(answers.known) >= FEWEST_CALIBRATED
                and bool((answers.confidence < 1).any())  # else the answers have no scores
            ),
            interval=_calibration_interval,
            has_test=False,
            smaller_is_better=True,
        ),
        MetricDefinition(
            "brier",
            "Brier score",
            "half the squared distance of the scores from the truth, 0 to 1; smaller is better",
            _brier_score,
            applies=lambda answers: _single_label(answers) and answers.names_all,
            smaller_is_better=True,
        ),
        MetricDefinition(
            "auroc_none",
            "AUROC, none of these",
            "how well confidence separates known classes from unknown ones; 50 is chance",
            lambda drawn: drawn.auroc(drawn.answers.doubts_of_scores),
            applies=_has_unknown,
            videos=_fewer,
        ),
        MetricDefinition(
            "auroc_cosine",
            "AUROC by cosine",
            "how well the best label's cosine separates known classes from unknown ones; 50 is chance",
            lambda drawn: drawn.auroc(drawn.answers.doubts_of_cosines),
            applies=_has_cosines,
            videos=_fewer,
        ),
        MetricDefinition(
            "fpr95_none",
            "FPR95",
            "share of unknown videos whose confidence exceeds that of 5 % of the known ones; smaller is better",
            lambda drawn: drawn.false_acceptance(drawn.answers.doubts_of_scores),
            applies=_has_unknown,
            videos=_fewer,
            smaller_is_better=True,
        ),
        MetricDefinition(
            "fpr95_cosine",
            "FPR95 by cosine",
            "share of unknown videos whose best cosine exceeds that of 5 % of the known ones; smaller is better",
            lambda drawn: drawn.false_acceptance(drawn.answers.doubts_of_cosines),
            applies=_has_cosines,
            videos=_fewer,
            smaller_is_better=True,
        ),
        MetricDefinition(
            "top1_none",
            "top-1 with none",
            "share of all videos that are answered correctly, where none of these is the answer for unknown ones",
            lambda drawn: drawn.share_of(np.arange(len(drawn.answers.table.videos)), drawn.answers.is_right),
            applies=_rejects,
            hits=lambda answers: answers.is_right,
            videos=lambda answers: len(answers.table.videos),
        ),
        MetricDefinition(
            "rejected_known",
            "known rejected",
            "share of videos with a known class that are rejected; smaller is better",
            lambda drawn: drawn.share_of(drawn.answers.known, drawn.answers.rejected[drawn.answers.known]),
            applies=_rejects,
            hits=lambda answers: answers.rejected[answers.known],
            smaller_is_better=True,
        ),
        MetricDefinition(
            "rejected_none",
            "unknown rejected",
            "share of videos with an unknown class that are rejected",
            lambda drawn: drawn.share_of(drawn.answers.none, drawn.answers.rejected[drawn.answers.none]),
            applies=lambda answers: _rejects(answers) and _has_unknown(answers),
            hits=lambda answers: answers.rejected[answers.none],
            videos=lambda answers: len(answers.none),
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
    """Return every metric of a table with its 95 % interval over videos, and those of each class.

    The same table, seed and number of resamples give the same digits. With very many videos and classes, the interval
    of `map` is computed from the first resamples: 256 for 100,000 videos and 400 classes.

    Raises:
        UsageError: no video has a label.
    """
    answers = Answers(table)
    applying = metrics_of(answers)
    resampled = [metric for metric in applying if metric.hits is None and metric.interval is None]
    drawn = _resampled(answers, resampled, seed=seed, resamples=resamples)
    metrics = {metric.key: _with_interval(metric, answers, drawn.get(metric.key)) for metric in applying}
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
    """Return by how much the second table exceeds the first in each metric, on the videos that both have.

    Videos and labels may be in different orders. The p-values are those of single tests; see `mark_significant`.

    Raises:
        UsageError: different labels, a different truth, no video in common, or a video twice in a table.
    """
    *tables, left_out = aligned(first, second)
    a, b = (Answers(table) for table in tables)
    applying = [metric for metric in metrics_of(a) if metric.applies(b)]
    resampled = [metric for metric in applying if metric.hits is None and metric.has_test]
    drawn, other = (_resampled(one, resampled, seed=seed, resamples=resamples) for one in (a, b))
    videos, differing = len(a.table.videos), int((a.table.ranked(1) != b.table.ranked(1)).sum())
    rows = []
    for metric in applying:
        gain = _difference(metric, a, b, drawn.get(metric.key), other.get(metric.key))
        row = Comparison(
            *names, metric.key, gain.value, gain.low, gain.high, gain.p, videos, left_out, differing=differing
        )
        rows.append(row)
    return rows


def mark_significant(comparisons: Sequence[Comparison], metric: str) -> list[Comparison]:
    """Return the comparisons with the one metric that decides marked, its p-values adjusted for their number (Holm)."""
    deciding = [i for i, row in enumerate(comparisons) if row.metric == metric and row.p is not None]
    adjusted = dict(zip(deciding, holm([comparisons[i].p or 0.0 for i in deciding]), strict=True))
    return [
        replace(row, p_adjusted=adjusted[i], significant=adjusted[i] < SIGNIFICANT) if i in adjusted else row
        for i, row in enumerate(comparisons)
    ]


def _with_interval(metric: MetricDefinition, answers: Answers, drawn: Values | None) -> Metric:
    if metric.interval is not None:
        return metric.interval(answers)
    if metric.hits is not None:
        hits = metric.hits(answers)
        return proportion_interval(int(hits.sum()), len(hits))
    assert drawn is not None
    return bootstrap_interval(_value(metric, answers), drawn, metric.videos(answers))


def _difference(
    metric: MetricDefinition, first: Answers, second: Answers, drawn: Values | None, other: Values | None
) -> Difference:
    if metric.hits is not None:
        before, after = metric.hits(first), metric.hits(second)
        return share_difference(int((after & ~before).sum()), int((before & ~after).sum()), len(before))
    if drawn is None or other is None:
        return independent_difference(_with_interval(metric, first, None), _with_interval(metric, second, None))
    return metric_difference(_value(metric, second) - _value(metric, first), other - drawn, metric.videos(first))


def _value(metric: MetricDefinition, answers: Answers) -> float:
    return float(metric.compute(Resamples(answers, each_once(len(answers.table.videos))))[0])


def _resampled(
    answers: Answers, metrics: Sequence[MetricDefinition], *, seed: int, resamples: int
) -> dict[str, Values]:
    """Return the values of metrics in resamples."""
    blocks = max(FEWEST_BLOCKS, MOST_LOOKUPS // (answers.table.logits.size * BLOCK))
    parts: dict[str, list[Values]] = {metric.key: [np.empty(0)] for metric in metrics}
    for i, counts in enumerate(resamples_of(len(answers.table.videos), seed=seed, resamples=resamples)):
        drawn = Resamples(answers, counts)
        for metric in metrics:
            if i < blocks or not metric.is_costly:
                parts[metric.key].append(metric.compute(drawn))
    return {key: np.concatenate(some) for key, some in parts.items()}


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
