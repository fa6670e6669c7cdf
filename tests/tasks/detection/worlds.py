"""Random videos with true and detected segments, for the tests of detections."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from bike_cli.data.detection.annotation_formats import TrueSegment
from bike_cli.data.detection.detection_sets import AnnotatedVideo, DetectionSet
from bike_cli.data.detection.detections import DetectedVideo, Detections, ScoredSegment

DURATION_S = 40.0

Videos = Sequence[Sequence[tuple[object, ...]]]  # the segments of each video: (label, start, end[, score])


@dataclass(frozen=True)
class World:
    """The true and the detected segments of each video."""

    true: list[list[TrueSegment]]
    detected: list[list[ScoredSegment]]

    @property
    def truth(self) -> DetectionSet:
        return truth_of(self.true)

    @property
    def detections(self) -> Detections:
        return detections_of(self.detected)


def truth_of(videos: Videos, *, duration_s: float | None = DURATION_S) -> DetectionSet:
    """Return videos that are named `0`, `1`, … with these true segments."""
    rows = [tuple(TrueSegment(*segment) for segment in segments) for segments in videos]  # type: ignore[arg-type]
    labels = sorted({segment.label for segments in rows for segment in segments})
    named = (AnnotatedVideo(str(i), str(i), segments, duration_s) for i, segments in enumerate(rows))
    return DetectionSet("truth", tuple(labels), tuple(named), by_id=True)


def detections_of(videos: Videos, *, name: str = "found") -> Detections:
    """Return what a system detected in videos that are named `0`, `1`, …."""
    rows = [tuple(ScoredSegment(*segment) for segment in segments) for segments in videos]  # type: ignore[arg-type]
    return Detections(name, tuple(DetectedVideo(str(i), segments) for i, segments in enumerate(rows)))


def world(seed: int, *, videos: int = 6, labels: int = 3, decimals: int = 2, grid: float = 0.25) -> World:
    """Return a world with ties where `decimals` of scores or the grid of times are coarse."""
    rng = np.random.default_rng(seed)

    def times(start: float, end: float) -> tuple[float, float]:
        low = float(np.clip(np.round(start / grid) * grid, 0, DURATION_S - grid))
        return low, float(np.clip(np.round(end / grid) * grid, low + grid, DURATION_S))

    true: list[list[TrueSegment]] = [[] for _ in range(videos)]
    detected: list[list[ScoredSegment]] = [[] for _ in range(videos)]
    for video in range(videos - 1):  # the last one is without a label
        for _ in range(rng.integers(1, 8)):
            start = rng.uniform(0, 30)
            label = f"label {rng.integers(labels)}"
            segment = TrueSegment(label, *times(start, start + rng.uniform(1, 9)))
            true[video].append(segment)
            for _ in range(rng.integers(0, 3)):
                bounds = times(*(rng.normal((segment.start_s, segment.end_s), 0.6)))
                detected[video].append(ScoredSegment(label, *bounds, round(float(rng.random()), decimals)))
    for video in range(videos):
        for _ in range(rng.integers(0, 3)):
            start = rng.uniform(0, 30)
            bounds = times(start, start + rng.uniform(1, 9))
            label = f"label {rng.integers(labels)}"
            detected[video].append(ScoredSegment(label, *bounds, round(float(rng.random()), decimals)))
    return World(true, detected)
