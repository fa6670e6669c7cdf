"""Where answers go and in which form: jsonl, json, csv, tsv; the table has a file of its own."""

from __future__ import annotations

import csv
import io
import os
import sys
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Protocol, TextIO

from bike_cli.cli.console import safe
from bike_cli.cli.options import Format
from bike_cli.cli.rows import Cell, as_cells, as_json, as_object, columns
from bike_cli.cli.table import TableWriter
from bike_cli.errors import UsageError
from bike_cli.records import Failure, Prediction

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

    def __init__(self, stream: TextIO) -> None:
        self._stream = stream

    def write(self, record: Prediction | Failure) -> None:
        """Write a line."""
        print(as_json(as_object(record)), file=self._stream, flush=True)

    def close(self) -> None:
        """Nothing is left to write."""


class JsonArray:
    """One JSON array of all objects, an object a line.

    Wherever an interrupt comes between two writes, `close` makes the array whole.
    """

    def __init__(self, stream: TextIO) -> None:
        self._stream = stream
        self._stream.write("[")
        self._between = "\n"

    def write(self, record: Prediction | Failure) -> None:
        """Write an element."""
        self._stream.write(self._between + as_json(as_object(record)))
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
    return "table" if sys.stdout.isatty() else "jsonl"


def make_writer(stream: TextIO, format_: Format, *, top: int, names: Sequence[str] | None) -> Writer:
    """Return the writer of a format; `names`: of all videos, where they are known."""
    if format_ == "table":
        return TableWriter(stream, names)
    if format_ == "jsonl":
        return JsonLines(stream)
    return JsonArray(stream) if format_ == "json" else Cells(stream, top=top, tabs=format_ == "tsv")


@contextmanager
def open_stream(output: Path | None) -> Iterator[TextIO]:
    """Yield stdout, or a file that takes its name when it is complete; an interrupt keeps what was written.

    UTF-8, whatever the locale, except on a terminal; bytes of file names that are no UTF-8 come back as they were. What
    is there already and no ordinary file, such as /dev/null or a pipe, is written to as it is, never replaced.
    Raises:
        UsageError: a file that cannot be written, found before the first record.
    """
    if output is None:
        yield _stdout()
    elif output.exists() and not output.is_file():
        with _opened(output, named=output) as stream:
            yield stream
    else:
        with _replacing(output) as stream:
            yield stream


def _stdout() -> TextIO:
    stream = sys.stdout
    if isinstance(stream, io.TextIOWrapper):
        if stream.isatty():
            stream.reconfigure(errors="replace")
        else:
            stream.reconfigure(encoding="utf-8", errors="surrogateescape")
    return stream


def _opened(file: Path, *, named: Path) -> TextIO:
    try:
        return file.open("w", encoding="utf-8", errors="surrogateescape", newline="")
    except OSError as e:
        raise UsageError(f"{named}: cannot be written ({e.strerror}); choose a folder that exists and is yours") from e


@contextmanager
def _replacing(output: Path) -> Iterator[TextIO]:
    output = output.resolve()  # a link stays one
    unfinished = output.with_name(f".{output.name}.{os.getpid()}.part")
    file = _opened(unfinished, named=output)
    is_valid = False
    try:
        with file:
            yield file
        is_valid = True
    except KeyboardInterrupt:
        # Before the answers begin there is nothing to keep, and perhaps an older file to lose.
        is_valid = unfinished.stat().st_size > 0
        raise
    finally:
        if is_valid:
            unfinished.replace(output)
        else:
            unfinished.unlink()
