"""The report of an evaluation: typed values, and their JSON."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

import numpy as np
from numpy.typing import NDArray

from bike_cli.tasks.evaluate.json_values import Estimate, read_report, write_report

# Of the JSON. bike 0.1 wrote no `version`; up to 2, intervals and p-values were others; up to 3, a confusion matrix had
# a cell for each pair of classes.
VERSION = 4

Value = str | int | float | bool | None | tuple[str, ...]  # of an argument or a setting


@dataclass(frozen=True)
class Metric:
    """A metric with its 95 % confidence interval.

    Args:
        value: the metric of all videos.
        low: lower end of the interval.
        high: upper end of the interval.
    """

    value: float
    low: float
    high: float


@dataclass(frozen=True)
class ClassMetrics:
    """The metrics of one class; None where they are undefined.

    Args:
        label: label of the class.
        videos: number of its videos.
        recall: share of its videos that are classified correctly.
        precision: share of the videos classified as this class that belong to it.
        f1: harmonic mean of precision and recall.
        average_precision: average precision without interpolation; of equal scores, videos of other classes rank first.
    """

    label: str
    videos: int
    recall: float | None
    precision: float | None
    f1: float | None
    average_precision: float | None = field(metadata={"key": "ap"})


@dataclass(frozen=True)
class Confusion:
    """How many videos of a class were classified as another, or as the same: the pairs of classes that have videos.

    Args:
        truth: for each pair, the place of the true class in `per_class`, from 0.
        guess: for each pair, the place of the class that the videos were classified as.
        videos: for each pair, the number of videos.
    """

    truth: tuple[int, ...]
    guess: tuple[int, ...]
    videos: tuple[int, ...]

    def __post_init__(self) -> None:
        if not len(self.truth) == len(self.guess) == len(self.videos):
            lengths = f"{len(self.truth)}, {len(self.guess)} and {len(self.videos)}"
            raise ValueError(f"confusion: truth, guess and videos have {lengths} entries; expected one per pair each")

    @classmethod
    def of_videos(cls, truth: NDArray[np.int64], guesses: NDArray[np.int64]) -> Confusion:
        """Return the pairs of videos, of their classes and of their answers, [V] each: sorted by both."""
        if not len(truth):
            return cls((), (), ())
        classes = int(max(truth.max(), guesses.max())) + 1
        cells, videos = np.unique(truth * classes + guesses, return_counts=True)
        return cls(tuple((cells // classes).tolist()), tuple((cells % classes).tolist()), tuple(videos.tolist()))

    @classmethod
    def of_matrix(cls, counts: NDArray[np.int64]) -> Confusion:
        """Return the pairs of a confusion matrix, [C, C], that are not 0."""
        truth, guess = np.nonzero(counts)
        return cls(*(tuple(part.tolist()) for part in (truth, guess, counts[truth, guess])))

    def matrix(self, classes: int) -> NDArray[np.int64]:
        """Return the whole matrix, [C, C], with a row per true class."""
        counts = np.zeros((classes, classes), dtype=np.int64)
        counts[list(self.truth), list(self.guess)] = self.videos
        return counts


@dataclass(frozen=True)
class ReliabilityBin:
    """Answers of similar confidence.

    Args:
        low: lower edge of the bin, exclusive; 0 is in the first one.
        high: upper edge of the bin, inclusive.
        videos: number of its videos, at least 1.
        confidence: mean confidence of their answers.
        accuracy: share of correct answers.
    """

    low: float
    high: float
    videos: int
    confidence: float
    accuracy: Metric


@dataclass(frozen=True)
class WeightsSource:
    """Where the weights of a model were downloaded.

    Args:
        repository: repository on the hub.
        commit: commit of the repository.
        file: name of the file.
        sha256: SHA-256 of the file; None where the download cache does not record it.
    """

    repository: str
    commit: str
    file: str
    sha256: str | None = None


@dataclass(frozen=True)
class Provenance:
    """What the answers of a system depend on.

    Args:
        model: name of the model.
        fingerprint: hash of its weights.
        template: prompt template.
        pool: how frames are pooled.
        spot: which tokens weight the frames.
        temperature: temperature of the softmax that weights the frames.
        attributes: lexicon of attributes; None without attributes.
        attribute_weight: weight of the attributes in the score.
        attribute_model: model that finds attributes; None if it is `model`.
        source: where its weights, or those that its training started from, were downloaded; None for other weights.
        descriptions: how descriptions of labels were used, `add` or `only`; None without descriptions.
    """

    model: str
    fingerprint: str
    template: str
    pool: str
    spot: str
    temperature: float
    attributes: str | None
    attribute_weight: float
    attribute_model: str | None
    source: WeightsSource | None = None
    descriptions: str | None = None


@dataclass(frozen=True)
class SystemResult:
    """What one system achieves.

    Args:
        name: name of the system.
        metrics: metrics by key (`top1`, `mean_class`, …), the most important first.
        per_class: metrics of each class, in the order of the labels.
        confusion: number of videos for each pair of a class and the class that they were classified as; None if videos
            may have several labels.
        official: metrics as the official code would print them; None without `--official`.
        provenance: what its answers depend on; None for saved predictions.
        reliability: how often answers of a confidence are correct, as bins of confidence: `scores` of videos that have
            a label; `before`, the same without the scale of the calibration; and `right`, the probability that the
            calibration gives, of all videos. None without scores, or if videos may have several labels.
    """

    name: str
    metrics: Mapping[str, Metric]
    per_class: tuple[ClassMetrics, ...]
    confusion: Confusion | None = None
    official: Mapping[str, Estimate] | None = None
    provenance: Provenance | None = field(default=None, metadata={"key": "made_of"})
    reliability: Mapping[str, tuple[ReliabilityBin, ...]] | None = None

    def __post_init__(self) -> None:
        if self.confusion is None:
            return
        places = (*self.confusion.truth, *self.confusion.guess)
        if places and not 0 <= min(places) <= max(places) < len(self.per_class):
            raise ValueError(f"{self.name}: confusion names places of classes outside 0..{len(self.per_class) - 1}")


@dataclass(frozen=True)
class Comparison:
    """How one metric of a system differs from that of the first system, on the videos that both have.

    Args:
        baseline: name of the first system.
        system: name of the other system.
        metric: key of the metric.
        difference: metric of the other system minus metric of the first.
        low: lower end of its 95 % interval.
        high: upper end of its 95 % interval.
        p: two-sided p-value of this comparison alone; None for a metric without a test.
        videos: number of videos that both systems have.
        left_out: number of videos that only one of them has.
        differing: number of videos that both have and that get different answers.
        p_adjusted: p-value adjusted for the number of systems (Holm); None for metrics that do not decide.
        significant: whether `p_adjusted` is below 0.05; None for metrics that do not decide.
    """

    baseline: str = field(metadata={"key": "a"})
    system: str = field(metadata={"key": "b"})
    metric: str
    difference: float
    low: float
    high: float
    p: float | None
    videos: int
    left_out: int
    differing: int | None = None
    p_adjusted: float | None = None
    significant: bool | None = None


@dataclass(frozen=True)
class SplitResult:
    """The metrics of one system on one split, or their mean over splits.

    Args:
        system: name of the system.
        name: name of the split.
        classes: number of its classes; None for the mean.
        videos: number of its videos; None for the mean.
        metrics: top-1 and top-5 by key; with `--unseen-split`, top-1 and the metrics of none of these.
        official: metrics as the official code would print them; None without `--official`.
        unseen: labels that `--unseen-split` left out, so that their videos have none of the labels.
    """

    system: str
    name: str
    classes: int | None
    videos: int | None
    metrics: Mapping[str, Estimate]
    official: Mapping[str, Estimate] | None = None
    unseen: tuple[str, ...] = ()


@dataclass(frozen=True)
class FailedVideo:
    """A video that could not be evaluated.

    Args:
        path: path as given.
        kind: type of the error.
        message: description of the error.
    """

    path: str
    kind: str = field(metadata={"key": "type"})
    message: str


@dataclass(frozen=True)
class EvalData:
    """The videos of an evaluation.

    Args:
        files: files and folders as given.
        sha256: hash of the names and labels of all videos.
        contents: hash of the contents and labels of all videos.
        videos: number of videos that were evaluated.
        classes: number of classes.
        failed: videos that could not be evaluated.
        classes_without_videos: labels of the classes that no video has.
    """

    files: tuple[str, ...]
    sha256: str
    contents: str | None
    videos: int
    classes: int
    failed: tuple[FailedVideo, ...] = ()
    classes_without_videos: tuple[str, ...] = ()


@dataclass(frozen=True)
class Manifest:
    """What is needed to repeat an evaluation. The JSON has these fields at its top level.

    Args:
        model: name of the first model.
        fingerprint: hash of its weights; None for saved predictions.
        device: device that computed the scores; None for saved predictions.
        dtype: precision of the scores; None for saved predictions.
        arguments: data, labels and options as given.
        settings: the resulting configuration.
        versions: versions of bike, Python and packages; None for a package that is not installed.
        seed: seed of the bootstrap.
    """

    model: str
    fingerprint: str | None
    device: str | None
    dtype: str | None
    arguments: Mapping[str, Value]
    settings: Mapping[str, Value]
    versions: Mapping[str, str | None]
    seed: int


@dataclass(frozen=True)
class EvaluationReport:
    """The result of an evaluation. All metrics are shares from 0 to 1.

    Args:
        protocol: evaluation protocol.
        manifest: what is needed to repeat the evaluation.
        data: the videos.
        systems: results of each system; the others are compared with the first.
        comparisons: a comparison for each further system and each metric.
        splits: results on each split, for protocols that have splits.
        systems_left_out: names of systems that could not be evaluated.
        decided_by: key of the one metric whose differences are called significant or not; None if none is tested.
        version: version of the JSON that it was read from.
    """

    protocol: str
    manifest: Manifest
    data: EvalData
    systems: tuple[SystemResult, ...]
    comparisons: tuple[Comparison, ...] = ()
    splits: tuple[SplitResult, ...] = ()
    systems_left_out: tuple[str, ...] = ()
    decided_by: str | None = None
    version: int = VERSION

    def to_json(self) -> str:
        """Return the report as one line of JSON."""
        return write_report(self)

    @classmethod
    def from_json(cls, text: str) -> EvaluationReport:
        """Return the report that `to_json` or `bike eval -o` wrote, of this version or an older one.

        Raises:
            ValueError: not such a report, or one of a newer version.
        """
        return read_report(cls, text, latest=VERSION, update=_with_pairs)  # type: ignore[no-any-return]


def _with_pairs(document: dict[str, Any]) -> dict[str, Any]:
    """Return a report with the pairs of confusion matrices, which were written whole up to version 3."""
    systems = document.get("systems")
    if not isinstance(systems, list):
        return document
    return {**document, "systems": [_pairs_of_system(system) for system in systems]}


def _pairs_of_system(system: Any) -> Any:  # noqa: ANN401
    if not isinstance(system, dict) or not isinstance(system.get("confusion"), list):
        return system
    rows, per_class = system["confusion"], system.get("per_class")
    classes = len(per_class) if isinstance(per_class, list) else len(rows)
    if [len(row) if isinstance(row, list) else -1 for row in rows] != [classes] * classes:
        name = system.get("name")
        raise ValueError(f"{name}: confusion is not square; expected a row and a column per class ({classes})")
    cells = [(i, j, count) for i, row in enumerate(rows) for j, count in enumerate(row) if count != 0]
    columns = [list(column) for column in zip(*cells, strict=True)] or [[], [], []]
    return {**system, "confusion": dict(zip(("truth", "guess", "videos"), columns, strict=True))}
