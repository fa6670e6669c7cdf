"""How often what `bike eval --protocol detection` says is true: `python -m benchmarks.detection_coverage`.

The program simulates videos with true segments, and systems that miss some, shift their bounds and detect others. It
counts how often 95 % intervals contain the metric of 5,000 videos, and how often two systems of equal skill are said to
differ significantly.
"""

from __future__ import annotations

import argparse
import logging
import os
from collections.abc import Sequence
from concurrent.futures import ProcessPoolExecutor
from dataclasses import dataclass
from functools import cache, partial

import numpy as np
import torch

from bike_cli.config import EvalConfig
from bike_cli.data.detection.annotation_formats import TrueSegment
from bike_cli.data.detection.detection_sets import AnnotatedVideo, DetectionSet
from bike_cli.data.detection.detections import DetectedVideo, Detections, ScoredSegment
from bike_cli.tasks.detection.evaluation import evaluate_detections
from bike_cli.tasks.detection.report import DetectionReport

RESAMPLES = 200  # enough for a standard error
TRUTH_VIDEOS = 5000
DURATION_S = 60.0
METRICS = (
    *("map@0.5:0.95", "map@0.3:0.7", "map@0.5", "map@0.95", "frame_f1", "nothing_precision", "nothing_recall"),
    *("segment_precision", "segment_recall", "boundary_error_s", "label_free_detected"),
)


@dataclass(frozen=True)
class DetectionWorld:
    """Videos with about 3.4 segments each, of equally frequent classes; 15 % have none.

    Args:
        skill: 1 is perfect.
    """

    classes: int
    skill: float

    def __str__(self) -> str:
        return f"{self.classes} classes, skill {self.skill}"


WORLDS = tuple(DetectionWorld(classes, skill) for classes in (5, 20) for skill in (0.8, 0.5))


def main() -> None:
    """Print the tables of `docs/benchmarks.md`."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--runs", type=int, default=200, help="simulations per number (default: %(default)s)")
    parser.add_argument("--videos", default="10,20,50,100", help="numbers of videos (default: %(default)s)")
    parser.add_argument("--workers", type=int, default=os.cpu_count(), help="processes (default: one per core)")
    options = parser.parse_args()
    with ProcessPoolExecutor(options.workers, initializer=torch.set_num_threads, initargs=(1,)) as pool:
        for world in WORLDS:
            print(f"\nPer cent of 95 % intervals that contain the truth: {world}")
            print("| videos | segments per class | significant |", " | ".join(METRICS), "|")
            for videos in map(int, options.videos.split(",")):
                reports = list(pool.map(partial(report_of_equals, world, videos), range(options.runs), chunksize=8))
                shares = coverage(world, reports)
                numbers = [f"{shares[key]:.0f}" for key in METRICS]
                per_class = np.mean([report.data.segments / world.classes for report in reports])
                print(
                    f"| {videos} | {per_class:.0f} | {significant(reports):.1f} |", " | ".join(numbers), "|", flush=True
                )


def coverage(world: DetectionWorld, reports: Sequence[DetectionReport]) -> dict[str, float]:
    """Return per metric how many of the reports' intervals contain the truth, in per cent; others have none."""
    true = truth(world)
    shares = {}
    for key in METRICS:
        metrics = [report.systems[0].metrics[key] for report in reports if key in report.systems[0].metrics]
        shares[key] = 100 * float(np.mean([metric.low <= true[key] <= metric.high for metric in metrics]))
    return shares


def significant(reports: Sequence[DetectionReport]) -> float:
    """Return in how many reports two systems differ significantly, in per cent."""
    return 100 * float(np.mean([any(row.significant for row in report.comparisons) for report in reports]))


def report_of_equals(world: DetectionWorld, videos: int, seed: int) -> DetectionReport:
    """Return the report on two systems of equal skill."""
    logging.disable(logging.WARNING)
    annotated, systems = simulate(world, videos, seed)
    return evaluate_detections(systems, annotated, EvalConfig(protocol="detection", resamples=RESAMPLES, seed=seed))


@cache
def truth(world: DetectionWorld) -> dict[str, float]:
    """Return the metrics of `TRUTH_VIDEOS` videos."""
    annotated, systems = simulate(world, TRUTH_VIDEOS, seed=10**6)
    report = evaluate_detections(systems[0], annotated, EvalConfig(protocol="detection", resamples=1))
    return {key: metric.value for key, metric in report.systems[0].metrics.items()}


def simulate(world: DetectionWorld, videos: int, seed: int) -> tuple[DetectionSet, list[Detections]]:
    """Return videos with true segments, and what two systems detect; some videos are harder for both."""
    rng = np.random.default_rng(seed)
    annotated, detected = list[AnnotatedVideo](), ([], [])  # type: ignore[var-annotated]
    for i in range(videos):
        number = 0 if rng.random() < 0.15 else 1 + rng.poisson(3)
        doubt = 2 * float(rng.beta(2, 2)) * (1 - world.skill)
        true = [_true_segment(rng, world.classes) for _ in range(number)]
        annotated.append(AnnotatedVideo(f"{i:05}", f"{i:05}", tuple(true), DURATION_S))
        for system in detected:
            found = [_shifted(rng, segment, doubt) for segment in true if rng.random() < 1 - doubt]
            found += [_invented(rng, world.classes) for _ in range(rng.poisson(1.5 * doubt))]
            system.append(DetectedVideo(f"{i:05}", tuple(found)))
    labels = tuple(f"label {place}" for place in range(world.classes))
    truth_ = DetectionSet("simulation", labels, tuple(annotated), by_id=True)
    return truth_, [Detections(name, tuple(system)) for name, system in zip("ab", detected, strict=True)]


def _true_segment(rng: np.random.Generator, classes: int) -> TrueSegment:
    start = float(rng.uniform(0, 50))
    return TrueSegment(f"label {rng.integers(classes)}", start, start + float(rng.uniform(2, 10)))


def _shifted(rng: np.random.Generator, segment: TrueSegment, doubt: float) -> ScoredSegment:
    start, end = rng.normal((segment.start_s, segment.end_s), 0.2 + doubt).tolist()
    return ScoredSegment(segment.label, start, max(end, start + 0.2), float(rng.normal(0.75, 0.15)))


def _invented(rng: np.random.Generator, classes: int) -> ScoredSegment:
    start = float(rng.uniform(0, 50))
    label, end = f"label {rng.integers(classes)}", start + float(rng.uniform(1, 6))
    return ScoredSegment(label, start, end, float(rng.normal(0.55, 0.2)))


if __name__ == "__main__":
    main()
