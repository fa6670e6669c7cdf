"""Files that a command is to write: that they can be written, and that nothing is lost by it."""

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence
from contextlib import suppress
from pathlib import Path
from typing import TYPE_CHECKING

from bike_cli.errors import UsageError

if TYPE_CHECKING:
    from bike_cli.records import Sample


def check_target(file: Path, read: Sequence[Path]) -> None:
    """Raise UsageError where a file cannot be written, or is read by this command."""
    folder = file.absolute().parent
    try:
        file.lstat()
    except (FileNotFoundError, NotADirectoryError):
        pass
    except OSError as e:  # a name that is too long, say
        shown = f"{str(file)[:60]}…" if len(str(file)) > 60 else str(file)
        raise UsageError(f"{shown}: cannot be a file ({e.strerror}); choose another name") from e
    if str(file) == "-" or (file.exists() and not file.is_file() and not file.is_dir()):
        raise UsageError(f"{file}: is no ordinary file; name one, such as report.json")
    if file.is_dir() or not folder.is_dir():
        fact = "is a folder" if file.is_dir() else "lies in a folder that does not exist"
        raise UsageError(f"{file}: {fact}; name a file in a folder that exists")
    if not os.access(folder, os.W_OK):
        raise UsageError(f"{file}: cannot be written; choose a folder that is yours")
    if file.exists() and any(other.exists() and other.samefile(file) for other in read):
        raise UsageError(f"{file}: is read by this command and would be overwritten; choose another name")


def check_apart(files: Mapping[str, Path | None]) -> None:
    """Raise UsageError where two of the files to write, by the flags that name them, are one."""
    there: dict[Path, str] = {}
    for flag, file in files.items():
        other = flag if file is None else there.setdefault(file.resolve(), flag)
        if other != flag:
            raise UsageError(f"{file}: is named by both {other} and {flag}; give each its own file")


def check_videos(*files: Path | None, samples: Sequence[Sample]) -> None:
    """Raise UsageError where a file to write is one of the videos."""
    there = [(file, file.stat()) for file in files if file is not None and file.exists()]
    for sample in samples if there else ():
        with suppress(OSError, ValueError):
            seen = sample.source.path.stat()
            file = next((file for file, status in there if os.path.samestat(seen, status)), None)
            if file is not None:
                raise UsageError(f"{file}: is a video that this command reads; choose another name")
