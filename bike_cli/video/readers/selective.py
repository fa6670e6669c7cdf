"""Read the requested frames with PyAV, decoding little else.

First, all packets are read without decoding, which shows which frames exist. Then, for each requested frame, decoding
starts at the last possible packet and stops after the frame; in between, frames that no other frame depends on are
skipped. On 10 s clips in H.264 this takes about three quarters of decord's CPU time for the same pixels
(`python -m benchmarks.decode`), and in a film of two hours at most one group of pictures per requested frame.

The output is compared with the prediction: each requested frame must appear once, intact and in order. Otherwise the
caller decodes the whole file (see `sequential`).
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import av
import numpy as np
from av.video.stream import VideoStream
from numpy.typing import NDArray

from bike_cli.config import SamplingConfig
from bike_cli.records import FrameTimes
from bike_cli.video.readers.footage import Footage, Request
from bike_cli.video.readers.nearby_frames import nearest, shortage_notes, without_repeats
from bike_cli.video.readers.packets import PacketTable, UnpredictableFileError, demux, list_packets, table_of
from bike_cli.video.readers.video_file import FrameBuffer, Header, VideoFile

# Tests compare each pair with a full decode, frame by frame. AVI and MPEG-TS are deliberately missing: their packets
# lack times, or start in the middle of a group of pictures.
_CONTAINERS = frozenset({"mov", "matroska"})
_CODECS = frozenset({"h264", "hevc", "av1", "mpeg4", "mpeg2video", "vp8", "vp9", "mjpeg"})
# Not HEVC: a frame marked as "not a reference" may still be one for a higher temporal layer.
_SKIPPING_CODECS = frozenset({"h264", "mpeg4", "mpeg2video", "vp8"})


def reads_selectively(header: Header) -> bool:
    """Return whether files of this container and codec are known to decode as their packets predict."""
    return bool(_CONTAINERS & set(header.container.split(","))) and header.codec in _CODECS


def read_selected(file: VideoFile, request: Request) -> Footage:
    """Read the requested frames from a file that was just opened.

    Raises:
        UnpredictableFileError: the frames differ from what the packets predict; a full decode may still find them.
        av.error.FFmpegError: it cannot be read or decoded.
    """
    table = table_of(list_packets(file))
    # Without decoding B-frames, wrong times would go unnoticed. In MPEG-4, packets say which of them are B-frames.
    may_reorder = bool(file.stream.codec_context.has_b_frames) and file.header.codec != "mpeg4"
    if may_reorder and (np.diff(table.pts) > 0).all():
        raise UnpredictableFileError("timestamps may be in decoding order")
    time_base = file.stream.time_base
    if not time_base:  # an unknown time base is None in PyAV 18, zero in PyAV 19
        raise UnpredictableFileError("the stream has no time base")
    first = int(table.shown_pts[0])
    duration_s = float((table.end() - first) * time_base)
    ends_at_s = float(table.end() * time_base)
    if file.header.promises_more(len(table.pts), max(duration_s, ends_at_s)):
        raise UnpredictableFileError("frames are missing at the end")
    asked = request.positions(len(table.shown))  # [K, T]
    positions, frames = _read(file, table, asked, config=request.config)
    times_s = np.float64(time_base) * (table.shown_pts[positions] - first)
    return Footage(
        frames=frames,
        timeline=FrameTimes(times_s, positions, duration_s),
        n_frames=len(table.shown),
        notes=shortage_notes(positions, asked, config=request.config),
        details=["read with PyAV, selective"],
        ends_at_s=ends_at_s,
    )


def _read(
    file: VideoFile, table: PacketTable, asked: NDArray[np.int64], *, config: SamplingConfig
) -> tuple[NDArray[np.int64], NDArray[np.uint8]]:
    """Return the positions read, [K, T], and their frames."""
    buffer = FrameBuffer()
    if config.sampling == "keyframe":
        positions = _keyframes_near(table, asked)
        runs = [Run(int(packet), np.array([packet])) for packet in np.unique(table.shown[positions])]
    else:
        runs = _runs(table, np.unique(table.shown[asked]))
        positions = asked
    if config.draft:
        # The decoder opens with its first packet; later, the option would have no effect.
        file.stream.codec_context.options = {"skip_loop_filter": "all"}
    if config.draft and config.sampling == "uniform":
        positions = _read_draft(file, table, runs, asked=asked, buffer=buffer)
    else:
        for run in runs:
            _read_run(file, table, run, buffer)
    frames = buffer.frames(positions)
    if frames is None:
        raise UnpredictableFileError("the decoder did not output a requested frame")
    return positions, frames


def _keyframes_near(table: PacketTable, asked: NDArray[np.int64]) -> NDArray[np.int64]:
    keys = np.flatnonzero(table.is_key[table.shown])
    if not len(keys):
        raise UnpredictableFileError("no packet is a keyframe")
    return without_repeats(nearest(asked, keys), asked)


# -- decoding ----------------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Run:
    """Packets that are decoded one after another: from `start` to the last wanted one. `wanted` is sorted."""

    start: int
    wanted: NDArray[np.int64]


def _runs(table: PacketTable, wanted: NDArray[np.int64]) -> list[Run]:
    """Return the runs to decode for these packets, in decoding order; packets between two runs are skipped."""
    runs: list[Run] = []
    for packet in wanted.tolist():
        run = Run(table.start_of(packet), np.array([packet]))
        # A frame shown before a keyframe but stored after it starts before a run that begins at the keyframe.
        while runs and run.start <= runs[-1].wanted[-1] + 1:
            before = runs.pop()
            run = Run(min(before.start, run.start), np.append(before.wanted, run.wanted))
        runs.append(run)
    return runs


def _read_run(file: VideoFile, table: PacketTable, run: Run, buffer: FrameBuffer) -> None:
    wanted = {table.position_of(pts) for pts in table.pts[run.wanted].tolist()}
    for position, picture in _pictures(file, table, run, spared=run.wanted):
        if position in wanted:
            buffer.put(position, picture)


def _read_draft(
    file: VideoFile, table: PacketTable, runs: Sequence[Run], *, asked: NDArray[np.int64], buffer: FrameBuffer
) -> NDArray[np.int64]:
    """Put the decoded pictures nearest to the wanted ones into the buffer; return their positions, [K, T]."""
    read: list[int] = []
    # Pictures beyond these are outside the edit list, so none could replace them.
    ends = table.shown[[0, -1]]
    for run in runs:
        waiting = sorted(table.position_of(pts) for pts in table.pts[run.wanted].tolist())
        before: tuple[int, av.VideoFrame] | None = None
        for current in _pictures(file, table, run, spared=ends):
            while waiting and waiting[0] <= current[0]:
                position, chosen = _nearer(waiting.pop(0), before or current, current)
                buffer.put(position, chosen)
                read.append(position)
            before = current
        if waiting and before is not None:
            buffer.put(*before)
            read.append(before[0])
    if not read:
        raise UnpredictableFileError("the decoder output no frame")
    return without_repeats(nearest(asked, np.unique(read)), asked)


def _nearer(
    wanted: int, before: tuple[int, av.VideoFrame], after: tuple[int, av.VideoFrame]
) -> tuple[int, av.VideoFrame]:
    return before if abs(wanted - before[0]) <= after[0] - wanted else after


def _pictures(
    file: VideoFile, table: PacketTable, run: Run, *, spared: NDArray[np.int64]
) -> Iterator[tuple[int, av.VideoFrame]]:
    """Yield the pictures of a run with their positions, in order; skip unreferenced ones except in `spared` packets."""
    context = file.stream.codec_context
    can_skip, kept = file.header.codec in _SKIPPING_CODECS, set(spared.tolist())
    before = -1
    for i, packet in _packets(file, table, run):
        # With one thread, this applies to exactly this packet.
        context.skip_frame = "NONREF" if can_skip and i not in kept else "DEFAULT"
        is_last = i == run.wanted[-1]
        for picture in [*context.decode(packet), *(context.decode(None) if is_last else [])]:
            position = -1 if picture.pts is None else table.position_of(picture.pts)
            # The two fields of an interlaced frame can be two packets, which are only recognised in H.264.
            is_doubtful = picture.interlaced_frame and file.header.codec != "h264"
            if picture.is_corrupt or is_doubtful or position <= before:
                raise UnpredictableFileError("a frame is damaged, interlaced or out of order")
            before = position
            yield position, picture


def _packets(file: VideoFile, table: PacketTable, run: Run) -> Iterator[tuple[int, av.Packet[VideoStream]]]:
    """Yield the packets of a run with their indices in the table. Seeking may lead to an earlier packet."""
    file.container.seek(int(table.dts[run.start]), stream=file.stream)
    i: int | None = None
    for packet in demux(file):
        if i is None:
            is_match = (table.pts == packet.pts) & (table.sizes == packet.size)
            i = next(iter(np.flatnonzero(is_match).tolist()), len(table.pts))
            if i > run.start:  # for example in Matroska with negative times
                raise UnpredictableFileError("seeking leads past the requested position")
        if i == len(table.pts) or packet.pts != table.pts[i] or packet.size != table.sizes[i]:
            raise UnpredictableFileError("seeking leads to unknown packets")
        if i >= run.start:
            yield i, packet
        if i == run.wanted[-1]:
            return
        i += 1
    raise UnpredictableFileError("the file ends before its last packet")
