"""Matroska and WebM track encryption, which FFmpeg does not always expose."""

from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path
from typing import BinaryIO, NamedTuple

# Element IDs (RFC 9559).
_SEGMENT, _TRACKS, _TRACK_ENTRY = 0x18538067, 0x1654AE6B, 0xAE
_TRACK_TYPE, _CODEC_ID = 0x83, 0x86
_ENCODINGS, _ENCODING, _ENCODING_TYPE = 0x6D80, 0x6240, 0x5033
_STREAM_TYPES = frozenset({0x01, 0x02, 0x11, 0x21})  # video, audio, subtitles, metadata; FFmpeg ignores other tracks
_ENCRYPTION = 1  # encoding type; 0 is compression
_MAX_ELEMENTS = 10_000  # to search for the tracks in a damaged file
_MAX_TRACKS_BYTES = 2**20


class _Element(NamedTuple):
    id: int
    start: int  # of the content
    end: int


def encrypted_streams(path: Path) -> frozenset[int]:
    """Return the indices of encrypted streams as FFmpeg counts them; empty if the file has no track list."""
    try:
        with path.open("rb") as file:
            tracks = _read_tracks(file)
    except OSError:
        return frozenset()
    entries = (
        _children(tracks, entry) for entry in _children(tracks, _Element(0, 0, len(tracks))) if entry.id == _TRACK_ENTRY
    )
    streams = [fields for fields in map(list, entries) if _is_stream(tracks, fields)]
    return frozenset(i for i, fields in enumerate(streams) if _is_encrypted(tracks, fields))


def _is_stream(content: bytes, fields: list[_Element]) -> bool:
    kinds = {_number(content, field) for field in fields if field.id == _TRACK_TYPE}
    return bool(kinds & _STREAM_TYPES) and any(field.id == _CODEC_ID for field in fields)


def _is_encrypted(content: bytes, fields: list[_Element]) -> bool:
    encodings = (child for field in fields if field.id == _ENCODINGS for child in _children(content, field))
    settings = (child for encoding in encodings if encoding.id == _ENCODING for child in _children(content, encoding))
    return any(s.id == _ENCODING_TYPE and _number(content, s) == _ENCRYPTION for s in settings)


def _read_tracks(file: BinaryIO) -> bytes:
    """Return the content of the Tracks element; empty if it is missing."""
    at, end = 0, file.seek(0, os.SEEK_END)
    for _ in range(_MAX_ELEMENTS):
        file.seek(at)
        element = _element(file.read(12), 0)
        if element is None:
            break
        if element.id == _TRACKS:
            file.seek(at + element.start)
            return file.read(min(element.end - element.start, _MAX_TRACKS_BYTES))
        at += element.start if element.id == _SEGMENT else element.end
        if at >= end:
            break
    return b""


def _children(content: bytes, parent: _Element) -> Iterator[_Element]:
    at = parent.start
    while at < parent.end and (element := _element(content, at)) is not None:
        yield element._replace(end=min(element.end, parent.end))
        at = element.end


def _element(content: bytes, at: int) -> _Element | None:
    """Return the element at an offset, None if it is invalid. An element of unknown length gets a huge one."""
    id_bytes = _vint_bytes(content, at)
    size_bytes = _vint_bytes(content, at + id_bytes)
    if not id_bytes or not size_bytes:
        return None
    start = at + id_bytes + size_bytes
    size = int.from_bytes(content[at + id_bytes : start], "big") - (1 << 7 * size_bytes)
    return _Element(int.from_bytes(content[at : at + id_bytes], "big"), start, start + size)


def _vint_bytes(content: bytes, at: int) -> int:
    """Return the length of the variable-length integer at an offset; 0 if it is invalid or truncated."""
    length = 9 - content[at].bit_length() if at < len(content) else 9
    return length if length <= 8 and at + length <= len(content) else 0


def _number(content: bytes, element: _Element) -> int:
    return int.from_bytes(content[element.start : min(element.end, element.start + 8)], "big")
