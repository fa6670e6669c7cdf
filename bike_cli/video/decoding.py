"""One source becomes one clip: its frames at exact positions, with their times.

Three readers share one form, `(path, positions_of) -> Footage`:

    decord        fast, and exact on the files that `_decord_is_exact` lets through
    PyAV          all other files, and whatever decord gives up on; slower, as it decodes a file twice
    frame folder  Pillow (torchvision brings it), one image a frame

A frame's position is its place in presentation order among the frames a player shows: frames outside an edit list do
not count. Its time is counted from the first such frame. Rotation in the metadata is applied, pixels are not resized,
an alpha channel is dropped without blending, as FFmpeg's conversion to RGB does.

What is not found out: bits that changed inside a stream which still decodes. decord hides them as FFmpeg's error
concealment does; PyAV's reader sees FFmpeg's flag on such frames and refuses the file.
"""

from __future__ import annotations

import os
import stat
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import cast

import av
import numpy as np
from av.container import InputContainer
from av.stream import Disposition
from av.video.stream import VideoStream
from numpy.typing import NDArray

from bike_cli.config import SamplingConfig
from bike_cli.errors import VideoError
from bike_cli.records import Clip, Source
from bike_cli.video.footage import Footage, PositionsOf, reason
from bike_cli.video.frame_folders import read_folder
from bike_cli.video.sampling import sample_positions

THREADS = 1  # per video: many videos are decoded side by side, and two threads gain 10 % on a short clip


@dataclass(frozen=True)
class _Header:
    """What a file says of its picture: `frames` is 0 and `duration_s` None where it says nothing."""

    container: str
    codec: str
    pixels: str
    frames: int
    duration_s: float | None


class _GaveUpError(Exception):
    """decord cannot read this file, or not exactly; PyAV may."""


def decode(
    source: Source, config: SamplingConfig, *, decoder: str = "auto", rng: np.random.Generator | None = None
) -> Clip:
    """Return the frames of `source` that `config` asks for.

    Args:
        config: `crops` is not used here; the encoder cuts them.
        rng: training jitter; None reads the same frames each time.
    Raises:
        VideoError: kind `missing`, `unreadable`, `not_video`, `no_picture` or `damaged`; see there.
    """

    def positions_of(n_frames: int) -> NDArray[np.int64]:
        return sample_positions(n_frames, config.frames, clips=config.clips, rng=rng)

    if _is_folder(source):
        return _clip(source, read_folder(source.path, positions_of))
    header = _read_header(source)
    return _clip(source, _read_video(source, header, positions_of), header_s=header.duration_s)


def clip_from_array(frames: NDArray[np.uint8], config: SamplingConfig, *, name: str) -> Clip:
    """Return the clip of a video that is in memory already; it has no clock.

    Args:
        frames: uint8 [T, H, W, 3], RGB, every frame of the video.
        name: what records and messages call it.
    Raises:
        ValueError: another shape or type of number, or no frame.
    """
    if frames.ndim != 4 or frames.shape[-1] != 3 or 0 in frames.shape or frames.dtype != np.uint8:
        raise ValueError(
            f"{name}: frames are {frames.dtype} {list(frames.shape)}; give uint8 [T, H, W, 3] with at least one frame"
        )
    positions = sample_positions(len(frames), config.frames, clips=config.clips)
    times_s = np.full(positions.shape, np.nan)
    return _clip(Source.at(name), Footage(frames[positions], positions, times_s, len(frames), None))


def _clip(source: Source, footage: Footage, *, header_s: float | None = None) -> Clip:
    notes = [*_repeats(footage), *_early_end(footage, header_s)]
    return Clip(
        source,
        frames=footage.frames,
        times_s=footage.times_s,
        duration_s=footage.duration_s,
        warning="; ".join(notes) or None,
        positions=footage.positions,
    )


def _repeats(footage: Footage) -> list[str]:
    n_frames, asked = footage.n_frames, footage.frames.shape[1]
    if n_frames >= asked:
        return []
    noun = "frame" if n_frames == 1 else "frames"
    return [f"{n_frames} {noun} in the video, {asked} asked for: some are read more than once"]


def _early_end(footage: Footage, header_s: float | None) -> list[str]:
    # A cut-off Matroska file decodes without an error; its header still knows how long it was.
    ends_s = footage.duration_s
    if header_s is None or ends_s is None or header_s - ends_s < max(1.0, 0.1 * header_s):
        return []
    return [f"the picture ends at {ends_s:.1f} s of {header_s:.1f} s: the file may be cut off"]


# -- the file ----------------------------------------------------------------------------------------------------


def _is_folder(source: Source) -> bool:
    """Return whether the source is a folder; raise VideoError where it is neither a folder nor an ordinary file."""
    try:
        mode = source.path.stat().st_mode
    except (FileNotFoundError, NotADirectoryError) as e:
        raise VideoError(f"{source.id}: no such file; check the path", kind="missing") from e
    except (OSError, ValueError) as e:  # ValueError: a NUL in the name
        raise VideoError(
            f"{source.id}: cannot be read ({reason(e)}); check its name and rights", kind="unreadable"
        ) from e
    if not stat.S_ISDIR(mode) and not stat.S_ISREG(mode):
        raise VideoError(f"{source.id}: is a device or a pipe; save it to a file first", kind="unreadable")
    return stat.S_ISDIR(mode)


def _read_header(source: Source) -> _Header:
    # PyAV looks first: decord prints what it cannot open, and opens text as ANSI art.
    first_bytes = _first_bytes(source)
    try:
        with _open(source.path) as container:
            stream = _picture_stream(container)
            if stream is None:
                raise VideoError(f"{source.id}: has no video stream; give a file with a picture", kind="no_picture")
            if cast(object, stream.codec_context) is None:  # its type says it never is
                message = f"{source.id}: FFmpeg has no decoder for its picture; convert it"
                raise VideoError(message, kind="not_video")
            return _header(container, stream)
    except av.error.FFmpegError as e:
        raise _not_opened(source, first_bytes, e) from e


def _first_bytes(source: Source) -> bytes:
    try:
        with source.path.open("rb") as file:
            first_bytes = file.read(12)
    except OSError as e:
        raise VideoError(f"{source.id}: cannot be read ({reason(e)}); check its rights", kind="unreadable") from e
    if not first_bytes:
        raise VideoError(f"{source.id}: is empty (0 bytes); copy it again", kind="not_video")
    return first_bytes


def _not_opened(source: Source, first_bytes: bytes, error: av.error.FFmpegError) -> VideoError:
    if first_bytes[4:8] == b"ftyp":
        message = (
            f"{source.id}: begins like an MP4 but its index is missing or broken; it may be cut off, copy it again"
        )
        return VideoError(message, kind="damaged")
    message = f"{source.id}: is no video that FFmpeg knows ({reason(error)}); give a video or convert it"
    return VideoError(message, kind="not_video")


def _header(container: InputContainer, stream: VideoStream) -> _Header:
    duration_s = None if container.duration is None else container.duration / av.time_base
    if stream.duration is not None and stream.time_base is not None:
        duration_s = float(stream.duration * stream.time_base)
    context = stream.codec_context
    codec = context.codec.canonical_name
    return _Header(container.format.name, codec, context.pix_fmt or "", stream.frames, duration_s)


def _read_video(source: Source, header: _Header, positions_of: PositionsOf) -> Footage:
    if _decord_is_exact(header):
        try:
            return _read_decord(source.path, positions_of, header_frames=header.frames)
        except _GaveUpError:
            pass  # PyAV has the last word: it reads the file or says what is wrong with it
    try:
        return _read_av(source.path, positions_of)
    except av.error.FFmpegError as e:
        raise _damaged(source, reason(e)) from e
    except _DamagedError as e:
        raise _damaged(source, str(e)) from e
    except _NoPictureError as e:
        raise VideoError(f"{source.id}: holds no frame; give a file with a picture", kind="no_picture") from e


def _damaged(source: Source, fact: str) -> VideoError:
    return VideoError(f"{source.id}: decoding stops inside ({fact}); repair or replace the file", kind="damaged")


# -- decord ------------------------------------------------------------------------------------------------------


def _decord_is_exact(header: _Header) -> bool:
    """Return whether decord 0.6.0 reads such files frame by frame as PyAV does.

    Elsewhere it seeks to the wrong frame and says nothing: MPEG-TS, MPEG-PS, HEVC, AVI with B-frames (tests show it),
    or converts other pixels than 8-bit 4:2:0 differently, by 3 of 255 in the mean for 10 bit.
    """
    return (
        ("mp4" in header.container or "matroska" in header.container)
        and header.codec in {"h264", "vp8", "vp9"}
        and header.pixels in {"yuv420p", "yuvj420p"}
    )


def _read_decord(path: Path, positions_of: PositionsOf, *, header_frames: int) -> Footage:
    """Read with decord; the caller has imported torch already or never will.

    decord loaded before torch in one process crashes it (dmlc/decord#293), hence the import in here.

    Raises:
        _GaveUpError: decord fails, repeats frames, or its count or clock shows that it misreads the file.
    """
    import decord

    decord.logging.set_level(decord.logging.QUIET)
    try:
        # Any repeated frame is one too many: without a limit, decord fills what it cannot decode with copies.
        reader = decord.VideoReader(os.fspath(path.absolute()), num_threads=THREADS, fault_tol=1e-9)
        n_frames = len(reader)
        spans_s = reader.get_frame_timestamp(list(range(n_frames))).astype(np.float64)  # [n_frames, 2]
        _check_decord(n_frames, header_frames, starts_s=spans_s[:, 0])
        positions = positions_of(n_frames)  # [K, T]
        pixels = reader.get_batch(positions.ravel().tolist()).asnumpy()
    except (decord.DECORDError, decord.DECORDLimitReachedError, RuntimeError, AssertionError, UnicodeEncodeError) as e:
        raise _GaveUpError from e
    starts_s = spans_s[:, 0] - spans_s[0, 0]
    frames = pixels.reshape(*positions.shape, *pixels.shape[1:])
    return Footage(frames, positions, starts_s[positions], n_frames, float(spans_s[-1, 1] - spans_s[0, 0]))


def _check_decord(n_frames: int, header_frames: int, *, starts_s: NDArray[np.float64]) -> None:
    # A file cut off holds fewer frames than its header says. Times before 0 are frames outside an edit list, which
    # decord counts and then cannot decode.
    if header_frames not in (0, n_frames) or starts_s[0] < 0 or not (np.diff(starts_s) > 0).all():
        raise _GaveUpError


# -- PyAV --------------------------------------------------------------------------------------------------------

_NO_VIDEOS = frozenset({"tty", "hls", "concat"})  # text that FFmpeg draws, or that points to other files


class _DamagedError(Exception):
    """Decoding stopped inside, for the reason given."""


class _NoPictureError(Exception):
    """There is a video stream without a frame."""


@contextmanager
def _open(path: Path) -> Iterator[InputContainer]:
    # Absolute, so that no name is read as a protocol or an option; and nothing but this file is opened.
    options = {"protocol_whitelist": "file"}
    with av.open(os.fspath(path.absolute()), options=options, metadata_errors="replace") as container:
        if container.format.name in _NO_VIDEOS:
            raise av.error.InvalidDataError(0, f"it is {container.format.long_name}")
        yield container


def _picture_stream(container: InputContainer) -> VideoStream | None:
    """Return the stream a player shows: of several, FFmpeg's best, as decord takes; never a cover picture."""
    stream = container.streams.best("video")
    if not isinstance(stream, VideoStream) or stream.disposition & Disposition.attached_pic:
        return None
    return stream


def _pictures(path: Path) -> Iterator[av.VideoFrame]:
    with _open(path) as container:
        stream = _picture_stream(container)
        if stream is None:
            raise _NoPictureError
        stream.codec_context.thread_count = THREADS
        for i, picture in enumerate(container.decode(stream)):
            if picture.is_corrupt:
                raise _DamagedError(f"frame {i + 1} is partly guessed")
            yield picture


def _read_av(path: Path, positions_of: PositionsOf) -> Footage:
    """Read with PyAV, twice: once to count, for no header can be believed, and once to keep the frames wanted.

    Raises:
        av.error.FFmpegError, _DamagedError: decoding stops inside.
        _NoPictureError: there is no frame.
    """
    starts_s, end_s = _times(path)
    positions = positions_of(len(starts_s))  # [K, T]
    wanted, places = np.unique(positions, return_inverse=True)
    frames = np.stack(list(_pixels_at(path, wanted)))[places.reshape(positions.shape)]  # [K, T, H, W, 3]
    duration_s = float(end_s - starts_s[0])
    return Footage(
        frames=frames,
        positions=positions,
        times_s=starts_s[positions] - starts_s[0],
        n_frames=len(starts_s),
        duration_s=None if np.isnan(duration_s) else duration_s,
    )


def _times(path: Path) -> tuple[NDArray[np.float64], float]:
    """Return when each frame starts and when the last one ends, in seconds; NaN for a stream without timestamps."""
    spans_s = np.array([_span_s(picture) for picture in _pictures(path)], dtype=np.float64)
    if not len(spans_s):
        raise _NoPictureError
    start_s, length_s = spans_s[-1]
    if not length_s and len(spans_s) > 1:
        length_s = start_s - spans_s[-2, 0]
    return spans_s[:, 0], start_s + length_s


def _span_s(picture: av.VideoFrame) -> tuple[float, float]:
    if picture.pts is None or picture.time_base is None:
        return np.nan, np.nan
    return float(picture.pts * picture.time_base), float((picture.duration or 0) * picture.time_base)


def _pixels_at(path: Path, positions: NDArray[np.int64]) -> Iterator[NDArray[np.uint8]]:
    """Yield uint8 [H, W, 3] at each of the sorted positions, all of the size of the first."""
    pictures = enumerate(_pictures(path))
    size: tuple[int, int] | None = None
    for position in positions:
        picture = next(p for i, p in pictures if i == position)
        size = size or (picture.width, picture.height)
        rgb = picture.reformat(*size, format="rgb24").to_ndarray()
        yield np.ascontiguousarray(np.rot90(rgb, round(picture.rotation / 90)))
