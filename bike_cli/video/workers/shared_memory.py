"""Shared memory, or a temporary file, through which a worker passes the pixels of one clip.

A pipe would copy them six times: 9 ms for a clip of 320x240 pixels instead of 1.5 ms.
"""

from __future__ import annotations

import math
import mmap
import os
import tempfile
import weakref
from contextlib import suppress
from functools import cache
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from bike_cli.scratch import scratch_folder


class HandoverError(Exception):
    """The pixels could not be written to shared memory."""


class HandoverWriter:
    """Writes pixels to the shared memory of another process.

    Args:
        path: of its `Handover`.
    Raises:
        HandoverError: it cannot be opened.
    """

    def __init__(self, path: str) -> None:
        try:
            self._file = os.open(path, os.O_WRONLY | getattr(os, "O_BINARY", 0))  # Windows would translate line ends
        except OSError as e:
            raise HandoverError(e.strerror or str(e)) from e

    def write(self, pixels: NDArray[np.uint8]) -> None:
        """Append pixels.

        Raises:
            HandoverError: there is no room.
        """
        left = np.ascontiguousarray(pixels).data.cast("B")
        try:
            while left:
                left = left[os.write(self._file, left) :]
        except OSError as e:
            raise HandoverError(e.strerror or str(e)) from e

    def close(self) -> None:
        """Close the memory.

        Raises:
            HandoverError: a file system reports only now that there is no room.
        """
        try:
            os.close(self._file)
        except OSError as e:
            raise HandoverError(e.strerror or str(e)) from e


class Handover:
    """Storage for one clip, which never outlives this process.

    On Linux this is memory, which a worker opens by its name in /proc; elsewhere a file in this process's scratch
    folder.

    Attributes:
        path: the file that a worker writes to.
        is_mapped: whether the pixels that it returns stay in this storage.
        is_reusable: whether no lost worker may still write to it.

    Raises:
        OSError: neither memory nor a temporary folder is available.
    """

    def __init__(self) -> None:
        self._memory = os.memfd_create("bike clip") if shares_memory() else None
        self._mapped: mmap.mmap | None = None
        self.is_mapped = self._memory is not None
        self.is_reusable = True
        if self._memory is not None:
            self.path = f"/proc/{os.getpid()}/fd/{self._memory}"
        else:
            handle, self.path = tempfile.mkstemp(prefix="clip-", dir=scratch_folder())
            os.close(handle)

    def pixels(self, shape: tuple[int, ...]) -> NDArray[np.uint8]:
        """Return the uint8 pixels that a worker wrote; they stay valid after `close`. Memory is not copied.

        Raises:
            ValueError: less was written than the shape requires.
        """
        size = math.prod(shape)
        if self._memory is None:
            # Not mapped: Windows cannot remove a mapped file.
            return np.fromfile(self.path, dtype=np.uint8, count=size).reshape(shape)
        if self._mapped is None or len(self._mapped) < size:
            # Load all pages at once: a page fault for each takes longer than the copy that is saved.
            flags = mmap.MAP_SHARED | getattr(mmap, "MAP_POPULATE", 0)
            self._mapped = mmap.mmap(self._memory, size, flags=flags)
        return np.frombuffer(self._mapped, dtype=np.uint8, count=size).reshape(shape)

    @property
    def mapped_bytes(self) -> int:
        """The size of the memory that pixels were received through; 0 before the first."""
        return 0 if self._mapped is None else len(self._mapped)

    def close(self) -> None:
        """Free the storage."""
        if self._memory is not None:
            os.close(self._memory)
        else:
            with suppress(OSError):  # a worker that is being killed may have it open; the folder is removed at the end
                Path(self.path).unlink(missing_ok=True)


class HandoverPool:
    """Storage that is used again once its pixels are no longer referred to: new pages cost more than the copy.

    Args:
        most_bytes: limit of the memory that is kept; files are then not kept. None: keep all storage.
    """

    def __init__(self, most_bytes: int | None = None) -> None:
        self._most_bytes = most_bytes
        self._free: list[Handover] = []
        self._is_closed = False

    def take(self) -> Handover:
        """Return storage that is not in use.

        Raises:
            OSError: neither memory nor a temporary folder is available.
        """
        return self._free.pop() if self._free else Handover()

    def pixels(self, handover: Handover, shape: tuple[int, ...]) -> NDArray[np.uint8]:
        """Return the pixels that a worker wrote; the storage comes back when nothing refers to them any more.

        Raises:
            OSError, ValueError, MemoryError: see `Handover.pixels`.
        """
        try:
            pixels = handover.pixels(shape)
        except (OSError, ValueError, MemoryError):
            self.give_back(handover)
            raise
        if not handover.is_mapped:
            self.give_back(handover)
            return pixels
        assert isinstance(pixels.base, np.ndarray)  # all views, and tensors that share the memory, refer to it
        weakref.finalize(pixels.base, self.give_back, handover).atexit = False
        return pixels

    def give_back(self, handover: Handover) -> None:
        """Take back storage whose pixels nothing refers to."""
        if self._is_closed or not self._has_room(handover):
            handover.close()
        else:
            self._free.append(handover)

    def _has_room(self, handover: Handover) -> bool:
        if self._most_bytes is None:
            return True
        if not handover.is_mapped:
            return False
        # Added up each time: threads take and return storage at any moment, so a running total would drift.
        return handover.mapped_bytes + sum(free.mapped_bytes for free in list(self._free)) <= self._most_bytes

    def close(self) -> None:
        """Free the storage now, or when it comes back."""
        self._is_closed = True
        while self._free:
            self._free.pop().close()


@cache
def shares_memory() -> bool:
    """Return whether another process can open memory of this one by name: on Linux, if /proc is mounted."""
    if not hasattr(os, "memfd_create"):
        return False
    try:
        handle = os.memfd_create("bike check")
    except OSError:
        return False
    try:
        return Path(f"/proc/{os.getpid()}/fd/{handle}").exists()
    except OSError:
        return False
    finally:
        os.close(handle)
