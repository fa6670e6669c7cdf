"""Detections of several systems next to the true segments: the same videos and labels for all, as arrays."""

from __future__ import annotations

import logging
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from bike_cli.data.detection.annotation_formats import TrueSegment
from bike_cli.data.detection.detection_sets import DetectionSet
from bike_cli.data.detection.detections import Detections, ScoredSegment
from bike_cli.data.detection.matching import match_videos
from bike_cli.data.labelled.candidates import finder
from bike_cli.errors import UsageError
from bike_cli.records import Failure
from bike_cli.tasks.detection.problems import Problems
from bike_cli.tasks.detection.report import DataProblem
from bike_cli.tasks.detection.segments import Floats, Row, Segments
from bike_cli.wording import count, nearest

logger = logging.getLogger(__name__)

_ROUNDING_S = 0.001  # by which an end may exceed the length of its video


@dataclass(frozen=True, eq=False)
class Aligned:
    """V annotated videos, and perhaps further ones, with the segments of several systems.

    Args:
        labels: C labels: those of the annotations, then those that are only detected.
        annotated: number of annotated videos, V; further videos, which only the official code counts, come after them.
        videos: number of all videos.
        durations: float64 [V], seconds.
        true: true segments.
        detected: the detected segments of each system.
        failures: the videos that are left out.
        problems: what is probably a mistake.
    """

    labels: tuple[str, ...]
    annotated: int
    videos: int
    durations: Floats
    true: Segments
    detected: tuple[Segments, ...]
    failures: tuple[Failure, ...]
    problems: tuple[DataProblem, ...]


class _System:
    """The detections of one system, with the videos and labels of the annotations."""

    def __init__(self, detections: Detections, truth: DetectionSet) -> None:
        self.detections = detections
        self.origin = detections.origin or detections.name
        self.failed = {failure.source.id: failure for failure in detections.failures}
        paths = [*(video.path for video in detections.videos), *self.failed]
        self.places = match_videos(paths, truth, origin=self.origin) if paths else {}
        self.labels = self._labels(truth)

    def _labels(self, truth: DetectionSet) -> dict[str, str]:
        """Return how the annotations write each label; one that they do not have stays as it is."""
        find = finder(truth.labels)
        named = dict.fromkeys(segment.label for video in self.detections.videos for segment in video.segments)
        places = {label: find(label) for label in named}
        if places and all(place is None for place in places.values()):
            label = next(iter(places))
            near = f"the nearest to {label!r} is {nearest(label, truth.labels)!r}"
            reason = f"has no label in common with {truth.origin}; {near}"
            raise UsageError(f"{self.origin}: {reason}; use the labels of the annotations")
        return {label: label if place is None else truth.labels[place] for label, place in places.items()}


def align(systems: Sequence[Detections], truth: DetectionSet, *, official: bool = False) -> Aligned:
    """Return the systems' segments in the annotated videos that none of them failed on; warn about problems.

    Videos that a system has no answer for have no detections.

    Args:
        official: keep true segments without length, and videos that are not annotated, as the official code does.
    Raises:
        UsageError: a video or a label is ambiguous, or nothing is left to evaluate: no video or no label in common,
            every video failed, or no true segment has a length.
    """
    problems = Problems(official)
    read = [_System(detections, truth) for detections in systems]
    failures = _failures(read)
    row_of = {place: row for row, place in enumerate(i for i in range(len(truth.videos)) if i not in failures)}
    if not row_of:
        first = next(iter(failures.values()))
        raise UsageError(f"{truth.origin}: every video failed; fix the first failure: {first.message}")
    labels = dict.fromkeys((*truth.labels, *(label for system in read for label in system.labels.values())))
    place_of = {label: place for place, label in enumerate(labels)}
    true = Segments.of_rows(
        (row, place_of[s.label], s.start_s, s.end_s, 1.0) for i, row in row_of.items() for s in truth.videos[i].segments
    )
    if not true.have_length.any():
        raise UsageError(f"{truth.origin}: no true segment of these videos has a length; check the annotations")
    further: dict[str, int] = {}  # videos that are not annotated
    rows = [list(_rows(system, row_of, place_of, further if official else None)) for system in read]
    detected = [Segments.of_rows(some) for some in rows]
    durations = _durations(truth, row_of, read, [true, *detected], problems)
    _check_true(truth, row_of, durations, problems)
    for system in read:
        _check_detected(system, truth, row_of, problems)
    problems.warn()
    return Aligned(
        tuple(labels),
        len(row_of),
        len(row_of) + len(further),
        durations,
        true if official else true.at(true.have_length),
        tuple(detected),
        tuple(failures.values()),
        problems.found(),
    )


def _failures(systems: Sequence[_System]) -> dict[int, Failure]:
    """Return the annotated videos that a system failed on, by their place; warn about them."""
    failures: dict[int, Failure] = {}
    for system in systems:
        failed = [(system.places[path], failure) for path, failure in system.failed.items() if path in system.places]
        if failed:
            text = "%s: %s failed, first %s; left out%s"
            for_all = " for all systems" if len(systems) > 1 else ""
            logger.warning(text, system.origin, count(len(failed), "video"), failed[0][1].source.id, for_all)
        for place, failure in failed:
            failures.setdefault(place, failure)
    return failures


def _rows(
    system: _System, row_of: Mapping[int, int], place_of: Mapping[str, int], further: dict[str, int] | None
) -> Iterator[Row]:
    """Yield the detected segments.

    Args:
        further: collects videos that are not annotated, with their rows; None: these are left out.
    """
    for video in system.detections.videos:
        place = system.places.get(video.path)
        row = None if place is None else row_of.get(place)
        if place is None and further is not None:
            row = further.setdefault(video.path, len(row_of) + len(further))
        if row is not None:
            for s in video.segments:
                yield row, place_of[system.labels[s.label]], s.start_s, s.end_s, s.score


def _durations(
    truth: DetectionSet,
    row_of: Mapping[int, int],
    systems: Sequence[_System],
    segments: Sequence[Segments],
    problems: Problems,
) -> Floats:
    """Return the lengths of videos: as annotated, or as a system read it, or else up to the end of the last segment."""
    read: dict[int, float] = {}
    for system in systems:
        for video in system.detections.videos:
            place = system.places.get(video.path)
            if place is not None and video.duration_s is not None:
                read[place] = max(read.get(place, 0.0), video.duration_s)
    ends = np.zeros(len(row_of))
    for some in segments:
        is_annotated = some.videos < len(row_of)
        np.maximum.at(ends, some.videos[is_annotated], some.ends[is_annotated])
    for place, row in row_of.items():
        annotated = truth.videos[place]
        known = read.get(place) if annotated.duration_s is None else annotated.duration_s
        if known is not None and known > 0:
            ends[row] = known
        else:
            problems.add(truth.origin, "no_duration", annotated.name)
    return ends


def _check_true(truth: DetectionSet, row_of: Mapping[int, int], durations: Floats, problems: Problems) -> None:
    for place, row in row_of.items():
        video, seen = truth.videos[place], set[TrueSegment]()
        for segment in video.segments:
            kind = "zero_length" if segment.end_s == segment.start_s else None
            kind = "reversed" if segment.end_s < segment.start_s else kind
            if kind is None and (segment.start_s < 0 or segment.end_s > durations[row] + _ROUNDING_S):
                kind = "outside"
            if kind is not None:
                problems.add(truth.origin, kind, _name_of(segment, video.name))
            if segment in seen:
                problems.add(truth.origin, "repeated", _name_of(segment, video.name))
            seen.add(segment)


def _check_detected(system: _System, truth: DetectionSet, row_of: Mapping[int, int], problems: Problems) -> None:
    answered = {system.places[video.path] for video in system.detections.videos if video.path in system.places}
    for place in row_of:
        if place not in answered:
            problems.add(system.origin, "no_detections", truth.videos[place].name)
    for path in (*(video.path for video in system.detections.videos), *system.failed):
        if path not in system.places:
            problems.add(system.origin, "not_annotated", path)
    known = set(truth.labels)
    for i, label in enumerate(label for label in system.labels.values() if label not in known):
        near = "" if i else f" (the nearest is {nearest(label, truth.labels)!r})"  # slow, and only the first is named
        problems.add(system.origin, "unknown_label", f"{label!r}{near}")
    to_find = {segment.label for place in row_of for segment in truth.videos[place].segments}
    for label in sorted(to_find - set(system.labels.values())):
        problems.add(system.origin, "never_detected", repr(label))
    for video in system.detections.videos:
        for segment in video.segments:
            if segment.end_s <= segment.start_s:
                problems.add(system.origin, "detected_empty", _name_of(segment, video.path))


def _name_of(segment: TrueSegment | ScoredSegment, video: str) -> str:
    return f"{segment.label!r} at {segment.start_s:g}-{segment.end_s:g} s of {video}"
