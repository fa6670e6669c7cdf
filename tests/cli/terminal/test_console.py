"""One line for every mistake, an exit code for every end, and no text that steers the terminal."""

import contextlib
import io
import logging
import os
import signal
import sys
from collections.abc import Callable, Iterator

import pytest
import typer
from answers import COLOUR, HOSTILE, steering
from invoke import Terminal
from rich.console import Console

from bike_cli.cli.terminal.console import (
    can_animate,
    cautioned,
    handle_errors,
    notice,
    plain,
    print_usage,
    safe,
    stderr,
)
from bike_cli.cli.terminal.signals import handling
from bike_cli.errors import BikeError, ConfigError, ExitCode, ModelError, UsageError, VideoError

logger = logging.getLogger("bike_cli.somewhere")


def exit_code_of(error: BaseException, *, quiet: bool = False) -> int:
    with pytest.raises(typer.Exit) as caught, handle_errors(quiet=quiet):
        raise error
    return caught.value.exit_code


@pytest.fixture
def stdout_of_its_own(monkeypatch: pytest.MonkeyPatch) -> Iterator[io.TextIOWrapper]:
    """A stdout that may be redirected without harm to the tests."""
    reader, writer = os.pipe()
    with os.fdopen(writer, "w") as stream, os.fdopen(reader):
        monkeypatch.setattr(sys, "stdout", stream)
        yield stream


@pytest.mark.parametrize(("text", "shown"), HOSTILE.items())
def test_text_from_outside_is_written_out(text: str, shown: str) -> None:
    assert safe(text) == shown
    assert steering(safe(text)) == set()


@pytest.mark.parametrize("text", ["日本語", "é", "e\u0301", "👩\u200d👧", "क\u094dष", "שלום", "[bold]"])
def test_text_that_steers_nothing_is_left_alone(text: str) -> None:
    assert safe(text) == text


def test_markup_is_text() -> None:
    assert (plain("[red]x[/red]").plain, plain("[red]x[/red]").spans) == ("[red]x[/red]", [])


@pytest.mark.parametrize("text", HOSTILE)
def test_a_message_is_one_line_on_stderr(text: str, capsys: pytest.CaptureFixture[str]) -> None:
    notice(f"{text}: is wrong", level="error")

    printed = capsys.readouterr()
    assert printed.out == ""
    assert printed.err == f"error: {HOSTILE[text]}: is wrong\n"


@pytest.mark.parametrize("colour", ["", "1"])
def test_a_long_message_stays_one_line_in_a_file(colour: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("FORCE_COLOR", colour)
    file = io.StringIO()
    monkeypatch.setattr(sys, "stderr", file)
    monkeypatch.setenv("COLUMNS", "40")

    notice("word " * 40, level="warning")

    assert file.getvalue().count("\n") == 1


@pytest.mark.parametrize("columns", [40, 60, 80])
def test_a_long_message_breaks_at_spaces_on_a_terminal(monkeypatch: pytest.MonkeyPatch, columns: int) -> None:
    screen = Terminal()
    monkeypatch.setattr(sys, "stderr", screen)
    monkeypatch.setenv("COLUMNS", str(columns))
    monkeypatch.setenv("NO_COLOR", "1")
    monkeypatch.setenv("TERM", "xterm")
    words = [letter * length for length, letter in enumerate("abcdefghijklmnopqrst", start=1)] * 3

    notice(" ".join(words), level="warning")
    stderr().print(plain(" ".join(words)))

    lines = screen.text.splitlines()
    assert max(map(len, lines)) <= columns
    assert " ".join(lines).split() == ["warning:", *words, *words]


def test_a_command_to_copy_stays_one_line(monkeypatch: pytest.MonkeyPatch) -> None:
    screen = Terminal()
    monkeypatch.setattr(sys, "stderr", screen)
    monkeypatch.setenv("COLUMNS", "40")

    print_usage("run: use it with bike classify " + "word " * 20)

    assert screen.text.count("\n") == 1


def test_a_path_longer_than_the_line_may_break_anywhere(monkeypatch: pytest.MonkeyPatch) -> None:
    screen, path = Terminal(), "/a/very/long/folder/" * 4 + "a.mp4"
    monkeypatch.setattr(sys, "stderr", screen)
    monkeypatch.setenv("COLUMNS", "40")

    notice(f"{path}: no such file; check the path", level="error")

    lines = COLOUR.sub("", screen.text).splitlines()
    assert max(map(len, lines)) <= 40
    assert path in "".join(lines)
    assert "no such file;" in " ".join(lines)


@pytest.mark.parametrize(
    ("error", "code"),
    [
        (UsageError("x"), 2),
        (ConfigError("x"), 2),
        (VideoError("x", kind="missing"), 3),
        (ModelError("x"), 5),
        (KeyboardInterrupt(), 130),
    ],
)
def test_every_end_has_its_exit_code(error: BaseException, code: int) -> None:
    assert exit_code_of(error) == code


def test_a_closed_pipe_ends_as_sigpipe_would(stdout_of_its_own: io.TextIOWrapper) -> None:
    assert exit_code_of(BrokenPipeError()) == ExitCode.PIPE_CLOSED == 128 + 13


def test_an_error_is_reported_quiet_or_not(capsys: pytest.CaptureFixture[str]) -> None:
    exit_code_of(BikeError("clip.mp4: is odd"), quiet=True)

    assert capsys.readouterr().err == "error: clip.mp4: is odd\n"


def test_a_bug_keeps_its_traceback() -> None:
    with pytest.raises(ZeroDivisionError), handle_errors():
        raise ZeroDivisionError


@pytest.mark.parametrize(("quiet", "printed"), [(False, "warning: label 'x' is long\n"), (True, "")])
def test_what_the_library_logs_is_a_warning_unless_quiet(
    quiet: bool, printed: str, capsys: pytest.CaptureFixture[str]
) -> None:
    with handle_errors(quiet=quiet):
        logger.warning("label %r is long", "x")

    assert capsys.readouterr().err == printed


def test_the_room_takes_its_handler_along() -> None:
    before = list(logging.getLogger("bike_cli").handlers)

    with handle_errors():
        assert logging.getLogger("bike_cli").handlers != before

    assert logging.getLogger("bike_cli").handlers == before


def test_only_the_first_word_of_a_caution_is_coloured() -> None:
    console = Console(file=io.StringIO(), force_terminal=True, color_system="standard")

    console.print(cautioned("[few] videos"))

    assert console.file.getvalue() == "\x1b[33mcaution: \x1b[0m[few] videos\n"  # type: ignore[attr-defined]


@pytest.mark.parametrize(("term", "can"), [("xterm", True), ("dumb", False)])
def test_a_dumb_terminal_shows_no_animation(monkeypatch: pytest.MonkeyPatch, term: str, can: bool) -> None:
    monkeypatch.setenv("TERM", term)
    monkeypatch.setattr(sys, "stderr", Terminal())

    assert can_animate() == can


def interrupt_that_is_swallowed() -> None:
    """Be interrupted as torch is while it reads a file: it turns any exception into another one."""
    with contextlib.suppress(KeyboardInterrupt):
        signal.raise_signal(signal.SIGINT)


def end_of(run: Callable[[], None]) -> int:
    with handling([signal.SIGINT], signal.SIG_DFL), pytest.raises(typer.Exit) as caught, handle_errors():
        run()
    return caught.value.exit_code


@pytest.mark.parametrize("error", [ModelError("a.safetensors: is not complete; download it"), ValueError("shape")])
def test_an_error_that_ctrl_c_became_is_an_interrupt(error: Exception, capsys: pytest.CaptureFixture[str]) -> None:
    def run() -> None:
        interrupt_that_is_swallowed()
        raise error

    assert (end_of(run), capsys.readouterr().err) == (ExitCode.INTERRUPTED, "interrupted\n")


def test_an_error_while_an_interrupt_is_handled_is_shown(capsys: pytest.CaptureFixture[str]) -> None:
    def run() -> None:
        try:
            signal.raise_signal(signal.SIGINT)
        except KeyboardInterrupt:
            raise UsageError("a.jsonl: cannot be written; choose another") from None

    assert (end_of(run), capsys.readouterr().err) == (
        ExitCode.USAGE,
        "error: a.jsonl: cannot be written; choose another\n",
    )


def test_an_exit_after_an_interrupt_that_was_handled_keeps_its_code() -> None:
    def run() -> None:
        interrupt_that_is_swallowed()
        raise typer.Exit(ExitCode.SOME_FAILED)

    assert end_of(run) == ExitCode.SOME_FAILED
