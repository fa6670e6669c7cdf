"""The end of iterators that hold processes."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from contextlib import contextmanager


@contextmanager
def closed_at_end(values: Iterable[object]) -> Iterator[None]:
    """Close a generator at the end, also if it was not read to its own end; leave other iterables alone.

    A generator that is only dropped ends when nothing refers to it, which may be never: a traceback refers to it, too.
    """
    try:
        yield
    finally:
        close = getattr(values, "close", None)
        if close is not None:
            close()
