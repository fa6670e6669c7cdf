"""Cut clips out of videos, by copying packets or by encoding again.

A copy takes milliseconds, but it can only begin at a keyframe: it has the pictures from the keyframe before the start.
In MP4 and MOV, an edit list hides those before the start; in other containers they are shown. A few pictures after the
end may go along, because earlier ones refer to them. Sound and subtitles are copied, too.

An exact clip is encoded again: H.264 and AAC in MP4, with the frames and the samples of the requested times.
"""

from __future__ import annotations

import re
import unicodedata
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path

import av
from av.container import OutputContainer

from bike_cli.errors import VideoError
from bike_cli.media import missing_message
from bike_cli.records import Source
from bike_cli.video.clips.copying import copy_packets
from bike_cli.video.clips.encoding import CODEC, encode_span
from bike_cli.video.clips.spans import Report, Span, no_report, span_of
from bike_cli.video.readers.footage import reason
from bike_cli.video.readers.video_file import open_video

FORMATS = {".mp4": "mp4", ".m4v": "mp4", ".mov": "mov", ".mkv": "matroska", ".webm": "webm"}  # kept in a copy
WITH_EDIT_LISTS = ("mp4", "mov")
OTHER_SUFFIX = ".mkv"  # takes the codecs of all other containers
EXACT_SUFFIX = ".mp4"
LABEL_BYTES = 80

# Characters that Windows forbids in names, or that separate folders; control characters and spaces.
_FORBIDDEN = re.compile(r'[<>:"/\\|?*\x00-\x1f\x7f-\x9f\s]+')


@dataclass(frozen=True)
class Cut:
    """A clip that was cut out of a video.

    Args:
        path: the file.
        start_s: where its first picture lies in the video, in seconds from the first frame. That of a copy is a
            keyframe, at or before the requested time.
        exact: whether it was encoded again, so that it begins and ends at the requested times.
    """

    path: Path
    start_s: float
    exact: bool


def cut(
    source: Source,
    start_s: float,
    end_s: float,
    target: Path,
    *,
    exact: bool,
    overwrite: bool = False,
    report: Report = no_report,
) -> Cut:
    """Cut the part from `start_s` to `end_s` out of a video, in seconds from its first frame.

    The target appears when it is complete; until then, the clip is in `.NAME.part` next to it. Its folder is created.
    A damaged video can crash or hang a decoder: call this in a process that can be killed, such as `MediaWorker`.

    Args:
        target: ends in one of `FORMATS`; see `clip_suffix`.
        exact: encode it again, instead of copying from the keyframe before.
        overwrite: replace a file that exists.
        report: is called while work goes on.
    Raises:
        VideoError: kind `missing`, `unreadable`, `not_video`, `no_picture` or `damaged` if the part cannot be read;
            `unwritable` if the target exists, or cannot be written, for example because the disk is full.
        ValueError: the part is empty, or the target has another suffix.
    """
    if not 0 <= start_s < end_s:
        raise ValueError(f"part from {start_s} to {end_s} s; expected 0 <= start < end")
    if target.suffix.lower() not in FORMATS:
        raise ValueError(f"{target} must end in {', '.join(FORMATS)}")
    if not source.path.exists():
        raise VideoError(missing_message(source.id), kind="missing")
    if source.path.is_dir():
        message = f"{source.id}: is a folder of frames, and clips are cut from video files; make a video of it first"
        raise VideoError(message, kind="not_video")
    if exact and CODEC not in av.codecs_available:
        message = f"{target}: cannot be encoded, because this build of PyAV has no {CODEC}; cut it without --cut-exact"
        raise VideoError(message, kind="unwritable")
    span = span_of(source, start_s, end_s)
    if exact:
        with _written(source, target, exact=True, overwrite=overwrite, subtitles=False) as out:
            encode_span(source, span, out, report=report)
        return Cut(target, start_s, exact)
    return Cut(target, _copied(source, span, target, overwrite=overwrite, report=report), exact)


def part_of(target: Path) -> Path:
    """Return the path of a clip that is not complete."""
    return target.with_name(f".{target.name}.part")


def clip_suffix(source: Source, *, exact: bool) -> str:
    """Return the ending of clips of a video: that of its container if clips keep it."""
    suffix = source.path.suffix.lower()
    return EXACT_SUFFIX if exact else suffix if suffix in FORMATS else OTHER_SUFFIX


def clip_name(number: int, label: str, start_s: float, suffix: str) -> str:
    """Return the name of a clip, which is safe on every system: `0001_corner-kick_00-12-03.250.mp4`."""
    milliseconds = max(0, round(start_s * 1000))
    seconds, fraction = divmod(milliseconds, 1000)
    clock = f"{seconds // 3600:02d}-{seconds // 60 % 60:02d}-{seconds % 60:02d}.{fraction:03d}"
    return f"{number:04d}_{safe_label(label)}_{clock}{suffix}"


def safe_label(label: str) -> str:
    """Return a label as a part of a file's name: one word of at most `LABEL_BYTES` bytes of UTF-8, never empty.

    Spaces, and all that a system forbids in names, become hyphens; it begins with neither a hyphen nor a dot.
    """
    shown = "".join(c for c in label if unicodedata.category(c) not in ("Cf", "Cs"))  # invisible, or not a character
    word = _FORBIDDEN.sub("-", shown).strip("-.")
    while len(word.encode()) > LABEL_BYTES:
        word = word[:-1]
    return word.strip("-.") or "label"


def _copied(source: Source, span: Span, target: Path, *, overwrite: bool, report: Report) -> float:
    """Copy a part; if its subtitles do not fit into the container, without them."""
    for subtitles in (True, False):
        try:
            with _written(source, target, exact=False, overwrite=overwrite, subtitles=subtitles) as out:
                hides = FORMATS[target.suffix.lower()] in WITH_EDIT_LISTS
                return copy_packets(source, span, out, hides=hides, subtitles=subtitles, report=report)
        except _UnfitSubtitlesError:
            continue
    raise AssertionError("without subtitles, their fit is not questioned")


class _UnfitSubtitlesError(Exception):
    """The container may not take the subtitles of a video."""


@contextmanager
def _written(
    source: Source, target: Path, *, exact: bool, overwrite: bool, subtitles: bool
) -> Iterator[OutputContainer]:
    """Yield a container that becomes the target when the context ends without an error."""
    part = part_of(target)
    _check_free(target, overwrite=overwrite)
    try:
        target.parent.mkdir(parents=True, exist_ok=True)
        with av.open(part, "w", format=FORMATS[target.suffix.lower()]) as out:
            yield out
        _check_free(target, overwrite=overwrite)
        part.replace(target)
    except VideoError:
        raise
    except MemoryError:
        raise
    except (av.error.FFmpegError, OSError, ValueError) as e:
        is_of_system = isinstance(e, OSError) and not isinstance(e, (av.error.InvalidDataError, av.error.ArgumentError))
        if subtitles and not is_of_system and _has_subtitles(source):
            raise _UnfitSubtitlesError from e
        if is_of_system:
            way_out = "free some space, or choose a folder that you may write to"
            raise VideoError(f"{target}: cannot be written ({reason(e)}); {way_out}", kind="unwritable") from e
        raise _unfit(source, target, e, exact=exact) from e
    finally:
        with suppress(OSError):
            part.unlink(missing_ok=True)


def _check_free(target: Path, *, overwrite: bool) -> None:
    if not overwrite and target.exists():
        message = f"{target}: exists and is not replaced; remove it, choose another folder, or add --force"
        raise VideoError(message, kind="unwritable")


def _has_subtitles(source: Source) -> bool:
    with open_video(source) as file:
        return bool(file.container.streams.subtitles)


def _unfit(source: Source, target: Path, error: Exception, *, exact: bool) -> VideoError:
    """Return the error for a video that FFmpeg cannot copy or encode."""
    if exact:
        return VideoError(f"{source.id}: cannot be encoded ({reason(error)}); convert the video", kind="unwritable")
    problem = f"cannot be copied into {FORMATS[target.suffix.lower()]} ({reason(error)})"
    return VideoError(f"{source.id}: {problem}; encode the clip again with --cut-exact", kind="unwritable")
