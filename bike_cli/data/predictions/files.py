"""The files given to `bike eval`: whether they hold predictions, and in which format."""

from __future__ import annotations

import os
import shutil
import stat
import tempfile
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import IO, Literal

from bike_cli.errors import UsageError
from bike_cli.scratch import scratch_folder

Format = Literal["jsonl", "json", "csv", "tsv"]

HEAD_BYTES = 1 << 16


@dataclass(frozen=True)
class DataFile:
    """A file or folder as the user named it, and where its content is.

    Args:
        name: for messages and reports.
        path: the same, or the temporary copy of a pipe, which can be read only once.
        copy: the open temporary file; it is deleted with the last reference to it.
    """

    name: str
    path: str
    copy: IO[bytes] | None = field(default=None, repr=False, compare=False)


def inspect_files(names: Sequence[str], *, merge: bool) -> tuple[list[DataFile], bool]:
    """Return the files, with pipes copied, and whether all of them hold predictions; otherwise none does.

    Args:
        merge: the files are parts of one file of predictions; some of them may be empty.
    Raises:
        UsageError: some files hold predictions and others do not, or a file is empty.
    """
    files = [_copy_pipe(name) if _is_pipe(name) else DataFile(name, name) for name in names]
    contents = [_content_of(Path(file.path)) for file in files]
    if "empty" in contents and not (merge and "predictions" in contents):
        fix = "give labelled videos, or the output of bike classify -o; parts may be empty with --merge"
        raise UsageError(f"{names[contents.index('empty')]}: is empty; {fix}")
    if "predictions" not in contents:
        return files, False
    if "other" in contents:
        other, predictions = names[contents.index("other")], names[contents.index("predictions")]
        raise UsageError(f"{other}: contains no predictions, but {predictions} does; give files of one kind")
    return files, True


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


def _content_of(path: Path) -> Literal["predictions", "empty", "other"]:
    if not path.is_file():
        return "other"
    with path.open("rb") as stream:
        head = stream.read(HEAD_BYTES)
    text = head.decode("utf-8", "replace").lstrip("\ufeff \t\r\n[")
    if not text.strip("] \t\r\n"):
        return "empty"
    first_line = text.partition("\n")[0]
    if text.startswith("{"):
        record = text if first_line.strip() == "{" else first_line
        # Annotations may have paths too, but no answers.
        is_prediction = '"path"' in record and ('"status"' in record or '"top"' in record)
        is_prediction = is_prediction and '"database"' not in record  # that is ActivityNet's
    else:
        is_prediction = path.suffix.lower() in (".csv", ".tsv", "") and text.startswith(("path,status", "path\tstatus"))
    return "predictions" if is_prediction else "other"


def _is_pipe(name: str) -> bool:
    try:
        return stat.S_ISFIFO(os.stat(name).st_mode)  # noqa: PTH116 - a Path would be made for every file
    except (OSError, ValueError):
        return False


def _copy_pipe(name: str) -> DataFile:
    try:
        copy = tempfile.NamedTemporaryFile(dir=scratch_folder())  # noqa: SIM115 - DataFile keeps it open
        with Path(name).open("rb") as pipe:
            shutil.copyfileobj(pipe, copy)
        copy.flush()
    except OSError as e:
        raise UsageError(f"{name}: cannot be copied to a temporary file ({e.strerror}); give an ordinary file") from e
    return DataFile(name, copy.name, copy)
