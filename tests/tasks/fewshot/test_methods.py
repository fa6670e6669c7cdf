"""The options that choose methods and numbers of shots."""

from __future__ import annotations

import pytest

from bike_cli.errors import UsageError
from bike_cli.tasks.fewshot.methods import parse_methods, parse_shots


@pytest.mark.parametrize(
    ("text", "shots"), [("2", (2,)), ("1,2,4", (1, 2, 4)), (" 4, 1 ,2,1", (1, 2, 4)), ("16,08", (8, 16))]
)
def test_numbers_of_shots_are_sorted_and_each_once(text: str, shots: tuple[int, ...]) -> None:
    assert parse_shots(text) == shots


@pytest.mark.parametrize("text", ["", "0", "-1", "1,,2", "1,", "two", "1.5", "1;2", "1 2", "²", "1e1", "+1"])
def test_invalid_numbers_of_shots_are_refused(text: str) -> None:
    with pytest.raises(UsageError, match="give whole numbers above 0, such as 1,2,4") as refused:
        parse_shots(text)
    assert str(refused.value).startswith(f"shots is {text!r}; ")


@pytest.mark.parametrize(
    ("text", "methods"),
    [
        ("probe", ("zeroshot", "probe")),
        ("zeroshot", ("zeroshot",)),
        ("tip, proto ,tip", ("zeroshot", "tip", "proto")),
        ("probe,zeroshot", ("zeroshot", "probe")),
        ("all", ("zeroshot", "proto", "tip", "probe")),
    ],
)
def test_the_baseline_comes_first_asked_for_or_not(text: str, methods: tuple[str, ...]) -> None:
    assert parse_methods(text) == methods


@pytest.mark.parametrize(("text", "unknown"), [("", ""), ("Probe", "Probe"), ("probe,", ""), ("all,knn", "all")])
def test_an_unknown_method_is_refused(text: str, unknown: str) -> None:
    with pytest.raises(UsageError, match=f"^unknown method '{unknown}'; choose zeroshot, proto, tip, probe"):
        parse_methods(text)
