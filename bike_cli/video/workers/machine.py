"""What this machine has: cores for workers, and handles for their pipes."""

from __future__ import annotations

import os
from contextlib import suppress
from pathlib import Path

from bike_cli.errors import UsageError

HANDLES_A_WORKER, HANDLES = 8, 64  # open files: of a worker and its clips, and of all the rest


def cores() -> int:
    """Return how many cores this process may use: of the machine, in a container too, and among those of a launcher."""
    here = os.environ.get("LOCAL_WORLD_SIZE", "")
    return max(1, _cores_of_all() // int(here)) if here.isdecimal() and int(here) else _cores_of_all()


def _cores_of_all() -> int:
    available = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
    try:
        quota, period = Path("/sys/fs/cgroup/cpu.max").read_text().split()
    except (OSError, ValueError):
        return available
    return available if quota == "max" else max(1, min(available, round(int(quota) / int(period))))


def _allow_handles(workers: int) -> None:
    """Raise this process's limit of open files to what so many workers need."""
    try:
        import resource
    except ImportError:  # Windows counts them otherwise
        return
    needed = HANDLES + HANDLES_A_WORKER * workers
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    if soft == resource.RLIM_INFINITY or soft >= needed:
        return
    if hard != resource.RLIM_INFINITY and hard < needed:
        fits = max(1, (hard - HANDLES) // HANDLES_A_WORKER)
        raise UsageError(
            f"workers is {workers}: they need {needed} open files, and the system allows {hard}; "
            f"give --workers {fits}, or raise the limit (ulimit -n)"
        )
    with suppress(OSError, ValueError):  # macOS has a lower limit than it says
        resource.setrlimit(resource.RLIMIT_NOFILE, (needed, hard))
