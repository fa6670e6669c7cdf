"""Read frames with decord 0.6.0, for files that decord reads correctly."""

from __future__ import annotations

import importlib.util
import os
from pathlib import Path

import av
import numpy as np
from numpy.typing import NDArray

from bike_cli.errors import UsageError
from bike_cli.records import Timeline
from bike_cli.video.containers.formats import PATTERN_CHARACTERS
from bike_cli.video.containers.packet_content import StartPoint
from bike_cli.video.readers.footage import Footage, Request
from bike_cli.video.readers.nearest import fewer, nearest, without_repeats
from bike_cli.video.readers.orientation import decord_orientation, display_matrix, orientation_from
from bike_cli.video.readers.packets import PacketList, UnforeseenError, table_of
from bike_cli.video.readers.video_file import THREADS, Header, VideoFile, picture_streams

# decord brings an old FFmpeg, which knows no whitelist of formats. It is given nothing that this might take for a
# playlist, or for a pattern that names other files.
_MARKS = {  # container -> where its mark stands, and the marks that it may have
    "mov": (4, (b"ftyp", b"moov", b"mdat", b"wide", b"free", b"skip", b"pnot", b"styp", b"sidx", b"uuid")),
    "matroska": (0, (b"\x1a\x45\xdf\xa3",)),
    "avi": (0, (b"RIFF",)),
    "flv": (0, (b"FLV\x01",)),
    "asf": (0, (b"\x30\x26\xb2\x75",)),
    "ogg": (0, (b"OggS",)),
    "gif": (0, (b"GIF8",)),
    "mpegts": (0, (b"\x47",)),
    "mpeg": (0, (b"\0\0\1\xba",)),
    **dict.fromkeys(("h264", "hevc", "mpegvideo", "m4v"), (0, (b"\0\0\1", b"\0\0\0\1"))),
}
_REFERENCES = (b"<MPD", b"\nc=IN IP")  # a DASH manifest, a session description: found after other bytes, too
_PROBED_BYTES = 2**20  # at most, by FFmpeg
# fmt: off
_NOT_IMAGES = frozenset({  # no name that ends so is a pattern to FFmpeg
    ".mp4", ".m4v", ".mov", ".mkv", ".webm", ".avi", ".mpg", ".mpeg", ".m2v", ".ts", ".mts", ".wmv", ".asf", ".flv",
    ".3gp", ".ogv", ".vob", ".gif",
})
# fmt: on

_ERRORS = (RuntimeError, AssertionError, IndexError, ValueError)  # decord's own checks; a name that is no UTF-8


class GaveUpError(Exception):
    """decord cannot read this file, or not exactly; PyAV may."""


def check_decord_is_installed() -> None:
    """Raise UsageError where decord is not installed; decord itself is not imported."""
    if importlib.util.find_spec("decord") is None:
        raise UsageError(
            "decoder decord: is not installed, it has no wheels for this platform; leave out --decoder, "
            "the default reads the same files"
        )


def decord_is_exact(file: VideoFile, packets: PacketList) -> bool:
    """Return whether decord 0.6.0 reads such a file frame by frame as PyAV does.

    Elsewhere it seeks to the wrong frame and says nothing: MPEG-TS, MPEG-PS, HEVC, AVI with B-frames (tests show it),
    and keyframes that do not cut all ties, as in open GOPs and with periodic intra refresh. It converts other pixels
    than 8-bit 4:2:0 of even size differently, by 3 of 255 in the mean for 10 bit.
    """
    header, context = file.header, file.stream.codec_context
    return (
        ("mp4" in header.container or "matroska" in header.container)
        and header.codec in {"h264", "vp8", "vp9"}
        and header.pixels in {"yuv420p", "yuvj420p"}
        and context.width % 2 == context.height % 2 == 0
        and not (packets.is_keyframe & (packets.starts < StartPoint.NEEDS_PARAMETERS)).any()
    )


def read_decord(path: Path, request: Request, *, file: VideoFile, packets: PacketList | None = None) -> Footage:
    """Read with decord; the caller has imported torch already or never will.

    `file` is the same file, opened with PyAV, which decodes its first picture to find out how it is to be shown.

    decord loaded before torch in one process crashes it (dmlc/decord#293), hence the import in here.

    decord counts packets, hidden frames included. With the file's packets it is asked for the frames that are shown;
    without, its count is trusted.

    Raises:
        GaveUpError: decord might open other files, fails, repeats frames, shows the picture the wrong way up, or its
            count or clock shows that it misreads the file.
    """
    if len(picture_streams(file.container)) > 1:  # decord makes a choice of its own
        raise GaveUpError
    _check_content(path, file.header)
    _check_orientation(file)
    import decord

    decord.logging.set_level(decord.logging.QUIET)
    try:
        # Any repeated frame is one too many: without a limit, decord fills what it cannot decode with copies.
        reader = decord.VideoReader(os.fspath(path.absolute()), num_threads=THREADS, fault_tol=1e-9)
        spans_s = reader.get_frame_timestamp(list(range(len(reader)))).astype(np.float64)  # [packets, 2]
        _check(len(reader), file.header.frames, starts_s=spans_s[:, 0])
        keys = np.sort(np.array(reader.get_key_indices(), np.int64))
        shown = np.arange(len(reader)) if packets is None else _shown(packets, len(reader))
        spans_s, n_frames = spans_s[shown], len(shown)
        first_shown = np.searchsorted(shown, keys)  # the positions of the keyframes
        asked = positions = request.positions(n_frames)  # [K, T]
        if request.config.sampling == "keyframe":
            positions = without_repeats(nearest(asked, first_shown), asked)
        # decord seeks to a keyframe by its packet and counts from there the frames that come out.
        group = np.searchsorted(first_shown, positions, side="right") - 1
        indices = keys[group] + positions - first_shown[group]
        pixels = reader.get_batch(indices.ravel().tolist()).asnumpy()
        _check_size(file, pixels)
    except (decord.DECORDError, decord.DECORDLimitReachedError, *_ERRORS) as e:
        raise GaveUpError from e
    starts_s = spans_s[:, 0] - spans_s[0, 0]
    return Footage(
        frames=pixels.reshape(*positions.shape, *pixels.shape[1:]),
        timeline=Timeline(starts_s[positions], positions, duration_s=float(spans_s[-1, 1] - spans_s[0, 0])),
        n_frames=n_frames,
        notes=fewer(positions, asked, config=request.config),
        details=["read with decord"],
        ends_at_s=float(spans_s[-1, 1]),
    )


def _check_content(path: Path, header: Header) -> None:
    at, marks = _MARKS.get(header.container.split(",")[0], (0, ()))
    try:
        with path.open("rb") as opened:
            content = opened.read(_PROBED_BYTES)
    except OSError as e:
        raise GaveUpError from e
    is_pattern = bool(PATTERN_CHARACTERS & set(os.fspath(path.absolute()))) and path.suffix.lower() not in _NOT_IMAGES
    if not content[at:].startswith(marks) or is_pattern or any(reference in content for reference in _REFERENCES):
        raise GaveUpError


def _shown(packets: PacketList, n_counted: int) -> NDArray[np.int64]:
    """Return which of the packets that decord counts show a frame, in the order of their times."""
    try:
        table = table_of(packets)
    except UnforeseenError as e:
        raise GaveUpError from e
    # decord loses count where it seeks to a keyframe that is not shown.
    if n_counted != len(packets) or (packets.is_keyframe & (packets.frames == 0)).any():
        raise GaveUpError
    if (packets.pts < 0).any():  # decord's clock begins at 0, but it seeks on that of the file
        raise GaveUpError
    order = np.argsort(packets.pts, kind="stable")
    return np.flatnonzero(np.isin(order, table.shown))


def _check_orientation(file: VideoFile) -> None:
    try:
        picture = next(iter(file.container.decode(file.stream)), None)
    except (av.error.FFmpegError, ValueError) as e:
        raise GaveUpError from e
    matrix = None if picture is None else display_matrix(picture)
    if orientation_from(matrix) != decord_orientation(matrix):
        raise GaveUpError


def _check_size(file: VideoFile, pixels: NDArray[np.uint8]) -> None:
    context = file.stream.codec_context
    if sorted(pixels.shape[1:3]) != sorted((context.height, context.width)):  # a turn by 90 degrees swaps the axes
        raise GaveUpError  # another stream, such as a cover


def _check(n_frames: int, header_frames: int, *, starts_s: NDArray[np.float64]) -> None:
    # A file cut off holds fewer frames than its header says. Times before 0 are frames outside an edit list, which
    # decord counts and then cannot decode.
    if header_frames not in (0, n_frames) or starts_s[0] < 0 or not (np.diff(starts_s) > 0).all():
        raise GaveUpError
