"""The report of an evaluation: typed values, and the only code that writes and reads their JSON."""

from __future__ import annotations

import json
import math
import types
import typing
from collections.abc import Mapping
from dataclasses import MISSING, Field, dataclass, field, fields, is_dataclass
from typing import Any

from bike_cli.errors import shorten

VERSION = 3  # of the JSON; bike 0.1 wrote no `version`, and other intervals and p-values up to 2
DIGITS = 9  # more differ between machines
SHOWN = 60  # characters of a value in a message

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
class Estimate:
    """A metric without an interval.

    Args:
        value: the metric, or its mean over splits.
        std: population standard deviation over splits; None for a single value. The JSON has it under `KEY_std`.
    """

    value: float
    std: float | None = None


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


@dataclass(frozen=True)
class SystemResult:
    """What one system achieves.

    Args:
        name: name of the system.
        metrics: metrics by key (`top1`, `mean_class`, …), the most important first.
        per_class: metrics of each class, in the order of the labels.
        confusion: number of videos of each class (row) that were classified as each class (column), in the order of
            `per_class`; None if videos may have several labels.
        official: metrics as the official code would print them; None without `--official`.
        provenance: what its answers depend on; None for saved predictions.
    """

    name: str
    metrics: Mapping[str, Metric]
    per_class: tuple[ClassMetrics, ...]
    confusion: tuple[tuple[int, ...], ...] | None = None
    official: Mapping[str, Estimate] | None = None
    provenance: Provenance | None = field(default=None, metadata={"key": "made_of"})

    def __post_init__(self) -> None:
        classes = len(self.per_class)
        if self.confusion is not None and [len(row) for row in self.confusion] != [classes] * classes:
            raise ValueError(f"{self.name}: confusion is not square; expected a row and a column per class ({classes})")


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
        metrics: top-1 and top-5 by key.
        official: metrics as the official code would print them; None without `--official`.
    """

    system: str
    name: str
    classes: int | None
    videos: int | None
    metrics: Mapping[str, Estimate]
    official: Mapping[str, Estimate] | None = None


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
        whole = _encoded(self)
        document = {"version": whole.pop("version"), "command": "eval", **whole.pop("manifest"), **whole}
        return json.dumps(document, ensure_ascii=False, allow_nan=False)

    @classmethod
    def from_json(cls, text: str) -> EvaluationReport:
        """Return the report that `to_json` or `bike eval -o` wrote, of this version or an older one.

        Raises:
            ValueError: not such a report, or one of a newer version.
        """
        try:
            document = json.loads(text)
        except RecursionError as e:
            raise ValueError("nested too deeply") from e
        if not isinstance(document, dict):
            raise ValueError("not a JSON object")
        version = document.get("version", 1)
        if version not in range(1, VERSION + 1):
            raise ValueError(f"version is {shorten(repr(version), SHOWN)}, and this bike reads up to {VERSION}")
        return _decoded(cls, {**document, "manifest": document, "version": version}, "")  # type: ignore[no-any-return]


# -- JSON --------------------------------------------------------------------------------------------------------------


def key_of(part: Field[Any]) -> str:
    """Return the key of a dataclass field in the JSON."""
    return str(part.metadata.get("key", part.name))


def _encoded(value: Any) -> Any:  # noqa: ANN401
    if is_dataclass(value):
        return {key_of(part): _encoded(getattr(value, part.name)) for part in fields(value)}
    if isinstance(value, Mapping):
        encoded = {}
        for key, item in value.items():
            encoded[key] = _encoded(item.value if isinstance(item, Estimate) else item)
            if isinstance(item, Estimate) and item.std is not None:
                encoded[f"{key}_std"] = _encoded(item.std)
        return encoded
    if isinstance(value, list | tuple):
        return [_encoded(item) for item in value]
    if isinstance(value, float):
        return round(value, DIGITS) + 0.0 if math.isfinite(value) else None
    return value


def _decoded(kind: Any, value: Any, where: str) -> Any:  # noqa: ANN401
    """Return a JSON value as the declared type of a field."""
    origin, arguments = typing.get_origin(kind), typing.get_args(kind)
    if origin in (types.UnionType, typing.Union):
        kind = next((option for option in arguments if _is_a(value, option)), arguments[0])
        return _decoded(kind, value, where)
    if not _is_a(value, kind):
        raise ValueError(f"{where} is {shorten(repr(value), SHOWN)}, expected {_name_of(kind)}")
    if is_dataclass(kind):
        return _decoded_dataclass(kind, value, where)
    if origin is tuple:
        return tuple(_decoded(arguments[0], item, f"{where}[{i}]") for i, item in enumerate(value))
    if origin is None:
        return value
    if arguments[1] is Estimate:
        return _decoded_estimates(value, where)
    return {key: _decoded(arguments[1], item, f"{where}.{key}") for key, item in value.items()}


def _decoded_dataclass(kind: Any, document: dict[str, Any], where: str) -> Any:  # noqa: ANN401
    hints, values = typing.get_type_hints(kind), {}
    for part in fields(kind):
        place = f"{where}.{key_of(part)}".removeprefix(".").removeprefix("manifest.")
        if key_of(part) in document:
            values[part.name] = _decoded(hints[part.name], document[key_of(part)], place)
        elif part.default is MISSING:
            raise ValueError(f"{place} is missing")
    return kind(**values)


def _decoded_estimates(values: dict[str, Any], where: str) -> dict[str, Estimate]:
    numbers = {key: _decoded(float, value, f"{where}.{key}") for key, value in values.items()}
    names = [key for key in numbers if not (key.endswith("_std") and key.removesuffix("_std") in numbers)]
    return {name: Estimate(numbers[name], numbers.get(f"{name}_std")) for name in names}


def _is_a(value: object, kind: Any) -> bool:  # noqa: ANN401
    origin = typing.get_origin(kind)
    if is_dataclass(kind) or origin is Mapping:
        return isinstance(value, dict)
    if origin is tuple:
        return isinstance(value, list)
    if kind is float:
        return isinstance(value, int | float) and not isinstance(value, bool) and math.isfinite(value)
    return isinstance(value, kind) and (kind is bool or not isinstance(value, bool))


def _name_of(kind: Any) -> str:  # noqa: ANN401
    if is_dataclass(kind) or typing.get_origin(kind) is Mapping:
        return "an object"
    if typing.get_origin(kind) is tuple:
        return "an array"
    return {str: "a string", int: "a whole number", float: "a number", bool: "true or false"}.get(kind, "null")
