"""`bike calibrate`, run in this process with the bundled model, against what `bike classify` answers."""

import hashlib
import json
import re
import shlex
import shutil
from pathlib import Path

import numpy as np
import pytest
from calibration_clips import EACH, LABELS, write_calibration_clips
from films import drawn, write_video
from invoke import Ran, bike, bike_on_terminal
from scipy import stats
from sklearn.metrics import roc_auc_score

from bike_cli.config import ClassifyConfig, SamplingConfig
from bike_cli.engine.calibration.files import read_calibration
from bike_cli.engine.engine import Engine
from bike_cli.errors import ExitCode
from bike_cli.inference.conditions import conditions_of

KNOWN = EACH * len(LABELS)
NO_SUCH_MODEL = ("-m", "no-such-model")  # an error that comes before this one was found before the model is loaded

pytestmark = pytest.mark.usefixtures("one_store_for_all")


def calibrate(*arguments: object, model: str = "tiny") -> Ran:
    return bike("calibrate", "-m", model, "--frames", "4", *arguments)


@pytest.fixture(scope="module")
def data(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Six classes of four films, and three films of none."""
    return write_calibration_clips(tmp_path_factory.mktemp("calibrate") / "data")


@pytest.fixture
def own(data: Path, tmp_path: Path) -> Path:
    """The same films, which a test may change."""
    return Path(shutil.copytree(data, tmp_path / "data"))


def answers(folder: Path) -> dict[str, dict[str, object]]:
    """Return what `bike classify` answers for the films of a folder, by path."""
    ran = bike("classify", folder, "-m", "tiny", "--frames", "4", "-L", ",".join(LABELS), "-f", "jsonl")
    return {str(record["path"]): record for record in ran.records}


def best_cosines(folder: Path) -> tuple[list[float], list[float]]:
    """Return the cosines of the winners, of known films and of those of none."""
    records = answers(folder)
    cosines = {path: record["top"][0]["cosine"] for path, record in records.items()}  # type: ignore[index]
    known = [cosine for path, cosine in cosines.items() if "/none/" not in path]
    return known, [cosine for path, cosine in cosines.items() if "/none/" in path]


def output(ran: Ran, code: ExitCode = ExitCode.USAGE) -> str:
    """Return the last line that says what is wrong."""
    assert ran.exit_code == code
    assert ran.stdout == ""
    *_, message = ran.stderr.rstrip("\n").split("\n")
    assert message.startswith("error: ")
    assert "; " in message
    return message.removeprefix("error: ")


@pytest.mark.slow  # over a second of a core
def test_the_saved_scores_are_the_cosines_of_the_winners(data: Path, tmp_path: Path, tiny: Engine) -> None:
    ran = calibrate(data, "--save", tmp_path / "cal.json")

    assert ran.exit_code == ExitCode.DONE
    saved = read_calibration(tmp_path / "cal.json")
    known, unknown = best_cosines(data)
    assert len(known) == KNOWN
    assert saved.values.tolist() == pytest.approx(sorted(known), abs=1e-6)  # records have six digits
    assert saved.labels == LABELS
    assert saved.contents == {hashlib.sha256(file.read_bytes()).hexdigest() for file in data.rglob("*.mp4")}
    saved.check(conditions_of(tiny, ClassifyConfig(sampling=SamplingConfig(frames=4))))
    assert saved.curve is not None
    assert saved.curve.at(min(known)) > 0.5 > saved.curve.at(max(unknown))
    assert saved.threshold() == min(saved.values)  # 1 of 24 clips at 5 %
    assert f"{tmp_path / 'cal.json'}: 5.0 % promised, {KNOWN} clips; use it with bike classify" in ran.stderr


def test_the_report_agrees_with_other_programs(data: Path) -> None:
    report = calibrate(data, "-f", "json", "-q").records[0]

    known, unknown = best_cosines(data)
    records = [record for path, record in answers(data).items() if "/none/" not in path]
    losses = [-np.log(record["score"]) for record in records]  # type: ignore[call-overload]
    assert report["clips"] == {"known": KNOWN, "available": KNOWN, "unknown": 3}
    assert report["classes"] == [{"label": label, "clips": EACH} for label in LABELS]
    assert report["accuracy"]["value"] == 1.0  # type: ignore[index]
    assert report["before"]["log_loss"] == pytest.approx(np.mean(losses), abs=2e-6)  # type: ignore[index]
    truth = [1] * len(known) + [0] * len(unknown)
    auroc, fpr95 = (report["separation"][name] for name in ("auroc", "fpr95"))  # type: ignore[index]
    assert auroc["value"] == pytest.approx(roc_auc_score(truth, known + unknown))
    kept = sorted(known)[int(0.05 * KNOWN)]  # 95 % of the known are not below
    assert fpr95["value"] == pytest.approx(np.mean([cosine >= kept for cosine in unknown]))
    assert all(one["low"] <= one["value"] <= one["high"] for one in (auroc, fpr95))
    five, ten = report["promises"]  # type: ignore[misc]
    for row, rank in ((five, 1), (ten, 2)):
        assert row["threshold"] == pytest.approx(sorted(known)[rank - 1], abs=1e-6)
        assert row["expected"] == pytest.approx(rank / (KNOWN + 1), abs=1e-6)
        interval = stats.beta(rank, KNOWN + 1 - rank).interval(0.95)
        assert (row["low"], row["high"]) == pytest.approx(interval, abs=1e-6)
        assert row["caught"] == sum(cosine < row["threshold"] for cosine in unknown)


@pytest.mark.slow
def test_the_same_clips_are_the_same_bytes(data: Path, tmp_path: Path) -> None:
    files = [tmp_path / f"{i}.json" for i in range(3)]
    reports = [
        calibrate(data, "-f", "json", "-q", "--save", file, *further).stdout
        for file, further in zip(files, ((), ("--no-cache", "--workers", "1"), ("--workers", "2")), strict=True)
    ]

    assert reports[0] == reports[1] == reports[2]
    assert files[0].read_bytes() == files[1].read_bytes() == files[2].read_bytes()


def test_the_command_in_the_note_rejects_by_the_calibration(own: Path, tmp_path: Path) -> None:
    file, labels, settings = tmp_path / "my cal.json", tmp_path / "labels.txt", tmp_path / "bike.yaml"
    labels.write_text("".join(f"{label}\n" for label in LABELS))
    settings.write_text("frames: 4\n")
    flags = ("-m", "tiny", "--config", settings, "--template", "a {}, seen", "--draft", "--promise", "0.2")

    saved = bike("calibrate", own, "-l", labels, *flags, "--save", file)

    note = saved.stderr.rsplit("use it with bike ", 1)[1].strip()
    films = sorted(own.rglob("*.mp4"))
    ran = bike(*shlex.split(note)[:-1], *films, "-f", "jsonl")
    assert (ran.exit_code, "warning" in ran.stderr) == (ExitCode.DONE, False)
    assert [r["rejected"] for r in ran.records] == [r["fit"] <= 0.2 for r in ran.records]  # type: ignore[operator]
    known = [r["rejected"] for r in ran.records if "/none/" not in str(r["path"])]
    assert sum(known) == 4  # below the fifth of 24: 5 / 25 is 20 %


def test_without_a_file_of_labels_the_note_has_a_place_for_one(own: Path, tmp_path: Path) -> None:
    saved = calibrate(own, "--save", tmp_path / "c.json")

    assert f"use it with bike classify --model tiny --frames 4 -l labels.txt --calibration {tmp_path}" in saved.stderr


def test_no_column_is_cut_off_where_clips_are_too_few(own: Path) -> None:
    for film in sorted(own.rglob("[23].mp4")):
        film.unlink()

    ran = bike_on_terminal("calibrate", "-m", "tiny", "--frames", "4", own, "--promise", "0.2", columns=80)

    assert re.search(r" \d of \d *$", re.sub(r"\x1b\[[0-9;]*m", "", ran.stdout), re.M), ran.stdout


@pytest.mark.parametrize("columns", [50, 80, 120])
def test_tables_fit_the_terminal(data: Path, columns: int) -> None:
    ran = bike_on_terminal("calibrate", "-m", "tiny", "--frames", "4", data, columns=columns)

    screen = re.sub(r"\x1b\[[0-9;]*m", "", ran.stdout)
    assert all(len(line) <= columns for line in screen.splitlines())
    words = " ".join(screen.split())
    assert "3 of 3" in words
    assert f"{KNOWN} known clips · 6 classes · 100.0 ±" in words
    assert "a calibration may lose up to 14.2 % instead of 5.0 %" in words  # the 97.5th percentile of Beta(1, 24)
    assert "nothing is promised about clips that show something else" in words


def test_without_clips_of_none_there_is_no_curve(own: Path, tmp_path: Path) -> None:
    shutil.rmtree(own / "none")
    ran = calibrate(own, "--save", tmp_path / "cal.json")

    assert ran.exit_code == ExitCode.DONE
    assert read_calibration(tmp_path / "cal.json").curve is None
    assert "AUROC" not in ran.stdout
    assert "caught" not in ran.stdout
    assert "none of the labels" not in ran.stderr


def test_the_class_of_none_may_have_another_name(own: Path, tmp_path: Path) -> None:
    (own / "none").rename(own / "background_noise")
    csv = tmp_path / "clips.csv"
    rows = [f"{file},{file.parent.name}" for file in sorted(own.rglob("*.mp4"))]
    csv.write_text("\n".join(["path,label", *rows]))

    for given in (own, csv):
        report = calibrate(given, "-f", "json", "-q", "--none-label", "background noise").records[0]
        assert report["clips"] == {"known": KNOWN, "available": KNOWN, "unknown": 3}
    assert "there is no class 'nothing'" in output(calibrate(own, "--none-label", "nothing", model="no-such-model"))


def test_a_clip_that_cannot_be_read_is_named_and_left_out(own: Path, tmp_path: Path, data: Path) -> None:
    (own / "red_circle" / "0.mp4").write_bytes(b"broken")
    (own / "none" / "0.mp4").write_bytes(b"")

    ran = calibrate(own, "--save", tmp_path / "cal.json", "-f", "json")

    assert ran.exit_code == ExitCode.SOME_FAILED
    assert {Path(failure["path"]).relative_to(own).as_posix() for failure in ran.records[0]["failed"]} == {  # type: ignore[attr-defined]
        "red_circle/0.mp4",
        "none/0.mp4",
    }
    assert ran.stderr.count("red_circle/0.mp4") == 1
    assert len(read_calibration(tmp_path / "cal.json").values) == KNOWN - 1


def test_a_promise_needs_enough_clips_that_can_be_read(own: Path, tmp_path: Path) -> None:
    for i, file in enumerate([*own.glob("red_c*/*.mp4")][:6]):
        file.write_bytes(b"broken %d" % i)

    message = output(calibrate(own, "-q", "--save", tmp_path / "cal.json"))

    assert message == (
        "promise 0.05: needs at least 19 known clips, but the calibration has 18 clips; calibrate with 1 more, or give "
        "--promise 0.1"
    )
    assert not (tmp_path / "cal.json").exists()
    assert calibrate(own, "-q", "--promise", "0.1").exit_code == ExitCode.SOME_FAILED


def test_too_few_clips_are_refused_before_the_model_is_loaded(own: Path) -> None:
    for label in LABELS[:2]:
        shutil.rmtree(own / label.replace(" ", "_"))

    assert "needs at least 19 known clips, but the calibration has 16" in output(calibrate(own, model="no-such-model"))


def test_copies_count_once(own: Path, tmp_path: Path) -> None:
    shutil.copy(own / "red_cross" / "0.mp4", own / "red_cross" / "again.mp4")
    ran = calibrate(own, "-f", "json", "--save", tmp_path / "cal.json")

    assert ran.exit_code == ExitCode.DONE
    copy, original = (str(own / "red_cross" / name) for name in ("again.mp4", "0.mp4"))
    assert ran.records[0]["copies"] == [{"path": copy, "same_as": original}]
    assert f"warning: {copy}: is the same video as {original}, and is counted once" in ran.stderr
    assert len(read_calibration(tmp_path / "cal.json").values) == KNOWN


@pytest.mark.parametrize("other", ["green_cross", "none"])
def test_one_film_cannot_be_two_things(own: Path, other: str) -> None:
    shutil.copy(own / "red_cross" / "0.mp4", own / other / "again.mp4")

    message = output(calibrate(own, "-q"))

    assert "is the same video as" in message
    assert "'red cross'" in message
    assert ("none of the labels" if other == "none" else "'green cross'") in message


def test_labels_that_the_model_does_not_know_take_no_part(own: Path, tmp_path: Path) -> None:
    (own / "green_cross").rename(own / "zorbing")
    ran = calibrate(own, "-f", "json", "--save", tmp_path / "cal.json")

    assert ran.exit_code == ExitCode.DONE
    assert "warning: label 'zorbing': tiny knows none of the words, so it takes no part with 4 clips" in ran.stderr
    assert read_calibration(tmp_path / "cal.json").labels == tuple(x for x in LABELS if x != "green cross")
    assert len(read_calibration(tmp_path / "cal.json").values) == KNOWN - EACH
    for i, folder in enumerate(sorted(own.iterdir())):
        folder.rename(own / ("none" if folder.name == "none" else "zorb" * (i + 1)))
    assert "tiny knows none of their words" in output(calibrate(own, "-q"))


def test_descriptions_count_as_in_classify(data: Path, tmp_path: Path) -> None:
    described = tmp_path / "labels.json"
    described.write_text(json.dumps({label: [f"a {label} moving right"] for label in LABELS}))
    assert calibrate(data, "-q", "-l", described, "--save", tmp_path / "cal.json").exit_code == ExitCode.DONE

    classify = ("classify", data, "-m", "tiny", "--frames", "4", "-f", "jsonl", "--calibration", tmp_path / "cal.json")
    records = bike(*classify, "-l", described).records
    cosines = [record["top"][0]["cosine"] for record in records if "/none/" not in str(record["path"])]  # type: ignore[index]
    assert read_calibration(tmp_path / "cal.json").values.tolist() == pytest.approx(sorted(cosines), abs=1e-6)
    without = bike(*classify, "-L", ",".join(LABELS))
    assert without.exit_code == ExitCode.USAGE
    assert "give the same descriptions, or calibrate again" in without.stderr


def test_classes_with_fewer_than_three_clips_are_named(own: Path) -> None:
    for i in (0, 1):
        (own / "red_cross" / f"{i}.mp4").unlink()
    (own / "blue_cross" / "0.mp4").unlink()

    assert "warning: class 'red cross': has fewer than 3 clips" in calibrate(own).stderr


@pytest.mark.parametrize(
    ("flags", "problem"),
    [
        (("--attribute-weight", "0.3"), "attributes: count with weight 0.3"),
        (("--attribute-model", "tiny"), "attributes: count with weight 0.3"),
        (("--template", "no braces"), "no braces"),
        (("--promise", "0.5"), "promise is 0.5; give a number above 0 and below 0.5"),
        (("--promise", "0"), "promise is 0"),
        (("--save", "cal.mp4"), "--save cal.mp4: is the name of a video"),
        (("--save", "no/such/cal.json"), "its folder does not exist"),
        (("--save", "cal.csv"), "--save does not write .csv files"),
        (("--labels", "missing.txt"), "missing.txt"),
    ],
)
def test_what_cannot_work_is_refused(data: Path, flags: tuple[str, ...], problem: str) -> None:
    assert problem in output(calibrate(data, "-q", *flags))


def test_what_is_no_classifier_is_refused(data: Path, tmp_path: Path) -> None:
    assert "no such classifier" in output(calibrate(data, "--classifier", tmp_path / "a.bike"), ExitCode.NO_MODEL)


def test_a_calibration_overwrites_no_video_and_no_data(own: Path, tmp_path: Path) -> None:
    csv = tmp_path / "clips.json"
    csv.write_text("path,label\n")
    assert "is read by this command" in output(calibrate(csv, "--save", csv, model="no-such-model"))
    (tmp_path / "cal.json").write_text("{}")
    assert "cal.json: exists and will be replaced" in calibrate(own, "--save", tmp_path / "cal.json").stderr


def test_clips_with_several_labels_are_refused(tmp_path: Path) -> None:
    film = write_video(tmp_path / "a.mp4", drawn("red square"))
    names = tmp_path / "classes.txt"
    names.write_text("c000 red square\nc001 blue circle\n")
    charades = tmp_path / "Charades_v1_test.csv"
    charades.write_text(f"id,subject,actions\n{film.stem},x,c000 0.0 1.0;c001 0.0 1.0\n")

    assert "several labels" in output(calibrate(charades, "--labels", names, "--promise", "0.4"))
