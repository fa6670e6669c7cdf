"""Detect files that were cut off although the rest of them decodes without an error."""

from __future__ import annotations

from contextlib import suppress
from pathlib import Path

import av

from bike_cli.records import Source
from bike_cli.video.containers.mp4_tracks import last_box_is_cut
from bike_cli.video.readers.video_file import VideoFile, open_video

_AVFMT_TS_DISCONT = 0x0200  # libavformat: timestamps of this format may jump


def timestamps_may_jump(file: VideoFile) -> bool:
    """Return whether timestamps of the format may jump, as in MPEG-TS and MPEG-PS."""
    return bool(file.container.format.flags & _AVFMT_TS_DISCONT)


def truncation_notes(
    source: Source, *, ends_s: float | None, ends_at_s: float | None, header_s: float | None
) -> list[str]:
    """Return a note if the picture ends long before the duration in the header.

    A duration can count from 0 or from the first frame, and the container's is that of its longest stream. So the video
    must end early by either count, and all other streams as well.

    Args:
        ends_s: end of the last frame, from the first one.
        ends_at_s: the same on the file's own clock; None if it is unknown or was corrected.
        header_s: duration in the header.
    """
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
    """Return whether the other streams end early as well."""
    if timestamps_may_jump(file):  # FFmpeg estimated the duration from the same timestamps
        return False
    containers = file.header.container.split(",")
    if "matroska" in containers and file.stream.duration:  # PyAV 18: None without one; PyAV 19: 0
        return False  # like a live recording, it has no duration, and FFmpeg estimated one from the bit rate
    if "mov" in containers:
        # The header of a fragmented file has the duration of the whole presentation; this may be one part of it.
        is_fragmented = not file.stream.frames
        return last_box_is_cut(path) if is_fragmented else True
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
