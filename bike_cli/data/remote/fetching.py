"""Fetch videos to temporary files, which are deleted as soon as they were decoded."""

from __future__ import annotations

import atexit
import itertools
import logging
import os
import threading
import time
from collections.abc import Iterator
from concurrent.futures import Future
from contextlib import contextmanager, suppress
from dataclasses import replace
from pathlib import Path

from bike_cli.data.remote.files import OpenTars, open_file
from bike_cli.errors import NO_ROOM, InputError, first_line
from bike_cli.media import VIDEO_EXTENSIONS, RemoteFile, is_store_uri
from bike_cli.records import Failure, Source
from bike_cli.scratch import scratch_folder

PIECE_BYTES = 2**22
_numbers = itertools.count()  # of the temporary files of this process

logger = logging.getLogger(__name__)


class Fetcher:
    """Fetches sources in threads, each to a temporary file.

    The caller limits how many there are at a time.

    Args:
        limit_s: how long a store may send nothing.
    """

    def __init__(self, limit_s: float) -> None:
        self._limit_s = limit_s
        self._tars = OpenTars()
        self._lock = threading.Lock()
        self._files: set[Path] = set()
        self._is_closed = False
        self._is_registered = False

    def fetch(self, source: Source) -> Future[Source | Failure]:
        """Start to fetch a source; return a future of the local source, which has the same name, or of a failure.

        The caller gives the local source to `discard`.
        """
        fetched: Future[Source | Failure] = Future()
        from pebble import concurrent  # here, because it imports asyncio, which no help text needs

        copying = concurrent.thread(self._copy)(source)
        copying.add_done_callback(lambda done: fetched.set_result(_outcome(source, done)))
        return fetched

    def discard(self, local: Source) -> None:
        """Delete the temporary file of a source."""
        with self._lock:
            self._files.discard(local.path)
        with suppress(OSError):
            local.path.unlink(missing_ok=True)

    def close(self) -> None:
        """Delete all temporary files. Fetching that still runs ends with its next piece; no further file appears."""
        with self._lock:
            self._is_closed = True
            files, self._files = self._files, set()
        for file in files:
            with suppress(OSError):
                file.unlink(missing_ok=True)
        atexit.unregister(self.close)

    def _copy(self, source: Source) -> Source:
        assert source.remote is not None
        with _explaining(source.id, "a temporary folder"):
            folder = scratch_folder()
        suffix = source.path.suffix.lower()
        name = f"fetched-{next(_numbers)}{suffix if suffix in VIDEO_EXTENSIONS else ''}"
        local = replace(source, path=folder / name, remote=None)
        is_complete = False
        try:
            start_s = time.perf_counter()
            self._write(source.remote, source.id, local.path)
            logger.debug("%s: fetched in %.2f s", source.id, time.perf_counter() - start_s)
            is_complete = True
        finally:
            if not is_complete:
                self.discard(local)
        return local

    def _write(self, remote: RemoteFile, name: str, target: Path) -> None:
        stays_open = remote.offset is not None and is_store_uri(remote.place)
        opener = self._tars.get if stays_open else open_file
        file = opener(remote.place, limit_s=self._limit_s)
        try:
            start, size = (remote.offset or 0), (file.size if remote.size is None else remote.size)
            with _explaining(name, target.parent), os.fdopen(self._created(name, target), "wb") as copy:
                for offset in range(start, start + size, PIECE_BYTES):
                    wanted = min(PIECE_BYTES, start + size - offset)
                    piece = file.read_at(offset, wanted)
                    if len(piece) < wanted:
                        raise InputError(f"{name}: the file is shorter than it was; copy it again", kind="damaged")
                    if self._is_closed:
                        return
                    copy.write(piece)
        finally:
            if not stays_open:
                file.close()

    def _created(self, name: str, target: Path) -> int:
        with self._lock:
            if self._is_closed:
                raise InputError(f"{name}: the run was stopped", kind="unreadable")
            if not self._is_registered:  # after the scratch folder, so that it runs before that is removed
                atexit.register(self.close)
                self._is_registered = True
            self._files.add(target)
            return os.open(target, os.O_WRONLY | os.O_CREAT | os.O_EXCL | getattr(os, "O_BINARY", 0), 0o600)


@contextmanager
def fetched(source: Source, limit_s: float) -> Iterator[Source | Failure]:
    """Yield a source that can be read, or why it cannot be fetched; a local one is yielded as it is.

    The temporary file exists during the context.
    """
    if source.remote is None:
        yield source
        return
    fetcher = Fetcher(limit_s)
    try:
        yield fetcher.fetch(source).result()
    finally:
        fetcher.close()


def _outcome(source: Source, copying: Future[Source]) -> Source | Failure:
    error = copying.exception()
    if error is None:
        return copying.result()
    if isinstance(error, InputError):
        kind, text = error.kind, str(error)
        named = text if text.startswith(source.id) else f"{source.id}: {text}"
        return Failure(source, kind, named)
    problem = f"cannot be fetched ({type(error).__name__}: {first_line(error)}); check the store"
    return Failure(source, "unreadable", f"{source.id}: {problem}")


@contextmanager
def _explaining(name: str, folder: Path | str) -> Iterator[None]:
    try:
        yield
    except OSError as e:
        way_out = (
            "free some space, or set TMPDIR" if e.errno in NO_ROOM else "set TMPDIR to a folder that you may write to"
        )
        problem = f"cannot be copied to {folder} ({e.strerror or e}); {way_out}"
        raise InputError(f"{name}: {problem}", kind="unreadable") from e
