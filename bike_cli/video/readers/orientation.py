"""Rotate and flip decoded pictures by the display matrix of the file or frame, like ffmpeg does."""

from __future__ import annotations

import math
import struct
from dataclasses import dataclass
from typing import cast

import av
import numpy as np
from av.sidedata.sidedata import SideData, SideDataContainer, Type
from numpy.typing import NDArray

DisplayMatrix = tuple[int, ...]  # nine numbers, in rows as in ISO/IEC 14496-12

_MATRIX = struct.Struct("=9i")
_TOLERANCE_DEG = 1.0  # as in ffmpeg; phones write angles such as 89.9


@dataclass(frozen=True)
class Orientation:
    """One of the eight ways to show a picture: axes are swapped first, then flipped."""

    swaps_axes: bool = False
    flips_rows: bool = False
    flips_columns: bool = False

    def apply(self, pixels: NDArray[np.uint8]) -> NDArray[np.uint8]:
        """Return a view of [H, W, 3] pixels as they are shown."""
        shown = pixels.swapaxes(0, 1) if self.swaps_axes else pixels
        return shown[:: -1 if self.flips_rows else 1, :: -1 if self.flips_columns else 1]


_STORED = Orientation()
_CLOCKWISE = {  # by degrees
    90: Orientation(swaps_axes=True, flips_columns=True),
    180: Orientation(flips_rows=True, flips_columns=True),
    270: Orientation(swaps_axes=True, flips_rows=True),
}


def orientation_from(matrix: DisplayMatrix | None) -> Orientation:
    """Return the orientation for a matrix; that of the stored picture if it is degenerate or not a multiple of 90°."""
    angle = _angle_deg(matrix)
    if matrix is None or angle is None:
        return _STORED
    a, b, c, d = matrix[0], matrix[1], matrix[3], matrix[4]  # x' = a x + c y and y' = b x + d y; y points down
    quarter = round(angle / 90)
    if abs(angle - 90 * quarter) >= _TOLERANCE_DEG:
        return _STORED
    if quarter % 2:
        return Orientation(swaps_axes=True, flips_rows=b < 0, flips_columns=c < 0)
    return Orientation(flips_rows=d < 0, flips_columns=a < 0)


def decord_orientation(matrix: DisplayMatrix | None) -> Orientation:
    """Return how decord 0.6.0 shows a picture: it rotates by multiples of 90°, rounded down, and never flips."""
    angle = _angle_deg(matrix)
    return _STORED if angle is None else _CLOCKWISE.get(int(angle), _STORED)


def display_matrix(picture: av.VideoFrame) -> DisplayMatrix | None:
    """Return the display matrix of a decoded picture, to which FFmpeg also copies the one of its stream."""
    # `picture.side_data` would refer to the picture and the picture to it: Python would free its memory late.
    entry = cast("SideData | None", SideDataContainer(picture).get("DISPLAYMATRIX"))  # type: ignore[call-arg]
    if entry is None or entry.buffer_size < _MATRIX.size:
        return None
    return _MATRIX.unpack_from(bytes(entry))


def _angle_deg(matrix: DisplayMatrix | None) -> float | None:
    """Return the clockwise rotation in degrees, in [0, 360); None for a degenerate matrix."""
    if matrix is None:
        return None
    a, b, c, d = matrix[0], matrix[1], matrix[3], matrix[4]
    if a * d == b * c:
        return None
    return math.degrees(math.atan2(b / math.hypot(b, d), a / math.hypot(a, c))) % 360


# PyAV 18 raises ValueError for all side data of a frame if it does not know one type, such as EXIF. PyAV 19 names
# unknown types by their number.
if "_missing_" not in vars(Type):

    def _name_unknown_type(cls: type[Type], value: object) -> Type | None:
        if not isinstance(value, int):
            return None
        member = object.__new__(cls)
        member._name_ = f"UNKNOWN_{value}"
        member._value_ = value  # type: ignore[assignment]
        return cls._value2member_map_.setdefault(value, member)  # type: ignore[return-value]

    Type._missing_ = classmethod(_name_unknown_type)  # type: ignore[assignment]
