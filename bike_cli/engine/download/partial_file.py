"""A download that grows over several attempts."""

from __future__ import annotations

import errno
import os
import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Self

from bike_cli.errors import ModelError


class Partial:
    """An incomplete download. It is unbuffered, so that no data is lost if the process is killed.

    Raises:
        ModelError: the file cannot be read or written; see `report_write_errors`.
    """

    def __init__(self, path: Path) -> None:
        self.path = path
        with report_write_errors(path.parent):
            path.parent.mkdir(parents=True, exist_ok=True)
            self._file = path.open("ab", buffering=0)
        self.size = path.stat().st_size

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self._file.close()

    def append(self, chunk: bytes) -> None:
        """Append a chunk."""
        with report_write_errors(self.path.parent):
            rest = memoryview(chunk)
            while rest:  # an unbuffered write may be short
                rest = rest[self._file.write(rest) :]
        self.size += len(chunk)

    def restart(self) -> None:
        """Delete the content."""
        with report_write_errors(self.path.parent):
            self._file.truncate(0)
        self.size = 0

    def rename(self, target: Path) -> None:
        """Close the file and give it its final name, which appears complete or not at all."""
        with report_write_errors(target.parent):
            os.fsync(self._file.fileno())
            self._file.close()
            self.path.replace(target)

    def discard(self) -> None:
        """Close and delete the file."""
        self._file.close()
        self.path.unlink(missing_ok=True)


def check_space(folder: Path, size: int, *, subject: str) -> None:
    """Raise ModelError if a file system has less than `size` free bytes."""
    free = shutil.disk_usage(folder).free
    if free < size:
        raise ModelError(
            f"{subject}: needs {size / 1e6:,.0f} MB in {folder}, where {free / 1e6:,.0f} MB are free; "
            "make room, or set HF_HOME to a folder on another disk"
        )


@contextmanager
def report_write_errors(folder: Path) -> Iterator[None]:
    """Turn an OSError into a ModelError that names the folder and says what to do."""
    try:
        yield
    except OSError as e:
        is_full = e.errno in (errno.ENOSPC, errno.EDQUOT, errno.EFBIG)
        advice = (
            "make room and run the command again to continue" if is_full else "choose a folder that you can write to"
        )
        raise ModelError(
            f"{folder}: weights cannot be written ({e.strerror or e}); {advice}, or set HF_HOME to another one"
        ) from e
