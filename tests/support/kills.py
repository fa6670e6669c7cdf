"""Kill runs of bike at random times, and check what they leave behind."""

import os
import random
import signal
import subprocess
import sys
import time
from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path

SIGNALS = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP, signal.SIGQUIT, signal.SIGKILL)
ENVIRONMENT = {"OMP_NUM_THREADS": "1", "PYTHONUNBUFFERED": "1"}
LIMIT_S = 300.0


@dataclass
class Drill:
    """Runs of bike in one folder for temporary files, each job with a cache of its own.

    Args:
        environment: further variables of all runs.
        faults: what went wrong so far, each with the command, the signal and the moment.
        kills: signals that reached a running process, by name.
        n_left: runs that SIGKILL kept from removing their temporary files.
    """

    folder: Path
    dice: random.Random
    environment: Mapping[str, str] = field(default_factory=dict)
    faults: list[str] = field(default_factory=list)
    kills: Counter[str] = field(default_factory=Counter)
    n_left: int = 0
    _abandoned: frozenset[str] = frozenset()

    def __post_init__(self) -> None:
        self.temporary.mkdir()

    @property
    def temporary(self) -> Path:
        return self.folder / "tmp"

    def run(self, place: Path, *arguments: object) -> float:
        """Run bike to the end and return its seconds; no temporary file may be left, not even from earlier runs."""
        start_s = time.monotonic()
        with self._started(place, arguments) as process:
            _, stderr = process.communicate(timeout=LIMIT_S)
        took_s = time.monotonic() - start_s
        shown = f"{arguments[0]}, whole"
        self._abandoned = frozenset()  # a complete run clears what it finds
        self._check(process, stderr, shown)
        if process.returncode != 0:
            self.faults.append(f"{shown}: exit code {process.returncode}: {stderr.decode()[-300:]}")
        return took_s

    def kill(self, place: Path, *arguments: object, within_s: float) -> float | None:
        """Start bike and kill it at a random time, alone or with its whole process group.

        Returns:
            The seconds of a run that was complete before that moment; None if the signal reached it.
        """
        number, with_group = self.dice.choice(SIGNALS), self.dice.random() < 0.5
        moment_s = self.dice.random() * within_s
        shown = f"{arguments[0]}, {number.name} to the {'group' if with_group else 'process'} after {moment_s:.2f} s"
        was_alive = False
        start_s = time.monotonic()
        with self._started(place, arguments) as process:
            try:
                process.wait(moment_s)
                took_s = time.monotonic() - start_s
            except subprocess.TimeoutExpired:
                (os.killpg if with_group else os.kill)(process.pid, number)
                was_alive = True
            try:
                _, stderr = process.communicate(timeout=LIMIT_S)
            except subprocess.TimeoutExpired:
                process.kill()
                self.faults.append(f"{shown}: still runs after {LIMIT_S:.0f} s")
                return None
        if was_alive:
            self.kills[number.name] += 1
        elif process.returncode != 0:
            self.faults.append(f"{shown}, not reached: exit code {process.returncode}: {stderr.decode()[-300:]}")
        self._check(process, stderr, shown, is_killed=was_alive and number == signal.SIGKILL)
        return None if was_alive else took_s

    def _started(self, place: Path, arguments: tuple[object, ...]) -> subprocess.Popen[bytes]:
        return subprocess.Popen(
            [sys.executable, "-m", "bike_cli", *map(str, arguments)],
            cwd=place,
            env={
                **os.environ,
                **ENVIRONMENT,
                "PYTHONPATH": os.pathsep.join(filter(None, [*sys.path])),
                "TMPDIR": str(self.temporary),
                "XDG_CACHE_HOME": str(place.with_name(f"{place.name}-cache")),
                **self.environment,
            },
            stdin=subprocess.DEVNULL,
            stdout=subprocess.DEVNULL,
            stderr=subprocess.PIPE,
            start_new_session=True,
        )

    def _check(self, process: subprocess.Popen[bytes], stderr: bytes, shown: str, *, is_killed: bool = False) -> None:
        """Record what a run left behind: processes, tracebacks on stderr, temporary files."""
        left = processes_of(process.pid, within_s=20)
        if left:
            self.faults.append(f"{shown}: processes left: {left}")
        if b"Traceback" in stderr or b"resource_tracker" in stderr or b"Exception ignored" in stderr:
            self.faults.append(f"{shown}: on stderr: {stderr.decode()[-1500:]}")
        files = {path.name for path in self.temporary.iterdir() if not path.name.startswith("torchinductor")}
        if is_killed:
            self.n_left += bool(files - self._abandoned)
            self._abandoned = frozenset(files)
        elif files - self._abandoned:
            self.faults.append(f"{shown}: temporary files left: {sorted(files - self._abandoned)}")


def processes_of(group: int, *, within_s: float) -> list[str]:
    """Return the command lines of a session's processes that are still alive after some time."""
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
