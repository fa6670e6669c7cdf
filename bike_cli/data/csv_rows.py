"""CSV files with a header."""

from __future__ import annotations

import csv
import io
from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import NamedTuple

from bike_cli.errors import UsageError
from bike_cli.wording import count, nearest


class Row(NamedTuple):
    """The cells of one row as they are written, and its place for messages: `all.csv:3`."""

    where: str
    cells: list[str]


def csv_rows(
    text: str | Iterable[str], origin: str, *, delimiter: str = ",", skip_spaces: bool = False
) -> Iterator[Row]:
    """Yield the rows of an RFC 4180 text, without blank ones.

    Args:
        text: the whole text, or its lines with their ends, which are read as they are needed.
        origin: the source of the text, for messages.
        skip_spaces: whether spaces after a delimiter are left out; otherwise, they are part of cells.
    Raises:
        UsageError: a quote that is not closed, or is within a cell; raised when it is reached.
    """
    lines = io.StringIO(text, newline="") if isinstance(text, str) else text
    reader = csv.reader(lines, delimiter=delimiter, skipinitialspace=skip_spaces, strict=True)
    line = 1
    try:
        for cells in reader:
            if len(cells) > 1 or "".join(cells).strip():
                yield Row(f"{origin}:{line}", cells)
            line = reader.line_num + 1
    except csv.Error as e:
        raise UsageError(f"{origin}:{line}: is not valid CSV ({e}); put quotes around whole cells only") from e


def cells_of(line: str, delimiter: str) -> list[str]:
    """Return the cells of a single line; none if it is not valid CSV."""
    try:
        return next(csv.reader([line], delimiter=delimiter, skipinitialspace=True), [])
    except csv.Error:
        return []


def check_width(row: Row, columns: Sequence[str]) -> None:
    """Raise UsageError for a row with more or fewer cells than there are columns."""
    if len(row.cells) != len(columns):
        fix = "put quotes around a cell with a comma in it"
        raise UsageError(f"{row.where}: has {count(len(row.cells), 'cell')}, not {len(columns)}; {fix}")


def by_column(
    rows: Iterable[Row], origin: str, *, needed: Sequence[str], further: Sequence[str] = ()
) -> Iterator[tuple[str, Mapping[str, str]]]:
    """Yield the place of each row and its cells by column name; no cell is empty.

    Args:
        origin: the source of the rows, for messages.
        needed, further: required and optional columns, in lower case.
    Raises:
        UsageError: a column that is unknown, missing or duplicated; a row with an empty cell, or with more or fewer
            cells than the header; raised when it is reached.
    """
    rows = iter(rows)
    where, header = next(rows, Row(origin, []))
    columns = [cell.strip().lower() for cell in header]
    known, begin = (*needed, *further), f"begin the file with {','.join(needed)}"
    for cell, column in zip(header, columns, strict=True):
        if column not in known:
            near = nearest(column, known)
            raise UsageError(f"{where}: column {cell!r} is unknown, the nearest is {near!r}; {begin}")
    for column in known:
        if columns.count(column) > 1 or (column in needed and column not in columns):
            raise UsageError(f"{where}: column {column!r} comes {columns.count(column)} times; {begin}")
    for row in rows:
        check_width(row, columns)
        cells = dict(zip(columns, row.cells, strict=True))
        empty = next((column for column in columns if not cells[column].strip()), None)
        if empty is not None:
            raise UsageError(f"{row.where}: {empty} is empty; fill it in, or remove the row")
        yield row.where, cells


def csv_text(rows: Iterable[Sequence[str]]) -> str:
    """Return rows as the text of a CSV file."""
    text = io.StringIO(newline="")
    csv.writer(text, lineterminator="\n").writerows(rows)
    return text.getvalue()
