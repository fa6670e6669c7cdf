"""Decoding in processes that can be killed: a video that hangs, crashes or eats memory costs only itself.

The processes come from pebble's pool. They are forked from a server that has imported the decoders and never torch, so
a new one costs milliseconds, and nothing of the calling program, its locks and threads least of all, is in them.
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
from concurrent.futures import Future
from concurrent.futures import TimeoutError as FutureTimeout
from concurrent.futures.process import BrokenProcessPool
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from importlib.machinery import ModuleSpec
from multiprocessing import context, resource_tracker
from pathlib import Path
from types import TracebackType
from typing import TYPE_CHECKING

from pebble import ProcessExpired, ProcessPool

from bike_cli.config import DecodingConfig, SamplingConfig
from bike_cli.errors import UsageError
from bike_cli.records import Clip, Failure, Source
from bike_cli.video import worker
from bike_cli.video.decord_reader import check_decord_is_installed
from bike_cli.video.handover import Handover

if TYPE_CHECKING:
    from multiprocessing.popen_forkserver import Popen
    from multiprocessing.process import BaseProcess

logger = logging.getLogger(__name__)

END_S = 10.0  # that a pool may take to end
TASKS_A_WORKER = 500  # then a new one takes its place: decoders leak
GRACE_S = 30.0  # beyond its time limit, after which a task that has not ended is taken for lost
HANDLES_A_WORKER, HANDLES = 8, 64  # open files: of a worker and its clips, and of all the rest
TRIES = 3  # of a task under which the pool broke down, through no fault of the video


@dataclass(frozen=True)
class Decoded:
    """What came of a video, and the seconds of a worker it took."""

    outcome: Clip | Failure
    spent_s: float


@dataclass(frozen=True)
class _Underway:
    """A task that a pool has, and what is done when it ends."""

    pool: ProcessPool
    settle: Callable[[Future[object]], None]


class DecodePool:
    """Worker processes that decode, and can be killed.

    Every future ends with a result, whatever happens to its worker; only `close` leaves some undone for ever.

    Args:
        most: videos there will be, where that is known: more workers would have nothing to do.
    Raises:
        UsageError: more workers than the system allows open files for, or decord is asked for and not installed.
    """

    def __init__(self, sampling: SamplingConfig, decoding: DecodingConfig, *, most: int | None = None) -> None:
        if decoding.decoder == "decord":
            check_decord_is_installed()
        self.workers = decoding.workers or cores()
        if most is not None:
            self.workers = max(1, min(self.workers, most))
        _allow_handles(self.workers)
        logger.info("decoding: %d workers on %d cores, decoder %s", self.workers, cores(), decoding.decoder)
        self._sampling, self._decoding = sampling, decoding
        self._lock = threading.Lock()
        self._is_closed = False
        self._underway: dict[object, _Underway] = {}
        self._stirred_s = 0.0  # when a task last ended, or began after a pause
        self._closing = threading.Event()
        threading.Thread(target=self._watch, daemon=True).start()
        self._handovers: set[Handover] = set()
        self._pool = self._start()

    def __enter__(self) -> DecodePool:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def warm_up(self) -> None:
        """Start the processes now, and not when the first video comes."""
        with _out_of_reach_of_interrupts():
            assert self._pool.active  # asking starts them

    def decode(self, source: Source, *, dice: tuple[int, ...] | None = None) -> Future[Decoded]:
        """Return the clip of a source to come, or why there is none; `dice` seed the jitter of training."""
        done: Future[Decoded] = Future()
        handover = Handover()
        self._handovers.add(handover)

        def finish(came: object) -> None:
            self._handovers.discard(handover)
            with handover:
                try:
                    decoded = _decoded(source, came, handover)
                except (OSError, ValueError, MemoryError) as e:  # no memory, or no handle, to take it over
                    message = f"{source.id}: its frames could not be taken over ({e}); ask for fewer frames"
                    decoded = Decoded(Failure(source, "out_of_memory", message), 0.0)
            done.set_result(decoded)

        wanted = (source, self._sampling, self._decoding.decoder, handover.path, dice)
        self._schedule(worker.read, wanted, source, finish)
        return done

    def digest(self, source: Source) -> Future[bytes | Failure]:
        """Return the digest of a source's bytes to come, or why there is none."""
        done: Future[bytes | Failure] = Future()

        def finish(came: object) -> None:
            if isinstance(came, worker.Refusal):
                done.set_result(Failure(source, came.kind, came.message))
            else:
                assert isinstance(came, bytes)
                done.set_result(came)

        self._schedule(worker.digest, (source,), source, finish)
        return done

    def close(self) -> None:
        """Kill what still runs."""
        with self._lock:
            self._is_closed = True
        self._closing.set()
        _end(self._pool)
        for handover in self._handovers:
            handover.close()
        self._handovers.clear()
        self._underway.clear()

    def _start(self) -> ProcessPool:
        return ProcessPool(
            max_workers=self.workers,
            max_tasks=TASKS_A_WORKER,
            initializer=worker.set_up,
            initargs=(self._decoding.decode_memory,),
            context=_processes(),
        )

    def _schedule(
        self,
        task: Callable[..., object],
        arguments: tuple[object, ...],
        source: Source,
        finish: Callable[[object], None],
        tries: int = TRIES,
    ) -> None:
        pool = self._pool
        # What `settle` holds on to, a clip in the end, is let go of at once: it knows its ticket, and not itself.
        ticket = object()

        def settle(future: Future[object]) -> None:
            with self._lock:
                if self._is_closed or self._underway.pop(ticket, None) is None:
                    return
                self._stirred_s = time.monotonic()
            error = future.exception()
            if isinstance(error, BrokenProcessPool) and tries > 1:
                self._replace(pool)
                self._schedule(task, arguments, source, finish, tries - 1)
            else:
                finish(future.result() if error is None else self._refusal(source, error))

        with self._lock:
            if not self._underway:
                self._stirred_s = time.monotonic()
            self._underway[ticket] = _Underway(pool, settle)
        future: Future[object]
        try:
            with _out_of_reach_of_interrupts():
                future = pool.schedule(task, args=arguments, timeout=self._decoding.decode_timeout)
        except RuntimeError:  # it has broken down, or was closed, since
            future = _broken()
        future.add_done_callback(settle)

    def _watch(self) -> None:
        """Begin anew with tasks that a pool has lost: it may, when a worker is killed as it takes one."""
        limit_s = self._decoding.decode_timeout + GRACE_S
        while not self._closing.wait(limit_s / 10):
            with self._lock:
                is_lost = bool(self._underway) and time.monotonic() - self._stirred_s > limit_s
                lost = [one for one in self._underway.values() if is_lost and one.pool is self._pool]
            for underway in lost:
                underway.settle(_broken())

    def _replace(self, broken: ProcessPool) -> None:
        with self._lock:
            if self._pool is not broken or self._is_closed:
                return
            self._pool = self._start()
        # Not here: this may be one of the broken pool's own threads.
        threading.Thread(target=_end, args=(broken,), daemon=True).start()

    def _refusal(self, source: Source, error: BaseException) -> worker.Refusal:
        limit_s, limit_mib = self._decoding.decode_timeout, self._decoding.decode_memory
        if isinstance(error, FutureTimeout):
            fact = f"takes longer than {limit_s:g} s to decode; repair it, or raise --decode-timeout"
            return worker.Refusal("timeout", f"{source.id}: {fact}", limit_s)
        if isinstance(error, MemoryError):
            fact = f"takes more than {limit_mib} MiB to decode; raise --decode-memory, or ask for fewer frames"
            return worker.Refusal("out_of_memory", f"{source.id}: {fact}", 0.0)
        how = f"exit code {error.exitcode}" if isinstance(error, ProcessExpired) else f"{type(error).__name__}: {error}"
        return worker.Refusal("crashed", f"{source.id}: crashes its decoder ({how}); repair or convert the file", 0.0)


@contextmanager
def _out_of_reach_of_interrupts() -> Iterator[None]:
    """Let processes that start meanwhile, and all of theirs, never hear of Ctrl-C; this one hears of it afterwards.

    A terminal sends it to all of them, and one that is not ready to ignore it dies with a traceback.
    """
    if not hasattr(signal, "pthread_sigmask"):
        yield
        return
    resource_tracker.ensure_running()  # which lets interrupts through again, where it starts
    before = signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGINT})
    try:
        yield
    finally:
        signal.pthread_sigmask(signal.SIG_SETMASK, before)


def cores() -> int:
    """Return how many cores this process may use: of the machine, in a container too, and among those of a launcher."""
    here = os.environ.get("LOCAL_WORLD_SIZE", "")
    return max(1, _cores_of_all() // int(here)) if here.isdecimal() and int(here) else _cores_of_all()


def _cores_of_all() -> int:
    available = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
    try:
        quota, period = Path("/sys/fs/cgroup/cpu.max").read_text().split()
    except (OSError, ValueError):
        return available
    return available if quota == "max" else max(1, min(available, round(int(quota) / int(period))))


def _decoded(source: Source, came: object, handover: Handover) -> Decoded:
    if isinstance(came, worker.Refusal):
        return Decoded(Failure(source, came.kind, came.message), came.spent_s)
    assert isinstance(came, worker.Parcel)
    pixels = handover.pixels(came.shape)
    clip = Clip(source, pixels, came.times_s, came.duration_s, came.warning, came.positions, came.details)
    for detail in came.details:
        logger.info("%s: %s", source.id, detail)
    logger.debug("%s: decoded in %.2f s", source.id, came.spent_s)
    return Decoded(clip, came.spent_s)


def _broken() -> Future[object]:
    future: Future[object] = Future()
    future.set_exception(BrokenProcessPool())
    return future


def _end(pool: ProcessPool) -> None:
    pool.stop()  # type: ignore[no-untyped-call]
    with suppress(FutureTimeout):  # one that has lost tasks may wait for them for ever
        pool.join(END_S)


def _allow_handles(workers: int) -> None:
    """Raise this process's limit of open files to what so many workers need."""
    try:
        import resource
    except ImportError:  # Windows counts them otherwise
        return
    needed = HANDLES + HANDLES_A_WORKER * workers
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    if soft == resource.RLIM_INFINITY or soft >= needed:
        return
    if hard != resource.RLIM_INFINITY and hard < needed:
        fits = max(1, (hard - HANDLES) // HANDLES_A_WORKER)
        raise UsageError(
            f"workers is {workers}: they need {needed} open files, and the system allows {hard}; "
            f"give --workers {fits}, or raise the limit (ulimit -n)"
        )
    resource.setrlimit(resource.RLIMIT_NOFILE, (needed, hard))


# -- processes ---------------------------------------------------------------------------------------------------


@contextmanager
def _main_left_alone() -> Iterator[None]:
    # multiprocessing imports a program's main module into each process, unless it is a package's `__main__`.
    main = sys.modules["__main__"]
    before = main.__spec__
    main.__spec__ = ModuleSpec("__main__", loader=None)
    try:
        yield
    finally:
        main.__spec__ = before


if sys.platform == "win32":

    def _processes() -> context.BaseContext:
        return multiprocessing.get_context("spawn")

else:

    class _Process(context.ForkServerProcess):
        """A process that does not import the program that uses bike: it may have no `if __name__ == "__main__"`."""

        @staticmethod
        def _Popen(process_obj: BaseProcess) -> Popen:  # noqa: N802 - multiprocessing's own name
            with _main_left_alone():
                return context.ForkServerProcess._Popen(process_obj)

    class _Processes(context.ForkServerContext):
        Process = _Process

    def _processes() -> context.BaseContext:
        processes = _Processes()
        processes.set_forkserver_preload([worker.__name__])
        return processes
