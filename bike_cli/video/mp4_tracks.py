"""What an MP4 or QuickTime file says of its tracks and FFmpeg keeps to itself: their purpose, and encryption."""

from __future__ import annotations

import struct
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import BinaryIO

_MOST_BOXES = 10_000  # side by side; a damaged file may seem to have any number
_MOST_ENTRIES = 100
_ENCRYPTED = frozenset({b"encv", b"drmi", b"drmt"})
_AUXILIARY = frozenset({b"auxl", b"thmb"})  # references of a track that only helps another: alpha, depth, thumbnails


@dataclass(frozen=True)
class Mp4Track:
    """One track; its `handler`, `entries` and `references` are four-character codes."""

    id: int
    handler: bytes
    entries: frozenset[bytes]
    references: frozenset[bytes]

    @property
    def is_auxiliary(self) -> bool:
        """Whether the track holds no picture of its own but, for example, the transparency of another's."""
        return self.handler == b"auxv" or bool(self.references & _AUXILIARY)

    @property
    def is_encrypted(self) -> bool:
        """Whether some or all of the track is encrypted."""
        return bool(self.entries & _ENCRYPTED)


def read_tracks(path: Path) -> list[Mp4Track]:
    """Return the tracks of an MP4 or QuickTime file; as many as can be found where it is damaged or of another kind."""
    try:
        with path.open("rb") as file:
            end = file.seek(0, 2)
            movies = (box for box in _boxes(file, 0, end) if box.kind == b"moov")
            movie = next(movies, None)
            if movie is None:
                return []
            return [_track(file, box) for box in _boxes(file, movie.start, movie.end) if box.kind == b"trak"]
    except (OSError, struct.error):
        return []


@dataclass(frozen=True)
class _Box:
    kind: bytes
    start: int  # of the content
    end: int


def _boxes(file: BinaryIO, start: int, end: int) -> Iterator[_Box]:
    for _ in range(_MOST_BOXES):
        if start + 8 > end:
            return
        file.seek(start)
        header = file.read(16)
        size, kind = struct.unpack_from(">I4s", header)
        head = 8
        if size == 1:
            (size,) = struct.unpack_from(">Q", header, 8)
            head = 16
        size = size or end - start
        if size < head:
            return
        yield _Box(kind, start + head, min(start + size, end))
        start += size


def _track(file: BinaryIO, track: _Box) -> Mp4Track:
    number, handler = 0, b""
    entries: set[bytes] = set()
    references: set[bytes] = set()
    for box in _within(file, track):
        file.seek(box.start)
        if box.kind == b"tkhd":
            header = file.read(24)
            (number,) = struct.unpack_from(">I", header, 20 if header[0] else 12)
        elif box.kind == b"hdlr":
            handler = handler or file.read(12)[8:]  # QuickTime has another one, for data, further down
        elif box.kind == b"tref":
            references |= {reference.kind for reference in _boxes(file, box.start, box.end)}
        elif box.kind == b"stsd":
            for entry, _ in zip(_boxes(file, box.start + 8, box.end), range(_MOST_ENTRIES), strict=False):
                entries.add(entry.kind)
    return Mp4Track(number, handler, frozenset(entries), frozenset(references))


def _within(file: BinaryIO, box: _Box) -> Iterator[_Box]:
    """Yield the boxes of a track, and those in its boxes that hold nothing but boxes."""
    for child in _boxes(file, box.start, box.end):
        if child.kind in (b"mdia", b"minf", b"stbl"):
            yield from _within(file, child)
        else:
            yield child
