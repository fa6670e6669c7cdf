"""Evaluate detected segments against true ones."""

from __future__ import annotations

import hashlib
from collections.abc import Iterator, Mapping, Sequence

import numpy as np

from bike_cli.config import EvalConfig
from bike_cli.config.thresholds import Thresholds
from bike_cli.data.detection.detection_sets import DetectionSet
from bike_cli.data.detection.detections import Detections
from bike_cli.engine.engine import Engine
from bike_cli.tasks.detection.alignment import Aligned, align
from bike_cli.tasks.detection.average_precision import average_precisions
from bike_cli.tasks.detection.metrics import (
    Outcome,
    Values,
    deciding_key,
    difference,
    interval,
    outcome_of,
    resampled_values,
    values_of_all,
)
from bike_cli.tasks.detection.report import (
    PROTOCOL,
    DetectionClass,
    DetectionData,
    DetectionReport,
    DetectionSystem,
)
from bike_cli.tasks.detection.segments import Segments
from bike_cli.tasks.evaluate.measurement import mark_significant
from bike_cli.tasks.evaluate.report import Comparison, FailedVideo, Value
from bike_cli.tasks.evaluate.summary import bytes_of, manifest_of


def evaluate_detections(
    detections: Detections | Sequence[Detections],
    truth: DetectionSet,
    config: EvalConfig | None = None,
    *,
    engine: Engine | None = None,
    files: Sequence[str] = (),
    contents: str | None = None,
    arguments: Mapping[str, Value] | None = None,
) -> DetectionReport:
    """Return the metrics of one system or several, each compared with the first.

    All systems are evaluated on the same videos: the annotated ones that none of them failed on. A video without an
    answer has no detections. Log warnings name what is probably a mistake, and the report counts it.

    Args:
        detections: see `read_detections` and `Detections.of_answers`; the names of several systems differ.
        truth: see `read_detection_set`.
        config: `tiou`, `official`, `seed` and `resamples` count; None: the defaults.
        engine: the engine that detected the segments of the first system; None: unknown.
        files, contents, arguments: for the report: the files as given, the hash of their contents, and the command.
    Raises:
        UsageError: a video or a label is ambiguous, or nothing is left to evaluate.
        ValueError: no system.
    """
    systems = [detections] if isinstance(detections, Detections) else list(detections)
    if not systems:
        raise ValueError("detections is empty; give one system or more")
    config = EvalConfig(protocol="detection") if config is None else config
    thresholds = Thresholds.parse(config.tiou)
    aligned = align(systems, truth, official=config.official)
    outcomes = [outcome_of(aligned, one, thresholds, official=config.official) for one in aligned.detected]
    values = [values_of_all(outcome) for outcome in outcomes]
    drawn = list(resampled_values(outcomes, seed=config.seed, resamples=config.resamples))
    results = tuple(map(_result, systems, [aligned] * len(systems), outcomes, values, drawn))
    names, key = [system.name for system in systems], deciding_key(thresholds)
    compared = [row for i in range(1, len(systems)) for row in _compare(i, names, aligned, outcomes, values, drawn)]
    comparisons = tuple(mark_significant(compared, key))
    models = ", ".join(dict.fromkeys(model for system in systems for model in system.models))
    return DetectionReport(
        PROTOCOL,
        manifest_of(config, engine=engine, model=models, arguments=arguments),
        _describe(aligned, truth, files, contents),
        thresholds.values,
        results,
        comparisons,
        key if comparisons else None,
    )


def _result(
    system: Detections, aligned: Aligned, outcome: Outcome, values: Mapping[str, float], drawn: Values
) -> DetectionSystem:
    metrics = {key: interval(key, value, drawn[key], outcome) for key, value in values.items()}
    return DetectionSystem(
        system.name,
        metrics,
        tuple(_classes(aligned, outcome)),
        len(outcome.matched.detected),
        ", ".join(system.models) or None,
        ", ".join(system.settings) or None,
    )


def _classes(aligned: Aligned, outcome: Outcome) -> Iterator[DetectionClass]:
    """Yield every label with a true or a detected segment, sorted."""
    thresholds, labels = outcome.thresholds, len(aligned.labels)
    all_once = np.ones((1, outcome.videos))
    precisions = average_precisions(outcome.ranked, all_once, labels=labels)[:, :, 0]
    true, detected = (
        np.bincount(some.labels, minlength=labels).tolist() for some in (outcome.ranked.true, outcome.matched.detected)
    )
    means = next(iter(thresholds.means.values()), tuple(thresholds.values))
    for place in sorted(range(labels), key=lambda i: aligned.labels[i]):
        if not true[place] and not detected[place]:
            continue
        by_tiou = dict(zip(thresholds.values, precisions[:, place].tolist(), strict=True)) if true[place] else {}
        mean = float(np.mean([by_tiou[name] for name in means])) if by_tiou else None
        yield DetectionClass(aligned.labels[place], true[place], detected[place], mean, by_tiou)


def _compare(
    place: int,
    names: Sequence[str],
    aligned: Aligned,
    outcomes: Sequence[Outcome],
    values: Sequence[Mapping[str, float]],
    drawn: Sequence[Values],
) -> Iterator[Comparison]:
    """Yield by how much a system exceeds the first in each metric that both have."""
    differing = _differing(aligned.detected[0], aligned.detected[place], aligned.annotated)
    for key, value in values[place].items():
        if key not in values[0]:
            continue
        gain = difference(key, value - values[0][key], drawn[place][key] - drawn[0][key], outcomes[0])
        yield Comparison(
            names[0],
            names[place],
            key,
            gain.value,
            gain.low,
            gain.high,
            gain.p,
            aligned.annotated,
            0,
            differing=differing,
        )


def _differing(first: Segments, other: Segments, videos: int) -> int:
    """Return the number of videos in which two systems detected different segments."""
    rows = [set(zip(*(a.tolist() for a in _columns(some)), strict=True)) for some in (first, other)]
    return len({video for video, *_ in rows[0] ^ rows[1] if video < videos})


def _columns(some: Segments) -> tuple[np.ndarray, ...]:
    return some.videos, some.labels, some.starts, some.ends, some.scores


def _describe(aligned: Aligned, truth: DetectionSet, files: Sequence[str], contents: str | None) -> DetectionData:
    digest = hashlib.sha256()
    for video in truth.videos:
        digest.update(bytes_of(f"\1{video.name}\0{video.duration_s}"))
        for segment in video.segments:
            digest.update(bytes_of(f"\2{segment.label}\0{segment.start_s}\0{segment.end_s}"))
    used = set(aligned.true.labels.tolist())
    has_segment = np.bincount(aligned.true.at(aligned.true.have_length).videos, minlength=aligned.annotated) > 0
    return DetectionData(
        tuple(files) or (truth.origin,),
        truth.subset,
        digest.hexdigest(),
        contents,
        aligned.annotated,
        int((~has_segment).sum()),
        len(aligned.true),
        len(used),
        float(aligned.durations.sum()),
        tuple(label for place, label in enumerate(truth.labels) if place not in used),
        tuple(FailedVideo(f.source.id, f.kind, f.message) for f in aligned.failures),
        aligned.problems,
    )
