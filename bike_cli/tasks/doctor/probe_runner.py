"""Run probes in separate processes, with a time limit that holds even if they hang."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Iterator, Mapping
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field

from bike_cli.tasks.doctor.probe_process import COMPLETE, ERROR, Facts

# A probe has the same import path as this process; `-P` keeps the current folder out.
_CODE = (
    "import json, sys; sys.path[:] = json.loads(sys.argv[1]); "
    "from bike_cli.tasks.doctor.probe_process import main; main(sys.argv[2:])"
)
_MAX_PROCESSES = 3
_END_S = 1.0  # time for a killed process to end; it never does while it waits for a dead file server


@dataclass(frozen=True)
class ProbeResult:
    """What a probe reported."""

    facts: Facts  # everything reported before it ended
    error: str | None = None  # why it failed; None: it did not
    error_type: str | None = None  # class name of the exception; None if the process crashed or took too long
    seconds: float = 0.0  # duration, including the start of the process


@dataclass
class Prober:
    """Runs probes in parallel; see `probing`."""

    _threads: ThreadPoolExecutor
    _lock: threading.Lock = field(default_factory=threading.Lock)
    _processes: list[subprocess.Popen[str]] = field(default_factory=list)
    _is_closed: bool = False

    def start(self, name: str, *, limit_s: float, **keywords: object) -> Future[ProbeResult]:
        """Start the probe `name`; the result arrives within about `limit_s` seconds after it has started to run."""
        return self._threads.submit(self._run, name, limit_s, keywords)

    def kill(self) -> None:
        """Kill all running probes, and start no more."""
        with self._lock:
            self._is_closed = True
            processes = list(self._processes)
        for process in processes:
            _kill(process)

    def _run(self, name: str, limit_s: float, keywords: Mapping[str, object]) -> ProbeResult:
        start_s = time.perf_counter()
        try:
            with self._lock:
                if self._is_closed:
                    return ProbeResult({}, "was not started")
                process = _start(name, keywords)
                self._processes.append(process)
        except OSError as e:
            return ProbeResult({}, f"cannot be checked in a separate process ({e.strerror or e})")
        try:
            out, _ = process.communicate(timeout=limit_s)
        except subprocess.TimeoutExpired:
            _kill(process)
            out = _remaining_output(process)
            return _result(out, f"did not answer within {limit_s:g} s", time.perf_counter() - start_s)
        return _result(out, _describe_end(process.returncode), time.perf_counter() - start_s)


@contextmanager
def probing() -> Iterator[Prober]:
    """Yield a prober; kill the probes that are still running at the end."""
    threads = ThreadPoolExecutor(_MAX_PROCESSES, thread_name_prefix="bike probe")
    prober = Prober(threads)
    try:
        yield prober
    finally:
        prober.kill()
        threads.shutdown(wait=False, cancel_futures=True)


def _start(name: str, keywords: Mapping[str, object]) -> subprocess.Popen[str]:
    return subprocess.Popen(
        [sys.executable, "-P", "-c", _CODE, json.dumps(sys.path), name, json.dumps(keywords)],
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.DEVNULL,
        encoding="utf-8",
        errors="replace",
        start_new_session=os.name == "posix",  # so that its children are killed as well
    )


def _kill(process: subprocess.Popen[str]) -> None:
    if process.poll() is not None:
        return
    with suppress(OSError):
        if os.name == "posix":
            os.killpg(process.pid, signal.SIGKILL)
        else:
            process.kill()


def _remaining_output(process: subprocess.Popen[str]) -> str:
    """Return what a killed process wrote before it ended."""
    try:
        return process.communicate(timeout=_END_S)[0]
    except subprocess.TimeoutExpired as e:
        # It cannot be killed. Here the output is bytes, despite the encoding.
        written: str | bytes = e.stdout or b""
        return written if isinstance(written, str) else written.decode(errors="replace")


def _result(out: str, error: str | None, seconds: float) -> ProbeResult:
    facts: dict[str, object] = {}
    for line in out.splitlines():
        with suppress(ValueError):  # a line that was cut off
            facts |= json.loads(line)
    raised = facts.pop(ERROR, None)
    if facts.pop(COMPLETE, False):
        return ProbeResult(facts, seconds=seconds)
    if isinstance(raised, dict):
        return ProbeResult(facts, str(raised["message"]) or str(raised["type"]), str(raised["type"]), seconds)
    return ProbeResult(facts, error, None, seconds)


def _describe_end(code: int) -> str:
    if code >= 0:
        return f"ended with exit code {code}"
    try:
        return f"crashed ({signal.Signals(-code).name})"
    except ValueError:
        return f"crashed (signal {-code})"
