"""Whether a video is the same as before: a stamp that costs a look, and a digest that costs reading it."""

from __future__ import annotations

import hashlib
import os
import stat
import time
from collections.abc import Iterator
from pathlib import Path

from bike_cli.errors import VideoError
from bike_cli.media import is_frame_name, missing_message
from bike_cli.records import Source
from bike_cli.time_limits import call_on_path
from bike_cli.video.readers.footage import reason

READ_BYTES = 2**20
SETTLED_S = 2.0  # the coarsest clock of a file system in use, FAT's


def stamp_of(path: Path) -> bytes | None:
    """Return what changes when the file does, or any frame of the folder: sizes and times of change. Reads no content.

    None where there is nothing to look at, or not soon; the decoder says why.
    """
    return call_on_path(path, lambda: _stamp_of(path), default=None)


def _stamp_of(path: Path) -> bytes | None:
    try:
        status = path.stat()
        if stat.S_ISREG(status.st_mode):
            return _stamp(status)
        if not stat.S_ISDIR(status.st_mode):  # reading a pipe may wait for ever, and takes what it reads
            return None
        looked_at = hashlib.sha256()
        for entry in _frames(path):
            looked_at.update(os.fsencode(entry.name) + b"\0" + _stamp(entry.stat()) + b"\0")
    except (OSError, ValueError):  # ValueError: a NUL in the name
        return None
    return looked_at.digest()


def changed_lately(path: Path) -> bool:
    """Return whether a file, or a frame of a folder, changed so lately that its clock may not tell the next change."""
    return call_on_path(path, lambda: _changed_lately(path), default=True)


def _changed_lately(path: Path) -> bool:
    try:
        status = path.stat()
        seen = [entry.stat() for entry in _frames(path)] if stat.S_ISDIR(status.st_mode) else [status]
    except (OSError, ValueError):
        return True
    newest_s = max((max(one.st_mtime, one.st_ctime) for one in seen), default=0.0)
    return time.time() - newest_s < SETTLED_S


def digest_of(source: Source) -> bytes:
    """Return the SHA-256 of a file's bytes, or of the names and bytes of the frames of a folder.

    Raises:
        VideoError: kind `missing` or `unreadable`.
    """
    digest = hashlib.sha256()
    try:
        if not source.path.is_dir():
            for block in _blocks(source.path):
                digest.update(block)
            return digest.digest()
        digest.update(b"a folder of frames\0")
        for entry in _frames(source.path):
            if not entry.is_file():
                continue
            inside = hashlib.sha256()
            for block in _blocks(Path(entry.path)):
                inside.update(block)
            digest.update(os.fsencode(entry.name) + b"\0" + inside.digest())
    except FileNotFoundError as e:
        raise VideoError(missing_message(source.id), kind="missing") from e
    except (OSError, ValueError) as e:
        raise VideoError(f"{source.id}: cannot be read ({reason(e)}); check its permissions", kind="unreadable") from e
    return digest.digest()


def _stamp(status: os.stat_result) -> bytes:
    # The time of the last change of the entry, too: copying with `cp -p` or `rsync -t` sets the other one back.
    return f"{status.st_size} {status.st_mtime_ns} {status.st_ctime_ns}".encode()


def _frames(folder: Path) -> list[os.DirEntry[str]]:
    with os.scandir(folder) as entries:
        frames = [entry for entry in entries if is_frame_name(entry.name)]
    return sorted(frames, key=lambda entry: os.fsencode(entry.name))


def _blocks(path: Path) -> Iterator[bytes]:
    with path.open("rb", buffering=0) as file:
        while block := file.read(READ_BYTES):
            yield block
