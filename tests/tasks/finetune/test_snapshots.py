"""Checkpoints of training that are damaged or made to do harm are refused with the reason."""

import hashlib
import json
import os
from pathlib import Path

import pytest
import torch

from bike_cli.errors import ModelError
from bike_cli.tasks.finetune.run_folder import _check_state
from bike_cli.tasks.finetune.snapshots import STATE, TENSORS, Snapshot, read_snapshot, write_snapshot

WHOLE = {"epoch": 1, "batch": 2, "failures": 0, "logged": 3, "since_best": 0, "best": {}, "scaler": {}}


@pytest.mark.parametrize("value", [float("nan"), float("inf")])
def test_a_tensor_with_nan_or_infinity_is_refused_with_its_name(tmp_path: Path, value: float) -> None:
    path = write_snapshot(tmp_path, 1, Snapshot({}, {"weights.a": torch.tensor([0.0, value])}))

    with pytest.raises(ModelError, match=r"a tensor holds NaN or infinity \(weights\.a\)"):
        read_snapshot(path)


@pytest.mark.parametrize("name", [STATE, TENSORS])
def test_a_pipe_is_refused_without_waiting(tmp_path: Path, name: str) -> None:
    path = write_snapshot(tmp_path, 1, Snapshot({}, {"weights.a": torch.zeros(2)}))
    (path / name).unlink()
    os.mkfifo(path / name)

    with pytest.raises(ModelError, match=r"a named pipe|damaged or not whole"):
        read_snapshot(path)


def test_a_header_larger_than_the_file_is_refused(tmp_path: Path) -> None:
    path = write_snapshot(tmp_path, 1, Snapshot({}, {"weights.a": torch.zeros(2)}))
    content = (2**40).to_bytes(8, "little") + b"{"
    (path / TENSORS).write_bytes(content)
    state = json.loads((path / STATE).read_text())
    (path / STATE).write_text(json.dumps({**state, "sha256": hashlib.sha256(content).hexdigest()}))

    with pytest.raises(ModelError, match="header is cut short"):
        read_snapshot(path)


@pytest.mark.parametrize("version", [2, True, "1", None])
def test_another_version_is_refused(tmp_path: Path, version: object) -> None:
    path = write_snapshot(tmp_path, 1, Snapshot({"version": version}, {"weights.a": torch.zeros(2)}))

    with pytest.raises(ModelError, match="is of version"):
        read_snapshot(path)


@pytest.mark.parametrize("name", WHOLE)
@pytest.mark.parametrize("value", [None, -1, "1", True, [1]], ids=str)
def test_a_state_that_lacks_a_count_is_refused(name: str, value: object) -> None:
    assert _check_state(WHOLE, Path("run")) == 3

    with pytest.raises(ModelError, match=f"run: {name} of its last checkpoint is"):
        _check_state({**WHOLE, name: value}, Path("run"))
