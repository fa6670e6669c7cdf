"""Predictions made before: what a file of `bike classify -o` holds, and how it meets the truth."""

import json
import math
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import pytest
from numpy.testing import assert_array_equal
from numpy.typing import NDArray

from bike_cli.cli.classify.writers import Format, make_writer
from bike_cli.data.labelled.eval_sets import EvalSet as Truth
from bike_cli.data.predictions.files import DataFile, format_of
from bike_cli.data.predictions.named_logits import NamedLogits
from bike_cli.data.predictions.predictions import MatchedPredictions, Predictions, match, read_predictions
from bike_cli.errors import UsageError
from bike_cli.records import Failure, FrameTimes, Prediction, Ranked, Sample, Source

TOP = (Ranked("run", 0.7, 0.25), Ranked("jump", 0.3, 0.125))


def prediction(path: str, *ranked: Ranked) -> Prediction:
    return Prediction(
        Source.at(path), ranked or TOP, (), None, FrameTimes(np.zeros(0), duration_s=1.5), frames=8, model="tiny"
    )


def failure(path: str) -> Failure:
    return Failure(Source.at(path), "missing", f"{path}: no such file;\tcheck the path")


def write(name: str, records: Sequence[Prediction | Failure], *, top: int = 2) -> str:
    """Write a file as `bike classify -o` does."""
    form: Format = Path(name).suffix.removeprefix(".")  # type: ignore[assignment]
    with Path(name).open("w", encoding="utf-8", newline="\n") as file:
        writer = make_writer(file, form, top=top, names=None, settings="0a1b2c3d")
        for record in records:
            writer.write(record)
        writer.close()
    return name


def line(path: str = "a.mp4", *top: tuple[str, object, object], **more: object) -> str:
    """Return a record whose last fields may override the others."""
    result = [
        {"label": label, "score": score, "cosine": cosine} for label, score, cosine in top or (("run", 1.0, 0.5),)
    ]
    return json.dumps({"path": path, "status": "ok", "top": result, "model": "tiny", **more})


def write_text(name: str, text: str) -> str:
    Path(name).write_text(text, encoding="utf-8", newline="")
    return name


def refused(path: str, message: str) -> None:
    with pytest.raises(UsageError, match=message):
        read_predictions(path)


@pytest.fixture(autouse=True)
def _here(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)


def ranking(predictions: Predictions, i: int) -> list[Ranked]:
    """Return the labels of video `i`, best first."""
    span = slice(predictions.starts[i], predictions.starts[i + 1])
    labels = [predictions.labels[place] for place in predictions.places[span].tolist()]
    cosines = [round(cosine, 6) for cosine in predictions.cosines[span].tolist()]
    return [Ranked(*values) for values in zip(labels, predictions.scores[span].tolist(), cosines, strict=True)]


# -- what is read ---------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("name", ["x.jsonl", "x.json", "x.csv", "x.tsv"])
def test_every_form_that_is_written_is_read(name: str) -> None:
    odd = 'in\\a\tb, "c"\n.mp4'
    last = (Ranked("jump", 0.9, -0.5), Ranked("run", 0.1, 0.0))
    write(name, [prediction(odd), failure("gone.mp4"), prediction("ü.mp4", *last)])

    predictions = read_predictions(name)

    assert predictions.videos == (odd, "ü.mp4")
    assert predictions.labels == ("run", "jump")
    assert ranking(predictions, 0) == list(TOP)
    assert ranking(predictions, 1) == list(last)
    assert predictions.failures == (failure("gone.mp4"),)
    assert predictions.models == ("tiny",)


@pytest.mark.parametrize(
    ("head", "format_"),
    [
        (b'{"path": "a"}\n', "jsonl"),
        (b'\xef\xbb\xbf{"path": "a"}\n', "jsonl"),
        (b"\0\0", "jsonl"),
        (b"[\n]\n", "json"),
        (b" \n[{", "json"),
        (b'{\n  "path": "a"', "json"),
        (b"path,status\n", "csv"),
        (b"path\tstatus\n", "tsv"),
        (b"path,status\na\tb,ok\n", "csv"),
        (b"\xef\xbb\xbf\n ", None),
        (b"", None),
    ],
)
def test_the_first_bytes_decide_the_format(head: bytes, format_: str | None) -> None:
    assert format_of(head) == format_


@pytest.mark.parametrize("name", ["x.jsonl", "x.json", "x.csv", "x.tsv"])
def test_scores_have_six_digits_of_what_is_there_or_missing(name: str) -> None:
    scores = [1.0, 1 - 1.23456789e-7, 0.9876543219, 0.0123456789, 1.23456789e-7, 9.87654321e-30, 1e-45, 0.0]
    ranked = [Ranked(f"label {i}", score, 0.0) for i, score in enumerate(scores)]

    predictions = read_predictions(write(name, [prediction("a.mp4", *ranked)], top=8))

    assert predictions.scores.tolist() == [
        1.0,
        0.999999876543,
        0.9876543,
        0.0123457,
        1.23457e-7,
        9.87654e-30,
        1e-45,
        0.0,
    ]


@pytest.mark.parametrize(("name", "settings"), [("x.jsonl", ("0a1b2c3d",)), ("x.json", ("0a1b2c3d",)), ("x.csv", ())])
def test_settings_are_reported_where_they_are_written(name: str, settings: tuple[str, ...]) -> None:
    assert read_predictions(write(name, [prediction("a.mp4")])).settings == settings


def test_all_answers_lie_in_one_row() -> None:
    first, second = line("a", ("run", 0.75, 0.5), ("jump", 0.25, None)), line("b", ("fly", 0.5, 0.125))
    write_text("x.jsonl", f"{first}\n\n{second}\n")

    predictions = read_predictions("x.jsonl")

    assert predictions.labels == ("run", "jump", "fly")
    assert predictions.label_lines == (1, 1, 3)
    assert_array_equal(predictions.lines, [1, 3])
    assert_array_equal(predictions.starts, [0, 2, 3])
    assert_array_equal(predictions.places, [0, 1, 2])
    assert_array_equal(predictions.scores, [0.75, 0.25, 0.5])
    assert_array_equal(predictions.cosines, [0.5, math.nan, 0.125])


def test_models_and_settings_are_reported_once_each() -> None:
    lines = [line("a", settings="1"), line("b", model="base", settings="2"), line("c", settings="1")]
    write_text("x.jsonl", "\n".join(lines) + "\n")

    predictions = read_predictions("x.jsonl")

    assert predictions.models == ("tiny", "base")
    assert predictions.settings == ("1", "2")


def test_an_array_is_read_however_it_is_laid_out() -> None:
    records = [json.loads(line("a")), json.loads(line("[b]"))]
    write_text("x.json", "\ufeff " + json.dumps(records, indent=4) + "\n\n")

    assert read_predictions("x.json").videos == ("a", "[b]")


def test_a_name_that_is_no_utf8_survives() -> None:
    assert read_predictions(write("x.jsonl", [prediction("caf\udce9.mp4")])).videos == ("caf\udce9.mp4",)


def test_all_videos_may_have_failed() -> None:
    predictions = read_predictions(write("x.jsonl", [failure("a.mp4")]))

    assert predictions.videos == ()
    assert [f.source.id for f in predictions.failures] == ["a.mp4"]


# -- what was cut short, or is there twice --------------------------------------------------------------------------


@pytest.mark.parametrize("name", ["x.jsonl", "x.json", "x.csv", "x.tsv"])
@pytest.mark.parametrize("left", [3, 20, 45])
def test_a_last_record_that_is_torn_is_left_out_with_a_warning(
    name: str, left: int, caplog: pytest.LogCaptureFixture
) -> None:
    write(name, [prediction("a.mp4"), prediction("b.mp4")])
    text = Path(name).read_text()
    write_text(name, text[: text.index("b.mp4") + left])

    assert read_predictions(name).videos == ("a.mp4",)
    number = 2 if name == "x.jsonl" else 3
    assert caplog.messages == [f"{name}:{number}: the file was cut short here; the incomplete record is left out"]


@pytest.mark.parametrize("end", ["", ",", ",\n", "\n"])
def test_an_array_that_does_not_end_is_read_with_a_warning(end: str, caplog: pytest.LogCaptureFixture) -> None:
    write_text("x.json", f"[\n{line('a')},\n{line('b')}{end}")

    assert read_predictions("x.json").videos == ("a", "b")
    assert len(caplog.messages) == 1


def test_zeros_of_a_power_cut_are_left_out_with_a_warning(caplog: pytest.LogCaptureFixture) -> None:
    write_text("x.jsonl", f"{line('a')}\n\0\0\0\0")

    assert read_predictions("x.jsonl").videos == ("a",)
    assert caplog.messages == ["x.jsonl:2: the file was cut short here; the incomplete record is left out"]


def test_an_array_that_is_cut_behind_a_bracket_is_torn(caplog: pytest.LogCaptureFixture) -> None:
    write_text("x.json", f"[\n{line('a')},\n{line('b').partition(']')[0]}]")

    assert read_predictions("x.json").videos == ("a",)
    assert caplog.messages == ["x.json:3: the file was cut short here; the incomplete record is left out"]


def test_a_last_line_that_begins_no_record_is_refused() -> None:
    refused(write_text("x.jsonl", f"{GOOD}\ngarbage"), "^x.jsonl:2: is not valid JSON")


def test_a_last_line_without_its_end_is_whole(caplog: pytest.LogCaptureFixture) -> None:
    assert read_predictions(write_text("x.jsonl", f"{line('a')}\n{line('b')}")).videos == ("a", "b")
    assert caplog.messages == []


@pytest.mark.parametrize("name", ["x.jsonl", "x.csv"])
def test_the_same_answer_twice_is_used_once_with_a_warning(name: str, caplog: pytest.LogCaptureFixture) -> None:
    write(name, [prediction("a"), prediction("b"), failure("c"), prediction("a"), failure("c")])

    predictions = read_predictions(name)

    assert predictions.videos == ("a", "b")
    assert len(predictions.failures) == 1
    assert_array_equal(predictions.starts, [0, 2, 4])
    number = 4 if name == "x.jsonl" else 5
    assert caplog.messages == [f"{name}:{number}: 2 videos with more than one identical answer, used once"]


def test_no_cosine_is_like_no_cosine() -> None:
    write_text("x.jsonl", f"{line('a', ('run', 1.0, None))}\n" * 2)

    assert read_predictions("x.jsonl").videos == ("a",)


@pytest.mark.parametrize(
    ("first", "second"),
    [
        (prediction("a"), prediction("a", Ranked("run", 0.6, 0.25), Ranked("jump", 0.4, 0.125))),
        (prediction("a"), prediction("a", Ranked("run", 0.7, 0.5), Ranked("jump", 0.3, 0.125))),
        (prediction("a"), prediction("a", Ranked("jump", 0.7, 0.25), Ranked("run", 0.3, 0.125))),
        (prediction("a"), prediction("a", Ranked("run", 0.7, 0.25))),
        (prediction("a"), failure("a")),
        (failure("a"), prediction("a")),
        (failure("a"), Failure(Source.at("a"), "timeout", "a: took too long")),
    ],
)
def test_two_answers_are_refused_with_both_lines(first: Prediction | Failure, second: Prediction | Failure) -> None:
    write("x.jsonl", [prediction("b"), first, prediction("c"), second])

    refused("x.jsonl", "^x.jsonl:4: a has another answer at x.jsonl:2; keep one")


# -- what is refused ------------------------------------------------------------------------------------------------

GOOD = line("good")
NO_ANSWER = r"^x.jsonl:2: is not a prediction: status must be 'ok', with a 'top', or 'error'; remove it"
NO_TOP = "^x.jsonl:2: has a 'top' that is not a list of labels with scores; remove it"


@pytest.mark.parametrize(
    ("bad", "message"),
    [
        ('{"path": "a"', r"^x.jsonl:2: is not valid JSON \(Expecting .*\); fix or remove the record"),
        ('{"path": "a}', "^x.jsonl:2: is not valid JSON"),
        ("path,label", "^x.jsonl:2: is not valid JSON"),
        ("[" * 100000, r"^x.jsonl:2: is not valid JSON \(maximum recursion depth"),
        ('{"path": ' + "9" * 5000 + "}", "^x.jsonl:2: is not valid JSON"),
        ("3", "^x.jsonl:2: is not a prediction, as it has no 'path'; remove it"),
        ("{}", "^x.jsonl:2: is not a prediction, as it has no 'path'"),
        ('{"path": 3, "status": "ok"}', "^x.jsonl:2: is not a prediction, as it has no 'path'"),
        ('{"path": "a"}', NO_ANSWER),
        ('{"path": "a", "status": "fine"}', NO_ANSWER),
        ('{"path": "a", "status": "ok"}', NO_ANSWER),
        ('{"path": "a", "status": "ok", "top": []}', NO_ANSWER),
        ('{"path": "a", "status": "ok", "top": {"run": 1}}', NO_ANSWER),
        ('{"path": "a", "status": "ok", "top": ["run"]}', NO_TOP),
        ('{"path": "a", "status": "ok", "top": [{"label": "run", "cosine": 0.5}]}', NO_TOP),
        ('{"path": "a", "status": "ok", "top": [{"label": "run", "score": true}]}', NO_TOP),
        ('{"path": "a", "status": "ok", "top": [{"label": "run", "score": "1"}]}', NO_TOP),
        ('{"path": "a", "status": "error"}', "^x.jsonl:2: has the status 'error' but no 'error' with a type"),
        ('{"path": "a", "status": "error", "error": {"type": 3}}', "^x.jsonl:2: has the status 'error' but no"),
        (line("a", ("run", None, 0.5)), NO_TOP),
        (line("a", ("run", "0.5", 0.5)), NO_TOP),
        (line("a", ("run", 10**400, 0.5)), NO_TOP),
        (line("a", ("run", 0.5, "near")), NO_TOP),
        (line("a", (3, 0.5, 0.5)), "^x.jsonl:2: label must be a string"),  # type: ignore[arg-type]
        (line("a", ([], 0.5, 0.5)), NO_TOP),  # type: ignore[arg-type]
        (line("a", ("run", math.nan, 0.5)), "^x.jsonl:2: score nan of 'run' is not from 0 to 1; fix or remove"),
        (line("a", ("run", 0.5, 0.5), ("fly", -0.1, 0)), "^x.jsonl:2: score -0.1 of 'fly' is not from 0 to 1"),
        (line("a", ("run", 1.000001, 0.5)), "^x.jsonl:2: score 1.000001 of 'run' is not from 0 to 1"),
        (line("a", ("run", math.inf, 0.5)), "^x.jsonl:2: score inf of 'run' is not from 0 to 1"),
        (line("a", ("run", 0.5, 0), ("fly", 0.2, 0), ("run", 0.1, 0)), "^x.jsonl:2: has the label 'run' twice"),
    ],
)
def test_a_wrong_record_is_refused_by_line(bad: str, message: str) -> None:
    refused(write_text("x.jsonl", f"{GOOD}\n{bad}\n{GOOD}\n"), message)
    refused(write_text("x.json", f"[{GOOD},\n{bad},\n{GOOD}]\n"), message.replace("x.jsonl", "x.json"))


@pytest.mark.parametrize("name", ["x.jsonl", "x.json", "x.csv", "x.tsv"])
def test_bytes_that_are_no_utf8_are_named_by_line(name: str) -> None:
    write(name, [prediction("a.mp4"), prediction("b.mp4")])
    Path(name).write_bytes(Path(name).read_bytes().replace(b"b.mp4", b"caf\xe9.mp4"))

    number = 2 if name == "x.jsonl" else 3
    refused(name, f"^{name}:{number}: byte 0xe9 is not UTF-8; fix the record")


@pytest.mark.parametrize(
    ("text", "message"),
    [
        (
            "[\n" + GOOD + "\n" + GOOD + "\n]",
            r"^x.json:3: is not valid JSON \(expected ',' or '\]' before '{'\); fix it",
        ),
        ("[" + GOOD + "]\n[" + GOOD + "]\n", "^x.json:2: continues after the end of the array"),
        ("[" + GOOD + ",\n{]", "^x.json:2: is not valid JSON"),
        ("[\n]\n", "^x.json: is empty; give the output of bike classify -o"),
    ],
)
def test_a_wrong_array_is_refused_by_line(text: str, message: str) -> None:
    refused(write_text("x.json", text), message)


@pytest.mark.parametrize("text", ["", "\n\n", "  ", "\ufeff", '{"path": "a'])
def test_a_file_without_an_answer_is_refused(text: str) -> None:
    refused(write_text("x.jsonl", text), "^x.jsonl: is empty; give the output of bike classify -o")


@pytest.mark.parametrize("text", ["", "[]", "path,status,label,score\n"])
def test_a_part_may_be_empty(text: str) -> None:
    predictions = read_predictions(write_text("x.csv", text), is_part=True)

    assert (predictions.videos, predictions.failures, predictions.labels) == ((), (), ())


def test_what_is_no_file_of_predictions_is_refused() -> None:
    Path("film.mp4").write_bytes(b"\x00\x00\x00\x20ftypisom" + bytes(100))
    Path("folder").mkdir()

    refused("nowhere.jsonl", "^nowhere.jsonl: no such file; give the output of bike classify -o")
    refused("folder", r"^folder: cannot be read \(Is a directory\)")
    refused("film.mp4", "^film.mp4: is a video, not predictions")
    refused(write_text("x.txt", "a.mp4 3\n"), "^x.txt:1: is neither JSON nor a table with the column 'path'")


CELLS = "path,status,label,score,cosine,label_2,score_2,cosine_2,model,error,message"


@pytest.mark.parametrize(
    ("rows", "message"),
    [
        (("a,ok,run,much,0.2,fly,0.3,0.1,tiny,,",), "^x.csv:2: 'much' is not a number"),
        (("a,ok,run,nan,0.2,fly,0.3,0.1,tiny,,",), "^x.csv:2: score nan of 'run' is not from 0 to 1"),
        (("a,ok,run,,0.2,fly,0.3,0.1,tiny,,",), "^x.csv:2: has a 'top' that is not a list of labels with scores"),
        (("a,ok,run,0.7",), "^x.csv:2: has 4 cells, not 11; fix or remove the row"),
        (("a,fine,run,0.7,0.2,fly,0.3,0.1,tiny,,",), "^x.csv:2: is not a prediction"),
        (('"a"b,ok',), "^x.csv:2: is not valid CSV"),
        ((), "^x.csv: is empty"),
    ],
)
def test_wrong_rows_are_refused_by_line(rows: tuple[str, ...], message: str) -> None:
    refused(write_text("x.csv", "".join(f"{row}\n" for row in (CELLS, *rows))), message)


@pytest.mark.parametrize("form", ["json", "csv", "tsv"])
def test_fewer_labels_than_all_are_read_alike_in_every_form(form: str) -> None:
    records = [prediction("a.mp4"), failure("c.mp4"), prediction("b.mp4", Ranked("fly", 0.4, 0.5))]

    lines, others = (read_predictions(write(name, records)) for name in ("x.jsonl", f"x.{form}"))

    assert (others.videos, others.labels) == (("a.mp4", "b.mp4"), ("run", "jump", "fly"))
    for i in range(2):
        assert ranking(others, i) == ranking(lines, i)


# -- of other programs ----------------------------------------------------------------------------------------------


def test_labels_with_scores_are_enough() -> None:
    top = [{"label": "run", "score": 0.75}, {"label": "jump", "score": 0.25, "cosine": 0.5}]
    write_text("x.jsonl", json.dumps({"path": "a", "status": "ok", "top": top}) + "\n")

    predictions = read_predictions("x.jsonl")

    assert_array_equal(predictions.scores, [0.75, 0.25])
    assert_array_equal(predictions.cosines, [math.nan, 0.5])
    assert predictions.models == ()


@pytest.mark.parametrize("indent", [0, 2, "\t"])
def test_records_that_are_laid_out_are_read(indent: int | str) -> None:
    records = [json.loads(one) for one in (line("a"), line("b\n{", ("fly", 1.0, None)), line("c"))]
    write_text("x.jsonl", "".join(json.dumps(one, indent=indent) + "\n" for one in records))

    predictions = read_predictions("x.jsonl")

    assert predictions.videos == ("a", "b\n{", "c")
    assert [ranking(predictions, i)[0].label for i in range(3)] == ["run", "fly", "run"]
    height = 1 + json.dumps(records[0], indent=indent).count("\n")
    assert_array_equal(predictions.lines, [1, 1 + height, 1 + 2 * height])


def test_an_array_on_one_line_that_is_torn_is_read_up_to_there(caplog: pytest.LogCaptureFixture) -> None:
    text = json.dumps([json.loads(line("a")), json.loads(line("b"))], separators=(",", ":"))
    write_text("x.json", text[:-30])

    assert read_predictions("x.json").videos == ("a",)
    assert caplog.messages == ["x.json:1: the file was cut short here; the incomplete record is left out"]


def test_an_invalid_record_before_a_torn_one_is_refused() -> None:
    text = json.dumps([json.loads(line("a")), json.loads(line("b"))], indent=1)
    torn = text.replace('"status": "ok"', '"status" "ok"', 1)[:-40]

    refused(write_text("x.json", torn), "^x.json:2: is not valid JSON")


@pytest.mark.parametrize("left", [1, 20, 60, 100])
def test_a_laid_out_record_that_is_torn_is_left_out_with_a_warning(left: int, caplog: pytest.LogCaptureFixture) -> None:
    text = json.dumps(json.loads(line("a")), indent=2) + "\n"
    write_text("x.jsonl", text + text.replace('"a"', '"b"')[:left])

    assert read_predictions("x.jsonl").videos == ("a",)
    number = 1 + text.count("\n")
    assert caplog.messages == [f"x.jsonl:{number}: the file was cut short here; the incomplete record is left out"]


def test_a_wrong_laid_out_record_is_refused_by_line() -> None:
    text = json.dumps(json.loads(GOOD), indent=2) + "\n"
    number = 1 + text.count("\n")

    refused(write_text("x.jsonl", text + '{"path" "a"}\n' + text), f"^x.jsonl:{number}: is not valid JSON")
    refused(write_text("x.jsonl", text + "{\n}\n" + text), f"^x.jsonl:{number}: is not a prediction, as it has no")


def test_what_came_through_a_pipe_is_read_where_it_lies() -> None:
    write_text("copy", f"{GOOD}\n{line('b')}\n")

    predictions = read_predictions(DataFile("/dev/fd/63", "copy"))

    assert (predictions.origin, predictions.videos) == ("/dev/fd/63", ("good", "b"))
    write_text("copy", f"{GOOD}\n{{}}\n")
    with pytest.raises(UsageError, match=r"^/dev/fd/63:2: is not a prediction"):
        read_predictions(DataFile("/dev/fd/63", "copy"))


# -- matched with the truth -----------------------------------------------------------------------------------------


def truth(*samples: tuple[str, int], splits: tuple[tuple[int, ...], ...] = ()) -> Truth:
    labels = ("jump", "run", "tai chi")
    return Truth(labels, ("Jump", "Run", "TaiChi"), tuple(Sample(Source.at(p), i) for p, i in samples), splits=splits)


def joined(lines: Sequence[str], known: Truth) -> MatchedPredictions:
    write_text("x.jsonl", "".join(f"{one}\n" for one in lines))
    return match(read_predictions("x.jsonl"), known)


def matrix(found: MatchedPredictions) -> NDArray[np.float64]:
    return found.logits.matrix() if isinstance(found.logits, NamedLogits) else found.logits


def test_scores_become_logits_of_the_labels_of_the_truth() -> None:
    lines = [line("b", ("run", 0.5, 0), ("jump", 0.25, 0)), line("a", ("tai chi", 1.0, 0), ("run", 0.125, 0))]

    found = joined(lines, truth(("a", 2), ("b", 0)))

    assert isinstance(found.logits, NamedLogits)
    assert found.logits.values.dtype == np.float64
    assert found.logits.sizes.tolist() == [2, 2]
    assert_array_equal(
        matrix(found),
        np.log([[0, 0.125, 1.0], [0.25, 0.5, 0]], where=[[0, 1, 1], [1, 1, 0]], out=np.full((2, 3), -np.inf)),
    )
    assert [s.source.id for s in found.truth.samples] == ["a", "b"]


def test_a_score_of_zero_is_below_all_and_above_what_is_not_named() -> None:
    lines = [
        line("a", ("tai chi", 1.0, 0), ("run", 0.0, 0)),
        line("b", ("run", 1e-300, 0), ("jump", 0, 0), ("tai chi", 0, 0)),
    ]

    logits = matrix(joined(lines, truth(("a", 0), ("b", 0))))

    assert logits[0].argsort().tolist() == [0, 1, 2]
    assert logits[1].argsort().tolist() == [2, 0, 1]
    assert np.isneginf(logits).tolist() == [[True, False, False], [False, False, False]]
    assert np.exp(logits[[0, 1, 1], [1, 0, 2]]).max() < 1e-307


def test_labels_are_found_however_they_are_spelled(caplog: pytest.LogCaptureFixture) -> None:
    found = joined([line("a", ("TaiChi", 0.5, 0), ("RUN", 0.25, 0), ("jump ", 0.25, 0))], truth(("a", 0)))

    assert np.exp(matrix(found)).tolist() == [[0.25, 0.25, 0.5]]
    assert caplog.messages == []


def test_labels_that_are_never_named_are_reported(caplog: pytest.LogCaptureFixture) -> None:
    joined([line("a", ("run", 1.0, 0))], truth(("a", 0)))

    way = "if its videos have none of the labels, give it with --unknown"
    assert caplog.messages == [f"x.jsonl: has 1 of 3 labels, so no video is predicted to be 'jump'; {way}"]


@pytest.mark.parametrize("unknown", [None, "other"])
def test_that_a_class_may_be_unknown_is_hinted_at_unless_it_is_given(unknown: str | None) -> None:
    write_text("x.jsonl", line("a", ("runn", 1.0, 0)) + "\n")

    with pytest.raises(UsageError) as result:
        match(read_predictions("x.jsonl"), truth(("a", 0)), unknown=unknown)

    assert "give all classes with --names" in str(result.value)
    assert ("--unknown" in str(result.value)) == (unknown is None)


def test_how_many_labels_are_named_is_counted_by_video() -> None:
    lines = [line("a", ("run", 0.5, 0)), line("b", ("run", 0.5, 0), ("jump", 0.5, 0)), line("c", ("jump", 0.5, 0))]

    assert_array_equal(joined(lines, truth(("b", 0), ("c", 1))).named, [2, 1])


@pytest.mark.parametrize(
    ("top", "message"),
    [
        (
            (("runn", 0.5, 0),),
            "^x.jsonl:2: label 'runn' is not one of the 3 labels of the videos; the nearest is 'run'",
        ),
        ((("TaiChi", 0.5, 0), ("tai chi", 0.5, 0)), "^x.jsonl:2: labels 'TaiChi' and 'tai chi' both mean 'tai chi' of"),
    ],
)
def test_labels_that_do_not_do_are_refused(top: tuple[tuple[str, float, float], ...], message: str) -> None:
    with pytest.raises(UsageError, match=message):
        joined([line("b", ("run", 1.0, 0)), line("a", *top)], truth(("a", 0)))


def test_a_label_that_is_a_number_is_no_id() -> None:
    by_id = Truth(("one", "1"), ("0", "1"), (Sample(Source.at("a"), 0),))

    found = joined([line("a", ("1", 0.5, 0), ("one", 0.5, 0))], by_id)
    assert np.isfinite(matrix(found)).all()
    with pytest.raises(UsageError, match=r"^x.jsonl:1: label '0' is not one of the 2 labels"):
        joined([line("a", ("0", 0.5, 0))], by_id)


def test_videos_of_one_side_are_reported() -> None:
    failed = '{"path": "%s", "status": "error", "error": {"type": "missing", "message": "gone"}}'
    lines = [line("b"), line("x/only"), failed % "f", failed % "g"]

    found = joined(lines, truth(("a", 0), ("b", 1), ("f", 2), ("c", 2), splits=((0, 1), (1, 2, 3))))

    assert found.truth == truth(("b", 1), splits=((0,), (0,)))
    assert found.logits.shape == (1, 3)
    assert found.failures == (Failure(Source.at("f"), "missing", "gone"),)
    assert found.only_predicted == ("x/only", "g")
    assert found.only_labelled == ("a", "c")


def test_videos_are_found_by_a_file_name_that_no_other_has_with_a_warning(caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level("WARNING")
    every = (("run", 0.5, 0), ("jump", 0.25, 0), ("tai chi", 0.25, 0))
    lines = [line(path, *every) for path in ("/far/a.mp4", "/far/1/b.mp4", "/far/2/b.mp4", "in/c.mp4", "d.mp4")]

    found = joined(lines, truth(("run/a.mp4", 0), ("b.mp4", 0), ("run/c.mp4", 0), ("in/c.mp4", 0), ("d.mp4", 0)))

    assert [s.source.id for s in found.truth.samples] == ["run/a.mp4", "in/c.mp4", "d.mp4"]
    assert found.only_predicted == ("/far/1/b.mp4", "/far/2/b.mp4")
    assert found.only_labelled == ("b.mp4", "run/c.mp4")
    assert caplog.messages == [
        "x.jsonl: 1 video matched with labels by file name alone, first /far/a.mp4 with run/a.mp4",
    ]


@pytest.mark.parametrize(
    ("name", "id_"),
    [("in/a.mp4", "{here}/in/a.mp4"), ("{here}/in/a.mp4", "./in/a.mp4"), ("in/x/../a.mp4", "in/a.mp4")],
)
def test_the_same_file_may_be_spelled_otherwise(
    name: str, id_: str, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    every = (("run", 0.5, 0), ("jump", 0.25, 0), ("tai chi", 0.25, 0))
    name, id_ = (one.format(here=tmp_path) for one in (name, id_))
    lines = [line("out/a.mp4", ("run", 0.0, 0)), line(name, *every)]

    found = joined(lines, truth((id_, 1), ("far/a.mp4", 0)))

    assert [s.source.id for s in found.truth.samples] == [id_]
    assert matrix(found)[0].argmax() == 1
    assert found.only_labelled == ("far/a.mp4",)
    assert caplog.messages == []


def test_file_names_that_come_more_than_once_are_reported_with_one_of_each_side() -> None:
    lines = [line(path) for path in ("other.mp4", "1/a.mp4", "2/a.mp4")]

    with pytest.raises(UsageError, match=r"names are not unique: 1/a.mp4 is predicted, run/a.mp4 is labelled; use"):
        joined(lines, truth(("run/x.mp4", 0), ("run/a.mp4", 0), ("jump/a.mp4", 1)))


def test_nothing_in_common_is_refused() -> None:
    with pytest.raises(
        UsageError,
        match=r"^x.jsonl: has no video in common with the labelled videos: a is predicted, b is labelled; use",
    ):
        joined([line("a")], truth(("b", 0)))


def test_nothing_but_failures_in_common_is_refused() -> None:
    failed = '{"path": "a", "status": "error", "error": {"type": "missing", "message": "a: no such file; fix it"}}'

    with pytest.raises(
        UsageError, match=r"^x.jsonl: 1 video with labels failed, none was predicted; .* a: no such file"
    ):
        joined([failed, line("c")], truth(("a", 0)))


def test_many_videos_are_joined_in_blocks() -> None:
    names = [f"{i}.mp4" for i in range(9001)]
    lines = [line(name, ("jump", (i + 1) / 9002, 0)) for i, name in enumerate(names)]

    found = joined(lines, truth(*((name, 0) for name in reversed(names))))

    assert_array_equal(matrix(found)[:, 0], np.log(np.arange(9001, 0, -1) / 9002))
    assert np.isneginf(matrix(found)[:, 1:]).all()
