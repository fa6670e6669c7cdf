"""How many records of each video exist, for millions of videos."""

from __future__ import annotations

import hashlib
import os

import numpy as np
from numpy.typing import NDArray

from bike_cli.media import is_store_uri

DIGEST_BYTES = 16


class NameCounts:
    """The number of records of each name that are not taken yet, in 17 bytes a record.

    Names are those of paths: `clips/a.mp4`, `./clips/a.mp4` and the absolute path are the same.
    """

    def __init__(self) -> None:
        self._added = bytearray()
        self._digests: NDArray[np.bytes_] | None = None  # ascending
        self._is_taken: NDArray[np.bool_] = np.zeros(0, dtype=np.bool_)

    def __len__(self) -> int:
        return len(self._added) // DIGEST_BYTES

    def add(self, name: str) -> None:
        """Add a record of a name; all records are added before the first is taken."""
        if self._digests is not None:
            raise ValueError("records cannot be added once the first is taken")
        self._added += digest_of_path(name)

    def take(self, name: str) -> bool:
        """Take one of the records of this name; return False if all of them are taken."""
        if self._digests is None:
            self._digests = np.sort(np.frombuffer(bytes(self._added), dtype=f"S{DIGEST_BYTES}"))
            self._is_taken = np.zeros(len(self._digests), dtype=np.bool_)
        digest = digest_of_path(name).rstrip(b"\0")  # NumPy returns bytes without the NUL bytes at their end
        place = int(self._digests.searchsorted(digest))
        while place < len(self._digests) and self._digests[place] == digest:
            if not self._is_taken[place]:
                self._is_taken[place] = True
                return True
            place += 1
        return False


def digest_of_path(path: str) -> bytes:
    """Return what stands for a path: the same for `clips/a.mp4`, `./clips/a.mp4` and its absolute path.

    A URI does not depend on the current folder.
    """
    absolute = path if is_store_uri(path) else os.path.abspath(path)  # noqa: PTH100 - Path.absolute keeps a/../
    # Surrogates of any kind are accepted: the file may have been edited.
    return hashlib.blake2b(absolute.encode(errors="surrogatepass"), digest_size=DIGEST_BYTES).digest()
