"""Read the frames of a video in order, one per bin, in this process.

As in `decoding`, the selective reader is used for files whose packets predict their frames, and the sequential one for
everything else. A bin is missing if its frame cannot be decoded, or has concealed errors: nothing is put in its place.
Only if no frame of a file is intact, frames with concealed errors are used.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace

from bike_cli.errors import VideoError
from bike_cli.records import Source
from bike_cli.video.decoding import is_folder
from bike_cli.video.readers.damage import Survey
from bike_cli.video.readers.footage import reason, unexpected_error
from bike_cli.video.readers.packets import READING_ERRORS, UnpredictableFileError
from bike_cli.video.readers.selective import predict_frames, reads_selectively
from bike_cli.video.readers.truncation import truncation_notes
from bike_cli.video.readers.video_file import Header, VideoFile, open_video
from bike_cli.video.streams.folder import stream_folder
from bike_cli.video.streams.outcomes import BinFrame, Outcome, Step
from bike_cli.video.streams.selective import SelectiveStream
from bike_cli.video.streams.sequential import SequentialStream
from bike_cli.video.streams.values import StreamRequest
from bike_cli.wording import count


def read_frames(source: Source, request: StreamRequest, *, step: Step | None = None) -> Iterator[BinFrame | Outcome]:
    """Yield the frames of the requested bins in order, then what is known at the end.

    Args:
        step: called for each packet or image that is read: a sign of progress.
    Raises:
        VideoError: kind `missing`, `unreadable`, `not_video` or `no_picture`; `damaged` if no frame can be read.
        MemoryError: no frame can be read because memory ran out.
    """
    if is_folder(source):
        yield from stream_folder(source, request, step=step)
        return
    with open_video(source) as file:
        header, details, has_frames = file.header, file.details, False
        try:
            selective = _selective_stream(source, file, request, step=step)
            try:
                yield from selective.frames(file)
            except UnpredictableFileError:
                has_frames = selective.has_frames
                request = replace(request, first_bin=selective.next_bin) if has_frames else request
                raise
        except UnpredictableFileError as e:
            why_not = str(e)
        else:
            outcome = selective.outcome()
            notes = _cut_notes(source, outcome, header, ends_at_s=selective.ends_at_s)
            yield _with_notes(outcome, notes, details)
            return
    stream = SequentialStream(source, request, has_frames=has_frames, step=step)
    yield from _read_sequentially(source, stream)
    if _has_concealed_only(stream):
        stream = SequentialStream(source, request, with_concealed=True, step=step)
        yield from _read_sequentially(source, stream)
    yield _sequential_outcome(source, stream, header, (*details, why_not))


def _selective_stream(source: Source, file: VideoFile, request: StreamRequest, *, step: Step | None) -> SelectiveStream:
    """Return a stream of a file that was just opened; raise UnpredictableFileError if it must be decoded in full."""
    if not reads_selectively(file.header):
        raise UnpredictableFileError(f"{file.header.codec} in {file.header.container}")
    return SelectiveStream(source, predict_frames(file, step=step), request, step=step)


def _read_sequentially(source: Source, stream: SequentialStream) -> Iterator[BinFrame]:
    try:
        yield from stream.frames()
    except (VideoError, MemoryError):
        raise
    except READING_ERRORS as e:
        raise unexpected_error(source, e) from e
    if stream.survey is None or stream.has_frames:
        return
    if stream.memory_error is not None:
        raise stream.memory_error
    if stream.conversion_error is not None:
        problem = f"its pixels cannot be converted ({reason(stream.conversion_error)}); convert the file"
        raise VideoError(f"{source.id}: {problem}", kind="damaged")
    if not stream.survey.n_read:
        raise _without_frames(source, stream.survey)


def _without_frames(source: Source, survey: Survey) -> VideoError:
    if not survey.is_damaged:
        return VideoError(f"{source.id}: has no frame; give a file with a picture", kind="no_picture")
    problem = f"is damaged (0 of {count(survey.n_frames, 'frame')} can be read); repair or replace the file"
    return VideoError(f"{source.id}: {problem}", kind="damaged")


def _has_concealed_only(stream: SequentialStream) -> bool:
    return stream.survey is not None and not stream.has_frames and not stream.survey.is_intact.any()


def _sequential_outcome(source: Source, stream: SequentialStream, header: Header, details: tuple[str, ...]) -> Outcome:
    outcome, survey = stream.outcome(), stream.survey
    if survey is None:  # it was not read to its end
        return _with_notes(outcome, [], details)
    notes = _cut_notes(source, outcome, header, ends_at_s=survey.clock.ends_at_s)
    if not notes and survey.is_cut and outcome.duration_s is not None:
        notes = [
            f"the picture ends at {outcome.duration_s:.1f} s of {header.duration_s:.1f} s: the file may be cut off"
        ]
    return _with_notes(outcome, notes, details)


def _cut_notes(source: Source, outcome: Outcome, header: Header, *, ends_at_s: float | None) -> list[str]:
    return truncation_notes(source, ends_s=outcome.duration_s, ends_at_s=ends_at_s, header_s=header.duration_s)


def _with_notes(outcome: Outcome, notes: list[str], details: tuple[str, ...]) -> Outcome:
    return replace(outcome, notes=(*outcome.notes, *notes), details=(*outcome.details, *details))
