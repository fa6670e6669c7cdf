"""Labels with descriptions in YAML or JSON: a map of labels to texts, or a list of objects.

The document is read as a tree of nodes, which know their lines, so that errors can name them.
"""

from __future__ import annotations

import json
import re
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import NamedTuple

import yaml

from bike_cli.data.columns import CLASS_ID_COLUMNS, CLASS_NAME_COLUMNS, DESCRIPTION_COLUMNS
from bike_cli.data.label_descriptions import different
from bike_cli.data.label_tables import LabelTable, is_id, unique_ids
from bike_cli.data.lines import Line, tidy
from bike_cli.errors import UsageError, shorten

_SURROGATES = re.compile(r"\\u[dD][89abAB][0-9a-fA-F]{2}\\u[dD][c-fC-F][0-9a-fA-F]{2}")
DESCRIBED_FIX = "write each label as 'label: [description, description]'"


_Where = Callable[[yaml.Node], str]  # the place of a node, for messages


class _Entry(NamedTuple):
    label: Line
    id: str
    descriptions: list[Line]


def is_described(value: object) -> bool:
    """Return whether a document, without its containers, has descriptions of labels.

    It is a map with a list as a value, whose keys are not all ids, or a list of objects with a field `description`
    or `descriptions`.
    """
    if isinstance(value, Mapping):
        has_list = any(isinstance(item, (list, tuple)) for item in value.values())
        return has_list and not all(str(name).isdecimal() for name in value)
    if not isinstance(value, (list, tuple)) or not all(isinstance(item, Mapping) for item in value):
        return False
    return any(str(field).strip().lower() in DESCRIPTION_COLUMNS for item in value for field in item)


def read_described(texts: Sequence[Line], path: Path, form: str, *, containers: Sequence[str]) -> LabelTable:
    """Return the labels and descriptions of a document for which `is_described` holds.

    Args:
        texts: the whole document; for JSON lines, each line of it.
        containers: fields of an object that the labels may be in.
    Raises:
        UsageError: a label or a description that is not a text, or is empty; not valid YAML or JSON.
    """
    entries: list[_Entry] = []
    for where, text in texts:
        root, line = parse_nodes(text, path), _line_number(where)
        entries += _entries(root, path, line, containers)
    labels = tuple(entry.label for entry in entries)
    descriptions = tuple(different(entry.descriptions, entry.label.text) for entry in entries)
    ids = [entry.id for entry in entries]
    numbers = unique_ids(ids, labels) if all(ids) and all(map(is_id, ids)) else ()
    return LabelTable(labels, f"{form} with descriptions", numbers, descriptions=descriptions)


def parse_nodes(text: str, path: Path) -> yaml.Node:
    """Return the tree of a YAML or JSON document; raise UsageError, with the line, if it is not valid."""
    if text.lstrip()[:1] in ("{", "["):
        text = text.replace("\t", " ")  # YAML has other rules for tabs
        text = _SURROGATES.sub(lambda pair: json.loads(f'"{pair[0]}"'), text)  # and one escape per character
    loader = getattr(yaml, "CBaseLoader", yaml.BaseLoader)  # ten times faster, where PyYAML was built with it
    try:
        root = yaml.compose(text, Loader=loader)
    except yaml.MarkedYAMLError as e:
        line = "" if e.problem_mark is None else f":{e.problem_mark.line + 1}"
        raise UsageError(f"{path}{line}: is not valid YAML ({e.problem}); correct it, or {DESCRIBED_FIX}") from e
    except (yaml.YAMLError, RecursionError, ValueError) as e:
        raise UsageError(f"{path}: is not valid YAML; correct it, or {DESCRIBED_FIX}") from e
    if root is None:
        raise UsageError(f"{path}: contains no labels; {DESCRIBED_FIX}")
    return root


def _line_number(where: str) -> int:
    number = where.rpartition(":")[2]
    return int(number) if number.isdecimal() else 1


def _entries(root: yaml.Node, path: Path, first: int, containers: Sequence[str]) -> Iterator[_Entry]:
    """Yield the labels of a document that begins at a line of the file."""

    def where(node: yaml.Node) -> str:
        return f"{path}:{first + node.start_mark.line}"

    if isinstance(root, yaml.MappingNode):
        fields = {str(name.value): value for name, value in root.value if isinstance(name, yaml.ScalarNode)}
        inner = next((fields[name] for name in containers if isinstance(fields.get(name), yaml.CollectionNode)), None)
        if inner is not None:
            yield from _entries(inner, path, first, containers)
        elif any(name.strip().lower() in DESCRIPTION_COLUMNS for name in fields):
            yield _of_object(root, where(root), where)
        else:
            for name, value in root.value:
                label = _label(name, where(name))
                yield _Entry(label, "", list(_descriptions(value, label.text, where)))
        return
    for item in root.value if isinstance(root, yaml.SequenceNode) else []:
        if not isinstance(item, yaml.MappingNode):
            raise UsageError(f"{where(item)}: is not an object with a label; write 'label: …, descriptions: […]'")
        yield _of_object(item, where(item), where)


def _of_object(node: yaml.MappingNode, at: str, where: _Where) -> _Entry:
    fields = {str(name.value).strip().lower(): value for name, value in node.value}
    named = next((column for column in CLASS_NAME_COLUMNS if column in fields), None)
    if named is None:
        raise UsageError(f"{at}: has descriptions, but no label; add 'label: …'")
    label = _label(fields[named], where(fields[named]))
    id_ = next((str(fields[column].value) for column in fields if column in CLASS_ID_COLUMNS), "")
    described = [fields[column] for column in fields if column in DESCRIPTION_COLUMNS]
    return _Entry(label, id_, [line for value in described for line in _descriptions(value, label.text, where)])


def _label(node: yaml.Node, at: str) -> Line:
    text = str(node.value) if isinstance(node, yaml.ScalarNode) else ""
    if not tidy(text):
        raise UsageError(f"{at}: the label is {_kind(node)}; {DESCRIBED_FIX}")
    return Line(at, tidy(text))


def _descriptions(node: yaml.Node, label: str, where: _Where) -> Iterator[Line]:
    """Yield the texts of a list, or of a single text; a value that is missing has none."""
    if isinstance(node, yaml.ScalarNode) and (not node.value or (not node.style and node.value in ("null", "~"))):
        return
    for item in node.value if isinstance(node, yaml.SequenceNode) else [node]:
        if not isinstance(item, yaml.ScalarNode):
            problem = f"a description of {shorten(label, 60)!r} is {_kind(item)}, not a text"
            raise UsageError(f"{where(item)}: {problem}; put quotes around a text with a colon or a bracket")
        yield Line(where(item), str(item.value))


def _kind(node: yaml.Node) -> str:
    if isinstance(node, yaml.ScalarNode):
        return "empty"
    return "a map" if isinstance(node, yaml.MappingNode) else "a list"
