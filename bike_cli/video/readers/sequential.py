"""Read any file that FFmpeg opens by decoding all of it; damaged parts are skipped and counted.

Which frames exist is only certain after the last one. So the packets are counted first, which is cheap, and the frames
that the count predicts are kept during the full decode. If other frames appear, for example because of damage, the file
is decoded a second time, up to the last wanted frame. Memory does not grow with the length of the video.
"""

from __future__ import annotations

import copy
from dataclasses import replace

import av
import numpy as np
from numpy.typing import NDArray

from bike_cli.errors import VideoError
from bike_cli.records import FrameTimes, Source
from bike_cli.video.readers.damage import Survey, choose
from bike_cli.video.readers.footage import Footage, Request, reason
from bike_cli.video.readers.full_decode import FullDecode, SurveyRecorder
from bike_cli.video.readers.nearby_frames import nearest, shortage_notes, without_repeats
from bike_cli.video.readers.packets import NO_PTS, PacketList, list_packets
from bike_cli.video.readers.video_file import FrameBuffer, open_video


def read_through(source: Source, request: Request) -> Footage:
    """Read the requested frames, or as many as possible.

    Raises:
        VideoError: kind `no_picture`, or `damaged` if too few frames can be read.
        MemoryError: too few frames can be read because memory ran out.
    """
    with open_video(source) as file:
        packets = list_packets(file)
    buffer = FrameBuffer()
    survey = _survey(source, request, packets, buffer)
    if not survey.n_read and not survey.is_damaged:
        raise VideoError(f"{source.id}: has no frame; give a file with a picture", kind="no_picture")
    choice = choose(survey, request, source=source)
    asked = readable = choice.frames  # [K, T]
    if request.config.sampling == "keyframe" and (keys := choice.usable[survey.is_key[choice.usable]]).size:
        readable = without_repeats(nearest(asked, keys), asked)
    frames = buffer.frames(readable)
    del buffer
    passes = "once" if frames is not None else "twice"
    return Footage(
        frames=_fetch(source, readable) if frames is None else frames,
        timeline=FrameTimes(survey.clock.starts_s[readable], survey.places()[readable], survey.clock.duration_s),
        n_frames=survey.n_frames,
        notes=[*choice.notes, *survey.notes(), *shortage_notes(readable, asked, config=request.config)],
        details=[f"read with PyAV, decoded in full {passes}"],
        ends_at_s=survey.clock.ends_at_s,
    )


# -- prediction ------------------------------------------------------------------------------------------------------


def _expected(packets: PacketList, request: Request) -> set[int]:
    """Return the positions of the frames to keep if the decoder outputs what the packets announce."""
    n_frames = packets.n_expected()
    if not n_frames:
        return set()
    # A copy of the generator, so that it draws the same positions again once the frames are known.
    asked = replace(request, rng=copy.deepcopy(request.rng)).positions(n_frames)
    if request.config.sampling == "keyframe" and (keys := _expected_keyframes(packets)).size:
        asked = without_repeats(nearest(asked, keys), asked)
    return set(asked.ravel().tolist())


def _expected_keyframes(packets: PacketList) -> NDArray[np.int64]:
    is_shown = packets.is_expected & (packets.frames != 0)
    pts, is_key = packets.pts[is_shown], packets.is_keyframe[is_shown]
    if (pts != NO_PTS).all():
        is_key = is_key[np.argsort(pts, kind="stable")]
    return np.flatnonzero(is_key)


# -- decoding --------------------------------------------------------------------------------------------------------


def _survey(source: Source, request: Request, packets: PacketList, buffer: FrameBuffer) -> Survey:
    """Decode a whole file; put the frames that are probably requested into the buffer."""
    wanted = _expected(packets, request)
    with open_video(source) as file:
        decoding = FullDecode(file)
        recorder = SurveyRecorder(file, decoding)
        for i, picture in enumerate(decoding.pictures()):
            if i in wanted:
                _put(source, buffer, i, picture)
            recorder.add(picture)
        if decoding.memory_error is not None and len(recorder) < request.config.frames:
            raise decoding.memory_error
        return recorder.survey(packets)


def _fetch(source: Source, readable: NDArray[np.int64]) -> NDArray[np.uint8]:
    """Return the pictures at these indices among all that can be read: [K, T, H, W, 3]."""
    buffer, wanted = FrameBuffer(), set(readable.ravel().tolist())
    with open_video(source) as file:
        for i, picture in enumerate(FullDecode(file).pictures()):
            if i in wanted:
                _put(source, buffer, i, picture)
                wanted.discard(i)
            if not wanted:
                break
    frames = buffer.frames(readable)
    if frames is None:
        message = f"{source.id}: decodes differently each time; repair or replace the file"
        raise VideoError(message, kind="damaged")
    return frames


def _put(source: Source, buffer: FrameBuffer, place: int, picture: av.VideoFrame) -> None:
    try:
        buffer.put(place, picture)
    except MemoryError:
        raise
    except (av.error.FFmpegError, ValueError) as e:
        message = f"{source.id}: its pixels cannot be converted ({reason(e)}); convert the file"
        raise VideoError(message, kind="damaged") from e
