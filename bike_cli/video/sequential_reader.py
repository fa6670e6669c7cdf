"""Reads any file that FFmpeg opens, by decoding all of it; what is damaged inside is stepped over and counted.

The file is decoded twice: once to survey what can be read, for no header can be believed, and once to keep the frames
then chosen. Nothing else is kept, however long the video.
"""

from __future__ import annotations

from array import array
from collections.abc import Iterator

import av
import numpy as np
from av.video.stream import VideoStream
from numpy.typing import NDArray

from bike_cli.errors import VideoError
from bike_cli.records import Source
from bike_cli.video.damage import Survey, choose
from bike_cli.video.footage import Footage, Request, reason
from bike_cli.video.gif_delays import browser_times
from bike_cli.video.nearest import fewer, nearest, without_repeats
from bike_cli.video.video_file import Album, VideoFile, open_video

_NO_PTS = np.iinfo(np.int64).min
_MOST_ERRORS = 100  # of the container, one after another, before the rest of a file is given up


def read_through(source: Source, request: Request) -> Footage:
    """Read what is asked for, or as much of it as can be read.

    Raises:
        VideoError: kind `no_picture`, or `damaged` where too few frames can be read.
        MemoryError: too few frames can be read because memory ran out.
    """
    survey = _survey(source, request)
    if not survey.n_read and not survey.is_damaged:
        raise VideoError(f"{source.id}: holds no frame; give a file with a picture", kind="no_picture")
    choice = choose(survey, request, source=source)
    asked = readable = choice.frames  # [K, T]
    if request.config.sampling == "keyframe" and (keys := choice.usable[survey.is_key[choice.usable]]).size:
        readable = without_repeats(nearest(asked, keys), asked)
    places = survey.places()
    return Footage(
        frames=_fetch(source, readable),
        positions=places[readable],
        times_s=survey.starts_s()[readable],
        n_frames=survey.n_frames,
        duration_s=survey.duration_s(),
        notes=[*choice.notes, *fewer(readable, asked, config=request.config)],
    )


class _Playthrough:
    """One decoding of a whole file: yields what comes out, and counts what does not."""

    def __init__(self, file: VideoFile) -> None:
        self._file = file
        self.errors = 0
        self.memory_error: MemoryError | None = None
        self.packet_pts = array("q")  # of the packets that are shown; without those that have none
        self.packets = 0
        self.discarded = 0

    def pictures(self) -> Iterator[av.VideoFrame]:
        """Yield every picture that can be decoded, in the decoder's order."""
        for packet in self._packets():
            yield from self._decoded(packet)
        yield from self._decoded(None)

    def _packets(self) -> Iterator[av.Packet[VideoStream]]:
        """Yield the packets; behind an error of the container, those that it finds then."""
        errors_in_a_row = 0
        while errors_in_a_row < _MOST_ERRORS:
            try:
                for packet in self._file.container.demux(self._file.stream):
                    if not packet.size:
                        continue
                    errors_in_a_row = 0
                    self._count(packet)
                    yield packet
                return
            except (av.error.FFmpegError, ValueError) as e:
                self._count_error(e)
                errors_in_a_row += 1

    def _count(self, packet: av.Packet[VideoStream]) -> None:
        self.packets += 1
        self.discarded += packet.is_discard
        self.errors += packet.is_corrupt
        if packet.pts is not None and not packet.is_discard:
            self.packet_pts.append(packet.pts)

    def _decoded(self, packet: av.Packet[VideoStream] | None) -> list[av.VideoFrame]:
        try:
            return list(self._file.stream.codec_context.decode(packet))
        except (av.error.FFmpegError, ValueError) as e:
            self._count_error(e)
            return []

    def _count_error(self, error: Exception) -> None:
        self.errors += 1
        if isinstance(error, MemoryError):  # PyAV's is an FFmpegError too; a changed bit can ask for gigabytes
            self.memory_error = error


def _survey(source: Source, request: Request) -> Survey:
    with open_video(source) as file:
        play = _Playthrough(file)
        pts, durations, is_whole, is_key = array("q"), array("q"), array("b"), array("b")
        for picture in play.pictures():
            pts.append(_NO_PTS if picture.pts is None else picture.pts)
            durations.append(picture.duration or 0)
            is_whole.append(not picture.is_corrupt)
            is_key.append(picture.key_frame)
        if play.memory_error is not None and len(pts) < request.config.frames:
            raise play.memory_error
        tick_s = float(file.stream.time_base or 0)
        starts = np.where(np.array(pts, np.int64) == _NO_PTS, np.nan, np.array(pts, np.float64) * tick_s)
        lengths = np.array(durations, np.float64) * tick_s
        if file.header.container == "gif" and len(starts) == play.packets:
            starts, lengths = browser_times(starts, lengths)
        return Survey(
            starts=starts,
            lengths=lengths,
            is_whole=np.array(is_whole, bool),
            is_key=np.array(is_key, bool),
            packet_starts=np.unique(np.array(play.packet_pts, np.float64) * tick_s),
            packets=play.packets,
            discarded=play.discarded,
            errors=play.errors,
            header=file.header,
        )


def _fetch(source: Source, readable: NDArray[np.int64]) -> NDArray[np.uint8]:
    """Return the pictures of these places among all that can be read: [K, T, H, W, 3]."""
    album, wanted = Album(), set(readable.ravel().tolist())
    with open_video(source) as file:
        for i, picture in enumerate(_Playthrough(file).pictures()):
            if i in wanted:
                _put(source, album, i, picture)
                wanted.discard(i)
            if not wanted:
                break
    frames = album.frames(readable)
    if frames is None:
        message = f"{source.id}: does not decode the same way twice; repair or replace the file"
        raise VideoError(message, kind="damaged")
    return frames


def _put(source: Source, album: Album, place: int, picture: av.VideoFrame) -> None:
    try:
        album.put(place, picture)
    except MemoryError:
        raise
    except (av.error.FFmpegError, ValueError) as e:
        message = f"{source.id}: its pixels cannot be converted ({reason(e)}); convert the file"
        raise VideoError(message, kind="damaged") from e
