"""Reserve stdout for records; everything else that is printed during a run goes to stderr."""

from __future__ import annotations

import contextlib
import ctypes
import io
import os
import stat
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from typing import TextIO

STDOUT, STDERR = 1, 2


@contextmanager
def reserve_stdout() -> Iterator[TextIO | None]:
    """Yield a private stream to stdout; None if stdout is closed.

    Meanwhile descriptor 1 leads to stderr, so that output of C libraries, dependencies and child processes never lands
    between two records. A stdout without a descriptor, as in tests, is yielded unchanged. The encoding is UTF-8, except
    on a terminal; bytes of file names that are not UTF-8 are restored.
    """
    stdout = sys.stdout
    try:
        descriptor = -1 if stdout is None else stdout.fileno()
    except (io.UnsupportedOperation, ValueError):
        yield _configured(stdout)
        return
    if stdout is not None:
        stdout.flush()
    _open_stderr()
    saved = os.dup(descriptor) if stdout is not None else None
    try:
        with _redirected_to_stderr(descriptor if stdout is not None else STDOUT, saved):
            if saved is None:
                yield None
                return
            encoding, errors = (stdout.encoding, "replace") if stdout.isatty() else ("utf-8", "surrogateescape")
            with open(os.dup(saved), "w", encoding=encoding, errors=errors) as stream:  # noqa: PTH123
                yield stream
    finally:
        if saved is not None:
            os.close(saved)


def is_pipe(stream: TextIO) -> bool:
    """Return whether a stream leads to another program."""
    try:
        return stat.S_ISFIFO(os.fstat(stream.fileno()).st_mode)
    except (OSError, ValueError):  # io.UnsupportedOperation is both
        return False


@contextmanager
def _redirected_to_stderr(descriptor: int, saved: int | None) -> Iterator[None]:
    if saved is None and _is_open(descriptor):
        yield  # stdout was closed, and another file has its number by now
        return
    os.dup2(STDERR, descriptor)
    try:
        yield
    finally:
        # Output that is still buffered must not appear after the records.
        if sys.stdout is not None:
            sys.stdout.flush()
        _flush_c()
        if saved is None:
            os.close(descriptor)
        else:
            os.dup2(saved, descriptor)


def _open_stderr() -> None:
    """Open descriptor 2 on /dev/null if it is closed; otherwise the next file to be opened would receive the noise."""
    if not _is_open(STDERR):
        null = os.open(os.devnull, os.O_WRONLY)
        if null != STDERR:
            os.dup2(null, STDERR)
            os.close(null)


def _is_open(descriptor: int) -> bool:
    try:
        os.fstat(descriptor)
    except OSError:
        return False
    return True


def _flush_c() -> None:
    # On Windows, C libraries have separate buffers, which cannot be reached.
    if os.name == "posix":
        with contextlib.suppress(OSError, AttributeError):
            ctypes.CDLL(None).fflush(None)


def _configured(stream: TextIO) -> TextIO:
    if isinstance(stream, io.TextIOWrapper):
        if stream.isatty():
            stream.reconfigure(errors="replace")
        else:
            stream.reconfigure(encoding="utf-8", errors="surrogateescape")
    return stream
