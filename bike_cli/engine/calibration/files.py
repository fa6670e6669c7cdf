"""Files of calibrations: JSON, version 1.

One object: `bike` is "calibration", `version` is 1, and the other keys are the fields of `Calibration`. `values` are
numbers in ascending order, `curve` is null or `{"slope": …, "offset": …}`, `contents` are sorted. A condition is a
string, number, boolean, null or a list of strings.
"""

from __future__ import annotations

import dataclasses
import json
import math
import re
import tempfile
from collections.abc import Mapping
from pathlib import Path
from typing import get_args

import numpy as np

from bike_cli.engine.calibration.calibration import MOST_VALUES, Calibration, Curve, Measure
from bike_cli.engine.models.json_files import parse_json
from bike_cli.engine.models.weight_files import check_regular
from bike_cli.errors import ModelError, UsageError, first_line, shorten

VERSION = 1
KIND = "calibration"
WAY_OUT = "give a file that bike calibrate --save wrote"
MAX_BYTES = 2**26  # 64 MiB: the digests of a million clips
FIELDS = tuple(f.name for f in dataclasses.fields(Calibration))
NEEDED = ("model", "fingerprint")  # conditions without which no run could be compared

_DIGEST = re.compile(r"[0-9a-f]{64}")


def write_calibration(path: str | Path, calibration: Calibration) -> None:
    """Write a calibration; the file appears whole or not at all.

    Raises:
        UsageError: a file that cannot be written.
    """
    content = {"bike": KIND, "version": VERSION, **to_json(calibration)}
    # A line per field: short enough for people to read the settings, and for tools to compare two files.
    lines = (f"{json.dumps(name)}: {json.dumps(value, allow_nan=False)}" for name, value in content.items())
    text = "{\n" + ",\n".join(lines) + "\n}\n"
    try:
        file = Path(path).resolve()  # a symbolic link stays a link
        with tempfile.TemporaryDirectory(prefix=".unfinished-", dir=file.parent) as unfinished:
            written = Path(unfinished, file.name)
            written.write_text(text, encoding="ascii")
            written.replace(file)
    except (OSError, ValueError) as e:  # ValueError: a NUL character
        reason = getattr(e, "strerror", None) or first_line(e)
        raise UsageError(f"{shorten(path)}: cannot be written ({reason}); choose another file") from e


def to_json(calibration: Calibration) -> dict[str, object]:
    """Return the fields of a calibration as JSON values; `from_json` reads them."""
    curve = calibration.curve
    return {name: getattr(calibration, name) for name in FIELDS} | {
        "conditions": dict(calibration.conditions),
        "values": calibration.values.tolist(),
        "curve": None if curve is None else dataclasses.asdict(curve),
        "contents": sorted(calibration.contents),
    }


def read_calibration(path: str | Path) -> Calibration:
    """Return the calibration that `write_calibration` wrote. Nothing in the file is ever executed.

    Raises:
        UsageError: a file that is missing, damaged, of another kind or version, or too large.
    """
    path = Path(path)
    try:
        size = check_regular(path, WAY_OUT)
    except ModelError as e:  # not a model, so not its exit code
        raise UsageError(str(e), settings=("calibration",)) from e
    try:
        if size > MAX_BYTES:
            raise ValueError(f"it is larger than the {MAX_BYTES // 2**20} MiB that bike reads")
        content = parse_json(path.read_text(encoding="utf-8"))
        if not isinstance(content, dict) or content.get("bike") != KIND:
            raise ValueError("it is of another kind")
        _check_version(path, content.get("version"))
        return from_json({name: value for name, value in content.items() if name not in ("bike", "version")})
    except RecursionError as e:
        raise _invalid(path, "it is nested too deeply") from e
    except (OSError, ValueError, TypeError, OverflowError) as e:
        raise _invalid(path, getattr(e, "strerror", None) or first_line(e)) from e


def _invalid(path: Path, problem: str) -> UsageError:
    return UsageError(f"{shorten(path)}: is not a bike calibration ({problem}); {WAY_OUT}", settings=("calibration",))


def _check_version(path: Path, version: object) -> None:
    if type(version) is not int or version != VERSION:
        raise UsageError(
            f"{path}: is a calibration of version {shorten(repr(version), 60)}, but this bike reads {VERSION}; update "
            "bike, or calibrate again",
            settings=("calibration",),
        )


def from_json(content: Mapping[str, object]) -> Calibration:
    """Return the calibration of which these are the fields, as `to_json` returns them.

    Raises:
        ValueError, TypeError: anything unexpected.
    """
    if missing := [name for name in FIELDS if name not in content]:
        raise ValueError(f"it has no {missing[0]}")
    if unknown := sorted(content.keys() - set(FIELDS)):
        raise ValueError(f"it has the unknown key {shorten(repr(unknown[0]), 60)}")
    contents = _texts(content["contents"], "contents")
    if any(_DIGEST.fullmatch(digest) is None for digest in contents) or len(set(contents)) < len(contents):
        raise ValueError("its contents are not different SHA-256 digests")
    return Calibration(
        labels=_texts(content["labels"], "labels"),
        conditions=_conditions(content["conditions"]),
        values=_values(content["values"]),
        scale=_number(content["scale"], "scale"),
        curve=_curve(content["curve"]),
        promise=_number(content["promise"], "promise"),
        contents=frozenset(contents),
        measure=measure_of(content["measure"]),
    )


def _number(value: object, name: str) -> float:
    if isinstance(value, bool) or not isinstance(value, int | float) or not math.isfinite(value):
        raise ValueError(f"its {name} is {shorten(repr(value), 60)}, not a number")
    return float(value)


def _texts(value: object, name: str) -> tuple[str, ...]:
    if not isinstance(value, list) or not all(isinstance(text, str) for text in value):
        raise TypeError(f"its {name} are not strings")
    return tuple(value)


def measure_of(value: object) -> Measure:
    """Return a name of a measure as such; raise ValueError for any other value."""
    for measure in get_args(Measure):
        if value == measure:
            return measure  # type: ignore[no-any-return]
    raise ValueError(f"its measure is {shorten(repr(value), 60)}, not one of {', '.join(get_args(Measure))}")


def _values(value: object) -> np.ndarray[tuple[int], np.dtype[np.float64]]:
    if not isinstance(value, list) or not 1 <= len(value) <= MOST_VALUES:
        raise ValueError(f"its values are not a list of 1 to {MOST_VALUES:,} numbers")
    return np.array([_number(number, "value") for number in value], dtype=np.float64)


def _curve(value: object) -> Curve | None:
    if value is None:
        return None
    if not isinstance(value, dict) or value.keys() != {"slope", "offset"}:
        raise TypeError("its curve is not an object with slope and offset")
    return Curve(slope=_number(value["slope"], "slope"), offset=_number(value["offset"], "offset"))


def _conditions(value: object) -> dict[str, object]:
    if not isinstance(value, dict):
        raise TypeError("its conditions are not an object")
    if missing := [name for name in NEEDED if not isinstance(value.get(name), str)]:
        raise ValueError(f"its conditions have no {missing[0]}")
    return {name: _condition(name, given) for name, given in value.items()}


def _condition(name: str, value: object) -> object:
    if isinstance(value, list):
        return _texts(value, f"conditions for {shorten(name, 60)}")
    if value is None or isinstance(value, str | bool):
        return value
    return value if isinstance(value, int) else _number(value, shorten(name, 60))
