"""Labels in JSON, YAML or Python's notation: lists, maps of ids and names, lists of objects."""

from __future__ import annotations

import ast
import json
import re
import warnings
from collections.abc import Callable, Collection, Mapping, Sequence
from itertools import pairwise
from pathlib import Path
from typing import Any

import yaml

from bike_cli.data.described_documents import is_described, parse_nodes, read_described
from bike_cli.data.label_tables import FIX, LabelTable, labels_by_header, pair_labels
from bike_cli.data.lines import Line, tidy
from bike_cli.errors import UsageError

_CONTAINERS = ("id2label", "labels", "names", "classes", "categories", "class_names", "label2id", "label_map")
_DEEPEST = 4  # lists in objects


def read_document(text: str, path: Path, lines: Sequence[Line]) -> LabelTable | None:
    """Return the labels of a file in JSON, YAML or Python's notation; None if it has another format."""
    bare = text.strip()
    suffix = path.suffix.lower()
    value, form, records = None, "JSON", None
    if bare[:1] in ("[", "{", "("):
        records = _json_lines(lines)
        value = records or _parsed(bare)
        if value is None and (suffix == ".json" or _is_open(lines)):
            raise UsageError(f"{path}: begins like JSON, but is not valid; correct it, or {FIX}")
    elif suffix in (".yaml", ".yml") or _looks_like_yaml(lines):
        value, form = _yaml(text), "YAML"
        if value is None and suffix in (".yaml", ".yml"):
            if not _is_deep(text):
                parse_nodes(text, path)  # names the line
            raise UsageError(f"{path}: is not valid YAML; correct it, or {FIX}")
    elif suffix == ".json":
        value = _parsed(bare)
    if not isinstance(value, (Mapping, list, tuple, set)):
        return None
    if is_described(_without_containers(value)):
        texts = [Line(f"{path}:1", text)] if records is None else lines
        return read_described(texts, path, form, containers=_CONTAINERS)
    return _of_value(value, str(path), form)


def _without_containers(value: object) -> object:
    """Return what is in the fields that labels may be in, such as `labels`."""
    for _ in range(_DEEPEST):
        if isinstance(value, Mapping):
            value = next((value[name] for name in _CONTAINERS if isinstance(value.get(name), (list, dict))), value)
    return value


def _is_deep(text: str) -> bool:
    """Return whether brackets nest deeper than in a list of labels; YAML takes time quadratic in the depth."""
    depth = 0
    for bracket in re.findall(r"[\[\]{}]", text):
        depth += 1 if bracket in "[{" else -1
        if depth > 4 * _DEEPEST:
            return True
    return False


def _parsed(text: str) -> object:
    if _is_deep(text):
        return None
    parsers: list[Callable[[str], object]] = [json.loads, _yaml]
    if not re.search(r"['\"]\s+['\"]", text):  # Python joins two texts without a comma between them
        parsers.insert(1, ast.literal_eval)
    for parse in parsers:
        try:
            with warnings.catch_warnings():
                warnings.simplefilter("ignore")  # of Python's compiler, about escapes such as "\\d"
                value = parse(text)
        except (ValueError, SyntaxError, RecursionError, MemoryError, TypeError):
            continue
        if value is not None:
            return value
    return None


def _json_lines(lines: Sequence[Line]) -> list[object] | None:
    if len(lines) < 2 or not all(line.text.startswith("{") and line.text.endswith("}") for line in lines):
        return None
    values = [_parsed(line.text) for line in lines]
    return values if all(isinstance(value, dict) for value in values) else None


def _yaml(text: str) -> object:
    if _is_deep(text):
        return None
    try:
        # BaseLoader keeps text: `no` and `on` may be labels.
        value: object = yaml.load(text, Loader=yaml.BaseLoader)
    except (yaml.YAMLError, RecursionError, ValueError):
        return None
    return value


def _looks_like_yaml(lines: Sequence[Line]) -> bool:
    """Return whether lines are YAML whatever the name of the file, which a pipe does not have."""
    first = lines[0].text if lines else ""
    names = "|".join(_CONTAINERS)
    is_document = re.fullmatch(rf"---|({names})\s*:\s*([\[{{].*)?|-\s+\w+:\s.*", first) is not None
    return is_document or _maps_to_lists([line.text for line in lines])


def _maps_to_lists(texts: Sequence[str]) -> bool:
    """Return whether lines are labels with their descriptions, such as `archery: [a bow]`, or this on two lines."""
    if re.match(r"[^-\s].*:(\s*\[.*\])?$", texts[0] if texts else "") is None:
        return False
    has_list = any(re.search(r":\s+\[.*\]$", text) for text in texts)
    return has_list or any(text.endswith(":") and item.startswith("- ") for text, item in pairwise(texts))


def _is_open(lines: Sequence[Line]) -> bool:
    """Return whether the first line opens a bracket and does not close it, or the whole text is in brackets."""
    first, last = lines[0].text, lines[-1].text.rstrip(",;")
    pairs = {"[": "]", "{": "}", "(": ")"}
    closing = pairs[first[0]]
    return first.count(first[0]) > first.count(closing) or (
        len(lines) == 1 and last.endswith(closing) and first[0] != "("
    )


def _of_value(value: Collection[Any], where: str, form: str, *, depth: int = 0) -> LabelTable:
    if depth > _DEEPEST:  # YAML may contain itself
        raise UsageError(f"{where}: is nested too deeply to be a list of labels; {FIX}")
    if isinstance(value, Mapping):
        inner = next((value[name] for name in _CONTAINERS if isinstance(value.get(name), (list, dict))), None)
        if inner is not None:
            return _of_value(inner, where, form, depth=depth + 1)
        return _of_mapping({str(name): item for name, item in value.items()}, where, form)
    items = sorted(value, key=str) if isinstance(value, set) else list(value)
    if items and all(isinstance(item, Mapping) for item in items):
        return _of_objects(items, where, form)
    if items and all(isinstance(item, (list, tuple)) and len(item) == 2 for item in items):
        pairs = [[_text(cell) for cell in item] for item in items]
        lines = [Line(f"{where}, entry {i}", "") for i in range(1, len(pairs) + 1)]
        found = pair_labels(lines, pairs, f"{form} list of pairs")
        if found is not None:
            return found
    return _of_texts([_text(item) for item in items], where, f"{form} list")


def _of_texts(texts: Sequence[str], where: str, form: str) -> LabelTable:
    wrong = next((i for i, text in enumerate(texts, start=1) if not text.strip()), None)
    if wrong is not None or not texts:
        fact = f"entry {wrong} is not a text" if texts else "contains no labels"
        raise UsageError(f"{where}: {fact}; {FIX}")
    return LabelTable(tuple(Line(f"{where}, entry {i}", tidy(t)) for i, t in enumerate(texts, start=1)), form)


def _of_mapping(value: Mapping[str, object], where: str, form: str) -> LabelTable:
    names, items = list(value), list(value.values())
    if items and all(isinstance(i, (list, tuple)) and len(i) == 2 and re.match(r"n\d{8}$", str(i[0])) for i in items):
        items = [i[1] for i in items if isinstance(i, (list, tuple))]  # ImageNet's index: [wnid, name]
    texts = [_text(item) for item in items]
    if all(item is None or item == "" for item in items):  # `{run, walk}` of YAML
        return _of_texts(names, where, f"{form} set")
    if not all(texts):
        raise UsageError(f"{where}: a value is not a text; give a list of labels, or a map of ids to names")
    lines = [Line(f"{where}, {name!r}", "") for name in names]
    found = pair_labels(lines, [[name, text] for name, text in zip(names, texts, strict=True)], f"{form} map")
    if found is not None:
        return found
    if any(name.isdecimal() for name in names) or any(text.isdecimal() for text in texts):
        raise UsageError(f"{where}: some ids are duplicated or are not whole numbers; give each label its own")
    labelled = tuple(Line(line.where, tidy(text)) for line, text in zip(lines, texts, strict=True))
    return LabelTable(labelled, f"{form} map of names to labels", names=tuple(names))


def _of_objects(items: Sequence[Mapping[object, object]], where: str, form: str) -> LabelTable:
    columns = list(dict.fromkeys(str(name) for item in items for name in item))
    rows = [[_text(item.get(column, "")) for column in columns] for item in items]
    lines = [Line(f"{where}, entry {i}", "") for i in range(1, len(rows) + 1)]
    return labels_by_header(columns, rows, lines, where, f"{form} list of objects")


def _text(value: object) -> str:
    if isinstance(value, bool) or not isinstance(value, (str, int)):
        return ""
    if isinstance(value, int) and value.bit_length() > 64:  # `str` refuses thousands of digits
        return ""
    return str(value)
