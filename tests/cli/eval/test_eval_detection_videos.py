"""`bike eval --protocol detection` of videos, run in this process."""

import json
from pathlib import Path

import numpy as np
import pytest
from films import FPS, drawn, write_video
from invoke import Ran, bike

from bike_cli.errors import ExitCode
from bike_cli.tasks.detection.report import DetectionReport

TRUE = {"a.mp4": ("red square", 2.0, 5.0), "b.mp4": ("blue circle", 0.0, 4.0)}
LABELS = ("-L", "blue circle,green cross,red square")  # of the truth
RUN = ("-m", "tiny", "--device", "cpu", "--workers", "1")
FLAGS = (
    "--fps",
    "8",
    "--min-duration",
    "0.5",
    "--threshold",
    "0.6",
    "--exclusive",
    "--none",
    "green square",
    "--draft",
)


@pytest.fixture(scope="module")
def films(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Two videos: nothing, a red square from 2 s to 5 s, nothing; and a blue circle all the time."""
    folder = tmp_path_factory.mktemp("films")
    nothing = np.zeros((2 * FPS, 64, 64, 3), np.uint8)
    square = np.concatenate([drawn("red square", frames=8)] * 3)
    write_video(folder / "a.mp4", np.concatenate([nothing, square, nothing]))
    write_video(folder / "b.mp4", np.concatenate([drawn("blue circle", frames=8)] * 4))
    return folder


@pytest.fixture
def truth(films: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The true segments, and one of a label that no video shows."""
    monkeypatch.chdir(tmp_path)
    rows = [f"{films / name},{start_s},{end_s},{label}" for name, (label, start_s, end_s) in TRUE.items()]
    file = tmp_path / "truth.csv"
    file.write_text("\n".join(["path,start_s,end_s,label", *rows, f"{films / 'b.mp4'},1,2,green cross"]) + "\n")
    return file


def evaluated(*arguments: object) -> Ran:
    return bike("eval", *arguments, "--protocol", "detection", "-o", "r.json", "--resamples", "20")


def report() -> DetectionReport:
    return DetectionReport.from_json(Path("r.json").read_text())


def test_segments_are_found_where_things_are_drawn(truth: Path) -> None:
    ran = evaluated(truth, *RUN)

    assert ran.exit_code == ExitCode.DONE
    (system,) = report().systems
    assert (system.name, system.model, report().manifest.model) == ("tiny", "tiny", "tiny")
    by_label = {of_class.label: of_class for of_class in system.per_class}
    # The cross is nowhere, so its average precision is 0; the ends of the others are off by less than a bin of 0.25 s.
    assert [by_label[label].by_tiou["0.75"] for label in LABELS[1].split(",")] == [1.0, 0.0, 1.0]
    assert system.metrics["segment_precision"].value == 1.0
    assert report().data.files == (str(truth),)


@pytest.mark.parametrize("flags", [(), FLAGS])
def test_the_metrics_are_those_of_the_file_that_bike_spot_writes(
    films: Path, truth: Path, flags: tuple[str, ...]
) -> None:
    assert evaluated(truth, *RUN, *flags).exit_code == ExitCode.DONE
    found = report().systems[0]

    spotted = bike("spot", films, *RUN, *LABELS, *flags, "-o", "found.jsonl")
    assert spotted.exit_code == ExitCode.DONE
    assert evaluated("found.jsonl", "-l", truth).exit_code == ExitCode.DONE
    expected = report().systems[0]
    assert found.metrics == expected.metrics
    assert found.per_class == expected.per_class


def test_names_of_classes_are_read_as_words(truth: Path) -> None:
    truth.write_text(truth.read_text().replace("red square", "RedSquare"))

    assert evaluated(truth, *RUN).exit_code == ExitCode.DONE
    by_label = {of_class.label: of_class for of_class in report().systems[0].per_class}
    assert by_label["RedSquare"].by_tiou["0.75"] == 1.0


def test_systems_are_compared(truth: Path) -> None:
    ran = evaluated(truth, *RUN, "--template", "class", "--template", "bike")

    assert ran.exit_code == ExitCode.DONE
    assert [system.name for system in report().systems] == ["template class", "template bike"]
    assert "template bike compared with template class" in " ".join(ran.stdout.split())


def test_a_video_that_is_missing_fails_alone(truth: Path) -> None:
    truth.write_text(truth.read_text().replace("a.mp4", "gone.mp4"))

    ran = evaluated(truth, *RUN)

    assert ran.exit_code == ExitCode.SOME_FAILED
    (failed,) = report().data.failed
    assert (Path(failed.path).name, failed.kind) == ("gone.mp4", "missing")
    assert "1 video failed" in ran.stdout
    assert ran.stderr.count("gone.mp4: no such file") == 1


@pytest.mark.slow
def test_a_report_is_repeated(truth: Path) -> None:
    evaluated(truth, *RUN, "--none", "green square", "--fps", "8")

    again = bike("eval", "--from", "r.json", "-o", "again.json", "--device", "cpu")

    assert again.exit_code == ExitCode.DONE
    assert "the metrics agree with those of --from" in again.stderr
    assert json.loads(Path("again.json").read_text())["arguments"]["none"] == ["green square"]


@pytest.mark.parametrize(
    ("arguments", "problem"),
    [
        (["truth.csv", "--pool", "mean"], "--pool: has no meaning in protocol detection; leave it out"),
        (["truth.csv", "--frames", "4"], "--frames: has no meaning in protocol detection"),
        (["truth.csv", "--attribute-weight", "0.1"], "--attribute-weight: has no meaning in protocol detection"),
        (["truth.csv", "--merge"], "--merge: has no meaning in protocol detection"),
        (["truth.csv", "truth.csv"], "finds segments in the videos of one file, and 2 were named; name one"),
        (["truth.csv", "-l", "truth.csv"], "truth.csv: contains no detections; give the output of bike spot -o"),
        (["truth.csv", "--fps", "0"], "fps is 0; give a number above 0"),
        (["truth.csv", "--min-duration", "0.1"], "min_duration is 0.1 s, shorter than a frame at 4 per second"),
        (["truth.csv", "--none", "red square"], "--none red square: is a label, too"),
        (["gone.csv"], "gone.csv: no such file"),
        (["found.csv", "-l", "truth.csv", "--fps", "2"], "--fps: is for videos, and protocol detection reads "),
        (["found.csv", "-l", "truth.csv", "--none", "x"], "--none: is for videos, and protocol detection reads "),
    ],
)
def test_what_has_no_meaning_is_refused(truth: Path, arguments: list[str], problem: str) -> None:
    Path("found.csv").write_text(f"path,start_s,end_s,label,score\n{truth.parent / 'a.mp4'},1,2,red square,0.5\n")

    ran = bike("eval", *arguments, "--model", "tiny", "--protocol", "detection")
    if "found.csv" in arguments:
        ran = bike("eval", *arguments, "--protocol", "detection")

    assert ran.exit_code == ExitCode.USAGE
    assert problem in " ".join(ran.stderr.split())


@pytest.mark.parametrize(
    ("flag", "value"), [("--fps", "4"), ("--min-duration", "2"), ("--threshold", "0.7"), ("--none", "x")]
)
def test_flags_of_segments_are_for_this_protocol(flag: str, value: str) -> None:
    ran = bike("eval", "videos", flag, value)

    assert ran.exit_code == ExitCode.USAGE
    assert f"{flag}: needs --protocol detection, not standard" in ran.stderr


def test_with_a_launcher_the_first_process_says_that_it_works_alone(
    truth: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("WORLD_SIZE", "2")
    monkeypatch.setenv("RANK", "1")
    other = evaluated(truth, *RUN)
    monkeypatch.setenv("RANK", "0")
    first = evaluated(truth, *RUN)

    assert (other.exit_code, other.stdout) == (ExitCode.DONE, "")
    assert first.exit_code == ExitCode.DONE
    assert "only the first of 2 processes works" in first.stderr
