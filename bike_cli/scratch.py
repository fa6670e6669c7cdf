"""Temporary folders, which no run leaves on disk: their names begin with `bike-tmp-`, and their process holds a lock.

A folder is removed when its process exits. The fork server, or else the next run, removes the folder of a killed
process. It recognises the folder by its name, its owner and a lock that nobody holds, not by a process number.
"""

from __future__ import annotations

import atexit
import os
import shutil
import stat
import tempfile
import threading
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path

from filelock import FileLock, Timeout

from bike_cli.locks import acquire_lock

PREFIX = "bike-tmp-"
LOCK = "lock"
LONGEST_SOCKET = 100  # bytes; the system's limit is 104 on macOS and 108 on Linux, including a final NUL
SOCKET_NAME = "listener-12345678"  # as long as the names of multiprocessing
_ATTEMPTS = 3

_mutex = threading.Lock()
# (process, folder) -> its lock, which is held until the process exits; None where the file system has no locks
_held: dict[tuple[int, Path], FileLock | None] = {}


def scratch_folder(*, for_sockets: bool = False) -> Path:
    """Return this process's own temporary folder, which is removed when the process exits.

    Args:
        for_sockets: the path must be short enough for a Unix socket in it.

    Raises:
        OSError: no folder for temporary files can be used.
    """
    error: OSError | None = None
    with _mutex:
        for base in candidates():
            if for_sockets and len(os.fsencode(base / f"{PREFIX}12345678" / SOCKET_NAME)) > LONGEST_SOCKET:
                continue
            existing = next((folder for pid, folder in _held if pid == os.getpid() and folder.parent == base), None)
            if existing is not None and existing.is_dir():
                return existing
            try:
                return _create(base)
            except OSError as e:
                error = e
    raise error or OSError(None, "no folder with a short enough path can be used")


def candidates() -> Iterator[Path]:
    """Yield the folders for temporary files in the order in which they are tried, each once."""
    named = []
    with suppress(OSError):
        named.append(tempfile.gettempdir())
    if os.name == "posix":
        named += [os.environ.get("XDG_RUNTIME_DIR", ""), "/tmp", "/var/tmp", "/dev/shm"]
    yield from dict.fromkeys(Path(name).absolute() for name in named if name)


def remove_abandoned(base: Path) -> None:
    """Remove the folders in `base` that belong to this user and whose process is gone."""
    with suppress(OSError):
        for folder in list(base.glob(f"{PREFIX}*")):
            if (os.getpid(), folder) not in _held and _is_own(folder):
                remove_if_abandoned(folder)


def remove_if_abandoned(folder: Path, *, timeout_s: float = 0) -> None:
    """Remove a folder once its process has given up the lock, waiting for that at most `timeout_s`."""
    if not (folder / LOCK).is_file():  # removed already, or a moment old
        return
    lock = FileLock(folder / LOCK, thread_local=False)
    with suppress(OSError, NotImplementedError):  # the owner lives, or was faster
        lock.acquire(timeout=timeout_s)
        _remove(folder, lock)


def _is_own(folder: Path) -> bool:
    status = folder.lstat()
    return stat.S_ISDIR(status.st_mode) and (not hasattr(os, "getuid") or status.st_uid == os.getuid())


def _create(base: Path) -> Path:
    remove_abandoned(base)
    for _ in range(_ATTEMPTS):
        folder = Path(tempfile.mkdtemp(prefix=PREFIX, dir=base))
        try:
            lock = acquire_lock(folder / LOCK, timeout_s=0)
        except Timeout:
            continue  # another run took it for abandoned before it was locked, and removes it
        except OSError:
            shutil.rmtree(folder, ignore_errors=True)
            raise
        if lock is None or (folder / LOCK).exists():
            _held[os.getpid(), folder] = lock
            atexit.register(_remove_at_exit, folder, os.getpid())
            return folder
        lock.release()
    raise OSError(None, f"{base}: no temporary folder can be kept")


def _remove_at_exit(folder: Path, pid: int) -> None:
    if os.getpid() == pid:
        _remove(folder, _held.pop((pid, folder)))


def _remove(folder: Path, lock: FileLock | None) -> None:
    """Remove a folder that this process has locked, if it can be locked.

    The lock file goes last, so that a folder that was removed in part is recognised.
    """
    with suppress(OSError):  # it may be gone
        for entry in folder.iterdir():
            if entry.name != LOCK:
                entry.unlink()
    if lock is not None and os.name != "posix":  # an open file cannot be removed there
        lock.release()
    shutil.rmtree(folder, ignore_errors=True)
    if lock is not None:
        with suppress(OSError):
            lock.release()
