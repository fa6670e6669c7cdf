"""Decode runs of packets: each from the last possible packet to the last wanted frame; packets in between are skipped.

Frames that no other frame depends on are not decoded, unless they are wanted.
"""

from __future__ import annotations

import itertools
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field

import av
import numpy as np
from av.video.stream import VideoStream
from numpy.typing import NDArray

from bike_cli.video.readers.footage import reason
from bike_cli.video.readers.packets import READING_ERRORS, PacketTable, UnpredictableFileError, demux
from bike_cli.video.readers.video_file import VideoFile

# Not HEVC: a frame marked as "not a reference" may still be one for a higher temporal layer.
_SKIPPING_CODECS = frozenset({"h264", "mpeg4", "mpeg2video", "vp8"})
_NEAR = 256  # packets that are read and discarded rather than skipped by a seek, which takes about as long


@dataclass(frozen=True)
class Run:
    """Packets that are decoded one after another: from `start` to the last wanted one. `wanted` is sorted."""

    start: int
    wanted: NDArray[np.int64]


def runs_of(table: PacketTable, wanted: NDArray[np.int64]) -> list[Run]:
    """Return the runs to decode for these packets, in decoding order; packets between two runs are skipped.

    Args:
        wanted: int64 [N], sorted, without repeats.
    Raises:
        UnpredictableFileError: decoding cannot start before one of them.
    """
    if not len(wanted):
        return []
    # A frame shown before a keyframe but stored after it starts before a run that begins at the keyframe.
    starts = np.minimum.accumulate(table.starts_of(wanted)[::-1])[::-1]
    firsts = np.flatnonzero(np.append(True, starts[1:] > wanted[:-1] + 1))
    return [Run(int(starts[i]), part) for i, part in zip(firsts, np.split(wanted, firsts[1:]), strict=True)]


@dataclass(frozen=True)
class DecodedPacket:
    """The pictures that the decoder outputs for one packet, or why it could not be decoded.

    Args:
        packet: its index in the table.
    """

    packet: int
    pictures: list[av.VideoFrame] = field(default_factory=list)
    error: Exception | None = None


class RunDecoder:
    """Decodes runs of an open file, in decoding order.

    Args:
        step: called before each packet is read.
    """

    def __init__(self, file: VideoFile, table: PacketTable, *, step: Callable[[], None] | None = None) -> None:
        self._file, self._table, self._step = file, table, step
        self._demuxed: Iterator[av.Packet[VideoStream]] | None = None
        self._next = 0  # index of the packet that `_demuxed` yields next

    def pictures(self, run: Run, *, spared: NDArray[np.int64]) -> Iterator[tuple[int, av.VideoFrame]]:
        """Yield the pictures of a run with their positions, in order.

        Args:
            spared: packets that are decoded even if no other frame depends on them.
        Raises:
            UnpredictableFileError: the pictures differ from what the packets predict, or have errors.
            READING_ERRORS: a packet cannot be decoded.
        """
        before = -1
        for decoded in self.decode(run, spared=spared):
            if decoded.error is not None:
                raise decoded.error
            for picture in decoded.pictures:
                position = self.position_of(picture)
                if picture.is_corrupt or position <= before:
                    raise UnpredictableFileError("a frame is damaged or out of order")
                before = position
                yield position, picture

    def position_of(self, picture: av.VideoFrame) -> int:
        """Return the position of a picture, -1 if it has no time.

        Raises:
            UnpredictableFileError: no packet announced the picture.
        """
        # The two fields of an interlaced frame can be two packets, which are only recognised in H.264.
        if picture.interlaced_frame and self._file.header.codec != "h264":
            raise UnpredictableFileError("a frame is interlaced")
        return -1 if picture.pts is None else self._table.position_of(picture.pts)

    def decode(self, run: Run, *, spared: NDArray[np.int64] | None) -> Iterator[DecodedPacket]:
        """Yield the result of each packet of a run, and what the decoder outputs after the last one.

        Args:
            spared: packets that are decoded even if no other frame depends on them; None: all.
        Raises:
            UnpredictableFileError: the packets are not those of the table, or cannot be read.
            MemoryError: there is not enough memory to read them.
        """
        context = self._file.stream.codec_context
        can_skip = spared is not None and self._file.header.codec in _SKIPPING_CODECS
        kept = set() if spared is None else set(spared.tolist())
        for i, packet in self._packets(run):
            # With one thread, this applies to exactly this packet.
            context.skip_frame = "NONREF" if can_skip and i not in kept else "DEFAULT"
            yield self._decoded(i, packet)
        yield self._decoded(int(run.wanted[-1]), None)

    def _decoded(self, i: int, packet: av.Packet[VideoStream] | None) -> DecodedPacket:
        try:
            return DecodedPacket(i, list(self._file.stream.codec_context.decode(packet)))
        except READING_ERRORS as e:
            return DecodedPacket(i, error=e)

    def _packets(self, run: Run) -> Iterator[tuple[int, av.Packet[VideoStream]]]:
        """Yield the packets of a run with their indices in the table."""
        table = self._table
        if self._demuxed is not None and 0 <= run.start - self._next <= _NEAR:
            self._file.stream.codec_context.flush_buffers()
        else:
            self._seek(run.start)
        while True:
            packet = self._read()
            i = self._next
            if i == len(table.pts) or packet.pts != table.pts[i] or packet.size != table.sizes[i]:
                raise UnpredictableFileError("seeking leads to unknown packets")
            self._next += 1
            if i >= run.start:
                yield i, packet
            if i == run.wanted[-1]:
                return

    def _seek(self, start: int) -> None:
        """Continue at a packet or an earlier one, to which seeking may lead."""
        table = self._table
        try:
            self._file.container.seek(int(table.dts[start]), stream=self._file.stream)
        except MemoryError:
            raise
        except READING_ERRORS as e:
            raise UnpredictableFileError(reason(e)) from e
        self._demuxed = demux(self._file)
        first = self._read()
        is_match = (table.pts == first.pts) & (table.sizes == first.size)
        self._next = next(iter(np.flatnonzero(is_match).tolist()), len(table.pts))
        if self._next > start:  # for example in Matroska with negative times
            raise UnpredictableFileError("seeking leads past the requested position")
        self._demuxed = itertools.chain([first], self._demuxed)

    def _read(self) -> av.Packet[VideoStream]:
        if self._step is not None:
            self._step()
        assert self._demuxed is not None
        try:
            packet = next(self._demuxed, None)
        except MemoryError:
            raise
        except READING_ERRORS as e:
            raise UnpredictableFileError(reason(e)) from e
        if packet is None:
            raise UnpredictableFileError("the file ends before its last packet")
        return packet
