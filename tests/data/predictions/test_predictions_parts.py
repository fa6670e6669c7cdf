"""Files of predictions that are parts of one."""

import json
from pathlib import Path

import numpy as np
import pytest
from numpy.testing import assert_array_equal

from bike_cli.data.labelled.eval_sets import EvalSet as Truth
from bike_cli.data.predictions.merge import merge_parts
from bike_cli.data.predictions.predictions import Predictions, match, read_predictions
from bike_cli.errors import UsageError
from bike_cli.records import Failure, Sample, Source

LABELS = ("run", "jump", "fly")


def answer(path: str, *scores: float, labels: tuple[str, ...] = LABELS, **more: object) -> str:
    top = [{"label": label, "score": score} for label, score in zip(labels, scores, strict=False)]
    return json.dumps({"path": path, "status": "ok", "top": top, "model": "tiny", "settings": "1", **more})


def failure(path: str, message: str = "gone") -> str:
    return json.dumps({"path": path, "status": "error", "error": {"type": "missing", "message": message}})


def parts(*texts: list[str]) -> list[Predictions]:
    """Return predictions of files a, b, ..., each of some records."""
    read = []
    for name, lines in zip("abcdef", texts, strict=False):
        Path(name).write_text("".join(f"{line}\n" for line in lines))
        read.append(read_predictions(name, is_part=True))
    return read


def rankings(predictions: Predictions) -> dict[str, list[tuple[str, float]]]:
    """Return the labels and scores of each video."""
    labels = [predictions.labels[place] for place in predictions.places.tolist()]
    pairs = list(zip(labels, predictions.scores.tolist(), strict=True))
    return {v: pairs[predictions.starts[i] : predictions.starts[i + 1]] for i, v in enumerate(predictions.videos)}


@pytest.fixture(autouse=True)
def _here(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)


def test_parts_are_as_one_file_of_all_their_lines() -> None:
    lines = [
        answer("1", 0.5, 0.25, labels=("jump", "run")),
        failure("2"),
        answer("3", 0.5, 0.25, 0.125, labels=("fly", "run", "jump")),
        answer("4", 1.0, labels=("hop",)),
    ]
    whole = parts(lines)[0]

    one = merge_parts(parts(lines[:1], [], lines[1:2], lines[2:]))

    assert rankings(one) == rankings(whole)
    assert (one.videos, one.labels, one.failures) == (whole.videos, whole.labels, whole.failures)
    for name in ("starts", "places", "scores", "cosines"):
        assert_array_equal(getattr(one, name), getattr(whole, name), strict=True)
    assert_array_equal(one.lines, [1, 1, 2])
    assert (one.models, one.settings) == (("tiny",), ("1",))


def test_parts_that_were_dealt_out_have_the_answers_of_the_whole() -> None:
    rng = np.random.default_rng(0)
    lines = [answer(str(i), *np.round(rng.dirichlet(np.ones(3)), 6).tolist()) for i in range(20)]

    one = merge_parts(parts(*(lines[i::6] for i in range(6))))

    assert rankings(one) == rankings(parts(lines)[0])


def test_what_failed_in_one_part_and_has_an_answer_in_another_is_answered() -> None:
    one = merge_parts(parts([failure("1"), answer("2", 1.0)], [answer("1", 0.5), failure("2"), failure("3")]))

    assert rankings(one) == {"2": [("run", 1.0)], "1": [("run", 0.5)]}
    assert one.failures == (Failure(Source.at("3"), "missing", "gone"),)


def test_of_two_failures_of_a_video_the_first_is_reported() -> None:
    one = merge_parts(parts([answer("1", 1.0), failure("2", "first")], [failure("2", "second")]))

    assert one.failures == (Failure(Source.at("2"), "missing", "first"),)


def test_a_part_of_failures_alone_is_counted() -> None:
    one = merge_parts(parts([failure("1")], [answer("2", 1.0)], [failure("3")]))

    assert rankings(one) == {"2": [("run", 1.0)]}
    assert [failed.source.id for failed in one.failures] == ["1", "3"]


def test_the_same_answer_in_two_parts_is_used_once_with_a_warning(caplog: pytest.LogCaptureFixture) -> None:
    first = [answer("1", 0.5, 0.25), answer("2", 1.0)]
    second = [answer("3", 1.0, labels=("fly",)), answer("2", 1.0), answer("1", 0.5, 0.25)]

    one = merge_parts(parts(first, second))

    assert one.videos == ("1", "2", "3")
    assert_array_equal(one.starts, [0, 2, 3, 4])
    assert rankings(one) == {"1": [("run", 0.5), ("jump", 0.25)], "2": [("run", 1.0)], "3": [("fly", 1.0)]}
    assert caplog.messages == ["b:2: 2 videos with an identical answer in another part, used once"]


@pytest.mark.parametrize(
    "other",
    [
        answer("1", 0.5, 0.125),
        answer("1", 0.5, 0.25, labels=("run", "fly")),
        answer("1", 0.5),
    ],
)
def test_another_answer_in_another_part_is_refused_with_both_places(other: str) -> None:
    with pytest.raises(UsageError, match=r"^b:2: 1 has another answer at a:1; keep one"):
        merge_parts(parts([answer("1", 0.5, 0.25)], [answer("2", 1.0), other]))


def test_parts_of_nothing_are_empty() -> None:
    with pytest.raises(UsageError, match=r"^a: is empty, like all other parts; give the output of bike classify -o"):
        merge_parts(parts([], []))
    with pytest.raises(ValueError, match="parts is empty"):
        merge_parts([])


def test_other_models_are_reported_once(caplog: pytest.LogCaptureFixture) -> None:
    one = merge_parts(parts([], [answer("1", 1.0)], [answer("2", 1.0, model="big")], [answer("3", 1.0, model="huge")]))

    assert one.models == ("tiny", "big", "huge")
    assert caplog.messages == ["c: has predictions of model big, b of tiny; are they parts of one run?"]


def test_other_settings_are_reported_once(caplog: pytest.LogCaptureFixture) -> None:
    one = merge_parts(parts([answer("1", 1.0)], [answer("2", 1.0)], *([answer(v, 1.0, settings="2")] for v in "34")))

    assert one.settings == ("1", "2")
    assert caplog.messages == ["c: has other labels or settings than a; are they parts of one run?"]


def test_parts_that_do_not_say_what_made_them_are_no_strangers(caplog: pytest.LogCaptureFixture) -> None:
    merge_parts(parts([answer("1", 1.0)], [answer("2", 1.0, model=None, settings=None)]))

    assert caplog.messages == []


def test_a_label_of_a_part_is_refused_by_the_line_of_its_file() -> None:
    one = merge_parts(parts([answer("1", 1.0)], [answer("2", 1.0), answer("3", 1.0, labels=("hop",))]))
    samples = tuple(Sample(Source.at(video), 0) for video in "123")

    with pytest.raises(UsageError, match=r"^b:2: label 'hop' is not one of the 3"):
        match(one, Truth(LABELS, LABELS, samples))
