"""Where training stands, on disk: whole or not at all, the last two of them, and nothing in them is ever executed.

A folder `step-000000123` holds `state.json` (counts, settings, SHA-256 of the other) and `tensors.safetensors` (learnt
weights, optimizer). It takes its name when both are on disk.
"""

from __future__ import annotations

import hashlib
import json
import logging
import os
import shutil
import tempfile
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from torch import Tensor

from bike_cli.engine.models.weights import UNWRITABLE, check_finite, first_line, read_json, read_tensors, save_tensors
from bike_cli.errors import ModelError, UsageError, shorten

logger = logging.getLogger(__name__)

STATE, TENSORS = "state.json", "tensors.safetensors"
PREFIX = "step-"
KEPT = 2
VERSION = 1
BLOCK = 2**22


@dataclass(frozen=True, eq=False)
class Snapshot:
    """Where training stands.

    Args:
        state: counts and settings, as JSON has them.
    """

    state: Mapping[str, object]
    tensors: Mapping[str, Tensor]


def write_snapshot(folder: Path, step: int, snapshot: Snapshot) -> Path:
    """Write a checkpoint of so many steps, and remove all but the last two.

    Raises:
        UsageError: it cannot be written; the earlier ones are as they were.
    """
    name = folder / f"{PREFIX}{step:09d}"
    try:
        folder.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryDirectory(prefix=".unfinished-", dir=folder, ignore_cleanup_errors=True) as unfinished:
            there = Path(unfinished, "checkpoint")
            there.mkdir()
            save_tensors(snapshot.tensors, there / TENSORS)
            _to_disk(there / TENSORS)
            state = {"version": VERSION, "sha256": _digest(there / TENSORS), **snapshot.state}
            (there / STATE).write_text(json.dumps(state, indent=1) + "\n", encoding="utf-8")
            _to_disk(there / STATE)
            if name.exists():  # of a run whose end was lost
                shutil.rmtree(name)
            there.rename(name)
        _to_disk(folder)
        for old in snapshots_in(folder)[:-KEPT]:
            shutil.rmtree(old)
    except UNWRITABLE as e:
        raise UsageError(f"{name}: cannot be written ({first_line(e)}); make room, and go on with --resume auto") from e
    return name


def snapshots_in(folder: Path) -> list[Path]:
    """Return the checkpoints of a folder, the last one last."""
    return sorted(path for path in folder.glob(f"{PREFIX}*") if path.is_dir())


def last_snapshot(folder: Path) -> Snapshot | None:
    """Return the last checkpoint of a folder that is whole, with a warning for each later one; None: there is none.

    Raises:
        ModelError: there are some, and none is whole: who begins again from the start shall know it.
    """
    there = snapshots_in(folder)
    for path in reversed(there):
        try:
            return read_snapshot(path)
        except ModelError as e:
            logger.warning("%s%s", e, "" if path == there[0] else "; going back to the one before")
    if there:
        raise ModelError(f"{folder}: none of its {len(there)} checkpoints is whole; begin in another folder")
    return None


def read_snapshot(path: Path) -> Snapshot:
    """Return a checkpoint.

    Raises:
        ModelError: a file of it is missing, damaged or of another version, or a tensor holds NaN or infinity.
    """
    state = read_json(path / STATE)
    version = state.get("version")
    if type(version) is not int or version != VERSION:
        raise ModelError(f"{path}: is of version {shorten(version)}, this bike reads {VERSION}; start anew")
    try:
        is_whole = (path / TENSORS).is_file() and _digest(path / TENSORS) == state.get("sha256")
    except OSError as e:
        raise ModelError(f"{path / TENSORS}: cannot be read ({e.strerror}); check its permissions") from e
    if not is_whole:
        raise ModelError(f"{path}: is damaged or not whole; remove it")
    tensors = read_tensors(path / TENSORS)
    check_finite(tensors, origin=str(path))
    return Snapshot(state, tensors)


def _digest(file: Path) -> str:
    digest = hashlib.sha256()
    with file.open("rb") as stream:
        while block := stream.read(BLOCK):
            digest.update(block)
    return digest.hexdigest()


def _to_disk(path: Path) -> None:
    """Wait until a file, or the names in a folder, are on disk and not only in memory."""
    try:
        handle = os.open(path, os.O_RDWR if path.is_file() else os.O_RDONLY)  # Windows syncs no file opened to be read
    except OSError:
        if path.is_file():
            raise
        return  # Windows opens no folder
    try:
        os.fsync(handle)
    except OSError:  # a file system that has no such thing for folders
        if path.is_file():
            raise
    finally:
        os.close(handle)
