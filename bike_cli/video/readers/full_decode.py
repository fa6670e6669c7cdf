"""Decode a whole file, whatever its damage, and record which frames came out of it."""

from __future__ import annotations

from array import array
from collections.abc import Callable, Iterator

import av
import numpy as np
from av.video.stream import VideoStream

from bike_cli.video.containers.clocks import browser_times
from bike_cli.video.readers.damage import Survey
from bike_cli.video.readers.footage import reason
from bike_cli.video.readers.packets import NO_PTS, READING_ERRORS, PacketList, demux
from bike_cli.video.readers.truncation import timestamps_may_jump
from bike_cli.video.readers.video_file import VideoFile

_MAX_ERRORS = 100  # consecutive errors of the container before the rest of a file is given up


class FullDecode:
    """One decoding of a whole file: yields pictures, and counts errors.

    Args:
        observe: called with each packet before it is decoded.
    Attributes:
        packets: number of packets that were decoded.
        errors: number of packets that could not be decoded.
        failed: pts of these packets, as far as they have one.
        read_error: why the container could not be read to its end.
        memory_error: raised while a packet was read or decoded.
    """

    def __init__(self, file: VideoFile, *, observe: Callable[[av.Packet[VideoStream]], object] | None = None) -> None:
        self._file, self._observe = file, observe
        self.errors = 0
        self.packets = 0
        self.failed = array("q")
        self.read_error: Exception | None = None
        self.memory_error: MemoryError | None = None

    def pictures(self) -> Iterator[av.VideoFrame]:
        """Yield every picture that can be decoded, in the decoder's order."""
        for packet in self._packets():
            self.packets += 1
            if self._observe is not None:
                self._observe(packet)
            # The decoder would copy this mark to its frames, where it says nothing about the decoding.
            packet.is_corrupt = False
            yield from self._decoded(packet)
        yield from self._decoded(None)

    def _packets(self) -> Iterator[av.Packet[VideoStream]]:
        """Yield the packets; after an error of the container, continue with those that it finds next."""
        errors_in_a_row = 0
        while errors_in_a_row < _MAX_ERRORS:
            try:
                for packet in demux(self._file):
                    errors_in_a_row = 0
                    yield packet
                return
            except READING_ERRORS as e:
                self._note_memory(e)
                self.read_error = e
                errors_in_a_row += 1

    def _decoded(self, packet: av.Packet[VideoStream] | None) -> list[av.VideoFrame]:
        try:
            return list(self._file.stream.codec_context.decode(packet))
        except READING_ERRORS as e:
            self._note_memory(e)
            self.errors += 1
            if packet is not None and packet.pts is not None:
                self.failed.append(packet.pts)
            return []

    def _note_memory(self, error: Exception) -> None:
        if isinstance(error, MemoryError):  # PyAV's is also an FFmpegError; a single changed bit can request gigabytes
            self.memory_error = error


class SurveyRecorder:
    """Records the pictures of a full decode, for a survey of the file."""

    def __init__(self, file: VideoFile, decoding: FullDecode) -> None:
        self._file, self._decoding = file, decoding
        self._pts, self._durations = array("q"), array("q")
        self._is_intact, self._is_key = array("b"), array("b")
        self._before_first = (0, 0)  # packets and errors

    def __len__(self) -> int:
        return len(self._pts)

    def add(self, picture: av.VideoFrame) -> None:
        """Record the picture that the decoding yielded last."""
        if not self._pts:
            self._before_first = (self._decoding.packets, self._decoding.errors)
        self._pts.append(NO_PTS if picture.pts is None else picture.pts)
        self._durations.append(picture.duration or 0)
        self._is_intact.append(not picture.is_corrupt)
        self._is_key.append(picture.key_frame)

    def survey(self, packets: PacketList) -> Survey:
        """Return the survey of a file that was decoded to its end.

        Args:
            packets: of the same file.
        """
        file, decoding = self._file, self._decoding
        announcing = ~packets.is_discarded & (packets.frames != 0)
        tick_s = float(file.stream.time_base or 0)
        pts = np.array(self._pts, np.int64)
        starts = np.where(pts == NO_PTS, np.nan, pts.astype(np.float64) * tick_s)
        lengths = np.array(self._durations, np.float64) * tick_s
        if file.header.container == "gif" and len(starts) == decoding.packets:
            starts, lengths = browser_times(starts, lengths)
        packets_before_first, errors_before_first = self._before_first
        return Survey(
            starts=starts,
            lengths=lengths,
            is_intact=np.array(self._is_intact, bool),
            is_key=np.array(self._is_key, bool),
            packet_starts=np.unique(packets.pts[announcing & (packets.pts != NO_PTS)].astype(np.float64)) * tick_s,
            n_packets=decoding.packets,
            n_announced=packets.n_announced,
            header=file.header,
            counts_exactly=packets.counts_exactly,
            n_discarded=int(packets.is_discarded.sum()),
            n_before_first=packets_before_first,
            errors=decoding.errors - errors_before_first,
            read_error=None if decoding.read_error is None else reason(decoding.read_error),
            may_jump=timestamps_may_jump(file),
        )
