"""What a packet contains, and a reader for the bits of its headers."""

from __future__ import annotations

from collections.abc import Callable
from enum import IntEnum
from typing import NamedTuple, TypeAlias


class StartPoint(IntEnum):
    """Whether decoding can start at a packet.

    At `OPEN_GOP`, the picture itself decodes, but later pictures may refer to earlier ones. `COMPLETE` contains the
    parameter sets that the decoder must already have at `NEEDS_PARAMETERS`.
    """

    NONE = 0
    OPEN_GOP = 1
    NEEDS_PARAMETERS = 2
    COMPLETE = 3


class PacketContent(NamedTuple):
    """What one packet contains.

    Args:
        frames: number of frames that a decoder outputs for it; None if its headers do not say.
        start: whether decoding can start here.
        is_closed: whether every earlier packet is shown before this one, and every later packet after it.
        is_field: whether it contains one field of a frame; the second of two such packets counts 0 frames.
        is_shown_earlier: whether it is known to be a B-frame, shown before the reference frame stored before it.
    """

    frames: int | None
    start: StartPoint
    is_closed: bool = False
    is_field: bool = False
    is_shown_earlier: bool = False


# Takes the bytes of a packet, and whether the container marks it as a keyframe.
Inspector: TypeAlias = Callable[[memoryview, bool], PacketContent]

ONE_FRAME = PacketContent(1, StartPoint.NONE)
ONE_KEYFRAME = PacketContent(1, StartPoint.NEEDS_PARAMETERS)
ONE_OPEN_KEYFRAME = PacketContent(1, StartPoint.OPEN_GOP)
ONE_B_FRAME = PacketContent(1, StartPoint.NONE, is_shown_earlier=True)
UNKNOWN = PacketContent(None, StartPoint.NONE)


class BitReader:
    """Reads bits, the most significant one first; past the end they are 0."""

    def __init__(self, content: bytes) -> None:
        self._value, self._left = int.from_bytes(content, "big"), 8 * len(content)

    def read(self, n: int) -> int:
        """Read an unsigned number of `n` bits."""
        self._left -= n
        value = self._value >> self._left if self._left >= 0 else self._value << min(-self._left, n)
        return value & ((1 << n) - 1)

    def read_ue(self) -> int:
        """Read an unsigned Exp-Golomb code."""
        zeros = 0
        while zeros < 32 and self._left > 0 and not self.read(1):
            zeros += 1
        return (1 << zeros) - 1 + self.read(zeros)

    def read_se(self) -> int:
        """Read a signed Exp-Golomb code."""
        code = self.read_ue()
        return (code + 1) // 2 if code % 2 else -(code // 2)
