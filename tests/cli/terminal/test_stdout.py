"""stdout holds records and nothing else, whatever prints meanwhile."""

import io
import json
import os
import subprocess
import sys
from collections import Counter
from pathlib import Path

import pytest
from invoke import ONE_THREAD, Terminal, shell

from bike_cli.cli.terminal.stdout import reserve_stdout
from bike_cli.errors import ExitCode


def test_a_pipe_gets_utf8_whatever_the_locale(monkeypatch: pytest.MonkeyPatch) -> None:
    written = io.BytesIO()
    monkeypatch.setattr("sys.stdout", io.TextIOWrapper(written, encoding="latin-1"))

    with reserve_stdout() as stream:
        assert stream
        stream.write("é日")
        stream.flush()

    assert written.getvalue() == "é日".encode()


def test_a_terminal_keeps_its_encoding(monkeypatch: pytest.MonkeyPatch) -> None:
    screen = Terminal(encoding="latin-1")
    monkeypatch.setattr("sys.stdout", screen)

    with reserve_stdout() as stream:
        assert stream
        stream.write("é日")

    assert screen.text == "é?"


# -- a process of its own -----------------------------------------------------------------------------------------

NOISY = """
import ctypes, os, sys, bike_cli.tasks.classify as task
from bike_cli.__main__ import run
classify = task.classify_with

def noisy(*given, **named):
    for answer in classify(*given, **named):
        os.write(1, b"os.write\\n")
        ctypes.CDLL(None).puts(b"puts")
        print("print")
        os.system("echo child")
        yield answer

task.classify_with = noisy
run()
"""


def noisily(*arguments: object, redirect: str = "") -> subprocess.CompletedProcess[str]:
    """Run bike while a library prints to stdout in every way there is."""
    return subprocess.run(
        ["bash", "-c", f'"$@" {redirect}', "bash", sys.executable, "-c", NOISY, "classify", "-m", "tiny"]
        + [str(argument) for argument in arguments],
        env={**os.environ, **ONE_THREAD},
        capture_output=True,
        text=True,
        timeout=120,
        check=False,
    )


@pytest.fixture(scope="module")
def noisy(clips: Path) -> subprocess.CompletedProcess[str]:
    return noisily(clips, "-L", "red square,blue circle")


@pytest.mark.slow  # over a second of a core
def test_what_libraries_print_never_lands_between_records(noisy: subprocess.CompletedProcess[str]) -> None:
    assert noisy.returncode == 0, noisy.stderr
    assert [json.loads(line)["status"] for line in noisy.stdout.splitlines()] == ["ok"] * 3


def test_what_libraries_print_goes_to_stderr(noisy: subprocess.CompletedProcess[str]) -> None:
    assert Counter(noisy.stderr.split()) == dict.fromkeys(("os.write", "puts", "print", "child"), 3)


@pytest.mark.slow
def test_nothing_is_lost_where_stderr_is_closed(clips: Path) -> None:
    done = noisily(clips, "-L", "red square,blue circle", redirect="2>&-")

    assert done.returncode == 0
    assert [json.loads(line)["status"] for line in done.stdout.splitlines()] == ["ok"] * 3


def test_a_closed_stdout_is_a_usage_error(clips: Path) -> None:
    done = shell('bike classify "$1" -m tiny -L "red square,blue circle" >&-', clips)

    assert (done.exit_code, done.stderr) == (
        ExitCode.USAGE,
        "error: stdout: is closed, so the answers have nowhere to go; name a file with -o\n",
    )


@pytest.mark.slow
def test_a_file_needs_no_stdout(clips: Path, tmp_path: Path) -> None:
    answers = tmp_path / "answers.jsonl"

    done = noisily(clips, "-L", "red square,blue circle", "-o", answers, redirect=">&-")

    assert done.returncode == 0, done.stderr
    assert [json.loads(line)["status"] for line in answers.read_text().splitlines()] == ["ok"] * 3


def test_stdout_is_itself_again_afterwards(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    file = tmp_path / "stdout"
    with file.open("w") as stdout:
        monkeypatch.setattr(sys, "stdout", stdout)

        with reserve_stdout() as stream:
            assert stream
            stream.write("record\n")
            os.write(stdout.fileno(), b"noise\n")
            print("noise")  # noqa: T201
        print("afterwards")  # noqa: T201

    assert file.read_text() == "record\nafterwards\n"
