"""Batches, actors that die, and answers in order: with actors of Ray whose work is simple."""

import itertools
import os
import threading
import time
import uuid
from collections.abc import Callable, Iterable, Iterator, Sequence
from pathlib import Path

import pytest

from bike_cli.errors import BikeError, ModelError, UsageError, WorkerError
from bike_cli.records import Failure, Source
from bike_cli.tasks.cluster import dispatch
from bike_cli.tasks.cluster.actor import BatchAnswer
from bike_cli.tasks.cluster.blame import BLAMED_IN_A_ROW
from bike_cli.tasks.cluster.dispatch import AHEAD, AT_ONCE, STARTS, Dispatcher
from bike_cli.tasks.cluster.places import StartedActor

pytestmark = [pytest.mark.slow, pytest.mark.usefixtures("local_cluster")]
SIZE = 4
Run = Callable[..., Iterator[Failure]]


class NamedActor:
    """Does with each source what its name says, and notes its deaths as files in a folder."""

    def __init__(self, folder: str, dies: str = "", machine: str = "", deaths: int = 0) -> None:
        self.folder, self.dies, self.machine, self.deaths = Path(folder), dies, machine, deaths

    def start(self) -> BikeError | str:
        if self.dies == "at start":
            self.die()
        while len(list(self.folder.iterdir())) < self.deaths:
            time.sleep(0.1)
        if self.machine == "good":
            (self.folder / "good").touch()
        return self.machine

    def answer(self, sources: Sequence[Source]) -> BatchAnswer[Failure]:
        answers: list[Failure] = []
        if self.dies == "at work":
            self.die(note=sources[0].id)
        for source in sources:
            if "kills" in source.id:
                self.die()
            if "slow" in source.id:
                time.sleep(2 if "very" in source.id else 0.5)
            if "bug" in source.id:
                raise KeyError("an error that nobody foresaw")
            if "other model" in source.id:
                return BatchAnswer(tuple(answers), ModelError("model: is another one"))
            answer = Failure(source, "missing", "as it should be")
            answers += [answer] * (0 if "forgotten" in source.id else 2 if "twice" in source.id else 1)
        return BatchAnswer(tuple(answers))

    def die(self, note: str = "") -> None:
        (self.folder / uuid.uuid4().hex).write_text(note)
        os.kill(os.getpid(), 9)


@pytest.fixture
def run(tmp_path: Path) -> Run:
    import ray

    def answers_of(
        sources: Iterable[Source],
        *,
        actors: int = 1,
        size: int = SIZE,
        describe: Callable[[int], dict[str, object]] = lambda number: {},
        begin: Callable[[], object] = lambda: None,
    ) -> Iterator[Failure]:
        """Yield the answers of actors that are made with what `describe` returns for 0, 1, 2 …"""
        created = itertools.count()

        def create() -> StartedActor:
            actor = ray.remote(NamedActor).options(num_cpus=0.1, max_concurrency=2)
            handle = actor.remote(str(tmp_path), **describe(next(created)))
            return StartedActor(handle, handle.start.remote())

        return iter(Dispatcher(create, sources, actors=actors, batch=size, begin=begin))

    return answers_of


def sources(names: Iterable[object]) -> Iterator[Source]:
    return (Source.at(str(name)) for name in names)


def kinds(answers: Iterable[object]) -> list[tuple[str, str]]:
    return [(answer.source.id, answer.kind) for answer in answers if isinstance(answer, Failure)]


def missing(names: Iterable[object]) -> list[tuple[str, str]]:
    return [(str(name), "missing") for name in names]


def test_answers_are_in_the_order_of_the_sources(run: Run) -> None:
    names = ["slow", *range(40), "slow too"]

    assert kinds(run(sources(names), actors=2)) == missing(names)


def test_no_source_is_no_answer(run: Run) -> None:
    assert list(run([])) == []


def test_a_source_is_answered_before_the_next_one_arrives(run: Run) -> None:
    is_answered = threading.Event()

    def arriving() -> Iterator[Source]:
        yield Source.at("first")
        assert is_answered.wait(60)
        yield Source.at("second")

    answers = run(arriving())
    first = next(answers)
    is_answered.set()

    assert kinds([first, *answers]) == missing(["first", "second"])


def test_sources_without_end_are_read_in_a_bounded_number(run: Run, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(dispatch, "WINDOW", 40)
    taken = 0

    def endless() -> Iterator[Source]:
        nonlocal taken
        for taken in itertools.count(1):
            yield Source.at("very slow" if taken == 1 else str(taken))

    answers = run(endless(), actors=2)
    first = list(itertools.islice(answers, 10))
    answers.close()  # type: ignore[attr-defined]

    assert len(first) == 10
    assert taken <= AHEAD + 40 + 2 * AT_ONCE * SIZE + 10


def test_an_error_of_the_sources_comes_after_the_answers_before_it(run: Run) -> None:
    def failing() -> Iterator[Source]:
        yield from sources(range(6))
        raise OSError("the list ends")

    answers = run(failing())

    assert kinds(itertools.islice(answers, 6)) == missing(range(6))
    with pytest.raises(OSError, match="the list ends"):
        next(answers)


def test_an_error_that_an_actor_reports_comes_after_the_answers_before_it(run: Run) -> None:
    answers = run(sources([*range(6), "other model", "never"]))

    assert kinds(itertools.islice(answers, 6)) == missing(range(6))
    with pytest.raises(ModelError, match="is another one"):
        next(answers)


@pytest.mark.parametrize("place", [0, 9, 19])
def test_a_video_that_kills_its_actor_is_found_within_four_deaths(run: Run, tmp_path: Path, place: int) -> None:
    names: list[object] = list(range(20))
    names[place] = "kills"

    answers = kinds(run(sources(names), actors=2))

    assert answers == [(name, "crashed" if name == "kills" else "missing") for name in map(str, names)]
    assert len(list(tmp_path.iterdir())) <= 4


def test_two_videos_of_a_batch_may_kill_their_actor(run: Run, tmp_path: Path) -> None:
    names = ["kills", 1, "kills too", 3, 4, 5, 6, 7]

    answers = dict(kinds(run(sources(names))))

    assert [name for name, kind in answers.items() if kind == "crashed"] == ["kills", "kills too"]
    assert len(answers) == len(names)
    assert len(list(tmp_path.iterdir())) == 6


def test_an_error_that_is_none_of_bikes_is_an_internal_failure(run: Run) -> None:
    answers = list(run(sources([1, 2, "bug", 4, 5, 6])))

    failed = [answer for answer in answers if isinstance(answer, Failure) and answer.kind == "internal"]
    assert [answer.source.id for answer in failed] == ["bug"]
    assert "KeyError: 'an error that nobody foresaw'" in failed[0].message
    assert len(answers) == 6


def test_actors_that_die_at_their_start_end_the_run(run: Run, tmp_path: Path) -> None:
    with pytest.raises(WorkerError, match="end before they are ready"):
        list(run(sources(range(8)), describe=lambda _: {"dies": "at start"}))

    assert len(list(tmp_path.iterdir())) == STARTS


def test_a_place_where_no_actor_starts_does_not_end_the_run(run: Run, tmp_path: Path) -> None:
    def describe(number: int) -> dict[str, object]:
        return {"deaths": STARTS} if number == 1 else {"dies": "at start"}

    assert kinds(run(sources(range(8)), actors=2, describe=describe)) == missing(range(8))
    assert len(list(tmp_path.iterdir())) == STARTS


@pytest.mark.parametrize(("size", "most"), [(1, 2), (SIZE, BLAMED_IN_A_ROW)])
def test_actors_that_die_of_all_work_end_the_run(
    run: Run, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, size: int, most: int
) -> None:
    monkeypatch.setattr(dispatch, "BLAMED_IN_A_ROW", most)

    answers = run(sources(range(20)), size=size, describe=lambda _: {"dies": "at work"})

    with pytest.raises(WorkerError, match=r"answered none in between.*lack memory.*use a smaller model"):
        next(answers)  # no video is blamed
    assert len(list(tmp_path.iterdir())) <= (4 * most if size == 1 else 2 + 2 * most) + 2


def test_no_batch_returns_to_a_machine_that_is_broken(run: Run, tmp_path: Path) -> None:
    def describe(number: int) -> dict[str, object]:
        # The broken actors are ready after the good one.
        return {"machine": "good"} if number == 2 else {"machine": "broken", "dies": "at work", "deaths": 1}

    names = [f"slow {i}" for i in range(16)]

    assert kinds(run(sources(names), actors=3, describe=describe)) == missing(names)
    died_of = sorted(note.read_text() for note in tmp_path.iterdir() if note.name != "good")
    assert died_of
    assert died_of == sorted(set(died_of))


def test_a_video_without_an_answer_is_an_internal_failure(run: Run) -> None:
    names = [1, "forgotten", 3, 4, "twice", 6, 7, "forgotten twice", 9]

    answers = list(run(sources(names)))

    assert [(answer.source.id, answer.kind) for answer in answers] == [
        (str(name), "internal" if "forgotten" in str(name) else "missing") for name in names
    ]
    assert "an actor returned 3 answers for 4 videos, or for other ones" in answers[1].message


def test_the_output_begins_when_an_actor_is_ready(run: Run, tmp_path: Path) -> None:
    begun = []
    answers = run(sources(["slow"]), actors=2, begin=lambda: begun.append("begun"))

    assert kinds(answers) == missing(["slow"])
    assert begun == ["begun"]
    with pytest.raises(WorkerError, match="end before they are ready"):
        list(run(sources([1]), describe=lambda _: {"dies": "at start"}, begin=lambda: begun.append("too early")))
    assert begun == ["begun"]
    assert list(run([], begin=lambda: begun.append("empty"))) == []
    assert begun == ["begun", "empty"]


def test_an_error_at_the_begin_of_the_output_ends_the_run(run: Run) -> None:
    def refuse() -> None:
        raise UsageError("answers/: has other answers")

    with pytest.raises(UsageError, match="has other answers"):
        list(run(sources(range(4)), begin=refuse))


def test_no_video_is_blamed_for_idle_actors_that_are_lost(tmp_path: Path) -> None:
    import ray

    handles = []

    def create() -> StartedActor:
        handle = ray.remote(NamedActor).options(num_cpus=0.1, max_concurrency=2).remote(str(tmp_path))
        handles.append(handle)
        return StartedActor(handle, handle.start.remote())

    def sources() -> Iterator[Source]:
        while len(handles) < 5:
            time.sleep(0.05)
        ray.get([handle.__ray_ready__.remote() for handle in handles])
        time.sleep(1)  # until the dispatcher knows that they are ready
        for handle in list(handles):
            ray.kill(handle)
        yield Source.at("a")
        yield Source.at("b")

    answers = list(Dispatcher(create, sources(), actors=5, batch=1))

    assert [(answer.source.id, answer.kind) for answer in answers] == [("a", "missing"), ("b", "missing")]
