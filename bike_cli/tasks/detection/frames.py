"""How much of the time of videos is labelled correctly, in steps of a tenth of a second."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from bike_cli.tasks.detection.segments import Floats, Ints, Segments

PER_SECOND = 10  # steps
MOST_SECONDS = 1e9  # of a video: later times count as this one
_ROUNDING = 1e-6  # of a step; 2.05 * 10 is 20.499999999999996


@dataclass(frozen=True, eq=False)
class FrameCounts:
    """Numbers of steps per video, float64 [V].

    A step is a tenth of a second; a segment covers those whose middle it contains. Steps after the end of a video do
    not count. Where segments of a label overlap, a step counts once.

    Args:
        true, detected, both: steps of each label that are truly covered, that are detected, and both; summed over
            labels.
        nothing_true, nothing_detected, nothing_both: steps without any label.
        steps: all steps.
    """

    true: Floats
    detected: Floats
    both: Floats
    nothing_true: Floats
    nothing_detected: Floats
    nothing_both: Floats
    steps: Floats


def count_frames(true: Segments, detected: Segments, durations: Floats) -> FrameCounts:
    """Return the counts of all V videos, whose lengths in seconds are `durations` [V]."""
    steps = steps_before(durations)
    labels = 1 + max(true.labels.max(initial=0), detected.labels.max(initial=0))
    keys = [some.videos * labels + some.labels for some in (true, detected)]
    groups, places = np.unique(np.concatenate(keys), return_inverse=True)
    videos_of_groups = groups // labels
    true_places, detected_places = np.split(places, [len(true)])
    sizes = steps[videos_of_groups]
    by_group = _covered_by_each(true, true_places, detected, detected_places, sizes)
    of_true, of_detected, of_both = (_summed(videos_of_groups, amounts, len(durations)) for amounts in by_group)
    any_true, any_detected, any_both = _covered_by_each(true, true.videos, detected, detected.videos, steps)
    either = any_true + any_detected - any_both
    return FrameCounts(
        of_true, of_detected, of_both, steps - any_true, steps - any_detected, steps - either, steps.astype(np.float64)
    )


def steps_before(times: Floats) -> Ints:
    """Return how many steps have their middle before each time in seconds."""
    return np.ceil(np.clip(times, 0, MOST_SECONDS) * PER_SECOND - 0.5 - _ROUNDING).astype(np.int64)


def _covered_by_each(
    true: Segments, true_groups: Ints, detected: Segments, detected_groups: Ints, sizes: Ints
) -> tuple[Floats, Floats, Floats]:
    """Return how many steps of each group the true segments cover, the detected ones, and both of them.

    Args:
        true_groups, detected_groups: the group of each segment.
        sizes: number of steps of each group.
    """
    of_true = _covered([true], true_groups, sizes)
    of_detected = _covered([detected], detected_groups, sizes)
    of_either = _covered([true, detected], np.concatenate([true_groups, detected_groups]), sizes)
    return of_true, of_detected, of_true + of_detected - of_either


def _covered(parts: list[Segments], groups: Ints, sizes: Ints) -> Floats:
    # All groups lie on one axis, with a gap between two, so that one sort finds the unions of all.
    offsets = np.cumsum(sizes + 1) - sizes
    limits = sizes[groups]
    first, last = (
        np.minimum(steps_before(np.concatenate(times)), limits) + offsets[groups]
        for times in ([part.starts for part in parts], [part.ends for part in parts])
    )
    order = np.argsort(first, kind="stable")
    first, last, groups = first[order], last[order], groups[order]
    reached = np.maximum.accumulate(np.append(-1, last))[:-1]  # by the segments before
    new = (last - np.maximum(first, reached)).clip(0)
    return _summed(groups, new, len(sizes))


def _summed(groups: Ints, amounts: Ints | Floats, number: int) -> Floats:
    return np.bincount(groups, amounts, minlength=number).astype(np.float64)


def is_label_free(true: Segments, videos: int) -> NDArray[np.bool_]:
    """Return which videos have no true segment: bool [V]."""
    return np.asarray(np.bincount(true.videos, minlength=videos) == 0)
