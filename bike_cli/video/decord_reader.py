"""Reads frames with decord 0.6.0, where it can be believed."""

from __future__ import annotations

import importlib.util
import os
from pathlib import Path

import av
import numpy as np
from numpy.typing import NDArray

from bike_cli.errors import UsageError
from bike_cli.video.footage import Footage, Request
from bike_cli.video.nearest import fewer, nearest, without_repeats
from bike_cli.video.orientation import decord_orientation, display_matrix, orientation_from
from bike_cli.video.video_file import THREADS, Header, VideoFile

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


def decord_is_exact(header: Header) -> bool:
    """Return whether decord 0.6.0 reads such files frame by frame as PyAV does.

    Elsewhere it seeks to the wrong frame and says nothing: MPEG-TS, MPEG-PS, HEVC, AVI with B-frames (tests show it),
    or converts other pixels than 8-bit 4:2:0 differently, by 3 of 255 in the mean for 10 bit.
    """
    return (
        ("mp4" in header.container or "matroska" in header.container)
        and header.codec in {"h264", "vp8", "vp9"}
        and header.pixels in {"yuv420p", "yuvj420p"}
    )


def read_decord(path: Path, request: Request, *, file: VideoFile) -> Footage:
    """Read with decord; the caller has imported torch already or never will.

    `file` is the same file, opened with PyAV, which decodes its first picture to find out how it is to be shown.

    decord loaded before torch in one process crashes it (dmlc/decord#293), hence the import in here.

    Raises:
        GaveUpError: decord fails, repeats frames, shows the picture the wrong way up, or its count or clock shows that
            it misreads the file.
    """
    _check_orientation(file)
    import decord

    decord.logging.set_level(decord.logging.QUIET)
    try:
        # Any repeated frame is one too many: without a limit, decord fills what it cannot decode with copies.
        reader = decord.VideoReader(os.fspath(path.absolute()), num_threads=THREADS, fault_tol=1e-9)
        n_frames = len(reader)
        spans_s = reader.get_frame_timestamp(list(range(n_frames))).astype(np.float64)  # [n_frames, 2]
        _check(n_frames, file.header.frames, starts_s=spans_s[:, 0])
        asked = positions = request.positions(n_frames)  # [K, T]
        if request.config.sampling == "keyframe":
            keys = np.sort(np.array(reader.get_key_indices(), np.int64))
            positions = without_repeats(nearest(asked, keys), asked)
        pixels = reader.get_batch(positions.ravel().tolist()).asnumpy()
    except (decord.DECORDError, decord.DECORDLimitReachedError, *_ERRORS) as e:
        raise GaveUpError from e
    starts_s = spans_s[:, 0] - spans_s[0, 0]
    return Footage(
        frames=pixels.reshape(*positions.shape, *pixels.shape[1:]),
        positions=positions,
        times_s=starts_s[positions],
        n_frames=n_frames,
        duration_s=float(spans_s[-1, 1] - spans_s[0, 0]),
        notes=fewer(positions, asked, config=request.config),
    )


def _check_orientation(file: VideoFile) -> None:
    try:
        picture = next(iter(file.container.decode(file.stream)), None)
    except (av.error.FFmpegError, ValueError) as e:
        raise GaveUpError from e
    matrix = None if picture is None else display_matrix(picture)
    if orientation_from(matrix) != decord_orientation(matrix):
        raise GaveUpError


def _check(n_frames: int, header_frames: int, *, starts_s: NDArray[np.float64]) -> None:
    # A file cut off holds fewer frames than its header says. Times before 0 are frames outside an edit list, which
    # decord counts and then cannot decode.
    if header_frames not in (0, n_frames) or starts_s[0] < 0 or not (np.diff(starts_s) > 0).all():
        raise GaveUpError
