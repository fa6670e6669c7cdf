"""Searches that run at the same time, and yield in order."""

import threading
import time
from collections.abc import Iterator
from functools import partial

import pytest

from bike_cli.data.remote.ahead import MOST_WAITING, search_ahead
from bike_cli.errors import InputError


def counted(first: int, n: int, running: set[int], most: list[int]) -> Iterator[int]:
    running.add(first)
    most.append(len(running))
    for i in range(n):
        time.sleep(0.002 * ((first + i) % 3))
        yield first + i
    running.discard(first)


@pytest.mark.parametrize("at_once", [1, 3])
def test_finds_are_in_the_order_of_the_searches(at_once: int) -> None:
    sizes, running, most = [5, 0, 7, 1, 0, 0, 20, 3], set(), []
    starts = [100 * i for i in range(len(sizes))]

    found = list(
        search_ahead(
            (partial(counted, start, n, running, most) for start, n in zip(starts, sizes, strict=True)), at_once=at_once
        )
    )

    assert found == [start + i for start, n in zip(starts, sizes, strict=True) for i in range(n)]
    assert max(most) <= at_once + 1  # one that has just ended may still be counted


def test_searches_wait_for_each_other_only_when_their_turn_comes() -> None:
    barrier = threading.Barrier(3, timeout=10)

    def meet(name: str) -> Iterator[str]:
        barrier.wait()  # broken, if not all three run at the same time
        yield name

    assert "".join(search_ahead([partial(meet, name) for name in "abc"], at_once=3)) == "abc"


def test_an_error_comes_after_what_was_found_before_it() -> None:
    def failing() -> Iterator[int]:
        yield 1
        raise InputError("a.tar: is damaged; copy it again", kind="damaged")

    found = search_ahead([failing, lambda: iter([2])], at_once=2)

    assert next(found) == 1
    with pytest.raises(InputError, match="is damaged"):
        next(found)


def test_closing_ends_all_threads_and_few_finds_wait() -> None:
    found_by: list[int] = []

    def endless() -> Iterator[int]:
        while True:
            found_by.append(1)
            yield 1

    before = threading.active_count()
    found = search_ahead([endless] * 4, at_once=4)
    next(found)
    time.sleep(0.2)
    n_found = len(found_by)
    found.close()  # type: ignore[attr-defined]

    assert n_found <= 4 * (MOST_WAITING + 2)
    end_s = time.monotonic() + 5
    while threading.active_count() > before and time.monotonic() < end_s:
        time.sleep(0.02)
    assert threading.active_count() <= before
