"""Where answers go and in which form: jsonl, json, csv, tsv; the table has a file of its own."""

from __future__ import annotations

import csv
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
    """One JSON array of all objects, an object a line."""

    def __init__(self, stream: TextIO) -> None:
        self._stream = stream
        self._before = "[\n"

    def write(self, record: Prediction | Failure) -> None:
        """Write an element."""
        print(self._before + as_json(as_object(record)), end="", file=self._stream, flush=True)
        self._before = ",\n"

    def close(self) -> None:
        """Close the array, an empty one included."""
        print("[]" if self._before == "[\n" else "\n]", file=self._stream, flush=True)


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
            texts = [
                t.replace("\\", "\\\\").replace("\t", "\\t").replace("\n", "\\n").replace("\r", "\\r") for t in texts
            ]
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

    UTF-8, whatever the locale; bytes of file names that are no UTF-8 come back as they were.
    Raises:
        UsageError: a file that cannot be written, found before the first record.
    """
    if output is None:
        stream = sys.stdout
        if hasattr(stream, "reconfigure"):
            stream.reconfigure(encoding="utf-8", errors="surrogateescape")
        yield stream
        return
    unfinished = output.with_name(f".{output.name}.{os.getpid()}.part")
    try:
        file = unfinished.open("w", encoding="utf-8", errors="surrogateescape", newline="")
    except OSError as e:
        raise UsageError(f"{output}: cannot be written ({e.strerror}); choose a folder that exists and is yours") from e
    keep = True
    try:
        with file:
            yield file
    except KeyboardInterrupt:
        raise
    except BaseException:
        keep = False
        raise
    finally:
        if keep:
            unfinished.replace(output)
        else:
            unfinished.unlink()
