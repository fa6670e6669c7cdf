"""Compute when each frame is shown, from timestamps that may restart, jump, run backwards or have gaps."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

_JUMP_S = 10.0  # where a format allows jumps, a longer step is one; FFmpeg's threshold
_MAX_REORDERED = 16  # frames by which a time can be out of place without a restart of the clock
_MAX_REPEATED = 0.1  # largest share of repeated times that are replaced by a time between the neighbours'
_ROUNDING_S = 0.001  # a step back of at most this size is a rounding error
_MIN_DELAY_S, _DEFAULT_DELAY_S = 0.02, 0.1  # of a GIF, in all browsers, and in FFmpeg before version 6


@dataclass(frozen=True)
class Clock:
    """When M frames are shown.

    Args:
        starts_s: float64 [M], starting at 0, never decreasing; equal where the file's clock is too coarse; all NaN if
            unknown.
        duration_s: end of the last frame; None if unknown.
        ends_at_s: the same on the file's own clock; None if that is unknown or was corrected.
        problem: why the times are unknown.
    """

    starts_s: NDArray[np.float64]
    duration_s: float | None
    ends_at_s: float | None = None
    problem: str | None = None

    @property
    def note(self) -> str | None:
        """The problem and what follows from it, for the warning of a clip."""
        return None if self.problem is None else f"{self.problem}: times and duration are unknown"


def clock_of(
    starts: NDArray[np.float64], lengths: NDArray[np.float64], is_key: NDArray[np.bool_], *, may_jump: bool
) -> Clock:
    """Return when frames are shown, given in presentation order.

    Args:
        starts, lengths: float64 [M], seconds; starts are NaN and lengths 0 if unknown.
        is_key: bool [M]; only at a keyframe can a clock restart.
        may_jump: whether the format allows jumps (MPEG-TS and MPEG-PS); elsewhere a long step is a long frame.
    """
    known = ~np.isnan(starts)
    if not known.any():
        problem = "the file has no timestamps" if len(starts) else None
        return Clock(np.full(len(starts), np.nan), None, problem=problem)
    rising = _rising(starts, lengths, is_key, may_jump=may_jump)
    if rising is None:
        return Clock(np.full(len(starts), np.nan), None, problem="the file's timestamps run backwards")
    last_s = float(lengths[-1]) or (float(rising[-1] - rising[-2]) if len(rising) > 1 else 0.0)
    duration_s = float(rising[-1] - rising[0]) + max(last_s, 0.0)
    is_untouched = bool(known[-1]) and bool(np.isclose(rising[-1] - rising[0], starts[-1] - starts[0]))
    return Clock(rising - rising[0], duration_s, float(starts[-1]) + last_s if is_untouched else None)


def _rising(
    starts: NDArray[np.float64], lengths: NDArray[np.float64], is_key: NDArray[np.bool_], *, may_jump: bool
) -> NDArray[np.float64] | None:
    if not may_jump and (np.diff(starts) > 0).all():  # False where any is NaN
        return starts
    filled = _filled(starts, lengths)
    if filled is None:
        return None
    steps = np.diff(filled)
    is_jump = np.abs(steps) > _JUMP_S if may_jump else np.zeros(len(steps), bool)
    if (steps > 0).all() and not is_jump.any():
        return filled
    # A clock can restart at the time where it stopped. One that often repeats a time is just too coarse.
    is_repeat = steps == 0
    is_step_back = (steps < -_ROUNDING_S) | (is_repeat & (is_repeat.mean() <= _MAX_REPEATED))
    is_restart = is_jump | (is_step_back & is_key[1:])
    is_disorder = bool(((steps <= 0) & ~is_restart).any()) and not is_jump.any()
    if is_disorder and (reordered := _reordered(filled, lengths)) is not None:
        return reordered
    restarts = np.flatnonzero(is_restart) + 1
    return _joined(np.split(filled, restarts), np.split(lengths, restarts))


def _filled(starts: NDArray[np.float64], lengths: NDArray[np.float64]) -> NDArray[np.float64] | None:
    """Interpolate the times of frames without one; None if fewer than two times are known."""
    known = np.flatnonzero(~np.isnan(starts))
    if len(known) == len(starts):
        return starts
    if len(known) < 2:
        return None
    step_s = _step(starts, lengths)
    places = np.arange(len(starts))
    filled = np.interp(places, known, starts[known])
    filled += step_s * (np.minimum(places - known[0], 0) + np.maximum(places - known[-1], 0))
    return filled


def _step(starts: NDArray[np.float64], lengths: NDArray[np.float64]) -> float:
    """Return the typical time from one frame to the next."""
    steps = np.diff(starts)
    steps = steps[steps > 0]  # False for NaN
    return float(np.median(steps if len(steps) else lengths))


def _reordered(starts: NDArray[np.float64], lengths: NDArray[np.float64]) -> NDArray[np.float64] | None:
    """Return the sorted times if frames were only slightly out of order; otherwise None."""
    order = np.argsort(starts, kind="stable")
    if len(order) and np.abs(order - np.arange(len(order))).max() > _MAX_REORDERED:
        return None
    ascending = starts[order]
    repeated = np.append(False, np.diff(ascending) <= 0)
    if repeated.sum() > max(1.0, _MAX_REPEATED * len(starts)):
        return ascending if ascending[-1] > ascending[0] else None
    filled = _filled(np.where(repeated, np.nan, ascending), lengths) if repeated.any() else ascending
    return None if filled is None or not (np.diff(filled) > 0).all() else filled


def _joined(parts: list[NDArray[np.float64]], lengths: list[NDArray[np.float64]]) -> NDArray[np.float64] | None:
    """Join parts with separate clocks so that they follow one another without a gap."""
    joined: list[NDArray[np.float64]] = []
    start = float(parts[0][0])
    for part, part_lengths in zip(parts, lengths, strict=True):
        ordered = part if (np.diff(part) > 0).all() else _reordered(part, part_lengths)
        if ordered is None:
            return None
        joined.append(ordered - ordered[0] + start)
        length = float(part_lengths[-1]) or _step(np.concatenate(parts), np.concatenate(lengths))
        start = float(joined[-1][-1]) + length
    rising = np.concatenate(joined)
    return rising if (np.diff(rising) >= 0).all() else None


def browser_times(
    starts: NDArray[np.float64], lengths: NDArray[np.float64]
) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """Return when, and for how long, browsers show the frames of a GIF, in seconds.

    Browsers show a frame with a delay of less than 0.02 s for 0.1 s, because early players could not go faster.

    Args:
        starts, lengths: float64 [M], as written in the file.
    """
    is_short = lengths < _MIN_DELAY_S - 1e-9
    if np.isnan(starts).any() or not is_short.any():
        return starts, lengths
    lengths = np.where(is_short, _DEFAULT_DELAY_S, lengths)
    return starts[0] + np.append(0.0, np.cumsum(lengths[:-1])), lengths
