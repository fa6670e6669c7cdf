"""What the headers of a packet say: how many frames a decoder outputs for it, and whether decoding can start there.

Containers count packets, players show frames, and these are not the same: VP8 and VP9 hide reference frames in packets
of their own, MPEG-4 marks frames that are not coded, and H.264 can store the two fields of a frame as two packets.
Only the first bytes of a packet are read here.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from enum import IntEnum
from itertools import islice
from typing import NamedTuple, TypeAlias


class Start(IntEnum):
    """Whether decoding can start at a packet.

    From `ALONE`, its own picture can be decoded, but later ones may refer to earlier ones. `FULL` brings the parameter
    sets along that `BARE` expects the decoder to know.
    """

    NO = 0
    ALONE = 1
    BARE = 2
    FULL = 3


class Content(NamedTuple):
    """What one packet holds.

    Args:
        frames: frames that a decoder outputs for it: 0, 1 or more; None where its headers do not say.
        start: whether decoding can start here.
        is_closed: whether every earlier packet is shown before this one, and every later packet after it.
        is_field: whether it holds one field of a frame; of two such packets, the second counts 0 frames.
        is_shown_earlier: whether it is known to be shown before the reference frame stored before it (a B-frame).
    """

    frames: int | None
    start: Start
    is_closed: bool = False
    is_field: bool = False
    is_shown_earlier: bool = False


Inspector: TypeAlias = Callable[
    [memoryview, bool], Content
]  # the packet's bytes, and whether it is marked as a keyframe

_ONE_FRAME = Content(1, Start.NO)
_ONE_KEYFRAME = Content(1, Start.BARE)
_ONE_OPEN_KEYFRAME = Content(1, Start.ALONE)
_ONE_B_FRAME = Content(1, Start.NO, is_shown_earlier=True)
_UNKNOWN = Content(None, Start.NO)


def inspector_of(codec: str, extradata: bytes) -> Inspector | None:
    """Return what reads packets of a codec (FFmpeg's name for it); None for codecs whose packets are not understood."""
    if codec == "h264":
        return _H264(extradata)
    if codec == "hevc":
        return _Hevc(extradata)
    if codec == "av1":
        return _Av1(extradata)
    return {
        "vp8": _vp8,
        "vp9": _vp9,
        "mpeg4": _mpeg4,
        "theora": _theora,
        "mpeg2video": _one_frame,
        "mjpeg": _one_frame,
    }.get(codec)


def _one_frame(content: memoryview, is_key: bool) -> Content:
    return _ONE_KEYFRAME if is_key else _ONE_FRAME


class _Bits:
    """Reads bits from the most significant one on; past the end they are 0."""

    def __init__(self, content: bytes) -> None:
        self._value, self._left = int.from_bytes(content, "big"), 8 * len(content)

    def read(self, n: int) -> int:
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


# -- H.264 and HEVC ------------------------------------------------------------------------------------------------

_MOST_UNITS = 64  # NAL units of a packet that are looked at before its picture
_MOST_SPS_BYTES = 1024  # of extradata; a valid set is shorter
_HEAD_BYTES = 128  # of a NAL unit; a slice header's first fields, or a sequence parameter set up to its picture format


class _NalUnits:
    """Splits packets into NAL units, which are parted by their lengths or by start codes.

    A keyframe flag is not enough to start at: H.264 and HEVC mark frames from which a player may start although later
    frames refer to earlier ones (open GOPs, periodic intra refresh). Only an IDR picture cuts all ties.
    """

    def __init__(self, extradata: bytes, *, length_at: int, shift: int, mask: int) -> None:
        self._shift, self._mask = shift, mask
        # avcC and hvcC begin with their version, 1; without them start codes part the units.
        is_counted = len(extradata) > length_at and extradata[0] == 1
        self._length_bytes = (extradata[length_at] & 3) + 1 if is_counted else 0

    def units(self, content: memoryview) -> Iterator[tuple[int, int]]:
        """Yield the type of each NAL unit, and where it begins."""
        if self._length_bytes:
            yield from self._counted(content)
        else:
            yield from self._parted(bytes(content))

    def _counted(self, content: memoryview) -> Iterator[tuple[int, int]]:
        at, n = 0, self._length_bytes
        while at + n < len(content):
            yield content[at + n] >> self._shift & self._mask, at + n
            at += n + int.from_bytes(content[at : at + n], "big")

    def _parted(self, content: bytes) -> Iterator[tuple[int, int]]:
        at = 0
        while 0 <= (at := content.find(b"\0\0\1", at)) < len(content) - 3:
            at += 3
            yield content[at] >> self._shift & self._mask, at


def _without_picture(kinds: set[int], others: frozenset[int]) -> Content:
    """Return what a packet without a picture holds; one with units of no known kind is a picture that was damaged."""
    return Content(0, Start.NO) if kinds and kinds <= others else _ONE_FRAME


class _Hevc(_NalUnits):
    _PICTURES, _IDR, _PARAMETERS = range(32), frozenset({19, 20}), frozenset({33, 34})
    _OTHERS = frozenset(range(32, 41))

    def __init__(self, extradata: bytes) -> None:
        super().__init__(extradata, length_at=21, shift=1, mask=0x3F)

    def __call__(self, content: memoryview, is_key: bool) -> Content:
        parameters: set[int] = set()
        for kind, _ in islice(self.units(content), _MOST_UNITS):
            if kind in self._PICTURES:
                if kind not in self._IDR:
                    return _ONE_OPEN_KEYFRAME if is_key else _ONE_FRAME
                start = Start.FULL if parameters >= self._PARAMETERS else Start.BARE
                return Content(1, start, is_closed=kind == 20)  # type 19 has leading pictures
            parameters.add(kind)
        return _without_picture(parameters, self._OTHERS)


@dataclass(frozen=True)
class _SliceFormat:
    """Fields of an H.264 SPS needed to parse slice headers."""

    frame_num_bits: int
    has_planes: bool
    has_fields: bool


class _H264(_NalUnits):
    _PICTURES, _IDR, _SPS, _PARAMETERS = range(1, 6), 5, 7, frozenset({7, 8})
    _OTHERS = frozenset(range(6, 14))

    def __init__(self, extradata: bytes) -> None:
        super().__init__(extradata, length_at=4, shift=0, mask=0x1F)
        self._formats: set[_SliceFormat] = set()
        self._has_fields = self._is_second_field = False
        if self._length_bytes and len(extradata) > 8 and extradata[5] & 0x1F:
            self._learn(extradata[8 : 8 + int.from_bytes(extradata[6:8], "big")])
        elif not self._length_bytes:
            for kind, at in islice(self.units(memoryview(extradata)), _MOST_UNITS):
                if kind == self._SPS:
                    self._learn(extradata[at : at + _HEAD_BYTES])

    def __call__(self, content: memoryview, is_key: bool) -> Content:
        at = self._length_bytes
        if at and not is_key and len(content) > at and content[at] & 0x1F == 1 and not self._has_fields:
            return _ONE_FRAME  # nearly all packets, and there are many
        parameters: set[int] = set()
        for kind, at in islice(self.units(content), _MOST_UNITS):
            if kind in self._PICTURES:
                parity = self._parity(content, at)
                if parity is None:
                    self._is_second_field = False
                start = Start.FULL if parameters >= self._PARAMETERS else Start.BARE
                if kind != self._IDR:
                    start = Start.ALONE if is_key else Start.NO
                return self._field(content, start) if parity is not None else Content(1, start, kind == self._IDR)
            if kind == self._SPS:
                self._learn(bytes(content[at : at + _HEAD_BYTES]))
            parameters.add(kind)
        return _without_picture(parameters, self._OTHERS)

    def _learn(self, sps: bytes) -> None:
        layout = _slice_format(sps[:_MOST_SPS_BYTES])
        if layout is None:
            return
        self._formats.add(layout)
        self._has_fields = any(one.has_fields for one in self._formats)

    def _parity(self, content: memoryview, at: int) -> int | None:
        """Return which field a slice belongs to, 0 or 1; None for a slice of a whole frame."""
        if not self._has_fields:
            return None
        bits, layout = _Bits(_unescaped(bytes(content[at + 1 : at + 40]))), next(iter(self._formats))
        for _ in range(3):  # first_mb_in_slice, slice_type, pic_parameter_set_id
            bits.read_ue()
        if layout.has_planes:
            bits.read(2)
        bits.read(layout.frame_num_bits)
        return bits.read(1) if bits.read(1) else None

    def _field(self, content: memoryview, start: Start) -> Content:
        parities = {self._parity(content, at) for kind, at in self.units(content) if kind in self._PICTURES}
        if len(self._formats) > 1:
            return _UNKNOWN
        if len(parities) > 1:
            self._is_second_field = False
            return Content(1, start, is_field=True)
        frames, self._is_second_field = int(not self._is_second_field), not self._is_second_field
        return Content(frames, start if frames else Start.NO, is_field=True)


_MOST_FRAME_NUM_BITS = 16  # in a valid sequence parameter set
_WITH_CHROMA_FORMAT = frozenset({100, 110, 122, 244, 44, 83, 86, 118, 128, 138, 139, 134, 135})


def _slice_format(sps: bytes) -> _SliceFormat | None:
    """Read a sequence parameter set up to frame_mbs_only_flag (ITU-T H.264, 7.3.2.1.1); None if it is invalid."""
    sps = _unescaped(sps)
    bits = _Bits(sps[4:])
    has_planes = False
    bits.read_ue()  # seq_parameter_set_id
    if sps[1:2] and sps[1] in _WITH_CHROMA_FORMAT:
        chroma = bits.read_ue()
        has_planes = chroma == 3 and bool(bits.read(1))
        bits.read_ue(), bits.read_ue(), bits.read(1)  # bit depths, transform bypass
        if bits.read(1):
            for i in range(12 if chroma == 3 else 8):
                if bits.read(1):
                    _skip_scaling_list(bits, 16 if i < 6 else 64)
    frame_num_bits = bits.read_ue() + 4
    if frame_num_bits > _MOST_FRAME_NUM_BITS:
        return None
    order = bits.read_ue()
    if order == 0:
        bits.read_ue()
    elif order == 1:
        bits.read(1), bits.read_se(), bits.read_se()
        for _ in range(min(bits.read_ue(), 255)):
            bits.read_se()
    bits.read_ue(), bits.read(1), bits.read_ue(), bits.read_ue()  # references, gaps, width, height
    return _SliceFormat(frame_num_bits, has_planes, has_fields=not bits.read(1))


def _skip_scaling_list(bits: _Bits, size: int) -> None:
    last = following = 8
    for _ in range(size):
        if following:
            following = (last + bits.read_se()) % 256
        last = following or last


def _unescaped(unit: bytes) -> bytes:
    return unit.replace(b"\0\0\3", b"\0\0")


# -- VP8, VP9 and Theora -------------------------------------------------------------------------------------------


def _vp8(content: memoryview, is_key: bool) -> Content:
    """Read the frame tag (RFC 6386, 9.1)."""
    if content[0] & 1:
        return Content(content[0] >> 4 & 1, Start.NO)
    if bytes(content[3:6]) != b"\x9d\x01\x2a":  # a damaged packet
        return _ONE_FRAME
    return Content(content[0] >> 4 & 1, Start.BARE)


def _vp9(content: memoryview, is_key: bool) -> Content:
    """Read the headers of all frames of a superframe (VP9 bitstream specification, 6.2 and Annex B)."""
    frames, start, at = 0, Start.NO, 0
    for i, size in enumerate(_vp9_sizes(content)):
        bits = _Bits(bytes(content[at : at + 2]))
        at += size
        if not size:
            continue
        if bits.read(2) != 2:  # a damaged packet
            return _ONE_FRAME
        profile = bits.read(1) + 2 * bits.read(1)
        if profile == 3:
            bits.read(1)
        if bits.read(1):  # show_existing_frame
            frames += 1
            continue
        is_inter = bits.read(1)
        frames += bits.read(1)  # show_frame
        if i == 0 and not is_inter:
            start = Start.BARE
    return Content(frames, start)


def _vp9_sizes(content: memoryview) -> list[int]:
    marker = content[-1]
    n, size_bytes = (marker & 7) + 1, (marker >> 3 & 3) + 1
    index = n * size_bytes + 2
    if marker & 0xE0 != 0xC0 or len(content) < index or content[-index] != marker:
        return [len(content)]
    begin = len(content) - index + 1
    places = range(begin, begin + n * size_bytes, size_bytes)
    return [int.from_bytes(content[at : at + size_bytes], "little") for at in places]


def _theora(content: memoryview, is_key: bool) -> Content:
    """Tell a frame from a header, of which a chained file has more (Theora specification, 6.1 and 7.1)."""
    if content[0] & 0x80:
        return Content(0, Start.NO)
    return _ONE_FRAME if content[0] & 0x40 else _ONE_KEYFRAME


# -- MPEG-4 Part 2 -------------------------------------------------------------------------------------------------

_LARGEST_EMPTY_VOP = 32  # bytes; where the flag "vop_coded" stands depends on the time base, so these stay unknown
_B_VOP = 2  # vop_coding_type


def _mpeg4(content: memoryview, is_key: bool) -> Content:
    """Tell a picture from one that is not coded, and from two in one packet (packed B-frames)."""
    packet = bytes(content)
    at = packet.find(b"\0\0\1\xb6")
    if at >= 0 and (len(packet) - at <= _LARGEST_EMPTY_VOP or packet.find(b"\0\0\1\xb6", at + 4) >= 0):
        return _UNKNOWN
    if at >= 0 and packet[at + 4 :][:1] and packet[at + 4] >> 6 == _B_VOP:
        return _ONE_B_FRAME
    return _one_frame(content, is_key)


# -- AV1 -----------------------------------------------------------------------------------------------------------


class _Av1:
    """Reads the headers of open bitstream units (AV1 specification, 5.3 and 5.9)."""

    _SEQUENCE, _FRAME_HEADER, _FRAME = 1, 3, 6

    def __init__(self, extradata: bytes) -> None:
        self._is_still = False
        for kind, payload in self._units(memoryview(extradata)[4:] if extradata[:1] == b"\x81" else memoryview(b"")):
            if kind == self._SEQUENCE:
                self._learn(payload)

    def __call__(self, content: memoryview, is_key: bool) -> Content:
        frames, start, has_sequence, is_first = 0, Start.NO, False, True
        for kind, payload in self._units(content):
            if kind == self._SEQUENCE:
                has_sequence = True
                self._learn(payload)
            if kind not in {self._FRAME_HEADER, self._FRAME} or not payload:
                continue
            head = payload[0]
            is_existing, frame_type, is_shown = head >> 7, head >> 5 & 3, head >> 4 & 1
            if self._is_still:
                is_existing, frame_type, is_shown = 0, 0, 1
            if is_existing or is_shown:
                frames += 1
            # A keyframe that is shown later (a forward keyframe) leaves frames before it that refer further back.
            if is_first and not is_existing and frame_type == 0 and is_shown:
                start = Start.FULL if has_sequence else Start.BARE
            is_first = False
        return Content(frames, start)

    def _learn(self, sequence: memoryview) -> None:
        if sequence:
            self._is_still = bool(sequence[0] >> 3 & 1)  # after seq_profile (3 bits) and still_picture

    @staticmethod
    def _units(content: memoryview) -> Iterator[tuple[int, memoryview]]:
        at = 0
        while at < len(content):
            head = content[at]
            at += 2 if head & 4 else 1
            size = len(content) - at
            if head & 2:
                size = shift = 0
                while at < len(content) and shift < 56:  # 8 bytes at most (4.10.5)
                    byte = content[at]
                    at += 1
                    size |= (byte & 0x7F) << shift
                    shift += 7
                    if not byte & 0x80:
                        break
            yield head >> 3 & 15, content[at : at + size]
            at += size
