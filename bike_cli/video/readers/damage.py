"""Choose the frames of a clip from a file that can only be read in part.

A frame is intact if the decoder neither failed on it nor concealed errors in it. If there are enough intact frames for
a clip, only those are used; otherwise also frames with concealed errors; otherwise, down to half a clip, each readable
frame once. The clip's warning says which.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property

import numpy as np
from numpy.typing import NDArray

from bike_cli.errors import VideoError
from bike_cli.records import Source
from bike_cli.video.containers.clocks import Clock, clock_of
from bike_cli.video.readers.footage import Request
from bike_cli.video.readers.video_file import Header
from bike_cli.wording import count


@dataclass(frozen=True)
class Survey:
    """The result of decoding a whole file: M frames, in the order in which they were decoded.

    Args:
        starts, lengths: float64 [M], seconds; `starts` is NaN without timestamps, `lengths` 0 if unknown.
        is_intact, is_key: bool [M].
        packet_starts: float64 [P], sorted: times of the packets that announce a frame and have a time.
        n_packets: packets in the file, including those that are not shown.
        n_announced: frames that the packets announce.
        counts_exactly: whether that count is exact; False for codecs whose packets are not inspected.
        n_discarded: frames counted by the header that a player does not show.
        n_before_first: packets that were decoded before the first frame.
        errors: packets after the first frame that could not be decoded.
        read_error: why the container could not be read to its end.
        may_jump: whether timestamps of the format may jump.
    """

    starts: NDArray[np.float64]
    lengths: NDArray[np.float64]
    is_intact: NDArray[np.bool_]
    is_key: NDArray[np.bool_]
    packet_starts: NDArray[np.float64]
    n_packets: int
    n_announced: int
    header: Header
    counts_exactly: bool = True
    n_discarded: int = 0
    n_before_first: int = 0
    errors: int = 0
    read_error: str | None = None
    may_jump: bool = False

    @property
    def n_read(self) -> int:
        """Number of decoded frames."""
        return len(self.starts)

    @cached_property
    def n_leading(self) -> int:
        """Number of frames at the start that cannot be decoded, as in a recording that starts between keyframes."""
        lost = max(0, self.n_announced - self.n_read)
        if not self.n_read:
            return 0
        if np.isnan(self.starts[0]) or not len(self.packet_starts):
            return min(lost, self.n_before_first)
        return min(lost, int(np.searchsorted(self.packet_starts, self.starts[0])))

    @cached_property
    def is_damaged(self) -> bool:
        """Whether frames after the first one were lost or have concealed errors."""
        n_after = self.n_announced - self.n_leading
        if not self.n_read:
            return n_after > 0
        return (self.errors > 0 and self.n_read < n_after) or not self.is_intact.all() or self.is_cut

    @cached_property
    def is_cut(self) -> bool:
        """Whether the header promises frames after the last one."""
        is_known = ~np.isnan(self.starts)
        if not is_known.any():
            return False
        starts, lengths = self.starts[is_known], self.lengths[is_known]
        # AVI has no presentation times, so the last frame may not have the latest time.
        ends_at_s = float((starts + lengths).max())
        # FFmpeg can start the times of a second edit before the first one ends.
        lasts_s = max(ends_at_s - float(starts.min()), float(self.lengths.sum()))
        return self.header.promises_more(self.n_packets, max(ends_at_s, lasts_s))

    @property
    def n_frames(self) -> int:
        """Number of frames from the first that can be decoded, including those lost after it."""
        if not self.is_damaged:
            return self.n_read
        promised = self.header.frames - self.n_discarded if self.is_cut else self.n_announced
        return max(self.n_read, promised - self.n_leading)

    def places(self) -> NDArray[np.int64]:
        """Return the position of each frame in the video; without timestamps, among the frames that can be read."""
        counted = np.arange(self.n_read)
        places = np.searchsorted(self.packet_starts, self.starts) - self.n_leading
        if not self.is_damaged or np.isnan(self.starts).any() or not (np.diff(places) > 0).all():
            return counted
        return places if places[0] >= 0 and places[-1] < self.n_frames else counted

    @cached_property
    def clock(self) -> Clock:
        """When each frame is shown, relative to the first one."""
        return clock_of(self.starts, self.lengths, self.is_key, may_jump=self.may_jump)

    def notes(self) -> list[str]:
        """Return notes about frames that are missing without damage, and about the clock."""
        clock = [self.clock.note] if self.clock.note else []
        return [*clock, *self._leading_notes(), *self._lost_notes(), *self._error_notes()]

    def limit_notes(self) -> list[str]:
        """Return notes about the beginning and the end of what can be read."""
        return [*self._leading_notes(), *self._error_notes()]

    def _leading_notes(self) -> list[str]:
        if not self.counts_exactly or not self.n_leading:
            return []
        return [f"the first {self.n_leading} of {count(self.n_announced, 'frame')} cannot be decoded"]

    def _lost_notes(self) -> list[str]:
        lost = self.n_announced - self.n_read - self.n_leading
        if not self.counts_exactly or lost <= 0 or self.is_damaged:
            return []
        return [f"{lost} of {count(self.n_announced, 'frame')} cannot be decoded"]

    def _error_notes(self) -> list[str]:
        return [f"damaged: the file cannot be read to its end ({self.read_error})"] if self.read_error else []


@dataclass(frozen=True)
class FrameChoice:
    """The frames of a clip, as indices of decoded frames.

    Args:
        frames: int64 [K, T].
        usable: int64 [U], sorted: the frames to choose from.
        notes: for the clip's warning.
    """

    frames: NDArray[np.int64]
    usable: NDArray[np.int64]
    notes: Sequence[str] = ()


def choose(survey: Survey, request: Request, *, source: Source) -> FrameChoice:
    """Choose the frames of a clip from those that can be read.

    Raises:
        VideoError: kind `damaged`: fewer than half the frames of a clip can be read.
    """
    all_frames = np.arange(survey.n_read)
    if not survey.is_damaged:
        return FrameChoice(request.positions(survey.n_read), all_frames)
    asked, intact = request.config.frames, all_frames[survey.is_intact]
    if len(intact) >= asked:
        problem = f"{len(intact)} of {count(survey.n_frames, 'frame')} can be read; only those are used"
        return FrameChoice(intact[request.positions(len(intact))], intact, [f"damaged: {problem}"])
    if survey.n_read * 2 < asked or not survey.n_read:
        problem = f"{survey.n_read} of {count(survey.n_frames, 'frame')} can be read, {asked} are requested"
        raise VideoError(f"{source.id}: is damaged ({problem}); repair or replace the file", kind="damaged")
    if survey.n_read >= asked:
        frames = request.positions(survey.n_read)
        note = f"damaged: {len(intact)} of {count(survey.n_frames, 'frame')} are intact"
    else:
        frames = np.tile(all_frames, (request.config.clips, 1))  # each frame once, in every clip
        note = f"damaged: {count(asked, 'frame')} requested, {survey.n_read} read"
    read = np.unique(frames)
    concealed = int((~survey.is_intact[read]).sum())
    notes = [note, f"{concealed} of the {len(read)} frames read have concealed errors"] if concealed else [note]
    return FrameChoice(frames, all_frames, notes)
