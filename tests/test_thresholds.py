"""The thresholds of tIoU: ranges, lists and what is refused."""

import numpy as np
import pytest

from bike_cli.config.thresholds import ACTIVITYNET, THUMOS14, Thresholds
from bike_cli.errors import ConfigError


@pytest.mark.parametrize(("text", "start", "end", "number"), [(ACTIVITYNET, 0.5, 0.95, 10), (THUMOS14, 0.3, 0.7, 5)])
def test_ranges_have_the_values_of_the_official_code(text: str, start: float, end: float, number: int) -> None:
    thresholds = Thresholds.parse(text)

    assert list(thresholds.values.values()) == np.linspace(start, end, number).tolist()
    assert thresholds.means == {f"{start}:{end}": tuple(thresholds.values)}


def test_both_ranges_are_the_default() -> None:
    thresholds = Thresholds.parse("auto")

    means = thresholds.means
    assert means["0.5:0.95"] == ("0.5", "0.55", "0.6", "0.65", "0.7", "0.75", "0.8", "0.85", "0.9", "0.95")
    assert means["0.3:0.7"] == ("0.3", "0.4", "0.5", "0.6", "0.7")
    assert list(means) == ["0.5:0.95", "0.3:0.7"]
    assert set(thresholds.values) == {*means["0.5:0.95"], *means["0.3:0.7"]}
    assert list(thresholds.values.values()) == sorted(thresholds.values.values())


def test_a_list_has_a_mean_and_one_threshold_has_none() -> None:
    assert Thresholds.parse("0.75, 0.5") == Thresholds({"0.5": 0.5, "0.75": 0.75}, {"mean": ("0.75", "0.5")})
    assert Thresholds.parse("1") == Thresholds({"1": 1.0}, {})
    assert Thresholds.parse("0.5:0.5:0.1") == Thresholds({"0.5": 0.5}, {})


@pytest.mark.parametrize(
    ("text", "problem"),
    [
        ("", "'' is not a number"),
        ("half", "'half' is not a number; write numbers, such as 0.3,0.5, or START:END:STEP"),
        ("0.3:0.7", "tiou is '0.3:0.7'; write"),
        ("0.3:0.7:0.1:1", "write numbers"),
        ("0", "above 0 and at most 1, and 0 is not"),
        ("0.5,1.5", "and 1.5 is not"),
        ("nan", "and nan is not"),
        ("-0.5", "and -0.5 is not"),
        ("0.7:0.3:0.1", "its end not below its start"),
        ("0.3:0.7:0", "its step must be above 0"),
        ("0.3:nan:0.1", "its end not below its start"),
        ("0.3:0.7:0.15", "no whole number of steps"),
        ("0.1:0.9:0.0001", "more than 100 thresholds"),
        (",".join(["0.5"] * 101), "more than 100 thresholds"),
        ("0.5,0.50", "names 0.5 twice"),
    ],
)
def test_what_is_no_threshold_is_named(text: str, problem: str) -> None:
    with pytest.raises(ConfigError, match=problem):
        Thresholds.parse(text)
