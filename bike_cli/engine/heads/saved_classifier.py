"""Saved classifiers: one safetensors file with the tensors of a head, and its settings as JSON in the header.

The header's metadata have the key `bike`, a JSON object with `version` 1, or 2 for a classifier with descriptions; the
fields of `SavedClassifier` except `head`, without descriptions if there are none; and the head's `alpha`, `beta` and
`chosen`. Tensors: `weight` [C, D], `bias` [C], `keys` [M, D], `key_classes` [M]. Nothing in the file is ever executed.
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
from bike_cli.engine.heads.few_shot import Head
from bike_cli.engine.models.json_files import parse_json
from bike_cli.engine.models.weight_files import check_regular, file_status
from bike_cli.engine.models.weights import UNREADABLE, check_finite, digest_of_weights
from bike_cli.errors import ConfigError, ModelError, first_line, shorten
from bike_cli.settings import resolve

VERSION = 1
VERSION_WITH_DESCRIPTIONS = 2  # an earlier bike would ignore them
KEY = "bike"
DESCRIBED = ("descriptions", "description_use")
TENSORS = ("weight", "bias", "keys", "key_classes")


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

    @property
    def digest(self) -> str:
        """A hash of all that scores depend on."""
        tensors = {name: getattr(self.head, name) for name in TENSORS}
        labels = (self.labels, self.templates, self.fingerprint)
        description = repr((labels, self.head.alpha, self.head.beta, sorted(self.settings.items())))
        if self.descriptions:
            description += repr(sorted(self.descriptions.items()))
        return hashlib.sha256(f"{description} {digest_of_weights(tensors)}".encode()).hexdigest()

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
    tensors = {name: getattr(head, name).contiguous() for name in TENSORS}
    header = {f.name: getattr(classifier, f.name) for f in dataclasses.fields(classifier) if f.name != "head"}
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
            tensors = {name: opened.get_tensor(name) for name in TENSORS}
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
        **tensors,
        alpha=_number(header, "alpha"),
        beta=_number(header, "beta"),
        chosen={name: _number(chosen, name) for name in chosen},
    )
    given = {f.name: header[f.name] for f in dataclasses.fields(SavedClassifier) if f.name not in ("head", *DESCRIBED)}
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
    return SavedClassifier(**given, head=head, descriptions=described, description_use=config.descriptions)  # type: ignore[arg-type]


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
