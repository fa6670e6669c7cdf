"""Spinners and messages share a terminal: a message has lines of its own, and nothing of a spinner stays."""

import re
from pathlib import Path

import numpy as np
import pytest
from films import drawn, write_video
from invoke import bike_on_terminal
from speed import slow_but

TOKEN = re.compile(r"\x1b\[([0-9;?]*)([A-Za-z])|(.)", re.DOTALL)


def final_screen(written: str) -> list[str]:
    """Return the lines that a terminal shows in the end."""
    rows: list[list[str]] = [[]]
    row = column = 0
    for argument, code, character in TOKEN.findall(written):
        if code == "A":
            row = max(0, row - int(argument or 1))
        elif code == "K":
            rows[row] = [] if argument == "2" else rows[row][:column]
        elif character == "\r":
            column = 0
        elif character == "\n":
            row, column = row + 1, 0  # a terminal also returns, with onlcr
            rows += [[]] * (row == len(rows))
        elif character:
            rows[row] += " " * (column - len(rows[row]) + 1)
            rows[row][column] = character
            column += 1
    return ["".join(line).rstrip() for line in rows]


def test_a_screen_is_what_stays() -> None:
    assert final_screen("spin\r\x1b[2Kab\ncd\r\x1b[1A\x1b[2Kx") == ["x", "cd"]
    assert final_screen("⠏ loadingwarning: w\n") == ["⠏ loadingwarning: w", ""]


@pytest.fixture
def data(tmp_path: Path) -> Path:
    for label, name in (("playing guitar", "red square"), ("playing piano", "blue circle")):
        (tmp_path / "data" / label).mkdir(parents=True)
        for i in range(4):
            write_video(tmp_path / "data" / label / f"{i}.mp4", np.roll(drawn(name, frames=8 + i), 4 * i, axis=1))
    (tmp_path / "data" / "playing piano" / "broken.mp4").write_bytes(b"broken")
    return tmp_path / "data"


COMMANDS = {
    "classify": ("{data}", "-L", "playing guitar,red square"),
    "eval": ("{data}",),
    "fewshot": ("{data}", "--shots", "1", "--trials", "1", "--method", "proto"),
    "finetune": ("{data}", "--save", "{run}", "--epochs", "1", "--batch-size", "2", "--frames", "2"),
}


@pytest.mark.slow  # over a second of a core
@pytest.mark.parametrize("columns", slow_but([80], [80, 200]))
@pytest.mark.parametrize("command", COMMANDS)
def test_warnings_and_spinners_do_not_collide(data: Path, tmp_path: Path, command: str, columns: int) -> None:
    given = [text.format(data=data, run=tmp_path / "run") for text in COMMANDS[command]]

    ran = bike_on_terminal(command, "-m", "tiny", *given, columns=columns)

    screen = final_screen(ran.stderr)
    warnings = [line for line in screen if "warning:" in line]
    assert warnings
    assert all(line.startswith("warning:") for line in warnings)
    assert not [line for line in screen if re.search(r"[⠀-⣿]|loading|reading videos", line)]
