"""Write records of any command as JSON lines, a JSON array, CSV or TSV, in the format that a file's name promises."""

from __future__ import annotations

import csv
import sys
from collections.abc import Callable, Iterable, Mapping, Sequence
from pathlib import Path
from typing import Generic, Protocol, TextIO, TypeVar

from bike_cli.cli.terminal.console import safe
from bike_cli.cli.terminal.targets import ending
from bike_cli.errors import UsageError
from bike_cli.json_text import JsonObject, as_json
from bike_cli.wording import either

Cell = str | int | float | None
R = TypeVar("R")
R_contra = TypeVar("R_contra", contravariant=True)
F = TypeVar("F", bound=str)

_TSV_ESCAPES = str.maketrans({"\\": "\\\\", "\t": "\\t", "\n": "\\n", "\r": "\\r"})


class RecordWriter(Protocol[R_contra]):
    """Writes records one by one; `close` completes the output."""

    def write(self, record: R_contra) -> None:
        """Write a record, and flush it."""

    def close(self) -> None:
        """Write what follows the last record."""


class JsonLines(Generic[R]):
    """One JSON object per line."""

    def __init__(self, stream: TextIO, as_object: Callable[[R], JsonObject]) -> None:
        self._stream, self._as_object = stream, as_object

    def write(self, record: R) -> None:
        """Write and flush a line: a run that is killed leaves whole lines, except perhaps the last."""
        self._stream.write(as_json(self._as_object(record)) + "\n")
        self._stream.flush()

    def close(self) -> None:
        """Nothing is left to write."""


class JsonArray(Generic[R]):
    """One JSON array, one object per line; a record whose object is None is left out.

    After an interrupt between two writes, `close` still completes the array.
    """

    def __init__(self, stream: TextIO, as_object: Callable[[R], JsonObject | None]) -> None:
        self._stream, self._as_object = stream, as_object
        self._stream.write("[")
        self._between = "\n"

    def write(self, record: R) -> None:
        """Write an element."""
        element = self._as_object(record)
        if element is None:
            return
        self._stream.write(self._between + as_json(element))
        self._stream.flush()
        self._between = ",\n"

    def close(self) -> None:
        """Close the array, even if it is empty."""
        self._stream.write("\n]\n")
        self._stream.flush()


class Cells(Generic[R]):
    """A header and the rows of each record: CSV with quotes, or TSV with tabs and line ends escaped as `\\t`, `\\n`."""

    def __init__(
        self, stream: TextIO, columns: Sequence[str], as_rows: Callable[[R], Iterable[Sequence[Cell]]], *, tabs: bool
    ) -> None:
        self._stream, self._as_rows, self._tabs = stream, as_rows, tabs
        self._csv = csv.writer(stream, lineterminator="\n")
        self._is_terminal = stream.isatty()
        self._row(columns)
        self._stream.flush()

    def write(self, record: R) -> None:
        """Write the rows of a record."""
        for row in self._as_rows(record):
            self._row(row)
        self._stream.flush()

    def close(self) -> None:
        """Nothing is left to write."""

    def _row(self, cells: Sequence[Cell]) -> None:
        texts = ["" if cell is None else str(cell) for cell in cells]
        if self._tabs:
            texts = [text.translate(_TSV_ESCAPES) for text in texts]
        if self._is_terminal:
            texts = [safe(text) for text in texts]
        if self._tabs:
            self._stream.write("\t".join(texts) + "\n")
        else:
            self._csv.writerow(texts)


def choose_format(wanted: F | None, output: Path | None, by_suffix: Mapping[str, F], *, screen: F, other: F) -> F:
    """Return the format to write: as requested, else by the file's suffix, else by where stdout leads.

    Args:
        by_suffix: the formats, by the suffixes that stand for them.
        screen: the format on a terminal.
        other: the format in a pipe, and in a file whose name does not say.
    """
    if wanted is not None:
        return wanted
    if output is not None:
        return by_suffix.get(ending(output), other)
    return screen if sys.stdout is not None and sys.stdout.isatty() else other


def check_suffix(wanted: F | None, output: Path, by_suffix: Mapping[str, F], *, also: Iterable[F] = ()) -> None:
    """Raise UsageError if the name of a file ends like another format than the one to write.

    With --format, endings that stand for no format of bike are allowed, such as `.txt`.

    Args:
        by_suffix: the formats, by the suffixes that stand for them.
        also: formats that may have any of these suffixes.
    """
    suffix = ending(output)
    expected = by_suffix.get(suffix)
    if expected is None and suffix and wanted is None:
        names = either(by_suffix)
        raise UsageError(f"-o {output}: {suffix} is not an output format; end the name in {names}, or add --format")
    if expected is not None and wanted not in (None, expected, *also):
        raise UsageError(f"-o {output}: ends in {suffix}, but --format is {wanted}; change one of them")
