"""Lock files, on file systems with and without locks."""

from __future__ import annotations

import errno
import logging
import warnings
from pathlib import Path

from filelock import FileLock

logger = logging.getLogger(__name__)

# NFS without a lock service, FUSE and SMB shares; filelock raises NotImplementedError for some of these.
_NO_LOCKS = {errno.ENOLCK, errno.ENOSYS, errno.EOPNOTSUPP, errno.ENOTSUP}


def acquire_lock(file: Path, *, timeout_s: float = -1) -> FileLock | None:
    """Return a lock that this process holds, on any of its threads; None on a file system without locks.

    Args:
        timeout_s: how long to wait for another process; -1: without limit.

    Raises:
        filelock.Timeout: another process holds the lock.
        OSError: the lock file cannot be created.
    """
    lock = FileLock(file, thread_local=False)
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # without flock, filelock may warn and use the existence of the file
            lock.acquire(timeout=timeout_s)
    except NotImplementedError:
        logger.info("%s: the file system has no locks", file.parent)
        return None
    except OSError as e:
        if e.errno not in _NO_LOCKS:
            raise
        logger.info("%s: the file system has no locks", file.parent)
        return None
    return lock
