"""Bins and their frames, compared with slow loops over exact fractions."""

import math
from fractions import Fraction
from itertools import pairwise

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from bike_cli.video.streams.bins import bin_count, bins_before, end_of_bin, frames_of_bins, rows_of

RATES = (0.5, 1, 2, 4, 7.3, 23.976, 29.97, 30, 60)
TICKS = (Fraction(1, 90_000), Fraction(1001, 30_000), Fraction(1, 1000), Fraction(1, 12_800))


def slow_frames(starts: list[Fraction], duration: Fraction, fps: float) -> list[int]:
    width = 1 / Fraction(str(fps))
    middles = []
    while (middle := (len(middles) + Fraction(1, 2)) * width) < duration:
        middles.append(middle)
    return [max(i for i, start in enumerate(starts) if start <= middle) for middle in middles or [duration / 2]]


@settings(deadline=None)
@given(
    steps=st.lists(st.integers(1, 4000), min_size=1, max_size=30),
    last=st.integers(1, 4000),
    tick=st.sampled_from(TICKS),
    fps=st.sampled_from(RATES),
)
def test_each_bin_has_the_frame_that_is_shown_at_its_middle(
    steps: list[int], last: int, tick: Fraction, fps: float
) -> None:
    starts = [sum(steps[:i], 0) * tick for i in range(len(steps))]
    duration = starts[-1] + last * tick
    expected = slow_frames(starts, duration, fps)

    found = frames_of_bins(np.array(starts, float), float(duration), fps)

    assert found.tolist() == expected
    assert bin_count(float(duration), fps) == len(expected)
    if duration * Fraction(str(fps)) > Fraction(1, 2):
        edges = bins_before(np.array([*starts, duration], float), fps).tolist()
        counted = [i for i, (first, end) in enumerate(pairwise(edges)) for _ in range(first, end)]
        assert counted == expected


@pytest.mark.parametrize("fps", RATES)
@pytest.mark.parametrize("tick", TICKS)
def test_a_frame_that_starts_at_the_middle_of_a_bin_fills_it_even_after_a_day(fps: float, tick: Fraction) -> None:
    width = 1 / Fraction(str(fps))
    for number in (0, 1, int(86_400 / width)):
        middle = (number + Fraction(1, 2)) * width
        ticks = -(-middle // tick)  # rounded up: the first time at which a frame can start

        before = bins_before(np.array([float(tick) * ticks]), fps)[0]

        assert before == math.ceil(ticks * tick / width - Fraction(1, 2))


@pytest.mark.parametrize(
    ("duration_s", "count", "last_end_s"), [(10, 20, 10), (10.2, 20, 10.2), (10.3, 21, 10.3), (0.04, 1, 0.04)]
)
def test_the_last_bin_ends_with_the_video(duration_s: float, count: int, last_end_s: float) -> None:
    assert bin_count(duration_s, 2) == count
    assert end_of_bin(count, fps=2, duration_s=duration_s) == last_end_s
    assert count == 1 or end_of_bin(count - 1, fps=2, duration_s=duration_s) == (count - 1) / 2


def test_the_middle_of_a_video_that_is_shorter_than_half_a_bin_is_that_of_the_video() -> None:
    assert frames_of_bins(np.arange(5) / 25, 0.2, 2).tolist() == [2]


@pytest.mark.parametrize(
    ("first", "end", "frames", "bins"),
    [
        (0, None, [0, 3, 7, 3], [[0, 2], [2, 3], [3, 6], [6, 7]]),
        (1, 5, [0, 3, 7], [[1, 2], [2, 3], [3, 5]]),
        (4, None, [7, 3], [[4, 6], [6, 7]]),
        (7, None, [], []),
        (9, 12, [], []),
    ],
)
def test_a_frame_that_fills_several_bins_is_one_row(
    first: int, end: int | None, frames: list[int], bins: list[list[int]]
) -> None:
    found_frames, found_bins = rows_of(np.array([0, 0, 3, 7, 7, 7, 3]), first, end)

    assert (found_frames.tolist(), found_bins.tolist()) == (frames, bins)
