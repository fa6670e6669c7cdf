"""Encode a part of a video again, so that it begins and ends at exact times: H.264 with sound in AAC."""

from __future__ import annotations

import math
from collections.abc import Sequence
from fractions import Fraction
from typing import cast

import av
import numpy as np
from av.audio.frame import AudioFrame
from av.audio.stream import AudioStream
from av.container import OutputContainer
from av.filter import Graph
from av.packet import Packet
from av.stream import Stream
from av.video.format import VideoFormat
from av.video.frame import PictureType, VideoFrame
from av.video.stream import VideoStream

from bike_cli.errors import VideoError
from bike_cli.records import Source
from bike_cli.video.clips.spans import (
    LEAD_S,
    Report,
    Span,
    decode_pictures,
    find_entry,
    frame_rate,
    no_report,
    open_at,
    packets_from,
)
from bike_cli.video.readers.orientation import Orientation, display_matrix, orientation_from
from bike_cli.video.readers.packets import READING_ERRORS
from bike_cli.video.readers.video_file import THREADS, VideoFile

CODEC, SOUND_CODEC, PIXELS = "libx264", "aac", "yuv420p"
FINEST_HZ = 1000  # units of time per second, at least
OPTIONS = {"crf": "18"}  # visually lossless; every player can show 8 bit 4:2:0
LATE_S = 5.0  # how long sound is waited for once the pictures are complete
# fmt: off
SOUND_RATES = (96000, 88200, 64000, 48000, 44100, 32000, 24000, 22050, 16000, 12000, 11025, 8000)  # of AAC
SOUND_LAYOUTS = ("mono", "stereo", "3.0", "4.0", "5.0", "5.1", "7.1")  # of FFmpeg's encoder
# fmt: on


def encode_span(source: Source, span: Span, out: OutputContainer, *, report: Report) -> None:
    """Encode the frames of a span and its sound.

    The clip has the frames that begin in the span. If the first one begins more than a frame later, the clip starts
    with the frame that is still shown at the start. The first frame is shown from the start of the clip, and the last
    one until its end. Rotation is applied to the pictures. An odd width or height, which H.264 does not have in 4:2:0,
    grows by one row or column that repeats the last one.

    Raises:
        VideoError: the file cannot be read, or has no frame in the span.
        av.error.FFmpegError, ValueError: FFmpeg cannot encode or write it.
    """
    entry = find_entry(source, span, report=report)
    key = None if entry is None else entry.key
    if key is not None and not _starts_at(source, span, key):
        key = None  # decoding does not begin at the keyframe, as in a stream with gradual refresh
    with open_at(source, key, back_s=LEAD_S) as file:
        encoder = _Encoder(file, span, out)
        packets = packets_from(file, [file.stream, *encoder.sound], key, report)
        pictures = decode_pictures(file, packets, others=encoder.take_sound)
        for picture in pictures:
            if encoder.take_picture(picture):
                break
        for packet in packets:  # sound that is stored after the last picture
            if encoder.has_all_sound(packet):
                break
            if packet.stream_index != file.stream.index:
                encoder.take_sound(packet)
        if not encoder.finish():
            message = f"{source.id}: has no frame between {span.start_s:.3f} and {span.end_s:.3f} s; check the times"
            raise VideoError(message, kind="damaged")


def _starts_at(source: Source, span: Span, key: int) -> bool:
    """Return whether decoding that starts at a keyframe shows the start of a span."""
    with open_at(source, key, back_s=LEAD_S) as file:
        for picture in decode_pictures(file, packets_from(file, [file.stream], key, no_report)):
            return picture.pts is not None and picture.pts <= max(key, span.first(file.stream))
    return False


class _Encoder:
    """Encodes the pictures and the sound of a span."""

    def __init__(self, file: VideoFile, span: Span, out: OutputContainer) -> None:
        self._stream, self._span, self._out = file.stream, span, out
        self._first, self._stop = span.first(file.stream), span.stop(file.stream)
        self._rate = frame_rate(file.stream)
        # Some containers count frames, and a clip can start between two.
        time_base = file.stream.time_base or Fraction(1, 1_000_000)
        self._factor = max(1, math.ceil(FINEST_HZ * time_base))
        self._unit = time_base / self._factor
        self._zero = round((span.origin_s + Fraction(span.start_s)) / self._unit)
        self._step = round(1 / (self._rate * self._unit))
        self._durations: dict[int, int] = {}  # of encoded pictures, by their times
        self._shown: VideoFrame | None = None  # at the start of the span
        self._pending: VideoFrame | None = None  # whose end is not known yet
        self._goes_on = False  # whether the video has pictures after the span
        self._target: VideoStream | None = None
        self._upright: _Upright | None = None
        self.sound = [s for s in file.container.streams.audio if s.codec_context is not None and s.sample_rate]
        self._sound: dict[int, _Sound] = {}  # after the pictures, so that they are the first stream of the clip
        self._waiting: list[Packet[Stream]] = []

    def take_picture(self, picture: VideoFrame) -> bool:
        """Encode a picture of the span; return whether it lies after the span."""
        assert picture.pts is not None
        if picture.pts >= self._stop:
            self._goes_on = True
            return True
        if picture.pts < self._first:
            self._shown = picture
            return False
        start = picture.pts * self._factor - self._zero
        if self._pending is None and self._shown is not None and start > self._step:
            self._put(self._shown, start=0)
        self._put(picture, start=start if self._pending is not None else 0)
        return False

    def take_sound(self, packet: Packet[Stream]) -> None:
        """Encode sound, once the size of the pictures is known."""
        self._waiting.append(packet)
        if self._sound:
            for each in self._waiting:
                self._sound[each.stream_index].take(each)
            self._waiting.clear()

    def has_all_sound(self, packet: Packet[Stream]) -> bool:
        """Return whether a packet lies so far after the span that no more sound of the span follows."""
        end_s = self._span.end_s
        seconds = self._span.seconds(packet.pts or 0, packet.stream)
        return not self.sound or seconds > end_s + LATE_S or all(s.is_complete for s in self._sound.values())

    def finish(self) -> bool:
        """Complete the clip; return whether it has a picture."""
        if self._pending is None and self._shown is not None and self._is_shown_at_start(self._shown):
            self._put(self._shown, start=0)
        if self._pending is None or self._target is None:
            return False
        end = round(Fraction(self._span.end_s - self._span.start_s) / self._unit)
        if not self._goes_on:  # the video may end before the span
            end = min(end, (self._pending.pts or 0) + self._length(self._pending))
        self._encode(self._pending, end=end)
        for packet in self._waiting:
            self._sound[packet.stream_index].take(packet)
        self._mux(self._target.encode(None))
        for sound in self._sound.values():
            sound.finish()
        return True

    def _is_shown_at_start(self, picture: VideoFrame) -> bool:
        return self._goes_on or (picture.pts or 0) * self._factor + self._length(picture) > self._first * self._factor

    def _length(self, picture: VideoFrame) -> int:
        return picture.duration * self._factor if picture.duration else self._step

    def _put(self, picture: VideoFrame, *, start: int) -> None:
        """Encode the picture before this one, now that it is known how long it is shown."""
        if self._target is None:
            self._upright = _Upright(picture)
            self._target = self._add_target(self._upright.convert(picture))
            self._sound = {stream.index: _Sound(stream, self._span, self._out) for stream in self.sound}
        if self._pending is not None:
            self._encode(self._pending, end=start)
        picture.pts = start
        self._pending = picture

    def _encode(self, picture: VideoFrame, *, end: int) -> None:
        assert self._upright is not None
        assert self._target is not None
        assert picture.pts is not None
        upright = self._upright.convert(picture)
        upright.pts, upright.dts, upright.time_base = picture.pts, None, self._unit
        upright.pict_type = PictureType.NONE  # chosen by the encoder, not that of the file
        self._durations[picture.pts] = max(1, end - picture.pts)
        self._mux(self._target.encode(upright))

    def _mux(self, packets: list[Packet[VideoStream]]) -> None:
        for packet in packets:
            assert packet.pts is not None
            packet.duration = self._durations.pop(packet.pts)
            self._out.mux(packet)

    def _add_target(self, upright: VideoFrame) -> VideoStream:
        target = cast(VideoStream, self._out.add_stream(CODEC, rate=self._rate, options=dict(OPTIONS)))
        target.width, target.height, target.pix_fmt = upright.width, upright.height, PIXELS
        context, original = target.codec_context, self._stream.codec_context
        context.time_base = self._unit
        aspect = original.sample_aspect_ratio
        if aspect:
            assert self._upright is not None
            context.sample_aspect_ratio = 1 / aspect if self._upright.orientation.swaps_axes else aspect
        context.color_range, context.colorspace = upright.color_range, original.colorspace
        context.color_primaries, context.color_trc = original.color_primaries, original.color_trc
        return target


class _Upright:
    """Converts pictures to the size, orientation and pixel format of the first one, with an even width and height."""

    def __init__(self, first: VideoFrame) -> None:
        self.orientation: Orientation = orientation_from(display_matrix(first))
        self._size = first.width, first.height
        names = [
            ("transpose", "cclock_flip") if self.orientation.swaps_axes else None,  # rows become columns, no more
            ("vflip", None) if self.orientation.flips_rows else None,
            ("hflip", None) if self.orientation.flips_columns else None,
        ]
        filters = [name for name in names if name is not None]
        self._graph = _linked(filters, self._size, first.time_base) if filters else None

    def convert(self, picture: VideoFrame) -> VideoFrame:
        """Return a picture as it is encoded."""
        width, height = self._size
        if (picture.width, picture.height, picture.format.name) != (width, height, PIXELS):
            plain = picture.reformat(width, height, format=PIXELS, interpolation="BICUBIC", threads=THREADS)
            plain.pts, plain.time_base = picture.pts, picture.time_base
            picture = plain
        if width % 2 or height % 2:
            picture = _grown(picture)
        if self._graph is None:
            return picture
        self._graph.push(picture)
        return self._graph.vpull()


def _grown(picture: VideoFrame) -> VideoFrame:
    """Repeat the last row and column of a 4:2:0 picture of odd size; its chroma is large enough already."""
    grown = VideoFrame(picture.width + picture.width % 2, picture.height + picture.height % 2, PIXELS)
    for old, new in zip(picture.planes, grown.planes, strict=True):
        pixels = np.frombuffer(bytes(old), np.uint8).reshape(-1, old.line_size)[: old.height, : old.width]
        margins = (0, new.height - old.height), (0, new.line_size - old.width)
        new.update(np.pad(pixels, margins, mode="edge").tobytes())
    grown.pts, grown.time_base, grown.color_range = picture.pts, picture.time_base, picture.color_range
    return grown


def _linked(filters: Sequence[tuple[str, str | None]], size: tuple[int, int], time_base: Fraction | None) -> Graph:
    width, height = (side + side % 2 for side in size)
    graph, pixels = Graph(), VideoFormat(PIXELS, width, height)
    node = graph.add_buffer(width=width, height=height, format=pixels, time_base=time_base or Fraction(1, 1000))
    for name, arguments in (*filters, ("buffersink", None)):
        following = graph.add(name, arguments)
        node.link_to(following)
        node = following
    graph.configure()
    return graph


class _Sound:
    """Encodes the part of a sound stream that lies in a span, to the sample."""

    def __init__(self, stream: AudioStream, span: Span, out: OutputContainer) -> None:
        context = stream.codec_context
        self._stream, self._out = stream, out
        self._stop = span.stop(stream)
        self._rate = min(SOUND_RATES, key=lambda rate: abs(rate - (context.sample_rate or 48_000)))
        layout = context.layout.name if context.layout is not None else ""
        self._layout = layout if layout in SOUND_LAYOUTS else "mono" if context.channels == 1 else "stereo"
        start_s = float(span.origin_s) + span.start_s
        self._trim = f"start={start_s:.6f}:end={start_s + span.end_s - span.start_s:.6f}"
        self._shift = f"PTS-({start_s:.6f})/TB"
        self._graph: Graph | None = None
        self._shape: tuple[str, str, int] | None = None  # of the samples that the graph takes
        self._target = cast(AudioStream, out.add_stream(SOUND_CODEC, rate=self._rate, layout=self._layout))
        self._target.metadata.update({k: v for k, v in stream.metadata.items() if k in ("language", "title")})
        self._next = 0  # sample
        self.is_complete = False

    def take(self, packet: Packet[Stream]) -> None:
        """Decode and encode a packet; a damaged one is left out."""
        if packet.pts is not None and packet.pts >= self._stop:
            self.is_complete = True
        else:
            self._decode(packet)

    def finish(self) -> None:
        """Complete the stream."""
        self._decode(None)
        if self._graph is not None:
            self._flush(self._graph)
        self._out.mux(self._target.encode(None))

    def _decode(self, packet: Packet[Stream] | None) -> None:
        try:
            frames = list(self._stream.codec_context.decode(packet))
        except MemoryError:
            raise
        except READING_ERRORS:
            return
        for frame in frames:
            shape = frame.format.name, frame.layout.name, frame.sample_rate
            if shape != self._shape:
                if self._graph is not None:
                    self._flush(self._graph)
                self._graph, self._shape = self._linked(frame), shape
            assert self._graph is not None
            self._graph.push(frame)
            self._encode(self._graph)

    def _flush(self, graph: Graph) -> None:
        graph.push(None)
        self._encode(graph)

    def _encode(self, graph: Graph) -> None:
        while True:
            try:
                frame = graph.pull()
            except (av.error.BlockingIOError, av.error.EOFError):
                return
            assert isinstance(frame, AudioFrame)
            if frame.pts is not None and frame.pts + frame.samples > self._next >= frame.pts - frame.samples:
                frame.pts, frame.time_base = self._next, Fraction(1, self._rate)
            elif frame.pts is not None and frame.pts < self._next:
                continue  # of a graph that began again
            self._next = (frame.pts or 0) + frame.samples
            self._out.mux(self._target.encode(frame))

    def _linked(self, frame: AudioFrame) -> Graph:
        graph = Graph()
        node = graph.add_abuffer(
            sample_rate=frame.sample_rate, format=frame.format.name, layout=frame.layout.name, time_base=frame.time_base
        )
        for name, arguments in (
            ("atrim", self._trim),
            ("asetpts", self._shift),
            ("aresample", f"{self._rate}:async=1:first_pts={self._next}"),  # silence where sound is missing
            ("aformat", f"sample_fmts=fltp:channel_layouts={self._layout}"),
            ("abuffersink", ""),
        ):
            following = graph.add(name, arguments or None)
            node.link_to(following)
            node = following
        graph.configure()
        return graph
