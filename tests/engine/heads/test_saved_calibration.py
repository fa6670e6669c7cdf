"""What tells that a video shows none of a classifier's classes is restored, and refused where it is damaged."""

import json
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from safetensors import safe_open
from safetensors.torch import save_file

from bike_cli.config import AttributeConfig, SamplingConfig
from bike_cli.engine.calibration.calibration import Calibration
from bike_cli.engine.heads.few_shot import Head
from bike_cli.engine.heads.saved_classifier import KEY, TENSORS, SavedClassifier, load_classifier, save_classifier
from bike_cli.engine.heads.shot_distances import ShotDistances
from bike_cli.errors import ModelError

LABELS, WIDTH = ("zorb", "quax", "wibble"), 4
CALIBRATION = Calibration(
    labels=LABELS,
    conditions={"model": "tiny", "fingerprint": "a-b-c"},
    values=np.linspace(-3, -1, 21),
    scale=0.9,
    curve=None,
    promise=0.05,
    contents=frozenset({"ab" * 32, "cd" * 32}),
    measure="distance",
)
BARE = SavedClassifier(
    labels=LABELS,
    also=(),
    method="probe",
    model="tiny",
    fingerprint="a-b-c",
    sampling=SamplingConfig(frames=4),
    pool="tcs",
    spot="words",
    temperature=0.3,
    template="a film of {}",
    templates=("a film of {}",),
    attributes=AttributeConfig(attribute_weight=0.0),
    head=Head(torch.ones(3, WIDTH), torch.zeros(3), torch.zeros(0, WIDTH), torch.zeros(0, dtype=torch.int64)),
    manifest={"videos": [{"path": "a.mp4", "label": 0, "sha256": "ef" * 32}]},
)
CALIBRATED = replace(
    BARE,
    measure="distance",
    distances=ShotDistances(torch.arange(12.0).reshape(3, WIDTH), torch.eye(WIDTH) + 0.1),
    calibration=CALIBRATION,
)
Tensors = dict[str, torch.Tensor]


@pytest.fixture
def file(tmp_path: Path) -> Path:
    save_classifier(CALIBRATED, tmp_path / "actions.bike")
    return tmp_path / "actions.bike"


def content_of(file: Path) -> tuple[dict[str, object], Tensors]:
    with safe_open(file, framework="pt") as opened:
        return json.loads(opened.metadata()[KEY]), {name: opened.get_tensor(name) for name in opened.keys()}  # noqa: SIM118


def test_it_is_restored(file: Path) -> None:
    read = load_classifier(file)

    assert read.distances is not None
    assert read.calibration is not None
    assert torch.equal(read.distances.means, torch.arange(12.0).reshape(3, WIDTH))
    assert torch.equal(read.distances.whitening, torch.eye(WIDTH) + 0.1)
    np.testing.assert_array_equal(read.calibration.values, CALIBRATION.values)
    assert read.calibration.contents == CALIBRATION.contents
    assert (read.measure, read.calibration.measure, read.calibration.promise) == ("distance", "distance", 0.05)
    assert read.digest == CALIBRATED.digest


def test_without_it_the_file_is_that_of_an_earlier_bike(tmp_path: Path) -> None:
    save_classifier(BARE, tmp_path / "old.bike")

    header, tensors = content_of(tmp_path / "old.bike")
    assert not {"measure", "distances", "calibration"} & header.keys()
    assert tensors.keys() == set(TENSORS)
    read = load_classifier(tmp_path / "old.bike")
    assert (read.measure, read.distances, read.calibration) == ("logit", None, None)


def change_calibration(**values: object) -> Callable[[dict[str, object], Tensors], None]:
    def change(header: dict[str, object], _: Tensors) -> None:
        calibration = header["calibration"]
        assert isinstance(calibration, dict)
        calibration.update(values)

    return change


@pytest.mark.parametrize(
    "change",
    [
        lambda header, _: header.update(measure="guess"),
        lambda header, _: header.update(measure=3),
        lambda header, _: header.update(measure="cosine"),
        lambda header, _: header.pop("measure"),
        lambda header, _: header.update(calibration=[1, 2]),
        lambda header, _: header.update(calibration={}),
        change_calibration(values=[]),
        change_calibration(values=[-1.0, -2.0]),
        change_calibration(values=[-1.0, "x"]),
        change_calibration(contents=["no hash"]),
        change_calibration(promise=0.9),
        change_calibration(scale=None),
        change_calibration(measure="logit"),
        change_calibration(other=1),
        lambda _, tensors: tensors.pop("means"),
        lambda _, tensors: tensors.pop("whitening"),
        lambda _, tensors: [tensors.pop(name) for name in ("means", "whitening")],
        lambda _, tensors: tensors.update(means=torch.zeros(2, WIDTH)),
        lambda _, tensors: tensors.update(whitening=torch.zeros(WIDTH, WIDTH + 1)),
        lambda _, tensors: tensors.update(means=torch.zeros(3, WIDTH, dtype=torch.int64)),
        lambda _, tensors: tensors.update(means=torch.full((3, WIDTH), torch.nan)),
    ],
)
def test_what_is_damaged_is_refused_in_one_line(
    file: Path, change: Callable[[dict[str, object], Tensors], object]
) -> None:
    header, tensors = content_of(file)
    change(header, tensors)
    save_file(tensors, file, metadata={KEY: json.dumps(header)})

    with pytest.raises(ModelError) as refused:
        load_classifier(file)

    assert str(refused.value).startswith(f"{file}: ")
    assert "; " in str(refused.value)
    assert "\n" not in str(refused.value)
