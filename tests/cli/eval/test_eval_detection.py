"""`bike eval --protocol detection` of files, run in this process."""

import json
from collections.abc import Sequence
from pathlib import Path

import pytest
from invoke import Ran, bike

from bike_cli.errors import ExitCode
from bike_cli.tasks.detection.report import DetectionReport

# The segments of each video: label, start, end, and for detected ones the score.
TRUE = {
    "a": [("red circle", 1.0, 4.0), ("blue star", 6.0, 9.0)],
    "b": [("red circle", 2.0, 5.5)],
    "c": [],
    "d": [("green ring", 0.0, 3.0)],
}
FOUND = {
    "a": [("red circle", 1.0, 4.5, 0.9), ("blue star", 6.25, 9.0, 0.8)],
    "b": [("red circle", 2.0, 5.0, 0.7)],
    "c": [("blue star", 2.0, 3.0, 0.6)],
    "d": [],
}
OTHER = {"a": [("red circle", 0.0, 4.5, 0.9)], "b": [], "c": [], "d": [("green ring", 0.0, 3.0, 0.5)]}

Segments = dict[str, list[tuple[str, float, float, float]]]


@pytest.fixture(autouse=True)
def _here(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)


@pytest.fixture(autouse=True)
def _truth(_here: None) -> None:
    rows = [f"{v}.mp4,{s},{e},{label},20" for v, segments in TRUE.items() for label, s, e in segments]
    write("truth.csv", "path,start_s,end_s,label,duration_s", *rows, "c.mp4,,,,20")


def write(name: str, *lines: str) -> str:
    Path(name).parent.mkdir(parents=True, exist_ok=True)
    Path(name).write_text("".join(f"{line}\n" for line in lines))
    return name


def jsonl(name: str, found: Segments, failed: Sequence[str] = ()) -> str:
    records: list[dict[str, object]] = []
    for video, segments in found.items():
        written = [dict(zip(("label", "start_s", "end_s", "score"), segment, strict=True)) for segment in segments]
        records.append({"path": f"clips/{video}.mp4", "status": "ok", "segments": written, "model": "tiny"})
    for video in failed:
        error = {"type": "damaged", "message": "stops early"}
        records.append({"path": f"clips/{video}.mp4", "status": "error", "error": error})
    return write(name, *map(json.dumps, records))


def table(name: str, found: Segments) -> str:
    rows = [f"{v}.mp4,{s},{e},{label},{score}" for v, segments in found.items() for label, s, e, score in segments]
    rows += [f"{video}.mp4,,,," for video, segments in found.items() if not segments]
    return write(name, "path,start_s,end_s,label,score", *rows)


def evaluated(*arguments: object, truth: str = "truth.csv") -> Ran:
    return bike("eval", *arguments, "-l", truth, "--protocol", "detection", "-o", "r.json", "--resamples", "50")


def report() -> DetectionReport:
    return DetectionReport.from_json(Path("r.json").read_text())


def metrics(system: int = 0) -> dict[str, float]:
    return {key: metric.value for key, metric in report().systems[system].metrics.items()}


def test_files_of_bike_spot_are_evaluated_and_compared() -> None:
    ran = evaluated(jsonl("found.jsonl", FOUND), table("other.csv", OTHER))

    assert ran.exit_code == ExitCode.DONE
    assert [system.name for system in report().systems] == ["found", "other"]
    # tIoU: 3 / 3.5 and 3 / 3.5 for red circles, 2.75 / 3 for the blue star, which a wrong one does not rank before.
    assert metrics()["map@0.85"] == metrics()["map@0.3"] == pytest.approx(2 / 3)
    assert metrics()["map@0.9"] == pytest.approx(1 / 3)
    assert metrics()["segment_precision"] == metrics()["segment_recall"] == 0.75
    assert metrics()["label_free_detected"] == 1 / 20
    assert metrics()["boundary_error_s"] == pytest.approx(0.125)  # of 0, 0.5, 0.25, 0, 0, 0.5
    # Red circle 3 of 4.5 s; of its 2 true segments, the first is found. Green ring is perfect.
    assert metrics(1)["map@0.5"] == pytest.approx((0.5 + 1 + 0) / 3)
    words = " ".join(ran.stdout.split())
    assert "mAP 0.5:0.95" in words
    assert "other compared with found, in percentage points, on the same videos; mAP 0.5:0.95 decides" in words
    assert "4 videos (1 without a segment) · 4 segments · 3 classes · protocol detection" in words
    assert "caution: 4 annotated videos tell little about accuracy; annotate 20 or more" in words
    assert "caution: 3 classes have fewer than 20 true segments" in words


def test_all_formats_give_the_same_metrics() -> None:
    found = {video: segments for video, segments in FOUND.items() if segments}
    results = {
        video: [{"label": label, "score": score, "segment": [s, e]} for label, s, e, score in segments]
        for video, segments in found.items()
    }
    write("results.json", json.dumps({"version": "VERSION 1.3", "results": results, "external_data": {}}))
    database = {
        video: {
            "subset": "validation",
            "duration": 20,
            "annotations": [{"label": label, "segment": [s, e]} for label, s, e in segments],
        }
        for video, segments in TRUE.items()
    }
    write("truth.json", json.dumps({"database": database}))

    seen = []
    for truth in ("truth.csv", "truth.json"):
        for file in (jsonl("f.jsonl", FOUND), table("f.csv", FOUND), "results.json"):
            assert evaluated(file, truth=truth).exit_code == ExitCode.DONE
            seen.append(report().systems[0].metrics)

    assert all(one == seen[0] for one in seen)


def test_class_files_of_thumos14_are_evaluated() -> None:
    write("annotations/HighJump_test.txt", "video_test_0000004  1.2 3.4")
    write("annotations/HighJump_val.txt", "video_validation_0000004  1.2 3.4")
    found = table("found.csv", {"video_test_0000004": [("high jump", 1.2, 3.4, 0.5)]})

    ran = evaluated(found, "--subset", "test", truth="annotations")

    assert ran.exit_code == ExitCode.DONE
    assert metrics()["map@0.95"] == 1
    assert report().data.subset == "test"
    other = evaluated(found, truth="annotations")
    assert other.exit_code == ExitCode.USAGE
    assert "found.csv: has no video in common with annotations of the subset 'val': " in other.stderr


def test_a_failed_video_is_listed_and_the_exit_code_says_so() -> None:
    ran = evaluated(jsonl("found.jsonl", {video: FOUND[video] for video in "abc"}, failed=["d"]))

    assert ran.exit_code == ExitCode.SOME_FAILED
    assert [(video.path, video.kind) for video in report().data.failed] == [("clips/d.mp4", "damaged")]
    assert "3 videos (1 without a segment) · 3 segments · 2 classes · protocol detection · 1 video failed" in (
        " ".join(ran.stdout.split())
    )
    assert "1 class without segments" in " ".join(ran.stdout.split())


def test_parts_are_merged() -> None:
    evaluated(jsonl("found.jsonl", FOUND))
    whole = metrics()
    files = [jsonl(f"{i}.jsonl", {v: FOUND[v] for v in part}) for i, part in enumerate(("ab", "cd"))]

    assert evaluated(*files, "--merge").exit_code == ExitCode.DONE

    assert metrics() == whole
    assert [system.name for system in report().systems] == ["0"]


@pytest.mark.parametrize("empty", ["", "[\n]\n", "path,start_s,end_s,label,score,status\n"])
def test_a_part_without_videos_is_merged(empty: str) -> None:
    """As `bike spot --shard` writes one if there are more parts than videos."""
    evaluated(jsonl("whole.jsonl", FOUND))
    whole = metrics()

    ran = evaluated(write("part.jsonl", empty.rstrip("\n")), jsonl("whole.jsonl", FOUND), "--merge")

    assert (ran.exit_code, metrics()) == (ExitCode.DONE, whole)


def test_parts_without_any_video_are_refused() -> None:
    ran = evaluated(write("1.jsonl", ""), write("2.jsonl", ""), "--merge")

    assert ran.exit_code == ExitCode.USAGE
    assert "all parts are empty" in ran.stderr


def test_a_report_is_repeated() -> None:
    evaluated(jsonl("found.jsonl", FOUND), "--tiou", "0.4,0.6", "--seed", "3", "--official", "--root", ".")

    again = bike("eval", "--from", "r.json", "-o", "again.json")

    assert again.exit_code == ExitCode.DONE
    assert "the metrics agree with those of --from" in again.stderr
    assert json.loads(Path("again.json").read_text()) == json.loads(Path("r.json").read_text())
    jsonl("found.jsonl", OTHER)
    changed = bike("eval", "--from", "r.json")
    assert changed.exit_code == ExitCode.SOME_FAILED
    assert "--from: " in changed.stderr
    assert "the videos or labels have changed" in changed.stderr


def test_thresholds_are_chosen() -> None:
    evaluated(jsonl("found.jsonl", FOUND), "--tiou", "0.5:0.7:0.1")

    assert [key for key in metrics() if key.startswith("map@")] == ["map@0.5:0.7", "map@0.5", "map@0.6", "map@0.7"]
    assert list(report().tiou) == ["0.5", "0.6", "0.7"]


def test_the_table_fits_a_narrow_terminal(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("COLUMNS", "40")

    ran = evaluated(jsonl("found.jsonl", FOUND), table("other.csv", OTHER))

    assert max(map(len, ran.stdout.splitlines())) <= 40
    assert "mAP 0.75" in ran.stdout
    assert "mAP 0.85" not in ran.stdout


@pytest.mark.parametrize(
    ("arguments", "problem"),
    [
        (["found.jsonl", "--names", "truth.csv"], "--names: has no meaning in protocol detection; leave it out"),
        (["found.jsonl", "--multi-label"], "--multi-label: has no meaning in protocol detection"),
        (["found.jsonl", "--unknown", "x"], "--unknown: has no meaning in protocol detection"),
        (["found.jsonl", "--report", "r.html"], "--report: protocol detection does not write it"),
        (["found.jsonl", "--confusion", "c.csv"], "--confusion: protocol detection does not write it"),
        (["found.jsonl", "-m", "tiny"], "--model: is for videos, and protocol detection reads detections"),
        (["found.jsonl", "--shots", "2"], "--shots: needs --protocol fewshot, not detection"),
        (["found.jsonl", "--tiou", "2"], "every threshold must be above 0 and at most 1, and 2 is not"),
        (["found.jsonl", "-l", "other.csv"], "detections have one file of true segments, and 2 files were named"),
        (["found.jsonl", "--root", "nowhere"], "nowhere: no such folder"),
        (["found.jsonl", "--subset", "test"], "truth.csv: has no subsets; leave --subset out"),
        (["truth.csv"], "truth.csv: contains no detections; give the output of bike spot -o"),
        (["found.jsonl", "truth.csv"], "truth.csv: contains no detections"),
        (["nowhere.jsonl"], "nowhere.jsonl: no such file; give the output of bike spot -o"),
        (["."], ".: contains no detections"),
    ],
)
def test_what_has_no_meaning_is_refused(arguments: list[str], problem: str) -> None:
    jsonl("found.jsonl", FOUND)

    ran = bike("eval", *arguments, "-l", "truth.csv", "--protocol", "detection")

    assert ran.exit_code == ExitCode.USAGE
    assert problem in " ".join(ran.stderr.split())
    assert ran.stdout == ""


def test_true_segments_are_asked_for() -> None:
    jsonl("found.jsonl", FOUND)

    assert "found.jsonl: contains detections; name the true segments with --labels truth.json" in (
        bike("eval", "found.jsonl", "--protocol", "detection").stderr.replace("\n", " ")
    )
    assert "truth.csv: contains no detections; give the output of bike spot -o, and this with --labels if it has" in (
        bike("eval", "found.jsonl", "truth.csv", "--protocol", "detection").stderr.replace("\n", " ")
    )


def test_thresholds_are_for_this_protocol() -> None:
    ran = bike("eval", "found.jsonl", "-l", "truth.csv", "--tiou", "0.5")

    assert ran.exit_code == ExitCode.USAGE
    assert "--tiou: needs --protocol detection, not standard" in ran.stderr


def test_the_report_does_not_overwrite_what_is_read() -> None:
    jsonl("found.json", FOUND)

    ran = bike("eval", "found.json", "-l", "truth.csv", "--protocol", "detection", "-o", "found.json")

    assert ran.exit_code == ExitCode.USAGE
    assert "found.json: is read by this command and would be overwritten" in ran.stderr
