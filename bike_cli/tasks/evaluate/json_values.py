"""The JSON of reports: dataclasses become objects, and objects become dataclasses again."""

from __future__ import annotations

import json
import math
import types
import typing
from collections.abc import Callable, Mapping
from dataclasses import MISSING, Field, dataclass, fields, is_dataclass
from typing import Any

from bike_cli.errors import shorten
from bike_cli.settings import type_hints

DIGITS = 9  # more differ between machines
SHOWN = 60  # characters of a value in a message


@dataclass(frozen=True)
class Estimate:
    """A metric without an interval.

    Args:
        value: the metric, or its mean over splits.
        std: population standard deviation over splits; None for a single value. The JSON has it under `KEY_std`.
    """

    value: float
    std: float | None = None


def key_of(part: Field[Any]) -> str:
    """Return the key of a dataclass field in the JSON."""
    return str(part.metadata.get("key", part.name))


def write_report(report: Any) -> str:  # noqa: ANN401
    """Return a report, a dataclass with a `version` and a `manifest`, as one line of JSON."""
    whole = encode(report)
    document = {"version": whole.pop("version"), "command": "eval", **whole.pop("manifest"), **whole}
    return json.dumps(document, ensure_ascii=False, allow_nan=False)


def read_report(
    kind: Any,  # noqa: ANN401
    text: str,
    *,
    latest: int,
    update: Callable[[dict[str, Any]], dict[str, Any]] | None = None,
) -> Any:  # noqa: ANN401
    """Return the report of a kind that `write_report` wrote.

    Args:
        latest: the newest version of the JSON that can be read.
        update: returns a report of any version as the newest one has it; it may raise ValueError.
    Raises:
        ValueError: not such a report, or one of a newer version.
    """
    try:
        document = json.loads(text)
    except RecursionError as e:
        raise ValueError("nested too deeply") from e
    if not isinstance(document, dict):
        raise ValueError("not a JSON object")
    version = document.get("version", 1)
    if version not in range(1, latest + 1):
        raise ValueError(f"version is {shorten(repr(version), SHOWN)}, and this bike reads up to {latest}")
    document = document if update is None else update(document)
    return decode(kind, {**document, "manifest": document, "version": version}, "")


def encode(value: Any) -> Any:  # noqa: ANN401
    """Return a value of a report as JSON has it; a number that is not finite is null."""
    if is_dataclass(value):
        return {key_of(part): encode(getattr(value, part.name)) for part in fields(value)}
    if isinstance(value, Mapping):
        encoded = {}
        for key, item in value.items():
            encoded[key] = encode(item.value if isinstance(item, Estimate) else item)
            if isinstance(item, Estimate) and item.std is not None:
                encoded[f"{key}_std"] = encode(item.std)
        return encoded
    if isinstance(value, list | tuple):
        return [encode(item) for item in value]
    if isinstance(value, float):
        return round(value, DIGITS) + 0.0 if math.isfinite(value) else None
    return value


def decode(kind: Any, value: Any, where: str) -> Any:  # noqa: ANN401
    """Return a JSON value as the declared type of a field.

    Args:
        kind: a dataclass, a tuple, a mapping, or a plain type.
        where: the place of the value, for messages.
    Raises:
        ValueError: a value of another type, or a missing one.
    """
    origin, arguments = typing.get_origin(kind), typing.get_args(kind)
    if origin in (types.UnionType, typing.Union):
        kind = next((option for option in arguments if _is_a(value, option)), arguments[0])
        return decode(kind, value, where)
    if not _is_a(value, kind):
        raise ValueError(f"{where} is {shorten(repr(value), SHOWN)}, expected {_name_of(kind)}")
    if is_dataclass(kind):
        return _decoded_dataclass(kind, value, where)
    if origin is tuple:
        return tuple(decode(arguments[0], item, f"{where}[{i}]") for i, item in enumerate(value))
    if origin is None:
        return value
    if arguments[1] is Estimate:
        return _decoded_estimates(value, where)
    return {key: decode(arguments[1], item, f"{where}.{key}") for key, item in value.items()}


def _decoded_dataclass(kind: Any, document: dict[str, Any], where: str) -> Any:  # noqa: ANN401
    hints, values = type_hints(kind), {}
    for part in fields(kind):
        place = f"{where}.{key_of(part)}".removeprefix(".").removeprefix("manifest.")
        if key_of(part) in document:
            values[part.name] = decode(hints[part.name], document[key_of(part)], place)
        elif part.default is MISSING:
            raise ValueError(f"{place} is missing")
    return kind(**values)


def _decoded_estimates(values: dict[str, Any], where: str) -> dict[str, Estimate]:
    numbers = {key: decode(float, value, f"{where}.{key}") for key, value in values.items()}
    names = [key for key in numbers if not (key.endswith("_std") and key.removesuffix("_std") in numbers)]
    return {name: Estimate(numbers[name], numbers.get(f"{name}_std")) for name in names}


def _is_a(value: object, kind: Any) -> bool:  # noqa: ANN401
    origin = typing.get_origin(kind)
    if is_dataclass(kind) or origin is Mapping:
        return isinstance(value, dict)
    if origin is tuple:
        return isinstance(value, list)
    if kind is float:
        return isinstance(value, int | float) and not isinstance(value, bool) and math.isfinite(value)
    return isinstance(value, kind) and (kind is bool or not isinstance(value, bool))


def _name_of(kind: Any) -> str:  # noqa: ANN401
    if is_dataclass(kind) or typing.get_origin(kind) is Mapping:
        return "an object"
    if typing.get_origin(kind) is tuple:
        return "an array"
    return {str: "a string", int: "a whole number", float: "a number", bool: "true or false"}.get(kind, "null")
