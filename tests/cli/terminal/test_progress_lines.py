"""Lines of progress where stderr is no terminal."""

import re
import time
from pathlib import Path

import numpy as np
import pytest
from films import drawn, write_video
from invoke import bike, bike_on_terminal

from bike_cli.cli.terminal import progress_lines
from bike_cli.cli.terminal.progress_lines import ProgressLines

LINE = re.compile(r"^progress: (\d+)/(\d+) videos?(, \d+ failed)?(, [\d.,]+/s, \S+ \w+ left)?$", re.MULTILINE)


@pytest.fixture
def short_interval(monkeypatch: pytest.MonkeyPatch) -> None:
    """Print a line every 5 ms, and let the next video wait until one is printed."""
    monkeypatch.setattr(progress_lines, "INTERVAL_S", 0.005)
    update = ProgressLines.update

    def update_and_wait(lines: ProgressLines, done: int, **counts: int) -> None:
        update(lines, done, **counts)
        time.sleep(0.05)

    monkeypatch.setattr(ProgressLines, "update", update_and_wait)


@pytest.mark.parametrize(
    ("total", "done", "failed", "seconds", "line"),
    [
        (400, 120, 3, 30.0, "120/400 videos, 3 failed, 4.0/s, 70 s left"),
        (5000, 1000, 0, 100.0, "1,000/5,000 videos, 10.0/s, 7 min left"),
        (None, 30, 0, 60.0, "30 videos, 0.50/s"),
        (1, 0, 0, 30.0, "0/1 video"),
    ],
)
def test_a_line_has_the_count_the_rate_and_the_time_left(
    total: int | None, done: int, failed: int, seconds: float, line: str
) -> None:
    lines = ProgressLines("video", wanted=True)
    lines.update(done, total=total, failed=failed)

    assert lines.line(seconds) == line


def test_the_rate_of_a_resumed_run_is_that_of_this_run() -> None:
    lines = ProgressLines("step", wanted=True, total=1000, done=900)
    lines.update(950)

    assert lines.line(50.0) == "950/1,000 steps, 1.0/s, 50 s left"


@pytest.mark.usefixtures("short_interval")
def test_lines_come_while_nothing_is_done(capsys: pytest.CaptureFixture[str]) -> None:
    with ProgressLines("video", wanted=True, total=7):
        time.sleep(0.1)

    lines = capsys.readouterr().err.splitlines()
    assert len(lines) >= 2
    assert set(lines) == {"progress: 0/7 videos"}


COMMANDS = {
    "classify": ("-L", "red square,blue circle", "-f", "csv"),
    "calibrate": ("--promise", "0.3"),
    "eval": (),
    "fewshot": ("--shots", "1", "--trials", "1", "--method", "proto"),
}


@pytest.fixture
def data(tmp_path: Path) -> Path:
    for name in ("red square", "blue circle"):
        (tmp_path / "data" / name).mkdir(parents=True)
        for i in range(3):
            write_video(tmp_path / "data" / name / f"{i}.mp4", np.roll(drawn(name, frames=8 + i), 4 * i, axis=1))
    return tmp_path / "data"


@pytest.mark.slow  # over a second of a core
@pytest.mark.usefixtures("short_interval")
@pytest.mark.parametrize("command", COMMANDS)
def test_each_command_that_reads_videos_prints_lines_on_request(data: Path, command: str) -> None:
    given = (command, data, "-m", "tiny", "--no-cache", *COMMANDS[command])

    asked, unasked, quiet = bike(*given, "--progress"), bike(*given), bike(*given, "--progress", "-q")

    assert {int(line[2]) for line in LINE.finditer(asked.stderr)} == {6}
    assert "progress" not in unasked.stderr + quiet.stderr + asked.stdout


@pytest.mark.slow  # over a second of a core
@pytest.mark.usefixtures("short_interval")
def test_training_prints_steps(data: Path, tmp_path: Path) -> None:
    flags = ("--epochs", "2", "--batch-size", "2", "--frames", "2", "--workers", "1")

    ran = bike("finetune", data, "-m", "tiny", "-o", tmp_path / "run", *flags, "--progress")

    assert re.search(r"^progress: \d+/\d+ steps", ran.stderr, re.MULTILINE)


@pytest.mark.usefixtures("short_interval")
@pytest.mark.parametrize("format_", [("-f", "jsonl"), ()])
def test_a_terminal_gets_no_lines(data: Path, format_: tuple[str, ...]) -> None:
    labels = ("-L", "red square,blue circle")

    ran = bike_on_terminal("classify", data, "-m", "tiny", "--no-cache", *labels, *format_, "--progress")

    assert "progress:" not in ran.stdout + ran.stderr


def test_a_list_is_counted_for_the_lines(data: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    from bike_cli.cli.videos import sources

    monkeypatch.setattr(sources, "LISTED", 1)
    """Print a line every 5 ms, and let the next video wait until one is printed."""
    monkeypatch.setattr(progress_lines, "INTERVAL_S", 0.005)
    update = ProgressLines.update

    def update_and_wait(lines: ProgressLines, done: int, **counts: int) -> None:
        update(lines, done, **counts)
        time.sleep(0.05)

    monkeypatch.setattr(ProgressLines, "update", update_and_wait)

    ran = bike("classify", data, "-m", "tiny", "--no-cache", "-L", "red square,blue circle", "--progress")

    assert "/6 videos" in ran.stderr
