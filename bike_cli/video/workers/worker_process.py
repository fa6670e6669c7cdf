"""One worker process, the connection to it, and the shared memory that it may fill."""

from __future__ import annotations

from collections import deque
from collections.abc import Callable
from contextlib import suppress
from multiprocessing.connection import Connection
from multiprocessing.context import BaseContext
from multiprocessing.process import BaseProcess

import numpy as np
from numpy.typing import NDArray

from bike_cli.video.workers.failures import describe_exit, no_room, no_workers
from bike_cli.video.workers.pool import TRIES
from bike_cli.video.workers.processes import out_of_reach_of_signals, worker_context
from bike_cli.video.workers.shared_memory import Handover, HandoverPool

_END_S = 10.0  # time for a killed process to end


class WorkerProcess:
    """A process that runs a function and can be killed.

    Args:
        function: of a module; its first argument is the connection to this process.
    Attributes:
        link: this end of the connection.
    Raises:
        WorkerError: the process cannot be started.
    """

    def __init__(self, function: Callable[..., None], *arguments: object) -> None:
        self._allowed: deque[Handover] = deque()  # that the process may fill, or has filled
        self._pool = HandoverPool()
        self._end = ""
        context = worker_context()
        for tries_left in reversed(range(TRIES)):  # the fork server may have been killed
            try:
                self._process, self.link = _start(context, function, arguments)
                return
            except (OSError, EOFError) as e:
                if not tries_left:
                    raise no_workers(str(e) or type(e).__name__) from e

    def allow_batches(self, number: int) -> None:
        """Let the process fill shared memory until this number of batches was not received yet.

        Raises:
            WorkerError: there is no room for frames.
        """
        while len(self._allowed) < number and not self._end:
            try:
                handover = self._pool.take()
            except OSError as e:
                raise no_room(e.strerror or str(e)) from e
            self._allowed.append(handover)
            with suppress(OSError):  # the process died, which is noticed when its next message is read
                self.link.send(handover.path)

    def pixels(self, shape: tuple[int, ...]) -> NDArray[np.uint8]:
        """Return the uint8 pixels of the next batch.

        Raises:
            OSError, ValueError, MemoryError: they cannot be received.
        """
        return self._pool.pixels(self._allowed.popleft(), shape)

    def close(self) -> None:
        """Kill the process."""
        self.end()

    def end(self, *, grace_s: float = 0.0) -> str:
        """Kill the process, unless it ends by itself; return how it ended.

        Args:
            grace_s: time for it to end by itself.
        """
        if self._end:
            return self._end
        if grace_s:
            self._process.join(grace_s)
        self._process.kill()
        self._process.join(_END_S)
        self._end = describe_exit(self._process.exitcode)
        with suppress(ValueError):  # it cannot be killed, such as in a call to a dead network file system
            self._process.close()
        self.link.close()
        self._pool.close()
        while self._allowed:
            self._pool.give_back(self._allowed.popleft())
        return self._end


def _start(
    context: BaseContext, function: Callable[..., None], arguments: tuple[object, ...]
) -> tuple[BaseProcess, Connection]:
    here, there = context.Pipe()
    try:
        process: BaseProcess = context.Process(  # type: ignore[attr-defined]
            target=function, args=(there, *arguments), daemon=True
        )
        with out_of_reach_of_signals():
            process.start()
    except (OSError, EOFError):
        here.close()
        raise
    finally:
        there.close()
    return process, here
