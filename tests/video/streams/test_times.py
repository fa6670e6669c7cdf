"""Frames that were lost between others: by an error, or silently."""

from types import SimpleNamespace

import numpy as np
import pytest

from bike_cli.video.readers.damage import Survey
from bike_cli.video.readers.video_file import Header
from bike_cli.video.streams.times import LostTimes, ShownFrames, shown_frames


def survey(starts: list[float], *, errors: int = 0, intact: bool = True) -> Survey:
    """Return the survey of frames of 1 s."""
    return Survey(
        starts=np.array(starts, float),
        lengths=np.ones(len(starts)),
        is_intact=np.full(len(starts), intact),
        is_key=np.arange(len(starts)) == 0,
        packet_starts=np.array([]),
        n_packets=len(starts) + errors,
        n_announced=len(starts) + errors,
        header=Header("mpegts", "h264", "yuv420p", 0, None),
        errors=errors,
    )


def found(pictures: list[int], *, announced: list[int], failed: list[int] = ()) -> list[int | None]:  # type: ignore[assignment]
    """Return the first lost time after each picture but the last, as it is found while a file is decoded."""
    lost = LostTimes()
    for pts in announced:
        lost.announce(pts)
    for pts in failed:
        lost.fail(pts)
    frames = [SimpleNamespace(pts=pts, duration=10) for pts in pictures]
    return [lost.first_between(frame, following) for frame, following in zip(frames, pictures[1:], strict=False)]  # type: ignore[arg-type]


def shown(starts: list[float], *, announced: list[float], failed: list[float] = (), errors: int = 0) -> ShownFrames:  # type: ignore[assignment]
    return shown_frames(survey(starts, errors=errors), np.array(announced, float), np.array(failed, float), fps=None)


CASES = {
    "nothing is lost": ([0, 10, 20], [0, 10, 20], [], [None, None]),
    "one is lost without an error": ([0, 20], [0, 10, 20], [], [10]),
    "several are lost": ([0, 40, 50], [0, 10, 20, 30, 40, 50], [], [10, None]),
    "one could not be decoded": ([0, 20], [0, 10, 20], [10], [10]),
    "one could not be decoded in a codec that is not inspected": ([0, 20], [], [10], [10]),
    "one failed, but has a picture": ([0, 10, 20], [0, 10, 20], [10], [None, None]),
    "leading frames do not count": ([20, 30], [0, 10, 20, 30], [0], [None]),
    "pictures have other times than packets": ([0, 11, 21], [0, 10, 20], [], [None, None]),
    "a packet is a moment after its picture": ([0, 20], [0, 1, 20], [], [None]),
    "times of packets are shifted": ([5, 15, 25], [0, 10, 20], [], [None, None]),
}


@pytest.mark.parametrize("name", CASES)
def test_lost_times_are_found_while_a_file_is_decoded_and_afterwards(name: str) -> None:
    pictures, announced, failed, expected = CASES[name]

    assert found(pictures, announced=announced, failed=failed) == expected

    frames = shown([p / 10 for p in pictures], announced=[a / 10 for a in announced], failed=[f / 10 for f in failed])
    first_lost = [
        round(float(frames.starts_s[i + 1]) * 10) + pictures[0] if frames.indices[i + 1] < 0 else None
        for i in np.flatnonzero(frames.indices >= 0)[:-1]
    ]
    assert first_lost == expected
    assert (np.diff(frames.starts_s) > 0).all()


def test_gaps_of_a_damaged_file_with_a_corrected_clock_are_not_filled() -> None:
    # The clock restarts at the third frame.
    frames = shown_frames(
        Survey(**{**vars(survey([7, 8, 0, 1, 5, 6], errors=3)), "is_key": np.array([1, 0, 1, 0, 0, 0], bool)}),
        np.array([]),
        np.array([]),
        fps=None,
    )

    assert frames.indices.tolist() == [0, 1, 2, 3, -1, 4, 5]
    assert frames.starts_s.tolist() == [0, 1, 2, 3, 4.5, 7, 8]
    assert frames.end_s == 9


def test_frames_without_any_time_follow_one_another() -> None:
    frames = shown_frames(survey([np.nan] * 3), np.array([]), np.array([]), fps=25)

    assert (frames.starts_s.tolist(), frames.end_s, frames.has_clock) == ([0, 1, 2], 3, False)
    assert frames.notes == ("the file has no timestamps: times assume 1 frames per second",)
