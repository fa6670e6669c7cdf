"""What is done with a file of which only a part can be read: arithmetic on a survey, no decoder.

A frame is whole where the decoder neither failed on it nor had to guess a part of it. Frames are taken from the whole
ones if there are enough for a clip; else from these and the partly guessed ones; else, down to half a clip, each frame
that there is is read once. The clip's warning says which it was.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from bike_cli.errors import VideoError
from bike_cli.records import Source
from bike_cli.video.footage import Request
from bike_cli.video.video_file import Header


@dataclass(frozen=True)
class Survey:
    """What one decoding of a whole file met: M frames, in the order in which they came out.

    Args:
        starts, lengths: float64 [M], seconds; `starts` is NaN without a clock, `lengths` 0 where not known.
        is_whole, is_key: bool [M].
        packet_starts: float64 [P], sorted, of the packets with a time; frames that failed have their packets.
        packets, discarded: packets in the file, and those among them that a player does not show.
        errors: packets that could not be read or decoded.
    """

    starts: NDArray[np.float64]
    lengths: NDArray[np.float64]
    is_whole: NDArray[np.bool_]
    is_key: NDArray[np.bool_]
    packet_starts: NDArray[np.float64]
    packets: int
    discarded: int
    errors: int
    header: Header

    @property
    def n_read(self) -> int:
        """Frames that came out."""
        return len(self.starts)

    @property
    def is_damaged(self) -> bool:
        """Whether anything was lost on the way."""
        return self.errors > 0 or not self.is_whole.all() or self._is_cut()

    @property
    def n_frames(self) -> int:
        """Frames of the video, those that are lost too where the file still tells of them."""
        if not self.is_damaged:
            return self.n_read
        promised = self.header.frames if self._is_cut() else self.packets
        return max(self.n_read, promised - self.discarded)

    def places(self) -> NDArray[np.int64]:
        """Return where in the video each frame read is shown; without a clock, where among those that can be read."""
        counted = np.arange(self.n_read)
        places = np.searchsorted(self.packet_starts, self.starts)
        if not self.is_damaged or np.isnan(self.starts).any() or not (np.diff(places) > 0).all():
            return counted
        return places if places[-1] < self.n_frames else counted

    def starts_s(self) -> NDArray[np.float64]:
        """Return when each frame is shown, counted from the first one of the video."""
        lost_first = self.is_damaged and len(self.packet_starts) > 0
        first_s = min(self.packet_starts[0], self.starts[0]) if lost_first else self.starts[0]
        starts_s: NDArray[np.float64] = self.starts - first_s
        return starts_s

    def duration_s(self) -> float | None:
        """Return when the last frame that can be read ends; None without a clock."""
        starts_s, length_s = self.starts_s(), self.lengths[-1]
        if not length_s and len(starts_s) > 1:
            length_s = starts_s[-1] - starts_s[-2]
        end_s = float(starts_s[-1] + length_s)
        return None if np.isnan(end_s) else end_s

    def _is_cut(self) -> bool:
        if not self.n_read:
            return False
        ends = self.starts + self.lengths
        return bool(self.header.promises_more(self.packets, float(ends[-1] - self.starts[0])))


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
