"""Read JSON from untrusted files, without torch, whose import takes seconds."""

from __future__ import annotations

import json
from pathlib import Path

from bike_cli.engine.models.weight_files import check_regular
from bike_cli.errors import ModelError, first_line, shorten

WAY_OUT = "give open_clip or BIKE weights, or a folder written by bike"
MAX_JSON_BYTES = 2**24  # 16 MiB
MAX_NAME = 80  # characters of a key in a message


def read_json(path: Path) -> dict[str, object]:
    """Return the object in a JSON file.

    Raises:
        ModelError: a file that is missing, too large, not a JSON object, or has a key twice.
    """
    if check_regular(path, WAY_OUT) > MAX_JSON_BYTES:
        raise ModelError(f"{path}: is larger than the {MAX_JSON_BYTES // 2**20} MiB that bike reads; {WAY_OUT}")
    try:
        content = parse_json(path.read_text(encoding="utf-8"))
    except RecursionError as e:
        raise ModelError(f"{path}: is nested too deeply; {WAY_OUT}") from e
    except (OSError, ValueError) as e:
        raise ModelError(f"{path}: cannot be read as JSON ({first_line(e)}); {WAY_OUT}") from e
    if not isinstance(content, dict):
        raise ModelError(f"{path}: contains a {type(content).__name__}, not an object; {WAY_OUT}")
    return content


def parse_json(text: str) -> object:
    """Return what a JSON text holds.

    Raises:
        ValueError: not JSON, or an object with a key twice.
        RecursionError: nested too deeply.
    """
    return json.loads(text, object_pairs_hook=_unique)


def _unique(pairs: list[tuple[str, object]]) -> dict[str, object]:
    content = dict(pairs)
    if len(content) < len(pairs):
        names = [name for name, _ in pairs]
        twice = next(name for name in content if names.count(name) > 1)
        raise ValueError(f"the key {shorten(repr(twice), MAX_NAME)} occurs twice")
    return content
