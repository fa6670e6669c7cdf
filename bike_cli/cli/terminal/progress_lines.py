"""Progress for logs: where stderr is no terminal, a line every 30 seconds."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable
from types import TracebackType

from bike_cli.cli.terminal.console import duration, notice, rate, stderr_is_tty
from bike_cli.wording import count

INTERVAL_S = 30.0


class ProgressLines:
    """Prints lines such as "progress: 120/400 videos, 3 failed, 4.1/s, 68 s left" from a thread while it is entered.

    On a terminal, which has better displays, it prints nothing.

    Args:
        noun: what is counted.
        wanted: False prints nothing.
        total: how many there are; None if that is unknown, or not yet known.
        done: how many were done before, by a run that is resumed.
        note: returns a text for the end of the line.
    """

    def __init__(
        self,
        noun: str,
        *,
        wanted: bool,
        total: int | None = None,
        done: int = 0,
        note: Callable[[], str] | None = None,
    ) -> None:
        self._note = note
        self._noun, self.total = noun, total
        self._done = self._start = done
        self._failed = 0
        self._start_s = time.monotonic()
        self._ended = threading.Event()
        is_shown = wanted and not stderr_is_tty()
        self._thread = threading.Thread(target=self._print_lines, daemon=True) if is_shown else None

    def __enter__(self) -> ProgressLines:
        self._start_s = time.monotonic()
        if self._thread is not None:
            self._thread.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._ended.set()
        if self._thread is not None:
            self._thread.join()

    def update(self, done: int, *, total: int | None = None, failed: int = 0) -> None:
        """Set how many are done, of which some failed; a total of None leaves it as it is."""
        self._done, self._failed = done, failed
        self.total = self.total if total is None else total

    def line(self, seconds: float) -> str:
        """Return the line after so many seconds."""
        done, total = self._done, self.total
        per_s = (done - self._start) / seconds if seconds > 0 else 0.0
        parts = [f"{done:,}/{count(total, self._noun)}" if total is not None else count(done, self._noun)]
        parts += [f"{self._failed:,} failed"] if self._failed else []
        parts += [rate(per_s)] if per_s else []
        parts += [f"{duration((total - done) / per_s)} left"] if per_s and total is not None else []
        parts += [note] if self._note is not None and (note := self._note()) else []
        return ", ".join(parts)

    def _print_lines(self) -> None:
        while not self._ended.wait(INTERVAL_S):
            notice(self.line(time.monotonic() - self._start_s), level="progress")
