"""Small pictures of the frames that a video shows at some times."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from typing import cast

import numpy as np
from av.video.frame import VideoFrame
from av.video.stream import VideoStream
from numpy.typing import NDArray

from bike_cli.records import Source
from bike_cli.video.clips.spans import (
    LEAD_S,
    Report,
    Span,
    decode_pictures,
    find_entry,
    no_report,
    open_at,
    packets_from,
    span_of,
)
from bike_cli.video.readers.orientation import display_matrix, orientation_from
from bike_cli.video.readers.video_file import THREADS
from bike_cli.video.thumbnails import as_jpeg


def stills_at(
    source: Source, times_s: Sequence[float], *, side_px: int, report: Report = no_report
) -> list[bytes | None]:
    """Return the frames that are shown at some times as JPEGs whose longer side is at most `side_px`.

    The file is decoded from the keyframe before each time, and in one go for times that share a keyframe. A damaged
    video can crash or hang a decoder: call this in a process that can be killed, such as `MediaWorker`.

    Args:
        times_s: in seconds from the first frame, in any order.
        report: is called while work goes on.
    Returns:
        A JPEG for each time; None where no frame can be read, and for all times of a folder of frames.
    Raises:
        VideoError: the file cannot be read.
    """
    found: list[bytes | None] = [None] * len(times_s)
    if source.path.is_dir():
        return found
    start = span_of(source, 0.0, 0.0)
    places = sorted(range(len(times_s)), key=lambda place: times_s[place])
    left = [replace(start, start_s=times_s[place]) for place in places]
    while left:
        run = _read_run(source, left, side_px, report)
        for place, still in zip(places[-len(left) :], run, strict=False):
            found[place] = still
        left = left[len(run) :]
    return found


def _read_run(source: Source, moments: Sequence[Span], side_px: int, report: Report) -> list[bytes | None]:
    """Return the stills of the first moment, and of those that follow without another keyframe in between.

    Args:
        moments: the starts count; ascending, at least one.
    """
    found: list[bytes | None] = []
    shown: VideoFrame | None = None
    entry = find_entry(source, moments[0], report=report)
    key = None if entry is None else entry.key
    with open_at(source, key, back_s=LEAD_S) as file:
        for picture in decode_pictures(file, packets_from(file, [file.stream], key, report)):
            while _is_after(picture, moments[len(found)], file.stream):
                found.append(_small_jpeg(shown or picture, side_px))
                if len(found) == len(moments) or _is_far(source, picture, moments[len(found)], report):
                    return found
            shown = picture
    last = None if shown is None else _small_jpeg(shown, side_px)
    return found + [last] * (len(moments) - len(found))


def _is_after(picture: VideoFrame, moment: Span, stream: VideoStream) -> bool:
    return picture.pts is not None and picture.pts > moment.last_start(stream)


def _is_far(source: Source, picture: VideoFrame, moment: Span, report: Report) -> bool:
    """Return whether decoding from a keyframe reaches a moment sooner than decoding on."""
    entry = find_entry(source, moment, report=report)
    return entry is not None and picture.pts is not None and entry.key > picture.pts


def _small_jpeg(picture: VideoFrame, side_px: int) -> bytes:
    scale = min(1.0, side_px / max(picture.width, picture.height))
    width, height = max(1, round(picture.width * scale)), max(1, round(picture.height * scale))
    rgb = picture.reformat(width, height, format="rgb24", interpolation="BICUBIC", threads=THREADS).to_ndarray()
    upright = orientation_from(display_matrix(picture)).apply(cast("NDArray[np.uint8]", rgb))
    return as_jpeg(upright, side_px=side_px)
