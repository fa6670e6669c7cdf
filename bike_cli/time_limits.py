"""Calls that may block for ever, such as those to a file system that does not answer, get a limit of time."""

from __future__ import annotations

import threading
from collections.abc import Callable
from typing import TypeVar

T = TypeVar("T")

FILE_LIMIT_S = 5.0  # to look at a file; a disk that has to start up needs some seconds


def call_with_timeout(limit_s: float, function: Callable[[], T], *, default: T) -> T:
    """Return what a function on files returns, or `default` where it takes longer than `limit_s`.

    A function that takes longer is left alone in a thread that does not keep the program from ending.

    Raises:
        OSError, ValueError: the function raises it in time.
    """
    returned: list[T] = []
    raised: list[OSError | ValueError] = []

    def run() -> None:
        try:
            returned.append(function())
        except (OSError, ValueError) as e:
            raised.append(e)

    thread = threading.Thread(target=run, daemon=True)
    thread.start()
    thread.join(limit_s)
    if raised:
        raise raised[0]
    return returned[0] if returned else default
