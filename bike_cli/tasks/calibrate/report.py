"""The report of a calibration: what it promises, and how good the probabilities are."""

from __future__ import annotations

import json
import math
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from scipy import special

from bike_cli.engine.calibration.calibration import Calibration, fewest_clips, rejected_ranks
from bike_cli.engine.calibration.files import write_calibration
from bike_cli.engine.calibration.fitting import fit_curve, fit_scale, half_each, softmax
from bike_cli.engine.calibration.quality import (
    calibration_error,
    cross_fitted,
    log_loss,
    rejected_by_others,
)
from bike_cli.records import Failure
from bike_cli.tasks.calibrate.clips import Scored
from bike_cli.tasks.evaluate.answers import Answers
from bike_cli.tasks.evaluate.measurement import measure_some
from bike_cli.tasks.evaluate.metric_table import METRICS
from bike_cli.tasks.evaluate.metrics import Mean, share_of
from bike_cli.tasks.evaluate.report import Metric
from bike_cli.tasks.evaluate.score_table import ScoreTable
from bike_cli.versions import versions

PROMISES = (0.05, 0.1)  # are always reported


@dataclass(frozen=True)
class Promise:
    """What rejecting below a threshold costs. Shares are of known clips like those of the calibration.

    Args:
        promise: share that may be lost, on average over calibrations.
        fewest: the smallest number of known clips for which a threshold exists.
        threshold: a clip is rejected where its score is below; None with fewer clips, as are the next three.
        expected: share that is lost, on average over calibrations with as many clips.
        low, high: the share that is lost lies between them in 95 % of such calibrations.
        left_out: share of the clips that the threshold of all others rejects, with its error; None if those are too
            few.
        caught: number of clips that show none of the labels and are rejected; None without such clips.
    """

    promise: float
    fewest: int
    threshold: float | None = None
    expected: float | None = None
    low: float | None = None
    high: float | None = None
    left_out: Mean | None = None
    caught: int | None = None


@dataclass(frozen=True)
class Quality:
    """How good probabilities are: expected calibration error (15 bins) and, of the true label, mean log loss."""

    calibration_error: float
    log_loss: float


@dataclass(frozen=True)
class Separation:
    """How far known clips and clips that show none of the labels are apart.

    Args:
        auroc: probability that a known clip has the higher score, with its 95 % interval.
        fpr95: share of the others that a threshold keeps which keeps 95 % of the known, with its 95 % interval.
        before: calibration error of the best label's probability, where both kinds of clips count half.
        after: that of the curve, fitted to other clips than those it is applied to.
    """

    auroc: Metric
    fpr95: Metric
    before: float
    after: float


@dataclass(frozen=True, eq=False)
class CalibrationReport:
    """A calibration, and what is known about it. All shares are from 0 to 1.

    Args:
        calibration: what `bike classify --calibration` reads.
        known: number of clips with a label.
        available: number of such clips in the data, of which at most 10,000 are drawn.
        unknown: number of clips that show none of the labels.
        per_class: number of known clips of each label.
        accuracy: share of known clips whose best label is their own.
        promises: for the calibration's own promise, 5 % and 10 %.
        before, after: quality of the probabilities of known clips, without and with the scale. The scale of each clip
            is fitted to others.
        separation: None without clips that show none of the labels.
        failed: clips that could not be read.
        copies: pairs of a copy, and the clip with the same content that counts instead.
        learned: clips that are left out because the classifier was trained on them.
    """

    calibration: Calibration
    known: int
    available: int
    unknown: int
    per_class: tuple[int, ...]
    accuracy: Mean
    promises: tuple[Promise, ...]
    before: Quality
    after: Quality
    separation: Separation | None
    failed: tuple[Failure, ...]
    copies: tuple[tuple[str, str], ...]
    learned: tuple[str, ...] = ()

    def save(self, path: str | Path) -> None:
        """Write the calibration to a file, as `bike calibrate --save` does.

        Raises:
            UsageError: a file that cannot be written.
        """
        write_calibration(path, self.calibration)

    def to_json(self) -> str:
        """Return the report as one line of JSON, without the scores and digests of clips."""
        calibration, separation = self.calibration, self.separation
        document = {
            "command": "calibrate",
            "conditions": dict(calibration.conditions),
            "promise": calibration.promise,
            "scale": _rounded(calibration.scale),
            "curve": None if calibration.curve is None else asdict(calibration.curve),
            "clips": {"known": self.known, "available": self.available, "unknown": self.unknown},
            "classes": [
                {"label": label, "clips": clips}
                for label, clips in zip(calibration.labels, self.per_class, strict=True)
            ],
            "accuracy": _mean(self.accuracy),
            "promises": [_promise(row, calibration) for row in self.promises],
            "before": _rounded_all(asdict(self.before)),
            "after": _rounded_all(asdict(self.after)),
            "separation": None if separation is None else _separation(separation),
            "failed": [failure.to_json() for failure in self.failed],
            "measure": calibration.measure,
            "learned": list(self.learned),
            "copies": [{"path": copy, "same_as": original} for copy, original in self.copies],
            "versions": versions(),
        }
        return json.dumps(document, ensure_ascii=False, allow_nan=False)


def promises_of(values: NDArray[np.float64], unknown: NDArray[np.float64], own: float) -> tuple[Promise, ...]:
    """Return what the calibration's own promise, 5 % and 10 % cost.

    Args:
        values: [n], ascending scores of known clips.
        unknown: [m], scores of clips that show none of the labels.
    """
    return tuple(_promise_of(promise, values, unknown) for promise in sorted({own, *PROMISES}))


def _promise_of(promise: float, values: NDArray[np.float64], unknown: NDArray[np.float64]) -> Promise:
    clips, fewest = len(values), fewest_clips(promise)
    if clips < fewest:
        return Promise(promise, fewest)
    rank = rejected_ranks(promise, clips)
    threshold = float(values[rank - 1])
    # Of exchangeable clips without ties, the share below the k-th of n has this distribution.
    low, high = (float(special.betaincinv(rank, clips + 1 - rank, level)) for level in (0.025, 0.975))
    return Promise(
        promise,
        fewest,
        threshold,
        expected=rank / (clips + 1),
        low=low,
        high=high,
        left_out=share_of(rejected_by_others(values, promise)) if clips > fewest else None,
        caught=int((unknown < threshold).sum()) if len(unknown) else None,
    )


def qualities_of(known: Scored) -> tuple[Quality, Quality]:
    """Return the quality of probabilities without a scale, and with one that is fitted to other clips."""

    def fit(places: NDArray[np.int64]) -> float:
        return fit_scale(known.logits[places], known.truth[places])

    scales = cross_fitted(fit, lambda scale, places: np.full(len(places), scale), len(known.truth))
    return _quality(known, np.ones(len(scales))), _quality(known, scales)


def _quality(known: Scored, scales: NDArray[np.float64]) -> Quality:
    logits = scales[:, None] * known.logits
    return Quality(
        calibration_error(softmax(logits).max(axis=1), known.correct), float(log_loss(logits, known.truth).mean())
    )


def separation_of(all_clips: Scored, is_known: NDArray[np.bool_]) -> Separation | None:
    """Return how far known clips and others are apart; None if there are no others."""
    if is_known.all():
        return None
    values, correct = all_clips.values, all_clips.correct

    def predict(places: NDArray[np.int64], held_out: NDArray[np.int64]) -> NDArray[np.float64]:
        curve = fit_curve(values[places], correct[places], is_known[places])
        return np.array([curve.at(value) for value in values[held_out].tolist()])

    labels, videos = (tuple(map(str, range(n))) for n in reversed(all_clips.logits.shape))
    answers = Answers(ScoreTable(labels, videos, all_clips.logits, all_clips.truth, best_cosines=values))
    metrics = measure_some(answers, [METRICS["auroc_cosine"], METRICS["fpr95_cosine"]])
    weights = half_each(is_known)
    chances = cross_fitted(lambda places: places, predict, len(values))
    return Separation(
        auroc=metrics["auroc_cosine"],
        fpr95=metrics["fpr95_cosine"],
        before=calibration_error(softmax(all_clips.logits).max(axis=1), correct, weights),
        after=calibration_error(chances, correct, weights),
    )


def few_clips(report: CalibrationReport, fewest: int) -> list[str]:
    """Return the labels with fewer known clips than that."""
    pairs: Sequence[tuple[str, int]] = list(zip(report.calibration.labels, report.per_class, strict=True))
    return [label for label, clips in pairs if clips < fewest]


def _promise(row: Promise, calibration: Calibration) -> dict[str, object]:
    numbers = {name: value for name, value in asdict(row).items() if name != "left_out"}
    left_out = None if row.left_out is None else _mean(row.left_out)
    threshold = None if row.threshold is None else calibration.shown(row.threshold)
    return {**_rounded_all(numbers), "threshold": threshold, "left_out": left_out}


def _separation(separation: Separation) -> dict[str, object]:
    metrics = {name: _rounded_all(asdict(getattr(separation, name))) for name in ("auroc", "fpr95")}
    return {**metrics, "before": _rounded(separation.before), "after": _rounded(separation.after)}


def _mean(mean: Mean) -> dict[str, object]:
    return _rounded_all({name: getattr(mean, name) for name in ("value", "error", "low", "high")})


def _rounded_all(values: dict[str, float | None]) -> dict[str, object]:
    return {name: _rounded(value) for name, value in values.items()}


def _rounded(number: float | None) -> float | None:
    return None if number is None or not math.isfinite(number) else round(number, 6)
