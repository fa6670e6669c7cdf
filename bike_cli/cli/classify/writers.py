"""Write records as jsonl, json, csv or tsv; `table.py` has the table for people."""

from __future__ import annotations

import csv
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Literal, Protocol, TextIO, assert_never

from bike_cli.cli.classify.rows import Cell, as_cells, as_object, columns
from bike_cli.cli.classify.table import TableWriter
from bike_cli.cli.terminal.console import safe
from bike_cli.cli.terminal.json_text import as_json
from bike_cli.cli.terminal.targets import ending
from bike_cli.errors import UsageError
from bike_cli.records import Failure, Prediction
from bike_cli.wording import either

Format = Literal["table", "jsonl", "json", "csv", "tsv"]
FORMATS_BY_SUFFIX: dict[str, Format] = {
    ".jsonl": "jsonl",
    ".ndjson": "jsonl",
    ".json": "json",
    ".csv": "csv",
    ".tsv": "tsv",
}

_TSV_ESCAPES = str.maketrans({"\\": "\\\\", "\t": "\\t", "\n": "\\n", "\r": "\\r"})


class Writer(Protocol):
    """Writes records one by one; `close` completes the output."""

    def write(self, record: Prediction | Failure) -> None:
        """Write a record, and flush it."""

    def close(self) -> None:
        """Write what follows the last record."""


class JsonLines:
    """One JSON object per line."""

    def __init__(self, stream: TextIO, settings: str | None = None) -> None:
        self._stream, self._settings = stream, settings

    def write(self, record: Prediction | Failure) -> None:
        """Write and flush a line: a run that is killed leaves whole lines, except perhaps the last."""
        self._stream.write(as_json(as_object(record, self._settings)) + "\n")
        self._stream.flush()

    def close(self) -> None:
        """Nothing is left to write."""


class JsonArray:
    """One JSON array, one object per line.

    After an interrupt between two writes, `close` still completes the array.
    """

    def __init__(self, stream: TextIO, settings: str | None = None) -> None:
        self._stream, self._settings = stream, settings
        self._stream.write("[")
        self._between = "\n"

    def write(self, record: Prediction | Failure) -> None:
        """Write an element."""
        self._stream.write(self._between + as_json(as_object(record, self._settings)))
        self._stream.flush()
        self._between = ",\n"

    def close(self) -> None:
        """Close the array, even if it is empty."""
        self._stream.write("\n]\n")
        self._stream.flush()


class Cells:
    """A header and one row per record: CSV with quotes, or TSV with tabs and line ends escaped as `\\t`, `\\n`."""

    def __init__(self, stream: TextIO, *, top: int, tabs: bool, explains: bool = False) -> None:
        self._stream, self._top, self._tabs, self._explains = stream, top, tabs, explains
        self._csv = csv.writer(stream, lineterminator="\n")
        self._is_terminal = stream.isatty()
        self._row([*columns(top, explains=explains)])

    def write(self, record: Prediction | Failure) -> None:
        """Write a row."""
        self._row(as_cells(record, self._top, explains=self._explains))

    def close(self) -> None:
        """Nothing is left to write."""

    def _row(self, cells: list[Cell]) -> None:
        texts = ["" if cell is None else str(cell) for cell in cells]
        if self._tabs:
            texts = [text.translate(_TSV_ESCAPES) for text in texts]
        if self._is_terminal:
            texts = [safe(text) for text in texts]
        if self._tabs:
            self._stream.write("\t".join(texts) + "\n")
        else:
            self._csv.writerow(texts)
        self._stream.flush()


def format_of(wanted: Format | None, output: Path | None) -> Format:
    """Return the format: as requested, else by the file's suffix, else a table on a terminal and jsonl elsewhere."""
    if wanted is not None:
        return wanted
    if output is not None:
        return FORMATS_BY_SUFFIX.get(ending(output), "jsonl")
    return "table" if sys.stdout is not None and sys.stdout.isatty() else "jsonl"


def check_format_of_name(wanted: Format | None, output: Path) -> None:
    """Raise UsageError if the name of a file ends like another format than the one to write.

    With --format, endings that stand for no format of bike are allowed, such as `.txt`.
    """
    suffix = ending(output)
    expected = FORMATS_BY_SUFFIX.get(suffix)
    if expected is None and suffix and wanted is None:
        names = either(FORMATS_BY_SUFFIX)
        raise UsageError(f"-o {output}: {suffix} is not an output format; end the name in {names}, or add --format")
    if expected is not None and wanted not in (None, expected):
        raise UsageError(f"-o {output}: ends in {suffix}, but --format is {wanted}; change one of them")


def make_writer(
    stream: TextIO,
    format_: Format,
    *,
    top: int,
    names: Sequence[str] | None,
    labels: Sequence[str] = (),
    settings: str | None = None,
    explains: bool = False,
) -> Writer:
    """Return the writer of a format.

    Args:
        stream: where to write.
        format_: see `format_of`.
        top: labels per record, at most.
        names: of all videos, if known.
        labels: all labels, for the width of a column; empty if unknown.
        settings: goes into JSON.
        explains: whether records have explanations, which take columns.
    """
    if format_ == "table":
        return TableWriter(stream, names, labels)
    if format_ == "jsonl":
        return JsonLines(stream, settings)
    if format_ == "json":
        return JsonArray(stream, settings)
    if format_ == "csv" or format_ == "tsv":
        return Cells(stream, top=top, tabs=format_ == "tsv", explains=explains)
    assert_never(format_)
