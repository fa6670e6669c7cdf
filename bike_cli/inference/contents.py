"""Which videos they are, whatever they are called: the hashes of what files hold."""

from __future__ import annotations

import hashlib
from collections.abc import Iterator, Sequence
from concurrent.futures import Future

from bike_cli.engine.store.store import Store
from bike_cli.records import Failure, Source
from bike_cli.video.content import changed_lately, stamp_of
from bike_cli.video.workers.pool import DecodePool

AT_ONCE = 1024  # files that are on their way to be read


def digests_of(sources: Sequence[Source], pool: DecodePool, store: Store | None) -> Iterator[bytes | Failure]:
    """Yield the SHA-256 of each source's bytes in their order, or why there is none.

    Args:
        store: knows those of files that did not change, and is told the others; None: all files are read.
    """
    for begun in range(0, len(sources), AT_ONCE):
        coming = [_coming(source, pool, store) for source in sources[begun : begun + AT_ONCE]]
        for source, (stamp, came) in zip(sources[begun : begun + AT_ONCE], coming, strict=True):
            if isinstance(came, bytes):
                yield came
                continue
            digest = came.result()
            can_keep = not changed_lately(source.path)
            if store is not None and stamp is not None and isinstance(digest, bytes) and can_keep:
                store.remember(str(source.path.absolute()), stamp, digest)
            yield digest


def _coming(
    source: Source, pool: DecodePool, store: Store | None
) -> tuple[bytes | None, bytes | Future[bytes | Failure]]:
    """Return the stamp of a source's file, and its digest where the store has it, else the digest to come."""
    stamp = stamp_of(source.path)
    known = None if store is None or stamp is None else store.content(str(source.path.absolute()), stamp)
    return stamp, pool.digest(source) if known is None else known


def digest_of_all(digests: Sequence[bytes | None], labels: Sequence[object]) -> str:
    """Return one SHA-256, in hex, of videos and what is said of each; of one that cannot be read, that it cannot."""
    whole = hashlib.sha256()
    for digest, said in zip(digests, labels, strict=True):
        whole.update((b"\0" * 32 if digest is None else digest) + f"{said}\n".encode())
    return whole.hexdigest()
