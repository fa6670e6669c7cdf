"""Decode a source into a clip: frames at exact positions, with their times.

All readers turn a `Request` into `Footage`:

    selective     PyAV decodes little more than the requested frames need. Used for combinations of container and codec
                  for which tests compare it with a full decode, frame by frame.
    sequential    PyAV decodes the whole file. Used for everything else, including files that the selective reader
                  cannot handle, and damaged files, of which it reads as much as possible.
    decord        only on request
    frame folder  Pillow (a dependency of torchvision), one image per frame

`auto` never uses decord: the selective reader needs three quarters of its CPU time on H.264, about the same on 10 s of
VP8 or VP9, and half on shorter ones (`python -m benchmarks.decode`). In a damaged stream, PyAV also reports which
frames FFmpeg has concealed errors in; decord does not.

A frame's position is its index, in presentation order, among the frames that a player shows: frames outside an edit
list do not count. Its time counts from the first such frame. Rotation in the metadata is applied, and pixels are not
resized. An alpha channel is dropped without blending, like in FFmpeg's conversion to RGB.
"""

from __future__ import annotations

import logging
import stat
from dataclasses import replace

import numpy as np
from numpy.typing import NDArray

from bike_cli.config import Decoder, SamplingConfig
from bike_cli.errors import VideoError
from bike_cli.media import missing_message
from bike_cli.records import Clip, FrameTimes, Source
from bike_cli.video.readers.decord import UnsupportedFileError, decord_is_exact, read_decord
from bike_cli.video.readers.footage import Footage, Request, reason, unexpected_error
from bike_cli.video.readers.images import read_folder
from bike_cli.video.readers.packets import READING_ERRORS, UnpredictableFileError, list_packets
from bike_cli.video.readers.selective import read_selected, reads_selectively
from bike_cli.video.readers.sequential import read_through
from bike_cli.video.readers.truncation import truncation_notes
from bike_cli.video.readers.video_file import VideoFile, open_video
from bike_cli.video.sampling import positions_of

logger = logging.getLogger(__name__)


def decode(
    source: Source,
    config: SamplingConfig,
    *,
    decoder: Decoder = "auto",
    rng: np.random.Generator | None = None,
) -> Clip:
    """Decode the frames of `source` that `config` selects.

    If the clip has fewer frames than requested, because of shared keyframes or damage, its warning says so.

    Args:
        config: `crops` is not used here: the encoder cuts them. `draft` only has an effect where frames can be skipped
            without harm to others.
        decoder: `auto` and `av` use PyAV; `decord` uses decord or fails. Frame folders always use Pillow.
        rng: jitter for training; None reads the same frames each time.
    Raises:
        VideoError: kind `missing`, `unreadable`, `not_video`, `no_picture` or `damaged`. `unreadable` includes a
            draft with decord, which cannot skip frames.
    """
    if config.draft and decoder == "decord":
        message = f"{source.id}: --draft does not work with decord, which decodes every frame; use --decoder auto"
        raise VideoError(message, kind="unreadable")
    request = Request(config, rng)
    footage = read_folder(source.path, request) if is_folder(source) else _read_video(source, request, decoder)
    return _clip(source, footage, config)


def clip_from_array(frames: NDArray[np.uint8], config: SamplingConfig, *, name: str) -> Clip:
    """Return a clip of a video that is already in memory; it has no timestamps.

    Args:
        frames: uint8 [T, H, W, 3], RGB, every frame of the video.
        name: what records and messages call it.
    Raises:
        ValueError: `frames` has another shape or type, or is empty.
    """
    if frames.ndim != 4 or frames.shape[-1] != 3 or 0 in frames.shape or frames.dtype != np.uint8:
        raise ValueError(
            f"{name}: frames are {frames.dtype} {list(frames.shape)}; give uint8 [T, H, W, 3] with at least one frame"
        )
    positions = positions_of(config, len(frames))
    times_s = np.full(positions.shape, np.nan)
    footage = Footage(frames[positions], FrameTimes(times_s, positions), len(frames))
    return _clip(Source.at(name), footage, config)


def is_folder(source: Source) -> bool:
    """Return whether the source is a folder; raise VideoError if it is neither a folder nor a regular file."""
    try:
        mode = source.path.stat().st_mode
    except (FileNotFoundError, NotADirectoryError) as e:
        raise VideoError(missing_message(source.id), kind="missing") from e
    except (OSError, ValueError) as e:  # ValueError: a NUL in the name
        raise VideoError(
            f"{source.id}: cannot be read ({reason(e)}); check its name and permissions", kind="unreadable"
        ) from e
    if not stat.S_ISDIR(mode) and not stat.S_ISREG(mode):
        raise VideoError(f"{source.id}: is a device or a pipe; save it to a file first", kind="unreadable")
    return stat.S_ISDIR(mode)


def _clip(source: Source, footage: Footage, config: SamplingConfig) -> Clip:
    for detail in footage.details:  # for callers in this process; workers do not log, their pool does
        logger.info("%s: %s", source.id, detail)
    notes, n_frames, asked = list(footage.notes), footage.n_frames, config.frames
    if n_frames < asked <= footage.frames.shape[1]:
        noun = "frame" if n_frames == 1 else "frames"
        notes.append(f"the video has {n_frames} {noun}, {asked} are requested: some are repeated")
    timeline = replace(footage.timeline, warning="; ".join(notes) or None)
    return Clip(source, footage.frames, timeline, tuple(footage.details))


def _read_video(source: Source, request: Request, decoder: Decoder) -> Footage:
    # PyAV checks the file first: decord prints errors to the terminal, and reads text files as ANSI art.
    with open_video(source) as file:
        header_s = file.header.duration_s
        footage = _read_with_decord(source, request, file) if decoder == "decord" else _read_selectively(file, request)
    if not isinstance(footage, Footage):
        why_not, footage = footage, _read_through(source, request)
        footage = replace(footage, details=[f"{footage.details[0]} ({why_not})", *footage.details[1:]])
    ends_s, ends_at_s = footage.timeline.duration_s, footage.ends_at_s
    cut_off = truncation_notes(source, ends_s=ends_s, ends_at_s=ends_at_s, header_s=header_s)
    return replace(footage, notes=[*footage.notes, *cut_off], details=[*file.details, *footage.details])


def _read_selectively(file: VideoFile, request: Request) -> Footage | str:
    """Return the footage, or why the whole file must be decoded."""
    if not reads_selectively(file.header):
        return f"{file.header.codec} in {file.header.container}"
    try:
        return read_selected(file, request)
    except UnpredictableFileError as e:
        return str(e)
    except MemoryError:
        raise
    except READING_ERRORS as e:
        return reason(e)


def _read_through(source: Source, request: Request) -> Footage:
    try:
        return read_through(source, request)
    except (VideoError, MemoryError):
        raise
    except READING_ERRORS as e:
        raise unexpected_error(source, e) from e


def _read_with_decord(source: Source, request: Request, file: VideoFile) -> Footage:
    with open_video(source) as other:
        packets = list_packets(other)
    is_exact = decord_is_exact(file, packets)
    try:
        footage = read_decord(source.path, request, file=file, packets=packets if is_exact else None)
    except UnsupportedFileError as e:
        message = f"{source.id}: decord cannot read it reliably; use --decoder auto"
        raise VideoError(message, kind="not_video") from e
    if is_exact:
        return footage
    note = "decord may be off by some frames in such files; --decoder auto is exact"
    return replace(footage, notes=[*footage.notes, note])
