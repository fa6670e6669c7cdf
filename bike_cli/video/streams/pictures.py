"""The pictures of one decoding of a file whose packets predict its frames."""

from __future__ import annotations

import heapq
from collections import deque
from collections.abc import Container, Iterator
from typing import NamedTuple

import av
import numpy as np
from numpy.typing import NDArray

from bike_cli.video.readers.packets import PacketTable, UnpredictableFileError
from bike_cli.video.readers.runs import Run, RunDecoder

_MAX_REORDERED = 16  # frames that H.264 and HEVC may reorder
_MAX_SKIPPED = 16  # frames in a row that no other frame depends on: the largest number in H.264


class DamageError(Exception):
    """A packet cannot be decoded, or its picture has errors, does not come, or comes too late."""


class Positioned(NamedTuple):
    """A picture and its position in the video."""

    position: int
    picture: av.VideoFrame


class IntactPictures:
    """Yields the pictures of a file in order of their positions; any damage is an error.

    A picture is held back until all pictures that were decoded before it came out: it may depend on them, and only then
    is known whether they have errors.
    """

    def __init__(self, decoder: RunDecoder, table: PacketTable) -> None:
        self._decoder, self._table = decoder, table
        positions = np.full(len(table.pts), -1)
        positions[table.shown] = np.arange(len(table.shown))
        self._latest = np.maximum.accumulate(positions)[table.shown]  # of the packets up to that of a position, [M]

    def of(self, run: Run, wanted: Container[int], *, spared: NDArray[np.int64] | None) -> Iterator[Positioned]:
        """Yield the pictures of a run at wanted positions.

        Args:
            spared: packets that are decoded even if no other frame depends on them; None: all.
        Raises:
            DamageError: the rest of the run is damaged.
            UnpredictableFileError: the packets do not predict the pictures.
        """
        held: deque[Positioned] = deque()
        before = -1
        for decoded in self._decoder.decode(run, spared=spared):
            if decoded.error is not None:
                raise DamageError
            for picture in decoded.pictures:
                position = self._decoder.position_of(picture)
                if picture.is_corrupt or position <= before:
                    raise DamageError
                before = position
                if position in wanted:
                    held.append(Positioned(position, picture))
                while held and self._latest[held[0].position] <= position:
                    yield held.popleft()
        yield from held

    def can_replace(self, position: int, own: int) -> bool:
        """Return whether a picture may fill the bins of another one, which was skipped."""
        return abs(position - own) <= _MAX_SKIPPED

    def lose(self, position: int) -> None:
        """Raise DamageError: a wanted picture did not come."""
        raise DamageError


class DamagedPictures:
    """Yields the pictures of a damaged file in order of their positions, without those that have errors."""

    def __init__(self, decoder: RunDecoder, table: PacketTable) -> None:
        self._decoder, self._table = decoder, table
        self._lost: set[int] = set()  # positions
        self._have_errors = False

    def of(self, run: Run, wanted: Container[int], *, spared: NDArray[np.int64] | None) -> Iterator[Positioned]:
        """Yield the pictures of a run at wanted positions.

        Args:
            spared: packets that are decoded even if no other frame depends on them; None: all.
        Raises:
            UnpredictableFileError: the packets do not predict the pictures, or not those that are lost.
        """
        # After damage, decoders can output pictures in another order.
        waiting: list[tuple[int, int, av.VideoFrame]] = []  # a heap of positions, numbers and pictures
        last = -1
        for number, (position, picture) in enumerate(self._decoded(run, spared)):
            if position in wanted:
                heapq.heappush(waiting, (position, number, picture))
            while waiting and number - min(entry[1] for entry in waiting) >= _MAX_REORDERED:
                position, _, picture = heapq.heappop(waiting)
                if position > last:
                    yield Positioned(position, picture)
                last = max(last, position)
        for position, _, picture in sorted(waiting, key=lambda entry: entry[:2]):
            if position > last:
                yield Positioned(position, picture)
            last = max(last, position)

    def can_replace(self, position: int, own: int) -> bool:
        """Return whether a picture may fill the bins of another one, which was skipped, not lost."""
        return own not in self._lost and abs(position - own) <= _MAX_SKIPPED

    def lose(self, position: int) -> None:
        """Accept that a wanted picture did not come."""

    def _lose(self, pts: int) -> None:
        """Note that the frame at a time is lost, and raise UnpredictableFileError if none was predicted there."""
        times = self._table.shown_pts
        position = int(np.searchsorted(times, pts))
        if 0 < position < len(times) and times[position] != pts:
            raise UnpredictableFileError("a packet that seemed to contain no frame cannot be decoded")
        self._lost.add(position)

    def _decoded(self, run: Run, spared: NDArray[np.int64] | None) -> Iterator[tuple[int, av.VideoFrame]]:
        """Yield pictures without errors, as they come."""
        for decoded in self._decoder.decode(run, spared=spared):
            if decoded.error is not None:
                self._have_errors = True
                self._lose(int(self._table.pts[decoded.packet]))
            for picture in decoded.pictures:
                self._have_errors |= picture.is_corrupt
                try:
                    position = self._decoder.position_of(picture)
                except UnpredictableFileError:
                    if not self._have_errors:
                        raise
                    continue
                if picture.is_corrupt:
                    self._lost.add(position)
                else:
                    yield position, picture
