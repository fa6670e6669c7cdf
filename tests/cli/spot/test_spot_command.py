"""`bike spot` as a command: records, formats, resumed runs, clips, and what it refuses."""

import csv
import io
import json
import re
import shutil
from pathlib import Path

import numpy as np
import pytest
from films import FPS, drawn, write_video
from invoke import Ran, bike, bike_on_terminal
from small_models import write_tiny

from bike_cli.errors import ExitCode

LABELS = ("-L", "red square,blue circle,green cross")
TINY = ("-m", "tiny", "--workers", "2")


@pytest.fixture(scope="module")
def films(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Two videos: nothing, a red square from 2 s to 5 s, nothing; and a blue circle all the time."""
    folder = tmp_path_factory.mktemp("films")
    nothing = np.zeros((2 * FPS, 64, 64, 3), np.uint8)
    square = np.concatenate([drawn("red square", frames=8)] * 3)
    write_video(folder / "a match.mp4", np.concatenate([nothing, square, nothing]))
    write_video(folder / "b.mp4", np.concatenate([drawn("blue circle", frames=8)] * 4))
    return folder


def spot(*arguments: object) -> Ran:
    return bike("spot", *TINY, *LABELS, *arguments)


def test_a_pipe_gets_json_lines(films: Path) -> None:
    ran = spot(films)

    assert (ran.exit_code, ran.stderr) == (ExitCode.DONE, "")
    first, second = ran.records
    model = ["model", "model_digest", "settings"]
    assert list(first) == ["path", "status", "segments", *model, "fps", "frames", "duration_s"]
    (segment,) = first["segments"]  # type: ignore[misc]
    assert segment["label"] == "red square"
    assert (segment["start_s"], segment["end_s"]) == pytest.approx((2.0, 5.0), abs=0.25)
    assert (first["path"], first["fps"], first["duration_s"]) == (str(films / "a match.mp4"), 4.0, 7.0)
    assert [(s["label"], s["start_s"], s["end_s"]) for s in second["segments"]] == [("blue circle", 0.0, 4.0)]  # type: ignore[attr-defined]


def test_timelines_have_a_score_for_each_label_and_time(films: Path) -> None:
    (record,) = spot(films / "b.mp4", "--timeline").records

    timeline = record["timeline"]
    assert isinstance(timeline, dict)
    assert timeline["times_s"] == [0.125 + i / 4 for i in range(16)]
    assert [len(scores) for scores in timeline["scores"].values()] == [16] * 3
    assert min(timeline["scores"]["blue circle"]) > 0.5


def test_a_terminal_gets_a_block_for_each_video(films: Path) -> None:
    ran = bike_on_terminal("spot", *TINY, *LABELS, films)

    shown = re.sub(r"\x1b\[[\d;?]*[a-zA-Z]", "", ran.stdout)
    assert "00:00:02.00–00:00:05.00" in shown
    assert "red square" in shown
    assert "2 videos: 2 ok" in ran.stderr


@pytest.mark.parametrize(("name", "start"), [("a.srt", "1\n00:00:0"), ("a.vtt", "WEBVTT\n"), ("a.edl", "2.0")])
def test_the_ending_of_the_output_chooses_the_format(films: Path, tmp_path: Path, name: str, start: str) -> None:
    ran = spot(films / "a match.mp4", "-o", tmp_path / name)

    assert ran.exit_code == ExitCode.DONE
    assert (tmp_path / name).read_text().startswith(start)


def test_subtitles_of_several_videos_go_to_a_folder(films: Path, tmp_path: Path) -> None:
    refused, ran = spot(films, "-f", "srt"), spot(films, "-f", "srt", "-o", tmp_path / "found")

    assert refused.exit_code == ExitCode.USAGE
    assert refused.stderr.startswith("error: --format srt: stdout takes the srt of one video, and 2 videos may follow")
    assert ran.exit_code == ExitCode.DONE
    assert sorted(file.name for file in (tmp_path / "found").iterdir()) == ["a match.srt", "b.srt"]


def test_a_row_for_each_segment(films: Path) -> None:
    rows = list(csv.DictReader(io.StringIO(spot(films, "-f", "csv").stdout)))

    assert [row["label"] for row in rows] == ["red square", "blue circle"]
    assert rows[0]["status"] == "ok"


def test_one_bad_file_holds_nothing_back(films: Path, tmp_path: Path) -> None:
    for file in films.iterdir():
        shutil.copy(file, tmp_path)
    (tmp_path / "aa.mp4").write_bytes(b"no video")

    ran = spot(tmp_path)

    assert ran.exit_code == ExitCode.SOME_FAILED
    assert [record["status"] for record in ran.records] == ["ok", "error", "ok"]


def test_a_run_is_resumed(films: Path, tmp_path: Path) -> None:
    found = tmp_path / "found.jsonl"
    whole = spot(films, "-o", found)
    lines = found.read_text().splitlines(keepends=True)
    found.write_text(lines[0] + lines[1][:20])  # a run that was killed

    resumed = spot(films, "-o", found, "--resume")
    other = spot(films, "-o", found, "--resume", "--min-duration", "2")

    assert (whole.exit_code, resumed.exit_code) == (ExitCode.DONE, ExitCode.DONE)
    assert found.read_text().splitlines(keepends=True) == lines
    assert resumed.stderr.startswith("1 video: 1 ok")
    assert other.exit_code == ExitCode.USAGE
    assert "was made with other labels or settings, which change segments" in other.stderr


@pytest.mark.slow  # over a second of a core
def test_other_weights_of_the_same_name_are_refused(films: Path, tmp_path: Path) -> None:
    found = tmp_path / "found.jsonl"
    first, other = write_tiny(tmp_path / "first"), write_tiny(tmp_path / "other", scale=1.5)
    assert spot(films / "b.mp4", "-m", first, "-o", found).exit_code == ExitCode.DONE
    before = found.read_bytes()

    ran = spot(films, "-m", other, "-o", found, "--resume")

    assert ran.exit_code == ExitCode.USAGE
    assert f"{found}: contains answers of another version of the model mine (its digest was " in ran.stderr
    assert found.read_bytes() == before
    assert spot(films, "-m", shutil.copytree(first, tmp_path / "copy"), "-o", found, "--resume").exit_code == 0


def test_clips_are_cut(films: Path, tmp_path: Path) -> None:
    clips = tmp_path / "clips"
    ran = spot(films, "--cut", clips, "--cut-exact", "--margin", "0.5")

    (segment,) = ran.records[0]["segments"]  # type: ignore[misc]
    assert segment["clip"] == {
        "path": str(clips / "a match" / "0001_red-square_00-00-02.000.mp4"),
        "start_s": 1.5,
        "exact": True,
    }
    assert Path(segment["clip"]["path"]).stat().st_size > 0
    again = spot(films / "a match.mp4", "--cut", clips, "--cut-exact", "--margin", "0.5")
    (segment,) = again.records[0]["segments"]  # type: ignore[misc]
    assert segment["clip"]["error"]["type"] == "unwritable"
    forced = spot(films / "a match.mp4", "--cut", clips, "--cut-exact", "--force")
    assert "error" not in forced.records[0]["segments"][0]["clip"]  # type: ignore[index]


def test_a_page_shows_the_segments(films: Path, tmp_path: Path) -> None:
    page = tmp_path / "page.html"
    ran = spot(films, "--report", page, "-o", tmp_path / "found.jsonl")

    text = page.read_text()
    assert ran.exit_code == ExitCode.DONE
    assert text.count("data:image/jpeg;base64,") == 2  # a picture per segment
    assert "a match.mp4" in text
    assert "red square" in text


def test_the_best_segments_of_each_label(films: Path) -> None:
    (record,) = spot(films / "b.mp4", "-k", "1").records

    assert len(record["segments"]) == 1  # type: ignore[arg-type]


def test_rivals_come_from_a_list_or_a_file(films: Path, tmp_path: Path) -> None:
    file = tmp_path / "rivals.txt"
    file.write_text("blue circle\ngreen cross\n")
    given = ("-m", "tiny", "-L", "red square", films)

    listed, read = (
        bike("spot", *given, *none) for none in (("--none", "blue circle, green cross"), ("--none-from", file))
    )

    assert listed.records == read.records
    assert [len(record["segments"]) for record in listed.records] == [1, 0]  # type: ignore[arg-type]
    assert listed.records[1]["best"]["label"] == "red square"  # type: ignore[index]


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (("--fps", "0"), "fps is 0; give a number above 0, and at most 60"),
        (("--fps", "nan"), "fps is nan; give a number above 0, and at most 60"),
        (("--fps", "2", "--min-duration", "0.1"), "min_duration is 0.1 s, shorter than a frame at 2 per second"),
        (("--threshold", "1"), "threshold is 1; give a number between 0 and 1"),
        (("--frames", "16"), "--frames: bike spot reads the whole video; set --fps instead"),
        (("--crops", "3"), "--crops: bike spot reads whole frames; leave it out"),
        (("--pool", "mean"), "--pool: bike spot scores each moment; leave it out"),
        (("--attributes", "off"), "attributes is off; give a lexicon"),
        (("--decoder", "decord"), "decoder is decord, which cannot read a video in parts"),
        (("--cut-exact",), "--cut-exact: is about the clips of --cut; add --cut FOLDER, or leave it out"),
        (("--margin", "1"), "--margin: is about the clips of --cut; add --cut FOLDER, or leave it out"),
        (("--report", "page.pdf"), "--report page.pdf: is written as HTML; end its name in .html"),
        (("-o", "found.xlsx"), "-o found.xlsx: .xlsx is not an output format"),
        (("-f", "csv", "-o", "found.json"), "-o found.json: ends in .json, but --format is csv"),
        (("--resume",), "--resume: needs the file of the earlier run; add -o found.jsonl"),
        (("--none", "red square"), "--none red square: is a label, too"),
    ],
)
def test_what_cannot_work_is_refused(films: Path, arguments: tuple[str, ...], message: str) -> None:
    ran = spot(films, *arguments)

    assert (ran.exit_code, ran.stdout) == (ExitCode.USAGE, "")
    assert ran.stderr.startswith(f"error: {message}")


def test_clips_never_become_inputs(films: Path) -> None:
    ran = spot(films, "--cut", films / "clips")

    assert ran.exit_code == ExitCode.USAGE
    assert "is searched for videos, so its clips would be inputs" in ran.stderr


def test_its_settings_stand_in_the_configuration(films: Path) -> None:
    dumped = bike("spot", films, "--dump-config", "--fps", "3").stdout

    assert {"fps: 3.0", "min_duration: 1.0", "draft: false"} <= set(dumped.splitlines())
    assert "frames:" not in dumped


def test_json_is_one_array(films: Path) -> None:
    assert [record["status"] for record in json.loads(spot(films, "-f", "json").stdout)] == ["ok", "ok"]


@pytest.mark.parametrize("format_", ["srt", "vtt", "ffmetadata", "edl", "labelstudio", "activitynet"])
def test_a_format_without_failures_says_on_stderr_why_a_video_is_missing(tmp_path: Path, format_: str) -> None:
    (tmp_path / "a.mp4").write_bytes(b"")

    ran = spot(tmp_path / "a.mp4", "-f", format_, "-q")

    assert ran.exit_code == ExitCode.ALL_FAILED
    assert ran.stderr == f"error: {tmp_path / 'a.mp4'}: is empty (0 bytes); copy it again\n"


@pytest.mark.parametrize("format_", ["srt", "fiftyone"])
def test_a_folder_without_failures_says_on_stderr_why_a_video_is_missing(
    films: Path, tmp_path: Path, format_: str
) -> None:
    (tmp_path / "a.mp4").write_bytes(b"")

    ran = spot(films / "b.mp4", tmp_path / "a.mp4", "-f", format_, "-o", tmp_path / "found")

    assert ran.exit_code == ExitCode.SOME_FAILED
    assert f"error: {tmp_path / 'a.mp4'}: is empty (0 bytes)" in ran.stderr


@pytest.mark.parametrize("format_", ["srt", "fiftyone"])
def test_a_folder_that_cannot_be_created_is_refused(films: Path, tmp_path: Path, format_: str) -> None:
    (tmp_path / "file").touch()

    ran = spot(films / "b.mp4", "-f", format_, "-o", tmp_path / "file" / "found")

    assert ran.exit_code == ExitCode.USAGE
    assert ran.stderr.startswith(f"error: {tmp_path / 'file' / 'found'}: ")
    assert "Traceback" not in ran.stderr


def test_subtitles_that_cannot_be_written_stop_the_run_with_one_line(films: Path, tmp_path: Path) -> None:
    (tmp_path / ".b.srt.part").mkdir()  # cannot be written, as on a full disk

    ran = spot(films / "b.mp4", "-f", "srt", "-o", tmp_path)

    assert ran.exit_code == ExitCode.USAGE
    assert ran.stderr.startswith(f"error: {tmp_path / 'b.srt'}: cannot be written")


@pytest.mark.parametrize("place", ["file", "file/clips"])
def test_clips_need_a_folder(films: Path, tmp_path: Path, place: str) -> None:
    (tmp_path / "file").touch()

    ran = spot(films / "b.mp4", "--cut", tmp_path / place)

    assert (ran.exit_code, ran.stdout) == (ExitCode.USAGE, "")
    assert ran.stderr.endswith("is not a folder; name a folder for the clips\n")


def test_clips_that_cannot_be_cut_are_counted_on_stderr(films: Path, tmp_path: Path) -> None:
    spot(films, "--cut", tmp_path / "clips")
    first = next((tmp_path / "clips" / "a match").iterdir())
    (tmp_path / "clips" / "b").rename(tmp_path / "away")

    ran = spot(films, "--cut", tmp_path / "clips")

    assert ran.stderr.startswith(f"warning: --cut: 1 of 2 clips could not be cut (first: {first}: exists")
