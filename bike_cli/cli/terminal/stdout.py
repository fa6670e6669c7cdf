"""stdout for records alone: whatever else is printed during a run goes to stderr."""

from __future__ import annotations

import contextlib
import ctypes
import io
import os
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from typing import TextIO

STDOUT, STDERR = 1, 2


@contextmanager
def reserve_stdout() -> Iterator[TextIO | None]:
    """Yield a stream onto stdout that nobody else has; None where stdout is closed.

    Meanwhile descriptor 1 leads to stderr, so that the printf of a C library, or a print in a dependency or a child
    process, never lands between two records. A stdout without a descriptor, as tests have, is yielded as it is.
    UTF-8, whatever the locale, except on a terminal; bytes of file names that are no UTF-8 come back as they were.
    """
    stdout = sys.stdout
    try:
        descriptor = -1 if stdout is None else stdout.fileno()
    except (io.UnsupportedOperation, ValueError):
        yield _fit(stdout)
        return
    if stdout is not None:
        stdout.flush()
    _open_stderr()
    saved = os.dup(descriptor) if stdout is not None else None
    try:
        with _led_to_stderr(descriptor if stdout is not None else STDOUT, saved):
            if saved is None:
                yield None
                return
            with open(os.dup(saved), "w", encoding=_encoding(stdout), errors=_errors(stdout)) as stream:  # noqa: PTH123
                yield stream
    finally:
        if saved is not None:
            os.close(saved)


@contextmanager
def _led_to_stderr(descriptor: int, saved: int | None) -> Iterator[None]:
    if saved is None and _is_open(descriptor):
        yield  # stdout was closed, and what was opened since has got its number
        return
    os.dup2(STDERR, descriptor)
    try:
        yield
    finally:
        # What was printed during the run and still waits in a buffer must not come out behind the records.
        if sys.stdout is not None:
            sys.stdout.flush()
        _flush_c()
        if saved is None:
            os.close(descriptor)
        else:
            os.dup2(saved, descriptor)


def _open_stderr() -> None:
    """Let descriptor 2 lead nowhere where it is closed: the next file to be opened would get it, and the noise too."""
    if not _is_open(STDERR):
        nowhere = os.open(os.devnull, os.O_WRONLY)
        if nowhere != STDERR:
            os.dup2(nowhere, STDERR)
            os.close(nowhere)


def _is_open(descriptor: int) -> bool:
    try:
        os.fstat(descriptor)
    except OSError:
        return False
    return True


def _flush_c() -> None:
    # On Windows, C libraries come with buffers of their own, which nobody else reaches.
    if os.name == "posix":
        with contextlib.suppress(OSError, AttributeError):
            ctypes.CDLL(None).fflush(None)


def _fit(stream: TextIO) -> TextIO:
    if isinstance(stream, io.TextIOWrapper):
        if stream.isatty():
            stream.reconfigure(errors="replace")
        else:
            stream.reconfigure(encoding="utf-8", errors="surrogateescape")
    return stream


def _encoding(stream: TextIO) -> str:
    return stream.encoding if stream.isatty() else "utf-8"


def _errors(stream: TextIO) -> str:
    return "replace" if stream.isatty() else "surrogateescape"
