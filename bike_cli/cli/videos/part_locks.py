"""Which runs of a folder have videos in common: they are kept apart, and one makes what another said out of date.

A folder in an object store has no locks.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

from filelock import FileLock, Timeout

from bike_cli.data.parts.folder import DONE, PartFolder
from bike_cli.data.shards import Shard
from bike_cli.errors import UsageError, fix_of_write
from bike_cli.locks import acquire_lock

LOCK = re.compile(r"\.(?:all|(?P<index>[0-9]+)-of-(?P<count>[0-9]+))\.lock")
DONE_FILE = re.compile(rf"{DONE}(?:-(?P<index>[0-9]+)-of-(?P<count>[0-9]+))?\.json")
RETRIES_LOCK = ".retries.lock"
ALL = Shard(1, 1)
WAIT_S = 1.0  # for runs that only look whether a lock is held, which takes them an instant


@contextmanager
def lock_shard(folder: PartFolder, shard: Shard | None) -> Iterator[None]:
    """Keep out runs of the same videos: of the same shard, of all videos, or of shards of another number.

    Raises:
        UsageError: such a run writes the folder, or the folder cannot be written.
    """
    if not folder.is_local:
        yield
        return
    lock_file = Path(folder.path) / f".{folder.tag}.lock"
    way_out = "wait for that, give each run its own --shard, or choose another -o"
    lock = _acquired(folder, lock_file, f"another run is writing it; {way_out}", timeout_s=WAIT_S)
    try:
        _refuse_overlap(folder, lock_file, shard or ALL)
        yield
    finally:
        if lock is not None:
            with suppress(OSError):  # Windows removes no open file
                lock_file.unlink(missing_ok=True)
            lock.release()


@contextmanager
def lock_retries(folder: PartFolder) -> Iterator[None]:
    """Let only one run at a time rewrite parts with failures that are tried again."""
    if not folder.is_local:
        yield
        return
    lock = _acquired(folder, Path(folder.path) / RETRIES_LOCK, "another run is rewriting it; try again")
    try:
        yield
    finally:
        if lock is not None:
            lock.release()


def done_file(shard: Shard | None) -> str:
    """Return the name of the file that says that a run is complete."""
    return f"{DONE}.json" if shard is None else f"{DONE}-{shard}.json"


def is_complete(folder: PartFolder) -> bool:
    """Return whether the last runs that wrote a folder, over all videos or over all shards, have ended."""
    shards = [_shard_in(match) for name in folder.names() if (match := DONE_FILE.fullmatch(name))]
    return any(sum(other.count == shard.count for other in shards) == shard.count for shard in shards)


def remove_done_files(folder: PartFolder, shard: Shard | None) -> None:
    """Remove what earlier runs said about the videos of a shard, which is about to get new records."""
    for name in folder.names():
        match = DONE_FILE.fullmatch(name)
        if match is not None and (shard or ALL).overlaps(_shard_in(match)):
            folder.remove(name)


def _shard_in(match: re.Match[str]) -> Shard:
    return ALL if match["index"] is None else Shard(int(match["index"]), int(match["count"]))


def _refuse_overlap(folder: PartFolder, own: Path, shard: Shard) -> None:
    # Two runs that start at the same time hold their own locks by now, so at least one of them finds the other.
    for file in Path(folder.path).glob(".*.lock"):
        match = LOCK.fullmatch(file.name)
        if match is None or file == own:
            continue
        other = _shard_in(match)
        if not shard.overlaps(other):
            continue
        which = "all videos" if other == ALL else f"--shard {other.index}/{other.count}"
        problem = f"a run of {which} is writing it, which may be the same videos"
        way_out = "wait for that, give all runs the same number of shards, or choose another -o"
        lock = _acquired(folder, file, f"{problem}; {way_out}", timeout_s=WAIT_S)
        if lock is not None:  # left by a run that was killed
            lock.release()


def _acquired(folder: PartFolder, file: Path, message: str, *, timeout_s: float = -1) -> FileLock | None:
    try:
        return acquire_lock(file, timeout_s=timeout_s)
    except Timeout as e:
        raise UsageError(f"{folder.name}: {message}") from e
    except OSError as e:
        raise UsageError(f"{folder.name}: cannot be written ({e.strerror}); {fix_of_write(e)}") from e
