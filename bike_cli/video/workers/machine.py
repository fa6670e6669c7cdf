"""Resources of this machine: cores for workers, and open files for their pipes."""

from __future__ import annotations

import os
import sys
from contextlib import suppress
from pathlib import Path

from bike_cli.errors import UsageError

USUAL_LIMIT = 1024  # of open files, on Linux
FILES_PER_CLIP = 2  # its memory, which Python opens a second time to map it
FILES_PER_WORKER, OTHER_FILES = 8, 64  # open files: for a worker and its clips, and for everything else


def cores() -> int:
    """Return how many cores this process may use, within the limits of its container and its share of a launcher's."""
    processes = os.environ.get("LOCAL_WORLD_SIZE", "")  # set by torchrun
    return max(1, _all_cores() // int(processes)) if processes.isdecimal() and int(processes) else _all_cores()


def _all_cores() -> int:
    available = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
    try:
        quota, period = Path("/sys/fs/cgroup/cpu.max").read_text().split()
    except (OSError, ValueError):
        return available
    return available if quota == "max" else max(1, min(available, round(int(quota) / int(period))))


def clips_with_open_files(workers: int) -> int:
    """Return for how many clips this process may open files, besides those of its workers."""
    try:
        import resource
    except ImportError:
        return sys.maxsize
    soft, _ = resource.getrlimit(resource.RLIMIT_NOFILE)
    if soft == resource.RLIM_INFINITY:
        return sys.maxsize
    return max(0, soft - OTHER_FILES - FILES_PER_WORKER // 2 * workers) // FILES_PER_CLIP


def raise_open_file_limit(workers: int) -> None:
    """Raise the limit of open files to what this number of workers needs.

    Raises:
        UsageError: the system does not allow as many.
    """
    try:
        import resource
    except ImportError:  # Windows has no such limit
        return
    needed = OTHER_FILES + FILES_PER_WORKER * workers
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    if soft == resource.RLIM_INFINITY or soft >= needed:
        return
    if hard != resource.RLIM_INFINITY and hard < needed:
        fits = max(1, (hard - OTHER_FILES) // FILES_PER_WORKER)
        raise UsageError(
            f"workers is {workers}: they need {needed} open files, and the system allows {hard}; "
            f"give --workers {fits}, or raise the limit (ulimit -n)",
            settings=("workers",),
        )
    # More than needed, because the rest of the program may have many files open.
    wanted = max(needed, USUAL_LIMIT if hard == resource.RLIM_INFINITY else min(USUAL_LIMIT, hard))
    with suppress(OSError, ValueError):  # the limit of macOS is lower than it reports
        resource.setrlimit(resource.RLIMIT_NOFILE, (wanted, hard))
