"""CPU time and peak memory of this process and of those that it started. This needs Linux.

It imports no more than that needs, so that a process measured with it has little else in memory.
"""

from __future__ import annotations

import os
import time
from collections.abc import Callable, Iterator
from pathlib import Path

TICK_S = 1 / os.sysconf("SC_CLK_TCK")


def children(parent: int) -> Iterator[int]:
    """Yield the processes that a process started."""
    for entry in Path("/proc").iterdir():
        if entry.name.isdecimal():
            try:
                its_parent = int((entry / "stat").read_text().rsplit(")", 1)[1].split()[1])
            except OSError:
                continue
            if its_parent == parent:
                yield int(entry.name)


def descendants(parent: int) -> Iterator[int]:
    """Yield the processes that a process started, those that they started, and so on."""
    for child in children(parent):
        yield child
        yield from descendants(child)


def peak_bytes(pid: int) -> int:
    """Return the peak resident memory of a process; 0 if it has ended."""
    try:
        status = (Path("/proc") / str(pid) / "status").read_text()
    except OSError:
        return 0
    lines = [line.split() for line in status.splitlines() if line.startswith("VmHWM:")]
    return int(lines[0][1]) * 1024 if lines else 0


def cpu_s(work: Callable[[], object]) -> float:
    """Return the CPU time of some work in seconds: of this process, and of all that it started."""
    start_s = time.process_time() + _started_s()
    work()
    time.sleep(0.1)  # until the fork server has seen the end of the last worker
    return time.process_time() + _started_s() - start_s


def _started_s() -> float:
    """Return the CPU time of all processes that this one started, with those that ended: their parents waited."""
    ticks = 0
    for pid in descendants(os.getpid()):
        try:
            fields = (Path("/proc") / str(pid) / "stat").read_text().rsplit(")", 1)[1].split()
        except OSError:
            continue
        ticks += sum(map(int, fields[11:15]))  # its own and of its children, in user mode and in the kernel
    return ticks * TICK_S
