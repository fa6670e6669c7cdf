"""MP4 and QuickTime track properties that FFmpeg does not expose: purpose and encryption."""

from __future__ import annotations

import os
from collections.abc import Iterator
from dataclasses import dataclass
from itertools import islice
from pathlib import Path
from typing import BinaryIO

_MOST_BOXES = 100_000  # of a file; a damaged one may seem to have any number
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
            reader = _BoxReader(file)
            movie = reader.find(reader.whole_file(), b"moov")
            if movie is None:
                return []
            return [_read_track(reader, box) for box in reader.children(movie) if box.kind == b"trak"]
    except OSError:
        return []


@dataclass(frozen=True)
class _Box:
    kind: bytes
    start: int  # of the content
    end: int


class _BoxReader:
    """Reads boxes of a file that may be damaged: never past the end of a box, and a limited number in all."""

    def __init__(self, file: BinaryIO) -> None:
        self._file = file
        self._left = _MOST_BOXES

    def whole_file(self) -> _Box:
        """Return the file as if it were the content of a box."""
        return _Box(b"", 0, self._file.seek(0, os.SEEK_END))

    def children(self, parent: _Box, *, skip: int = 0) -> Iterator[_Box]:
        """Yield the boxes in a box, after the first `skip` bytes of its content; stop at the first invalid one."""
        at = parent.start + skip
        while self._left > 0 and at + 8 <= parent.end:
            self._left -= 1
            header = self._read(at, min(16, parent.end - at))
            if len(header) < 8:
                return
            size, head = int.from_bytes(header[:4], "big"), 8
            if size == 1:
                size, head = int.from_bytes(header[8:], "big"), 16
            size = size or parent.end - at  # 0: to the end
            if size < head or len(header) < head:
                return
            yield _Box(header[4:8], at + head, min(at + size, parent.end))
            at += size

    def find(self, parent: _Box, kind: bytes) -> _Box | None:
        """Return the first box of a kind in a box."""
        return next((box for box in self.children(parent) if box.kind == kind), None)

    def content(self, box: _Box, size: int) -> bytes:
        """Return the first `size` bytes of a box; fewer where it ends earlier."""
        return self._read(box.start, max(0, min(size, box.end - box.start)))

    def _read(self, at: int, size: int) -> bytes:
        self._file.seek(at)
        return self._file.read(size)


def _read_track(reader: _BoxReader, track: _Box) -> Mp4Track:
    number, handler = 0, b""
    entries: set[bytes] = set()
    references: set[bytes] = set()
    for box in _track_boxes(reader, track):
        if box.kind == b"tkhd":
            header = reader.content(box, 24)
            at = 20 if header[:1] == b"\1" else 12  # version 1 has times of 64 bits
            number = int.from_bytes(header[at : at + 4], "big")
        elif box.kind == b"hdlr":
            handler = handler or reader.content(box, 12)[8:]  # QuickTime has another one, for data, further down
        elif box.kind == b"tref":
            references |= {reference.kind for reference in reader.children(box)}
        elif box.kind == b"stsd":
            entries |= {entry.kind for entry in islice(reader.children(box, skip=8), _MOST_ENTRIES)}
    return Mp4Track(number, handler, frozenset(entries), frozenset(references))


def _track_boxes(reader: _BoxReader, track: _Box) -> Iterator[_Box]:
    """Yield the boxes of a track, then those of its media, media information and sample table."""
    parent: _Box | None = track
    for kind in (b"mdia", b"minf", b"stbl", None):
        if parent is None:
            return
        child = None
        for box in reader.children(parent):
            if box.kind == kind:
                child = child or box
            yield box
        parent = child
