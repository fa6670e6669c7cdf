"""Parts of videos, in the units of a container: where they begin and end, and the keyframe to start from."""

from __future__ import annotations

import heapq
import math
from collections import deque
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from fractions import Fraction
from itertools import chain, repeat

from av.packet import Packet
from av.stream import Stream
from av.video.frame import VideoFrame
from av.video.stream import VideoStream

from bike_cli.errors import VideoError
from bike_cli.records import Source
from bike_cli.video.readers.packets import READING_ERRORS
from bike_cli.video.readers.video_file import VideoFile, open_video

Report = Callable[[], None]  # called while work goes on

# A frame that begins less than this before a time counts as later: times in records are milliseconds, and so are those
# in Matroska files.
TOLERANCE_S = 0.0005
LEAD_S = 1.0  # how far apart files store sound and the pictures that it belongs to
STEPS_BACK_S = (0.0, 10.0, 120.0)  # how far before a time a keyframe is looked for, before the whole file is read
REORDERED = 3  # pictures whose times AVI may swap, although they come in order
DEFAULT_RATE = Fraction(25)
_MAX_ERRORS = 100  # consecutive errors of the container before the rest of a file is given up


def no_report() -> None:
    """Report nothing."""


@dataclass(frozen=True)
class Span:
    """A part of a video.

    Args:
        origin_s: when the first frame is shown, on the container's clock; the other times count from there.
        start_s, end_s: the part; `end_s` is exclusive.
    """

    origin_s: Fraction
    start_s: float
    end_s: float

    def zero(self, stream: Stream) -> int:
        """Return the start in the units of a stream."""
        return round((self.origin_s + Fraction(self.start_s)) / _time_base(stream))

    def first(self, stream: Stream) -> int:
        """Return the smallest timestamp that lies in the span, in the units of a stream."""
        return self._smallest(self.start_s, stream)

    def stop(self, stream: Stream) -> int:
        """Return the smallest timestamp after the span, in the units of a stream."""
        return self._smallest(self.end_s, stream)

    def last_start(self, stream: Stream) -> int:
        """Return the largest timestamp of a frame that is shown at the start, in the units of a stream."""
        return math.floor((self.origin_s + Fraction(self.start_s + TOLERANCE_S)) / _time_base(stream))

    def seconds(self, pts: int, stream: Stream) -> float:
        """Return the time of a timestamp, counted from the first frame."""
        return float(pts * _time_base(stream) - self.origin_s)

    def _smallest(self, seconds: float, stream: Stream) -> int:
        return math.ceil((self.origin_s + Fraction(seconds - TOLERANCE_S)) / _time_base(stream))


def span_of(source: Source, start_s: float, end_s: float) -> Span:
    """Return a part of a video, whose times count from its first frame.

    Raises:
        VideoError: the file cannot be read, or has no frame.
    """
    with open_video(source) as file:
        for picture in decode_pictures(file, demux_streams(file, [file.stream])):
            pts = picture.pts or 0
            return Span(pts * _time_base(file.stream), start_s, end_s)
    raise VideoError(f"{source.id}: has no frame; give a file with a picture", kind="no_picture")


@dataclass(frozen=True)
class Entry:
    """Where a span can be entered, in the units of the video stream.

    Args:
        key: timestamp of the last keyframe at or before the start.
        shown: timestamp of the frame that is shown at the start; None if there is none after the keyframe.
        following: timestamp of the first frame in the span; None if there is none.
    """

    key: int
    shown: int | None
    following: int | None


def find_entry(source: Source, span: Span, *, report: Report = no_report) -> Entry | None:
    """Return where a span can be entered; None if there is no keyframe before it.

    Raises:
        VideoError: the file cannot be read.
    """
    for back_s in (*STEPS_BACK_S, None):
        with open_video(source) as file:
            if back_s is None or _seek(file, span.last_start(file.stream), back_s):
                entry = _entry(file, span, report)
                if entry is not None:
                    return entry
    return None


@contextmanager
def open_at(source: Source, pts: int | None, *, back_s: float = 0.0) -> Iterator[VideoFile]:
    """Open a video at a keyframe some time before a timestamp; at its start if there is none, or it cannot be found.

    Raises:
        VideoError: the file cannot be read.
    """
    with open_video(source) as file:
        if pts is None or _seek(file, pts, back_s):
            yield file
            return
    with open_video(source) as file:
        yield file


def _seek(file: VideoFile, pts: int, back_s: float) -> bool:
    """Move to a keyframe; return whether the file allows that. Otherwise it must be opened again."""
    stream = file.stream
    target = pts - round(back_s / _time_base(stream))
    for place in dict.fromkeys((target, max(target, stream.start_time or 0), pts)):  # AVI has nothing before its start
        with suppress(*READING_ERRORS):
            file.container.seek(place, stream=stream, backward=True)
            return True
    return False


def demux_streams(file: VideoFile, streams: Sequence[Stream]) -> Iterator[Packet[Stream]]:
    """Yield the packets of some streams; after an error of the container, continue with those that it finds next."""
    errors = 0
    while errors < _MAX_ERRORS:
        try:
            for packet in file.container.demux(*streams):
                errors = 0
                if packet.size:
                    yield packet
            return
        except MemoryError:
            raise
        except READING_ERRORS:
            errors += 1


def packets_from(
    file: VideoFile, streams: Sequence[Stream], key: int | None, report: Report
) -> Iterator[Packet[Stream]]:
    """Yield the packets of some streams without the pictures before a keyframe."""
    is_waiting = key is not None
    for packet in demux_streams(file, streams):
        report()
        if packet.stream_index == file.stream.index and is_waiting:
            is_waiting = not (packet.is_keyframe and packet.pts == key)
            if is_waiting:
                continue
        yield packet


def decode_pictures(
    file: VideoFile, packets: Iterator[Packet[Stream]], *, others: Callable[[Packet[Stream]], None] | None = None
) -> Iterator[VideoFrame]:
    """Yield the pictures of a file in the order in which they are shown, with rising times.

    Pictures that a player leaves out, because of an edit list, are left out. The times of a file without any follow
    each other at its frame rate.

    Args:
        packets: those of other streams are handed to `others`.
    """
    stream = file.stream
    rate = frame_rate(stream)
    step = max(1, round(1 / (rate * _time_base(stream))))
    waiting: deque[VideoFrame] = deque()
    times: list[int] = []  # of those waiting; a heap
    last: int | None = None
    pictures = _decode(stream, packets, others)
    for picture in chain(pictures, repeat(None)):
        if picture is not None:
            before = max((t for t in (last, *times) if t is not None), default=-step)
            heapq.heappush(times, before + step if picture.pts is None else picture.pts)
            waiting.append(picture)
            if len(waiting) <= REORDERED:
                continue
        if not waiting:
            return
        picture, time = waiting.popleft(), heapq.heappop(times)
        if last is None or time > last:
            picture.pts = last = time
            yield picture


def frame_rate(stream: VideoStream) -> Fraction:
    """Return the frame rate that a file names, or a usual one."""
    return stream.average_rate or stream.guessed_rate or DEFAULT_RATE


def _decode(
    stream: VideoStream, packets: Iterator[Packet[Stream]], others: Callable[[Packet[Stream]], None] | None
) -> Iterator[VideoFrame]:
    for packet in packets:
        if packet.stream_index != stream.index:
            if others is not None:
                others(packet)
            continue
        packet.is_corrupt = False  # it says nothing about the decoding
        yield from _decoded(stream, packet)
    yield from _decoded(stream, None)


def _decoded(stream: VideoStream, packet: Packet[Stream] | None) -> list[VideoFrame]:
    try:
        return list(stream.codec_context.decode(packet))
    except MemoryError:
        raise
    except READING_ERRORS:  # a damaged picture is left out
        return []


def _entry(file: VideoFile, span: Span, report: Report) -> Entry | None:
    first, limit = span.first(file.stream), span.last_start(file.stream)
    key = shown = following = None
    for packet in demux_streams(file, [file.stream]):
        report()
        pts, time = packet.pts, packet.pts if packet.dts is None else packet.dts
        if pts is not None:
            if packet.is_keyframe and pts <= limit:
                key = pts
            if pts < first:
                shown = pts if shown is None else max(shown, pts)
            else:
                following = pts if following is None else min(following, pts)
        if time is not None and time > limit and following is not None and time >= following:
            break
    return None if key is None else Entry(key, shown, following)


def _time_base(stream: Stream) -> Fraction:
    return stream.time_base or Fraction(1, 1_000_000)
