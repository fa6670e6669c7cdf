"""Read frames with decord 0.6.0, from files that it reads correctly."""

from __future__ import annotations

import importlib.util
import os
from pathlib import Path

import av
import numpy as np
from numpy.typing import NDArray

from bike_cli.errors import UsageError
from bike_cli.records import FrameTimes
from bike_cli.video.containers.formats import PATTERN_CHARACTERS
from bike_cli.video.containers.packet_content import StartPoint
from bike_cli.video.readers.footage import Footage, Request
from bike_cli.video.readers.nearby_frames import nearest, shortage_notes, without_repeats
from bike_cli.video.readers.orientation import decord_orientation, display_matrix, orientation_from
from bike_cli.video.readers.packets import PacketList, UnpredictableFileError, table_of
from bike_cli.video.readers.video_file import THREADS, Header, VideoFile, picture_streams

# decord bundles an old FFmpeg without a whitelist of formats. It never gets a file that this FFmpeg might take for a
# playlist, or a name that it might take for a pattern.
_SIGNATURES = {  # container -> offset and possible values of its signature
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
_REFERENCES = (b"<MPD", b"\nc=IN IP")  # a DASH manifest or a session description, anywhere in a file
_PROBE_BYTES = 2**20  # how much of a file FFmpeg probes at most
# fmt: off
_NOT_IMAGES = frozenset({  # FFmpeg never takes names with these endings for patterns
    ".mp4", ".m4v", ".mov", ".mkv", ".webm", ".avi", ".mpg", ".mpeg", ".m2v", ".ts", ".mts", ".wmv", ".asf", ".flv",
    ".3gp", ".ogv", ".vob", ".gif",
})
# fmt: on

_ERRORS = (RuntimeError, AssertionError, IndexError, ValueError)  # decord's own checks, and names that are not UTF-8


class UnsupportedFileError(Exception):
    """decord cannot read this file, or not exactly. PyAV may be able to."""


def check_decord_is_installed() -> None:
    """Raise UsageError if decord is not installed; does not import it."""
    if importlib.util.find_spec("decord") is None:
        raise UsageError(
            "decoder decord: is not installed, because it has no wheels for this platform; leave out --decoder: "
            "the default reads the same files",
            settings=("decoder",),
        )


def decord_is_exact(file: VideoFile, packets: PacketList) -> bool:
    """Return whether decord 0.6.0 reads exactly the same frames of such a file as PyAV.

    It silently seeks to wrong frames in MPEG-TS, MPEG-PS, HEVC, AVI with B-frames (see the tests), and after keyframes
    past which later frames refer back (open GOPs, periodic intra refresh). It converts pixels other than 8-bit 4:2:0 of
    even size differently: by 3 of 255 on average for 10 bits.
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
    """Read with decord.

    Loading decord before torch crashes the process (dmlc/decord#293). So it is only imported here, and the caller must
    have imported torch already, or never import it.

    Args:
        file: the same file, opened with PyAV, which decodes the first picture to find out its orientation.
        packets: decord counts packets, including hidden frames. With the file's packets, the frames that are shown are
            requested; without, its count is trusted.
    Raises:
        UnsupportedFileError: decord might open other files, fails, repeats frames or ignores the orientation, or its
            frame count or timestamps show that it misreads the file.
    """
    if len(picture_streams(file.container)) > 1:  # decord may choose another one
        raise UnsupportedFileError
    _check_content(path, file.header)
    _check_orientation(file)
    import decord

    decord.logging.set_level(decord.logging.QUIET)
    try:
        # By default, decord silently replaces frames that it cannot decode with copies of others.
        reader = decord.VideoReader(os.fspath(path.absolute()), num_threads=THREADS, fault_tol=1e-9)
        spans_s = reader.get_frame_timestamp(list(range(len(reader)))).astype(np.float64)  # [packets, 2]
        _check_count(len(reader), file.header.frames, starts_s=spans_s[:, 0])
        keys = np.sort(np.array(reader.get_key_indices(), np.int64))
        shown = np.arange(len(reader)) if packets is None else _shown(packets, len(reader))
        spans_s, n_frames = spans_s[shown], len(shown)
        first_shown = np.searchsorted(shown, keys)  # the positions of the keyframes
        asked = positions = request.positions(n_frames)  # [K, T]
        if request.config.sampling == "keyframe":
            positions = without_repeats(nearest(asked, first_shown), asked)
        # decord seeks to the packet of a keyframe, and counts the decoded frames from there.
        group = np.searchsorted(first_shown, positions, side="right") - 1
        indices = keys[group] + positions - first_shown[group]
        pixels = reader.get_batch(indices.ravel().tolist()).asnumpy()
        _check_size(file, pixels)
    except (decord.DECORDError, decord.DECORDLimitReachedError, *_ERRORS) as e:
        raise UnsupportedFileError from e
    starts_s = spans_s[:, 0] - spans_s[0, 0]
    return Footage(
        frames=pixels.reshape(*positions.shape, *pixels.shape[1:]),
        timeline=FrameTimes(starts_s[positions], positions, duration_s=float(spans_s[-1, 1] - spans_s[0, 0])),
        n_frames=n_frames,
        notes=shortage_notes(positions, asked, config=request.config),
        details=["read with decord"],
        ends_at_s=float(spans_s[-1, 1]),
    )


def _check_content(path: Path, header: Header) -> None:
    offset, signatures = _SIGNATURES.get(header.container.split(",")[0], (0, ()))
    try:
        with path.open("rb") as opened:
            content = opened.read(_PROBE_BYTES)
    except OSError as e:
        raise UnsupportedFileError from e
    is_pattern = bool(PATTERN_CHARACTERS & set(os.fspath(path.absolute()))) and path.suffix.lower() not in _NOT_IMAGES
    if (
        not content[offset:].startswith(signatures)
        or is_pattern
        or any(reference in content for reference in _REFERENCES)
    ):
        raise UnsupportedFileError


def _shown(packets: PacketList, n_counted: int) -> NDArray[np.int64]:
    """Return which of the packets that decord counts are shown, in the order of their times."""
    try:
        table = table_of(packets)
    except UnpredictableFileError as e:
        raise UnsupportedFileError from e
    # decord miscounts after seeking to a keyframe that is not shown.
    if n_counted != len(packets) or (packets.is_keyframe & (packets.frames == 0)).any():
        raise UnsupportedFileError
    if (packets.pts < 0).any():  # decord's times start at 0, but it seeks by those of the file
        raise UnsupportedFileError
    order = np.argsort(packets.pts, kind="stable")
    return np.flatnonzero(np.isin(order, table.shown))


def _check_orientation(file: VideoFile) -> None:
    try:
        picture = next(iter(file.container.decode(file.stream)), None)
    except (av.error.FFmpegError, ValueError) as e:
        raise UnsupportedFileError from e
    matrix = None if picture is None else display_matrix(picture)
    if orientation_from(matrix) != decord_orientation(matrix):
        raise UnsupportedFileError


def _check_size(file: VideoFile, pixels: NDArray[np.uint8]) -> None:
    context = file.stream.codec_context
    if sorted(pixels.shape[1:3]) != sorted((context.height, context.width)):  # a rotation by 90 degrees swaps the axes
        raise UnsupportedFileError  # another stream, such as a cover picture


def _check_count(n_frames: int, header_frames: int, *, starts_s: NDArray[np.float64]) -> None:
    # A truncated file has fewer frames than its header says. Frames with negative times are outside an edit list:
    # decord counts them, but cannot decode them.
    if header_frames not in (0, n_frames) or starts_s[0] < 0 or not (np.diff(starts_s) > 0).all():
        raise UnsupportedFileError
