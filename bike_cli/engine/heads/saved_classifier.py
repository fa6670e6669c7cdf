"""Saved classifiers: one safetensors file with the tensors of a head, and its settings as JSON in the header.

The header's metadata have the key `bike`, a JSON object with `version` 1, or 2 for a classifier with descriptions; the
fields of `SavedClassifier` except `head`, without descriptions if there are none; and the head's `alpha`, `beta` and
`chosen`. Tensors: `weight` [C, D], `bias` [C], `keys` [M, D], `key_classes` [M]. Nothing in the file is ever executed.

The header may also have `measure`, and `calibration` with the fields of `Calibration`. If the measure is the distance,
there are the tensors `means` [C, D] and `whitening` [D, D], too. Scores do not depend on any of these, so an earlier
bike reads such a file, and ignores them.
"""

from __future__ import annotations

import dataclasses
import hashlib
import json
import math
import stat
import tempfile
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from pathlib import Path

import torch
from safetensors import safe_open
from safetensors.torch import save

from bike_cli.config import AttributeConfig, ClassifyConfig, Descriptions, DescriptionUse, Pool, SamplingConfig, Spot
from bike_cli.engine.calibration.calibration import Calibration, Measure
from bike_cli.engine.calibration.files import from_json, measure_of, to_json
from bike_cli.engine.heads.few_shot import Head
from bike_cli.engine.heads.shot_distances import ShotDistances
from bike_cli.engine.models.json_files import parse_json
from bike_cli.engine.models.weight_files import check_regular, file_status
from bike_cli.engine.models.weights import UNREADABLE, check_finite, digest_of_weights
from bike_cli.errors import ConfigError, ModelError, first_line, shorten
from bike_cli.settings import resolve

VERSION = 1
VERSION_WITH_DESCRIPTIONS = 2  # an earlier bike would ignore them
KEY = "bike"
DESCRIBED = ("descriptions", "description_use")
REJECTING = ("measure", "distances", "calibration")  # what only tells which videos show none of the classes
TENSORS = ("weight", "bias", "keys", "key_classes")
DISTANCE_TENSORS = ("means", "whitening")


@dataclass(frozen=True, eq=False)
class SavedClassifier:
    """A head fitted to labelled videos, with all settings that its scores depend on.

    Args:
        labels: C classes, in the order of the head.
        also: further labels, which are scored by their text alone.
        method: how the head was fitted.
        model: as the user named it.
        fingerprint: of the model, see `Engine.fingerprint`.
        sampling, pool, spot, temperature, template: how videos and labels were encoded and compared.
        templates: the texts behind `template`.
        attributes: the lexicon, and the weight of attributes; the weight is a number.
        manifest: the videos that it was fitted to.
        descriptions: of labels, those that count.
        description_use: how they were used.
        measure: what tells whether a video shows none of the classes; the logit if the file is of an earlier bike.
        distances: to the shots, if they are the measure.
        calibration: of the measure, by clips that it was not fitted to; None: there were too few.
    """

    labels: tuple[str, ...]
    also: tuple[str, ...]
    method: str
    model: str
    fingerprint: str
    sampling: SamplingConfig
    pool: Pool
    spot: Spot
    temperature: float
    template: str
    templates: tuple[str, ...]
    attributes: AttributeConfig
    head: Head
    manifest: Mapping[str, object]
    descriptions: Descriptions = field(default_factory=dict)
    description_use: DescriptionUse = "add"
    measure: Measure = "logit"
    distances: ShotDistances | None = None
    calibration: Calibration | None = None

    def __post_init__(self) -> None:
        if (self.measure == "distance") != (self.distances is not None):
            raise ValueError(f"its measure is the {self.measure}, which does not suit its distances")
        if self.calibration is not None and self.calibration.measure != self.measure:
            raise ValueError(f"its measure is the {self.measure}, its calibration is of the {self.calibration.measure}")

    @property
    def digest(self) -> str:
        """A hash of all that scores and distances depend on."""
        tensors = {name: getattr(self.head, name) for name in TENSORS} | _tensors_of(self.distances)
        labels = (self.labels, self.templates, self.fingerprint)
        description = repr((labels, self.head.alpha, self.head.beta, sorted(self.settings.items())))
        if self.descriptions:
            description += repr(sorted(self.descriptions.items()))
        return hashlib.sha256(f"{description} {digest_of_weights(tensors)}".encode()).hexdigest()

    @property
    def contents(self) -> frozenset[str]:
        """The SHA-256 of each video that it was fitted to, in hex."""
        videos = self.manifest.get("videos")
        records = [video for video in videos if isinstance(video, dict)] if isinstance(videos, list) else []
        return frozenset(str(video.get("sha256")) for video in records)

    @property
    def settings(self) -> dict[str, object]:
        """The settings under which this classifier can be used, by the names of config fields."""
        others = {name: getattr(self, name) for name in ("model", "pool", "spot", "temperature", "template")}
        if self.descriptions:
            others["descriptions"] = self.description_use
        return {**asdict(self.sampling), **asdict(self.attributes), **others}


def save_classifier(classifier: SavedClassifier, file: Path) -> None:
    """Write a classifier; the file appears whole or not at all.

    Raises:
        OSError: a file that cannot be written.
    """
    head = classifier.head.to(torch.device("cpu"))
    tensors = {name: getattr(head, name) for name in TENSORS} | _tensors_of(classifier.distances)
    tensors = {name: tensor.cpu().contiguous() for name, tensor in tensors.items()}
    fields = [f.name for f in dataclasses.fields(classifier) if f.name not in ("head", *REJECTING)]
    header = {name: getattr(classifier, name) for name in fields}
    if classifier.measure != "logit":
        header["measure"] = classifier.measure
    if classifier.calibration is not None:
        header["calibration"] = to_json(classifier.calibration)
    header |= {"sampling": asdict(classifier.sampling), "attributes": asdict(classifier.attributes)}
    version = VERSION_WITH_DESCRIPTIONS if classifier.descriptions else VERSION
    if not classifier.descriptions:
        header = {name: value for name, value in header.items() if name not in DESCRIBED}
    header |= {"version": version, "alpha": head.alpha, "beta": head.beta, "chosen": dict(head.chosen)}
    text = json.dumps(header, ensure_ascii=True, sort_keys=True)
    file = file.resolve()  # a symbolic link stays a link
    with tempfile.TemporaryDirectory(prefix=".unfinished-", dir=file.parent) as unfinished:
        written = Path(unfinished, file.name)
        written.write_bytes(save(tensors, metadata={KEY: text}))
        written.replace(file)


def load_classifier(file: Path) -> SavedClassifier:
    """Return the classifier that `save_classifier` wrote.

    Raises:
        ModelError: a file that is missing, damaged, of another kind or version.
    """
    way_out = "give a file that bike fewshot --save wrote"
    status = file_status(file)
    if status is None or stat.S_ISDIR(status.st_mode):
        raise ModelError(f"{shorten(file)}: no such classifier; {way_out}")
    check_regular(file, way_out)
    try:
        with safe_open(file, framework="pt") as opened:
            header = parse_json((opened.metadata() or {})[KEY])
            names = (*TENSORS, *(name for name in DISTANCE_TENSORS if name in opened.keys()))  # noqa: SIM118 - no dict
            tensors = {name: opened.get_tensor(name) for name in names}
    except UNREADABLE as e:
        raise ModelError(f"{file}: is not a complete bike classifier ({first_line(e)}); {way_out}") from e
    header = header if isinstance(header, dict) else {}
    version = header.get("version")
    if type(version) is not int or version not in (VERSION, VERSION_WITH_DESCRIPTIONS):
        read = f"{VERSION} and {VERSION_WITH_DESCRIPTIONS}"
        raise ModelError(
            f"{file}: is a classifier of version {shorten(version)}, but this bike reads {read}; update bike"
        )
    check_finite(tensors, origin=str(file))
    try:
        return _from_header(header, tensors)
    except (*UNREADABLE, ConfigError) as e:
        raise ModelError(f"{file}: is not a complete bike classifier ({first_line(e)}); save it again") from e


def _from_header(header: Mapping[str, object], tensors: Mapping[str, torch.Tensor]) -> SavedClassifier:
    chosen = header["chosen"]
    if not isinstance(chosen, dict):
        raise TypeError("its chosen is not an object")
    head = Head(
        **{name: tensors[name] for name in TENSORS},
        alpha=_number(header, "alpha"),
        beta=_number(header, "beta"),
        chosen={name: _number(chosen, name) for name in chosen},
    )
    optional = ("head", *DESCRIBED, *REJECTING)
    given = {f.name: header[f.name] for f in dataclasses.fields(SavedClassifier) if f.name not in optional}
    labels = _texts(header, "labels")
    given |= {"labels": labels, "also": _texts(header, "also"), "templates": _texts(header, "templates")}
    sampling, attributes = given["sampling"], given["attributes"]
    if not isinstance(sampling, dict) or not isinstance(attributes, dict) or not isinstance(given["manifest"], dict):
        raise TypeError("its header is malformed")
    # The settings are checked like a config file: types, choices and ranges.
    for name in ("method", "fingerprint"):
        if not isinstance(given[name], str):
            raise TypeError(f"its {name} is not a string")
    fields = {name: given[name] for name in ("model", "pool", "spot", "temperature", "template")}
    described = _descriptions(header, labels) if header["version"] == VERSION_WITH_DESCRIPTIONS else {}
    use = {"descriptions": header["description_use"]} if described else {}
    config = resolve(ClassifyConfig, flags={**sampling, **attributes, **fields, **use}, environment={})
    if None in fields.values() or (asdict(config.sampling), asdict(config.attributes)) != (sampling, attributes):
        raise ValueError("its settings are incomplete")
    _check_head(head, len(labels))
    given |= {"sampling": config.sampling, "attributes": config.attributes}
    given |= _rejecting(header, tensors, head)
    return SavedClassifier(**given, head=head, descriptions=described, description_use=config.descriptions)  # type: ignore[arg-type]


def _rejecting(header: Mapping[str, object], tensors: Mapping[str, torch.Tensor], head: Head) -> dict[str, object]:
    """Return the fields of `REJECTING`; raise ValueError or TypeError for anything unexpected."""
    distances, calibration = None, header.get("calibration")
    if any(name in tensors for name in DISTANCE_TENSORS):
        distances = ShotDistances(**{name: tensors[name] for name in DISTANCE_TENSORS})
        width = head.weight.shape[1]
        if distances.means.shape != head.weight.shape or distances.whitening.shape != (width, width):
            raise ValueError("its distances do not fit its head")
        if any(tensor.dtype != torch.float32 for tensor in (distances.means, distances.whitening)):
            raise TypeError("its distances have unexpected types")
    if calibration is not None and not isinstance(calibration, dict):
        raise TypeError("its calibration is not an object")
    return {
        "measure": measure_of(header.get("measure", "logit")),
        "distances": distances,
        "calibration": None if calibration is None else from_json(calibration),
    }


def _tensors_of(distances: ShotDistances | None) -> dict[str, torch.Tensor]:
    return {} if distances is None else {name: getattr(distances, name) for name in DISTANCE_TENSORS}


def _number(header: Mapping[str, object], name: str) -> float:
    value = header[name]
    if isinstance(value, bool) or not isinstance(value, (int, float)) or not math.isfinite(value):
        raise ValueError(f"its {name} is {shorten(repr(value), 60)}, not a number")
    return value


def _texts(header: Mapping[str, object], name: str) -> tuple[str, ...]:
    texts = header[name]
    if not isinstance(texts, list) or not all(isinstance(text, str) for text in texts):
        raise TypeError(f"its {name} are not strings")
    return tuple(texts)


def _descriptions(header: Mapping[str, object], labels: tuple[str, ...]) -> Descriptions:
    given = header["descriptions"]
    if not isinstance(given, dict) or not given or not set(given) <= set(labels):
        raise ValueError("its descriptions are not of its labels")
    return {label: _texts(given, label) for label in given}


def _check_head(head: Head, classes: int) -> None:
    """Raise ValueError or TypeError if the parts of a head do not fit together."""
    numbers = (head.weight, head.bias, head.keys)
    if any(tensor.dtype != torch.float32 for tensor in numbers) or head.key_classes.dtype != torch.int64:
        raise TypeError("its tensors have unexpected types")
    if head.weight.ndim != 2 or head.key_classes.ndim != 1 or not math.isfinite(head.alpha + head.beta):
        raise ValueError("its tensors are malformed")
    fits = head.bias.shape == (len(head.weight),) and head.keys.shape == (len(head.key_classes), head.weight.shape[1])
    if not fits or len(head.weight) != classes:
        raise ValueError("its tensors do not fit together")
    if len(head.keys) and not 0 <= int(head.key_classes.min()) <= int(head.key_classes.max()) < classes:
        raise ValueError("its keys have classes that it does not have")
