"""Saved classifiers reject what shows none of their classes: from `fewshot --save` to `classify`, in this process."""

import json
import re
import shutil
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from films import drawn, write_video
from invoke import Ran, bike

from bike_cli.engine.heads.saved_classifier import load_classifier, save_classifier
from bike_cli.errors import ExitCode

# Of the names of the classes, the model knows no word, so that only the shots tell what they look like.
CLASSES = {"zorb": "blue circle", "quax": "green cross", "wibble": "red square"}
EACH, SHOTS = 9, 2
TESTED = len(CLASSES) * (EACH - SHOTS)
FLAGS = ("-m", "tiny", "--frames", "2")

pytestmark = pytest.mark.usefixtures("one_store_for_all")


@pytest.fixture(scope="module")
def data(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("classifier-calibration") / "data"
    for name, shown in CLASSES.items():
        (folder / name).mkdir(parents=True)
        for i in range(EACH):
            write_video(folder / name / f"{i}.mp4", np.roll(drawn(shown, frames=8 + i), 3 * i - 12, axis=1))
    return folder


@pytest.fixture(scope="module")
def others(data: Path) -> Path:
    """Clips of the classes, those of the data among them, and of none."""
    folder = Path(shutil.copytree(data, data.with_name("others")))
    (folder / "none").mkdir()
    for i, shown in enumerate(["red circle", "blue cross", "green square"]):
        write_video(folder / "none" / f"{i}.mp4", drawn(shown, frames=9))
    return folder


@pytest.fixture(scope="module")
def kept(data: Path) -> tuple[Path, Ran]:
    """A classifier that is saved with a calibration, and the run that saved it."""
    file = data.with_name("actions.bike")
    return file, bike("fewshot", data, *FLAGS, "--shots", SHOTS, "--trials", "1", "--save", file)


@pytest.fixture
def old(kept: tuple[Path, Ran], tmp_path: Path) -> Path:
    """The same classifier, as an earlier bike saved it."""
    file = tmp_path / "old.bike"
    save_classifier(replace(load_classifier(kept[0]), measure="logit", distances=None, calibration=None), file)
    return file


def classify(file: Path, videos: Path, *arguments: object) -> Ran:
    return bike("classify", videos, "--classifier", file, *arguments)


def test_saving_says_how_many_videos_calibrate_and_what_rejection_costs(kept: tuple[Path, Ran]) -> None:
    file, ran = kept

    assert ran.exit_code == ExitCode.DONE
    assert (
        f"{file}: calibrated on {TESTED} test videos: --reject auto loses at most 5.0 % of the videos of these "
        "classes, on average; how many other videos it catches is unknown" in ran.stderr
    )
    assert load_classifier(file).measure == "distance"


@pytest.mark.parametrize(
    ("flags", "problem"),
    [
        (("--shots", "3"), "18 test videos, and a calibration needs 19; add 1, or run bike calibrate --classifier"),
        (("--shots", "2", "--also", "white ring"), "labels without videos have none to calibrate with"),
    ],
)
def test_saving_says_why_there_is_no_calibration(
    flags: tuple[str, ...], problem: str, data: Path, tmp_path: Path
) -> None:
    file = tmp_path / "a.bike"

    ran = bike("fewshot", data, *FLAGS, "--trials", "1", "--save", file, *flags)

    assert ran.exit_code == ExitCode.DONE
    assert f"{file}: has no calibration for --reject auto: {problem}" in ran.stderr
    assert load_classifier(file).calibration is None


def test_a_copy_of_a_shot_calibrates_nothing(data: Path, kept: tuple[Path, Ran], tmp_path: Path) -> None:
    shots = load_classifier(kept[0]).manifest["videos"]
    assert isinstance(shots, list)
    own = Path(shutil.copytree(data, tmp_path / "data"))
    for i, shot in enumerate(shots):
        file = own / Path(shot["path"]).relative_to(data)
        shutil.copy(file, file.with_name(f"copy-{i}.mp4"))

    bike("fewshot", own, *FLAGS, "--shots", SHOTS, "--trials", "1", "--save", tmp_path / "a.bike")

    saved = load_classifier(tmp_path / "a.bike")
    assert saved.calibration is not None
    assert not saved.contents & saved.calibration.contents
    assert len(saved.calibration.values) == len(saved.calibration.contents) == TESTED


def test_of_several_draws_and_methods_the_saved_one_is_calibrated_by_its_own_test_videos(
    data: Path, tmp_path: Path
) -> None:
    file, report, again = tmp_path / "a.bike", tmp_path / "report.json", tmp_path / "cal.json"
    flags = ("--shots", "1,2", "--trials", "3", "--seed", "5", "--method", "proto,tip")

    assert bike("fewshot", data, *FLAGS, *flags, "--save", file, "-o", report).exit_code == ExitCode.DONE
    assert bike("calibrate", data, "--classifier", file, "--save", again).exit_code == ExitCode.DONE

    saved = load_classifier(file)
    assert saved.calibration is not None
    first = json.loads(report.read_text())["draws"][0]
    assert saved.calibration.contents == {video["sha256"] for video in first["test"]}
    np.testing.assert_allclose(saved.calibration.values, json.loads(again.read_text())["values"], rtol=1e-4)


def test_clips_of_none_tell_how_far_they_are(kept: tuple[Path, Ran], others: Path, tmp_path: Path) -> None:
    cal = tmp_path / "cal.json"
    ran = bike("calibrate", others, "--classifier", kept[0], "--save", cal)
    report = bike("calibrate", others, "--classifier", kept[0], "-f", "json", "-q").records[0]

    assert ran.exit_code == ExitCode.DONE
    assert "lost above each threshold of the distance" in re.sub(r"\s+", " ", ran.stdout)
    assert "known clips and none, by distance" in re.sub(r"\s+", " ", ran.stdout)
    assert report["measure"] == "distance"
    assert len(report["learned"]) == SHOTS * len(CLASSES)
    values = json.loads(cal.read_text())["values"]
    own = report["promises"][0]
    assert own["threshold"] == pytest.approx(-min(values), abs=1e-6)  # of 21 clips, 5 % lose the farthest
    assert own["threshold"] > 0
    records = classify(kept[0], others, "--calibration", cal, "--reject", "auto", "-f", "jsonl", "-q").records
    of_none = [record for record in records if "/none/" in record["path"]]
    assert sum(record["rejected"] for record in of_none) == own["caught"]
    assert all(0 < record["right"] < 1 for record in records)
    assert sum(record["rejected"] for record in records if "/none/" not in record["path"]) <= 1


def test_a_run_is_resumed_with_the_same_promise_alone(kept: tuple[Path, Ran], data: Path, tmp_path: Path) -> None:
    answers, auto = tmp_path / "answers.jsonl", ("--reject", "auto")
    assert classify(kept[0], data / "zorb", *auto, "-o", answers).exit_code == ExitCode.DONE
    before = answers.read_bytes()

    for rule in ((*auto, "--promise", "0.2"), ()):
        ran = classify(kept[0], data, *rule, "-o", answers, "--resume")
        assert ran.exit_code == ExitCode.USAGE
        assert "was made with other labels or settings" in ran.stderr or "give --reject" in ran.stderr
        assert answers.read_bytes() == before
    assert classify(kept[0], data, *auto, "-o", answers, "--resume").exit_code == ExitCode.DONE
    assert len(answers.read_bytes().splitlines()) == EACH * len(CLASSES)


def test_a_run_is_not_resumed_with_another_calibration(kept: tuple[Path, Ran], data: Path, tmp_path: Path) -> None:
    saved = load_classifier(kept[0])
    assert saved.calibration is not None
    moved, file, answers = saved.calibration.values - 1, tmp_path / "a.bike", tmp_path / "answers.jsonl"
    save_classifier(replace(saved, calibration=replace(saved.calibration, values=moved)), file)
    assert classify(kept[0], data / "zorb", "--reject", "auto", "-o", answers).exit_code == ExitCode.DONE

    ran = classify(file, data, "--reject", "auto", "-o", answers, "--resume")

    assert ran.exit_code == ExitCode.USAGE
    assert "was made with other labels or settings" in ran.stderr


@pytest.mark.slow
def test_a_classifier_of_an_earlier_bike_works_as_before(
    kept: tuple[Path, Ran], old: Path, others: Path, tmp_path: Path
) -> None:
    cal = tmp_path / "cal.json"
    as_before, now = (classify(file, others, "-f", "jsonl", "-q").records for file in (old, kept[0]))

    refused = classify(old, others, "--reject", "auto")
    calibrated = bike("calibrate", others, "--classifier", old, "--save", cal)
    answers = classify(old, others, "--calibration", cal, "--reject", "auto", "-f", "jsonl", "-q")

    assert [record["top"] for record in as_before] == [record["top"] for record in now]
    assert refused.exit_code == ExitCode.USAGE
    assert "the classifier was saved without a calibration; run bike calibrate --classifier" in refused.stderr
    assert calibrated.exit_code == answers.exit_code == ExitCode.DONE
    assert json.loads(cal.read_text())["measure"] == "logit"
    assert "lost below each threshold of the logit" in re.sub(r"\s+", " ", calibrated.stdout)
    assert len(answers.records) == EACH * len(CLASSES) + 3
    other = classify(kept[0], others, "--calibration", cal, "--reject", "auto")
    assert other.exit_code == ExitCode.USAGE
    assert "is of another classifier" in other.stderr
