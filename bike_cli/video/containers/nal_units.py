"""The packets of H.264 and HEVC, which consist of NAL units."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from itertools import islice

from bike_cli.video.containers.packet_content import (
    ONE_FRAME,
    ONE_OPEN_KEYFRAME,
    UNKNOWN,
    BitReader,
    PacketContent,
    StartPoint,
)

_MAX_UNITS = 64  # NAL units of a packet to search for its picture
_MAX_SPS_BYTES = 1024  # a valid sequence parameter set is shorter
_HEAD_BYTES = 128  # of a NAL unit: enough for the first fields of a slice header or a sequence parameter set


class _NalUnits:
    """Splits packets into NAL units, which are separated by length prefixes or by start codes.

    Decoding cannot start at every packet with a keyframe flag: H.264 and HEVC also mark frames from which a player may
    start although later frames refer to earlier ones (open GOPs, periodic intra refresh). No frame refers back past an
    IDR picture.
    """

    def __init__(self, extradata: bytes, *, length_at: int, shift: int, mask: int) -> None:
        self._shift, self._mask = shift, mask
        # avcC and hvcC begin with their version, 1. Without them, start codes separate the units.
        has_lengths = len(extradata) > length_at and extradata[0] == 1
        self._length_bytes = (extradata[length_at] & 3) + 1 if has_lengths else 0

    def units(self, content: memoryview) -> Iterator[tuple[int, int]]:
        """Yield the type and the offset of each NAL unit."""
        if self._length_bytes:
            yield from self._length_prefixed(content)
        else:
            yield from self._start_coded(bytes(content))

    def _length_prefixed(self, content: memoryview) -> Iterator[tuple[int, int]]:
        at, n = 0, self._length_bytes
        while at + n < len(content):
            yield content[at + n] >> self._shift & self._mask, at + n
            at += n + int.from_bytes(content[at : at + n], "big")

    def _start_coded(self, content: bytes) -> Iterator[tuple[int, int]]:
        at = 0
        while 0 <= (at := content.find(b"\0\0\1", at)) < len(content) - 3:
            at += 3
            yield content[at] >> self._shift & self._mask, at


def _without_picture(kinds: set[int], others: frozenset[int]) -> PacketContent:
    """Return the content of a packet without a picture. Units of unknown types count as a damaged picture."""
    return PacketContent(0, StartPoint.NONE) if kinds and kinds <= others else ONE_FRAME


class HevcInspector(_NalUnits):
    """Inspects packets of HEVC."""

    _PICTURES, _IDR, _PARAMETERS = range(32), frozenset({19, 20}), frozenset({33, 34})
    _OTHERS = frozenset(range(32, 41))

    def __init__(self, extradata: bytes) -> None:
        super().__init__(extradata, length_at=21, shift=1, mask=0x3F)

    def __call__(self, content: memoryview, is_key: bool) -> PacketContent:
        """Return what a packet contains."""
        parameters: set[int] = set()
        for kind, _ in islice(self.units(content), _MAX_UNITS):
            if kind in self._PICTURES:
                if kind not in self._IDR:
                    return ONE_OPEN_KEYFRAME if is_key else ONE_FRAME
                start = StartPoint.COMPLETE if parameters >= self._PARAMETERS else StartPoint.NEEDS_PARAMETERS
                return PacketContent(1, start, is_closed=kind == 20)  # type 19 has leading pictures
            parameters.add(kind)
        return _without_picture(parameters, self._OTHERS)


@dataclass(frozen=True)
class _SliceFormat:
    """Fields of an H.264 SPS needed to parse slice headers."""

    frame_num_bits: int
    has_planes: bool
    has_fields: bool


class H264Inspector(_NalUnits):
    """Inspects packets of H.264."""

    _PICTURES, _IDR, _SPS, _PARAMETERS = range(1, 6), 5, 7, frozenset({7, 8})
    _OTHERS = frozenset(range(6, 14))

    def __init__(self, extradata: bytes) -> None:
        super().__init__(extradata, length_at=4, shift=0, mask=0x1F)
        self._formats: set[_SliceFormat] = set()
        self._has_fields = self._is_second_field = False
        if self._length_bytes and len(extradata) > 8 and extradata[5] & 0x1F:
            self._add_format(extradata[8 : 8 + int.from_bytes(extradata[6:8], "big")])
        elif not self._length_bytes:
            for kind, at in islice(self.units(memoryview(extradata)), _MAX_UNITS):
                if kind == self._SPS:
                    self._add_format(extradata[at : at + _HEAD_BYTES])

    def __call__(self, content: memoryview, is_key: bool) -> PacketContent:
        """Return what a packet contains."""
        at = self._length_bytes
        if at and not is_key and len(content) > at and content[at] & 0x1F == 1 and not self._has_fields:
            return ONE_FRAME  # the common case, made fast
        parameters: set[int] = set()
        for kind, at in islice(self.units(content), _MAX_UNITS):
            if kind in self._PICTURES:
                parity = self._parity(content, at)
                if parity is None:
                    self._is_second_field = False
                start = StartPoint.COMPLETE if parameters >= self._PARAMETERS else StartPoint.NEEDS_PARAMETERS
                if kind != self._IDR:
                    start = StartPoint.OPEN_GOP if is_key else StartPoint.NONE
                return self._field(content, start) if parity is not None else PacketContent(1, start, kind == self._IDR)
            if kind == self._SPS:
                self._add_format(bytes(content[at : at + _HEAD_BYTES]))
            parameters.add(kind)
        return _without_picture(parameters, self._OTHERS)

    def _add_format(self, sps: bytes) -> None:
        slice_format = _slice_format(sps[:_MAX_SPS_BYTES])
        if slice_format is None:
            return
        self._formats.add(slice_format)
        self._has_fields = any(known.has_fields for known in self._formats)

    def _parity(self, content: memoryview, at: int) -> int | None:
        """Return the field that a slice belongs to, 0 or 1; None for a slice of a whole frame."""
        if not self._has_fields:
            return None
        bits, slice_format = BitReader(_unescaped(bytes(content[at + 1 : at + 40]))), next(iter(self._formats))
        for _ in range(3):  # first_mb_in_slice, slice_type, pic_parameter_set_id
            bits.read_ue()
        if slice_format.has_planes:
            bits.read(2)
        bits.read(slice_format.frame_num_bits)
        return bits.read(1) if bits.read(1) else None

    def _field(self, content: memoryview, start: StartPoint) -> PacketContent:
        parities = {self._parity(content, at) for kind, at in self.units(content) if kind in self._PICTURES}
        if len(self._formats) > 1:
            return UNKNOWN
        if len(parities) > 1:
            self._is_second_field = False
            return PacketContent(1, start, is_field=True)
        frames, self._is_second_field = int(not self._is_second_field), not self._is_second_field
        return PacketContent(frames, start if frames else StartPoint.NONE, is_field=True)


_MAX_FRAME_NUM_BITS = 16  # in a valid sequence parameter set
_WITH_CHROMA_FORMAT = frozenset({100, 110, 122, 244, 44, 83, 86, 118, 128, 138, 139, 134, 135})


def _slice_format(sps: bytes) -> _SliceFormat | None:
    """Read a sequence parameter set up to frame_mbs_only_flag (ITU-T H.264, 7.3.2.1.1); None if it is invalid."""
    sps = _unescaped(sps)
    bits = BitReader(sps[4:])
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
    if frame_num_bits > _MAX_FRAME_NUM_BITS:
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


def _skip_scaling_list(bits: BitReader, size: int) -> None:
    last = following = 8
    for _ in range(size):
        if following:
            following = (last + bits.read_se()) % 256
        last = following or last


def _unescaped(unit: bytes) -> bytes:
    return unit.replace(b"\0\0\3", b"\0\0")
