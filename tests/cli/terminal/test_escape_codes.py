"""NO_COLOR and dumb terminals get text without escape codes: in help, tables and errors."""

import re
import sys
from pathlib import Path

import pytest
from invoke import Ran, bike_on_pseudo_terminal, bike_on_terminal

from bike_cli.cli.terminal.console import can_animate, can_style
from bike_cli.errors import ExitCode

PLAIN = [{"NO_COLOR": "1"}, {"TERM": "dumb"}]
STYLE = re.compile(r"\x1b\[[0-9;]*m")

pytestmark = pytest.mark.skipif(sys.platform == "win32", reason="Windows has no pseudo-terminals of this kind")


@pytest.mark.parametrize("environment", PLAIN, ids=str)
@pytest.mark.parametrize(
    "arguments",
    [
        ("--help",),
        ("classify", "--help"),
        ("plot",),
        ("classify", "--lables", "x"),
        ("classify", "nothing.mp4", "-L", "a, b", "-m", "tiny", "--crops", "2"),
        pytest.param(("models", "list"), marks=pytest.mark.slow),  # imports torch
        ("cache", "info"),
    ],
    ids=" ".join,
)
def test_help_tables_and_errors_have_no_escape_codes(arguments: tuple[str, ...], environment: dict[str, str]) -> None:
    ran = bike_on_pseudo_terminal(*arguments, **environment)

    assert ran.exit_code in (ExitCode.DONE, ExitCode.USAGE)
    assert ran.stdout.strip()
    assert "\x1b" not in ran.stdout


@pytest.mark.slow  # over a second of a core
def test_a_terminal_with_colours_gets_them() -> None:
    assert STYLE.search(bike_on_pseudo_terminal("--help").stdout)
    assert STYLE.search(bike_on_pseudo_terminal("plot").stdout)


def test_an_empty_no_color_asks_for_nothing() -> None:
    assert STYLE.search(bike_on_pseudo_terminal("--help", NO_COLOR="").stdout)


def classified(*arguments: object, term: str = "xterm-256color") -> Ran:
    return bike_on_terminal("classify", "-m", "tiny", "-L", "red square, blue circle", *arguments, term=term)


def test_no_color_leaves_the_answers_and_warnings_without_styles(clips: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("NO_COLOR", "1")
    one, many = classified(clips / "red_square.mp4", "--explain"), classified(clips, "nothing.mp4")

    assert "\x1b" not in one.stdout
    assert not STYLE.search(many.stdout + many.stderr)  # what moves a progress bar remains
    assert "red square" in one.stdout
    assert "red square" in many.stdout


def test_a_dumb_terminal_gets_answers_and_warnings_without_escape_codes(clips: Path) -> None:
    ran = classified(clips, "nothing.mp4", term="dumb")

    assert "red square" in ran.stdout
    assert "nothing.mp4" in ran.stdout
    assert "\x1b" not in ran.stdout + ran.stderr


@pytest.mark.parametrize(
    ("term", "no_color", "expected"),
    [("xterm", "", True), ("xterm", "1", False), ("dumb", "", False), ("DUMB", "", False), ("", "", True)],
)
def test_what_asks_for_plain_text(monkeypatch: pytest.MonkeyPatch, term: str, no_color: str, expected: bool) -> None:
    monkeypatch.setenv("TERM", term)
    monkeypatch.setenv("NO_COLOR", no_color)

    assert can_style() is expected


def test_no_color_leaves_progress_on_a_terminal(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("NO_COLOR", "1")
    monkeypatch.setenv("TERM", "xterm")
    monkeypatch.setattr(sys.stderr, "isatty", lambda: True)

    assert can_animate()
