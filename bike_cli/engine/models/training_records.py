"""What a model folder records of its training, readable without loading the model.

`config.json` of a folder that `bike finetune`, `bike fewshot --method bike` or `bike import` wrote has the key
`training`, an object with exactly these keys:

    labels    the labels, in the order of training; empty in an imported model, whose file does not name them
    also      further labels that it is used with, which it was not trained with
    sampling  the fields of `config.SamplingConfig`
    pool      tcs, mean or scores
"""

from __future__ import annotations

import stat
from collections.abc import Mapping
from dataclasses import asdict
from pathlib import Path

from bike_cli.config import ClassifyConfig, TrainingRecord
from bike_cli.engine.models.aliases import ALIASES, BUNDLED
from bike_cli.engine.models.json_files import read_json
from bike_cli.engine.models.weight_files import file_status
from bike_cli.errors import ConfigError, ModelError, shorten
from bike_cli.settings import resolve

CONFIG_FILE = "config.json"  # of a model folder
KEY = "training"  # in it
KEYS = {"labels", "also", "sampling", "pool"}
WAY_OUT = "save the model again"


def training_of(model: str) -> TrainingRecord | None:
    """Return what the folder that `--model` names records of its training; None for any other model.

    Raises:
        ModelError: a folder whose `config.json` is damaged.
    """
    if not model or model == BUNDLED or model in ALIASES:
        return None
    where = named_path(model) / CONFIG_FILE
    status = file_status(where)
    if status is None or not stat.S_ISREG(status.st_mode):
        return None
    return training_in(read_json(where), where)


def training_in(config: dict[str, object], where: Path) -> TrainingRecord | None:
    """Return the record in the content of a `config.json`; None if it has none.

    Raises:
        ModelError: a malformed record; its message begins with `where`.
    """
    if KEY not in config:
        return None
    values = config[KEY]
    if not isinstance(values, dict) or values.keys() != KEYS:
        raise ModelError(f"{where}: {KEY} is not an object with the keys {', '.join(sorted(KEYS))}; {WAY_OUT}")
    labels, also, sampling = _texts(values, "labels", where), _texts(values, "also", where), values["sampling"]
    if not isinstance(sampling, dict):
        raise ModelError(f"{where}: {KEY}.sampling is not an object; {WAY_OUT}")
    if values["pool"] is None:  # means "not given" to `resolve`
        raise ModelError(f"{where}: {KEY}.pool is missing; {WAY_OUT}")
    try:  # checked like a config file: types, choices and ranges
        read = resolve(ClassifyConfig, flags={**sampling, "pool": values["pool"]}, environment={})
    except ConfigError as e:
        raise ModelError(f"{where}: {KEY}: {shorten(e)}; {WAY_OUT}") from e
    if asdict(read.sampling) != sampling:
        raise ModelError(f"{where}: {KEY}.sampling has missing or unknown keys; {WAY_OUT}")
    return TrainingRecord(labels, read.sampling, read.spotting.pool, also)


def _texts(values: Mapping[str, object], name: str, where: Path) -> tuple[str, ...]:
    texts = values[name]
    if not isinstance(texts, list) or not all(isinstance(text, str) and text.strip() for text in texts):
        raise ModelError(f"{where}: {KEY}.{name} is not a list of texts; {WAY_OUT}")
    return tuple(texts)


def to_json(record: TrainingRecord) -> dict[str, object]:
    """Return the record as `config.json` holds it."""
    return {**asdict(record), "labels": list(record.labels), "also": list(record.also)}


def named_path(text: str) -> Path:
    """Return the path that a name after --model may be."""
    try:
        return Path(text).expanduser()
    except RuntimeError:  # ~nobody
        return Path(text)
