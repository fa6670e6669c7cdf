"""The line that ends a run, and the exit code."""

from collections import Counter

import pytest
from answers import failure, prediction

from bike_cli.cli.classify.summary import Tally, summary
from bike_cli.cli.terminal.console import rate
from bike_cli.errors import ExitCode
from bike_cli.records import Timings

MANY = Tally(1200, Counter(timeout=1, damaged=2))


def test_the_summary_says_how_many_and_where_the_time_went() -> None:
    spent = Timings(decode_s=78.1, encode_s=6.04, wait_s=31.5, decoded=1203)

    assert summary(MANY, seconds=41.2, spent=spent, workers=2) == (
        "1,203 videos: 1,200 ok, 3 failed (2 damaged, 1 timeout) in 41.2 s, 29.2/s"
        " · decode 78.1 s in 2 workers, encode 6.0 s, waited 31.5 s · 0 from the cache"
    )


def test_what_was_not_decoded_came_from_the_cache() -> None:
    spent = Timings(decode_s=1.0, encode_s=1.0, decoded=203)

    assert summary(MANY, seconds=1.0, spent=spent, workers=1).endswith(
        "in 1 worker, encode 1.0 s, waited 0.0 s · 1,000 from the cache"
    )


def test_time_that_nobody_measured_is_not_reported() -> None:
    assert summary(Tally(2), seconds=4.0, spent=Timings(), workers=2) == "2 videos: 2 ok in 4.0 s, 0.50/s"


def test_a_resumed_run_says_what_was_there() -> None:
    line = summary(Tally(1), seconds=2.0, spent=Timings(), workers=2, before=1500)

    assert line == "1 video: 1 ok in 2.0 s, 0.50/s · 1,500 existed before"


def test_no_video_has_no_rate() -> None:
    assert summary(Tally(), seconds=0.0, spent=Timings(), workers=2) == "0 videos: 0 ok in 0.0 s"


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
