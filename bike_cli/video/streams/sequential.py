"""Stream any file that FFmpeg opens by decoding all of it; damaged parts are skipped.

Nearly all files have rising times. Their frames are streamed while the file is decoded, one picture late: a frame ends
where the next one begins. Where times are missing, jump or run backwards, only the whole file shows when each frame is
shown (see `clock_of`): then it is decoded to its end first, and a second time for the frames.
"""

from __future__ import annotations

from collections.abc import Iterator
from itertools import islice
from typing import NamedTuple

import av
import numpy as np
from av.video.stream import VideoStream

from bike_cli.records import Source
from bike_cli.video.readers.damage import Survey
from bike_cli.video.readers.full_decode import FullDecode, SurveyRecorder
from bike_cli.video.readers.packets import PacketRecorder
from bike_cli.video.readers.truncation import timestamps_may_jump
from bike_cli.video.readers.video_file import VideoFile, open_video
from bike_cli.video.streams.bins import bin_count, bins_before, end_of_bin, frames_of_bins, rows_of
from bike_cli.video.streams.conversion import StreamConverter
from bike_cli.video.streams.outcomes import BinFrame, Outcome, Step, rate_notes
from bike_cli.video.streams.times import (
    LostTimes,
    RisingClock,
    ShownFrames,
    announced_times,
    shown_frames,
    tells_frame_times,
)
from bike_cli.video.streams.values import StreamRequest
from bike_cli.wording import count

_PROBE = 48  # pictures that show whether the times of a file rise: B-frames are out of order from the start


class _Current(NamedTuple):
    """The picture that is shown until the next one begins."""

    picture: av.VideoFrame
    start_s: float


class SequentialStream:
    """The frames of a file that is decoded in full.

    Args:
        has_frames: whether another reader has filled bins before the first requested one.
        with_concealed: also use frames in which the decoder concealed errors.
    Attributes:
        survey: the frames of the file, once it was read to its end.
        memory_error: raised while a picture was decoded.
    """

    def __init__(
        self,
        source: Source,
        request: StreamRequest,
        *,
        has_frames: bool = False,
        with_concealed: bool = False,
        step: Step | None = None,
    ) -> None:
        self.has_frames = has_frames
        self.survey: Survey | None = None
        self.memory_error: MemoryError | None = None
        self._source, self._request, self._step = source, request, step
        self._with_concealed = with_concealed
        self._next_bin = request.first_bin
        self._converter = StreamConverter(request.short_side)
        self._shown: ShownFrames | None = None
        self._passes = "once"

    @property
    def conversion_error(self) -> Exception | None:
        """Why a picture could not be converted."""
        return self._converter.error

    def frames(self) -> Iterator[BinFrame]:
        """Yield the frames of the requested bins, in order."""
        is_rising = self._times_rise()
        current: _Current | None = None
        with open_video(self._source) as file:
            timed = _TimedDecode(file, self._step)
            for picture in timed.decoding.pictures():
                timed.recorder.add(picture)
                self._converter.adopt(picture)
                start_s = timed.clock.start_of(picture) if is_rising else None
                is_rising = start_s is not None
                if start_s is None:
                    current = None
                    timed.forget_lost_times()
                    continue
                if current is not None:
                    end_s = timed.end_of(current, until=picture, start_s=start_s)
                    yield from self._show(current, end_s)
                    if self._is_complete():
                        return
                current = _Current(picture, start_s)
            self.memory_error = timed.decoding.memory_error
            self.survey, self._shown = timed.survey()
        if self._shown is not None:
            yield from self._show_rest(self.survey, self._shown, current)

    def outcome(self) -> Outcome:
        """Return what is known about the video."""
        request = self._request
        details = (f"read with PyAV, decoded in full {self._passes}",)
        if self.survey is None or self._shown is None:
            assert request.end_bin is not None
            return Outcome(request.end_bin, request.end_bin / request.fps, None, details=details)
        end_s = self._shown.end_s
        n_bins = bin_count(end_s, request.fps)
        n_bins = n_bins if request.end_bin is None else min(n_bins, request.end_bin)
        notes = [*self._shown.notes, *self.survey.limit_notes()]
        if self._with_concealed:
            read = count(self.survey.n_frames, "frame")
            notes.insert(0, f"damaged: 0 of {read} are intact; the frames read have concealed errors")
        return Outcome(
            n_bins=n_bins,
            end_s=end_of_bin(n_bins, fps=request.fps, duration_s=end_s),
            duration_s=end_s if self._shown.has_clock else None,
            notes=(*notes, *rate_notes(self._shown.starts_s, request.fps)),
            details=details,
        )

    def _times_rise(self) -> bool:
        """Return whether the times of the first pictures rise."""
        with open_video(self._source) as file:
            if file.header.container == "gif":  # browsers correct its times
                return False
            probe = _TimedDecode(file, self._step)
            pictures = islice(probe.decoding.pictures(), _PROBE)
            return all(probe.clock.start_of(picture) is not None for picture in pictures)

    def _is_complete(self) -> bool:
        end = self._request.end_bin
        # Without any frame so far, the whole file is needed to tell whether it has intact ones.
        return end is not None and self._next_bin >= end and self.has_frames

    def _show(self, current: _Current, end_s: float) -> Iterator[BinFrame]:
        first, end = bins_before(np.array([current.start_s, end_s]), self._request.fps).tolist()
        yield from self._fill(current.picture, first, end)

    def _fill(self, picture: av.VideoFrame, first_bin: int, end_bin: int) -> Iterator[BinFrame]:
        first_bin = max(first_bin, self._next_bin)
        end_bin = min(end_bin, self._request.end_bin or end_bin)
        if first_bin >= end_bin:
            return
        self._next_bin = end_bin
        pixels = None
        if self._with_concealed or not picture.is_corrupt:
            pixels = self._converter.convert(picture)
        if pixels is not None:
            self.has_frames = True
            yield BinFrame(pixels, first_bin, end_bin)

    def _show_rest(self, survey: Survey, shown: ShownFrames, current: _Current | None) -> Iterator[BinFrame]:
        """Yield the frames of the bins that are left after the first pass."""
        frames = shown.indices[frames_of_bins(shown.starts_s, shown.end_s, self._request.fps)]
        indices, bins = rows_of(frames, self._next_bin, self._request.end_bin)
        is_usable = indices >= 0
        if not self._with_concealed:
            is_usable &= survey.is_intact[indices]  # of the last one where a frame was lost
        indices, bins = indices[is_usable], bins[is_usable]
        if current is not None and (indices == survey.n_read - 1).all():
            for first, end in bins.tolist():
                yield from self._fill(current.picture, first, end)
        elif len(indices):
            self._passes = "twice"
            yield from self._second_pass(indices.tolist(), bins.tolist())

    def _second_pass(self, indices: list[int], bins: list[list[int]]) -> Iterator[BinFrame]:
        row = 0
        with open_video(self._source) as file:
            for i, picture in enumerate(FullDecode(file, observe=self._observe).pictures()):
                while row < len(indices) and indices[row] == i:
                    yield from self._fill(picture, *bins[row])
                    row += 1
                if row == len(indices):
                    return

    def _observe(self, _: av.Packet[VideoStream]) -> None:
        if self._step is not None:
            self._step()


class _TimedDecode:
    """A full decode, and what it shows about the times of frames."""

    def __init__(self, file: VideoFile, step: Step | None) -> None:
        self._file, self._step = file, step
        self._packets = PacketRecorder(file)
        self._lost = LostTimes()
        self._announces = tells_frame_times(file.header.container) and self._packets.is_understood
        self._n_failed = 0
        self._tick_s = float(file.stream.time_base or 0)
        self.decoding = FullDecode(file, observe=self._observe)
        self.recorder = SurveyRecorder(file, self.decoding)
        self.clock = RisingClock(self._tick_s, may_jump=timestamps_may_jump(file))

    def _observe(self, packet: av.Packet[VideoStream]) -> None:
        if self._step is not None:
            self._step()
        frames = self._packets.add(packet)
        if frames < 0:  # it is unknown how many frames there are
            self.forget_lost_times()
        if self._announces and frames > 0 and not packet.is_discard and packet.pts is not None:
            self._lost.announce(packet.pts)

    def end_of(self, current: _Current, *, until: av.VideoFrame, start_s: float) -> float:
        """Return when a picture ends: where the next one, or a lost one, begins."""
        for pts in self.decoding.failed[self._n_failed :]:
            self._lost.fail(pts)
        self._n_failed = len(self.decoding.failed)
        if current.picture.pts is None or until.pts is None:
            return start_s
        lost = self._lost.first_between(current.picture, until.pts)
        return start_s if lost is None else current.start_s + (lost - current.picture.pts) * self._tick_s

    def forget_lost_times(self) -> None:
        """Stop to look for frames that were lost without an error."""
        self._announces, self._lost = False, LostTimes()

    def survey(self) -> tuple[Survey, ShownFrames | None]:
        """Return the frames of the file, and when they are shown; None if it has none."""
        packets = self._packets.packets()
        survey = self.recorder.survey(packets)
        if not survey.n_read:
            return survey, None
        announced = announced_times(packets, container=self._file.header.container)
        failed = np.unique(np.array(self.decoding.failed, np.int64))
        announced_s, failed_s = (pts.astype(np.float64) * self._tick_s for pts in (announced, failed))
        rate = self._file.stream.average_rate or self._file.stream.guessed_rate
        return survey, shown_frames(survey, announced_s, failed_s, fps=float(rate) if rate else None)
