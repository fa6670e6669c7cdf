"""Progress of downloads: the library reports it to a `Reporter`, which the command line shows."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from contextvars import ContextVar
from dataclasses import dataclass


@dataclass(frozen=True)
class Transfer:
    """One download.

    Args:
        model: the model's name as the user gave it.
        file: file name.
        source: URL of the repository, or path of the file, that is copied.
        size: in bytes; None if the server does not report it.
    """

    model: str
    file: str
    source: str
    size: int | None


class Reporter:
    """Receives the progress of downloads. This one ignores it; subclasses show it."""

    def started(self, transfer: Transfer, done: int) -> None:
        """A download starts; `done` bytes exist from an earlier attempt."""

    def progressed(self, done: int) -> None:
        """`done` bytes of the file exist; fewer than before if the server starts over."""

    def waiting(self, transfer: Transfer) -> None:
        """Another process downloads the same file; this one waits for it."""

    def stopped(self, transfer: Transfer, done: int, *, is_complete: bool) -> None:
        """The download ended: complete and verified, or with `done` bytes from which a later attempt continues."""


_reporter: ContextVar[Reporter | None] = ContextVar("reporter", default=None)


def current_reporter() -> Reporter:
    """Return the reporter set by `reporting_to`, or one that ignores everything."""
    return _reporter.get() or Reporter()


@contextmanager
def reporting_to(reporter: Reporter) -> Iterator[None]:
    """Send the progress of downloads within the context to `reporter`."""
    token = _reporter.set(reporter)
    try:
        yield
    finally:
        _reporter.reset(token)
