"""Checkpoints: those of version 0.1 are read; damaged or hostile ones are refused with the reason."""

import hashlib
import json
import os
from pathlib import Path

import pytest
import torch
from safetensors.torch import save_file

from bike_cli.errors import ModelError
from bike_cli.tasks.finetune.snapshots import (
    STATE,
    TENSORS,
    RunResults,
    Snapshot,
    TrainingState,
    last_snapshot,
    read_snapshot,
    write_snapshot,
)

METRICS = {"top1": 0.5, "top5": 1.0, "macro": 0.25}
BEST = {"start": {"top1": 0.25, "top5": 1.0, "macro": 0.125}, "epoch": 1, "value": 0.5, "metrics": METRICS}
# As version 0.1 wrote it, after `version` and `sha256`.
VERSION_0_1 = {
    "epoch": 1,
    "batch": 2,
    "failures": 3,
    "scaler": {},
    "settings": {"lr": 0.001, "spot": None, "labels": ["red square"]},
    "best": BEST,
    "since_best": 0,
    "logged": 7,
}


def snapshot(**tensors: torch.Tensor) -> Snapshot:
    return Snapshot(TrainingState(0, 0, 0, {}, {}, RunResults(), 0), {"weights.a": torch.zeros(2), **tensors})


def write_0_1(folder: Path, step: int = 5, **changes: object) -> Path:
    """Write a checkpoint as version 0.1 did."""
    path = folder / f"step-{step:09d}"
    path.mkdir(parents=True)
    save_file({"weights.head.a": torch.ones(2), "optimizer.head.a.step": torch.tensor(5.0)}, path / TENSORS)
    digest = hashlib.sha256((path / TENSORS).read_bytes()).hexdigest()
    state = {"version": 1, "sha256": digest, **VERSION_0_1, **changes}
    (path / STATE).write_text(json.dumps(state, indent=1) + "\n")
    return path


def test_a_checkpoint_of_version_0_1_is_read_and_written_in_the_same_form(tmp_path: Path) -> None:
    old = write_0_1(tmp_path)

    found = last_snapshot(tmp_path)

    assert found is not None
    assert (found.state.epoch, found.state.batch, found.state.failures, found.state.logged) == (1, 2, 3, 7)
    assert found.state.best == RunResults(start=BEST["start"], epoch=1, value=0.5, metrics=METRICS)  # type: ignore[arg-type]
    assert set(found.tensors) == {"weights.head.a", "optimizer.head.a.step"}
    new = write_snapshot(tmp_path / "new", 5, found)
    assert new.name == old.name
    assert (new / STATE).read_text() == (old / STATE).read_text()


def test_a_checkpoint_before_the_first_validation_of_an_epoch_has_no_best_epoch(tmp_path: Path) -> None:
    found = read_snapshot(write_0_1(tmp_path, best={"start": METRICS}))

    assert found.state.best == RunResults(start=METRICS)


@pytest.mark.parametrize("value", [float("nan"), float("inf")])
def test_a_tensor_with_nan_or_infinity_is_refused_with_its_name(tmp_path: Path, value: float) -> None:
    path = write_snapshot(tmp_path, 1, snapshot(**{"weights.a": torch.tensor([0.0, value])}))

    with pytest.raises(ModelError, match=r"a tensor contains NaN or infinity \(weights\.a\)"):
        read_snapshot(path)


@pytest.mark.parametrize("name", [STATE, TENSORS])
def test_a_pipe_is_refused_without_waiting(tmp_path: Path, name: str) -> None:
    path = write_snapshot(tmp_path, 1, snapshot())
    (path / name).unlink()
    os.mkfifo(path / name)

    with pytest.raises(ModelError, match=r"a named pipe|damaged or incomplete"):
        read_snapshot(path)


def test_a_header_larger_than_the_file_is_refused(tmp_path: Path) -> None:
    path = write_snapshot(tmp_path, 1, snapshot())
    content = (2**40).to_bytes(8, "little") + b"{"
    (path / TENSORS).write_bytes(content)
    state = json.loads((path / STATE).read_text())
    (path / STATE).write_text(json.dumps({**state, "sha256": hashlib.sha256(content).hexdigest()}))

    with pytest.raises(ModelError, match="is not a complete safetensors file"):
        read_snapshot(path)


@pytest.mark.parametrize("version", [2, True, "1", None])
def test_another_version_is_refused(tmp_path: Path, version: object) -> None:
    with pytest.raises(ModelError, match="has version"):
        read_snapshot(write_0_1(tmp_path, version=version))


@pytest.mark.parametrize("name", VERSION_0_1)
@pytest.mark.parametrize("value", [None, -1, "1", True, [1]], ids=str)
def test_a_state_with_a_wrong_value_is_refused_and_the_checkpoint_before_is_used(
    tmp_path: Path, caplog: pytest.LogCaptureFixture, name: str, value: object
) -> None:
    write_0_1(tmp_path, step=4, logged=6)
    path = write_0_1(tmp_path, step=5, **{name: value})

    with pytest.raises(ModelError, match=f"{path}: {name} is "):
        read_snapshot(path)
    found = last_snapshot(tmp_path)

    assert found is not None
    assert found.state.logged == 6
    assert "using the one before" in caplog.text


def test_the_state_of_a_gradient_scaler_holds_numbers(tmp_path: Path) -> None:
    state = {
        "scale": 4096.0,
        "growth_factor": 2.0,
        "backoff_factor": 0.5,
        "growth_interval": 2000,
        "_growth_tracker": 5,
    }

    found = read_snapshot(write_0_1(tmp_path, scaler=state))

    assert found.state.scaler == state
    with pytest.raises(ModelError, match="scaler is not an object of numbers"):
        read_snapshot(write_0_1(tmp_path / "other", scaler={**state, "scale": "4096"}))


@pytest.mark.parametrize(
    "best", [{"epoch": 1}, {**BEST, "value": "0.5"}, {**BEST, "metrics": 1}, {**BEST, "epoch": 1.5}]
)
def test_a_best_epoch_without_metrics_is_refused(tmp_path: Path, best: object) -> None:
    with pytest.raises(ModelError, match="its best epoch has no metrics"):
        read_snapshot(write_0_1(tmp_path, best=best))
