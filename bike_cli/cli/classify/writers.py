"""Write records as jsonl, json, csv or tsv; `table.py` has the table for people."""

from __future__ import annotations

import csv
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Literal, Protocol, TextIO

from bike_cli.cli.classify.rows import Cell, as_cells, as_json, as_object, columns
from bike_cli.cli.classify.table import TableWriter
from bike_cli.cli.terminal.console import safe
from bike_cli.records import Failure, Prediction

Format = Literal["table", "jsonl", "json", "csv", "tsv"]
FORMATS_BY_SUFFIX: dict[str, Format] = {".jsonl": "jsonl", ".json": "json", ".csv": "csv", ".tsv": "tsv"}

_TSV_ESCAPES = str.maketrans({"\\": "\\\\", "\t": "\\t", "\n": "\\n", "\r": "\\r"})


class Writer(Protocol):
    """Takes one record after another; `close` ends the last one."""

    def write(self, record: Prediction | Failure) -> None:
        """Write a record and flush it."""

    def close(self) -> None:
        """Write what belongs behind the last record."""


class JsonLines:
    """One JSON object a line."""

    def __init__(self, stream: TextIO, settings: str | None = None) -> None:
        self._stream, self._settings = stream, settings

    def write(self, record: Prediction | Failure) -> None:
        """Write a line, at once: a run that is killed leaves whole lines, but for the last."""
        self._stream.write(as_json(as_object(record, self._settings)) + "\n")
        self._stream.flush()

    def close(self) -> None:
        """Nothing is left to write."""


class JsonArray:
    """One JSON array of all objects, an object a line.

    Wherever an interrupt comes between two writes, `close` makes the array whole.
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
        """Close the array, an empty one included."""
        self._stream.write("\n]\n")
        self._stream.flush()


class Cells:
    """A header, then one row a record: CSV with quotes, or TSV in which tabs and line ends are written `\\t`, `\\n`."""

    def __init__(self, stream: TextIO, *, top: int, tabs: bool) -> None:
        self._stream, self._top, self._tabs = stream, top, tabs
        self._csv = csv.writer(stream, lineterminator="\n")
        self._is_terminal = stream.isatty()
        self._row([*columns(top)])

    def write(self, record: Prediction | Failure) -> None:
        """Write a row."""
        self._row(as_cells(record, self._top))

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
    """Return the format: the one asked for, what the file's ending says, a table on a terminal, else jsonl."""
    if wanted is not None:
        return wanted
    if output is not None:
        return FORMATS_BY_SUFFIX.get(output.suffix.lower(), "jsonl")
    return "table" if sys.stdout is not None and sys.stdout.isatty() else "jsonl"


def make_writer(
    stream: TextIO, format_: Format, *, top: int, names: Sequence[str] | None, settings: str | None = None
) -> Writer:
    """Return the writer of a format; `names`: of all videos, where they are known; `settings`: for JSON."""
    if format_ == "table":
        return TableWriter(stream, names)
    if format_ == "jsonl":
        return JsonLines(stream, settings)
    return JsonArray(stream, settings) if format_ == "json" else Cells(stream, top=top, tabs=format_ == "tsv")
