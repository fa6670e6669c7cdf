"""The files given to `bike eval`: whether they hold predictions, and in which format."""

from __future__ import annotations

import os
import shutil
import stat
import tempfile
import weakref
from bisect import bisect_left
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Literal

from bike_cli.data.columns import SIMPLE_COLUMNS
from bike_cli.data.csv_rows import cells_of
from bike_cli.data.parts.folder import RUN_FILE, is_part_folder, is_uri, part_folder
from bike_cli.data.parts.tables import read_record_texts
from bike_cli.errors import UsageError
from bike_cli.scratch import scratch_folder

Format = Literal["jsonl", "json", "csv", "tsv"]

HEAD_BYTES = 1 << 16


class Origin(str):
    """The name of a file or folder in messages, which also names the places in it.

    Args:
        name: as the user wrote it.
        parts: of a folder whose records were copied: the number of records up to the end of each file, and its name.
    """

    __slots__ = ("_parts",)
    _parts: Sequence[tuple[int, str]]

    def __new__(cls, name: str, parts: Sequence[tuple[int, str]] = ()) -> Origin:
        """Return the name."""
        origin = super().__new__(cls, name)
        origin._parts = parts
        return origin

    def at(self, line: int) -> str:
        """Return the name of a line, counted from 1: `answers.jsonl:7`, or `answers/part-ab.parquet, row 7`."""
        if not self._parts:
            return f"{self}:{line}"
        place = min(bisect_left(self._parts, (line,)), len(self._parts) - 1)
        before = self._parts[place - 1][0] if place else 0
        return f"{self._parts[place][1]}, row {line - before}"


class _Copy:
    """A temporary file, which is deleted with its last reference."""

    def __init__(self) -> None:
        descriptor, self.path = tempfile.mkstemp(dir=scratch_folder())
        os.close(descriptor)
        weakref.finalize(self, Path(self.path).unlink, missing_ok=True)


@dataclass(frozen=True)
class DataFile:
    """A file or folder as the user named it, and where its content is.

    Args:
        name: for messages and reports.
        path: the same, or the temporary copy of a pipe, which can be read only once, or of a folder's records.
        copy: the temporary file; it is deleted with the last reference to it.
        parts: of a folder; see `Origin`.
    """

    name: str
    path: str
    copy: _Copy | None = field(default=None, repr=False, compare=False)
    parts: Sequence[tuple[int, str]] = field(default=(), repr=False, compare=False)

    @property
    def origin(self) -> Origin:
        """The name, for messages about places in the file."""
        return Origin(self.name, self.parts)


def inspect_files(names: Sequence[str], *, merge: bool, labels: Sequence[Path] = ()) -> tuple[list[DataFile], bool]:
    """Return the files, with pipes copied, and whether all of them hold predictions; otherwise none does.

    Args:
        merge: the files are parts of one file of predictions; some of them may be empty.
        labels: if that is a list of labelled videos, the files hold predictions, and those of other programs count.
    Raises:
        UsageError: some files hold predictions and others do not, or a file is empty.
    """
    files = data_files(names)
    has_truth = len(labels) == 1 and labels[0].is_file() and _has_columns(_head_of(labels[0]), "path", "label")
    contents = [_content_of(Path(file.path), has_truth=has_truth) for file in files]
    if has_truth and "predictions" not in contents and "other" in contents:
        way_out = "give the output of bike classify -o, or CSV with the columns path, label and score"
        raise UsageError(f"{names[contents.index('other')]}: contains no predictions for {labels[0]}; {way_out}")
    if "empty" in contents and not (merge and "predictions" in contents):
        fix = "give labelled videos, or the output of bike classify -o; parts may be empty with --merge"
        raise UsageError(f"{names[contents.index('empty')]}: is empty; {fix}")
    if "predictions" not in contents:
        return files, False
    if "other" in contents:
        other, predictions = names[contents.index("other")], names[contents.index("predictions")]
        raise UsageError(f"{other}: contains no predictions, but {predictions} does; give files of one kind")
    return files, True


def data_files(names: Sequence[str]) -> list[DataFile]:
    """Return the files of these names; pipes, and folders of Parquet files, are copied to temporary files."""
    return [_data_file(name) for name in names]


def _data_file(name: str) -> DataFile:
    if is_uri(name) or is_part_folder(name):
        return _copy_parts(name)
    return _copy_pipe(name) if _is_pipe(name) else DataFile(name, name)


def format_of(head: bytes) -> Format | None:
    """Return the format of a file of predictions that begins with these bytes; None if it is empty."""
    text = head.removeprefix(b"\xef\xbb\xbf").lstrip()
    first_line = text.partition(b"\n")[0]
    if not text:
        return None
    if text.startswith(b"[") or first_line.strip() == b"{":
        return "json"
    if text.startswith((b"{", b"\0")):
        return "jsonl"
    return "tsv" if b"\t" in first_line else "csv"


def simple_columns(header: Sequence[str]) -> list[str]:
    """Return the names that bike has for the columns in the header of another program's predictions."""
    names: list[str] = []
    for cell in header:
        written = cell.strip().lower()
        name = next((name for name, others in SIMPLE_COLUMNS.items() if written in others), written)
        names.append(written if name in names else name)
    return names


def _head_of(path: Path) -> str:
    with path.open("rb") as stream:
        return stream.read(HEAD_BYTES).decode("utf-8", "replace").lstrip("\ufeff \t\r\n[")


def _has_columns(text: str, *names: str) -> bool:
    first_line = text.partition("\n")[0].rstrip("\r")
    cells = first_line.split("\t") if "\t" in first_line else cells_of(first_line, ",")
    return set(names) <= set(simple_columns(cells))


def _content_of(path: Path, *, has_truth: bool) -> Literal["predictions", "empty", "other"]:
    """Return what a file contains.

    Args:
        has_truth: records of other programs, with a path and a label alone, are predictions, not labelled videos.
    """
    if not path.is_file():
        return "other"
    text = _head_of(path)
    if not text.strip("] \t\r\n"):
        return "empty"
    first_line = text.partition("\n")[0]
    if text.startswith("{"):
        record = text if first_line.strip() == "{" else first_line
        # Annotations may have paths too, but no answers.
        keys = ('"status"', '"top"', *(['"label"'] if has_truth else []))
        is_prediction = '"path"' in record and any(key in record for key in keys)
        is_prediction = is_prediction and '"database"' not in record  # that is ActivityNet's
    else:
        is_prediction = path.suffix.lower() in (".csv", ".tsv", "") and text.startswith(("path,status", "path\tstatus"))
        is_prediction = is_prediction or (has_truth and _has_columns(text, "path", "label"))
    return "predictions" if is_prediction else "other"


def _is_pipe(name: str) -> bool:
    try:
        return stat.S_ISFIFO(os.stat(name).st_mode)  # noqa: PTH116 - a Path would be made for every file
    except (OSError, ValueError):
        return False


def _copy_parts(name: str) -> DataFile:
    """Return the records of a folder as a file of JSON lines."""
    folder = part_folder(name)
    facts, names = folder.read_json(RUN_FILE), folder.parts()
    if facts is None and not names:
        problem = f"contains no {RUN_FILE}, so it is no folder of records"
        raise UsageError(f"{name}: {problem}; give the output of bike classify -o")
    if facts is not None and facts.get("command") == "embed":
        problem = f"contains embeddings, not answers; classify them with bike classify --from-embeddings {name}"
        raise UsageError(f"{name}: {problem}, and evaluate those answers")
    parts: list[tuple[int, str]] = []
    n_records = 0
    try:
        copy = _Copy()
        with Path(copy.path).open("wb") as stream:
            for part in names:
                records = read_record_texts(folder, part)
                stream.writelines(f"{record}\n".encode() for record in records)
                n_records += len(records)
                parts.append((n_records, folder.file(part)))
    except OSError as e:
        raise UsageError(f"{name}: cannot be copied to a temporary file ({e.strerror}); free some space") from e
    return DataFile(name, copy.path, copy, parts)


def _copy_pipe(name: str) -> DataFile:
    try:
        copy = _Copy()
        with Path(name).open("rb") as pipe, Path(copy.path).open("wb") as stream:
            shutil.copyfileobj(pipe, stream)
    except OSError as e:
        raise UsageError(f"{name}: cannot be copied to a temporary file ({e.strerror}); give an ordinary file") from e
    return DataFile(name, copy.path, copy)
