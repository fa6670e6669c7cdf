"""Hashes of file contents, which identify videos regardless of their names."""

from __future__ import annotations

import hashlib
from collections.abc import Iterator, Sequence
from concurrent.futures import Future

from bike_cli.inference.features import Shelf
from bike_cli.records import Failure, Source
from bike_cli.video.content import changed_lately, stamp_of
from bike_cli.video.workers.pool import DecodePool

AT_ONCE = 1024  # files that workers are asked for in advance


def digests_of(sources: Sequence[Source], pool: DecodePool, shelf: Shelf | None) -> Iterator[bytes | Failure]:
    """Yield the SHA-256 of each source's bytes, in order, or why it cannot be read.

    Args:
        shelf: has the hashes of files that did not change, and remembers new ones; None: all files are read.
    """
    store = None if shelf is None else shelf.store

    def request(source: Source) -> tuple[bytes | None, bytes | Future[bytes | Failure]]:
        """Return the stamp of a source's file, and its digest if the store has it, else a future of it."""
        stamp = stamp_of(source.path)
        known = None if store is None or stamp is None else store.content(str(source.path.absolute()), stamp)
        return stamp, pool.digest(source) if known is None else known

    for start in range(0, len(sources), AT_ONCE):
        part = sources[start : start + AT_ONCE]
        for source, (stamp, known) in zip(part, [request(source) for source in part], strict=True):
            if isinstance(known, bytes):
                yield known
                continue
            digest = known.result()
            can_keep = not changed_lately(source.path)
            if store is not None and stamp is not None and isinstance(digest, bytes) and can_keep:
                store.remember(str(source.path.absolute()), stamp, digest)
            yield digest


def digest_of_all(digests: Sequence[bytes | None], labels: Sequence[object]) -> str:
    """Return one SHA-256, in hex, of videos and their labels; the digest of a video that cannot be read is None."""
    whole = hashlib.sha256()
    for digest, label in zip(digests, labels, strict=True):
        whole.update((b"\0" * 32 if digest is None else digest) + f"{label}\n".encode())
    return whole.hexdigest()
