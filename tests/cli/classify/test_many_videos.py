"""`bike classify` on many videos: shards, --strict, progress, and lists that are only read as far as needed."""

import io
import json
import os
import re
import subprocess
import sys
from pathlib import Path

import pytest
from answers import failure
from invoke import Ran, Terminal, bike, bike_on_terminal
from rich.console import Console
from rich.progress import ProgressSample, Task, TaskID

from bike_cli.cli.app import app
from bike_cli.cli.terminal.stdout import is_pipe
from bike_cli.cli.videos import sources
from bike_cli.cli.videos.progress import _Time, show_progress
from bike_cli.errors import ExitCode

LABELS = ("-L", "red square,blue circle,green cross")


pytestmark = pytest.mark.usefixtures("one_store_for_all")


def classify(*arguments: object, stdin: bytes = b"") -> Ran:
    return bike("classify", "-m", "tiny", *LABELS, *arguments, stdin=stdin)


def paths(*runs: Ran) -> list[object]:
    return [record["path"] for run in runs for record in run.records]


@pytest.fixture
def many(clips: Path, tmp_path: Path) -> Path:
    """A folder of seven clips and a broken one, the fourth."""
    folder = tmp_path / "many"
    folder.mkdir()
    for i in range(1, 9):
        (folder / f"{i}.mp4").symlink_to(clips / "red_square.mp4")
    (folder / "4.mp4").unlink()
    (folder / "4.mp4").write_bytes(b"\xffbroken")
    return folder


@pytest.fixture
def only_two_are_listed(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sources, "LISTED", 2)


# -- shards -------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("way", ["folder", "list", "stdin"])
def test_shards_add_up_to_everything(many: Path, tmp_path: Path, way: str) -> None:
    listed, everything = tmp_path / "list", sorted(str(path) for path in many.iterdir())
    listed.write_text("".join(f"{path}\n" for path in reversed(everything)))
    given = {"folder": [many], "list": ["--files-from", listed], "stdin": ["-"]}[way]

    runs = [classify(*given, "--shard", f"{i}/3", stdin=listed.read_bytes()) for i in (1, 2, 3)]

    assert sorted(map(str, paths(*runs))) == everything
    assert max(len(run.records) for run in runs) < len(everything)


@pytest.mark.parametrize("way", ["folder", "stdin"])
def test_a_shard_without_a_video_is_no_failure(clips: Path, way: str) -> None:
    video = clips / "red_square.mp4"

    runs = [
        classify(*([video] if way == "folder" else ["-"]), "--shard", f"{i}/2", stdin=os.fsencode(video))
        for i in (1, 2)
    ]

    assert [run.exit_code for run in runs] == [ExitCode.DONE] * 2
    assert sorted(len(run.records) for run in runs) == [0, 1]


@pytest.mark.parametrize("shard", ["0/4", "5/4", "x", "1/0"])
def test_a_shard_that_is_none_is_a_usage_error(clips: Path, shard: str) -> None:
    ran = classify(clips, "--shard", shard)

    assert (ran.exit_code, ran.stdout) == (ExitCode.USAGE, "")
    assert ran.stderr.startswith(f"error: --shard '{shard}': ")


# -- strict -------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("is_file", [False, True])
def test_strict_stops_at_the_first_failure(many: Path, tmp_path: Path, is_file: bool) -> None:
    answers = tmp_path / "answers.jsonl"

    ran = classify(many, "--strict", *(["-o", answers] if is_file else []))

    lines = (answers.read_text() if is_file else ran.stdout).splitlines()
    assert ran.exit_code == ExitCode.SOME_FAILED == 3
    assert [json.loads(line)["status"] for line in lines] == ["ok"] * 3 + ["error"]
    line = r"error: .*4\.mp4: failed \(\w+\); --strict stopped here, 4 videos done\n(4 videos: .*\n)?"
    assert re.fullmatch(line, ran.stderr)
    assert ("; written to " in ran.stderr) == is_file


def test_strict_is_3_even_where_the_first_fails(many: Path) -> None:
    assert classify(many / "4.mp4", "--strict").exit_code == ExitCode.SOME_FAILED


def test_what_strict_left_is_resumed(many: Path, tmp_path: Path) -> None:
    given = (many, "-o", tmp_path / "answers.jsonl", "--strict")
    classify(*given)

    ran = classify(*given, "--resume")

    assert ran.exit_code == ExitCode.SOME_FAILED
    assert (tmp_path / "answers.jsonl").read_text().count("\n") == 8


# -- progress and summary -----------------------------------------------------------------------------------------


def test_a_file_gets_the_records_and_the_terminal_progress_and_a_summary(many: Path, tmp_path: Path) -> None:
    ran = bike_on_terminal("classify", "-m", "tiny", *LABELS, many, "-o", tmp_path / "a.jsonl", columns=100)

    assert ran.stdout == ""
    assert "8/8 videos 1 failed" in without_colour(ran.stderr)
    assert re.search(r"^8 videos: 7 ok, 1 failed", without_colour(ran.stderr), re.M)


def test_off_a_terminal_a_file_of_answers_is_announced_in_one_line(many: Path, tmp_path: Path) -> None:
    output = tmp_path / "a.jsonl"

    ran, quiet = classify(many, "-o", output), classify(many, "-o", output, "-q")

    line = r"8 videos: 7 ok, 1 failed \(1 \w+\) in [\d.]+ s, [\d.,]+/s; written to (.*)\n"
    announced = re.fullmatch(line, ran.stderr)
    assert announced
    assert announced[1] == str(output)
    assert quiet.stderr == ""


def test_the_last_line_fits_a_terminal_and_timings_are_for_verbose(many: Path) -> None:
    ran, verbose = (bike_on_terminal("classify", "-m", "tiny", *LABELS, many, *flags) for flags in ((), ("-v",)))

    line = without_colour(ran.stderr).rstrip("\n").split("\n")[-1]
    assert re.fullmatch(r"8 videos: 7 ok, 1 failed \(1 \w+\) in [\d.]+ s, [\d.,]+/s", line)
    assert len(line) <= 80
    assert "encode" not in ran.stdout + ran.stderr
    assert re.search(
        r"info: 8 videos: \d+ from the cache, \d+ decoded in [\d.]+ s", without_colour(verbose.stdout + verbose.stderr)
    )


def test_a_pipe_without_a_file_gets_no_last_line(many: Path) -> None:
    assert classify(many).stderr == ""


@pytest.mark.parametrize(("total", "shown"), [(None, "1 video "), (1, "1/1 video "), (2, "1/2 videos ")])
def test_progress_counts_a_single_video_as_one(total: int | None, shown: str) -> None:
    console = Console(file=io.StringIO(), width=100, force_terminal=True, color_system=None)

    assert list(show_progress([failure()], console=console, total=total)) == [failure()]

    assert shown in console.file.getvalue()  # type: ignore[attr-defined]


def test_a_table_and_its_progress_share_the_screen(many: Path) -> None:
    ran = bike_on_terminal("classify", "-m", "tiny", *LABELS, many)

    assert "8/8 videos" in without_colour(ran.stdout)
    assert "videos" not in without_colour(ran.stderr).split("8 videos: ")[0]
    for line in after_erasing(ran.stdout):
        assert not ("/8 videos" in line and ".mp4" in line)


def test_json_on_a_terminal_has_no_progress_next_to_it(many: Path) -> None:
    ran = bike_on_terminal("classify", "-m", "tiny", *LABELS, many, "-f", "jsonl")

    assert [json.loads(line)["status"] for line in ran.stdout.splitlines()].count("ok") == 7
    assert "/8" not in ran.stderr


def test_one_video_needs_no_summary(many: Path) -> None:
    ran = bike_on_terminal("classify", "-m", "tiny", *LABELS, many / "1.mp4")

    assert "1 video" not in ran.stdout + ran.stderr


def test_quiet_has_neither(many: Path, tmp_path: Path) -> None:
    ran = bike_on_terminal("classify", "-m", "tiny", *LABELS, many, "-o", tmp_path / "a.jsonl", "-q")

    assert (ran.stdout, ran.stderr) == ("", "")


@pytest.mark.usefixtures("only_two_are_listed")
def test_what_is_not_listed_yet_is_counted_next_to_the_work(many: Path, tmp_path: Path) -> None:
    ran = bike_on_terminal("classify", "-m", "tiny", *LABELS, many, "-o", tmp_path / "a.jsonl", columns=100)

    assert "8/8 videos 1 failed" in without_colour(ran.stderr)


def without_colour(text: str) -> str:
    return re.sub(r" +", " ", re.sub(r"\x1b\[[0-9;?]*[A-Za-z]", "", text).replace("\r", "\n"))


def after_erasing(screen: str) -> list[str]:
    """Return the lines as printed, where what was erased begins a line of its own."""
    return [without_colour(part) for line in screen.splitlines() for part in re.split(r"\x1b\[2K", line)]


# -- lists that are read as far as needed -------------------------------------------------------------------------


@pytest.mark.usefixtures("only_two_are_listed")
def test_a_long_list_gives_the_same_answers(many: Path, tmp_path: Path) -> None:
    (tmp_path / "list").write_text("".join(f"{path}\n" for path in sorted(many.iterdir())))

    folder, listed = classify(many), classify("--files-from", tmp_path / "list")

    assert paths(folder) == paths(listed) == [str(path) for path in sorted(many.iterdir())]
    assert folder.exit_code == ExitCode.SOME_FAILED


@pytest.mark.usefixtures("only_two_are_listed")
def test_an_argument_without_a_video_is_reported_at_once_however_late_it_comes(many: Path, tmp_path: Path) -> None:
    (tmp_path / "empty").mkdir()

    ran = bike("classify", "-m", "no-such-model", *LABELS, many, tmp_path / "empty")

    assert (ran.exit_code, ran.stderr.split(";")[0]) == (
        ExitCode.USAGE,
        f"error: {tmp_path / 'empty'}: contains no video (.mp4, .mkv, .webm, …)",
    )


@pytest.mark.usefixtures("only_two_are_listed")
def test_a_wrong_path_far_down_a_list_fails_alone(many: Path, tmp_path: Path) -> None:
    (tmp_path / "empty").mkdir()
    names = [many / "1.mp4", many / "2.mp4", many / "3.mp4", tmp_path / "empty", many / "5.mp4"]
    (tmp_path / "list").write_text("".join(f"{name}\n" for name in names))

    ran = classify("--files-from", tmp_path / "list")

    assert [record["status"] for record in ran.records] == ["ok", "ok", "ok", "error", "ok"]


@pytest.mark.usefixtures("only_two_are_listed")
def test_no_listed_video_is_overwritten_however_late_it_comes(many: Path, tmp_path: Path) -> None:
    last = many / "9"  # a video whose name does not say so
    last.write_bytes((many / "8.mp4").read_bytes())
    before = last.read_bytes()
    (tmp_path / "list").write_text("".join(f"{path}\n" for path in sorted(many.iterdir())))

    ran = classify("--files-from", tmp_path / "list", "-o", last, "-f", "jsonl")

    assert ran.exit_code == ExitCode.USAGE
    assert "would be overwritten" in ran.stderr
    assert last.read_bytes() == before


def test_a_list_may_come_on_stdin(many: Path) -> None:
    ran = classify("--files-from", "-", "-0", stdin=os.fsencode(many / "1.mp4") + b"\0" + os.fsencode(many / "2.mp4"))

    assert paths(ran) == [str(many / "1.mp4"), str(many / "2.mp4")]


def test_stdin_is_read_for_one_purpose(many: Path) -> None:
    ran = classify("-", "--files-from", "-")

    assert (ran.exit_code, ran.stderr) == (
        ExitCode.USAGE,
        "error: stdin: both - and --files-from - read it; give one of them\n",
    )


def test_a_list_may_end_its_paths_with_nul(clips: Path, tmp_path: Path) -> None:
    odd = tmp_path / "new\nline.mp4"
    odd.write_bytes((clips / "red_square.mp4").read_bytes())
    (tmp_path / "list").write_bytes(os.fsencode(odd) + b"\0")

    assert paths(classify("-0", "--files-from", tmp_path / "list")) == [str(odd)]


@pytest.mark.usefixtures("only_two_are_listed")
def test_a_list_may_be_the_output_of_a_program(many: Path) -> None:
    with subprocess.Popen(["ls", *sorted(many.iterdir())], stdout=subprocess.PIPE) as listing:
        assert listing.stdout
        ran = classify("--files-from", f"/dev/fd/{listing.stdout.fileno()}")  # what bash makes of <(ls …)

    assert (len(ran.records), ran.exit_code) == (8, ExitCode.SOME_FAILED)


def test_a_column_of_a_table_starts_in_its_folder(many: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (many / "clips.csv").write_text(f"id,video\n1,1.mp4\n2,{many / '2.mp4'}\n3,no.mp4\n4,https://a.b/c.mp4\n")

    ran = classify("--files-from", many / "clips.csv", "--column", "video")

    assert paths(ran) == [*(str(many / name) for name in ("1.mp4", "2.mp4", "no.mp4")), "https://a.b/c.mp4"]
    assert [record["status"] for record in ran.records] == ["ok", "ok", "error", "error"]
    monkeypatch.chdir(many)
    assert paths(classify("--files-from", "clips.csv", "--column", "video"))[:2] == ["1.mp4", str(many / "2.mp4")]


@pytest.mark.parametrize("given", [("-",), ("--files-from", "-")])
def test_a_table_may_come_on_stdin(given: tuple[str, ...], many: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(many)

    assert paths(classify(*given, "--column", "video", stdin=b"video;id\n1.mp4;1\n2.mp4;2\n")) == ["1.mp4", "2.mp4"]


@pytest.mark.parametrize(
    ("given", "message"),
    [
        (["1.mp4"], "--column: names a column of a list, and there is no list; add --files-from clips.csv, or -"),
        (["-", "-0"], "--column: reads CSV, and -0 is for paths that end with NUL; remove one of them"),
    ],
)
def test_a_column_needs_a_table(given: list[str], message: str) -> None:
    ran = classify(*given, "--column", "video", stdin=b"video\n")

    assert (ran.exit_code, ran.stderr) == (ExitCode.USAGE, f"error: {message}\n")


@pytest.mark.usefixtures("only_two_are_listed")
def test_rows_without_a_path_are_named_once_in_a_long_table(many: Path) -> None:
    rows = ["id,video", "0,", *(f"{path.stem},{path}" for path in sorted(many.glob("*.mp4")))]
    (many / "clips.csv").write_text("".join(f"{row}\n" for row in rows))

    ran = classify("--files-from", many / "clips.csv", "--column", "video")

    assert len(ran.records) == len(rows) - 2
    assert ran.stderr.count("1 row has no path") == 1


def test_a_dumb_terminal_gets_rows_and_a_summary_alone(many: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    screen = Terminal()
    for name in ("stdout", "stderr"):
        monkeypatch.setattr(sys, name, screen)
    monkeypatch.setenv("TERM", "dumb")
    monkeypatch.setenv("COLUMNS", "300")

    with pytest.raises(SystemExit):
        app(["classify", "-m", "tiny", *LABELS, str(many)])

    assert "\x1b" not in screen.text
    assert len(screen.text.splitlines()) == 1 + 8 + 1  # the header, a row per video and the summary
    assert "" not in screen.text.splitlines()


def test_a_pipe_gets_no_progress_since_its_reader_may_print_on_the_same_terminal() -> None:
    reading, writing = os.pipe()
    with os.fdopen(reading), os.fdopen(writing, "w") as pipe:
        assert is_pipe(pipe)
        assert not is_pipe(io.StringIO())


@pytest.mark.parametrize(("seconds", "shown"), [(None, "0 s"), (53.0, "53 s left"), (3600.0, "60 min left")])
def test_progress_names_the_time_that_is_left(seconds: float | None, shown: str) -> None:
    task = Task(TaskID(0), "", None if seconds is None else 10 + seconds, 10, _get_time=lambda: 0.0)
    task.start_time = 0.0
    task._progress.extend([ProgressSample(0.0, 0.0), ProgressSample(1.0, 1.0)])

    assert _Time().render(task).plain == shown


def test_the_only_video_that_fails_is_reported_where_records_go_to_a_file(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    errors = Terminal()
    with (tmp_path / "a.jsonl").open("w") as stdout:
        monkeypatch.setattr(sys, "stdout", stdout)
        monkeypatch.setattr(sys, "stderr", errors)
        with pytest.raises(SystemExit) as exit_:
            app(["classify", "-m", "tiny", *LABELS, "nowhere.mp4"])

    assert exit_.value.code == ExitCode.ALL_FAILED
    assert without_colour(errors.text).splitlines()[-1] == "error: nowhere.mp4: no such file; check the path"
