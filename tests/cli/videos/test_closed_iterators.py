"""A consumer that stops early ends the generators that it reads, also if something else still refers to them."""

import io
from collections.abc import Callable, Iterable, Iterator
from contextlib import ExitStack
from types import GeneratorType
from typing import Any

import pytest
from rich.console import Console

from bike_cli.cli.classify import command as classify_command
from bike_cli.cli.spot import command as spot_command
from bike_cli.cli.spot.request import SpotRequest
from bike_cli.cli.videos.existing import ExistingRecords
from bike_cli.cli.videos.progress import print_progress, show_progress
from bike_cli.config import SpotConfig
from bike_cli.records import Failure, Source

Wrapper = Callable[[Iterator[Failure]], Iterable[Any]]
WRAPPERS: dict[str, Wrapper] = {
    "classify": lambda found: classify_command._checked(found, ExistingRecords()),
    "spot": lambda found: spot_command._with_outputs(found, SpotConfig(), SpotRequest(), ExitStack()),
    "lines of progress": print_progress,
    "bar": lambda found: show_progress(found, console=Console(file=io.StringIO())),
}


def failures() -> Iterator[Failure]:
    for i in range(3):
        yield Failure(Source.at(f"{i}.mp4"), "missing", f"{i}.mp4: no such file")


@pytest.mark.parametrize("name", WRAPPERS)
def test_what_stops_early_closes_what_it_reads(name: str) -> None:
    found = failures()
    wrapper = WRAPPERS[name](found)
    assert isinstance(wrapper, GeneratorType)

    next(wrapper)
    wrapper.close()

    assert next(found, None) is None


@pytest.mark.parametrize("name", WRAPPERS)
def test_lists_are_read_as_they_are(name: str) -> None:
    expected = list(failures())

    assert list(WRAPPERS[name](iter(expected))) == expected
