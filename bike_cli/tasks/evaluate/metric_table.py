"""The table of all metrics; `measurement` computes them, with their intervals and paired comparisons.

To add a metric, write a function of `Resamples` and give it a row in `METRICS`.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray

from bike_cli.tasks.evaluate.answers import Answers, Resamples
from bike_cli.tasks.evaluate.metrics import TOP, divided
from bike_cli.tasks.evaluate.report import Metric
from bike_cli.tasks.evaluate.statistics.bootstrap import each_once
from bike_cli.tasks.evaluate.statistics.intervals import calibration_interval, loss_interval, mean_proportion_interval
from bike_cli.tasks.evaluate.statistics.reliability import Confidences, LogLosses

FEWEST_CALIBRATED = 20  # videos; of fewer, the intervals of the calibration error and of log loss are too narrow
INFINITE = 700.0  # nats: the score of the true class is 0

Hits = NDArray[np.bool_]  # per known video
Values = NDArray[np.float64]  # a metric in each resample, [R]; NaN where it is undefined


# -- the metrics -------------------------------------------------------------------------------------------------------
# Means over classes are over the classes that have a video in the resample.


def _macro_f1(drawn: Resamples) -> Values:
    f1 = divided(2 * drawn.correct, drawn.videos + drawn.guessed)
    return _mean_over_classes(np.where(drawn.videos > 0, f1, np.nan))


def _calibration_error(of: Callable[[Answers], Sequence[Confidences]]) -> Callable[[Resamples], Values]:
    """Return a function that computes the calibration error of parts of the videos, each of which counts the same."""

    def compute(drawn: Resamples) -> Values:
        parts = of(drawn.answers)
        excess = sum(part.mean_excess(drawn.counts) for part in parts)
        return np.asarray(np.abs(excess).sum(axis=0) / len(parts))

    return compute


def _mean_of(of: Callable[[Answers], NDArray[np.float64]]) -> Callable[[Resamples], Values]:
    """Return a function that computes the mean of a number per known video."""

    def compute(drawn: Resamples) -> Values:
        counts = drawn.counts[torch.from_numpy(drawn.answers.known)].double()
        return np.asarray((torch.from_numpy(of(drawn.answers)) @ counts / counts.sum(dim=0)).numpy())

    return compute


def _mean_over_classes(shares: NDArray[np.float64]) -> Values:
    """Return the mean of shares [C, R] over the classes where they are defined: [R]."""
    return divided(np.nansum(shares, axis=0), (~np.isnan(shares)).sum(axis=0))


# -- their intervals ---------------------------------------------------------------------------------------------------


def _mean_class_interval(answers: Answers) -> Metric:
    correct = np.bincount(answers.truth[answers.hits], minlength=len(answers.table.labels))
    return mean_proportion_interval(correct, answers.table.sizes)


def _calibration_interval(of: Callable[[Answers], Sequence[Confidences]]) -> Callable[[Answers], Metric]:
    def interval(answers: Answers) -> Metric:
        value = float(_calibration_error(of)(Resamples(answers, each_once(len(answers.table.videos))))[0])
        return calibration_interval(value, *((part.excess, part.values, part.bins) for part in of(answers)))

    return interval


# -- the table ---------------------------------------------------------------------------------------------------------


def _single_label(answers: Answers) -> bool:
    return not answers.table.multi_label


def _known(answers: Answers) -> int:
    return len(answers.known)


def _has_unknown(answers: Answers) -> bool:
    return _single_label(answers) and not bool(answers.labelled.all())


def _has_probabilities(answers: Answers) -> bool:
    return _single_label(answers) and len(answers.known) >= FEWEST_CALIBRATED and answers.has_scores


def _has_losses(answers: Answers) -> bool:
    return (
        _has_probabilities(answers) and answers.names_all and bool(answers.quality.log_losses.values.max() < INFINITE)
    )


def _loss_interval(losses: LogLosses) -> Metric:
    return loss_interval(losses.values, losses.of_mistakes)


def _has_scale(answers: Answers) -> bool:
    return answers.table.scale is not None


def _has_chances(answers: Answers) -> bool:
    return _has_probabilities(answers) and _has_unknown(answers) and answers.table.right is not None


def _scores(answers: Answers) -> Sequence[Confidences]:
    return (answers.quality.confidences,)


def _scores_before(answers: Answers) -> Sequence[Confidences]:
    return (answers.quality.confidences_before,)


def _all_scores(answers: Answers) -> Sequence[Confidences]:
    return answers.quality.confidences, answers.quality.confidences_of_none


def _chances(answers: Answers) -> Sequence[Confidences]:
    return answers.quality.chances


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
    unit: str = ""  # of a metric that is not a share
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
            _calibration_error(_scores),
            applies=_has_probabilities,
            interval=_calibration_interval(_scores),
            has_test=False,
            smaller_is_better=True,
        ),
        MetricDefinition(
            "ece_before",
            "calibration error before",
            "the calibration error without the scale of the calibration; smaller is better",
            _calibration_error(_scores_before),
            applies=lambda answers: _has_probabilities(answers) and _has_scale(answers),
            interval=_calibration_interval(_scores_before),
            has_test=False,
            smaller_is_better=True,
        ),
        MetricDefinition(
            "nll",
            "log loss",
            "mean of the negative logarithm of the score of the true class, in nats; smaller is better",
            _mean_of(lambda answers: answers.quality.log_losses.values),
            applies=_has_losses,
            interval=lambda answers: _loss_interval(answers.quality.log_losses),
            has_test=False,
            smaller_is_better=True,
            unit="nats",
        ),
        MetricDefinition(
            "nll_before",
            "log loss before",
            "the log loss without the scale of the calibration, in nats; smaller is better",
            _mean_of(lambda answers: answers.quality.log_losses_before.values),
            applies=lambda answers: _has_losses(answers) and _has_scale(answers),
            interval=lambda answers: _loss_interval(answers.quality.log_losses_before),
            has_test=False,
            smaller_is_better=True,
            unit="nats",
        ),
        MetricDefinition(
            "ece_none",
            "calibration error with none",
            "the calibration error over known and unknown videos, each of which count half; smaller is better",
            _calibration_error(_all_scores),
            applies=_has_chances,
            interval=_calibration_interval(_all_scores),
            has_test=False,
            smaller_is_better=True,
        ),
        MetricDefinition(
            "ece_right",
            "calibration error of right",
            "the same of the probability `right`, which a calibration with clips of none gives; smaller is better",
            _calibration_error(_chances),
            applies=_has_chances,
            interval=_calibration_interval(_chances),
            has_test=False,
            smaller_is_better=True,
        ),
        MetricDefinition(
            "brier",
            "Brier score",
            "half the squared distance of the scores from the truth, 0 to 1; smaller is better",
            _mean_of(lambda answers: answers.squared_errors),
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


OPEN_SET = ("top1", *(key for key in METRICS if key.startswith(("auroc", "fpr95", "top1_", "rejected_"))))


def metrics_of(answers: Answers) -> list[MetricDefinition]:
    """Return the metrics that apply, the most important first: with several labels per video that is mAP."""
    metrics = [metric for metric in METRICS.values() if metric.applies(answers)]
    return sorted(metrics, key=lambda metric: metric.key != "map") if answers.table.multi_label else metrics
