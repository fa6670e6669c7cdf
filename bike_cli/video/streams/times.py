"""When the frames of a file are shown, while it is decoded and afterwards."""

from __future__ import annotations

import heapq
from dataclasses import dataclass

import av
import numpy as np
from numpy.typing import NDArray

from bike_cli.video.readers.damage import Survey
from bike_cli.video.readers.packets import NO_PTS, PacketList

_JUMP_S = 10.0  # a longer step in a format whose times may jump is one; see `clock_of`
_DEFAULT_FPS = 25.0  # of files that say nothing about their rate, as in FFmpeg
_ROUNDING_S = 1e-6
_JITTER = 0.5  # lengths of a frame; a packet whose time is nearer to that of a picture is the picture's
_MAX_GAP = 1.5  # lengths of a frame, or typical steps, after which a frame is lost


class RisingClock:
    """Times of pictures in the order in which they are decoded, from 0, as long as they rise.

    Without any timestamps, each picture starts where the one before ends, if their durations are known.

    Args:
        tick_s: the time base.
        may_jump: whether timestamps of the format may jump.
    """

    def __init__(self, tick_s: float, *, may_jump: bool) -> None:
        self._tick_s, self._may_jump = tick_s, may_jump
        self._first: int | None = None
        self._before: int | None = None
        self._end = 0  # of the pictures so far, without timestamps
        self._is_counted: bool | None = None

    def start_of(self, picture: av.VideoFrame) -> float | None:
        """Return when a picture is shown; None if that is only certain after the last picture."""
        if self._is_counted is None:
            self._is_counted = picture.pts is None
        pts = picture.pts
        if self._is_counted:
            if pts is not None or not picture.duration:
                return None
            pts, self._end = self._end, self._end + picture.duration
        if pts is None or (self._before is not None and not self._follows(pts, self._before)):
            return None
        self._first = pts if self._first is None else self._first
        self._before = pts
        return (pts - self._first) * self._tick_s

    def _follows(self, pts: int, before: int) -> bool:
        return pts > before and not (self._may_jump and (pts - before) * self._tick_s > _JUMP_S)


class LostTimes:
    """Times of frames without a picture, while a file is decoded.

    Decoders may give pictures other times than those of their packets. So a time at which no packet failed is only lost
    if there are more packets than pictures as well.
    """

    def __init__(self) -> None:
        self._announced: list[int] = []  # heaps of times that are not before those of the current picture
        self._failed: list[int] = []
        self._surplus = 0  # of packets over pictures and lost frames, since the first picture

    def announce(self, pts: int) -> None:
        """Add the time of a packet that contains a frame."""
        heapq.heappush(self._announced, pts)

    def fail(self, pts: int) -> None:
        """Add the time of a packet that could not be decoded."""
        heapq.heappush(self._failed, pts)

    def first_between(self, picture: av.VideoFrame, next_pts: int) -> int | None:
        """Return the first lost time between those of a picture and of the next one; forget all before the next."""
        assert picture.pts is not None
        jitter = _JITTER * (picture.duration or 0)
        announced, failed = _taken_before(self._announced, next_pts), _taken_before(self._failed, next_pts)
        self._surplus += sum(pts >= picture.pts for pts in announced) - 1
        lost = {pts for pts in failed if picture.pts + jitter < pts < next_pts - jitter}
        self._surplus -= len(lost & announced)
        silent = sorted(pts for pts in announced - failed if picture.pts + jitter < pts < next_pts - jitter)
        silent = silent[: max(0, self._surplus)]
        self._surplus -= len(silent)
        return min([*lost, *silent], default=None)


def _taken_before(heap: list[int], end: int) -> set[int]:
    taken = set()
    while heap and heap[0] < end:
        taken.add(heapq.heappop(heap))
    return taken


def announced_times(packets: PacketList, *, container: str) -> NDArray[np.int64]:
    """Return the times of packets that contain a frame, int64 [P], sorted; none if headers do not say which do."""
    if not tells_frame_times(container) or not packets.counts_exactly:
        return np.array([], np.int64)
    return np.unique(packets.pts[(packets.frames > 0) & ~packets.is_discarded & (packets.pts != NO_PTS)])


def tells_frame_times(container: str) -> bool:
    """Return whether the time of a packet is that of its frame: AVI only numbers packets."""
    return container != "avi"


@dataclass(frozen=True)
class ShownFrames:
    """The frames of a file that was decoded to its end, and the lost ones between them: M in all.

    Args:
        starts_s: float64 [M], not decreasing, from 0.
        indices: int64 [M], among the decoded pictures; -1 where a frame was lost.
        end_s: end of the last frame.
        has_clock: whether the file has usable timestamps.
        notes: what the times assume.
    """

    starts_s: NDArray[np.float64]
    indices: NDArray[np.int64]
    end_s: float
    has_clock: bool = True
    notes: tuple[str, ...] = ()


def shown_frames(
    survey: Survey, announced_s: NDArray[np.float64], failed_s: NDArray[np.float64], *, fps: float | None
) -> ShownFrames:
    """Return when the frames of a file are shown; at least one was decoded.

    Args:
        announced_s, failed_s: float64 [P], sorted, on the file's own clock: times of packets that contain a frame, and
            of those that could not be decoded.
        fps: rate according to the header.
    """
    clock, indices = survey.clock, np.arange(survey.n_read)
    if clock.duration_s is None:
        return _assumed_frames(survey, fps=fps)
    starts_s, ordered_s = clock.starts_s, np.sort(survey.starts)
    if np.allclose(starts_s, ordered_s - ordered_s[0], rtol=0, atol=_ROUNDING_S):
        announced_s, failed_s = announced_s - ordered_s[0], failed_s - ordered_s[0]
        lost = _lost_times(announced_s, failed_s, starts_s, survey.lengths)
    elif survey.is_damaged:
        lost = _gaps(starts_s, survey.lengths)
    else:
        lost = np.array([], np.float64)
    places = np.searchsorted(starts_s, lost)
    return ShownFrames(np.insert(starts_s, places, lost), np.insert(indices, places, -1), clock.duration_s)


def _lost_times(
    announced_s: NDArray[np.float64],
    failed_s: NDArray[np.float64],
    starts_s: NDArray[np.float64],
    lengths_s: NDArray[np.float64],
) -> NDArray[np.float64]:
    """Return the lost times between those of pictures, sorted; see `LostTimes`."""

    if len(starts_s) < 2:
        return np.array([], np.float64)

    def without_picture(times_s: NDArray[np.float64]) -> NDArray[np.float64]:
        times_s = times_s[(times_s >= -_ROUNDING_S) & (times_s <= starts_s[-1] + _ROUNDING_S)]
        after = np.clip(np.searchsorted(starts_s, times_s), 1, len(starts_s) - 1)
        nearest_s = np.minimum(times_s - starts_s[after - 1], starts_s[after] - times_s)
        return times_s[nearest_s > np.maximum(_JITTER * lengths_s[after - 1], _ROUNDING_S)]

    lost = without_picture(failed_s)
    since_first = announced_s[(announced_s >= -_ROUNDING_S) & (announced_s <= starts_s[-1] + _ROUNDING_S)]
    surplus = len(since_first) - len(starts_s) - len(np.intersect1d(lost, since_first))
    silent = np.setdiff1d(without_picture(announced_s), failed_s)[: max(0, surplus)]
    return np.union1d(lost, silent)


def _gaps(starts_s: NDArray[np.float64], lengths_s: NDArray[np.float64]) -> NDArray[np.float64]:
    """Return where gaps between frames begin, in a damaged file whose packets do not say which frames were lost."""
    steps = np.diff(starts_s)
    longest = _MAX_GAP * np.maximum(lengths_s[:-1], np.median(steps))
    is_gap = steps > longest
    return (starts_s[:-1] + longest)[is_gap]


def _assumed_frames(survey: Survey, *, fps: float | None) -> ShownFrames:
    """Return frames one after another, for the length that the file says, or at its rate."""
    lengths = survey.lengths
    if not (lengths > 0).all():
        lengths = np.full(survey.n_read, 1 / (fps or _DEFAULT_FPS))
    ends_s = np.cumsum(lengths)
    note = f"{survey.clock.problem}: times assume {1 / float(np.median(lengths)):.4g} frames per second"
    starts_s = np.append(0.0, ends_s[:-1])
    return ShownFrames(starts_s, np.arange(survey.n_read), float(ends_s[-1]), has_clock=False, notes=(note,))
