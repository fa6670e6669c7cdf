"""Copy a part of a video without decoding it: pictures, sound and subtitles from the keyframe before its start."""

from __future__ import annotations

import math
from collections.abc import Sequence
from fractions import Fraction

from av.container import OutputContainer
from av.packet import Packet
from av.stream import Stream
from av.video.stream import VideoStream

from bike_cli.errors import VideoError
from bike_cli.records import Source
from bike_cli.video.clips.spans import LEAD_S, Entry, Report, Span, demux_streams, find_entry, frame_rate, open_at
from bike_cli.video.readers.video_file import VideoFile

COPIED = ("audio", "subtitle")  # kinds of streams that go along
LATE_S = 5.0  # how long other streams are waited for once the pictures are complete


def copy_packets(
    source: Source, span: Span, out: OutputContainer, *, hides: bool, subtitles: bool, report: Report
) -> float:
    """Copy the packets of a span; return where they begin, in seconds from the first frame of the video.

    Times count from the first frame of the span. So those of earlier pictures, which the first ones refer to, are
    negative: in MP4 and MOV, an edit list hides these pictures; other containers show them.

    Args:
        hides: whether the container has edit lists.
        subtitles: whether to copy them.
    Raises:
        VideoError: the file cannot be read, or nothing in it can be copied.
        av.error.FFmpegError, ValueError: the container does not take a stream.
    """
    entry = find_entry(source, span, report=report)
    if entry is None:
        message = f"{source.id}: has no keyframe with a time to copy from; encode the clip again with --cut-exact"
        raise VideoError(message, kind="damaged")
    with open_at(source, entry.key, back_s=LEAD_S) as file:
        kinds = COPIED if subtitles else COPIED[:1]
        streams = [file.stream, *(s for s in file.container.streams if s.type in kinds and s.codec_context is not None)]
        copier = _Copier(file, span, entry, streams, out, hides=hides)
        for packet in demux_streams(file, streams):
            report()
            if copier.take(packet):
                break
        if not copier.has_pictures:
            message = f"{source.id}: has no picture at {span.start_s:.3f} s that can be copied; repair or replace it"
            raise VideoError(message, kind="damaged")
        return max(0.0, span.seconds(entry.key, file.stream))


class _Copier:
    """Chooses packets, moves their times, and writes them."""

    def __init__(
        self,
        file: VideoFile,
        span: Span,
        entry: Entry,
        streams: Sequence[Stream],
        out: OutputContainer,
        *,
        hides: bool,
    ) -> None:
        self._stream, self._key, self._out = file.stream, entry.key, out
        time_base = file.stream.time_base or Fraction(1)
        zero_s, key_s = _zero(span, entry, file.stream) * time_base, entry.key * time_base
        self._stops = {stream.index: span.stop(stream) for stream in streams}
        self._zeros = {stream.index: round(zero_s / (stream.time_base or 1)) for stream in streams}
        self._firsts = {stream.index: math.floor(key_s / (stream.time_base or 1)) for stream in streams}
        # A subtitle that began before the clip is shown from its start; the hidden part of a file has none.
        subtitles = [stream for stream in streams if stream.type == "subtitle"]
        self._subtitle_starts = {s.index: (self._zeros if hides else self._firsts)[s.index] for s in subtitles}
        self._late = {stream.index: int(LATE_S / (stream.time_base or 1)) for stream in streams}
        self._targets = {stream.index: _add_stream(out, stream) for stream in streams}
        self._later: list[Packet[Stream]] = []  # pictures after the span, which one in it may refer to
        self._highest = entry.key  # timestamp of a picture that was written; all before it go along, too
        self._awaited = {stream.index for stream in streams if stream.type != "subtitle"}
        self._complete: set[int] = set()
        self.has_pictures = False

    def take(self, packet: Packet[Stream]) -> bool:
        """Write a packet if it belongs to the clip; return whether all of the clip has been read."""
        index = packet.stream_index
        time = packet.pts if packet.dts is None else packet.dts
        is_picture = index == self._stream.index
        if is_picture and index not in self._complete:
            self._take_picture(packet)
        elif not is_picture and self._is_inside(packet):
            if index in self._subtitle_starts:
                _clip_subtitle(packet, self._subtitle_starts[index])
            self._write(packet)
        if time is None or time < (max(self._stops[index], self._highest) if is_picture else self._stops[index]):
            return False
        self._complete.add(index)
        is_late = time >= self._stops[index] + self._late[index]
        return self._stream.index in self._complete and (is_late or self._complete >= self._awaited)

    def _is_inside(self, packet: Packet[Stream]) -> bool:
        index, pts = packet.stream_index, packet.pts
        start = self._subtitle_starts.get(index, self._firsts[index])
        return pts is not None and pts < self._stops[index] and pts + (packet.duration or 1) > start

    def _take_picture(self, packet: Packet[Stream]) -> None:
        pts = packet.pts
        if not self.has_pictures:
            if not packet.is_keyframe or pts != self._key:
                return
            self.has_pictures = True
        if pts is not None and pts < self._key:
            return  # shown before the keyframe, and refers to pictures before it
        self._later.append(packet)
        if pts is None or pts < max(self._stops[self._stream.index], self._highest):
            for each in self._later:
                self._highest = max(self._highest, each.pts or 0)
                self._write(each)
            self._later.clear()

    def _write(self, packet: Packet[Stream]) -> None:
        zero, target = self._zeros[packet.stream_index], self._targets[packet.stream_index]
        packet.stream = target
        packet.pts = None if packet.pts is None else packet.pts - zero
        packet.dts = None if packet.dts is None else packet.dts - zero
        self._out.mux(packet)


def _zero(span: Span, entry: Entry, stream: VideoStream) -> int:
    """Return the timestamp from which the clip counts: that of a frame, or players would disagree about it.

    It is the first frame of the span, or the one before if that is still shown for longer than a frame.
    """
    step = 1.5 / (frame_rate(stream) * (stream.time_base or 1))
    if entry.following is not None and (entry.shown is None or entry.following <= span.first(stream) + step):
        return entry.following
    return span.zero(stream) if entry.shown is None else entry.shown


def _clip_subtitle(packet: Packet[Stream], start: int) -> None:
    if packet.pts is not None and packet.pts < start:
        packet.duration = max(1, (packet.duration or 0) - (start - packet.pts))
        packet.pts = packet.dts = start


def _add_stream(out: OutputContainer, stream: Stream) -> Stream:
    target = out.add_stream_from_template(stream, opaque=True)  # the codec is not needed
    target.metadata.update({key: value for key, value in stream.metadata.items() if key in ("language", "title")})
    target.disposition = stream.disposition
    return target
