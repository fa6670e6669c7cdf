"""Recognise unchanged videos: a stamp from file metadata, and a digest of the content."""

from __future__ import annotations

import hashlib
import os
import stat
import time
from pathlib import Path

from bike_cli.errors import VideoError
from bike_cli.media import is_frame_name, missing_message
from bike_cli.records import Source
from bike_cli.time_limits import call_on_path
from bike_cli.video.readers.footage import reason

_FILE_ITSELF = ""  # no frame has this name
_CLOCK_STEP_S = 2.0  # resolution of modification times on FAT, the coarsest of the file systems in use


def stamp_of(path: Path) -> bytes | None:
    """Return a value that changes when the file, or a frame in the folder, changes: a digest of sizes and times.

    None if the path cannot be read or does not respond; the decoder then reports why. Content is not read.
    """
    statuses = call_on_path(path, lambda: _statuses(path), default=None)
    if statuses is None:
        return None
    if _FILE_ITSELF in statuses:
        return _stamp(statuses[_FILE_ITSELF])
    digest = hashlib.sha256()
    for name, status in statuses.items():
        digest.update(os.fsencode(name) + b"\0" + _stamp(status) + b"\0")
    return digest.digest()


def changed_lately(path: Path) -> bool:
    """Return whether a file, or a frame in a folder, changed so recently that its time may not show the next change."""
    statuses = call_on_path(path, lambda: _statuses(path), default=None)
    if statuses is None:
        return True
    newest_s = max((max(status.st_mtime, status.st_ctime) for status in statuses.values()), default=0.0)
    return time.time() - newest_s < _CLOCK_STEP_S


def _statuses(path: Path) -> dict[str, os.stat_result] | None:
    """Return the status of a file, or of each frame in a folder by its name; None if it cannot be read."""
    try:
        status = path.stat()
        if stat.S_ISREG(status.st_mode):
            return {_FILE_ITSELF: status}
        if not stat.S_ISDIR(status.st_mode):  # reading from a pipe may block, and consumes its data
            return None
        return {entry.name: entry.stat() for entry in _frames(path)}
    except (OSError, ValueError):  # ValueError: a NUL in the name
        return None


def digest_of(source: Source) -> bytes:
    """Return the SHA-256 of a file, or of the names and content of the frames in a folder.

    Raises:
        VideoError: kind `missing` or `unreadable`.
    """
    digest = hashlib.sha256()
    try:
        if not source.path.is_dir():
            return _sha256_of(source.path)
        digest.update(b"a folder of frames\0")
        for entry in _frames(source.path):
            if not entry.is_file():
                continue
            digest.update(os.fsencode(entry.name) + b"\0" + _sha256_of(Path(entry.path)))
    except FileNotFoundError as e:
        raise VideoError(missing_message(source.id), kind="missing") from e
    except (OSError, ValueError) as e:
        raise VideoError(f"{source.id}: cannot be read ({reason(e)}); check its permissions", kind="unreadable") from e
    return digest.digest()


def _stamp(status: os.stat_result) -> bytes:
    # Both times: copying with `cp -p` or `rsync -t` resets the modification time, but not the change time.
    return f"{status.st_size} {status.st_mtime_ns} {status.st_ctime_ns}".encode()


def _frames(folder: Path) -> list[os.DirEntry[str]]:
    with os.scandir(folder) as entries:
        frames = [entry for entry in entries if is_frame_name(entry.name)]
    return sorted(frames, key=lambda entry: os.fsencode(entry.name))


def _sha256_of(path: Path) -> bytes:
    with path.open("rb", buffering=0) as file:
        return hashlib.file_digest(file, "sha256").digest()
