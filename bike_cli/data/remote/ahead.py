"""Run several searches at the same time, and yield what they find in the order of one after another."""

from __future__ import annotations

import queue
import threading
from collections import deque
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import Future
from itertools import islice
from typing import Generic, TypeVar

MOST_WAITING = 256  # finds of a search whose turn has not come
CHECK_S = 0.2  # after which a thread that waits looks whether it is still needed

Item = TypeVar("Item")
Search = Callable[[], Iterator[Item]]


def search_ahead(searches: Iterable[Search[Item]], *, at_once: int) -> Iterator[Item]:
    """Yield the finds of all searches, in the order of the searches; the next ones run in threads meanwhile.

    An error of a search is raised after its finds. To close the iterator stops all threads with their next find.
    """
    is_closed = threading.Event()
    left = iter(searches)
    running = deque(_Running(search, is_closed) for search in islice(left, at_once))
    try:
        while running:
            yield from running.popleft().finds()
            running.extend(_Running(search, is_closed) for search in islice(left, 1))
    finally:
        is_closed.set()


class _Running(Generic[Item]):
    def __init__(self, search: Search[Item], is_closed: threading.Event) -> None:
        from pebble import concurrent  # here, because it imports asyncio, which no help text needs

        self._search, self._is_closed = search, is_closed
        self._queue: queue.Queue[tuple[Item] | None] = queue.Queue(MOST_WAITING)  # None: the end
        self._end: Future[None] = concurrent.thread(self._run)()

    def finds(self) -> Iterator[Item]:
        """Yield what the search finds, as it finds it."""
        while (found := self._next()) is not None:
            yield found[0]
        self._end.result()

    def _next(self) -> tuple[Item] | None:
        while True:
            try:
                return self._queue.get(timeout=CHECK_S)  # without a limit, Ctrl-C would not end it on Windows
            except queue.Empty:
                continue

    def _run(self) -> None:
        try:
            for found in self._search():
                if not self._put((found,)):
                    return
        finally:
            self._put(None)

    def _put(self, found: tuple[Item] | None) -> bool:
        while not self._is_closed.is_set():
            try:
                self._queue.put(found, timeout=CHECK_S)
            except queue.Full:
                continue
            return True
        return False
