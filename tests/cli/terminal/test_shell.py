"""bike as a shell runs it: processes, pipes, signals and a real terminal."""

import json
import os
import re
import shutil
import signal
import subprocess
import time
from dataclasses import dataclass
from pathlib import Path

import pytest
from answers import cells, steering
from invoke import BIKE, ONE_THREAD, Ran, bike_on_pseudo_terminal, shell
from speed import slow_but

from bike_cli.errors import ExitCode

REAL_CLIPS = Path(__file__).parents[4] / "shared" / "clips"


# -- pipelines ----------------------------------------------------------------------------------------------------


@pytest.mark.slow
def test_find_and_bike_make_a_pipeline(clips: Path, labels: Path) -> None:
    script = 'find "$1" -name "*.mp4" -print0 | sort -z | bike classify -m tiny -0 - -l "$2" | sort -r'

    ran = shell(script, clips, labels)

    assert (ran.exit_code, ran.stderr) == (ExitCode.DONE, "")
    assert [Path(str(record["path"])).stem for record in ran.records] == ["red_square", "green_cross", "blue_circle"]


@pytest.mark.slow
@pytest.mark.skipif(shutil.which("jq") is None, reason="jq is not installed")
def test_jq_reads_what_bike_writes_of_odd_names_and_failures(clips: Path, tmp_path: Path) -> None:
    for name in ("a line\nend.mp4", "b 'quotes\".mp4", "c ü.mp4"):
        (tmp_path / name).symlink_to(clips / "red_square.mp4")
    (tmp_path / "d broken.mp4").write_text("no film")
    find = 'find "$1" -name "*.mp4" -print0 | sort -z'
    jq = """jq -r '[(.path | split("/") | last), .label // .error.type] | @json'"""

    ran = shell(f'{find} | bike classify -0 - -m tiny -q -L "red square,blue circle" | {jq}', tmp_path)

    assert [tuple(json.loads(line)) for line in ran.stdout.splitlines()] == [
        ("a line\nend.mp4", "red square"),
        ("b 'quotes\".mp4", "red square"),
        ("c ü.mp4", "red square"),
        ("d broken.mp4", "not_video"),
    ]
    assert ran.exit_code == ExitCode.SOME_FAILED  # of the whole pipeline: pipefail


@pytest.mark.slow
@pytest.mark.parametrize("format_", ["jsonl", "table"])
def test_a_reader_that_has_seen_enough_ends_the_run_without_a_traceback(
    clips: Path, labels: Path, tmp_path: Path, format_: str
) -> None:
    many = tmp_path / "many.txt"
    many.write_text(f"{clips / 'red_square.mp4'}\n" * 200)

    ran = shell('bike classify -m tiny --files-from "$1" -l "$2" -f "$3" | head -1', many, labels, format_)

    assert ran.stdout.count("\n") == 1
    assert ran.stderr == ""
    assert ran.exit_code == ExitCode.PIPE_CLOSED


# -- one record after another, and Ctrl-C -------------------------------------------------------------------------


@dataclass(frozen=True)
class Interrupted:
    """A run that got one path on stdin, wrote its answer, and was interrupted while it waited for the next."""

    exit_code: int
    stdout: str
    stderr: str


@pytest.fixture(scope="module")
def interrupted(clips: Path) -> Interrupted:
    with subprocess.Popen(
        [*BIKE, "classify", "-m", "tiny", "-", "-L", "red square,blue circle", "-f", "json"],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        env={**os.environ, **ONE_THREAD},
    ) as process:
        assert process.stdin
        assert process.stdout
        assert process.stderr
        process.stdin.write(os.fsencode(clips / "red_square.mp4") + b"\n")
        process.stdin.flush()
        first = process.stdout.readline()  # returns when there is a record: stdin stays open
        process.send_signal(signal.SIGINT)
        rest, errors = process.stdout.read(), process.stderr.read()
        return Interrupted(process.wait(timeout=60), (first + rest).decode(), errors.decode())


@pytest.mark.slow  # over a second of a core
def test_an_answer_comes_while_the_next_path_is_awaited(interrupted: Interrupted) -> None:
    assert '"label": "red square"' in interrupted.stdout


def test_an_interrupt_leaves_valid_output_and_exits_130(interrupted: Interrupted) -> None:
    assert [record["status"] for record in json.loads(interrupted.stdout)] == ["ok"]
    assert interrupted.exit_code == ExitCode.INTERRUPTED
    # The signal may come before the record is counted.
    assert re.fullmatch(
        r"interrupted(; 1 video: 1 ok in [\d.]+ s, [\d.,]+/s)?\n", interrupted.stderr
    )  # the count may be late


@pytest.mark.parametrize("delay_s", slow_but([0.2, 1.0], [0.02, 0.2, 0.5, 1.0, 1.5]))
@pytest.mark.parametrize("command", ["classify", "eval", "fewshot"])
def test_an_interrupt_while_loading_is_one_line(clips: Path, tmp_path: Path, command: str, delay_s: float) -> None:
    labelled = tmp_path / "data.csv"
    labelled.write_text(f"path,label\n{clips}/red_square.mp4,a\n{clips}/blue_circle.mp4,b\n")
    data = [str(clips / "red_square.mp4"), "-L", "a,b"] if command == "classify" else [str(labelled)]
    with subprocess.Popen(
        [*BIKE, command, "-m", "tiny", "--no-cache", *data],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        env={**os.environ, **ONE_THREAD},
    ) as process:
        time.sleep(delay_s)
        process.send_signal(signal.SIGINT)
        _, errors = process.communicate(timeout=60)

    # Python itself may not be ready yet, or the command may have ended already.
    assert b"KeyboardInterrupt" not in errors or delay_s < 0.1
    if process.returncode == ExitCode.INTERRUPTED:
        assert errors.decode() == "interrupted\n"


@pytest.mark.slow
@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGHUP])
def test_a_stop_signal_keeps_the_answers_and_nothing_else(clips: Path, tmp_path: Path, number: signal.Signals) -> None:
    answers = tmp_path / "answers.jsonl"
    with subprocess.Popen(
        [*BIKE, "classify", "-m", "tiny", "-", "-L", "red square,blue circle", "-o", str(answers)],
        stdin=subprocess.PIPE,
        env={**os.environ, **ONE_THREAD},
    ) as process:
        assert process.stdin
        process.stdin.write(os.fsencode(clips / "red_square.mp4") + b"\n")
        process.stdin.flush()
        _wait_for_a_line_in(tmp_path)
        process.send_signal(number)
        code = process.wait(timeout=60)

    assert code == ExitCode.INTERRUPTED
    assert [path.name for path in tmp_path.iterdir()] == ["answers.jsonl"]
    assert json.loads(answers.read_text())["label"] == "red square"


def _wait_for_a_line_in(folder: Path) -> None:
    ends = time.monotonic() + 60
    while not any(path.read_bytes().endswith(b"\n") for path in folder.iterdir()):
        assert time.monotonic() < ends, "no record came"
        time.sleep(0.05)


# -- a terminal ---------------------------------------------------------------------------------------------------


@pytest.mark.slow
@pytest.mark.parametrize("columns", [80, 200])
def test_a_real_terminal_gets_a_table_of_its_own_width(clips: Path, tmp_path: Path, columns: int) -> None:
    film = tmp_path / f"{'日本語の動画' * 12}\x1b[31m.mp4"
    shutil.copy(clips / "red_square.mp4", film)
    labels = f"red square {'that is long to read ' * 4}, blue circle"

    ran = bike_on_pseudo_terminal(
        "classify", "-m", "tiny", film, clips, "-L", labels, "--explain", "-q", columns=columns
    )

    lines = ran.stdout.splitlines()
    assert ran.exit_code == ExitCode.DONE
    assert re.search(r"\x1b\[[0-9;]*m", ran.stdout)
    assert columns - 10 < max(map(cells, lines)) <= columns
    assert steering("\n".join(lines)) == set()
    assert "画\\x1b[31m.mp4" in ran.stdout


# -- videos of many kinds -----------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def over_real_clips() -> Ran:
    if not REAL_CLIPS.is_dir():
        pytest.skip(f"{REAL_CLIPS}: the real clips are not here")
    return shell('bike classify "$1" -m tiny -L "red square, blue circle"', REAL_CLIPS)


@pytest.mark.slow
def test_every_real_clip_has_one_record(over_real_clips: Ran) -> None:
    videos = sorted(str(file) for file in REAL_CLIPS.iterdir() if file.suffix != ".md")

    assert len(videos) > 20
    assert sorted(str(record["path"]) for record in over_real_clips.records) == videos


@pytest.mark.slow
def test_no_real_clip_fails(over_real_clips: Ran) -> None:
    assert [record["path"] for record in over_real_clips.records if "error" in record] == []
    assert over_real_clips.exit_code == ExitCode.DONE


@pytest.mark.slow
def test_only_the_damaged_clip_is_said_to_be_damaged(over_real_clips: Ran) -> None:
    damaged = [r for r in over_real_clips.records if "damaged" in str(r.get("warning"))]

    assert [Path(str(r["path"])).name for r in damaged] == ["corrupted.mp4"]
    assert "48 of 50 frames can be read" in str(damaged[0]["warning"])


@pytest.mark.slow
def test_decoders_say_nothing_of_their_own(over_real_clips: Ran) -> None:
    # The folder holds a README, which is not a video.
    left_out = f"left out: 1 file that is not a video (first: {REAL_CLIPS / 'README.md'}); -v lists them"
    assert over_real_clips.stderr == f"warning: {left_out}\n"
