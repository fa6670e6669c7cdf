"""CSV files that begin with a line of column names: read by name, refused by line."""

from __future__ import annotations

import csv
import io
from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import NamedTuple

from bike_cli.errors import UsageError
from bike_cli.wording import nearest


class Row(NamedTuple):
    """The cells of one row, as they are written, and where it stands: `all.csv:3`."""

    where: str
    cells: list[str]


def csv_rows(text: str | Iterable[str], origin: str, *, delimiter: str = ",") -> Iterator[Row]:
    """Yield the rows of an RFC 4180 text that are not blank; spaces belong to cells.

    Args:
        text: whole, or its lines with their ends, of which no more are taken than the row at hand needs.
        origin: what the text was read from, for messages.
    Raises:
        UsageError: a quote that is left open, or stands within a cell. Raised when its turn comes.
    """
    lines = io.StringIO(text, newline="") if isinstance(text, str) else text
    reader = csv.reader(lines, delimiter=delimiter, strict=True)
    line = 1
    try:
        for cells in reader:
            if len(cells) > 1 or "".join(cells).strip():
                yield Row(f"{origin}:{line}", cells)
            line = reader.line_num + 1
    except csv.Error as e:
        raise UsageError(f"{origin}:{line}: is not valid CSV ({e}); put quotes around whole cells only") from e


def by_column(
    rows: Iterable[Row], origin: str, *, needed: Sequence[str], further: Sequence[str] = ()
) -> Iterator[tuple[str, Mapping[str, str]]]:
    """Yield where each row stands and its cells by the names in the first row, none of them empty.

    Args:
        origin: what the rows were read from, for messages.
        needed, further: columns that must be there and that may be, in lower case.
    Raises:
        UsageError: a column that is unknown, missing or there twice; a row with an empty cell, or with more or fewer
            than the first. Raised when its turn comes.
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
    for where, cells in rows:
        if len(cells) != len(columns):
            way = "put quotes around a cell with a comma in it"
            raise UsageError(f"{where}: has {len(cells)} cells, not {len(columns)}; {way}")
        row = dict(zip(columns, cells, strict=True))
        empty = next((column for column in columns if not row[column].strip()), None)
        if empty is not None:
            raise UsageError(f"{where}: {empty} is empty; fill it in, or remove the row")
        yield where, row
