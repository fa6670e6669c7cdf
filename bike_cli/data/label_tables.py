"""Tables of labels: with a header, or pairs of an id and a name."""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass

from bike_cli.data.columns import (
    CLASS_ID_COLUMNS,
    CLASS_NAME_COLUMNS,
    DESCRIPTION_COLUMNS,
    PATH_COLUMNS,
    VIDEO_ID_COLUMNS,
)
from bike_cli.data.label_descriptions import DescribedRow, group_rows
from bike_cli.data.lines import Line, tidy
from bike_cli.errors import UsageError, shorten
from bike_cli.wording import count

FIX = "write one label per line, or a CSV file that begins with id,name"

_VIDEO_COLUMNS = PATH_COLUMNS | VIDEO_ID_COLUMNS


@dataclass(frozen=True)
class LabelTable:
    """The labels of a file, in its order.

    Args:
        lines: the labels and their places.
        form: how the file was read, for the log: "one label per line".
        ids: for each of `lines`, its number in the file; empty for a file without numbers.
        names: for each of `lines`, its second name in the file; empty for a file without second names.
        descriptions: for each of `lines`, its descriptions; empty for a file without descriptions.
    """

    lines: tuple[Line, ...]
    form: str
    ids: tuple[int, ...] = ()
    names: tuple[str, ...] = ()
    descriptions: tuple[tuple[str, ...], ...] = ()


def is_header(cells: Sequence[str]) -> bool:
    """Return whether cells are column names: a name, and an id, a path, a description or another kind of name."""
    kinds = [cell in CLASS_ID_COLUMNS | _VIDEO_COLUMNS | DESCRIPTION_COLUMNS for cell in cells]
    named = [cell in CLASS_NAME_COLUMNS for cell in cells]
    if any(kinds) and any(named):
        return True
    return len(cells) == 2 and all(named) and set(cells) & {"name", "label", "class_name", "display_name"} != set()


def labels_by_header(
    columns: Sequence[str], rows: Sequence[Sequence[str]], lines: Sequence[Line], where: str, form: str
) -> LabelTable:
    """Return the labels of rows below column names."""
    small = [column.strip().lower() for column in columns]
    if _VIDEO_COLUMNS & set(small):
        raise UsageError(f"{where}: is a list of videos, not of labels; write each label once, one per line")
    for line, row in zip(lines, rows, strict=True):
        if len(row) != len(columns):
            raise UsageError(
                f"{line.where}: has {count(len(row), 'cell')}, not {len(columns)}; put quotes around a name with a "
                "comma"
            )
    if not rows:
        raise UsageError(f"{where}: contains no labels; write one per line")
    cells = {column: [tidy(row[i]) for row in rows] for i, column in enumerate(small)}
    named = sorted((c for c in small if c in CLASS_NAME_COLUMNS), key=CLASS_NAME_COLUMNS.index)
    texts = [c for c in named if not all(cell.isdecimal() for cell in cells[c])]
    if not texts:
        raise UsageError(f"{where}: has no column of names (its columns: {', '.join(columns)}); {FIX}")
    labels, ids = cells[texts[0]], next((c for c in small if c in CLASS_ID_COLUMNS), None)
    if ids is None:
        ids = next((c for c in named if c not in texts), None)
    empty = next((line.where for line, label in zip(lines, labels, strict=True) if not label), None)
    if empty is not None:
        raise UsageError(f"{empty}: {texts[0]} is empty; fill it in, or remove the row")
    labelled = tuple(Line(line.where, label) for line, label in zip(lines, labels, strict=True))
    names = tuple(cells[texts[1]]) if len(texts) > 1 else ()
    described = next((c for c in small if c in DESCRIPTION_COLUMNS), None)
    if described is not None:
        groups = group_rows(labelled, cells[described])
        return _described_table(groups, [] if ids is None else cells[ids], names, f"{form} with descriptions")
    numbers = unique_ids(cells[ids], labelled) if ids is not None else ()
    return LabelTable(labelled, f"{form} with the column {texts[0]}", numbers, names)


def pair_labels(lines: Sequence[Line], cells: Sequence[Sequence[str]], form: str) -> LabelTable | None:
    """Return the labels of rows with two cells, one of them a unique whole number; None if they are not like that."""
    if not all(len(row) == 2 for row in cells):
        return None
    for numbered, named in ((0, 1), (1, 0)):
        ids, names = [row[numbered].strip() for row in cells], [tidy(row[named]) for row in cells]
        if not all(map(is_id, ids)) or all(name.isdecimal() for name in names) or not all(names):
            continue
        if len(set(map(int, ids))) == len(ids):
            labelled = tuple(Line(line.where, name) for line, name in zip(lines, names, strict=True))
            return LabelTable(labelled, form, tuple(map(int, ids)))
    return None


def is_id(text: str) -> bool:
    """Return whether a text is a whole number with few enough digits for Python to convert."""
    return re.fullmatch(r"\d{1,18}", text) is not None


def _described_table(groups: Sequence[DescribedRow], ids: Sequence[str], names: Sequence[str], form: str) -> LabelTable:
    """Return the labels of a table with one description per row; other rows of a label may leave its id out."""
    for group in groups:
        first = group.rows[0]
        other = next((i for i in group.rows if ids and ids[i] not in ("", ids[first])), None)
        if other is not None:
            raise UsageError(
                f"{group.label.where}: label {group.label.text!r} has two ids, {ids[first]} and {ids[other]}; keep one"
            )
    firsts = [group.rows[0] for group in groups]
    lines = tuple(group.label for group in groups)
    return LabelTable(
        lines,
        form,
        unique_ids([ids[i] for i in firsts], lines) if ids else (),
        tuple(names[i] for i in firsts) if names else (),
        tuple(group.descriptions for group in groups),
    )


def unique_ids(cells: Sequence[str], lines: Sequence[Line]) -> tuple[int, ...]:
    """Return the ids of labels; raise UsageError for one that is not a whole number, or is given twice."""
    seen: dict[int, str] = {}
    for cell, line in zip(cells, lines, strict=True):
        if not is_id(cell):
            limit = " of at most 18 digits" if cell.isdecimal() else ""
            fact = f"id {shorten(repr(cell), 60)} is not a whole number{limit}"
            raise UsageError(f"{line.where}: {fact}; number the labels from 0")
        first = seen.setdefault(int(cell), line.where)
        if first != line.where:
            raise UsageError(f"{line.where}: id {cell} is at {first} too; give each label its own")
    return tuple(seen)
