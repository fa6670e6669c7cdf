"""One process that cuts clips and reads stills, and can be killed: a damaged video never stops the program."""

from __future__ import annotations

import signal
import sys
import time
from collections.abc import Callable, Sequence
from contextlib import suppress
from functools import partial
from multiprocessing import connection
from multiprocessing.process import BaseProcess
from pathlib import Path
from typing import Any

from bike_cli.config import DecodingConfig
from bike_cli.errors import VideoError
from bike_cli.records import Failure, Source
from bike_cli.video.clips.stills import stills_at
from bike_cli.video.cutting import Cut, cut, part_of
from bike_cli.video.workers import worker
from bike_cli.video.workers.processes import out_of_reach_of_signals, worker_context

_END_S = 10.0  # time for a killed process to end
_BEATS = 5  # signs of life that fit into the time limit

# A message of the process: that it is at work, the result of a task, or a bug.
_ALIVE, _DONE, _BUG = "alive", "done", "bug"


class MediaWorker:
    """A process for tasks that take unpredictably long. It is killed if one makes no progress.

    The process starts with the first task, and again with the first task after it was killed or crashed.

    Args:
        decoding: `decode_timeout` is how long a task may make no progress, and `decode_memory` what the process may
            use.
    """

    def __init__(self, decoding: DecodingConfig) -> None:
        self._patience_s, self._memory_mib = decoding.decode_timeout, decoding.decode_memory
        self._process: BaseProcess | None = None
        self._connection: connection.Connection | None = None

    def __enter__(self) -> MediaWorker:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def cut(
        self, source: Source, start_s: float, end_s: float, target: Path, *, exact: bool, overwrite: bool = False
    ) -> Cut | Failure:
        """Cut a clip; see `video.cutting.cut`. Whatever happens, no unfinished file stays.

        Returns:
            the clip, or a failure of the same kinds as when videos are decoded, or `unwritable`.
        """
        task = partial(cut, source, start_s, end_s, target, exact=exact, overwrite=overwrite)
        result: Cut | Failure | None = None
        try:
            result = self._run(task, source, "be cut")
        finally:
            if not isinstance(result, Cut):
                self._kill_if_interrupted(result)
                with suppress(OSError):
                    part_of(target).unlink(missing_ok=True)  # of a process that was killed
        return result

    def stills(self, source: Source, times_s: Sequence[float], *, side_px: int) -> list[bytes | None] | Failure:
        """Read the pictures at some times as small JPEGs; see `video.clips.stills.stills_at`."""
        task = partial(stills_at, source, tuple(times_s), side_px=side_px)
        found: list[bytes | None] | Failure = self._run(task, source, "be read")
        return found

    def close(self) -> None:
        """Kill the process."""
        process, self._process = self._process, None
        if self._connection is not None:
            self._connection.close()
            self._connection = None
        if process is not None:
            process.kill()
            process.join(_END_S)

    def _kill_if_interrupted(self, result: object) -> None:
        if result is None:
            self.close()

    def _run(self, task: Callable[..., object], source: Source, purpose: str) -> Any:  # noqa: ANN401
        channel = self._channel()
        try:
            channel.send((task, source))
            while channel.poll(self._patience_s):
                kind, value = channel.recv()
                if kind == _DONE:
                    return value
                if kind == _BUG:
                    self.close()
                    problem = f"cannot {purpose} because of a bug in bike ({value}); please report it"
                    return Failure(source, "internal", f"{source.id}: {problem}")
        except (EOFError, OSError):  # the process has ended
            return self._crash(source)
        self.close()
        problem = f"makes no progress for {self._patience_s:g} s; raise --decode-timeout, or repair the file"
        return Failure(source, "timeout", f"{source.id}: {problem}", self._patience_s)

    def _channel(self) -> connection.Connection:
        if self._connection is not None and self._process is not None and self._process.is_alive():
            return self._connection
        self.close()
        context = worker_context()
        self._connection, far_end = context.Pipe()
        arguments = (far_end, self._memory_mib, self._patience_s / _BEATS)
        self._process = context.Process(target=serve, args=arguments, daemon=True)  # type: ignore[attr-defined]
        with out_of_reach_of_signals():
            self._process.start()
        far_end.close()
        return self._connection

    def _crash(self, source: Source) -> Failure:
        assert self._process is not None
        self._process.join(_END_S)
        code = self._process.exitcode
        self.close()
        try:
            ending = f"signal {signal.Signals(-(code or 0)).name}"
        except ValueError:
            ending = f"exit code {code}"
        return Failure(source, "crashed", f"{source.id}: crashes the decoder ({ending}); repair or convert the file")


def serve(channel: connection.Connection, memory_mib: int, beat_s: float) -> None:
    """Do the tasks that arrive, until the channel is closed; for the process of a `MediaWorker`.

    Args:
        beat_s: how often a task that makes progress says so.
    """
    worker.set_up(memory_mib)
    try:
        while True:
            task, source = channel.recv()
            channel.send((_DONE, _outcome(task, source, _Heart(channel, beat_s), memory_mib)))
    except (EOFError, OSError):  # closed by the program
        return
    finally:
        error = sys.exc_info()[1]
        if isinstance(error, Exception):
            channel.send((_BUG, f"{type(error).__name__}: {error}".removesuffix(": ")))


def _outcome(task: Callable[..., object], source: Source, heart: _Heart, memory_mib: int) -> object:
    try:
        return task(report=heart.beat)
    except VideoError as e:
        return Failure(source, e.kind, str(e))
    except MemoryError:
        problem = f"needs more than {memory_mib} MiB; raise --decode-memory"
        return Failure(source, "out_of_memory", f"{source.id}: {problem}")


class _Heart:
    """Says that a task makes progress, but not too often."""

    def __init__(self, channel: connection.Connection, beat_s: float) -> None:
        self._channel, self._beat_s = channel, beat_s
        self._last_s = time.monotonic()

    def beat(self) -> None:
        """Take note of progress."""
        now_s = time.monotonic()
        if now_s - self._last_s >= self._beat_s:
            self._last_s = now_s
            self._channel.send((_ALIVE, None))
