"""Standard descriptors: 0, 1 and 2 must be open before anything else is, or the next file takes their place.

Daemons and job launchers start programs with stdin, stdout or stderr closed. A pipe or socket that then receives the
number of a standard stream is written to by whatever prints, and closed by whatever redirects.
"""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import contextmanager

STANDARD = (0, 1, 2)


def is_open(descriptor: int) -> bool:
    """Return whether a file descriptor is in use."""
    try:
        os.fstat(descriptor)
    except OSError:
        return False
    return True


def reserve_standard_descriptors() -> None:
    """Open the null device on each of the descriptors 0, 1 and 2 that is closed."""
    for descriptor in STANDARD:
        if not is_open(descriptor):
            opened = os.open(os.devnull, os.O_RDWR)
            if opened != descriptor:
                os.dup2(opened, descriptor)
                os.close(opened)


@contextmanager
def inherited_standard_descriptors() -> Iterator[None]:
    """Let processes that start meanwhile inherit the descriptors 0, 1 and 2, whatever they lead to.

    In a process that inherits none of them, its own pipes would take their numbers.
    """
    reserve_standard_descriptors()
    if os.name != "posix":  # descriptors are not inherited by number there
        yield
        return
    before = {descriptor: os.get_inheritable(descriptor) for descriptor in STANDARD}
    try:
        for descriptor in STANDARD:
            os.set_inheritable(descriptor, True)
        yield
    finally:
        for descriptor, inheritable in before.items():
            if is_open(descriptor):
                os.set_inheritable(descriptor, inheritable)
