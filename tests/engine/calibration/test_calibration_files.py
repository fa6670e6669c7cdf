"""Files of calibrations: what is written is read, and anything else is one clear error."""

import json
import os
import sys
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path

import numpy as np
import pytest
from calibrations import a_calibration
from hypothesis import given, settings
from hypothesis import strategies as st

from bike_cli.engine.calibration.files import FIELDS, read_calibration, write_calibration
from bike_cli.errors import UsageError


@pytest.fixture
def file(tmp_path: Path) -> Path:
    write_calibration(tmp_path / "cal.json", a_calibration())
    return tmp_path / "cal.json"


def test_a_calibration_is_read_as_it_was_written(tmp_path: Path) -> None:
    rng = np.random.default_rng(0)
    for changed in (
        {},
        {"curve": None, "labels": ("é \u2028", "\udcff"), "contents": frozenset()},
        {"values": np.sort(rng.random(10_000)), "scale": 0.2, "promise": 1e-9, "measure": "logit"},
        {"conditions": {"model": "m", "fingerprint": "f", "spot": None, "t": 0.1 + 0.2, "crops": 3, "draft": True}},
    ):
        written = a_calibration(**changed)
        write_calibration(str(tmp_path / "cal.json"), written)
        read = read_calibration(str(tmp_path / "cal.json"))

        for name in FIELDS:
            assert np.array_equal(getattr(read, name), getattr(written, name)), name
        read.check(written.conditions)
        assert [path.name for path in tmp_path.iterdir()] == ["cal.json"]


def test_the_same_calibration_is_the_same_bytes(tmp_path: Path, file: Path) -> None:
    write_calibration(tmp_path / "again.json", read_calibration(file))

    assert (tmp_path / "again.json").read_bytes() == file.read_bytes()


def test_a_link_stays_a_link(tmp_path: Path, file: Path) -> None:
    (tmp_path / "link.json").symlink_to(file)
    write_calibration(tmp_path / "link.json", a_calibration(promise=0.1))

    assert (tmp_path / "link.json").is_symlink()
    assert read_calibration(file).promise == 0.1


@pytest.mark.parametrize("name", ["no/such/folder.json", "x" * 300, "a\0b", ""])
def test_a_file_that_cannot_be_written_is_a_usage_error(tmp_path: Path, name: str) -> None:
    with pytest.raises(UsageError, match="cannot be written"):
        write_calibration(tmp_path / name, a_calibration())

    assert list(tmp_path.iterdir()) == []


def refused(file: Path) -> str:
    """Return the one line that refuses a file."""
    with pytest.raises(UsageError) as caught:
        read_calibration(file)
    message = str(caught.value)
    assert message.count("\n") == 0
    assert "; " in message
    assert len(message) < 600 + len(str(file))
    return message


def changed_file(file: Path, change: Callable[[dict[str, object]], object]) -> Path:
    content = json.loads(file.read_text())
    change(content)
    file.write_text(json.dumps(content))
    return file


@pytest.mark.parametrize(
    ("name", "value", "problem"),
    [
        ("bike", "classifier", "of another kind"),
        ("version", 2, "version 2, but this bike reads 1"),
        ("version", True, "version True"),
        ("version", None, "version None"),
        ("labels", [], "labels"),
        ("labels", ["a", "a"], "labels"),
        ("labels", "red", "labels"),
        ("labels", ["a", 1], "labels"),
        ("conditions", [], "conditions"),
        ("conditions", {"model": "tiny"}, "no fingerprint"),
        ("conditions", {"fingerprint": 3, "model": "tiny"}, "no fingerprint"),
        ("conditions", {"fingerprint": "a", "model": "tiny", "x": {}}, "its x is {}"),
        ("conditions", {"fingerprint": "a", "model": "tiny", "x": [1]}, "x are not strings"),
        ("conditions", {"fingerprint": "a", "model": "tiny", "x": float("nan")}, "its x is nan"),
        ("values", [], "values"),
        ("values", [0.1] * 10_001, "values"),
        ("values", [0.2, 0.1], "ascending"),
        ("values", [0.1, "0.2"], "its value is '0.2'"),
        ("values", [0.1, None], "its value is None"),
        ("values", [True], "its value is True"),
        ("values", [float("inf")], "its value is inf"),
        ("values", [[0.1]], "its value is"),
        ("values", [10**400], "is not a bike calibration"),
        ("values", [7.0], "not cosines"),
        ("scale", 3, "scale is 3"),
        ("scale", "1", "scale is '1'"),
        ("curve", {}, "curve"),
        ("curve", {"slope": 1, "offset": float("nan")}, "offset is nan"),
        ("curve", {"slope": 1, "offset": 0, "more": 0}, "curve"),
        ("curve", 3, "curve"),
        ("promise", 0, "promise is 0"),
        ("promise", 0.5, "promise is 0.5"),
        ("contents", ["0" * 63], "SHA-256"),
        ("contents", ["0" * 64] * 2, "SHA-256"),
        ("contents", ["G" * 64], "SHA-256"),
        ("contents", {}, "contents"),
        ("measure", "margin", "measure is 'margin'"),
        ("measure", ["cosine"], "measure is"),
        ("further", 1, "unknown key 'further'"),
        ("x" * 10_000, 1, "unknown key 'xxx"),
    ],
)
def test_a_wrong_field_is_refused(file: Path, name: str, value: object, problem: str) -> None:
    assert problem in refused(changed_file(file, lambda content: content.update({name: value})))


@pytest.mark.parametrize("name", FIELDS)
def test_a_missing_field_is_refused(file: Path, name: str) -> None:
    assert f"has no {name}" in refused(changed_file(file, lambda content: content.pop(name)))


@pytest.mark.parametrize(
    "content",
    [
        b"{}",
        b"[]",
        b"null",
        b"not JSON",
        b"\xff\xfe\x00",
        b'{"bike": "calibration"',
        b"[" * 100_000,
        b'{"a":' * 100_000,
        b'{"bike": "calibration", "bike": "calibration"}',
        b'{"bike": "calibration", "version": 1' + b"1" * 5000 + b"}",
        b'{"bike": ["calibration"]}',
    ],
)
def test_other_files_are_refused(tmp_path: Path, content: bytes) -> None:
    (tmp_path / "other.json").write_bytes(content)

    refused(tmp_path / "other.json")


def test_what_is_not_a_file_is_refused(tmp_path: Path) -> None:
    assert "no such file" in refused(tmp_path / "missing.json")
    assert "folder" in refused(tmp_path)
    assert "no such file" in refused(tmp_path / "a\0b")
    if sys.platform != "win32":
        os.mkfifo(tmp_path / "pipe")
        assert "named pipe" in refused(tmp_path / "pipe")


def test_a_huge_file_is_not_read(tmp_path: Path) -> None:
    with (tmp_path / "huge.json").open("wb") as stream:
        stream.truncate(2**26 + 1)  # sparse

    assert "larger than the 64 MiB" in refused(tmp_path / "huge.json")


@settings(max_examples=150)
@given(data=st.data())
def test_a_damaged_file_is_refused_or_read(tmp_path_factory: pytest.TempPathFactory, data: st.DataObject) -> None:
    file = tmp_path_factory.getbasetemp() / "damaged.json"
    write_calibration(file, a_calibration(values=[0.1, 0.2]))
    content = bytearray(file.read_bytes())
    start = data.draw(st.integers(0, len(content) - 1))
    stop = data.draw(st.integers(start, min(start + 8, len(content))))
    content[start:stop] = data.draw(st.binary(max_size=4))
    file.write_bytes(content)

    with suppress(UsageError):  # any other error is a bug
        read_calibration(file)
