"""The line that ends a run, and the exit code."""

from collections import Counter

import pytest
from answers import failure, prediction

from bike_cli.cli.terminal.console import rate
from bike_cli.cli.videos.summary import Tally, summary
from bike_cli.errors import ExitCode

MANY = Tally(1200, Counter(timeout=1, damaged=2))


def test_the_summary_says_how_many_and_where_they_are() -> None:
    assert summary(MANY, seconds=41.2, output="a.csv") == (
        "1,203 videos: 1,200 ok, 3 failed (2 damaged, 1 timeout) in 41.2 s, 29.2/s; written to a.csv"
    )


@pytest.mark.parametrize(
    ("width", "line"),
    [
        (200, "1,203 videos: 1,200 ok, 3 failed (2 damaged, 1 timeout) in 12 min, 1.7/s; 5 existed before"),
        (80, "1,203 videos: 1,200 ok, 3 failed in 12 min, 1.7/s; 5 existed before"),
        (60, "1,203 videos: 1,200 ok, 3 failed in 12 min; 5 existed before"),
    ],
)
def test_a_summary_leaves_out_what_does_not_fit(width: int, line: str) -> None:
    assert summary(MANY, seconds=720.0, before=5, width=width) == line


def test_a_resumed_run_says_what_was_there() -> None:
    assert summary(Tally(1), seconds=2.0, before=1500) == "1 video: 1 ok in 2.0 s, 0.50/s; 1,500 existed before"


def test_no_video_has_no_rate() -> None:
    assert summary(Tally(), seconds=0.0) == "0 videos: 0 ok in 0.0 s"


@pytest.mark.parametrize(("per_s", "text"), [(1234.5, "1,234/s"), (29.19, "29.2/s"), (1, "1.0/s"), (0.123, "0.12/s")])
def test_a_rate_has_the_digits_that_say_something(per_s: float, text: str) -> None:
    assert rate(per_s) == text


@pytest.mark.parametrize(
    ("tally", "code"),
    [
        (Tally(3), ExitCode.DONE),
        (Tally(3, Counter(damaged=1)), ExitCode.SOME_FAILED),
        (Tally(0, Counter(damaged=1)), ExitCode.ALL_FAILED),
        (Tally(), ExitCode.ALL_FAILED),
        (Tally(1) + Tally(0, Counter(damaged=1)), ExitCode.SOME_FAILED),
    ],
)
def test_records_make_the_exit_code(tally: Tally, code: ExitCode) -> None:
    assert tally.exit_code() == code


def test_records_are_counted_by_kind() -> None:
    tally = Tally()

    for record in (prediction(), failure(), failure()):
        tally.add(record)

    assert (tally.ok, tally.failed, tally.total) == (1, {"damaged": 2}, 3)
