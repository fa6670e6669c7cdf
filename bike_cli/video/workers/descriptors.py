"""Keep file descriptors 0, 1 and 2 open.

Daemons and job launchers start programs with stdin, stdout or stderr closed. The next pipe or socket then gets such a
number: every print writes to it, and every redirection closes it.
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
    """Open the null device on descriptors 0, 1 and 2 if they are closed."""
    for descriptor in STANDARD:
        if not is_open(descriptor):
            opened = os.open(os.devnull, os.O_RDWR)
            if opened != descriptor:
                os.dup2(opened, descriptor)
                os.close(opened)


@contextmanager
def inherited_standard_descriptors() -> Iterator[None]:
    """Let processes that start within the context inherit descriptors 0, 1 and 2.

    Otherwise, the pipes of the new process could get their numbers.
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
