"""Read the requested frames with PyAV, decoding little else.

First, all packets are read without decoding, which shows which frames exist. Then, for each requested frame, decoding
starts at the last possible packet and stops after the frame; in between, frames that no other frame depends on are
skipped. On 10 s clips in H.264 this takes about three quarters of decord's CPU time for the same pixels
(`python -m benchmarks.decode`), and in a film of two hours at most one group of pictures per requested frame.

The output is compared with the prediction: each requested frame must appear once, intact and in order. Otherwise the
caller decodes the whole file (see `sequential`).
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import av
import numpy as np
from numpy.typing import NDArray

from bike_cli.config import SamplingConfig
from bike_cli.records import FrameTimes
from bike_cli.video.readers.footage import Footage, Request
from bike_cli.video.readers.nearby_frames import nearer_picture, nearest, shortage_notes, without_repeats
from bike_cli.video.readers.packets import PacketTable, UnpredictableFileError, list_packets, table_of
from bike_cli.video.readers.runs import Run, RunDecoder, runs_of
from bike_cli.video.readers.video_file import FrameBuffer, Header, VideoFile

# Tests compare each pair with a full decode, frame by frame. AVI and MPEG-TS are deliberately missing: their packets
# lack times, or start in the middle of a group of pictures.
_CONTAINERS = frozenset({"mov", "matroska"})
_CODECS = frozenset({"h264", "hevc", "av1", "mpeg4", "mpeg2video", "vp8", "vp9", "mjpeg"})


def reads_selectively(header: Header) -> bool:
    """Return whether files of this container and codec are known to decode as their packets predict."""
    return bool(_CONTAINERS & set(header.container.split(","))) and header.codec in _CODECS


def read_selected(file: VideoFile, request: Request) -> Footage:
    """Read the requested frames from a file that was just opened.

    Raises:
        UnpredictableFileError: the frames differ from what the packets predict; a full decode may still find them.
        av.error.FFmpegError: it cannot be read or decoded.
    """
    prediction = predict_frames(file)
    table = prediction.table
    asked = request.positions(len(table.shown))  # [K, T]
    positions, frames = _read(file, table, asked, config=request.config)
    return Footage(
        frames=frames,
        timeline=FrameTimes(prediction.starts_s[positions], positions, prediction.duration_s),
        n_frames=len(table.shown),
        notes=shortage_notes(positions, asked, config=request.config),
        details=["read with PyAV, selective"],
        ends_at_s=prediction.ends_at_s,
    )


@dataclass(frozen=True)
class PredictedFrames:
    """The M frames that a file shows, as its packets predict.

    Args:
        starts_s: float64 [M], when each frame is shown, from 0.
        duration_s: end of the last frame.
        ends_at_s: the same on the file's own clock.
    """

    table: PacketTable
    starts_s: NDArray[np.float64]
    duration_s: float
    ends_at_s: float


def predict_frames(file: VideoFile, *, step: Callable[[], None] | None = None) -> PredictedFrames:
    """Read the packets of a file that was just opened, without decoding; return which frames it shows, and when.

    Args:
        step: called before each packet is read.
    Raises:
        UnpredictableFileError: the packets do not say so, or frames are missing at the end.
    """
    table = table_of(list_packets(file, step=step))
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
    return PredictedFrames(table, np.float64(time_base) * (table.shown_pts - first), duration_s, ends_at_s)


def _read(
    file: VideoFile, table: PacketTable, asked: NDArray[np.int64], *, config: SamplingConfig
) -> tuple[NDArray[np.int64], NDArray[np.uint8]]:
    """Return the positions read, [K, T], and their frames."""
    buffer = FrameBuffer()
    if config.sampling == "keyframe":
        positions = _keyframes_near(table, asked)
        runs = [Run(int(packet), np.array([packet])) for packet in np.unique(table.shown[positions])]
    else:
        runs = runs_of(table, np.unique(table.shown[asked]))
        positions = asked
    decoder = RunDecoder(file, table)
    if config.draft:
        # The decoder opens with its first packet; later, the option would have no effect.
        file.stream.codec_context.options = {"skip_loop_filter": "all"}
    if config.draft and config.sampling == "uniform":
        positions = _read_draft(decoder, table, runs, asked=asked, buffer=buffer)
    else:
        for run in runs:
            _read_run(decoder, table, run, buffer)
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


def _read_run(decoder: RunDecoder, table: PacketTable, run: Run, buffer: FrameBuffer) -> None:
    wanted = {table.position_of(pts) for pts in table.pts[run.wanted].tolist()}
    for position, picture in decoder.pictures(run, spared=run.wanted):
        if position in wanted:
            buffer.put(position, picture)


def _read_draft(
    decoder: RunDecoder, table: PacketTable, runs: Sequence[Run], *, asked: NDArray[np.int64], buffer: FrameBuffer
) -> NDArray[np.int64]:
    """Put the decoded pictures nearest to the wanted ones into the buffer; return their positions, [K, T]."""
    read: list[int] = []
    # Pictures beyond these are outside the edit list, so none could replace them.
    ends = table.shown[[0, -1]]
    for run in runs:
        waiting = sorted(table.position_of(pts) for pts in table.pts[run.wanted].tolist())
        before: tuple[int, av.VideoFrame] | None = None
        for current in decoder.pictures(run, spared=ends):
            while waiting and waiting[0] <= current[0]:
                position, chosen = nearer_picture(waiting.pop(0), before or current, current)
                buffer.put(position, chosen)
                read.append(position)
            before = current
        if waiting and before is not None:
            buffer.put(*before)
            read.append(before[0])
    if not read:
        raise UnpredictableFileError("the decoder output no frame")
    return without_repeats(nearest(asked, np.unique(read)), asked)
