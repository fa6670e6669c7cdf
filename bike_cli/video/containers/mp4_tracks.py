"""Read the boxes of MP4 and QuickTime files for what FFmpeg does not expose: track types, encryption, truncation."""

from __future__ import annotations

import os
from collections.abc import Iterator
from dataclasses import dataclass
from itertools import islice
from pathlib import Path
from typing import BinaryIO

_MAX_BOXES = 100_000  # to search for the tracks in a damaged file
_MAX_ENTRIES = 100
_ENCRYPTED = frozenset({b"encv", b"drmi", b"drmt"})
_AUXILIARY = frozenset({b"auxl", b"thmb"})  # references of tracks that supplement another one: alpha, depth, thumbnails


@dataclass(frozen=True)
class Mp4Track:
    """One track; `handler`, `entries` and `references` are four-character codes."""

    id: int
    handler: bytes
    entries: frozenset[bytes]
    references: frozenset[bytes]

    @property
    def is_auxiliary(self) -> bool:
        """Whether the track only supplements another one, for example with its transparency."""
        return self.handler == b"auxv" or bool(self.references & _AUXILIARY)

    @property
    def is_encrypted(self) -> bool:
        """Whether at least a part of the track is encrypted."""
        return bool(self.entries & _ENCRYPTED)


def read_tracks(path: Path) -> list[Mp4Track]:
    """Return the tracks of an MP4 or QuickTime file; those that can be read if it is damaged."""
    try:
        with path.open("rb") as file:
            reader = _BoxReader(file)
            movie = reader.find(reader.whole_file(), b"moov")
            if movie is None:
                return []
            return [_read_track(reader, box) for box in reader.children(movie) if box.kind == b"trak"]
    except OSError:
        return []


def last_box_is_cut(path: Path) -> bool:
    """Return whether the last box of a file extends beyond the end of the file.

    Raises:
        OSError: the file cannot be read.
    """
    with path.open("rb") as file:
        reader = _BoxReader(file, max_boxes=10**7)  # one for each fragment
        return any(box.is_cut for box in reader.children(reader.whole_file()))


@dataclass(frozen=True)
class _Box:
    kind: bytes  # empty if it is cut off
    start: int  # of the content
    end: int
    is_cut: bool = False  # by the end of the box around it


class _BoxReader:
    """Reads the boxes of a file that may be damaged: never past the end of a box, and a limited number in total."""

    def __init__(self, file: BinaryIO, *, max_boxes: int = _MAX_BOXES) -> None:
        self._file = file
        self._left = max_boxes

    def whole_file(self) -> _Box:
        """Return a box that contains the whole file."""
        return _Box(b"", 0, self._file.seek(0, os.SEEK_END))

    def children(self, parent: _Box, *, skip: int = 0) -> Iterator[_Box]:
        """Yield the boxes inside a box, after the first `skip` bytes of its content; stop at an invalid one."""
        at = parent.start + skip
        while self._left > 0 and at < parent.end:
            self._left -= 1
            header = self._read(at, min(16, parent.end - at))
            size, head = int.from_bytes(header[:4], "big"), 8
            if size == 1:
                size, head = int.from_bytes(header[8:], "big"), 16
            size = size or parent.end - at  # 0: to the end
            if size < head:
                return
            kind = header[4:8] if len(header) >= 8 else b""
            yield _Box(kind, at + head, min(at + size, parent.end), is_cut=at + size > parent.end)
            at += size

    def find(self, parent: _Box, kind: bytes) -> _Box | None:
        """Return the first box of a kind inside a box."""
        return next((box for box in self.children(parent) if box.kind == kind), None)

    def content(self, box: _Box, size: int) -> bytes:
        """Return the first `size` bytes of a box; fewer if it is shorter."""
        return self._read(box.start, max(0, min(size, box.end - box.start)))

    def _read(self, at: int, size: int) -> bytes:
        self._file.seek(at)
        return self._file.read(size)


def _read_track(reader: _BoxReader, track: _Box) -> Mp4Track:
    track_id, handler = 0, b""
    entries: set[bytes] = set()
    references: set[bytes] = set()
    for box in _track_boxes(reader, track):
        if box.kind == b"tkhd":
            header = reader.content(box, 24)
            at = 20 if header[:1] == b"\1" else 12  # version 1 has times of 64 bits
            track_id = int.from_bytes(header[at : at + 4], "big")
        elif box.kind == b"hdlr":
            handler = handler or reader.content(box, 12)[8:]  # QuickTime has a second one, for data, further down
        elif box.kind == b"tref":
            references |= {reference.kind for reference in reader.children(box)}
        elif box.kind == b"stsd":
            entries |= {entry.kind for entry in islice(reader.children(box, skip=8), _MAX_ENTRIES)}
    return Mp4Track(track_id, handler, frozenset(entries - {b""}), frozenset(references - {b""}))


def _track_boxes(reader: _BoxReader, track: _Box) -> Iterator[_Box]:
    """Yield the boxes of a track, then those of its media, its media information and its sample table."""
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
