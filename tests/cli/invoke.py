"""Ways to run bike: in this process as a pipe or on a terminal, or in one of its own."""

import io
import json
import os
import signal
import struct
import subprocess
import sys
import time
from dataclasses import dataclass
from pathlib import Path

import pytest
from typer.testing import CliRunner

from bike_cli.cli.app import app

BIKE = [sys.executable, "-m", "bike_cli"]
ONE_THREAD = {"OMP_NUM_THREADS": "1"}  # tests run side by side with others


@dataclass(frozen=True)
class Ran:
    """What a run left behind."""

    exit_code: int
    stdout: str
    stderr: str

    @property
    def records(self) -> list[dict[str, object]]:
        return [json.loads(line) for line in self.stdout.splitlines()]


def bike(*arguments: object, stdin: bytes = b"") -> Ran:
    """Run bike in this process; its three streams are pipes."""
    done = CliRunner().invoke(app, [str(a) for a in arguments], input=stdin, prog_name="bike")
    if done.exception is not None and not isinstance(done.exception, SystemExit):
        raise done.exception
    return Ran(done.exit_code, done.stdout, done.stderr)


class Terminal(io.TextIOWrapper):
    """A stream that says it is a terminal, and keeps what is written."""

    def __init__(self, encoding: str = "utf-8", errors: str = "strict") -> None:
        super().__init__(io.BytesIO(), encoding=encoding, errors=errors, newline="")

    def isatty(self) -> bool:
        return True

    @property
    def text(self) -> str:
        self.flush()
        assert isinstance(self.buffer, io.BytesIO)
        return self.buffer.getvalue().decode(self.encoding)


class Interrupted(io.BytesIO):
    """A stdin on which one path arrives, and then, when its record is in a file, Ctrl-C."""

    def __init__(self, path: bytes, record_in: Path) -> None:
        super().__init__(path + b"\n")
        self._name, self._file = os.path.basename(path), record_in  # noqa: PTH119

    @property
    def buffer(self) -> "Interrupted":
        return self

    def read1(self, size: int | None = -1) -> bytes:
        arrived = super().read1(-1 if size is None else size)
        if not arrived:
            end_s = time.monotonic() + 30
            while self._name not in self._written() and time.monotonic() < end_s:
                time.sleep(0.01)
            os.kill(os.getpid(), signal.SIGINT)
        return arrived

    def _written(self) -> bytes:
        return self._file.read_bytes() if self._file.exists() else b""


def bike_on_terminal(*arguments: object, columns: int = 80, stdin: object = None, term: str = "xterm-256color") -> Ran:
    """Run bike in this process, with stdout and stderr on terminals."""
    screen, errors = Terminal(), Terminal()
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("COLUMNS", str(columns))
        patch.setenv("TERM", term)
        for name, stream in {"stdin": stdin or sys.stdin, "stdout": screen, "stderr": errors}.items():
            patch.setattr(sys, name, stream)
        with pytest.raises(SystemExit) as exit_:
            app([str(a) for a in arguments], prog_name="bike")
    return Ran(int(exit_.value.code or 0), screen.text, errors.text)


def bike_on_pseudo_terminal(*arguments: object, columns: int = 80, **environment: str) -> Ran:
    """Run bike in a process of its own on a pseudo-terminal of this width; both of its streams are the screen."""
    import fcntl  # Windows has none of these
    import pty
    import termios

    master, slave = pty.openpty()
    fcntl.ioctl(slave, termios.TIOCSWINSZ, struct.pack("HHHH", 50, columns, 0, 0))
    inherited = {name: value for name, value in os.environ.items() if name not in ("COLUMNS", "LINES", "NO_COLOR")}
    with subprocess.Popen(
        [*BIKE, *map(str, arguments)],
        stdin=slave,
        stdout=slave,
        stderr=slave,
        env={**inherited, **ONE_THREAD, "TERM": "xterm-256color", **environment},
    ) as process:
        os.close(slave)
        screen = b""
        while part := _read(master):
            screen += part
        code = process.wait(timeout=60)
    os.close(master)
    return Ran(code, screen.decode().replace("\r\n", "\n"), "")


def _read(terminal: int) -> bytes:
    try:
        return os.read(terminal, 65536)
    except OSError:  # Linux: the other side is closed
        return b""


def shell(script: str, *arguments: object, cwd: Path | None = None, **environment: str) -> Ran:
    """Run a bash script in which `bike` is this bike; its arguments are $1, $2, …"""
    function = f'bike() {{ "{sys.executable}" -m bike_cli "$@"; }}\n'
    done = subprocess.run(
        ["bash", "-o", "pipefail", "-c", function + script, "bash", *map(str, arguments)],
        cwd=cwd,
        env={**os.environ, **ONE_THREAD, **environment},
        capture_output=True,
        text=True,
        timeout=120,
        check=False,
    )
    return Ran(done.returncode, done.stdout, done.stderr)
