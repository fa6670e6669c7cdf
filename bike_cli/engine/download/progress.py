"""Progress of downloads: the library reports it, and whoever runs the library may show it."""

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
        file: the name of the file.
        source: the URL it comes from, without a query.
        size: in bytes; None where the server does not say.
    """

    model: str
    file: str
    source: str
    size: int | None


class Reporter:
    """Receives the progress of downloads. This one ignores it; subclasses show it."""

    def started(self, transfer: Transfer, done: int) -> None:
        """A download starts; `done` bytes are there from an earlier attempt."""

    def progressed(self, done: int) -> None:
        """`done` bytes of the file are there; fewer than before where the server starts again from the beginning."""

    def waiting(self, transfer: Transfer) -> None:
        """Another process downloads the same file; this one waits for it."""

    def stopped(self, transfer: Transfer, done: int, *, is_complete: bool) -> None:
        """The download ended: complete and verified, or with `done` bytes that a later attempt continues from."""


_reporter: ContextVar[Reporter | None] = ContextVar("reporter", default=None)


def current_reporter() -> Reporter:
    """Return the reporter that is installed here, or one that ignores everything."""
    return _reporter.get() or Reporter()


@contextmanager
def reporting_to(reporter: Reporter) -> Iterator[None]:
    """Send the progress of downloads inside the block to `reporter`."""
    token = _reporter.set(reporter)
    try:
        yield
    finally:
        _reporter.reset(token)
