"""CSV and TSV files with a row per segment: their columns, and the numbers in them."""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping, Sequence
from contextlib import suppress
from typing import NamedTuple

from bike_cli.data.columns import SEGMENT_COLUMNS
from bike_cli.data.csv_rows import cells_of, check_width, csv_rows
from bike_cli.errors import UsageError, shorten

NEEDED = ("path", "start_s", "end_s", "label")
DELIMITERS = ",\t;"


class SegmentRow(NamedTuple):
    """One row of a table of segments, and its place for messages: `truth.csv:3`. Cells are by the name of a column."""

    where: str
    cells: Mapping[str, str]


def segment_columns(header: Sequence[str]) -> list[str]:
    """Return the names that bike has for the columns of a table of segments; a common alternative stands for one."""
    columns = [cell.strip().lower() for cell in header]
    for column, others in SEGMENT_COLUMNS.items():
        if column not in columns:
            place = next((i for i, name in enumerate(columns) if name in others), None)
            if place is not None:
                columns[place] = column
    return columns


def missing_column(columns: Sequence[str]) -> str | None:
    """Return the first column that a table of segments needs and lacks."""
    return next((name for name in NEEDED if name not in columns), None)


def is_segment_table(first_line: str) -> bool:
    """Return whether a line is the header of a table of segments."""
    return any(missing_column(segment_columns(cells_of(first_line, mark))) is None for mark in DELIMITERS)


def read_segment_rows(text: str, origin: str) -> Iterator[SegmentRow]:
    """Yield the rows of a table of segments, separated by commas, tabs or semicolons.

    Raises:
        UsageError: malformed CSV, a missing column, or a row with more or fewer cells than the header; raised when it
            is reached.
    """
    first = next((line for line in text.split("\n") if line.strip()), "")
    marks = (mark for mark in DELIMITERS if missing_column(segment_columns(cells_of(first, mark))) is None)
    rows = csv_rows(text, origin, delimiter=next(marks, ","))
    header = next(rows, None)
    if header is None:
        raise UsageError(f"{origin}: is empty; begin the file with {','.join(NEEDED)}")
    columns = segment_columns(header.cells)
    missing = missing_column(columns)
    if missing is not None:
        raise UsageError(f"{header.where}: has no column {missing!r}; begin the file with {','.join(NEEDED)}")
    for row in rows:
        check_width(row, columns)
        yield SegmentRow(row.where, dict(zip(columns, row.cells, strict=True)))


def finite_number(where: str, name: str, value: object) -> float:
    """Return a number that a file may write as a number or as text.

    Raises:
        UsageError: not a finite number.
    """
    number = math.nan
    if isinstance(value, int | float | str) and not isinstance(value, bool):
        with suppress(ValueError, OverflowError):
            number = float(value)
    if not math.isfinite(number):
        raise UsageError(f"{where}: {name} {shorten(repr(value), 40)} is not a finite number; fix it")
    return number
