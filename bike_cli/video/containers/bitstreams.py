"""Read packet headers: how many frames a decoder outputs for a packet, and whether decoding can start there.

Containers count packets, players show frames, and the two differ: VP8 and VP9 store hidden reference frames in separate
packets, MPEG-4 marks frames that are not coded, and H.264 can store the two fields of a frame as two packets. Only the
first bytes of a packet are read here.
"""

from __future__ import annotations

from collections.abc import Iterator

from bike_cli.video.containers.nal_units import H264Inspector, HevcInspector
from bike_cli.video.containers.packet_content import (
    ONE_B_FRAME,
    ONE_FRAME,
    ONE_KEYFRAME,
    UNKNOWN,
    BitReader,
    Inspector,
    PacketContent,
    StartPoint,
)


def inspector_of(codec: str, extradata: bytes) -> Inspector | None:
    """Return the inspector for packets of a codec (by FFmpeg's name); None for unsupported codecs."""
    if codec == "h264":
        return H264Inspector(extradata)
    if codec == "hevc":
        return HevcInspector(extradata)
    if codec == "av1":
        return _Av1Inspector(extradata)
    return {
        "vp8": _vp8,
        "vp9": _vp9,
        "mpeg4": _mpeg4,
        "theora": _theora,
        "mpeg2video": _one_frame,
        "mjpeg": _one_frame,
    }.get(codec)


def _one_frame(content: memoryview, is_key: bool) -> PacketContent:
    return ONE_KEYFRAME if is_key else ONE_FRAME


# -- VP8, VP9 and Theora -------------------------------------------------------------------------------------------


def _vp8(content: memoryview, is_key: bool) -> PacketContent:
    """Read the frame tag (RFC 6386, 9.1)."""
    if content[0] & 1:
        return PacketContent(content[0] >> 4 & 1, StartPoint.NONE)
    if bytes(content[3:6]) != b"\x9d\x01\x2a":  # a damaged packet
        return ONE_FRAME
    return PacketContent(content[0] >> 4 & 1, StartPoint.NEEDS_PARAMETERS)


def _vp9(content: memoryview, is_key: bool) -> PacketContent:
    """Read the headers of all frames of a superframe (VP9 bitstream specification, 6.2 and Annex B)."""
    frames, start, at = 0, StartPoint.NONE, 0
    for i, size in enumerate(_vp9_sizes(content)):
        bits = BitReader(bytes(content[at : at + 2]))
        at += size
        if not size:
            continue
        if bits.read(2) != 2:  # a damaged packet
            return ONE_FRAME
        profile = bits.read(1) + 2 * bits.read(1)
        if profile == 3:
            bits.read(1)
        if bits.read(1):  # show_existing_frame
            frames += 1
            continue
        is_inter = bits.read(1)
        frames += bits.read(1)  # show_frame
        if i == 0 and not is_inter:
            start = StartPoint.NEEDS_PARAMETERS
    return PacketContent(frames, start)


def _vp9_sizes(content: memoryview) -> list[int]:
    marker = content[-1]
    n, size_bytes = (marker & 7) + 1, (marker >> 3 & 3) + 1
    index = n * size_bytes + 2
    if marker & 0xE0 != 0xC0 or len(content) < index or content[-index] != marker:
        return [len(content)]
    begin = len(content) - index + 1
    places = range(begin, begin + n * size_bytes, size_bytes)
    return [int.from_bytes(content[at : at + size_bytes], "little") for at in places]


def _theora(content: memoryview, is_key: bool) -> PacketContent:
    """Distinguish frames from headers, which a chained file repeats (Theora specification, 6.1 and 7.1)."""
    if content[0] & 0x80:
        return PacketContent(0, StartPoint.NONE)
    return ONE_FRAME if content[0] & 0x40 else ONE_KEYFRAME


# -- MPEG-4 Part 2 -------------------------------------------------------------------------------------------------

_MAX_EMPTY_VOP_BYTES = 32  # the position of the flag "vop_coded" depends on the time base, so these stay unknown
_B_VOP = 2  # vop_coding_type


def _mpeg4(content: memoryview, is_key: bool) -> PacketContent:
    """Distinguish a picture from one that is not coded, and from two in one packet (packed B-frames)."""
    packet = bytes(content)
    at = packet.find(b"\0\0\1\xb6")
    if at >= 0 and (len(packet) - at <= _MAX_EMPTY_VOP_BYTES or packet.find(b"\0\0\1\xb6", at + 4) >= 0):
        return UNKNOWN
    if at >= 0 and packet[at + 4 :][:1] and packet[at + 4] >> 6 == _B_VOP:
        return ONE_B_FRAME
    return _one_frame(content, is_key)


# -- AV1 -----------------------------------------------------------------------------------------------------------


class _Av1Inspector:
    """Inspects packets of AV1: the headers of its open bitstream units (specification, 5.3 and 5.9)."""

    _SEQUENCE, _FRAME_HEADER, _FRAME = 1, 3, 6

    def __init__(self, extradata: bytes) -> None:
        self._is_still = False
        for kind, payload in self._units(memoryview(extradata)[4:] if extradata[:1] == b"\x81" else memoryview(b"")):
            if kind == self._SEQUENCE:
                self._read_sequence(payload)

    def __call__(self, content: memoryview, is_key: bool) -> PacketContent:
        frames, start, has_sequence, is_first = 0, StartPoint.NONE, False, True
        for kind, payload in self._units(content):
            if kind == self._SEQUENCE:
                has_sequence = True
                self._read_sequence(payload)
            if kind not in {self._FRAME_HEADER, self._FRAME} or not payload:
                continue
            head = payload[0]
            is_existing, frame_type, is_shown = head >> 7, head >> 5 & 3, head >> 4 & 1
            if self._is_still:
                is_existing, frame_type, is_shown = 0, 0, 1
            if is_existing or is_shown:
                frames += 1
            # After a keyframe that is shown later (a forward keyframe) come frames that refer to frames before it.
            if is_first and not is_existing and frame_type == 0 and is_shown:
                start = StartPoint.COMPLETE if has_sequence else StartPoint.NEEDS_PARAMETERS
            is_first = False
        return PacketContent(frames, start)

    def _read_sequence(self, sequence: memoryview) -> None:
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
