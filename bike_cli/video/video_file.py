"""A video file, opened: its picture stream, and what its header says before anything is decoded."""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, cast

import av
import numpy as np
from av.container import InputContainer
from av.stream import Disposition
from av.video.stream import VideoStream
from numpy.typing import NDArray

from bike_cli.errors import VideoError
from bike_cli.records import Source
from bike_cli.video.footage import reason
from bike_cli.video.orientation import DisplayMatrix, display_matrix, orientation_from

THREADS = 1  # per video: many videos are decoded side by side, and two threads gain 10 % on a short clip

# PyAV 18 refuses metadata that is not UTF-8 unless asked not to; PyAV 19 always reads it so, and has no such argument.
_METADATA: dict[str, Any] = {"metadata_errors": "surrogateescape"} if int(av.__version__.split(".")[0]) < 19 else {}

_NO_VIDEOS = frozenset({"tty", "hls", "concat"})  # text that FFmpeg draws, or that points to other files


@dataclass(frozen=True)
class Header:
    """What a file says of its picture: `frames` is 0 and `duration_s` None where it says nothing."""

    container: str
    codec: str
    pixels: str
    frames: int
    duration_s: float | None

    def promises_more(self, n_packets: int, end_s: float) -> bool:
        """Return whether frames are missing at the end of the file.

        A count alone proves nothing: frames outside an edit list are counted, but those do not lengthen the video.
        """
        if self.frames <= n_packets or self.duration_s is None or not n_packets:
            return False
        return self.duration_s - end_s > 1.5 * self.duration_s / self.frames


@dataclass(frozen=True)
class VideoFile:
    """An open file and the stream that a player shows."""

    container: InputContainer
    stream: VideoStream
    header: Header


@contextmanager
def open_file(path: Path) -> Iterator[InputContainer]:
    """Open a file with FFmpeg; close it afterwards.

    Raises:
        av.error.FFmpegError: it is no video.
    """
    # Absolute, so that no name is read as a protocol or an option; and nothing but this file is opened.
    options = {"protocol_whitelist": "file"}
    with av.open(os.fspath(path.absolute()), options=options, **_METADATA) as container:
        if container.format.name in _NO_VIDEOS:
            raise av.error.InvalidDataError(0, f"it is {container.format.long_name}")
        yield container


@contextmanager
def open_video(source: Source) -> Iterator[VideoFile]:
    """Open a file that has a picture; close it afterwards.

    Raises:
        VideoError: kind `unreadable`, `not_video`, `no_picture`, or `damaged` for an MP4 without its index.
    """
    first_bytes = _first_bytes(source)
    with ExitStack() as stack:
        try:
            container = stack.enter_context(open_file(source.path))
        except MemoryError:  # PyAV's is an FFmpegError too
            raise
        except (av.error.FFmpegError, ValueError) as e:  # ValueError: a codec or a format that PyAV has no name for
            raise _not_opened(source, first_bytes, e) from e
        yield _with_picture(source, container)


def _with_picture(source: Source, container: InputContainer) -> VideoFile:
    stream = picture_stream(container)
    if stream is None:
        raise VideoError(f"{source.id}: has no video stream; give a file with a picture", kind="no_picture")
    if cast(object, stream.codec_context) is None:  # its type says it never is
        raise VideoError(f"{source.id}: FFmpeg has no decoder for its picture; convert it", kind="not_video")
    stream.codec_context.thread_count = THREADS
    return VideoFile(container, stream, _header(container, stream))


def _first_bytes(source: Source) -> bytes:
    try:
        with source.path.open("rb") as file:
            first_bytes = file.read(12)
    except OSError as e:
        raise VideoError(f"{source.id}: cannot be read ({reason(e)}); check its rights", kind="unreadable") from e
    if not first_bytes:
        raise VideoError(f"{source.id}: is empty (0 bytes); copy it again", kind="not_video")
    return first_bytes


def _not_opened(source: Source, first_bytes: bytes, error: Exception) -> VideoError:
    if first_bytes[4:8] == b"ftyp":
        message = (
            f"{source.id}: begins like an MP4 but its index is missing or broken; it may be cut off, copy it again"
        )
        return VideoError(message, kind="damaged")
    message = f"{source.id}: is no video that FFmpeg knows ({reason(error)}); give a video or convert it"
    return VideoError(message, kind="not_video")


def _header(container: InputContainer, stream: VideoStream) -> Header:
    duration_s = None if container.duration is None else container.duration / av.time_base
    if stream.duration is not None and stream.time_base:  # PyAV 18: None where there is none; PyAV 19: 0
        duration_s = float(stream.duration * stream.time_base)
    context = stream.codec_context
    codec = context.codec.canonical_name
    return Header(container.format.name, codec, context.pix_fmt or "", stream.frames, duration_s)


def picture_stream(container: InputContainer) -> VideoStream | None:
    """Return the stream a player shows: of several, FFmpeg's best, as decord takes; never a cover picture."""
    stream = container.streams.best("video")
    if not isinstance(stream, VideoStream) or stream.disposition & Disposition.attached_pic:
        return None
    return stream


class Album:
    """The pixels of a clip while they are being read, all shown at the size of the first picture put in."""

    def __init__(self) -> None:
        self._pixels: dict[int, NDArray[np.uint8]] = {}
        self._matrix: DisplayMatrix | None = None

    def put(self, place: int, picture: av.VideoFrame) -> None:
        """Convert a picture, turn it the way it is shown and keep it under its place in the video."""
        if place in self._pixels:
            return
        # What a stream says inside, it may say once and mean of all that follows (ISO/IEC 14496-10, D.2.27).
        self._matrix = display_matrix(picture) or self._matrix
        orientation = orientation_from(self._matrix)
        size = (picture.height, picture.width)
        if self._pixels:
            height, width, _ = next(iter(self._pixels.values())).shape
            size = (width, height) if orientation.swaps_axes else (height, width)
        rgb = picture.reformat(size[1], size[0], format="rgb24").to_ndarray()
        self._pixels[place] = orientation.apply(cast("NDArray[np.uint8]", rgb))

    def frames(self, places: NDArray[np.int64]) -> NDArray[np.uint8] | None:
        """Return the pictures put at [K, T] places, as uint8 [K, T, H, W, 3]; None where one is missing."""
        if not self._pixels.keys() >= set(places.ravel().tolist()):
            return None
        frames = np.empty((*places.shape, *next(iter(self._pixels.values())).shape), np.uint8)
        for place, pixels in self._pixels.items():
            frames[places == place] = pixels
        return frames
