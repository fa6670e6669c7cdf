"""The metrics of detections, in resamples of videos; their intervals and paired comparisons follow from them."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from functools import cached_property
from typing import Literal

import numpy as np

from bike_cli.config.thresholds import Thresholds
from bike_cli.tasks.detection.alignment import Aligned
from bike_cli.tasks.detection.average_precision import average_precisions, mean_over_labels
from bike_cli.tasks.detection.frames import FrameCounts, count_frames, is_label_free
from bike_cli.tasks.detection.matching import RankedSegments, match_segments
from bike_cli.tasks.detection.segments import Floats, Ints, Segments
from bike_cli.tasks.evaluate.metrics import divided
from bike_cli.tasks.evaluate.report import Metric
from bike_cli.tasks.evaluate.statistics.bootstrap import resamples_of
from bike_cli.tasks.evaluate.statistics.intervals import TAIL, Difference, bootstrap_interval, metric_difference

MOST_SUMMANDS, FEWEST_RESAMPLES = 10**8, 256  # of all resamples together
MATCHED_AT = 0.5  # tIoU of segments that count as found in all metrics but mAP

Values = Mapping[str, Floats]  # metrics by key, in each resample: [R]; NaN where undefined


@dataclass(frozen=True, eq=False)
class Outcome:
    """What one system detected in V videos, and what of it is correct.

    Args:
        ranked: the segments at the thresholds of mAP.
        matched: the same at `MATCHED_AT` alone.
        frames: steps of each annotated video; further videos do not count there.
        is_free: whether each annotated video has no true segment.
    """

    ranked: RankedSegments
    matched: RankedSegments
    thresholds: Thresholds
    labels: int
    annotated: int
    videos: int
    frames: FrameCounts
    is_free: np.ndarray

    @property
    def summands(self) -> int:
        """The number of terms in the sums of a resample."""
        return len(self.ranked.detected) + int((self.ranked.partners >= 0).sum()) + 2 * int(self.matches.sum())

    @cached_property
    def matches(self) -> Floats:
        """The number of matched segments of each annotated video, [V]."""
        videos = self.matched.detected.videos[self.matched.partners[0] >= 0]
        return np.bincount(videos, minlength=self.annotated).astype(np.float64)

    @cached_property
    def errors(self) -> tuple[Floats, Ints]:
        """The distances in seconds of both bounds of found segments from the true ones, ascending, and their videos."""
        places = np.flatnonzero(self.matched.partners[0] >= 0)
        found, true = self.matched.detected.at(places), self.matched.true.at(self.matched.partners[0][places])
        errors = np.abs(np.concatenate([found.starts - true.starts, found.ends - true.ends]))
        order = np.argsort(errors, kind="stable")
        return errors[order], np.concatenate([found.videos, found.videos])[order]


def outcome_of(aligned: Aligned, detected: Segments, thresholds: Thresholds, *, official: bool) -> Outcome:
    """Return the outcome of one system."""
    ranked = match_segments(aligned.true, detected, list(thresholds.values.values()), official=official)
    of_annotated = detected.at(detected.videos < aligned.annotated)
    true = aligned.true.at(aligned.true.have_length)
    return Outcome(
        ranked,
        match_segments(true, of_annotated, [MATCHED_AT], official=official),
        thresholds,
        len(aligned.labels),
        aligned.annotated,
        aligned.videos,
        count_frames(true, of_annotated, aligned.durations),
        is_label_free(true, aligned.annotated),
    )


# -- the metrics -------------------------------------------------------------------------------------------------------
# Each takes the counts of annotated videos, float64 [R, V], and returns [R].


def _frame_f1(outcome: Outcome, counts: Floats) -> Floats:
    frames = outcome.frames
    return divided(2 * counts @ frames.both, counts @ (frames.true + frames.detected))


def _nothing_precision(outcome: Outcome, counts: Floats) -> Floats:
    return divided(counts @ outcome.frames.nothing_both, counts @ outcome.frames.nothing_detected)


def _nothing_recall(outcome: Outcome, counts: Floats) -> Floats:
    return divided(counts @ outcome.frames.nothing_both, counts @ outcome.frames.nothing_true)


def _segment_precision(outcome: Outcome, counts: Floats) -> Floats:
    return divided(counts @ outcome.matches, counts @ _per_video(outcome.matched.detected.videos, outcome))


def _segment_recall(outcome: Outcome, counts: Floats) -> Floats:
    return divided(counts @ outcome.matches, counts @ _per_video(outcome.matched.true.videos, outcome))


def _per_video(videos: Ints, outcome: Outcome) -> Floats:
    return np.bincount(videos, minlength=outcome.annotated).astype(np.float64)


def _boundary_error(outcome: Outcome, counts: Floats) -> Floats:
    errors, videos = outcome.errors
    if not len(errors):
        return np.full(len(counts), np.nan)
    through = np.cumsum(counts[:, videos], axis=1)  # [R, n]
    total = through[:, -1:]
    middle = [errors[(through > place).argmax(axis=1)] for place in ((total - 1) // 2, total // 2)]
    return np.where(total[:, 0] > 0, (middle[0] + middle[1]) / 2, np.nan)


def _label_free_detected(outcome: Outcome, counts: Floats) -> Floats:
    counts = counts[:, outcome.is_free]
    steps, nothing = outcome.frames.steps[outcome.is_free], outcome.frames.nothing_detected[outcome.is_free]
    return divided(counts @ (steps - nothing), counts @ steps)


@dataclass(frozen=True)
class DetectionMetric:
    """One metric.

    Args:
        key: its name in reports.
        name: its name for people.
        meaning: a phrase that explains it.
        compute: returns its value in each resample, [R].
        unit: a share, or seconds.
    """

    key: str
    name: str
    meaning: str
    compute: Callable[[Outcome, Floats], Floats]
    unit: Literal["share", "s"] = "share"
    smaller_is_better: bool = False
    of_free_videos: bool = False  # whether it depends on videos without a true segment alone


DETECTION_METRICS = {
    metric.key: metric
    for metric in (
        DetectionMetric(
            "frame_f1",
            "frame F1",
            "harmonic mean of precision and recall, over all labels and steps of 0.1 s together",
            _frame_f1,
        ),
        DetectionMetric(
            "nothing_precision",
            "nothing here, precision",
            "share of the time without a detected label that truly has none",
            _nothing_precision,
        ),
        DetectionMetric(
            "nothing_recall",
            "nothing here, recall",
            "share of the time without a true label that has no detected one",
            _nothing_recall,
        ),
        DetectionMetric(
            "segment_precision",
            "segment precision",
            "share of detected segments that match a true one with tIoU of at least 0.5",
            _segment_precision,
        ),
        DetectionMetric(
            "segment_recall",
            "segment recall",
            "share of true segments that match a detected one with tIoU of at least 0.5",
            _segment_recall,
        ),
        DetectionMetric(
            "boundary_error_s",
            "boundary error",
            "median distance of the starts and ends of matched segments from the true ones, in seconds",
            _boundary_error,
            unit="s",
            smaller_is_better=True,
        ),
        DetectionMetric(
            "label_free_detected",
            "label-free time with a label",
            "share of the time of videos without a true segment that has a detected label",
            _label_free_detected,
            smaller_is_better=True,
            of_free_videos=True,
        ),
    )
}


def map_key(name: str) -> str:
    """Return the key of mAP at a threshold, or of a mean of mAP, by its name in `Thresholds`: `map@0.5`."""
    return f"map@{name}"


def detection_metric_name(key: str) -> str | None:
    """Return the name of a metric for people, `mAP 0.5` for `map@0.5`; None for a key that is not of detections."""
    if key in DETECTION_METRICS:
        return DETECTION_METRICS[key].name
    name, mark, threshold = key.partition("@")
    return f"mAP {threshold}" if name == "map" and mark else None


def deciding_key(thresholds: Thresholds) -> str:
    """Return the key of the metric that decides whether systems differ: the first mean, or the only threshold."""
    return map_key(next(iter([*thresholds.means, *thresholds.values])))


def values_of(outcome: Outcome, counts: Floats) -> Values:
    """Return every metric in each resample.

    Args:
        counts: float64 [R, V], how often each video is drawn, further videos included.
    """
    thresholds = outcome.thresholds
    rows = mean_over_labels(average_precisions(outcome.ranked, counts, labels=outcome.labels))
    by_name = dict(zip(thresholds.values, rows, strict=True))
    means = {name: np.mean([by_name[one] for one in some], axis=0) for name, some in thresholds.means.items()}
    values = {map_key(name): value for name, value in {**means, **by_name}.items()}
    annotated = counts[:, : outcome.annotated]
    return values | {key: metric.compute(outcome, annotated) for key, metric in DETECTION_METRICS.items()}


def values_of_all(outcome: Outcome) -> dict[str, float]:
    """Return every metric of all videos, without those that are undefined."""
    values = values_of(outcome, np.ones((1, outcome.videos)))
    return {key: float(value[0]) for key, value in values.items() if not math.isnan(value[0])}


def resampled_values(outcomes: list[Outcome], *, seed: int, resamples: int) -> Iterator[Values]:
    """Yield every metric of each system in the same resamples.

    Of very many segments, fewer resamples are taken, but at least `FEWEST_RESAMPLES`.
    """
    blocks: list[list[Values]] = [[] for _ in outcomes]
    most = max(FEWEST_RESAMPLES, MOST_SUMMANDS // max(1, sum(outcome.summands for outcome in outcomes)))
    for counts in resamples_of(outcomes[0].videos, seed=seed, resamples=min(resamples, most)):
        drawn = np.ascontiguousarray(counts.numpy().T, dtype=np.float64)
        for parts, outcome in zip(blocks, outcomes, strict=True):
            parts.append(values_of(outcome, drawn))
    for parts in blocks:
        yield {key: np.concatenate([part[key] for part in parts]) for key in parts[0]}


# -- intervals and comparisons -----------------------------------------------------------------------------------------


def interval(key: str, value: float, drawn: Floats, outcome: Outcome) -> Metric:
    """Return a metric with its 95 % interval: that of `bootstrap_interval`, or percentiles for one in seconds.

    Interpolated average precision of few segments is too high. By how much resamples exceed the value estimates a part
    of this bias, and the interval of mAP lies lower by as much; see `benchmarks/detection_coverage.py`.
    """
    metric, videos = DETECTION_METRICS.get(key), videos_behind(key, outcome)
    if metric is None:
        known = drawn[~np.isnan(drawn)]
        bias = float(known.mean()) - value if len(known) else 0.0
        lower = bootstrap_interval(min(max(value - bias, 0.0), 1.0), drawn, videos)
        return Metric(value, min(lower.low, value), max(lower.high, value))
    if metric.unit == "s":
        return Metric(value, *_percentiles(drawn, value))
    return bootstrap_interval(value, drawn, videos)


def difference(key: str, value: float, drawn: Floats, outcome: Outcome) -> Difference:
    """Return the difference of a metric between two systems, from its values in resamples."""
    metric = DETECTION_METRICS.get(key)
    if metric is not None and metric.unit == "s":
        return Difference(value, *_percentiles(drawn, value), None)
    return metric_difference(value, drawn, videos_behind(key, outcome))


def videos_behind(key: str, outcome: Outcome) -> int:
    """Return the number of videos that a metric depends on."""
    metric = DETECTION_METRICS.get(key)
    if metric is None:
        return outcome.videos
    return int(outcome.is_free.sum()) if metric.of_free_videos else outcome.annotated


def _percentiles(drawn: Floats, value: float) -> tuple[float, float]:
    """Return the ends of the interval between percentiles, which includes the value."""
    low, high = np.quantile(np.append(drawn[~np.isnan(drawn)], value), [TAIL, 1 - TAIL])
    return min(float(low), value), max(float(high), value)
