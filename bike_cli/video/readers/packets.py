"""Read the packets of a video without decoding: which frames it has, when, and where decoding can start."""

from __future__ import annotations

from array import array
from collections.abc import Callable, Iterator
from dataclasses import dataclass

import av
import numpy as np
from av.video.stream import VideoStream
from numpy.typing import NDArray

from bike_cli.video.containers.bitstreams import inspector_of
from bike_cli.video.containers.packet_content import PacketContent, StartPoint
from bike_cli.video.readers.video_file import VideoFile

# What PyAV raises on broken files: FFmpeg's errors, and errors in its own code on unexpected files.
READING_ERRORS: tuple[type[Exception], ...] = (
    *(av.error.FFmpegError, ArithmeticError, AssertionError, AttributeError),
    *(LookupError, RuntimeError, TypeError, ValueError),
)
NO_PTS = int(np.iinfo(np.int64).min)
_MAX_REORDERED = 16  # frames that H.264 and HEVC may reorder
_NOT_INSPECTED = PacketContent(1, StartPoint.NONE)  # of a codec whose headers are not read


class UnpredictableFileError(Exception):
    """The packets do not say which frames the file has, or decoding contradicts them: it must be decoded in full."""


@dataclass(frozen=True)
class PacketList:
    """All N packets of the video stream, in decoding order.

    Args:
        pts, dts: int64 [N], in the stream's time base; `NO_PTS` if a packet has none.
        durations: int64 [N], 0 if unknown.
        sizes: int64 [N], bytes.
        frames: int64 [N], frames that the decoder outputs for the packet; -1 if its headers do not say.
        is_keyframe: bool [N], marked as a keyframe by the container.
        is_discarded: bool [N], decoded but not shown, such as those outside an edit list.
        is_corrupt: bool [N], marked by the container; may still decode without an error.
        is_field, is_closed, is_shown_earlier: bool [N], see `PacketContent`.
        starts: int64 [N], values of `StartPoint`.
        is_understood: whether packets of this codec are inspected; otherwise each counts as one frame.
        error: the container's error that ended the list early.
    """

    pts: NDArray[np.int64]
    dts: NDArray[np.int64]
    durations: NDArray[np.int64]
    sizes: NDArray[np.int64]
    frames: NDArray[np.int64]
    is_keyframe: NDArray[np.bool_]
    is_discarded: NDArray[np.bool_]
    is_corrupt: NDArray[np.bool_]
    is_field: NDArray[np.bool_]
    is_closed: NDArray[np.bool_]
    is_shown_earlier: NDArray[np.bool_]
    starts: NDArray[np.int64]
    is_understood: bool
    error: Exception | None = None

    def __len__(self) -> int:
        return len(self.pts)

    @property
    def n_announced(self) -> int:
        """Total number of frames that the packets announce."""
        return int(np.abs(self.frames[~self.is_discarded]).sum())

    @property
    def counts_exactly(self) -> bool:
        """Whether the headers of every packet say how many frames it contains."""
        return self.is_understood and bool((self.frames >= 0).all())

    @property
    def is_expected(self) -> NDArray[np.bool_]:
        """Whether the frames of a packet can be decoded: bool [N]; not those before the first keyframe."""
        is_expected = ~self.is_discarded
        keys = np.flatnonzero(self.is_keyframe)
        if len(keys) and keys[0] > 0:
            is_expected[: keys[0]] = False
            is_expected &= (self.pts == NO_PTS) | (self.pts >= self.pts[keys[0]])
        return is_expected

    def n_expected(self) -> int:
        """Return how many frames a decoder should output."""
        return int(np.abs(self.frames[self.is_expected]).sum())


@dataclass(frozen=True)
class PacketTable:
    """The frames of N packets, in decoding order; each packet shows at most one frame.

    Args:
        pts, dts: int64 [N], in the stream's time base; `dts` falls back to `pts`.
        durations, sizes: int64 [N]; durations are 0 if unknown.
        is_key: bool [N], shown and marked as a keyframe.
        is_start: bool [N], no later packet that is shown later refers to one before it.
        shown: int64 [M], the packets that a player shows, in presentation order; each pts is unique.
        shown_pts: int64 [M], sorted.
    """

    pts: NDArray[np.int64]
    dts: NDArray[np.int64]
    durations: NDArray[np.int64]
    sizes: NDArray[np.int64]
    is_key: NDArray[np.bool_]
    is_start: NDArray[np.bool_]
    shown: NDArray[np.int64]
    shown_pts: NDArray[np.int64]

    def starts_of(self, packets: NDArray[np.int64]) -> NDArray[np.int64]:
        """Return the packet at which decoding must start to get the frame of each of `packets`.

        A frame shown before a keyframe but stored after it refers to frames before that keyframe.

        Raises:
            UnpredictableFileError: there is no such packet.
        """
        starts = np.flatnonzero(self.is_start)
        nearest = np.searchsorted(starts, packets, side="right") - 1
        while (is_late := (nearest >= 0) & (self.pts[starts[nearest]] > self.pts[packets])).any():
            nearest -= is_late
        if (nearest < 0).any():
            raise UnpredictableFileError("decoding cannot start before a requested frame")
        return starts[nearest]

    def position_of(self, pts: int) -> int:
        """Return the position of the frame shown at `pts`.

        Raises:
            UnpredictableFileError: there is no such frame.
        """
        position = int(np.searchsorted(self.shown_pts, pts))
        if position == len(self.shown_pts) or self.shown_pts[position] != pts:
            raise UnpredictableFileError("the decoder output a frame that no packet announced")
        return position

    def end(self) -> int:
        """Return when the last frame ends."""
        before, last = int(self.shown_pts[-2:][0]), int(self.shown_pts[-1])
        return last + (int(self.durations[self.shown[-1]]) or last - before)


def demux(file: VideoFile) -> Iterator[av.Packet[VideoStream]]:
    """Yield the non-empty packets of the video stream, from the current position of the file.

    Stops at PyAV's flush packet: afterwards, PyAV would look for streams that appeared since the file was opened, and
    raise IndexError.

    Raises:
        READING_ERRORS: the container cannot be read further.
    """
    for packet in file.container.demux(file.stream):
        if packet.size:
            yield packet
        elif packet.pts is None and packet.dts is None:
            return


class PacketRecorder:
    """Collects what is known about the packets of a video stream without decoding them, in decoding order."""

    def __init__(self, file: VideoFile) -> None:
        self._inspect = inspector_of(file.header.codec, bytes(file.stream.codec_context.extradata or b""))
        self._rows = array("q")

    @property
    def is_understood(self) -> bool:
        """Whether packets of this codec are inspected."""
        return self._inspect is not None

    def add(self, packet: av.Packet[VideoStream]) -> int:
        """Add the next packet; return the number of frames that it announces, -1 if its headers do not say."""
        pts, dts, is_key = packet.pts, packet.dts, packet.is_keyframe
        content = _NOT_INSPECTED if self._inspect is None else self._inspect(memoryview(packet), is_key)
        frames = -1 if content.frames is None else min(content.frames, 15)
        self._rows.extend(
            (
                NO_PTS if pts is None else pts,
                NO_PTS if dts is None else dts,
                packet.duration or 0,
                packet.size,
                is_key | packet.is_discard << 1 | packet.is_corrupt << 2,
                frames,
                content.start | content.is_closed << 2 | content.is_field << 3 | content.is_shown_earlier << 4,
            )
        )
        return frames

    def packets(self, error: Exception | None = None) -> PacketList:
        """Return the packets so far, and the container's error that ended the list early."""
        columns = np.frombuffer(self._rows, np.int64).reshape(-1, 7).T.copy()
        return PacketList(
            pts=columns[0],
            dts=columns[1],
            durations=columns[2],
            sizes=columns[3],
            is_keyframe=(columns[4] & 1) > 0,
            is_discarded=(columns[4] & 2) > 0,
            is_corrupt=(columns[4] & 4) > 0,
            frames=columns[5],
            starts=columns[6] & 3,
            is_closed=(columns[6] & 4) > 0,
            is_field=(columns[6] & 8) > 0,
            is_shown_earlier=(columns[6] & 16) > 0,
            is_understood=self.is_understood,
            error=error,
        )


def list_packets(file: VideoFile, *, step: Callable[[], None] | None = None) -> PacketList:
    """Read all packets of the video stream, from the current position; an error of the container ends the list.

    Args:
        step: called before each packet is read.
    """
    recorder = PacketRecorder(file)
    packets = demux(file)
    while True:
        if step is not None:
            step()
        try:  # only around PyAV's code: an error in the code below is a bug, not damage
            packet = next(packets)
        except StopIteration:
            return recorder.packets()
        except READING_ERRORS as e:
            return recorder.packets(e)
        recorder.add(packet)


def table_of(packets: PacketList) -> PacketTable:
    """Return the frames that the packets announce.

    Raises:
        UnpredictableFileError: they do not say which frames there are and when, or decoding cannot start at the first.
    """
    if packets.error is not None:
        raise UnpredictableFileError("the container cannot be read to its end")
    if not packets.is_understood or not np.isin(packets.frames, (0, 1)).all():
        raise UnpredictableFileError("packets do not say how many frames they contain")
    if packets.is_field.any():
        raise UnpredictableFileError("fields are stored in separate packets")
    is_shown = (packets.frames == 1) & ~packets.is_discarded
    if not is_shown.any():
        raise UnpredictableFileError("no packet shows a frame")
    if (packets.pts == NO_PTS).any() or packets.is_corrupt.any():
        raise UnpredictableFileError("packets lack timestamps or are marked as corrupt")
    if packets.starts[0] < StartPoint.NEEDS_PARAMETERS:
        raise UnpredictableFileError("the first packet is not a point where decoding can start")
    _check_order(packets)
    order = np.argsort(packets.pts, kind="stable")
    shown = order[is_shown[order]]
    # If some starting points contain parameter sets, the others may need sets from a packet that is skipped.
    is_start = packets.starts == packets.starts.max()
    is_start[0] = True
    return PacketTable(
        pts=packets.pts,
        dts=np.where(packets.dts == NO_PTS, packets.pts, packets.dts),
        durations=packets.durations,
        sizes=packets.sizes,
        is_key=packets.is_keyframe & (packets.starts >= StartPoint.OPEN_GOP) & is_shown,
        is_start=is_start,
        shown=shown,
        shown_pts=packets.pts[shown],
    )


def _check_order(packets: PacketList) -> None:
    """Raise UnpredictableFileError if the decoder's order is not that of the times, as when a clock restarts."""
    pts = packets.pts[packets.frames == 1]
    # Decoders skip pictures that need one before the first keyframe (an open GOP). A reader that never decodes these
    # pictures must not count them either.
    if (pts < pts[0]).any():
        raise UnpredictableFileError("the first frames may refer to frames before the first keyframe")
    if _has_decoding_times(pts, packets.is_shown_earlier[packets.frames == 1]):
        raise UnpredictableFileError("timestamps are in decoding order")
    latest_before = np.maximum.accumulate(pts)
    if len(np.unique(pts)) < len(pts) or (pts[_MAX_REORDERED:] < latest_before[:-_MAX_REORDERED]).any():
        raise UnpredictableFileError("timestamps repeat or run backwards")
    closed = np.flatnonzero(packets.is_closed[packets.frames == 1])
    closed = closed[closed > 0]
    earliest_after = np.minimum.accumulate(pts[::-1])[::-1]
    if (earliest_after[closed] <= latest_before[closed - 1]).any():
        raise UnpredictableFileError("timestamps run backwards")


def _has_decoding_times(pts: NDArray[np.int64], is_shown_earlier: NDArray[np.bool_]) -> bool:
    """Return whether B-frames have later times than the reference frames stored before them."""
    places = np.arange(len(pts))
    reference = np.maximum.accumulate(np.where(is_shown_earlier, 0, places))
    return bool((pts > pts[reference])[is_shown_earlier].any())
