"""`bike eval --calibration`: the same answers as those of `bike classify`, in one command."""

import csv
import json
from pathlib import Path

import numpy as np
import pytest
from calibration_clips import LABELS, write_calibration_clips
from films import COLOURS, drawn, write_video
from invoke import Ran, bike

from bike_cli.errors import ExitCode

FLAGS = ("-m", "tiny", "--frames", "4")
UNKNOWN = ("--unknown", "none")
NOISE = (0.1, 0.3, 0.5, 0.8)  # share of noise in the films of a label

pytestmark = pytest.mark.usefixtures("one_store_for_all")


@pytest.fixture(scope="module")
def films(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Noisy films of six labels and of none of them."""
    folder, rng = tmp_path_factory.mktemp("rejection") / "films", np.random.default_rng(5)
    shown = {label: label for label in LABELS} | {f"{colour} square": "none" for colour in COLOURS}
    for text, name in shown.items():
        target = folder / name.replace(" ", "_")
        target.mkdir(parents=True, exist_ok=True)
        for i, share in enumerate(NOISE):
            film = drawn(text, frames=6)
            mixed = (1 - share) * film + share * rng.uniform(0, 255, film.shape)
            write_video(target / f"{text.replace(' ', '_')}_{i}.mp4", mixed.astype(np.uint8))
    return folder


@pytest.fixture(scope="module")
def calibration(tmp_path_factory: pytest.TempPathFactory, store: Path) -> Path:
    folder = tmp_path_factory.mktemp("calibration")
    data = write_calibration_clips(folder / "data")
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("XDG_CACHE_HOME", str(store))
        assert bike("calibrate", data, *FLAGS, "--save", folder / "cal.json", "-q").exit_code == ExitCode.DONE
    return folder / "cal.json"


def metrics_of(file: Path) -> dict[str, dict[str, float]]:
    return json.loads(file.read_text())["systems"][0]["metrics"]  # type: ignore[no-any-return]


def classified(films: Path, folder: Path, *flags: object) -> Ran:
    return bike("classify", films, *FLAGS, "-L", ",".join(LABELS), "-k", len(LABELS), *flags, "-o", folder / "a.jsonl")


@pytest.mark.parametrize(
    "rule",
    [("--reject", "auto"), ("--reject", "auto", "--promise", "0.1"), ("--reject", "0.3"), ("--reject", "off"), ()],
)
def test_figures_are_those_of_the_records_of_bike_classify(
    rule: tuple[str, ...], films: Path, calibration: Path, tmp_path: Path
) -> None:
    given = (*rule, "--calibration", calibration, "-q")
    ran = bike("eval", films, *FLAGS, *UNKNOWN, *given, "-o", tmp_path / "videos.json", "--resamples", "100")
    assert classified(films, tmp_path, *given).exit_code == ExitCode.DONE
    saved = bike(
        *("eval", tmp_path / "a.jsonl", "-l", films, *UNKNOWN, "-o", tmp_path / "saved.json", "--resamples", "100")
    )

    assert (ran.exit_code, saved.exit_code) == (ExitCode.DONE, ExitCode.DONE)
    videos, records = metrics_of(tmp_path / "videos.json"), metrics_of(tmp_path / "saved.json")
    assert videos.keys() - records.keys() == {"ece_before", "nll_before"}
    for key, metric in records.items():
        assert videos[key] == pytest.approx(metric, abs=1e-6), key
    exact = ("top1_none", "rejected_known", "rejected_none")
    assert [videos[key] for key in exact] == [records[key] for key in exact]
    answers = [json.loads(line) for line in (tmp_path / "a.jsonl").read_text().splitlines()]
    of_none = [Path(answer["path"]).parent.name == "none" for answer in answers]
    rejected = [answer["rejected"] for answer in answers]
    assert videos["rejected_none"]["value"] == np.mean([r for r, none in zip(rejected, of_none, strict=True) if none])


def test_the_rule_matters(films: Path, calibration: Path, tmp_path: Path) -> None:
    found = {}
    for reject in ("auto", "0.3", "off"):
        given = ("--calibration", calibration, "--reject", reject, "--resamples", "20")
        bike("eval", films, *FLAGS, *UNKNOWN, *given, "-o", tmp_path / "report.json")
        found[reject] = metrics_of(tmp_path / "report.json")["rejected_known"]["value"]

    assert 0 == found["off"] < found["0.3"] < found["auto"] < 1


def test_a_cosine_needs_no_calibration_and_the_run_can_be_repeated(films: Path, calibration: Path) -> None:
    file = calibration.parent / "report.json"
    plain = bike("eval", films, *FLAGS, *UNKNOWN, "--reject", "0.3", "--resamples", "20", "-o", file)
    assert "unknown rejected" in plain.stdout
    bike("eval", films, *FLAGS, *UNKNOWN, "--reject", "auto", "--calibration", calibration, "-o", file)

    again = bike("eval", "--from", file)

    assert again.exit_code == ExitCode.DONE
    assert "the metrics agree" in again.stderr
    assert json.loads(file.read_text())["arguments"]["calibration"] == str(calibration)


def test_clips_of_the_calibration_are_pointed_out(calibration: Path) -> None:
    given = (*UNKNOWN, "--calibration", calibration, "--resamples", "20")

    ran = bike("eval", calibration.parent / "data", *FLAGS, *given)

    assert ran.exit_code == ExitCode.DONE
    assert "--calibration: was made with 27 videos of these" in ran.stderr


@pytest.mark.parametrize(
    ("flags", "message"),
    [
        (("--template", "a {}"), "calibration: is of template"),
        (("--frames", "5"), "calibration: is of frames 4, but this run has frames 5; give --frames 4"),
        (("--reject", "auto", "--promise", "0.001"), "promise 0.001: needs at least 999 known clips"),
        (("--promise", "0.1"), "--promise 0.1: only counts with --reject auto"),
        (("--attributes", "auto", "--attribute-weight", "0.3"), "--calibration: does not count attributes"),
    ],
)
def test_what_classify_refuses_is_refused_in_the_same_words(
    flags: tuple[str, ...], message: str, films: Path, calibration: Path, tmp_path: Path
) -> None:
    given = ("--calibration", calibration, *flags)

    ran = bike("eval", films, *FLAGS, *UNKNOWN, *given)

    assert ran.exit_code == ExitCode.USAGE
    assert message in ran.stderr
    assert ran.stderr == classified(films, tmp_path, *given).stderr


def test_other_labels_than_those_of_the_calibration_are_pointed_out(films: Path, calibration: Path) -> None:
    ran = bike("eval", films, *FLAGS, "--calibration", calibration, "--resamples", "20")  # none is a label

    assert ran.exit_code == ExitCode.DONE
    assert "--calibration: was made with other labels (they differ in none)" in ran.stderr


def test_unseen_classes_are_rejected_as_a_class_of_unknown_videos_is(
    films: Path, calibration: Path, tmp_path: Path
) -> None:
    given = (*FLAGS, "--calibration", calibration, "--reject", "auto", "--resamples", "20")
    ran = bike("eval", films, *given, "--unseen-split", "1", "--trials", "2", "-o", tmp_path / "split.json")
    split = json.loads((tmp_path / "split.json").read_text())["splits"][0]
    unknown = ("--unknown", split["unseen"][0].replace(" ", "_"))
    assert bike("eval", films, *given, *unknown, "-o", tmp_path / "unknown.json").exit_code == ExitCode.DONE

    wanted = metrics_of(tmp_path / "unknown.json")
    found = metrics_of(tmp_path / "split.json")
    assert found.keys() == wanted.keys()
    for key, metric in wanted.items():
        assert found[key] == pytest.approx(metric, abs=1e-6), key
    assert {"rejected_known", "rejected_none", "top1_none"} <= split["metrics"].keys()
    assert split["metrics"] == pytest.approx({key: wanted[key]["value"] for key in split["metrics"]}, abs=1e-6)
    assert ran.stderr.count("--calibration: was made with other labels") == 1


@pytest.mark.parametrize(
    ("flags", "message"),
    [
        (("--reject", "auto"), "--reject auto: has nothing to go by"),
        (("--reject", "0.2", "--protocol", "fewshot"), "--reject: is not supported by the protocol fewshot"),
        (("--calibration", "cal.json", "--protocol", "detection"), "--calibration: is not supported by the protocol"),
        (("--reject", "0.2", "--multi-label", "--protocol", "multilabel"), "--reject: needs videos with one label"),
    ],
)
def test_what_makes_no_sense_is_refused(flags: tuple[str, ...], message: str, films: Path) -> None:
    ran = bike("eval", films, *FLAGS, *flags)

    assert ran.exit_code == ExitCode.USAGE
    assert message in ran.stderr
    assert ran.stderr.count("\n") == 1


def test_predictions_were_rejected_already(films: Path, tmp_path: Path) -> None:
    record = {"path": "a.mp4", "status": "ok", "top": [{"label": "red circle", "score": 0.5}]}
    (tmp_path / "a.jsonl").write_text(json.dumps(record) + "\n")

    ran = bike("eval", tmp_path / "a.jsonl", "-l", films, "--reject", "0.2")

    assert ran.exit_code == ExitCode.USAGE
    assert "--reject: is for videos, and these are predictions; give it to bike classify" in ran.stderr


def test_the_reliability_diagram_is_a_table_and_a_picture(films: Path, calibration: Path, tmp_path: Path) -> None:
    given = (*UNKNOWN, "--calibration", calibration, "--resamples", "20", "-o", tmp_path / "report.json")
    shown = bike("eval", films, *FLAGS, *given, "--reliability", tmp_path / "diagram.csv")
    drawn_ = bike("eval", films, *FLAGS, *given, "--reliability", tmp_path / "diagram.png")

    assert (shown.exit_code, drawn_.exit_code) == (ExitCode.DONE, ExitCode.DONE)
    assert (tmp_path / "diagram.png").read_bytes().startswith(b"\x89PNG")
    rows = list(csv.DictReader((tmp_path / "diagram.csv").read_text().splitlines()))
    (system,) = json.loads((tmp_path / "report.json").read_text())["systems"]
    assert [row["of"] for row in rows] == [name for name, bins in system["reliability"].items() for _ in bins]
    assert set(system["reliability"]) == {"scores", "before", "right"}
    videos = {name: sum(one["videos"] for one in bins) for name, bins in system["reliability"].items()}
    assert videos == {"scores": 24, "before": 24, "right": 36}
    scores = [row for row in rows if row["of"] == "scores"]
    error = sum(int(r["videos"]) * abs(float(r["accuracy"]) - float(r["confidence"])) for r in scores) / 24
    assert error == pytest.approx(system["metrics"]["ece"]["value"], abs=1e-5)
    assert "reliability: right, for known and unknown videos" in shown.stdout
