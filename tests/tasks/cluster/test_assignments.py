"""Which actor gets what, without Ray: actors that only note what they are given."""

from collections.abc import Sequence
from typing import Any

import pytest

from bike_cli.records import Failure, Source
from bike_cli.tasks.cluster import dispatch
from bike_cli.tasks.cluster.actor import BatchAnswer
from bike_cli.tasks.cluster.batches import Batch
from bike_cli.tasks.cluster.dispatch import Dispatcher
from bike_cli.tasks.cluster.places import Place


class NotedCalls:
    """A handle of an actor; `answer.remote` returns what stands for the call."""

    def __init__(self) -> None:
        self.answer = self

    def remote(self, sources: Sequence[Source]) -> object:
        return object()


@pytest.fixture(autouse=True)
def _actors_are_alive(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(dispatch, "is_alive", lambda handle: True)


def dispatcher(*machines: str, arrived: int) -> Dispatcher[Any]:
    """Return a dispatcher with an actor on each of these machines, and sources that have arrived, one per batch."""
    made: Dispatcher[Any] = Dispatcher(lambda: pytest.fail("an actor was started"), [], actors=0, batch=1)
    made._places = [Place(NotedCalls(), is_ready=True, machine=machine) for machine in machines]
    for i in range(arrived):
        made._arrived.put(Source.at(str(i)))
    return made


def held(made: Dispatcher[Any]) -> list[int]:
    return [len(place.batches) for place in made._places]


def suspect_of(made: Dispatcher[Any], *places: int) -> Batch[Any]:
    """Return a batch of which actors in these places died."""
    batch: Batch[Any] = Batch([Source.at("suspect")], number=0)
    for i in places:
        batch.note_death(made._places[i].names, lambda source: Failure(source, "crashed", "dies"))
    made._suspects.append(batch)
    made._order.append(batch)
    return batch


def test_no_actor_gets_a_second_batch_while_another_has_none() -> None:
    made = dispatcher("a", "b", "c", arrived=4)

    made._assign()

    assert held(made) == [2, 1, 1]


def test_an_actor_that_becomes_ready_gets_the_next_batch() -> None:
    made = dispatcher("a", "b", arrived=1)
    made._assign()
    made._arrived.put(Source.at("late"))

    made._assign()

    assert held(made) == [1, 1]


@pytest.mark.parametrize(
    ("machines", "died_at", "expected"),
    [
        (("a", "a", "b"), (0,), 2),  # another machine
        (("a", "a", "a"), (0,), 1),  # another place
        (("a", "a"), (0, 1), 0),  # all are the same
        (("a",), (0,), 0),
    ],
)
def test_a_suspect_goes_where_no_actor_died_of_it(
    machines: tuple[str, ...], died_at: tuple[int, ...], expected: int
) -> None:
    made = dispatcher(*machines, arrived=0)
    suspect = suspect_of(made, *died_at)

    made._assign()

    assert [suspect in place.batches for place in made._places] == [i == expected for i in range(len(machines))]
    assert made._suspects == []


def test_a_suspect_waits_for_a_busy_actor_on_another_machine() -> None:
    made = dispatcher("a", "b", "b", arrived=0)
    for place in made._places[1:]:
        place.batches.append(Batch([Source.at("work")], number=1))
    suspect = suspect_of(made, 0)
    for i in range(9):
        made._arrived.put(Source.at(str(i)))

    made._assign()

    assert made._suspects == [suspect]
    assert held(made) == [2, 1, 2]  # one of them takes no more, so that it will be free; the others go on

    made._places[1].batches.clear()
    made._assign()

    assert made._places[1].batches == [suspect]
    assert held(made) == [2, 1, 2]  # a suspect is alone in its actor


def test_several_suspects_get_an_actor_each() -> None:
    made = dispatcher("a", "b", "c", arrived=9)
    suspects = [suspect_of(made, 0), suspect_of(made, 0)]

    made._assign()

    assert [place.batches for place in made._places[1:]] == [[suspects[0]], [suspects[1]]]
    assert held(made) == [2, 1, 1]


def test_a_suspect_waits_for_another_suspect_on_a_good_machine() -> None:
    made = dispatcher("broken", "good", arrived=0)
    suspects = [suspect_of(made, 0), suspect_of(made, 0)]

    made._assign()

    assert [place.batches for place in made._places] == [[], suspects[:1]]
    assert made._suspects == suspects[1:]


@pytest.mark.parametrize(
    ("answers", "size_bytes", "is_open"),
    [(0, 0, True), (9, 99, True), (10, 0, False), (1, 100, False)],
)
def test_answers_that_wait_are_bounded_in_number_and_bytes(
    monkeypatch: pytest.MonkeyPatch, answers: int, size_bytes: int, is_open: bool
) -> None:
    monkeypatch.setattr(dispatch, "WINDOW", 10)
    monkeypatch.setattr(dispatch, "WINDOW_BYTES", 100)
    made = dispatcher("a", arrived=5)
    sources = [Source.at(f"waits {i}") for i in range(answers + 1)]
    waiting: Batch[Any] = Batch(list(sources), number=0)
    found = tuple(Failure(source, "missing", "is missing") for source in sources[:answers])
    waiting.add(sources[:answers], BatchAnswer(found, size_bytes=size_bytes))
    made._order.append(waiting)

    made._assign()

    assert held(made) == [2 if is_open else 0]


def test_a_suspect_is_done_although_many_answers_wait_for_it(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(dispatch, "WINDOW", 0)
    made = dispatcher("a", arrived=5)
    suspect = suspect_of(made, 0)

    made._assign()

    assert made._places[0].batches == [suspect]
