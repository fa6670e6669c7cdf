"""Read parts of a file in a store, or of a local one, each within a time limit."""

from __future__ import annotations

import io
import os
import threading
from collections import OrderedDict
from collections.abc import Callable
from contextlib import suppress
from functools import partial
from typing import Any, BinaryIO, Protocol
from urllib.parse import unquote

from bike_cli.data.remote.stores import ASK_S, ask, file_system_of
from bike_cli.data.remote.uris import StoreUri, parse_uri
from bike_cli.errors import InputError
from bike_cli.media import is_store_uri, missing_message
from bike_cli.time_limits import call_with_timeout

BUFFER_BYTES = 2**16  # of a file that is read in small pieces: a request of a store costs as much as this many bytes
_KEPT_OPEN = 8  # tar files


class Readable(Protocol):
    """A file of known size, any part of which can be read from several threads."""

    size: int

    def read_at(self, offset: int, n_bytes: int) -> bytes:
        """Return the bytes at an offset; fewer at the end of the file.

        Raises:
            InputError: they cannot be read, or not in time.
        """

    def close(self) -> None:
        """Close the file."""


def open_file(place: str, *, limit_s: float = ASK_S) -> Readable:
    """Open a file by its URI or its local path.

    Raises:
        InputError: it is missing, or cannot be read.
    """
    return _StoreFile(parse_uri(place), limit_s) if is_store_uri(place) else _LocalFile(place, limit_s)


def buffered(file: Readable) -> io.BufferedReader:
    """Return a file object that reads a file in pieces of `BUFFER_BYTES`; closing it closes the file."""
    return io.BufferedReader(_Raw(file), BUFFER_BYTES)


class OpenTars:
    """Tar files in stores whose members are being fetched. A few stay open: to open one takes a request."""

    def __init__(self) -> None:
        self._files: OrderedDict[str, Readable] = OrderedDict()
        self._lock = threading.Lock()

    def get(self, uri: str, *, limit_s: float) -> Readable:
        """Return a file that is open already, or open it; see `open_file`."""
        with self._lock:
            if uri in self._files:
                self._files.move_to_end(uri)
                return self._files[uri]
        file = open_file(uri, limit_s=limit_s)
        with self._lock:
            self._files[uri] = file
            while len(self._files) > _KEPT_OPEN:  # another thread may be reading the oldest: it is not closed here
                self._files.popitem(last=False)
        return file


class _StoreFile:
    def __init__(self, uri: StoreUri, limit_s: float) -> None:
        self._uri, self._limit_s = uri, limit_s
        self._file = self._opened()
        self.size: int = ask(uri, self._file.size, limit_s=limit_s)

    def read_at(self, offset: int, n_bytes: int) -> bytes:
        read: Callable[[], bytes] = partial(self._file.read_at, n_bytes, offset)
        data: bytes = ask(self._uri, read, limit_s=self._limit_s)
        return data

    def close(self) -> None:
        with suppress(OSError, ValueError):
            self._file.close()

    def _opened(self) -> Any:  # noqa: ANN401
        """Open the object of this key, or else that of the key without its percent encoding."""
        keys = dict.fromkeys((self._uri.key, unquote(self._uri.key)))
        missing: InputError | None = None
        for key in keys:
            file_system, path = file_system_of(self._uri.at(key))
            try:
                return ask(self._uri, partial(file_system.open_input_file, path), limit_s=self._limit_s)
            except InputError as e:
                if e.kind != "missing":
                    raise
                missing = missing or e
        assert missing is not None
        raise missing


class _LocalFile:
    def __init__(self, path: str, limit_s: float) -> None:
        self._path, self._limit_s = path, limit_s
        self._lock = threading.Lock()
        self._file: BinaryIO = self._asked(lambda: open(path, "rb"))  # noqa: PTH123, SIM115
        self.size = self._asked(lambda: os.fstat(self._file.fileno()).st_size)

    def read_at(self, offset: int, n_bytes: int) -> bytes:
        def read() -> bytes:
            with self._lock:
                self._file.seek(offset)
                return self._file.read(n_bytes)

        data: bytes = self._asked(read)
        return data

    def close(self) -> None:
        self._file.close()

    def _asked(self, call: Callable[[], Any]) -> Any:  # noqa: ANN401
        try:
            result = call_with_timeout(self._limit_s, call, default=None)
        except FileNotFoundError as e:
            raise InputError(missing_message(self._path), kind="missing") from e
        except (OSError, ValueError) as e:
            problem = f"cannot be read ({getattr(e, 'strerror', None) or e}); check its name and permissions"
            raise InputError(f"{self._path}: {problem}", kind="unreadable") from e
        if result is None:
            problem = f"does not answer within {self._limit_s:g} s; check the disk or the network"
            raise InputError(f"{self._path}: {problem}", kind="timeout")
        return result


class _Raw(io.RawIOBase):
    """A `Readable` as what `io.BufferedReader` takes."""

    def __init__(self, file: Readable) -> None:
        self._file, self._place = file, 0

    def readable(self) -> bool:
        return True

    def seekable(self) -> bool:
        return True

    def tell(self) -> int:
        return self._place

    def seek(self, offset: int, whence: int = os.SEEK_SET) -> int:
        start = {os.SEEK_SET: 0, os.SEEK_CUR: self._place, os.SEEK_END: self._file.size}[whence]
        self._place = max(0, start + offset)
        return self._place

    def readinto(self, buffer: Any) -> int:  # noqa: ANN401
        left = max(0, min(len(buffer), self._file.size - self._place))
        data = self._file.read_at(self._place, left) if left else b""
        buffer[: len(data)] = data
        self._place += len(data)
        return len(data)

    def close(self) -> None:
        if not self.closed:
            self._file.close()
        super().close()
