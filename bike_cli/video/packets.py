"""The packets of a video, read without decoding one: which frames there are, when, and where decoding can start."""

from __future__ import annotations

from array import array
from collections.abc import Iterator
from dataclasses import dataclass
from itertools import islice

import av
import numpy as np
from av.video.stream import VideoStream
from numpy.typing import NDArray

from bike_cli.video.video_file import VideoFile

_H264_PICTURES, _H264_IDR, _H264_PARAMETERS = range(1, 6), {5}, {7, 8}
_HEVC_PICTURES, _HEVC_IDR, _HEVC_PARAMETERS = range(32), {19, 20}, {33, 34}
_LONGEST_HEAD = 64  # NAL units before the first picture's that are looked at


class UnforeseenError(Exception):
    """A file is not built, or does not decode, as its packets say; only decoding all of it tells what it holds."""


@dataclass(frozen=True)
class PacketTable:
    """What is known of N packets, in decoding order, one frame each.

    Args:
        pts, dts: int64 [N], in the stream's time base; no pts twice; `dts` falls back to `pts`.
        durations: int64 [N], 0 where not known.
        is_key: bool [N], shown and marked as a keyframe.
        is_start: bool [N], no packet behind it that is shown later refers to one before it.
        shown: int64 [M], the packets that a player shows, in presentation order.
        shown_pts: int64 [M], sorted.
    """

    pts: NDArray[np.int64]
    dts: NDArray[np.int64]
    durations: NDArray[np.int64]
    is_key: NDArray[np.bool_]
    is_start: NDArray[np.bool_]
    shown: NDArray[np.int64]
    shown_pts: NDArray[np.int64]

    def start_of(self, packet: int) -> int:
        """Return where decoding must start to get one packet's frame.

        A frame shown before a keyframe but stored behind it refers to frames before that keyframe.

        Raises:
            UnforeseenError: there is no such place.
        """
        starts = np.flatnonzero(self.is_start[: packet + 1] & (self.pts[: packet + 1] <= self.pts[packet]))
        if not len(starts):
            raise UnforeseenError
        return int(starts[-1])

    def position_of(self, pts: int) -> int:
        """Return the place in the video of the frame shown at `pts`.

        Raises:
            UnforeseenError: there is none.
        """
        position = int(np.searchsorted(self.shown_pts, pts))
        if position == len(self.shown_pts) or self.shown_pts[position] != pts:
            raise UnforeseenError
        return position

    def end(self) -> int:
        """Return when the last frame ends."""
        before, last = int(self.shown_pts[-2:][0]), int(self.shown_pts[-1])
        return last + (int(self.durations[self.shown[-1]]) or last - before)


def read_packets(file: VideoFile) -> PacketTable:
    """Read all packets of the picture, from where the file stands.

    Raises:
        UnforeseenError: a frame has no time of its own, or decoding cannot start at the first packet.
        av.error.FFmpegError: the file cannot be read to its end.
    """
    pts, dts, durations = array("q"), array("q"), array("q")
    is_key, is_shown, kinds = array("b"), array("b"), array("b")
    kind_of = _Starts(file)
    for packet in file.container.demux(file.stream):
        if not packet.size:
            continue
        if packet.pts is None or packet.is_corrupt:
            raise UnforeseenError
        pts.append(packet.pts)
        dts.append(packet.pts if packet.dts is None else packet.dts)
        durations.append(packet.duration or 0)
        is_key.append(packet.is_keyframe)
        is_shown.append(not packet.is_discard)
        kinds.append(kind_of(packet) if packet.is_keyframe else _NO_START)
    times = np.array(pts, np.int64)
    if len(np.unique(times)) != len(times) or not any(is_shown) or kinds[0] == _NO_START:
        raise UnforeseenError
    order, shows = np.argsort(times), np.array(is_shown, bool)
    shown = order[shows[order]]
    # Where some starts bring parameter sets along, the others may need sets that a skipped packet brought.
    is_start = np.array(kinds, np.int8) == max(kinds)
    is_start[0] = True
    return PacketTable(
        pts=times,
        dts=np.array(dts, np.int64),
        durations=np.array(durations, np.int64),
        is_key=np.array(is_key, bool) & shows,
        is_start=is_start,
        shown=shown,
        shown_pts=times[shown],
    )


_NO_START, _BARE_START, _FULL_START = range(3)  # no place to start; one; one that brings its parameter sets


class _Starts:
    """Tells whether decoding can start at a keyframe packet.

    H.264 and HEVC mark frames as keyframes from which a player may start although frames behind them refer to earlier
    ones (open GOPs, periodic intra refresh); only an IDR picture cuts all ties.
    """

    def __init__(self, file: VideoFile) -> None:
        extradata = file.stream.codec_context.extradata or b""
        is_hevc = file.header.codec == "hevc"
        self._has_units = is_hevc or file.header.codec == "h264"
        self._pictures, self._idr = (_HEVC_PICTURES, _HEVC_IDR) if is_hevc else (_H264_PICTURES, _H264_IDR)
        self._parameters = _HEVC_PARAMETERS if is_hevc else _H264_PARAMETERS
        self._shift, self._mask = (1, 0x3F) if is_hevc else (0, 0x1F)
        length_at = 21 if is_hevc else 4
        # avcC and hvcC begin with their version, 1; without them start codes part the units.
        is_counted = len(extradata) > length_at and extradata[0] == 1
        self._length_bytes = (extradata[length_at] & 3) + 1 if is_counted else 0

    def __call__(self, packet: av.Packet[VideoStream]) -> int:
        if not self._has_units:
            return _BARE_START
        parameters: set[int] = set()
        for kind in islice(self._kinds(bytes(packet)), _LONGEST_HEAD):
            if kind in self._pictures:
                is_idr = kind in self._idr
                return (_FULL_START if parameters >= self._parameters else _BARE_START) if is_idr else _NO_START
            parameters.add(kind)
        return _NO_START

    def _kinds(self, content: bytes) -> Iterator[int]:
        """Yield the types of a packet's NAL units."""
        at, length_bytes = 0, self._length_bytes
        while length_bytes and at + length_bytes < len(content):
            yield content[at + length_bytes] >> self._shift & self._mask
            at += length_bytes + int.from_bytes(content[at : at + length_bytes], "big")
        while not length_bytes and 0 <= (at := content.find(b"\0\0\1", at)) < len(content) - 3:
            at += 3
            yield content[at] >> self._shift & self._mask
