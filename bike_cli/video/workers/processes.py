"""Start worker processes: without the main module of the calling program, and protected from signals.

On Linux and macOS, a fork server that has imported the decoders, but not torch, forks them. So a worker starts within
milliseconds, and inherits no threads or locks from the calling program. Without a fork server, or without a folder for
its socket, each process starts a new interpreter.

This is the only module that overrides internals of multiprocessing (`RLock`, `_config`): its public interface
can neither skip the main module nor avoid named semaphores.
"""

from __future__ import annotations

import logging
import multiprocessing
import os
import signal
import sys
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from importlib.machinery import ModuleSpec
from multiprocessing import connection, context, process, resource_tracker

from bike_cli.scratch import scratch_folder
from bike_cli.video.workers.descriptors import inherited_standard_descriptors

logger = logging.getLogger(__name__)

HAS_FORK_SERVER = "forkserver" in multiprocessing.get_all_start_methods()
HAS_SIGNAL_MASKS = hasattr(signal, "pthread_sigmask")
FORK_SERVER_MODULE = "bike_cli.video.workers.fork_server"
# Signals that a terminal, an init system or a job scheduler sends to end a whole group of processes.
_ENDING = ("SIGINT", "SIGTERM", "SIGHUP", "SIGQUIT", "SIGUSR1", "SIGUSR2", "SIGXCPU", "SIGALRM")
ENDING_SIGNALS = frozenset(signal.Signals[name] for name in _ENDING if hasattr(signal, name))

_starting = threading.RLock()


def worker_context() -> context.BaseContext:
    """Return the context in which worker processes start."""
    if sys.platform == "win32" or not HAS_FORK_SERVER:
        return _SpawnContext()
    try:
        scratch_folder(for_sockets=True)
    except OSError as e:
        logger.info("worker processes start slowly: the fork server has no folder for its socket (%s)", e)
        return _SpawnContext()
    server = _ForkServerContext()
    server.set_forkserver_preload([FORK_SERVER_MODULE])
    return server


@contextmanager
def out_of_reach_of_signals() -> Iterator[None]:
    """Block the signals that ask a process to end, for all processes that start within the context.

    A terminal sends Ctrl-C to all processes of a run, and an init system SIGTERM. A worker that they end would look
    as if its video had crashed it. This process receives the signals afterwards, and ends the workers itself.
    """
    if not HAS_SIGNAL_MASKS:
        yield
        return
    before = signal.pthread_sigmask(signal.SIG_BLOCK, ENDING_SIGNALS)
    try:
        resource_tracker.ensure_running()  # starting it unblocks some of them
        signal.pthread_sigmask(signal.SIG_BLOCK, ENDING_SIGNALS)
        yield
    finally:
        signal.pthread_sigmask(signal.SIG_SETMASK, before)


@contextmanager
def _clean_start() -> Iterator[None]:
    """Start a process without the main module of the caller, with temporary files in bike's scratch folder."""
    # multiprocessing imports the main module of a program into each process, unless it is a package's `__main__`.
    # Without that, programs that use bike need no `if __name__ == "__main__"`.
    main = sys.modules["__main__"]
    settings = process.current_process()._config  # type: ignore[attr-defined]
    with _starting, inherited_standard_descriptors():
        spec, folder = getattr(main, "__spec__", None), settings.get("tempdir")
        try:
            main.__spec__ = ModuleSpec("__main__", loader=None)
            if HAS_FORK_SERVER:
                with suppress(OSError):  # the folder of the fork server's socket cannot be created
                    settings["tempdir"] = str(scratch_folder(for_sockets=True))
            yield
        finally:
            main.__spec__, settings["tempdir"] = spec, folder


class _PipeLock:
    """A lock between processes, held by the one that took the byte out of a pipe; recursive within a thread.

    The semaphores of multiprocessing have names: they need /dev/shm, and remain if all processes are killed.
    """

    def __init__(self, pipe: Callable[[bool], tuple[connection.Connection, connection.Connection]]) -> None:
        self._ends = pipe(False)
        os.set_blocking(self._ends[0].fileno(), False)
        os.write(self._ends[1].fileno(), b"\0")
        self.__setstate__(self._ends)

    def __getstate__(self) -> tuple[connection.Connection, connection.Connection]:
        return self._ends

    def __setstate__(self, ends: tuple[connection.Connection, connection.Connection]) -> None:
        self._ends = ends
        self._thread_lock = threading.RLock()
        self._depth = 0

    def acquire(self, block: bool = True, timeout: float | None = None) -> bool:
        end_s = None if timeout is None else time.monotonic() + timeout
        if not self._thread_lock.acquire(block, -1 if timeout is None or not block else timeout):
            return False
        if self._depth or self._take(block, end_s):
            self._depth += 1
            return True
        self._thread_lock.release()
        return False

    def release(self) -> None:
        self._depth -= 1
        if not self._depth:
            os.write(self._ends[1].fileno(), b"\0")
        self._thread_lock.release()

    def _take(self, block: bool, end_s: float | None) -> bool:
        while True:
            try:
                return bool(os.read(self._ends[0].fileno(), 1))
            except BlockingIOError:
                left_s = None if end_s is None else end_s - time.monotonic()
                if not block or (left_s is not None and left_s <= 0):
                    return False
                connection.wait([self._ends[0]], left_s)


class _CleanProcess(process.BaseProcess):
    def start(self) -> None:
        """Start the process without the main module of the caller."""
        with _clean_start():
            super().start()

    def terminate(self) -> None:
        """End the process, which ignores SIGTERM."""
        self.kill()


class _CleanContext(context.BaseContext):
    if os.name == "posix":

        def RLock(self) -> _PipeLock:  # type: ignore[override]  # noqa: N802 - name in multiprocessing
            return _PipeLock(self.Pipe)


class _SpawnProcess(_CleanProcess, context.SpawnProcess):
    pass


class _SpawnContext(_CleanContext, context.SpawnContext):
    Process = _SpawnProcess


if sys.platform != "win32":

    class _ForkServerProcess(_CleanProcess, context.ForkServerProcess):
        pass

    class _ForkServerContext(_CleanContext, context.ForkServerContext):
        Process = _ForkServerProcess
