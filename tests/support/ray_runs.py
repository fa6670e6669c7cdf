"""Runs of commands with `--ray` in processes of their own, and the processes that they start."""

import json
import os
import signal
import struct
import subprocess
import sys
import time
import uuid
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from pathlib import Path

from invoke import BIKE

MARK = "RUN_OF_A_TEST"  # in the environment of all processes of a run
LIMIT_S = 240.0


@dataclass
class RayRun:
    """A run that has been started.

    Args:
        mark: is in the environment of all its processes.
    """

    process: subprocess.Popen[bytes]
    mark: str
    start_s: float = field(default_factory=time.monotonic)

    def processes(self) -> dict[int, str]:
        """Return the command lines of all processes of the run that are alive."""
        found = {}
        for entry in Path("/proc").iterdir():
            if entry.name.isdecimal():
                try:
                    environment = (entry / "environ").read_bytes()
                    command = (entry / "cmdline").read_bytes().replace(b"\0", b" ").decode(errors="replace").strip()
                except OSError:
                    continue
                if f"{MARK}={self.mark}".encode() in environment and command:
                    found[int(entry.name)] = command
        return found

    def actors(self) -> list[int]:
        """Return the processes with a model."""
        return [pid for pid, command in self.processes().items() if command.startswith("ray::ModelActor")]

    def left(self, *, within_s: float) -> dict[int, str]:
        """Return the processes that are still alive after some time."""
        end_s = time.monotonic() + within_s
        while (found := self.processes()) and time.monotonic() < end_s:
            time.sleep(0.1)
        return found

    def end(self) -> tuple[int, str, str]:
        """Wait for the end; return the exit code, stdout and stderr."""
        stdout, stderr = self.process.communicate(timeout=LIMIT_S)
        return self.process.returncode, stdout.decode(errors="surrogateescape"), stderr.decode(errors="replace")

    def await_records(self, file: Path, count: int) -> None:
        """Wait until a file, or the unfinished file of a run, has a number of records."""
        await_lines(self.process, file, count)

    def kill_all(self) -> None:
        """End all processes of the run at once."""
        for pid in self.processes():
            kill(pid)


@contextmanager
def ray_run(
    *arguments: object,
    cwd: Path | None = None,
    environment: Mapping[str, str] | None = None,
    path: tuple[Path, ...] = (),
) -> Iterator[RayRun]:
    """Start bike; no process of the run is left at the end.

    Args:
        path: folders that Python imports from first, in all processes.
    """
    mark = uuid.uuid4().hex
    variables = {
        **{name: value for name, value in os.environ.items() if not name.startswith("RAY_")},
        "OMP_NUM_THREADS": "1",
        "PYTHONPATH": os.pathsep.join([*map(str, path), *filter(None, sys.path)]),
        MARK: mark,
        **(environment or {}),
    }
    with subprocess.Popen(
        [sys.executable, "-m", "bike_cli", *map(str, arguments)],
        cwd=cwd,
        env=variables,
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        start_new_session=True,
    ) as process:
        run = RayRun(process, mark)
        try:
            yield run
        finally:
            run.kill_all()


def kill(pid: int) -> None:
    """Kill a process, if it is there."""
    with suppress(ProcessLookupError):
        os.kill(pid, signal.SIGKILL)


def await_lines(process: subprocess.Popen[bytes], file: Path, count: int) -> None:
    """Wait until an output, or its unfinished file, has a number of lines, or the process has ended."""
    part, end_s = file.with_name(f".{file.name}.part"), time.monotonic() + LIMIT_S
    while lines_in(part) < count and lines_in(file) < count and process.poll() is None:
        assert time.monotonic() < end_s
        time.sleep(0.02)


def lines_in(file: Path) -> int:
    """Return the number of lines of a file; 0 if it does not exist."""
    try:
        return file.read_bytes().count(b"\n")
    except OSError:
        return 0


def varied_clips(originals: Path, folder: Path, count: int) -> Path:
    """Write copies of some videos, whose contents differ, and return their folder."""
    folder.mkdir()
    films = sorted(originals.iterdir())
    for i in range(count):
        # An empty box of its own, which no decoder reads.
        (folder / f"{i:03}.mp4").write_bytes(films[i % len(films)].read_bytes() + struct.pack(">I4sI", 12, b"free", i))
    return folder


def odd_clips(originals: Path, folder: Path) -> Path:
    """Write videos, other files, and videos that crash or stop hostile decoders; return their folder."""
    varied_clips(originals, folder, 20)
    (folder / "003.mp4").write_bytes(b"")
    (folder / "005 text.mp4").write_text("This is no film.\n" * 50)
    (folder / "007 gone.mp4").symlink_to(folder / "nowhere")
    (folder / "009 half.mp4").write_bytes((folder / "009.mp4").read_bytes()[:2000])
    (folder / "\udcff no utf-8.mp4").symlink_to(folder / "000.mp4")
    for name in ("hangs", "segfaults", "is_killed", "is_a_bug", "eats", "floods"):
        (folder / f"011 {name}.mp4").write_bytes((folder / "011.mp4").read_bytes() + name.encode())
    return folder


def check_one_by_one(films: Sequence[Path], *arguments: str) -> None:
    """Give a run one path after another on stdin, each when the record of the one before has arrived."""
    command = [*BIKE, *arguments]
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True) as process:
        assert process.stdin is not None
        assert process.stdout is not None
        for film in films:
            process.stdin.write(f"{film}\n")
            process.stdin.flush()
            assert json.loads(process.stdout.readline())["path"] == str(film)
        process.stdin.close()
        assert process.stdout.read() == ""
        assert process.wait(timeout=60) == 0
