"""Runs of bike that are killed at random moments, and what they leave behind."""

import os
import random
import signal
import subprocess
import sys
import time
from dataclasses import dataclass, field
from pathlib import Path

SIGNALS = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP, signal.SIGQUIT, signal.SIGKILL)
ENVIRONMENT = {"OMP_NUM_THREADS": "1", "PYTHONUNBUFFERED": "1"}
LIMIT_S = 300.0


@dataclass
class Drill:
    """A place for runs: a folder for temporary files and a cache of its own.

    Args:
        faults: what went wrong so far, each with the command, the signal and the moment.
    """

    folder: Path
    dice: random.Random
    faults: list[str] = field(default_factory=list)
    kills: dict[str, int] = field(default_factory=dict)

    def __post_init__(self) -> None:
        self.temporary.mkdir()

    @property
    def temporary(self) -> Path:
        return self.folder / "tmp"

    def run(self, *arguments: object) -> float:
        """Run bike to its end and return the seconds it took; nothing may be left."""
        start_s = time.monotonic()
        with self._started(arguments) as process:
            _, stderr = process.communicate(timeout=LIMIT_S)
        shown = f"{arguments[0]}, whole"
        self._check(process, stderr, shown, may_leave_files=False)
        if process.returncode != 0:
            self.faults.append(f"{shown}: exit code {process.returncode}: {stderr.decode()[-300:]}")
        return time.monotonic() - start_s

    def kill(self, *arguments: object, within_s: float) -> None:
        """Start bike and kill it at a random moment, alone or with its whole process group."""
        number, with_group = self.dice.choice(SIGNALS), self.dice.random() < 0.5
        moment_s = self.dice.random() * within_s
        shown = f"{arguments[0]}, {number.name} to the {'group' if with_group else 'process'} after {moment_s:.2f} s"
        with self._started(arguments) as process:
            try:
                process.wait(moment_s)
            except subprocess.TimeoutExpired:
                (os.killpg if with_group else os.kill)(process.pid, number)
                self.kills[number.name] = self.kills.get(number.name, 0) + 1
            try:
                _, stderr = process.communicate(timeout=LIMIT_S)
            except subprocess.TimeoutExpired:
                process.kill()
                self.faults.append(f"{shown}: still runs after {LIMIT_S:.0f} s")
                return
        self._check(process, stderr, shown, may_leave_files=number == signal.SIGKILL)

    def _started(self, arguments: tuple[object, ...]) -> subprocess.Popen[bytes]:
        return subprocess.Popen(
            [sys.executable, "-m", "bike_cli", *map(str, arguments)],
            env={**os.environ, **ENVIRONMENT, "TMPDIR": str(self.temporary), "XDG_CACHE_HOME": str(self.folder)},
            stdin=subprocess.DEVNULL,
            stdout=subprocess.DEVNULL,
            stderr=subprocess.PIPE,
            start_new_session=True,
        )

    def _check(self, process: subprocess.Popen[bytes], stderr: bytes, shown: str, *, may_leave_files: bool) -> None:
        left = processes_of(process.pid, within_s=20)
        if left:
            self.faults.append(f"{shown}: processes left: {left}")
        if b"Traceback" in stderr or b"resource_tracker" in stderr or b"Exception ignored" in stderr:
            self.faults.append(f"{shown}: on stderr: {stderr.decode()[-1500:]}")
        files = [path.name for path in self.temporary.iterdir() if not path.name.startswith("torchinductor")]
        if files and not may_leave_files:
            self.faults.append(f"{shown}: temporary files left: {files}")


def processes_of(group: int, *, within_s: float) -> list[str]:
    """Return the command lines of the processes of a session that still live after a while."""
    end_s = time.monotonic() + within_s
    while (found := _members(group)) and time.monotonic() < end_s:
        time.sleep(0.05)
    return found


def _members(session: int) -> list[str]:
    found = []
    for entry in Path("/proc").iterdir():
        if entry.name.isdecimal():
            try:
                state, _, _, its_session = (entry / "stat").read_text().rsplit(")", 1)[1].split()[:4]
                if int(its_session) == session and state != "Z":
                    found.append((entry / "cmdline").read_bytes().replace(b"\0", b" ").decode(errors="replace")[:200])
            except OSError:
                continue
    return found
