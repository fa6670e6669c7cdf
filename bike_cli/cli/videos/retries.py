"""Failures of earlier runs that are not the video's fault: each stays until its video has a new record."""

from __future__ import annotations

from collections import Counter
from collections.abc import Collection
from dataclasses import dataclass, field
from typing import NamedTuple

from bike_cli.data.parts.names import digest_of_path

RETRIED = frozenset({"internal"})  # kinds of failure that are not the video's fault


class _Waiting(NamedTuple):
    kind: str
    start: int
    stop: int


@dataclass
class RetriedFailures:
    """The failures that a run tries again, if it names their videos.

    Args:
        n_read: the number of failures that were added.
        replaced: byte ranges of those whose videos have a newer record, (start, stop).
    """

    n_read: int = 0
    replaced: list[tuple[int, int]] = field(default_factory=list)
    _waiting: dict[bytes, list[_Waiting]] = field(default_factory=dict)  # by the digests of paths

    @property
    def kinds(self) -> Counter[str]:
        """The failures without a newer record, by kind."""
        return Counter(failure.kind for failures in self._waiting.values() for failure in failures)

    def add(self, path: str, kind: str, start: int = 0, stop: int = 0) -> None:
        """Add a failure, and where it is in its file."""
        self.n_read += 1
        self._waiting.setdefault(digest_of_path(path), []).append(_Waiting(kind, start, stop))

    def replace(self, path: str) -> None:
        """Note that a video has a newer record."""
        if self._waiting:  # a digest takes a microsecond
            self.replace_all([digest_of_path(path)])

    def replace_all(self, digests: Collection[bytes]) -> None:
        """Note that the videos whose paths have these digests have newer records."""
        for digest in digests:
            self.replaced += [failure[1:] for failure in self._waiting.pop(digest, [])]

    def among(self, paths: Collection[str]) -> set[bytes]:
        """Return the digests of those paths that have a failure without a newer record."""
        return self._waiting.keys() & set(map(digest_of_path, paths)) if self._waiting else set()


def ranges_without(removed: Collection[tuple[int, int]], size: int) -> list[tuple[int, int]]:
    """Return what is left of a file of this size without some byte ranges, (start, stop), in ascending order."""
    left, position = [], 0
    for start, stop in [*sorted(removed), (size, size)]:
        if start > position:
            left.append((position, start))
        position = stop
    return left
