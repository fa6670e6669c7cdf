"""Videos in object stores and tar files become the features of the same files on disk, a few at a time."""

import tarfile
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path

import pytest

pytest.importorskip("pyarrow")
pytest.importorskip("fsspec")

from object_stores import put_in_memory

import bike_cli as bike
from bike_cli.config import ClassifyConfig, DecodingConfig, SamplingConfig, SpotConfig, StoreConfig
from bike_cli.data.remote.inputs import find_videos
from bike_cli.data.search import Omissions
from bike_cli.engine.engine import Engine
from bike_cli.records import Failure, Prediction, Timeline
from bike_cli.scratch import scratch_folder

LABELS = ["red square", "blue circle", "green cross"]


def config(workers: int = 1) -> ClassifyConfig:
    return ClassifyConfig(
        sampling=SamplingConfig(frames=2), decoding=DecodingConfig(workers=workers), store=StoreConfig(cache=False)
    )


def fetched_files() -> set[str]:
    return {file.name for file in scratch_folder().glob("fetched-*")}


@contextmanager
def watching() -> Iterator[list[int]]:
    """Yield a list that gets the number of fetched files on the disk, again and again."""
    counts: list[int] = []
    is_over = threading.Event()

    def watch() -> None:
        while not is_over.wait(0.001):
            counts.append(len(fetched_files()))

    thread = threading.Thread(target=watch)
    thread.start()
    try:
        yield counts
    finally:
        is_over.set()
        thread.join()


def same_numbers(answers: list[Prediction | Failure], others: list[Prediction | Failure]) -> bool:
    def numbers(answer: Prediction | Failure) -> object:
        assert isinstance(answer, Prediction)
        return answer.ranked, answer.attributes, answer.times_s.tolist(), answer.duration_s, answer.model_digest

    return list(map(numbers, answers)) == list(map(numbers, others))


@pytest.mark.parametrize("workers", [1, 2])
def test_few_of_many_objects_are_on_the_disk(tiny: Engine, clips: Path, workers: int) -> None:
    films = sorted(clips.iterdir())
    put_in_memory({f"{i:02d}.mp4": films[i % 3].read_bytes() for i in range(40)})
    names = [f"counted://store/{i:02d}.mp4" for i in range(40)]
    local = [films[i % 3] for i in range(3)]

    with watching() as counts:
        answers = list(bike.classify(tiny, names, LABELS, config(workers)))

    assert [answer.source.id for answer in answers] == names
    assert same_numbers(answers[:3], list(bike.classify(tiny, local, LABELS, config(workers))))
    assert 1 <= max(counts) <= 4 * workers
    assert fetched_files() == set()


def test_bad_objects_hold_nothing_back(tiny: Engine, clips: Path) -> None:
    film = (clips / "red_square.mp4").read_bytes()
    put_in_memory(
        {"a.mp4": film, "text.mp4": b"no video\n" * 9, "cut.mp4": film[:200], "empty.mp4": b"", "z.mp4": film}
    )
    order = ["a", "none", "text", "cut", "empty", "z"]

    answers = list(bike.classify(tiny, [f"counted://store/{name}.mp4" for name in order], LABELS, config()))

    assert [answer.source.id for answer in answers] == [f"counted://store/{name}.mp4" for name in order]
    kinds = [answer.kind if isinstance(answer, Failure) else "ok" for answer in answers]
    assert kinds[:3] + kinds[5:] == ["ok", "missing", "not_video", "ok"]
    assert "ok" not in kinds[3:5]
    for answer in answers:
        if isinstance(answer, Failure):
            assert answer.message.startswith(f"{answer.source.id}: ")
            assert "fetched-" not in answer.message
    assert fetched_files() == set()


def test_a_caller_that_stops_early_leaves_no_file(tiny: Engine, clips: Path) -> None:
    put_in_memory({f"{i:02d}.mp4": (clips / "red_square.mp4").read_bytes() for i in range(20)})
    answers = bike.classify(tiny, [f"counted://store/{i:02d}.mp4" for i in range(20)], LABELS, config())

    next(answers)
    answers.close()  # type: ignore[attr-defined]

    assert fetched_files() == set()


def test_members_of_a_tar_file_answer_like_files(tiny: Engine, clips: Path, tmp_path: Path) -> None:
    films = sorted(clips.iterdir())
    with tarfile.open(tmp_path / "shard.tar", "w") as tar:
        for film in films:
            tar.add(film, film.name)
    sources = find_videos(str(tmp_path / "shard.tar"), Omissions())

    answers = list(bike.classify(tiny, sources, LABELS, config()))

    assert [answer.source.id for answer in answers] == [f"{tmp_path}/shard.tar/{film.name}" for film in films]
    assert same_numbers(answers, list(bike.classify(tiny, films, LABELS, config())))
    assert fetched_files() == set()


def test_remote_videos_are_not_cached(tiny: Engine, clips: Path, tmp_path: Path) -> None:
    put_in_memory({"a.mp4": (clips / "red_square.mp4").read_bytes()})
    cached = replace(config(), store=StoreConfig(cache=True, cache_dir=str(tmp_path)))
    (first,) = bike.classify(tiny, ["counted://store/a.mp4"], LABELS, cached)
    put_in_memory({"a.mp4": (clips / "blue_circle.mp4").read_bytes()})

    (second,) = bike.classify(tiny, ["counted://store/a.mp4"], LABELS, cached)

    assert isinstance(first, Prediction)
    assert isinstance(second, Prediction)
    assert (first.best.label, second.best.label) == ("red square", "blue circle")


@pytest.mark.parametrize("workers", [1, 3])
def test_long_videos_are_streamed_from_their_copies(tiny: Engine, clips: Path, workers: int) -> None:
    films = sorted(clips.iterdir())
    put_in_memory({film.name: film.read_bytes() for film in films})
    names = [f"counted://store/{film.name}" for film in films]
    settings = SpotConfig(decoding=DecodingConfig(workers=workers), store=StoreConfig(cache=False))

    with watching() as counts:
        found = list(bike.spot(tiny, [*names, "counted://store/none.mp4"], LABELS, settings))
    local = list(bike.spot(tiny, films, LABELS, settings))

    *timelines, failure = found
    for timeline, other, name in zip(timelines, local, names, strict=True):
        assert isinstance(timeline, Timeline)
        assert isinstance(other, Timeline)
        assert timeline.source.id == name
        assert (timeline.segments, timeline.edges_s.tolist()) == (other.segments, other.edges_s.tolist())
    assert isinstance(failure, Failure)
    assert failure.kind == "missing"
    assert 1 <= max(counts) <= workers
    assert fetched_files() == set()
