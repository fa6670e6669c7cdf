"""Conversion of a video's features to the cells of a row and back, bit by bit.

A checksum over all cells and their key detects rows that were overwritten.
"""

from __future__ import annotations

import json
import struct
import zlib
from collections.abc import Sequence
from dataclasses import dataclass, fields
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from bike_cli.records import FrameTimes, Source, VideoFeatures

FLOAT32, FLOAT64, INT64 = np.dtype("<f4"), np.dtype("<f8"), np.dtype("<i8")
OF_TEXTS = b"texts"  # after the hash in the recipe of a block of texts, which has their features in place of frames
TEXT_ERRORS = "surrogatepass"  # texts may quote file names that are not UTF-8
IN_CELLS = frozenset({"times_s", "positions", "duration_s", "warning"})  # fields of a timeline that have a cell


@dataclass(frozen=True, eq=False)
class StoredFeatures:
    """What the store holds of one file content under one recipe.

    Args:
        frames: float32 [crops * K, T, D].
        informed: of the same shape, or None.
        timeline: of the frames, [K, T].
    """

    frames: NDArray[np.float32]
    informed: NDArray[np.float32] | None
    timeline: FrameTimes

    def of(self, source: Source) -> VideoFeatures:
        """Return them as the features of `source`."""
        from torch import from_numpy  # here, because `bike cache` does not need torch

        informed = None if self.informed is None else from_numpy(self.informed)
        return VideoFeatures(source, from_numpy(self.frames), self.timeline, informed)


class Row(NamedTuple):
    """The cells of one video's features, in the order of the table's columns.

    `duration_s` is eight bytes, because SQLite has no NaN. `warning` also holds the fields of the timeline that have no
    cell, so that a new field does not change the table. `features` holds the frames, followed by the informed ones if
    there are any.
    """

    views: int
    clips: int
    frames: int
    dim: int
    duration_s: bytes | None
    warning: bytes | None
    times_s: bytes
    positions: bytes | None
    features: bytes
    checksum: int


COLUMNS = Row._fields


def pack(content: bytes, recipe: bytes, features: VideoFeatures) -> Row:
    """Return the row of `features`.

    Raises:
        ValueError: features that are not float32.
    """
    frames = features.frames.detach().cpu().numpy()  # [crops * K, T, D]
    if frames.dtype != np.float32:
        raise ValueError(f"features are {frames.dtype}; expected float32")
    views, steps, dim = frames.shape
    raw = _bytes(frames, FLOAT32)
    if features.informed is not None:
        raw += _bytes(features.informed.detach().cpu().numpy(), FLOAT32)
    row = Row(
        *(views, features.times_s.shape[0], steps, dim),
        duration_s=None if features.duration_s is None else struct.pack("<d", features.duration_s),
        warning=_pack_warning(features.timeline),
        times_s=_bytes(features.times_s, FLOAT64),
        positions=None if features.positions is None else _bytes(features.positions, INT64),
        features=raw,
        checksum=0,
    )
    return row._replace(checksum=checksum((content, recipe, *row[:-2]), row.features))


def unpack(content: bytes, recipe: bytes, cells: Sequence[object]) -> StoredFeatures:
    """Return the features in a row's cells.

    Raises:
        ValueError: damaged cells, or cells of another key.
    """
    *head, raw, written = cells
    if type(raw) is not bytes or checksum((content, recipe, *head), raw) != written:
        raise ValueError("the checksum does not match")
    row = Row._make(cells)
    views, clips, frames, dim = row[:4]
    places = 8 * clips * frames
    size = 4 * views * frames * dim
    sizes = (len(row.times_s), places if row.positions is None else len(row.positions))
    if len(raw) not in (size, 2 * size) or sizes != (places, places) or clips < 1 or views % clips:
        raise ValueError("the cells do not fit the shape")
    # Copied into writable arrays: torch warns about read-only ones.
    copied = bytearray(raw)
    timeline = FrameTimes(
        times_s=np.ndarray((clips, frames), FLOAT64, bytearray(row.times_s)),
        positions=None if row.positions is None else np.ndarray((clips, frames), INT64, bytearray(row.positions)),
        duration_s=None if row.duration_s is None else struct.unpack("<d", row.duration_s)[0],
        **_unpack_warning(row.warning),
    )
    informed = np.ndarray((views, frames, dim), FLOAT32, copied, size) if len(raw) > size else None
    return StoredFeatures(np.ndarray((views, frames, dim), FLOAT32, copied), informed, timeline)


def _pack_warning(timeline: FrameTimes) -> bytes | None:
    """Return the warning as text; if other fields without a cell are set, a NUL and all of them as JSON."""
    values = {f.name: getattr(timeline, f.name) for f in fields(timeline) if f.name not in IN_CELLS}
    others = {name: value for name, value in values.items() if value is not None}
    warning = timeline.warning
    if others or (warning is not None and warning.startswith("\0")):
        return b"\0" + json.dumps({"warning": warning, **others}).encode()
    return None if warning is None else warning.encode("utf-8", TEXT_ERRORS)


def _unpack_warning(cell: bytes | None) -> dict[str, Any]:
    """Return the fields of the timeline in a cell, without those that this version of bike does not know."""
    if cell is None or not cell.startswith(b"\0"):
        return {"warning": None if cell is None else cell.decode("utf-8", TEXT_ERRORS)}
    known = {f.name for f in fields(FrameTimes)}
    return {name: value for name, value in json.loads(cell[1:]).items() if name in known}


def checksum(cells: tuple[object, ...], raw: bytes = b"") -> int:
    """Return the CRC of some cells and of the largest one."""
    return zlib.crc32(raw, zlib.crc32(repr(cells).encode()))


def _bytes(array: NDArray[np.generic], dtype: np.dtype[np.generic]) -> bytes:
    return np.ascontiguousarray(array, dtype).tobytes()
