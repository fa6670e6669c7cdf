"""Inputs become features: in order, a few at a time, and from the store if it has them."""

import os
import shutil
import threading
import time
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from films import drawn
from numpy.typing import NDArray

import bike_cli as bike
from bike_cli.config import AttributeConfig, ClassifyConfig, DecodingConfig, SamplingConfig, SpottingConfig, StoreConfig
from bike_cli.engine.engine import Engine
from bike_cli.inference import features
from bike_cli.records import Clip, Failure, Prediction, Source, Timings

LABELS = ["red square", "blue circle", "green cross"]
OTHERS = ["purple ring", "yellow star", "white heart", "red square"]


def config(folder: Path | None, **changes: object) -> ClassifyConfig:
    store = StoreConfig(cache=folder is not None, cache_dir=None if folder is None else str(folder))
    settings = ClassifyConfig(sampling=SamplingConfig(frames=4), decoding=DecodingConfig(workers=2), store=store)
    return replace(settings, **changes)  # type: ignore[arg-type]


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    return tmp_path / "store"


@pytest.fixture
def films(clips: Path, tmp_path: Path) -> list[str]:
    """Copies of three films, which a test may change."""
    return [str(shutil.copy2(film, tmp_path)) for film in sorted(clips.iterdir())]


def ask(
    engine: Engine, films: list[str], settings: ClassifyConfig, labels: list[str] = LABELS
) -> tuple[list[Prediction | Failure], int]:
    """Return the answers, and how many videos were decoded for them."""
    spent = Timings()
    answers = list(bike.classify(engine, films, labels, settings, spent=spent))
    return answers, spent.decoded


def numbers(answers: list[Prediction | Failure]) -> list[object]:
    """All that an answer says, as things that can be compared to the bit."""
    facts: list[object] = []
    for answer in answers:
        assert isinstance(answer, Prediction)
        positions = None if answer.positions is None else answer.positions.tolist()
        facts.append((answer.source, answer.ranked, answer.attributes, answer.times_s.tolist(), positions))
    return facts


# -- the store ----------------------------------------------------------------------------------------------------


def test_other_labels_decode_nothing_and_score_the_same(tiny: Engine, films: list[str], folder: Path) -> None:
    fresh, _ = ask(tiny, films, config(None), OTHERS)

    _, first = ask(tiny, films, config(folder), LABELS)
    answers, second = ask(tiny, films, config(folder), OTHERS)

    assert (first, second) == (3, 0)
    assert numbers(answers) == numbers(fresh)


@pytest.mark.parametrize(
    "change",
    [
        {"spotting": SpottingConfig(pool="mean")},
        {"spotting": SpottingConfig(spot="all", temperature=0.02)},
        {"template": "class"},
        {"attributes": AttributeConfig("scenes", attribute_weight=0.3)},
        {"top": 1, "explain": True},
    ],
    ids=str,
)
def test_no_option_of_scoring_decodes_again(
    tiny: Engine, films: list[str], folder: Path, change: dict[str, object]
) -> None:
    ask(tiny, films, config(folder))

    assert ask(tiny, films, config(folder, **change))[1] == 0


@pytest.mark.parametrize(
    "change",
    [
        {"sampling": SamplingConfig(frames=5)},
        {"sampling": SamplingConfig(frames=4, crops=3)},
        {"sampling": SamplingConfig(frames=4, clips=2)},
        {"decoding": DecodingConfig(decoder="av", workers=2)},
    ],
    ids=str,
)
def test_other_frames_are_decoded(tiny: Engine, films: list[str], folder: Path, change: dict[str, object]) -> None:
    ask(tiny, films, config(folder))

    assert ask(tiny, films, config(folder, **change))[1] == 3


def test_a_video_is_recognised_by_its_content(tiny: Engine, films: list[str], folder: Path, tmp_path: Path) -> None:
    before, _ = ask(tiny, films, config(folder))
    moved = [shutil.move(film, tmp_path / f"moved {i}.mp4") for i, film in enumerate(films)]

    answers, decoded = ask(tiny, [str(path) for path in moved], config(folder))

    assert decoded == 0
    assert [a.best for a in answers if isinstance(a, Prediction)] == [
        b.best for b in before if isinstance(b, Prediction)
    ]


def test_a_changed_file_is_a_new_video(tiny: Engine, films: list[str], folder: Path) -> None:
    ask(tiny, films, config(folder))
    shutil.copyfile(films[1], films[0])

    answers, decoded = ask(tiny, films, config(folder))

    assert decoded == 0  # its new content is known from another file
    assert isinstance(answers[0], Prediction)
    assert isinstance(answers[1], Prediction)
    assert answers[0].ranked == answers[1].ranked


def test_a_file_that_changes_while_it_is_read_is_not_kept(
    tiny: Engine, films: list[str], folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    decode = features.DecodePool.decode

    def changed_before_decoding(self: features.DecodePool, source: Source) -> object:
        shutil.copyfile(films[1], films[0])
        return decode(self, source)

    with monkeypatch.context() as patch:
        before = Path(films[0]).read_bytes()
        patch.setattr(features.DecodePool, "decode", changed_before_decoding)
        ask(tiny, films[:1], config(folder))
    Path(films[0]).write_bytes(before)

    assert ask(tiny, films[:1], config(folder))[1] == 1


def test_a_file_written_twice_in_one_moment_is_two_videos(tiny: Engine, films: list[str], folder: Path) -> None:
    first, second = (Path(film).read_bytes() for film in films[:2])
    length = max(len(first), len(second))
    answers = []
    for content in (first, second):
        Path(films[2]).write_bytes(content + bytes(length - len(content)))
        os.utime(films[2], ns=(0, time.time_ns() // 10**9 * 10**9))  # as a clock of whole seconds tells it
        answers += ask(tiny, films[2:], config(folder))[0]

    assert [answer.best.label for answer in answers if isinstance(answer, Prediction)] == ["blue circle", "green cross"]


def test_a_changed_frame_folder_is_a_new_video(tiny: Engine, folder: Path, tmp_path: Path) -> None:
    from PIL import Image

    frames = tmp_path / "frames"
    frames.mkdir()
    for i, frame in enumerate(drawn("red square")):
        Image.fromarray(frame).save(frames / f"{i}.png")

    ask(tiny, [str(frames)], config(folder))
    assert ask(tiny, [str(frames)], config(folder))[1] == 0
    Image.fromarray(drawn("blue circle")[0]).save(frames / "0.png")

    assert ask(tiny, [str(frames)], config(folder))[1] == 1


def test_failures_are_tried_again(tiny: Engine, folder: Path, tmp_path: Path, clips: Path) -> None:
    film = tmp_path / "film.mp4"
    film.write_bytes(b"no film at all")
    (first,), _ = ask(tiny, [str(film)], config(folder))
    shutil.copyfile(clips / "red_square.mp4", film)

    (second,), _ = ask(tiny, [str(film)], config(folder))

    assert isinstance(first, Failure)
    assert isinstance(second, Prediction)


def test_a_second_model_has_features_of_its_own(tiny: Engine, films: list[str], folder: Path) -> None:
    both = AttributeConfig("shapes", attribute_model="tiny")

    ask(tiny, films, config(folder))
    answers, _ = ask(tiny, films, config(folder, attributes=both))
    again, decoded = ask(tiny, films, config(folder, attributes=both))

    assert decoded == 0
    assert numbers(again) == numbers(answers)


# -- order and memory ---------------------------------------------------------------------------------------------


def test_every_kind_of_input_comes_back_in_its_place(tiny: Engine, films: list[str], tmp_path: Path) -> None:
    failure = Failure(Source.at("x"), "missing", "x: is gone")
    given = [
        films[0],
        drawn("red square"),
        failure,
        Source(Path(films[1]), "b"),
        str(tmp_path / "no.mp4"),
        films[2],
    ] * 5

    answers = list(bike.classify(tiny, given, LABELS, config(None)))

    named = [films[0], "array", "x", "b", str(tmp_path / "no.mp4"), films[2]] * 5
    assert [a.source.id.split(" ")[0] if "array" in a.source.id else a.source.id for a in answers] == named
    assert [isinstance(answer, Failure) for answer in answers] == [False, False, True, False, True, False] * 5


def test_answers_do_not_depend_on_the_other_videos(tiny: Engine, films: list[str]) -> None:
    alone = [ask(tiny, [film], config(None))[0][0] for film in films]

    together, _ = ask(tiny, films * 4, config(None))

    assert numbers(together) == numbers(alone) * 4


def test_errors_of_inputs_are_raised_after_earlier_answers(tiny: Engine, films: list[str]) -> None:
    def arriving() -> Iterator[str]:
        yield from films
        raise LookupError("the list broke off")

    answers = bike.classify(tiny, arriving(), LABELS, config(None))

    assert [next(answers).source.id for _ in films] == films
    with pytest.raises(LookupError, match="broke off"):
        next(answers)


def test_an_array_of_another_shape_is_an_error_in_its_place(tiny: Engine) -> None:
    answers = bike.classify(tiny, [drawn("red square"), np.zeros((3, 4), np.uint8)], LABELS, config(None))

    assert isinstance(next(answers), Prediction)
    with pytest.raises(ValueError, match="array 2: frames are uint8"):
        next(answers)


def test_no_inputs_give_no_answers(tiny: Engine) -> None:
    assert list(bike.classify(tiny, [], LABELS, config(None))) == []


def test_inputs_in_memory_are_taken_a_few_at_a_time(tiny: Engine) -> None:
    taken = 0

    def arriving() -> Iterator[NDArray[np.uint8]]:
        nonlocal taken
        for _ in range(200):
            taken += 1
            yield drawn("red square")

    answers = bike.classify(tiny, arriving(), LABELS, config(None))
    next(answers)
    time.sleep(0.3)  # the feeder would take all of them

    assert taken < 20
    answers.close()  # type: ignore[attr-defined]


def test_an_abandoned_run_ends_its_threads(tiny: Engine, films: list[str]) -> None:
    def for_ever() -> Iterator[str]:
        while True:
            yield from films

    before = threading.active_count()
    answers = bike.classify(tiny, for_ever(), LABELS, config(None))
    next(answers)

    answers.close()  # type: ignore[attr-defined]

    end_s = time.monotonic() + 5
    while threading.active_count() > before and time.monotonic() < end_s:
        time.sleep(0.05)
    assert threading.active_count() <= before


@pytest.mark.slow
def test_later_videos_are_processed_while_a_slow_one_is_waited_for(
    tiny: Engine, films: list[str], monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    # A named pipe is refused at once, so this delays the answer of a worker for one name.
    slow = str(shutil.copy(films[0], tmp_path / "slow.mp4"))
    gate = threading.Event()
    finish = features.Features._finish
    landed = []

    def counting(self: features.Features, job: object, outcome: object) -> None:
        landed.append(outcome)
        finish(self, job, outcome)  # type: ignore[arg-type]

    decode = features.DecodePool.decode

    def holding(self: features.DecodePool, source: Source) -> object:
        future = decode(self, source)
        if source.id != slow:
            return future
        held: features.Future[Clip | Failure] = features.Future()

        def release() -> None:
            gate.wait(timeout=30)
            held.set_result(future.result())

        threading.Thread(target=release, daemon=True).start()
        return held

    monkeypatch.setattr(features.Features, "_finish", counting)
    monkeypatch.setattr(features.DecodePool, "decode", holding)
    answers = bike.classify(tiny, [slow, *films * 8], LABELS, config(None))

    def open_late() -> None:
        end_s = time.monotonic() + 20
        while len(landed) < 24 and time.monotonic() < end_s:
            time.sleep(0.02)
        gate.set()

    threading.Thread(target=open_late, daemon=True).start()
    first = next(answers)

    assert first.source.id == slow
    assert len(landed) == 25  # all others had been encoded by then
    assert [answer.source.id for answer in answers] == films * 8


def test_the_spent_time_is_reported(tiny: Engine, films: list[str]) -> None:
    spent = Timings()

    list(bike.classify(tiny, films, LABELS, config(None), spent=spent))

    assert spent.decoded == 3
    assert min(spent.decode_s, spent.encode_s) > 0
    assert spent.wait_s >= 0


def test_relative_names_are_remembered_by_their_place(
    tiny: Engine, films: list[str], folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(Path(films[0]).parent)
    ask(tiny, [os.path.basename(films[0])], config(folder))  # noqa: PTH119

    assert ask(tiny, [films[0]], config(folder))[1] == 0
