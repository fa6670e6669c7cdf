"""Metrics of tables of scores, with their intervals and paired comparisons."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import replace

import numpy as np

from bike_cli.config import EvalConfig
from bike_cli.tasks.evaluate.answers import Answers, Resamples
from bike_cli.tasks.evaluate.metric_table import MetricDefinition, Values, metrics_of
from bike_cli.tasks.evaluate.metrics import average_precision, divided
from bike_cli.tasks.evaluate.report import (
    ClassMetrics,
    Comparison,
    Confusion,
    Metric,
    ReliabilityBin,
    SystemResult,
)
from bike_cli.tasks.evaluate.score_table import ScoreTable, aligned
from bike_cli.tasks.evaluate.statistics.bootstrap import BLOCK, each_once, resamples_of
from bike_cli.tasks.evaluate.statistics.intervals import (
    Difference,
    bootstrap_interval,
    holm,
    independent_difference,
    metric_difference,
    proportion_interval,
    share_difference,
)
from bike_cli.tasks.evaluate.statistics.reliability import Confidences

RESAMPLES = EvalConfig.resamples
MOST_LOOKUPS = 10**10  # what the interval of a costly metric may take
FEWEST_BLOCKS = 4
SIGNIFICANT = 0.05


def measure(table: ScoreTable, name: str = "", *, seed: int = 0, resamples: int = RESAMPLES) -> SystemResult:
    """Return every metric of a table with its 95 % interval over videos, and those of each class.

    The same table, seed and number of resamples give the same digits. With very many videos and classes, the interval
    of `map` is computed from the first resamples: 256 for 100,000 videos and 400 classes.

    Raises:
        UsageError: no video has a label.
    """
    answers = Answers(table)
    metrics = measure_some(answers, metrics_of(answers), seed=seed, resamples=resamples)
    confusion = None if table.multi_label else Confusion.of_videos(answers.truth, answers.guesses)
    return SystemResult(name, metrics, _class_metrics(answers), confusion, reliability=_reliability(answers))


def measure_some(
    answers: Answers, metrics: Sequence[MetricDefinition], *, seed: int = 0, resamples: int = RESAMPLES
) -> dict[str, Metric]:
    """Return some of the metrics that apply, with their 95 % intervals over videos, by key."""
    resampled = [metric for metric in metrics if metric.hits is None and metric.interval is None]
    drawn = _resampled(answers, resampled, seed=seed, resamples=resamples)
    return {metric.key: _with_interval(metric, answers, drawn.get(metric.key)) for metric in metrics}


def values_of(answers: Answers, metrics: Sequence[MetricDefinition]) -> dict[str, float]:
    """Return some of the metrics that apply, without intervals, by key."""
    return {metric.key: _value(metric, answers) for metric in metrics}


def _reliability(answers: Answers) -> dict[str, tuple[ReliabilityBin, ...]] | None:
    if answers.table.multi_label or not answers.has_scores:
        return None
    diagrams = {"scores": answers.quality.confidences.diagram()}
    if answers.table.scale is not None:
        diagrams["before"] = answers.quality.confidences_before.diagram()
    if answers.table.right is not None:
        known, none = answers.quality.chances
        diagrams["right"] = Confidences.together(known, none).diagram()
    return diagrams


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
    blocks = max(FEWEST_BLOCKS, MOST_LOOKUPS // (len(answers.table.videos) * len(answers.table.labels) * BLOCK))
    parts: dict[str, list[Values]] = {metric.key: [np.empty(0)] for metric in metrics}
    for i, counts in enumerate(resamples_of(len(answers.table.videos), seed=seed, resamples=resamples)):
        drawn = Resamples(answers, counts)
        for metric in metrics:
            if i < blocks or not metric.is_costly:
                parts[metric.key].append(metric.compute(drawn))
    return {key: np.concatenate(some) for key, some in parts.items()}


def _class_metrics(answers: Answers) -> tuple[ClassMetrics, ...]:
    labels, videos = answers.table.labels, answers.table.sizes
    recalls = precisions = f1 = averages = np.full(len(labels), np.nan)
    if answers.names_all:
        averages = np.array([average_precision(ranked) for ranked in answers.rankings])
    if not answers.table.multi_label:
        correct = np.bincount(answers.truth[answers.hits], minlength=len(labels))
        guessed = np.bincount(answers.guesses, minlength=len(labels))
        recalls, precisions = divided(correct, videos), divided(correct, guessed)
        f1 = divided(np.where(videos > 0, 2.0 * correct, np.nan), videos + guessed)
    columns = zip(recalls.tolist(), precisions.tolist(), f1.tolist(), averages.tolist(), strict=True)
    rows = ([None if math.isnan(value) else value for value in row] for row in columns)
    return tuple(
        ClassMetrics(label, count, *row) for label, count, row in zip(labels, videos.tolist(), rows, strict=True)
    )
