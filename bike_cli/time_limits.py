"""Calls that may take long or block forever, such as those to a file system that does not answer."""

from __future__ import annotations

import logging
import os
import queue
import threading
import time
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path
from typing import Any, TypeVar

T = TypeVar("T")

FILE_LIMIT_S = 5.0  # to query a file; a disk that has to start up needs some seconds
RETRY_S = 60.0  # how long a path that did not answer is not tried again

logger = logging.getLogger(__name__)


def call_with_timeout(limit_s: float, function: Callable[[], T], *, default: T) -> T:
    """Return what a function returns, or `default` if it takes longer than `limit_s`.

    A function that takes longer continues in a daemon thread, which does not keep the program from ending.

    Raises:
        BaseException: whatever the function raises in time.
    """
    try:
        value, error = _started(function).get(timeout=limit_s)
    except queue.Empty:
        return default
    if error is not None:
        raise error
    return value  # type: ignore[return-value]


def call_interruptibly(function: Callable[[], T]) -> T:
    """Return what a function returns, which runs in another thread so that Ctrl-C ends the wait at any time.

    Without it, Ctrl-C has to wait for the end of a long import; see `bike_cli.cli.terminal.signals`. After Ctrl-C the
    function continues in a daemon thread.

    Raises:
        BaseException: whatever the function raises.
    """
    finished = _started(function)
    while True:
        with suppress(queue.Empty):
            value, error = finished.get(timeout=0.1)  # on Windows, Ctrl-C does not end a wait without a limit
            break
    if error is not None:
        raise error
    return value  # type: ignore[return-value]


def _started(function: Callable[[], T]) -> queue.SimpleQueue[tuple[T | None, BaseException | None]]:
    """Start a function in a thread; return the queue that gets its result or what it raised."""
    finished: queue.SimpleQueue[tuple[T | None, BaseException | None]] = queue.SimpleQueue()

    def run() -> None:
        try:
            finished.put((function(), None))
        except BaseException as e:  # noqa: BLE001 - the caller raises it
            finished.put((None, e))

    try:
        calls = _idle_threads.pop()
    except IndexError:
        calls = queue.SimpleQueue()
        threading.Thread(target=_run_calls, args=(calls,), name="bike-calls", daemon=True).start()
    calls.put(run)
    return finished


def call_on_path(path: str | Path, function: Callable[[], T], *, default: T) -> T:
    """Return what a function on a file or folder returns, or `default` if the file system does not answer.

    The first call for an unreachable folder takes `FILE_LIMIT_S`, or twice that. Further ones for what is in the folder
    or below it return `default` at once, for `RETRY_S`.

    Raises:
        BaseException: whatever the function raises in time.
    """
    name = os.path.abspath(path)  # noqa: PTH100 - a Path costs ten times as much
    if _is_unresponsive(name):
        return default
    pending: Any = object()
    value: Any = call_with_timeout(FILE_LIMIT_S, function, default=pending)
    if value is not pending:
        return value  # type: ignore[no-any-return]
    _mark_unresponsive(name)
    return default


_Calls = queue.SimpleQueue[Callable[[], None]]  # for one thread, which is reused: starting one takes 0.1 ms
_idle_threads: list[_Calls] = []  # append and pop are atomic
if hasattr(os, "register_at_fork"):  # a forked process has no threads
    os.register_at_fork(after_in_child=_idle_threads.clear)


def _run_calls(calls: _Calls) -> None:
    while True:
        calls.get()()
        _idle_threads.append(calls)


# Files and folders that did not answer lately, and when they are tried again, in seconds of the monotonic clock.
_unresponsive: dict[str, float] = {}


def _is_unresponsive(name: str) -> bool:
    """Return whether an absolute path, or a folder above it, did not answer lately."""
    if not _unresponsive:
        return False
    now = time.monotonic()
    return any(_unresponsive.get(place, 0.0) > now for place in _with_parents(name))


def _mark_unresponsive(name: str) -> None:
    """Mark the topmost folder above a path that does not answer, or else the path itself.

    One file may block in a folder that works, such as one that another program has locked. After the second one, the
    folder is marked: some systems answer for a folder from memory after the network is gone.
    """
    folders = _with_parents(name)[1:]
    place = next((folder for folder in reversed(folders) if _blocks(folder)), None)
    now = time.monotonic()
    if place is None and folders:
        is_second = any(
            other != name and until > now and os.path.dirname(other) == folders[0]  # noqa: PTH120
            for other, until in list(_unresponsive.items())
        )
        place = folders[0] if is_second else name
    place = place or name
    _unresponsive[place] = now + RETRY_S
    logger.warning("%s: does not answer; bike asks again in %.0f s", place, RETRY_S)


def _blocks(folder: str) -> bool:
    def query() -> bool:
        with suppress(OSError, ValueError):  # an error is an answer
            os.stat(folder)  # noqa: PTH116
        return False

    return call_with_timeout(FILE_LIMIT_S, query, default=True)


def _with_parents(name: str) -> list[str]:
    """Return an absolute path and the folders above it, the nearest first."""
    places = [name]
    while (parent := os.path.dirname(places[-1])) != places[-1]:  # noqa: PTH120
        places.append(parent)
    return places
