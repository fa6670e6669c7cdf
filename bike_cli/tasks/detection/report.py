"""The report of an evaluation of detections: typed values, and their JSON."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field

from bike_cli.tasks.evaluate.json_values import read_report, write_report
from bike_cli.tasks.evaluate.report import Comparison, FailedVideo, Manifest, Metric

DETECTION_VERSION = 1  # of the JSON
PROTOCOL = "detection"


@dataclass(frozen=True)
class DataProblem:
    """Something in annotations or detections that is probably a mistake.

    Args:
        origin: file or system that has it.
        kind: what it is, see below.
        count: number of segments, labels or videos.
        first: the first of them.
    """

    origin: str
    kind: str
    count: int
    first: str


@dataclass(frozen=True)
class DetectionData:
    """The videos of an evaluation of detections.

    Args:
        files: files and folders as given.
        subset: subset of the annotations; None if they have no subsets.
        sha256: hash of the names and segments of all annotated videos.
        contents: hash of the contents of all files; None if detections are not from files.
        videos: number of videos that were evaluated.
        label_free: number of these without a true segment.
        segments: number of true segments in these.
        classes: number of labels that have a true segment.
        duration_s: length of these videos in seconds, as far as it is known.
        classes_without_segments: labels of the annotations without a true segment; they are left out of mAP.
        failed: videos that could not be evaluated.
        problems: what is probably a mistake.
    """

    files: tuple[str, ...]
    subset: str | None
    sha256: str
    contents: str | None
    videos: int
    label_free: int
    segments: int
    classes: int
    duration_s: float
    classes_without_segments: tuple[str, ...] = ()
    failed: tuple[FailedVideo, ...] = ()
    problems: tuple[DataProblem, ...] = ()


@dataclass(frozen=True)
class DetectionClass:
    """The segments of one label.

    Args:
        label: the label.
        segments: number of its true segments.
        detected: number of its detected segments.
        average_precision: mean of `by_tiou` over the thresholds of the first mAP; None without a true segment.
        by_tiou: average precision by tIoU; empty without a true segment.
    """

    label: str
    segments: int
    detected: int
    average_precision: float | None = field(metadata={"key": "ap"})
    by_tiou: Mapping[str, float] = field(metadata={"key": "ap_by_tiou"})


@dataclass(frozen=True)
class DetectionSystem:
    """What one system achieves.

    Args:
        name: name of the system.
        metrics: metrics by key, the most important first; those that are undefined are left out.
        per_class: every label with a true or a detected segment, sorted.
        detected: number of its segments.
        model: name of the model; None if the detections do not say.
        settings: digits that identify the labels and settings of its run; None if the detections do not say.
    """

    name: str
    metrics: Mapping[str, Metric]
    per_class: tuple[DetectionClass, ...]
    detected: int
    model: str | None = None
    settings: str | None = None


@dataclass(frozen=True)
class DetectionReport:
    """The result of an evaluation of detections. All metrics are shares from 0 to 1, but for those named `…_s`.

    Args:
        protocol: always `detection`.
        manifest: what is needed to repeat the evaluation.
        data: the videos.
        tiou: thresholds of mAP, by their names in keys of metrics.
        systems: results of each system; the others are compared with the first.
        comparisons: a comparison for each further system and each metric.
        decided_by: key of the one metric whose differences are called significant or not; None if none is tested.
        version: version of the JSON that it was read from.
    """

    protocol: str
    manifest: Manifest
    data: DetectionData
    tiou: Mapping[str, float]
    systems: tuple[DetectionSystem, ...]
    comparisons: tuple[Comparison, ...] = ()
    decided_by: str | None = None
    version: int = DETECTION_VERSION

    def to_json(self) -> str:
        """Return the report as one line of JSON."""
        return write_report(self)

    @classmethod
    def from_json(cls, text: str) -> DetectionReport:
        """Return the report that `to_json` or `bike eval --protocol detection -o` wrote.

        Raises:
            ValueError: not such a report, or one of a newer version.
        """
        return read_report(cls, text, latest=DETECTION_VERSION)  # type: ignore[no-any-return]
