"""`bike fewshot`, run in this process with the bundled model, and `bike classify` with what it keeps."""

import hashlib
import json
import math
import os
import re
import shutil
import subprocess
import sys
from collections.abc import Callable
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path

import numpy as np
import pytest
from answers import COLOUR, cells
from films import drawn, write_video
from invoke import Ran, bike, bike_on_terminal

from bike_cli.cli.plots import files as plots
from bike_cli.engine import engine as engines
from bike_cli.engine.engine import Engine
from bike_cli.engine.heads.bike import TemporalTransformer
from bike_cli.errors import ExitCode
from bike_cli.tasks.fewshot import tower_training

CLASSES = ("blue_circle", "green_cross", "red_square")
LABELS = tuple(name.replace("_", " ") for name in CLASSES)
EACH = 5  # videos of a class
ONE_DRAW = ("--trials", "1", "--shots", "2")
NO_SUCH_MODEL = ("-m", "no-such-model")  # an error that comes before this one was found before the model is loaded
PNG = b"\x89PNG\r\n\x1a\n"


def fewshot(*arguments: object) -> Ran:
    return bike("fewshot", "-m", "tiny", "--frames", "4", *arguments)


def output(ran: Ran) -> str:
    """Return the one line that says what is wrong: thing, fact and way out."""
    assert ran.stdout == ""
    assert ran.stderr.count("\n") == 1
    message = ran.stderr.removeprefix("error: ").rstrip("\n")
    assert ran.stderr == f"error: {message}\n"
    assert ": " in message or " is " in message or message.startswith("unknown ")
    assert "; " in message
    return message


pytestmark = pytest.mark.usefixtures("one_store_for_all")


@pytest.fixture(scope="session")
def data(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Three classes of five films; every third shows what another class shows, so that no method is all right."""
    folder = tmp_path_factory.mktemp("fewshot") / "data"
    for c, name in enumerate(CLASSES):
        (folder / name).mkdir(parents=True)
        for i in range(EACH):
            film = drawn(LABELS[(c + (i % 3 == 2)) % 3], frames=8 + i + 3 * (i % 3 == 2))
            write_video(folder / name / f"{i}.mp4", np.roll(film, 4 * i - 8, axis=1))
    return folder


@pytest.fixture
def own(data: Path, tmp_path: Path) -> Path:
    """The same videos, which a test may change."""
    return Path(shutil.copytree(data, tmp_path / "data"))


def report_of(file: Path) -> dict[str, object]:
    return json.loads(file.read_text())


@dataclass(frozen=True)
class Kept:
    """A classifier, and the report of the run that kept it."""

    file: Path
    report: dict[str, object]


@pytest.fixture(scope="session")
def kept(data: Path, tmp_path_factory: pytest.TempPathFactory) -> Callable[[str], Kept]:
    """Return the classifier of a method, of one draw of two shots."""
    made: dict[str, Kept] = {}

    def get(method: str) -> Kept:
        if method not in made:
            folder = tmp_path_factory.mktemp("kept")
            file, report = folder / "actions.bike", folder / "report.json"
            ran = fewshot(data, *ONE_DRAW, "--method", method, "--save", file, "-o", report)
            assert ran.exit_code == ExitCode.DONE
            made[method] = Kept(file, report_of(report))
        return made[method]

    return get


def classify(kept: Kept, *arguments: object) -> Ran:
    return bike("classify", "--classifier", kept.file, "-f", "jsonl", *arguments)


# -- the report ---------------------------------------------------------------------------------------------------


def test_stdout_gets_the_tables_and_stderr_nothing(data: Path) -> None:
    ran = fewshot(data, "--shots", "1,2", "--method", "proto", "--trials", "2")

    assert (ran.exit_code, ran.stderr) == (ExitCode.DONE, "")
    assert ran.stdout.startswith("accuracy in %, ± standard error over 2 draws; gain with 95 % interval\n")
    for text in ("zeroshot", "proto", "proto, 2 shots, per class"):
        assert text in ran.stdout
    for text in (*LABELS, "3 classes · 9 test videos · seed 0 · model tiny"):
        assert text in ran.stdout
    assert "\x1b" not in ran.stdout
    assert [line for line in ran.stdout.split("\n") if line != line.rstrip()] == []


@pytest.mark.parametrize(("shots", "said"), [("4", "3 test videos tell little"), ("1", "12 test videos tell little")])
def test_few_test_videos_carry_a_caution(data: Path, shots: str, said: str) -> None:
    ran = fewshot(data, "--shots", shots, "--trials", "1")

    assert ran.stdout.splitlines()[-1] == f"caution: {said} about accuracy; test on 20 or more"


def test_intervals_of_few_test_videos_stay_within_the_possible_values(data: Path, tmp_path: Path) -> None:
    ran = fewshot(data, "--shots", "4", "--trials", "2", "-o", tmp_path / "r.json")

    assert ran.exit_code == ExitCode.DONE
    for result in json.loads((tmp_path / "r.json").read_text())["results"]:
        for name, lowest in (("top1", 0), ("macro", 0), ("gain", -1)):
            mean = result[name]
            assert lowest <= mean["low"] <= mean["value"] <= mean["high"] <= 1
            assert mean["margin"] == pytest.approx((mean["high"] - mean["low"]) / 2, abs=1e-6)
    found = [re.findall(r"\[([-+].*), ([-+].*)\]", line) for line in ran.stdout.splitlines()]
    ends = [float(end) for pairs in found for pair in pairs for end in pair]
    assert ends
    assert all(-100 <= end <= 100 for end in ends)


@pytest.mark.slow  # over a second of a core
def test_enough_test_videos_carry_none(data: Path, own: Path, tmp_path: Path) -> None:
    test = tmp_path / "test"
    for name in (folder.name for folder in data.iterdir()):
        (test / name).mkdir(parents=True)
        for i in range(7):
            write_video(test / name / f"{i}.mp4", drawn(name.replace("_", " "), frames=20 + i))

    ran = fewshot(own, "--shots", "1", "--trials", "1", "--test", test)

    assert "21 test videos" in ran.stdout
    assert "caution" not in ran.stdout


def test_tables_fit_a_narrow_terminal_with_all_digits(data: Path) -> None:
    given = ("-m", "tiny", "--frames", "4", data, "--shots", "1,2", "--method", "proto", "--trials", "2")

    wide, narrow = (bike_on_terminal("fewshot", *given, columns=columns).stdout for columns in (120, 60))

    assert max(map(cells, narrow.splitlines())) <= 60
    narrow, wide = (re.sub(r"· [\d.]+ s\b", "", COLOUR.sub("", text)) for text in (narrow, wide))  # seconds differ
    assert sorted(re.findall(r"[+-]?\d[\d.]*", narrow)) == sorted(re.findall(r"[+-]?\d[\d.]*", wide))


def test_a_terminal_sees_progress_and_quiet_the_tables_alone(data: Path, tmp_path: Path) -> None:
    loud, quiet = (
        bike_on_terminal(
            "fewshot", "-m", "tiny", "--frames", "4", data, *ONE_DRAW, "--save", tmp_path / "a.bike", *flags
        )
        for flags in ((), ("-q",))
    )

    assert "loading tiny" in loud.stderr
    assert "use it with bike classify --classifier" in loud.stderr
    assert "per class" in quiet.stdout
    assert quiet.stderr == ""


@pytest.mark.slow  # over a second of a core
def test_the_same_command_gives_the_same_bytes_but_for_the_seconds(data: Path, tmp_path: Path) -> None:
    def written(name: str, *flags: object) -> str:
        assert fewshot(data, "--shots", "1,2", "-o", tmp_path / name, *flags).exit_code == ExitCode.DONE
        text = (tmp_path / name).read_text()
        seconds = f'"seconds": {json.dumps(json.loads(text)["seconds"])}'
        assert text.count(seconds) == 1
        return text.replace(seconds, "")

    first = written("a.json", "--no-cache", "--workers", "1")

    assert written("b.json", "--workers", "2") == first
    assert written("c.json", "--workers", "2") == first  # from the store
    assert written("d.json", "--seed", "1") != first


def test_the_report_is_of_one_line_with_the_fields_of_the_design(kept: Callable[[str], Kept]) -> None:
    report = kept("probe").report

    assert list(report) == [
        *("command", "data", "test", "labels", "root", "model", "fingerprint", "source", "device", "dtype"),
        *("classes", "settings", "results", "draws", "failures", "left_out", "versions", "seconds"),
    ]
    assert report["classes"] == [{"name": n, "label": label} for n, label in zip(CLASSES, LABELS, strict=True)]
    assert [(r["method"], r["shots"]) for r in report["results"]] == [("zeroshot", 2), ("probe", 2)]  # type: ignore[attr-defined]
    assert (report["settings"]["seed"], report["settings"]["frames"]) == (0, 4)  # type: ignore[index]
    assert not {"cache_dir", "workers", "device"} & set(report["settings"])  # type: ignore[arg-type]


def test_the_manifest_holds_what_sha256_says_of_every_file(kept: Callable[[str], Kept], data: Path) -> None:
    (draw,) = kept("probe").report["draws"]  # type: ignore[misc]

    videos = [video for of_class in draw["shots"] for video in of_class] + draw["test"]
    assert {v["path"]: v["sha256"] for v in videos} == {
        str(path): hashlib.sha256(path.read_bytes()).hexdigest() for path in data.rglob("*.mp4")
    }
    assert len(videos) == 3 * EACH
    assert [Path(of_class[0]["path"]).parent.name for of_class in draw["shots"]] == list(CLASSES)


def test_figures_follow_from_the_confusion_matrix(kept: Callable[[str], Kept]) -> None:
    for result in kept("probe").report["results"]:  # type: ignore[attr-defined]
        counts = np.array(result["confusion"])
        share = np.trace(counts) / counts.sum()

        assert counts.sum() == 9
        assert result["top1"]["value"] == pytest.approx(share, abs=1e-6)
        added = (9 * share + 2) / 13  # two hits and two misses are added
        assert result["top1"]["error"] == pytest.approx(math.sqrt(added * (1 - added) / 13), abs=1e-6)
        assert result["per_class"] == pytest.approx((np.diag(counts) / counts.sum(axis=1)).tolist(), abs=1e-6)
        assert result["macro"]["value"] == pytest.approx(np.mean(result["per_class"]), abs=1e-6)


def test_a_bad_clip_is_a_warning_a_line_of_the_report_and_an_exit_code(own: Path, tmp_path: Path) -> None:
    bad = own / "red_square" / "1.mp4"
    bad.write_bytes(bad.read_bytes()[:300])

    ran = fewshot(own, *ONE_DRAW, "-o", tmp_path / "report.json")

    report = report_of(tmp_path / "report.json")
    assert ran.exit_code == ExitCode.SOME_FAILED == 3
    assert ran.stderr.startswith(f"warning: {bad}: ")
    assert ran.stderr.count("\n") == 1
    assert "1 could not be read" in ran.stdout
    assert report["failures"] == [
        {"path": str(bad), "type": "damaged", "message": ran.stderr.removeprefix("warning: ").rstrip("\n")}
    ]
    assert str(bad) not in json.dumps(report["draws"])


def test_a_bad_clip_is_not_reported_with_quiet(own: Path) -> None:
    (own / "red_square" / "1.mp4").write_bytes(b"no film")

    ran = fewshot(own, *ONE_DRAW, "-q")

    assert (ran.exit_code, ran.stderr) == (ExitCode.SOME_FAILED, "")


def test_a_copy_is_reported_and_in_the_report(own: Path, tmp_path: Path) -> None:
    shutil.copyfile(own / "red_square" / "1.mp4", own / "red_square" / "again.mp4")

    ran = fewshot(own, *ONE_DRAW, "-o", tmp_path / "report.json")

    paths = [str(own / "red_square" / name) for name in ("again.mp4", "1.mp4")]
    assert (ran.exit_code, ran.stderr.count("\n")) == (ExitCode.DONE, 1)
    assert "1 left out as copies" in ran.stdout
    assert report_of(tmp_path / "report.json")["left_out"] == [dict(zip(("path", "same_as"), paths, strict=True))]


def test_labels_and_test_side_may_be_given_apart(own: Path, tmp_path: Path) -> None:
    for name in CLASSES:
        (tmp_path / "apart" / name).mkdir(parents=True)
        shutil.move(own / name / "4.mp4", tmp_path / "apart" / name)
    names = tmp_path / "names.csv"
    names.write_text("name,label\nred_square,a square in red\n")

    ran = fewshot(own, *ONE_DRAW, "--test", tmp_path / "apart", "-l", names)

    assert "a square in red" in ran.stdout
    assert "3 test videos" in ran.stdout


def test_annotations_of_activitynet_are_read(data: Path, tmp_path: Path) -> None:
    database = {}
    for film in sorted(data.rglob("*.mp4")):
        id_ = f"{film.parent.name}-{film.stem}"
        shutil.copyfile(film, tmp_path / f"v_{id_}.mp4")
        subset = "training" if film.stem < "3" else "validation"
        database[id_] = {"subset": subset, "annotations": [{"segment": [0, 1], "label": film.parent.name}]}
    (tmp_path / "anet.json").write_text(json.dumps({"database": database}))

    ran = fewshot(tmp_path / "anet.json", *ONE_DRAW, "-o", tmp_path / "report.json")

    assert (ran.exit_code, ran.stderr) == (ExitCode.DONE, "")
    tested = report_of(tmp_path / "report.json")["draws"][0]["test"]  # type: ignore[index]
    assert sorted(Path(one["path"]).name for one in tested) == [f"v_{n}-{i}.mp4" for n in CLASSES for i in (3, 4)]


# -- the classifier -----------------------------------------------------------------------------------------------


@pytest.mark.parametrize("method", ["zeroshot", "proto", "tip", "probe"])
def test_classify_gives_each_test_video_the_label_of_the_report(kept: Callable[[str], Kept], method: str) -> None:
    classifier = kept(method)
    tested = [video["path"] for video in classifier.report["draws"][0]["test"]]  # type: ignore[index]

    ran = classify(classifier, *tested)

    counts = np.zeros((3, 3), int)
    for record in ran.records:
        counts[CLASSES.index(Path(str(record["path"])).parent.name), LABELS.index(str(record["label"]))] += 1
    assert (ran.exit_code, ran.stderr) == (ExitCode.DONE, "")
    assert counts.tolist() == classifier.report["results"][-1]["confusion"]  # type: ignore[index]
    assert {record["frames"] for record in ran.records} == {4}


def test_no_method_is_all_right_here(kept: Callable[[str], Kept]) -> None:
    shares = [kept(method).report["results"][-1]["top1"]["value"] for method in ("zeroshot", "tip", "probe")]  # type: ignore[index]

    assert max(shares) < 1  # else the test above could not tell one class from another


def odds(record: dict[str, object]) -> dict[str, float]:
    """Return the share of each trained label among them."""
    scores = {str(one["label"]): one["score"] for one in record["top"]}  # type: ignore[attr-defined]
    return {label: scores[label] / sum(scores[one] for one in LABELS) for label in LABELS}


@pytest.mark.parametrize("method", ["tip", "probe"])
def test_further_labels_are_added_and_leave_the_odds_between_trained_ones(
    kept: Callable[[str], Kept], data: Path, method: str
) -> None:
    clip = data / "red_square" / "0.mp4"

    (alone,) = classify(kept(method), clip, "-k", "9").records
    (extended,) = classify(kept(method), clip, "-k", "9", "--also", "purple ring", "--also", "yellow star").records

    assert {one["label"] for one in extended["top"]} == {*LABELS, "purple ring", "yellow star"}  # type: ignore[attr-defined]
    assert sum(one["score"] for one in extended["top"]) == pytest.approx(1, abs=1e-4)  # type: ignore[attr-defined]
    assert odds(extended) == pytest.approx(odds(alone), abs=1e-4)  # of scores that are rounded
    cosines = [{one["label"]: one["cosine"] for one in record["top"]} for record in (alone, extended)]  # type: ignore[attr-defined]
    # They are those of the text, whichever labels are added, to the last digit or two of float32.
    assert {label: cosines[1][label] for label in cosines[0]} == pytest.approx(cosines[0], abs=2e-6)


def test_a_further_label_wins_where_it_is_what_the_video_shows(kept: Callable[[str], Kept], tmp_path: Path) -> None:
    film = write_video(tmp_path / "film.mp4", drawn("green square"))

    ran = classify(kept("probe"), film, "--also", "green square")

    assert [record["label"] for record in ran.records] == ["green square"]


def test_further_labels_may_be_kept(data: Path, tmp_path: Path) -> None:
    file = tmp_path / "a.bike"
    also = ("--also", "green square", "--also", "purple ring")
    assert fewshot(data, *ONE_DRAW, "--save", file, *also).exit_code == ExitCode.DONE
    film = write_video(tmp_path / "film.mp4", drawn("green square"))

    (record,) = bike("classify", "--classifier", file, film, "-k", "9", "--also", "yellow star").records

    assert record["label"] == "green square"
    assert len(record["top"]) == 6  # type: ignore[arg-type]


@pytest.mark.slow
def test_of_bike_a_model_is_kept(data: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(tower_training, "Recipe", partial(tower_training.Recipe, epochs=2, rate=1e-3))
    model, report = tmp_path / "actions", tmp_path / "report.json"

    ran = fewshot(data, *ONE_DRAW, "--method", "bike", "--save", model, "--also", "purple ring", "-o", report)

    assert ran.exit_code == ExitCode.DONE
    assert (model / "labels.txt").read_text().splitlines() == [*LABELS, "purple ring"]
    output = report_of(report)
    paths = [Path(video["path"]) for video in output["draws"][0]["test"]]  # type: ignore[index]
    (offered, *_) = bike("classify", "-m", model, "-k", "9", paths[0]).records
    assert {entry["label"] for entry in offered["top"]} == {*LABELS, "purple ring"}  # type: ignore[attr-defined]
    answers = bike("classify", "-m", model, "-L", ",".join(LABELS), *paths).records
    right = [a["label"] == p.parent.name.replace("_", " ") for a, p in zip(answers, paths, strict=True)]
    (result,) = (one for one in output["results"] if one["method"] == "bike")  # type: ignore[attr-defined]
    assert sum(right) / len(right) == pytest.approx(result["top1"]["value"], abs=1e-6)


def test_settings_of_the_classifier_need_no_flag(kept: Callable[[str], Kept]) -> None:
    dumped = bike("classify", "--classifier", kept("probe").file, "--dump-config").stdout

    assert "model: tiny\n" in dumped
    assert "frames: 4\n" in dumped
    assert "spot: words\n" in dumped


@pytest.mark.parametrize(
    ("flags", "message"),
    [
        (("-L", "a, b"), "labels: {file} has labels already; leave -l and -L out, or add labels with --also"),
        (("-l", "{file}"), "labels: {file} has labels already; leave -l and -L out, or add labels with --also"),
        (("--also", "Red  square"), "label 'red square': is given twice, ignoring case and spaces; remove one"),
        (("--also", "juggling, juggling"), "--also, label 2: label 'juggling' repeats 'juggling' (--also, label 1)"),
    ],
    ids=lambda value: value[0] if isinstance(value, tuple) else "",
)
def test_what_does_not_go_with_a_classifier_is_refused(
    kept: Callable[[str], Kept], data: Path, flags: tuple[str, ...], message: str
) -> None:
    classifier = kept("probe")

    ran = classify(classifier, data / "red_square" / "0.mp4", *(flag.format(file=classifier.file) for flag in flags))

    assert ran.exit_code == ExitCode.USAGE
    assert output(ran).startswith(message.format(file=classifier.file))


@pytest.mark.parametrize(
    ("flags", "trained", "now"),
    [
        (("--frames", "8"), "frames 4", "frames 8"),
        (("--crops", "3"), "crops 1", "crops 3"),
        (("--pool", "mean"), "pool tcs", "pool mean"),
        (("--spot", "eot"), "spot words", "spot eot"),
        (("--temperature", "0.5"), "temperature 0.1", "temperature 0.5"),
        (("--template", "class"), "template bike", "template class"),
        (("--frames", "8", "--pool", "mean"), "frames 4 and pool tcs", "frames 8 and pool mean"),
    ],
    ids=lambda value: value[0] if isinstance(value, tuple) else "",
)
def test_a_setting_that_contradicts_the_classifier_wins_with_a_warning(
    kept: Callable[[str], Kept], data: Path, flags: tuple[str, ...], trained: str, now: str
) -> None:
    ran = classify(kept("probe"), data / "red_square" / "0.mp4", *flags)

    unset = " and ".join(flags[::2])
    assert (ran.exit_code, len(ran.records)) == (ExitCode.DONE, 1)
    assert ran.stderr == (
        f"warning: classifier: was trained with {trained}, but this run has {now}; leave out {unset}\n"
    )


def test_the_classifier_of_another_model_is_refused_with_both_named(
    kept: Callable[[str], Kept], data: Path, tiny: Engine, monkeypatch: pytest.MonkeyPatch
) -> None:
    trained = kept("probe")
    other = replace(tiny, name="another", temporal_head=TemporalTransformer(96, 1).eval())
    monkeypatch.setattr(engines, "load", lambda *_, **__: other)

    ran = classify(trained, data / "red_square" / "0.mp4")

    assert ran.exit_code == ExitCode.USAGE
    assert output(ran) == (
        f"classifier: was trained with the model tiny ({tiny.fingerprint}), but this run uses another "
        f"({other.fingerprint}); give --model tiny, or train it again with this one"
    )


def test_the_classifier_of_a_model_of_another_name_is_refused_before_weights_are_loaded(
    kept: Callable[[str], Kept], data: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    trained = kept("probe")
    monkeypatch.setattr(engines, "load", lambda *_, **__: pytest.fail("loads weights"))

    ran = classify(trained, data / "red_square" / "0.mp4", "-m", "base", "--offline")

    assert ran.exit_code == ExitCode.USAGE
    assert output(ran) == (
        f"{trained.file}: was trained with the model tiny, but this run uses base; give --model tiny, or train it "
        "again with --model base"
    )


def test_a_damaged_classifier_is_an_error_of_a_model(kept: Callable[[str], Kept], data: Path, tmp_path: Path) -> None:
    cut = tmp_path / "cut.bike"
    cut.write_bytes(kept("probe").file.read_bytes()[:-1])

    ran = bike("classify", "--classifier", cut, data / "red_square" / "0.mp4")

    assert ran.exit_code == ExitCode.NO_MODEL
    assert output(ran).startswith(f"{cut}: is not a complete bike classifier (")


def test_further_labels_need_a_classifier(data: Path) -> None:
    ran = bike("classify", *NO_SUCH_MODEL, data / "red_square" / "0.mp4", "--also", "juggling")

    assert ran.exit_code == ExitCode.USAGE
    assert output(ran) == (
        "--also: adds labels to those of a classifier or a trained model; leave it out, and give all labels with -L"
    )


# -- pictures -----------------------------------------------------------------------------------------------------


def test_two_pictures_are_drawn(data: Path, tmp_path: Path) -> None:
    pytest.importorskip("matplotlib")

    ran = fewshot(data, "--trials", "2", "--shots", "1,2", "--method", "proto", "--plots", tmp_path / "new" / "plots")

    files = sorted((tmp_path / "new" / "plots").iterdir())
    assert (ran.exit_code, ran.stderr) == (ExitCode.DONE, "")
    assert [file.name for file in files] == ["confusion_matrix.png", "learning_curve.png"]
    assert [file.read_bytes()[:8] for file in files] == [PNG, PNG]


def test_labels_are_no_formulas_in_pictures(own: Path, tmp_path: Path) -> None:
    pytest.importorskip("matplotlib")
    (own / "red_square").rename(own / "$a_{b$ \\frac")

    assert fewshot(own, *ONE_DRAW, "--plots", tmp_path / "plots").exit_code == ExitCode.DONE


def test_without_matplotlib_the_way_to_it_is_reported(
    data: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(plots, "find_spec", lambda _: None)

    ran = bike("fewshot", *NO_SUCH_MODEL, data, "--plots", tmp_path / "plots")

    assert ran.exit_code == ExitCode.USAGE
    assert output(ran) == "--plots: draws with matplotlib, which is not installed; pip install 'bike-cli[plots]'"
    assert not (tmp_path / "plots").exists()


# -- wrong use ----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["{data}", "--trials", "0"], "trials is 0; give a whole number of at least 1"),
        (["{data}", "--seed", "-1"], "seed is -1; give a whole number of at least 0"),
        (["{data}", "--test-frac", "2"], "test_fraction is 2.0; give a number between 0 and 1, such as 0.3"),
        (["{data}", "--test-frac", "0"], "test_fraction is 0.0; give a number between 0 and 1, such as 0.3"),
        (["{data}", "--test-frac", "nan"], "test_fraction is nan; give a number between 0 and 1, such as 0.3"),
        (["{data}", "--frames", "0"], "frames is 0; give a whole number of at least 1"),
        (["{data}", "--also", "a"], "--also: adds labels to the saved classifier, and none is saved; add --save"),
        (["{data}", "--also", " , ", "--save", "{here}/a"], "--also: contains no label; give some, such as --also '"),
        (["{data}", "-o", "{here}/no/r.json"], "{here}/no/r.json: its folder does not exist; name a file"),
        (["{data}", "-o", "{here}"], "{here}: is a folder; name a file in a folder that exists"),
        (["{data}", "--save", "{here}/no/a.bike"], "{here}/no/a.bike: its folder does not exist; name a"),
        (["{data}", "--save", "{here}"], "{here}: is a folder; name a file in a folder that exists"),
        (["{data}", "--plots", "{here}/file"], "{here}/file: is a file; name a folder for the pictures"),
        (["{here}/none"], "{here}/none: no such file or folder; give a folder of class folders, a CSV file that"),
        (["{data}/red_square"], "{data}/red_square: contains 5 videos and no class folder; make a folder for each"),
        (["{here}"], "{here}: contains no class folder; make a folder for each class"),
        (["{data}", "--root", "{here}"], "{here}: is a root for the paths in a file, but {data} is a folder; leave"),
        (["{data}", "-l", "{here}/none"], "{here}/none: "),
    ],
)
def test_wrong_use_is_reported_before_the_model_is_loaded(
    data: Path, tmp_path: Path, arguments: list[str], message: str
) -> None:
    (tmp_path / "file").touch()
    places = {"data": data, "here": tmp_path}

    ran = bike("fewshot", *NO_SUCH_MODEL, *(argument.format(**places) for argument in arguments))

    assert output(ran).startswith(message.format(**places))
    assert ran.exit_code == ExitCode.USAGE == 2


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["--shots", "0"], "shots is '0'; give whole numbers above 0, such as 1,2,4"),
        (["--shots", "one"], "shots is 'one'; give whole numbers above 0, such as 1,2,4"),
        (["--shots", "1,"], "shots is '1,'; give whole numbers above 0, such as 1,2,4"),
        (
            ["--shots", "9"],
            "class 'blue_circle': has 5 videos, but 9 shots need 9 to learn from and 1 to test on; give",
        ),
        (
            ["--shots", "5"],
            "class 'blue_circle': has 5 videos, but 5 shots need 5 to learn from and 1 to test on; give",
        ),
        (["--method", "svm"], "unknown method 'svm'; choose zeroshot, proto, tip, probe"),
        (["--method", ""], "unknown method ''; choose zeroshot"),
        (["--frames", "78"], "frames is 78, but the temporal head of tiny has positions for 77; give fewer --frames"),
        (["--template", "bikes"], "bikes: no such set of templates; the nearest is 'bike'"),
        (
            ["--save", "{here}/a", "--also", "juggling, Red Square"],
            "label 'Red Square': is already learned from videos",
        ),
    ],
)
def test_wrong_use_leaves_no_file(data: Path, tmp_path: Path, arguments: list[str], message: str) -> None:
    here = {"here": tmp_path}

    ran = fewshot(data, "-o", tmp_path / "report.json", *(argument.format(**here) for argument in arguments))

    assert output(ran).startswith(message)
    assert ran.exit_code == ExitCode.USAGE
    assert list(tmp_path.iterdir()) == []


def test_a_share_to_hold_back_is_refused_next_to_a_test_side(data: Path, own: Path) -> None:
    for path in own.rglob("[1-9].mp4"):
        path.unlink()

    ran = fewshot(data, "--test", own, "--test-frac", "0.3")

    assert ran.exit_code == ExitCode.USAGE
    assert output(ran).startswith(
        "--test-fraction: holds videos back for testing, but the data have a test side; leave"
    )


def test_an_unknown_model_names_the_nearest(data: Path) -> None:
    ran = bike("fewshot", "-m", "tinny", data)

    assert ran.exit_code == ExitCode.NO_MODEL
    assert output(ran).startswith(
        "model 'tinny': is not a short name, ARCH,TAG, file or folder; did you mean tiny or pe-tiny?"
    )


@pytest.mark.parametrize("flag", ["-o", "--save"])
def test_the_list_that_is_read_is_not_overwritten(data: Path, tmp_path: Path, flag: str) -> None:
    listed = tmp_path / "list.csv"
    rows = [f"{path},{path.parent.name}" for path in sorted(data.rglob("*.mp4"))]
    listed.write_text("\n".join(["path,label", *rows]))
    before = listed.read_bytes()

    ran = fewshot(listed, *ONE_DRAW, "--method", "proto", flag, listed)

    assert listed.read_bytes() == before
    assert ran.exit_code == ExitCode.USAGE


@pytest.mark.parametrize("flag", ["-o", "--save"])
def test_no_video_is_overwritten(own: Path, tmp_path: Path, flag: str) -> None:
    named = own / "red_square" / "1.mp4"
    video = named.rename(named.with_suffix(""))  # its name does not say that it is a video
    before, listed = video.read_bytes(), tmp_path / "list.csv"
    rows = [f"{path},{path.parent.name}" for path in sorted(own.glob("*/*"))]
    listed.write_text("\n".join(["path,label", *rows]))

    ran = fewshot(listed, *ONE_DRAW, "--method", "proto", flag, video)

    assert (ran.exit_code, video.read_bytes()) == (ExitCode.USAGE, before)
    assert f"{video}: is a video that this command reads; choose another name" in ran.stderr


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["-one.mp4"], "-o ne.mp4: is the name of a video or image; choose another, such as report.json; "),
        (["--save", "a.png"], "--save a.png: is the name of a video or image; choose another, such as actions.bike"),
        (["--save", "a.txt"], "--save a.txt: --save does not write .txt files; end the name in .bike"),
        (["--save", "a.onnx"], "--save a.onnx: --save does not write .onnx files; end the name in .bike"),
        (["-o", "report.xlsx"], "-o report.xlsx: -o does not write .xlsx files; end the name in .json"),
        (
            ["--method", "bike", "--save", "a.bike"],
            "a.bike: is named like a file, but will be a folder; choose another",
        ),
        (["--plots", "a.png"], "a.png: is named like a file, but will be a folder; choose another name, such as a\n"),
    ],
)
def test_no_result_is_named_like_another_kind_of_file(
    data: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, arguments: list[str], message: str
) -> None:
    monkeypatch.chdir(tmp_path)
    before = set(tmp_path.iterdir())

    ran = bike("fewshot", *NO_SUCH_MODEL, data, *arguments)

    assert set(tmp_path.iterdir()) == before

    assert ran.exit_code == ExitCode.USAGE
    assert message in ran.stderr


@pytest.mark.parametrize("flag", ["-o", "--save"])
def test_what_is_no_ordinary_file_is_not_replaced(data: Path, tmp_path: Path, flag: str) -> None:
    os.mkfifo(tmp_path / "pipe")

    ran = fewshot(data, *ONE_DRAW, "--method", "proto", flag, tmp_path / "pipe")

    assert ran.exit_code == ExitCode.USAGE
    assert (tmp_path / "pipe").is_fifo()
    assert "is not an ordinary file; name one" in ran.stderr


def test_a_picture_that_cannot_be_written_costs_no_report(data: Path, tmp_path: Path) -> None:
    (tmp_path / "pictures" / "learning_curve.png").mkdir(parents=True)

    ran = fewshot(
        data, *ONE_DRAW, "--method", "proto", "--plots", tmp_path / "pictures", "-o", tmp_path / "report.json"
    )

    assert ran.exit_code == ExitCode.USAGE
    assert "proto" in ran.stdout
    assert report_of(tmp_path / "report.json")["command"] == "fewshot"
    assert "pictures: cannot be written (Is a directory)" in ran.stderr


def test_report_and_classifier_are_two_files(data: Path, tmp_path: Path) -> None:
    same = tmp_path / "same"

    ran = fewshot(data, *ONE_DRAW, "--method", "proto", "-o", same, "--save", same)

    assert ran.exit_code == ExitCode.USAGE


@pytest.mark.parametrize("flag", ["--save", "--plots"])
def test_what_cannot_be_written_is_reported_in_a_line(data: Path, flag: str) -> None:
    ran = fewshot(data, *ONE_DRAW, "--method", "proto", flag, "/proc/new")

    assert ran.exit_code == ExitCode.USAGE
    assert "/proc/new: " in ran.stderr


# -- without a run ------------------------------------------------------------------------------------------------


def test_help_shows_every_flag_with_its_default() -> None:
    text = bike("fewshot", "--help").stdout

    for flag in ("--shots", "--method", "--trials", "--seed", "--test-frac", "--save", "--also", "--plots"):
        assert flag in text
    assert "[default: probe]" in text


@pytest.mark.parametrize("arguments", [("fewshot", "--help"), ("fewshot", "data", "--dump-config")])
def test_no_torch_where_nothing_is_computed(arguments: tuple[str, ...]) -> None:
    command = [sys.executable, "-X", "importtime", "-m", "bike_cli", *arguments]

    done = subprocess.run(command, capture_output=True, text=True, timeout=60, check=True)

    imported = [line.rsplit("|", 1)[1].strip() for line in done.stderr.splitlines() if line.startswith("import time:")]
    assert "bike_cli.cli.fewshot" in imported
    assert not {"torch", "open_clip", "matplotlib"} & {name.split(".")[0] for name in imported}


def test_a_dumped_config_is_read_again(data: Path, tmp_path: Path) -> None:
    config = tmp_path / "bike.yaml"
    config.write_text(bike("fewshot", data, "--trials", "2", "--shots", "1", "-m", "tiny", "--dump-config").stdout)

    ran = bike("fewshot", data, "--config", config, "--method", "proto", "--seed", "7")

    assert ran.exit_code == ExitCode.DONE
    assert "over 2 draws" in ran.stdout
    assert "seed 7 · model tiny" in ran.stdout


def test_each_video_that_keeps_a_class_from_being_drawn_is_named(own: Path) -> None:
    rows = ["path,label", "gone.mp4,a", "sub\\lost.mp4,a", "https://youtu.be/x,a"]
    rows += [f"{CLASSES[1]}/{i}.mp4,b" for i in range(3)]
    (own / "all.csv").write_text("\n".join(rows))

    ran = fewshot(own / "all.csv", "--shots", "1")

    assert ran.exit_code == ExitCode.USAGE
    *warnings, error = ran.stderr.splitlines()
    first = f"the first: {own}/gone.mp4: no such file; check the path"
    assert error.startswith(f"error: class 'a': has 0 videos (3 more cannot be used; {first})")
    assert fewshot(own / "all.csv", "--shots", "1", "-q").stderr == f"{error}\n"
    assert warnings[0] == f"warning: {own}/gone.mp4: no such file; check the path"
    assert warnings[1].startswith("warning: https://youtu.be/x: bike does not read URLs")
    assert warnings[2].startswith(f"warning: {own}/sub\\lost.mp4: no such file; its backslashes separate folders on")


@pytest.mark.parametrize(
    ("method", "name"), [("proto", "a.bike"), pytest.param("bike", "model", marks=pytest.mark.slow)]
)
def test_a_saved_classifier_is_not_replaced_in_silence(data: Path, tmp_path: Path, method: str, name: str) -> None:
    save = tmp_path / name
    given = (data, *ONE_DRAW, "--method", method, "--save", save)

    first, second, quiet = fewshot(*given), fewshot(*given), fewshot(*given, "-q")

    warning = f"warning: {save}: exists and will be replaced\n"
    assert [ran.exit_code for ran in (first, second, quiet)] == [ExitCode.DONE] * 3
    assert [ran.stderr.count(warning) for ran in (first, second, quiet)] == [0, 1, 0]
