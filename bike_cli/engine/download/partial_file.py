"""A file that grows over several attempts, and the digest of its content."""

from __future__ import annotations

import errno
import hashlib
import os
import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Self

from bike_cli.errors import ModelError

BLOCK = 2**20  # bytes read at a time


class Partial:
    """An incomplete download. It is unbuffered: what was written survives a killed process.

    Raises:
        ModelError: the file cannot be read or written; see `report_write_errors`.
    """

    def __init__(self, path: Path) -> None:
        self.path = path
        with report_write_errors(path.parent):
            path.parent.mkdir(parents=True, exist_ok=True)
            self._file = path.open("a+b", buffering=0)
            self._file.seek(0)
            self._digest = hashlib.sha256()
            self.size = 0
            while block := self._file.read(BLOCK):
                self._digest.update(block)
                self.size += len(block)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self._file.close()

    @property
    def sha256(self) -> str:
        """The digest of the content so far, in hexadecimal."""
        return self._digest.hexdigest()

    def append(self, chunk: bytes) -> None:
        """Write a chunk to the end."""
        with report_write_errors(self.path.parent):
            rest = memoryview(chunk)
            while rest:  # an unbuffered write may be short
                rest = rest[self._file.write(rest) :]
        self._digest.update(chunk)
        self.size += len(chunk)

    def restart(self) -> None:
        """Drop the content."""
        with report_write_errors(self.path.parent):
            self._file.truncate(0)
        self._digest = hashlib.sha256()
        self.size = 0

    def rename(self, target: Path) -> None:
        """Close the file and move it to its final name, where it appears complete or not at all.

        Raises:
            ModelError: another process wrote to the file, so that its content is not what the digest covers.
        """
        with report_write_errors(target.parent):
            os.fsync(self._file.fileno())
            if os.fstat(self._file.fileno()).st_size != self.size:
                self.discard()
                raise ModelError(f"{self.path}: another process wrote to it; run the command again")
            self._file.close()
            self.path.replace(target)

    def discard(self) -> None:
        """Close and delete the file."""
        self._file.close()
        self.path.unlink(missing_ok=True)


def sha256_of(file: Path) -> str:
    """Return the digest of a file, in hexadecimal."""
    with file.open("rb") as stream:
        return hashlib.file_digest(stream, "sha256").hexdigest()


def check_space(folder: Path, size: int, *, subject: str) -> None:
    """Raise ModelError where a file system has no room for `size` more bytes."""
    free = shutil.disk_usage(folder).free
    if free < size:
        raise ModelError(
            f"{subject}: needs {size / 1e6:,.0f} MB in {folder}, where {free / 1e6:,.0f} MB are free; "
            "make room, or set HF_HOME to a folder on another disk"
        )


@contextmanager
def report_write_errors(folder: Path) -> Iterator[None]:
    """Turn an error of the file system into a ModelError that names the folder and says what to do."""
    try:
        yield
    except OSError as e:
        full = e.errno in (errno.ENOSPC, errno.EDQUOT, errno.EFBIG)
        way_out = "make room and run the command again: it continues" if full else "choose a folder that you can write"
        raise ModelError(
            f"{folder}: weights cannot be written there ({e.strerror or e}); {way_out}, or set HF_HOME to another one"
        ) from e
