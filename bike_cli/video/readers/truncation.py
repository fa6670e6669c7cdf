"""Whether a file was cut off, although what is left of it decodes without an error."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path

import av

from bike_cli.records import Source
from bike_cli.video.readers.footage import Footage
from bike_cli.video.readers.video_file import VideoFile, open_video

AVFMT_TS_DISCONT = 0x0200  # libavformat: clocks of this format may jump


def clock_may_jump(file: VideoFile) -> bool:
    """Return whether the format allows jumps of its clock, as MPEG-TS and MPEG-PS do."""
    return bool(file.container.format.flags & AVFMT_TS_DISCONT)


def early_end(source: Source, footage: Footage, *, header_s: float | None) -> list[str]:
    """Return the note that the picture ends long before the file should, if it does.

    A duration can count from 0 or from the first frame, and that of the container is the longest stream's. So the
    video must end early by either count, and all other streams with it.

    Args:
        header_s: duration that the file states.
    """
    ends_s, ends_at_s = footage.timeline.duration_s, footage.ends_at_s
    if header_s is None or ends_s is None or ends_at_s is None:
        return []
    missing_s, margin_s = header_s - max(ends_s, ends_at_s), max(1.0, 0.1 * ends_s)
    if missing_s < margin_s:
        return []
    with open_video(source) as file:
        if not _is_short(source.path, file, ends_at_s=ends_at_s, stated_s=header_s - margin_s):
            return []
    return [f"the picture ends at {ends_s:.1f} s of {ends_s + missing_s:.1f} s: the file may be cut off"]


def _is_short(path: Path, file: VideoFile, *, ends_at_s: float, stated_s: float) -> bool:
    """Return whether the rest of the file is missing, too."""
    if clock_may_jump(file):  # FFmpeg has guessed the duration from the same clock
        return False
    containers = file.header.container.split(",")
    if "matroska" in containers and file.stream.duration:  # PyAV 18: None without one; PyAV 19: 0
        return False  # it states no duration, as live recordings do, and FFmpeg has guessed one from the bit rate
    if "mov" in containers:
        # The header of a fragmented file states the length of the whole presentation, of which this may be one part.
        is_fragmented = not file.stream.frames
        return _last_box_is_cut(path) if is_fragmented else True
    return bool(file.stream.duration) or _last_end_s(file, from_s=ends_at_s) < stated_s


def _last_end_s(file: VideoFile, *, from_s: float) -> float:
    """Return when the last packet of any stream ends."""
    last_s = 0.0
    with suppress(av.error.FFmpegError, ValueError):  # a file that cannot seek is read from its beginning
        file.container.seek(int(from_s * av.time_base))
    with suppress(av.error.FFmpegError, ValueError, IndexError):  # IndexError: a stream that appeared after opening
        for packet in file.container.demux():
            if packet.pts is not None and packet.time_base:
                last_s = max(last_s, float((packet.pts + (packet.duration or 0)) * packet.time_base))
    return last_s


def _last_box_is_cut(path: Path) -> bool:
    """Return whether the last box of an MP4 says that it is longer than the rest of the file."""
    size = path.stat().st_size
    return any(end > size for end in _box_ends(path, size))


def _box_ends(path: Path, size: int) -> Iterator[int]:
    at = 0
    with path.open("rb") as file:
        while at < size:
            file.seek(at)
            head = file.read(16)
            length = int.from_bytes(head[:4], "big")
            if length == 1:
                length = int.from_bytes(head[8:16], "big")
            if length < 8:  # 0: to the end of the file
                return
            at += length
            yield at
