"""Reads the frames asked for with PyAV and decodes little else.

The packets, read once without decoding, tell which frames there are. Then, for each frame asked for, decoding starts
at the last place where it can and stops behind that frame; in between, frames on which no other depends are dropped
before they are decoded. On ordinary 10 s H.264 clips this takes about three quarters of decord's CPU time for the
same pixels (`python -m benchmarks.decode`), and a film of two hours costs as many groups of pictures as frames are
asked for.

What comes out is compared with what was foreseen: each frame asked for must come, once, whole, in order. Where one
does not, the caller reads the whole file (`sequential_reader`).
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import av
import numpy as np
from av.video.stream import VideoStream
from numpy.typing import NDArray

from bike_cli.config import SamplingConfig
from bike_cli.records import Timeline
from bike_cli.video.readers.footage import Footage, Request
from bike_cli.video.readers.nearest import fewer, nearest, without_repeats
from bike_cli.video.readers.packets import PacketTable, UnforeseenError, demux, list_packets, table_of
from bike_cli.video.readers.video_file import Album, Header, VideoFile

# Tests compare each pair with a full decode, frame by frame. Missing on purpose: AVI and MPEG-TS, whose packets lack
# times or begin in mid-group.
_CONTAINERS = frozenset({"mov", "matroska"})
_CODECS = frozenset({"h264", "hevc", "av1", "mpeg4", "mpeg2video", "vp8", "vp9", "mjpeg"})
# Not HEVC: a frame that says it is no reference may still be one to a higher temporal layer.
_DROPS_SAFELY = frozenset({"h264", "mpeg4", "mpeg2video", "vp8"})


def reads_selectively(header: Header) -> bool:
    """Return whether such files are known to decode as their packets foretell."""
    return bool(_CONTAINERS & set(header.container.split(","))) and header.codec in _CODECS


def read_selected(file: VideoFile, request: Request) -> Footage:
    """Read what is asked for, from a file just opened.

    Raises:
        UnforeseenError: the file is not as its packets say; some or all frames may still be there.
        av.error.FFmpegError: it cannot be read or decoded.
    """
    table = table_of(list_packets(file))
    # Readings that decode no B-frame cannot notice that its time is wrong. MPEG-4 says which packets hold B-frames.
    may_reorder = bool(file.stream.codec_context.has_b_frames) and file.header.codec != "mpeg4"
    if may_reorder and (np.diff(table.pts) > 0).all():
        raise UnforeseenError("times may be those of decoding, not of presentation")
    time_base = file.stream.time_base
    if not time_base:  # PyAV 18 returns None where there is none, PyAV 19 zero
        raise UnforeseenError("the stream has no time base")
    first = int(table.shown_pts[0])
    duration_s = float((table.end() - first) * time_base)
    ends_at_s = float(table.end() * time_base)
    if file.header.promises_more(len(table.pts), max(duration_s, ends_at_s)):
        raise UnforeseenError("frames are missing at the end")
    asked = request.positions(len(table.shown))  # [K, T]
    positions, frames = _read(file, table, asked, config=request.config)
    times_s = np.float64(time_base) * (table.shown_pts[positions] - first)
    return Footage(
        frames=frames,
        timeline=Timeline(times_s, positions, duration_s),
        n_frames=len(table.shown),
        notes=fewer(positions, asked, config=request.config),
        details=["read with PyAV, selective"],
        ends_at_s=ends_at_s,
    )


def _read(
    file: VideoFile, table: PacketTable, asked: NDArray[np.int64], *, config: SamplingConfig
) -> tuple[NDArray[np.int64], NDArray[np.uint8]]:
    """Return the positions read, [K, T], and their frames."""
    album = Album()
    if config.sampling == "keyframe":
        positions = _keyframes_near(table, asked)
        runs = [Run(int(packet), np.array([packet])) for packet in np.unique(table.shown[positions])]
    else:
        runs = _runs(table, np.unique(table.shown[asked]))
        positions = asked
    if config.draft:
        # The context opens at its first packet; later the option would not count.
        file.stream.codec_context.options = {"skip_loop_filter": "all"}
    if config.draft and config.sampling == "uniform":
        positions = _read_draft(file, table, runs, asked=asked, album=album)
    else:
        for run in runs:
            _read_run(file, table, run, album)
    frames = album.frames(positions)
    if frames is None:
        raise UnforeseenError("a frame asked for did not come out of the decoder")
    return positions, frames


def _keyframes_near(table: PacketTable, asked: NDArray[np.int64]) -> NDArray[np.int64]:
    keys = np.flatnonzero(table.is_key[table.shown])
    if not len(keys):
        raise UnforeseenError("no packet is a keyframe")
    return without_repeats(nearest(asked, keys), asked)


# -- decoding ----------------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Run:
    """Packets that are decoded one after another: from `start` to the last of those wanted, which are sorted."""

    start: int
    wanted: NDArray[np.int64]


def _runs(table: PacketTable, wanted: NDArray[np.int64]) -> list[Run]:
    """Return what to decode for these packets, in decoding order; what lies between two runs is left out."""
    runs: list[Run] = []
    for packet in wanted.tolist():
        run = Run(table.start_of(packet), np.array([packet]))
        # A frame that is shown before a keyframe and stored behind it reaches back over a run that began there.
        while runs and run.start <= runs[-1].wanted[-1] + 1:
            before = runs.pop()
            run = Run(min(before.start, run.start), np.append(before.wanted, run.wanted))
        runs.append(run)
    return runs


def _read_run(file: VideoFile, table: PacketTable, run: Run, album: Album) -> None:
    wanted = {table.position_of(pts) for pts in table.pts[run.wanted].tolist()}
    for position, picture in _pictures(file, table, run, spared=run.wanted):
        if position in wanted:
            album.put(position, picture)


def _read_draft(
    file: VideoFile, table: PacketTable, runs: Sequence[Run], *, asked: NDArray[np.int64], album: Album
) -> NDArray[np.int64]:
    """Put the decoded pictures nearest to those wanted into the album; return their positions, [K, T]."""
    read: list[int] = []
    # What these could be replaced with lies outside the edit list.
    ends = table.shown[[0, -1]]
    for run in runs:
        waiting = sorted(table.position_of(pts) for pts in table.pts[run.wanted].tolist())
        before: tuple[int, av.VideoFrame] | None = None
        for here in _pictures(file, table, run, spared=ends):
            while waiting and waiting[0] <= here[0]:
                position, chosen = _nearer(waiting.pop(0), before or here, here)
                album.put(position, chosen)
                read.append(position)
            before = here
        if waiting and before is not None:
            album.put(*before)
            read.append(before[0])
    if not read:
        raise UnforeseenError("no frame came out of the decoder")
    return without_repeats(nearest(asked, np.unique(read)), asked)


def _nearer(
    wanted: int, before: tuple[int, av.VideoFrame], after: tuple[int, av.VideoFrame]
) -> tuple[int, av.VideoFrame]:
    return before if abs(wanted - before[0]) <= after[0] - wanted else after


def _pictures(
    file: VideoFile, table: PacketTable, run: Run, *, spared: NDArray[np.int64]
) -> Iterator[tuple[int, av.VideoFrame]]:
    """Yield a run's pictures with their positions, in order; those no other depends on only of the packets `spared`."""
    context = file.stream.codec_context
    drops, kept = file.header.codec in _DROPS_SAFELY, set(spared.tolist())
    before = -1
    for i, packet in _packets(file, table, run):
        # One thread, so this is what the decoder heeds for this very packet.
        context.skip_frame = "NONREF" if drops and i not in kept else "DEFAULT"
        is_last = i == run.wanted[-1]
        for picture in [*context.decode(packet), *(context.decode(None) if is_last else [])]:
            position = -1 if picture.pts is None else table.position_of(picture.pts)
            # An interlaced frame can be two packets, one a field; only of H.264 are fields told from frames before.
            is_doubtful = picture.interlaced_frame and file.header.codec != "h264"
            if picture.is_corrupt or is_doubtful or position <= before:
                raise UnforeseenError("a frame is damaged, interlaced or out of order")
            before = position
            yield position, picture


def _packets(file: VideoFile, table: PacketTable, run: Run) -> Iterator[tuple[int, av.Packet[VideoStream]]]:
    """Yield a run's packets with their places in the table; how exact a seek is depends on the container."""
    file.container.seek(int(table.dts[run.start]), stream=file.stream)
    i: int | None = None
    for packet in demux(file):
        if i is None:
            is_here = (table.pts == packet.pts) & (table.sizes == packet.size)
            i = next(iter(np.flatnonzero(is_here).tolist()), len(table.pts))
            if i > run.start:  # such as in Matroska that begins below 0
                raise UnforeseenError("seeking leads behind the place asked for")
        if i == len(table.pts) or packet.pts != table.pts[i] or packet.size != table.sizes[i]:
            raise UnforeseenError("seeking leads to packets that were not there before")
        if i >= run.start:
            yield i, packet
        if i == run.wanted[-1]:
            return
        i += 1
    raise UnforeseenError("the file ends before its last packet")
