"""Open video files: choose the video stream, and read the header."""

from __future__ import annotations

import codecs
import os
from collections.abc import Iterator, Sequence
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
from bike_cli.video.containers.encryption import is_encrypted
from bike_cli.video.containers.formats import FORMATS, NamelessFile, must_hide_name
from bike_cli.video.containers.mp4_tracks import Mp4Track, read_tracks
from bike_cli.video.readers.footage import reason
from bike_cli.video.readers.orientation import DisplayMatrix, Orientation, display_matrix, orientation_from

THREADS = 1  # per video: many videos are decoded in parallel, and a second thread gains only 10 % on a short clip

# PyAV 18 rejects metadata that is not UTF-8 without this argument, which PyAV 19 does not have.
_METADATA: dict[str, Any] = {"metadata_errors": "surrogateescape"} if int(av.__version__.split(".")[0]) < 19 else {}

_WHITELIST = ",".join(sorted(FORMATS))
_HEAD_BYTES = 64
# fmt: off
# FFmpeg finds these streams anywhere in a file, so one may follow the text of a playlist.
_FOUND_ANYWHERE = frozenset({
    "apv", "av1", "avs2", "avs3", "cavsvideo", "dirac", "dnxhd", "evc", "h261", "h263", "h264", "hevc", "m4v", "mjpeg",
    "mjpeg_2000", "mpeg", "mpegts", "mpegvideo", "obu", "vc1", "vvc",
})
# fmt: on
_NOT_SHOWN = Disposition.attached_pic | Disposition.timed_thumbnails | Disposition.dependent
_DEFAULT_PIXELS = 5_000_000  # weight that ffmpeg gives the default disposition when it chooses a stream


@dataclass(frozen=True)
class Header:
    """Metadata of the video stream: `frames` is 0 and `duration_s` None if missing."""

    container: str
    codec: str
    pixels: str
    frames: int
    duration_s: float | None

    def promises_more(self, n_packets: int, end_s: float) -> bool:
        """Return whether frames are missing at the end of a file with its last frame ending at `end_s`.

        `end_s` counts from 0 or from the first frame, whichever is later: an edit list can delay the first frame.
        The frame count alone proves nothing: it includes frames outside an edit list, but the duration does not.
        """
        if self.frames <= n_packets or self.duration_s is None or not n_packets:
            return False
        return self.duration_s - end_s > 1.5 * self.duration_s / self.frames


@dataclass(frozen=True)
class VideoFile:
    """An open file and the video stream that a player shows; `details` are for the log of `-v`."""

    container: InputContainer
    stream: VideoStream
    header: Header
    details: tuple[str, ...] = ()


@contextmanager
def open_video(source: Source) -> Iterator[VideoFile]:
    """Open a file that has a video stream; close it afterwards.

    Raises:
        VideoError: kind `unreadable`, also for an encrypted file, `not_video`, `no_picture`, or `damaged` for an MP4
            without its index.
    """
    first_bytes = _first_bytes(source)
    with ExitStack() as stack:
        try:
            container = _opened(source.path, first_bytes, stack)
        except MemoryError:  # PyAV's is also an FFmpegError
            raise
        except (av.error.FFmpegError, ValueError) as e:  # ValueError: PyAV does not know the codec or format
            raise _not_opened(source, first_bytes, e) from e
        except OSError as e:
            raise _unreadable(source, e) from e
        if container.format.name in _FOUND_ANYWHERE and _is_text(first_bytes[:7]):
            raise _text_file(source)
        yield _with_picture(source, container, first_bytes)


def _opened(path: Path, first_bytes: bytes, stack: ExitStack) -> InputContainer:
    """Open a file with FFmpeg, which cannot open other files from here, until the stack is closed."""
    options = {"format_whitelist": _WHITELIST, "protocol_whitelist": "file"}
    file: str | NamelessFile = os.fspath(path.absolute())  # absolute, so that no name looks like a protocol
    if must_hide_name(path, first_bytes):
        file = stack.enter_context(NamelessFile(path))
        options |= {"format_whitelist": f"{_WHITELIST},mlv", "protocol_whitelist": "none"}
    container: InputContainer = stack.enter_context(av.open(file, "r", options=options, **_METADATA))
    return container


def _with_picture(source: Source, container: InputContainer, first_bytes: bytes) -> VideoFile:
    tracks = read_tracks(source.path) if "mov" in container.format.name else []
    streams = picture_streams(container, tracks)
    if not streams:
        raise _without_picture(source, container)
    stream, *others = streams
    if is_encrypted(source.path, container.format.name, stream, tracks):
        raise _encrypted(source)
    if cast(object, stream.codec_context) is None:  # despite its type
        raise VideoError(f"{source.id}: FFmpeg has no decoder for its codec; convert it", kind="not_video")
    if container.format.name == "webp_pipe" and _is_animated_webp(first_bytes):
        message = (
            f"{source.id}: is an animated WebP, which this version of FFmpeg cannot decode; convert it, for example "
            """with python -c "from PIL import Image; Image.open('in.webp').save('out.gif', save_all=True)\""""
        )
        raise VideoError(message, kind="not_video")
    stream.codec_context.thread_count = THREADS
    details: tuple[str, ...] = ()
    if others:
        rest = ", ".join(_described(other) for other in others)
        details = (f"reads video stream {_described(stream)}; the file also has {rest}",)
    return VideoFile(container, stream, _header(container, stream), details)


def _without_picture(source: Source, container: InputContainer) -> VideoError:
    if any(stream.disposition & Disposition.dependent for stream in container.streams.video):
        message = f"{source.id}: is a tiled image, which bike does not support; convert it to JPEG or PNG"
        return VideoError(message, kind="not_video")
    return VideoError(f"{source.id}: has no video stream; give a file with a picture", kind="no_picture")


def _described(stream: VideoStream) -> str:
    context = stream.codec_context
    if cast(object, context) is None:
        return f"{stream.index} (no decoder)"
    return f"{stream.index} ({context.codec.canonical_name} {context.width}x{context.height})"


def _first_bytes(source: Source) -> bytes:
    try:
        with source.path.open("rb") as file:
            first_bytes = file.read(_HEAD_BYTES)
    except OSError as e:
        raise _unreadable(source, e) from e
    if not first_bytes:
        raise VideoError(f"{source.id}: is empty (0 bytes); copy it again", kind="not_video")
    return first_bytes


def _unreadable(source: Source, error: OSError) -> VideoError:
    return VideoError(f"{source.id}: cannot be read ({reason(error)}); check its permissions", kind="unreadable")


def _is_text(content: bytes) -> bool:
    text = content.removeprefix(codecs.BOM_UTF8).decode("ascii", errors="replace")
    return all(character.isprintable() or character.isspace() for character in text) and "\ufffd" not in text


def _is_animated_webp(first_bytes: bytes) -> bool:
    is_extended = first_bytes[:4] == b"RIFF" and first_bytes[8:16] == b"WEBPVP8X"
    return is_extended and len(first_bytes) > 20 and bool(first_bytes[20] & 2)


def _not_opened(source: Source, first_bytes: bytes, error: Exception) -> VideoError:
    if not isinstance(error, av.error.FFmpegError):
        message = f"{source.id}: uses features that this version of FFmpeg cannot decode ({error}); convert it"
        return VideoError(message, kind="not_video")
    if first_bytes[4:8] == b"ftyp":
        if any(track.is_encrypted for track in read_tracks(source.path)):
            return _encrypted(source)
        message = f"{source.id}: is an MP4 with a missing or broken index; it may be cut off, copy it again"
        return VideoError(message, kind="damaged")
    if _is_text(first_bytes):
        return _text_file(source)
    message = f"{source.id}: is not a video that FFmpeg can read ({reason(error)}); give a video or convert it"
    return VideoError(message, kind="not_video")


def _text_file(source: Source) -> VideoError:
    message = f"{source.id}: is not a video but text, such as a playlist or a script; give the video itself"
    return VideoError(message, kind="not_video")


def _encrypted(source: Source) -> VideoError:
    message = f"{source.id}: is encrypted; give a copy without encryption (DRM)"
    return VideoError(message, kind="unreadable")


def _header(container: InputContainer, stream: VideoStream) -> Header:
    duration_s = None if container.duration is None else container.duration / av.time_base
    if stream.duration is not None and stream.time_base:  # an unknown one is None in PyAV 18, zero in PyAV 19
        duration_s = float(stream.duration * stream.time_base)
    context = stream.codec_context
    codec = context.codec.canonical_name
    return Header(container.format.name, codec, context.pix_fmt or "", stream.frames, duration_s)


def picture_streams(container: InputContainer, tracks: Sequence[Mp4Track] = ()) -> list[VideoStream]:
    """Return the video streams, the one that ffmpeg would show first; without cover pictures, alpha and depth.

    Args:
        tracks: the tracks of an MP4 or QuickTime file.
    """
    auxiliary = {track.id for track in tracks if track.is_auxiliary}
    streams = [s for s in container.streams.video if not s.disposition & _NOT_SHOWN]
    pictures = [stream for stream in streams if stream.id not in auxiliary]
    return sorted(pictures or streams, key=_rank, reverse=True)  # stable


def _rank(stream: VideoStream) -> tuple[bool, int, int, int]:
    context = stream.codec_context
    if cast(object, context) is None:
        return (False, 0, 0, 0)
    weight = _DEFAULT_PIXELS if stream.disposition & Disposition.default else 0
    return (True, context.width * context.height + weight, stream.frames, context.bit_rate or 0)


class FrameConverter:
    """Converts the pictures of one video to RGB as they are shown, all in the size of the first one.

    Args:
        short_side: pixels that a longer short side is shrunk to, by FFmpeg; None: nothing is shrunk.
    """

    def __init__(self, short_side: int | None = None) -> None:
        self._short_side = short_side
        self._matrix: DisplayMatrix | None = None
        self._size: tuple[int, int] | None = None  # height and width as shown, after shrinking

    def adopt(self, picture: av.VideoFrame) -> None:
        """Take the size and the display matrix of the first picture, without converting it."""
        self._orientation_of(picture)

    def convert(self, picture: av.VideoFrame) -> NDArray[np.uint8]:
        """Return the pixels of a picture, rotated: uint8 [H, W, 3], a view of memory that only PyAV writes to."""
        orientation = self._orientation_of(picture)
        assert self._size is not None
        height, width = self._size[::-1] if orientation.swaps_axes else self._size
        # By default, FFmpeg starts a thread per core for each picture: that costs more than it saves, and may exceed
        # limits. The interpolation is that of ffmpeg; it matters for chroma in 4:2:2, more than 8 bits and odd sizes.
        rgb = picture.reformat(width, height, format="rgb24", interpolation="BICUBIC", threads=THREADS)
        return orientation.apply(_pixels_of(rgb))

    def _orientation_of(self, picture: av.VideoFrame) -> Orientation:
        # A matrix inside the stream may appear once and apply to all later pictures (ISO/IEC 14496-10, D.2.27).
        self._matrix = display_matrix(picture) or self._matrix
        orientation = orientation_from(self._matrix)
        if self._size is None:
            height, width = shrunk(picture.height, picture.width, self._short_side)
            self._size = (width, height) if orientation.swaps_axes else (height, width)
        return orientation


def shrunk(height: int, width: int, short_side: int | None) -> tuple[int, int]:
    """Return a height and a width in the same proportion, of which the smaller one is at most `short_side`."""
    short = min(height, width)
    if short_side is None or short <= short_side:
        return height, width
    return short_side * height // short, short_side * width // short


def _pixels_of(rgb: av.VideoFrame) -> NDArray[np.uint8]:
    """Return the pixels of a picture in rgb24, uint8 [H, W, 3], without copying them."""
    (plane,) = rgb.planes
    if plane.line_size < 3 * rgb.width or plane.buffer_size < plane.line_size * rgb.height:  # stored bottom-up
        return cast("NDArray[np.uint8]", rgb.to_ndarray())
    return np.ndarray((rgb.height, rgb.width, 3), np.uint8, buffer=memoryview(plane), strides=(plane.line_size, 3, 1))


class FrameBuffer:
    """Collects the frames of a clip, scaled to the size of the first one."""

    def __init__(self) -> None:
        self._pixels: dict[int, NDArray[np.uint8]] = {}
        self._converter = FrameConverter()

    def put(self, position: int, picture: av.VideoFrame) -> None:
        """Convert a picture to RGB, rotate it, and store it under its position in the video."""
        if position not in self._pixels:
            self._pixels[position] = self._converter.convert(picture)

    def frames(self, positions: NDArray[np.int64]) -> NDArray[np.uint8] | None:
        """Return the frames at [K, T] positions as uint8 [K, T, H, W, 3]; None if one is missing."""
        if not self._pixels.keys() >= set(positions.ravel().tolist()):
            return None
        frames = np.empty((*positions.shape, *next(iter(self._pixels.values())).shape), np.uint8)
        for position, pixels in self._pixels.items():
            frames[positions == position] = pixels
        return frames
