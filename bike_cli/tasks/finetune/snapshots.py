"""Checkpoints of training: written whole or not at all, the last two are kept, and nothing in them is executed.

The folder `step-000000123` holds `state.json` (counts, settings, the SHA-256 of the other file) and
`tensors.safetensors` (trained weights, optimizer state). It gets its name once both are on disk.
"""

from __future__ import annotations

import hashlib
import json
import logging
import os
import shutil
import tempfile
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TypeAlias, cast

from torch import Tensor

from bike_cli.engine.models.json_files import read_json
from bike_cli.engine.models.weights import UNWRITABLE, check_finite, read_tensors, save_tensors
from bike_cli.errors import ModelError, UsageError, first_line, shorten

logger = logging.getLogger(__name__)

STATE, TENSORS = "state.json", "tensors.safetensors"
PREFIX = "step-"
UNFINISHED = ".unfinished-"  # prefix of what is being written; it is renamed when it is whole
KEPT = 2
VERSION = 1

JsonValue: TypeAlias = "str | int | float | bool | Sequence[JsonValue] | Mapping[str, JsonValue] | None"
Metrics = Mapping[str, float]
RunSettings = Mapping[str, JsonValue]  # what must stay the same when a run is resumed, by name


@dataclass(frozen=True)
class RunResults:
    """The results of a run so far; `report.json` lists those that it has, in this order."""

    start: Metrics | None = None  # metrics before training
    epoch: int | None = None  # the best epoch
    value: float | None = None  # the deciding metric of the best epoch
    metrics: Metrics | None = None  # all metrics of the best epoch
    wise_ft: Metrics | None = None  # metrics of the interpolated weights
    attributes: Metrics | None = None  # metrics of the attribute branch alone, in its best epoch
    fused: Metrics | None = None  # metrics of both branches together
    attribute_weight: float | None = None  # weight of the attribute branch in `fused`

    def to_json(self) -> dict[str, Metrics | float]:
        """Return the results that exist, by name."""
        return {name: value for name, value in vars(self).items() if value is not None}


@dataclass(frozen=True)
class TrainingState:
    """The counts and settings of a checkpoint."""

    epoch: int  # the next epoch, from 0
    batch: int  # the next batch, from 0
    failures: int  # how many times a video could not be read
    scaler: Mapping[str, float]  # state of the gradient scaler; empty if the run has none
    settings: RunSettings
    best: RunResults  # results of the video branch
    since_best: int  # epochs since the best one
    logged: int = 0  # lines in the log

    @classmethod
    def from_json(cls, values: Mapping[str, object], path: Path) -> TrainingState:
        """Return the state in the `state.json` of a checkpoint; raise ModelError if a value is missing or invalid."""

        def count(name: str) -> int:
            value = values.get(name)
            if type(value) is not int or value < 0:
                raise ModelError(f"{path}: {name} is {shorten(repr(value), 60)}, not a whole number; remove it")
            return value

        def mapping(name: str) -> Mapping[str, JsonValue]:
            value = values.get(name)
            if not isinstance(value, dict):
                raise ModelError(f"{path}: {name} is not an object; remove it")
            return cast("dict[str, JsonValue]", value)

        def numbers(name: str) -> Mapping[str, float]:
            numbers = {key: value for key, value in mapping(name).items() if isinstance(value, int | float)}
            if numbers != mapping(name):
                raise ModelError(f"{path}: {name} is not an object of numbers; remove it")
            return numbers

        return cls(
            epoch=count("epoch"),
            batch=count("batch"),
            failures=count("failures"),
            scaler=numbers("scaler"),
            settings=mapping("settings"),
            best=_results(mapping("best"), path),
            since_best=count("since_best"),
            logged=count("logged"),
        )


@dataclass(frozen=True, eq=False)
class Snapshot:
    """A checkpoint: trained weights under `weights.`, the state of the optimizer under `optimizer.`."""

    state: TrainingState
    tensors: Mapping[str, Tensor]


def write_snapshot(folder: Path, step: int, snapshot: Snapshot) -> Path:
    """Write a checkpoint after a step, and remove all but the last two.

    Raises:
        UsageError: it cannot be written; earlier checkpoints are unchanged.
    """
    target = folder / f"{PREFIX}{step:09d}"
    try:
        folder.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryDirectory(prefix=UNFINISHED, dir=folder, ignore_cleanup_errors=True) as unfinished:
            written = Path(unfinished, "checkpoint")
            written.mkdir()
            save_tensors(snapshot.tensors, written / TENSORS)
            _sync_to_disk(written / TENSORS)
            state = {**vars(snapshot.state), "best": snapshot.state.best.to_json()}
            document = {"version": VERSION, "sha256": _digest(written / TENSORS), **state}
            (written / STATE).write_text(json.dumps(document, indent=1) + "\n", encoding="utf-8")
            _sync_to_disk(written / STATE)
            if target.exists():  # left by a run that was resumed from an earlier checkpoint
                shutil.rmtree(target)
            written.rename(target)
        _sync_to_disk(folder)
        for old in snapshots_in(folder)[:-KEPT]:
            shutil.rmtree(old)
    except UNWRITABLE as e:
        raise UsageError(
            f"{target}: cannot be written ({first_line(e)}); free some space, and continue with --resume"
        ) from e
    return target


def snapshots_in(folder: Path) -> list[Path]:
    """Return the checkpoints in a folder, the latest last."""
    return sorted(path for path in folder.glob(f"{PREFIX}*") if path.is_dir())


def last_snapshot(folder: Path) -> Snapshot | None:
    """Return the latest intact checkpoint in a folder, with a warning for each later one; None if it has none.

    Raises:
        ModelError: all checkpoints are damaged. The caller must decide whether to start over.
    """
    paths = snapshots_in(folder)
    for path in reversed(paths):
        try:
            return read_snapshot(path)
        except ModelError as e:
            logger.warning("%s%s", e, "" if path == paths[0] else "; using the one before")
    if paths:
        raise ModelError(f"{folder}: all {len(paths)} checkpoints are damaged; start over in another folder")
    return None


def read_snapshot(path: Path) -> Snapshot:
    """Return a checkpoint.

    Raises:
        ModelError: a file is missing, damaged or of another version, or a tensor holds NaN or infinity.
    """
    values = read_json(path / STATE)
    version = values.get("version")
    if type(version) is not int or version != VERSION:
        raise ModelError(f"{path}: has version {shorten(version)}, but this bike reads {VERSION}; start over")
    try:
        is_whole = (path / TENSORS).is_file() and _digest(path / TENSORS) == values.get("sha256")
    except OSError as e:
        raise ModelError(f"{path / TENSORS}: cannot be read ({e.strerror}); check its permissions") from e
    if not is_whole:
        raise ModelError(f"{path}: is damaged or incomplete; remove it")
    state, tensors = TrainingState.from_json(values, path), read_tensors(path / TENSORS)
    check_finite(tensors, origin=str(path))
    return Snapshot(state, tensors)


def _results(values: Mapping[str, JsonValue], path: Path) -> RunResults:
    start, metrics = _metrics(values.get("start")), _metrics(values.get("metrics"))
    epoch, value = values.get("epoch"), values.get("value")
    if epoch is None:
        return RunResults(start)
    if type(epoch) is not int or not isinstance(value, float) or metrics is None:
        raise ModelError(f"{path}: its best epoch has no metrics; remove it")
    return RunResults(start, epoch, value, metrics)


def _metrics(value: JsonValue) -> Metrics | None:
    return {str(k): float(v) for k, v in value.items() if isinstance(v, float)} if isinstance(value, dict) else None


def _digest(file: Path) -> str:
    with file.open("rb") as stream:
        return hashlib.file_digest(stream, "sha256").hexdigest()


def _sync_to_disk(path: Path) -> None:
    """Wait until a file, or the names in a folder, are on disk and not only in memory."""
    try:
        handle = os.open(path, os.O_RDWR if path.is_file() else os.O_RDONLY)  # Windows syncs no file opened to be read
    except OSError:
        if path.is_file():
            raise
        return  # Windows opens no folder
    try:
        os.fsync(handle)
    except OSError:  # some file systems cannot sync a folder
        if path.is_file():
            raise
    finally:
        os.close(handle)
