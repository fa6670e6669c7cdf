"""What is done with a file of which only a part can be read: arithmetic on a survey, no decoder.

A frame is whole where the decoder neither failed on it nor had to guess a part of it. Frames are taken from the whole
ones if there are enough for a clip; else from these and the partly guessed ones; else, down to half a clip, each frame
that there is is read once. The clip's warning says which it was.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from functools import cached_property

import numpy as np
from numpy.typing import NDArray

from bike_cli.errors import VideoError
from bike_cli.records import Source
from bike_cli.video.containers.clocks import Clock, clock_of
from bike_cli.video.readers.footage import Request
from bike_cli.video.readers.video_file import Header


@dataclass(frozen=True)
class Losses:
    """What was lost in decoding a file.

    Args:
        n_announced: frames that the file's packets announce.
        is_exact: whether each of these should come out; False for codecs whose packets are not understood.
        n_before_first: packets that the decoder took before the first frame came out.
        errors: packets that could not be decoded after the first frame came out.
        read_error: why the container could not be read to its end.
    """

    n_announced: int
    is_exact: bool = True
    n_before_first: int = 0
    errors: int = 0
    read_error: str | None = None


@dataclass(frozen=True)
class Survey:
    """What one decoding of a whole file met: M frames, in the order in which they came out.

    Args:
        starts, lengths: float64 [M], seconds; `starts` is NaN without a clock, `lengths` 0 where not known.
        is_whole, is_key: bool [M].
        packet_starts: float64 [P], sorted, of the packets with a time that announce a frame.
        n_packets: packets in the file, those that are not shown included.
        n_discarded: frames among those announced by the header that a player does not show.
        may_jump: whether the format allows jumps of its clock.
    """

    starts: NDArray[np.float64]
    lengths: NDArray[np.float64]
    is_whole: NDArray[np.bool_]
    is_key: NDArray[np.bool_]
    packet_starts: NDArray[np.float64]
    n_packets: int
    n_discarded: int
    losses: Losses
    header: Header
    may_jump: bool = field(default=False)

    @property
    def n_read(self) -> int:
        """Frames that came out."""
        return len(self.starts)

    @cached_property
    def n_leading(self) -> int:
        """Frames at the beginning that cannot be decoded, as where a recording begins between two keyframes."""
        lost = max(0, self.losses.n_announced - self.n_read)
        if not self.n_read:
            return 0
        if np.isnan(self.starts[0]) or not len(self.packet_starts):
            return min(lost, self.losses.n_before_first)
        return min(lost, int(np.searchsorted(self.packet_starts, self.starts[0])))

    @cached_property
    def is_damaged(self) -> bool:
        """Whether frames were lost or guessed after the first one."""
        n_after = self.losses.n_announced - self.n_leading
        if not self.n_read:
            return n_after > 0
        return (self.losses.errors > 0 and self.n_read < n_after) or not self.is_whole.all() or self._is_cut()

    @property
    def n_frames(self) -> int:
        """Frames of the video from the first that can be decoded, with those that are lost after it."""
        if not self.is_damaged:
            return self.n_read
        promised = self.header.frames - self.n_discarded if self._is_cut() else self.losses.n_announced
        return max(self.n_read, promised - self.n_leading)

    def places(self) -> NDArray[np.int64]:
        """Return where in the video each frame read is shown; without a clock, where among those that can be read."""
        counted = np.arange(self.n_read)
        places = np.searchsorted(self.packet_starts, self.starts) - self.n_leading
        if not self.is_damaged or np.isnan(self.starts).any() or not (np.diff(places) > 0).all():
            return counted
        return places if places[0] >= 0 and places[-1] < self.n_frames else counted

    @cached_property
    def clock(self) -> Clock:
        """When each frame is shown, counted from the first one."""
        return clock_of(self.starts, self.lengths, self.is_key, may_jump=self.may_jump)

    def notes(self) -> list[str]:
        """Return what is to be said of frames that are missing without damage, and of the clock."""
        announced, leading = self.losses.n_announced, self.n_leading
        lost = announced - self.n_read - leading
        notes = [self.clock.note] if self.clock.note else []
        if self.losses.is_exact and leading:
            notes.append(f"the first {leading} of {announced} frames cannot be decoded")
        if self.losses.is_exact and lost > 0 and not self.is_damaged:
            notes.append(f"{lost} of {announced} frames cannot be decoded")
        if self.losses.read_error:
            notes.append(f"damaged: the file cannot be read to its end ({self.losses.read_error})")
        return notes

    def _is_cut(self) -> bool:
        is_known = ~np.isnan(self.starts)
        if not is_known.any():
            return False
        starts, lengths = self.starts[is_known], self.lengths[is_known]
        # AVI has no presentation times, so the last frame may not have the latest.
        ends_at_s = float((starts + lengths).max())
        # Where edits follow one another, FFmpeg can let the times of the second begin before the first ends.
        lasts_s = max(ends_at_s - float(starts.min()), float(self.lengths.sum()))
        return self.header.promises_more(self.n_packets, max(ends_at_s, lasts_s))


@dataclass(frozen=True)
class Choice:
    """Which of the frames that can be read make the clip.

    Args:
        frames: int64 [K, T], among all frames read.
        usable: int64 [U], sorted, the frames that were to choose from.
        notes: what the clip's warning says of it.
    """

    frames: NDArray[np.int64]
    usable: NDArray[np.int64]
    notes: Sequence[str] = ()


def choose(survey: Survey, request: Request, *, source: Source) -> Choice:
    """Choose the frames of a clip from those that can be read.

    Raises:
        VideoError: kind `damaged`; fewer than half a clip can be read.
    """
    every = np.arange(survey.n_read)
    if not survey.is_damaged:
        return Choice(request.positions(survey.n_read), every)
    asked, whole = request.config.frames, every[survey.is_whole]
    if len(whole) >= asked:
        fact = f"{len(whole)} of {survey.n_frames} frames can be read; the frames are taken from those"
        return Choice(whole[request.positions(len(whole))], whole, [f"damaged: {fact}"])
    if survey.n_read * 2 < asked or not survey.n_read:
        fact = f"{survey.n_read} of {survey.n_frames} frames can be read, {asked} are asked for"
        raise VideoError(f"{source.id}: is damaged inside ({fact}); repair or replace the file", kind="damaged")
    if survey.n_read >= asked:
        frames = request.positions(survey.n_read)
        note = f"damaged: {len(whole)} of {survey.n_frames} frames are whole"
    else:
        frames = np.tile(every, (request.config.clips, 1))  # each frame once, in every clip
        note = f"damaged: asked {asked} frames, read {survey.n_read}"
    return Choice(frames, every, [note, *_guessed(survey, frames)])


def _guessed(survey: Survey, frames: NDArray[np.int64]) -> list[str]:
    read = np.unique(frames)
    guessed = int((~survey.is_whole[read]).sum())
    return [f"{guessed} of the {len(read)} frames read are partly guessed"] if guessed else []
