"""Decode in processes that can be killed: a video that hangs, crashes or exhausts memory affects no other video.

The processes come from pebble's pool. A crash is only blamed on a video if a worker can decode another one. If no
worker can decode anything, the run stops.
"""

from __future__ import annotations

import logging
import threading
import time
from collections.abc import Callable
from concurrent.futures import Future
from concurrent.futures import TimeoutError as FutureTimeout
from concurrent.futures.process import BrokenProcessPool
from contextlib import nullcontext, suppress
from dataclasses import dataclass, replace
from functools import partial

from pebble import ProcessExpired, ProcessPool

from bike_cli.config import DecodingConfig, SamplingConfig
from bike_cli.errors import WorkerError
from bike_cli.records import Clip, Failure, Source
from bike_cli.video.readers.decord import check_decord_is_installed
from bike_cli.video.workers import worker
from bike_cli.video.workers.failures import (
    crashed,
    describe_error,
    describe_exit,
    failed_internally,
    no_room,
    no_workers,
    out_of_memory,
    timed_out,
)
from bike_cli.video.workers.machine import cores, raise_open_file_limit
from bike_cli.video.workers.processes import out_of_reach_of_signals, worker_context
from bike_cli.video.workers.shared_memory import Handover, HandoverError, HandoverPool
from bike_cli.wording import count

logger = logging.getLogger(__name__)

_END_S = 10.0  # time for a pool to end
TASKS_PER_WORKER = 500  # before it is replaced, because decoders leak memory
GRACE_S = 30.0  # after its time limit, before a task is considered lost
TRIES = 3  # for a task during which the pool broke, which is not the fault of the video
CHECK_S = 60.0  # time to decode a video that is known to be intact
STORAGE_BYTES = 128 * 2**20  # of shared memory that is kept for further clips
CRASHES = 2  # of workers on the same video, before it is blamed


@dataclass(frozen=True, eq=False)
class _Task:
    """Work for a worker, and callbacks for its end.

    Args:
        finish: receives the result.
        refuse: receives the error if another attempt is pointless.
        fail: receives the error if all tasks would fail.
        distrust: called when an attempt failed: its worker may still run for a moment.
        broken: how often the pool broke during the task.
        crashes: how many workers crashed during the task.
        pool: the pool that works on it.
    """

    function: Callable[..., object]
    arguments: tuple[object, ...]
    timeout_s: float
    finish: Callable[[object], None]
    refuse: Callable[[BaseException], None]
    fail: Callable[[WorkerError], None]
    distrust: Callable[[], None] = lambda: None
    broken: int = 0
    crashes: int = 0
    pool: ProcessPool | None = None


class DecodePool:
    """Worker processes that decode videos, and can be killed.

    Every future ends with a result, whatever happens to its worker, or with a WorkerError if no worker can decode.
    After `close`, unfinished futures never end.

    Args:
        most: number of videos, if known: the pool never has more workers.
    Raises:
        UsageError: the system allows too few open files for the workers, or decord is requested but not installed.
    """

    def __init__(self, sampling: SamplingConfig, decoding: DecodingConfig, *, most: int | None = None) -> None:
        if decoding.decoder == "decord":
            check_decord_is_installed()
        self.workers = decoding.workers or cores()
        if most is not None:
            self.workers = max(1, min(self.workers, most))
        raise_open_file_limit(self.workers)
        workers, on = count(self.workers, "worker"), count(cores(), "core")
        logger.info("decoding: %s on %s, decoder %s", workers, on, decoding.decoder)
        self._sampling, self._decoding = sampling, decoding
        self.timeout_s = decoding.decode_timeout
        self._lock = threading.Lock()
        self._is_closed = False
        self._fatal: WorkerError | None = None
        self._underway: set[_Task] = set()
        self._active_s = 0.0  # when a task last ended, or started after a pause
        self._closing = threading.Event()
        threading.Thread(target=self._watch, daemon=True).start()
        self._storage = HandoverPool(STORAGE_BYTES)
        self._handovers: set[Handover] = set()  # of unfinished tasks
        self._running: ProcessPool | None = None  # the pool, once it has started its threads and processes
        self._pool = self._start()

    def __enter__(self) -> DecodePool:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def warm_up(self) -> None:
        """Start the processes now instead of with the first video."""
        with out_of_reach_of_signals(), suppress(BrokenProcessPool):  # the first task reports it
            assert self._pool.active  # this starts them

    def decode(self, source: Source, *, dice: tuple[int, ...] | None = None) -> Future[Clip | Failure]:
        """Start to decode a source; return a future. `dice` seeds the jitter for training.

        The future raises WorkerError if no worker can decode.
        """
        done: Future[Clip | Failure] = Future()
        try:
            handover = self._storage.take()
        except OSError as e:
            done.set_exception(no_room(e.strerror or str(e)))
            return done
        self._handovers.add(handover)

        def finish(result: object) -> None:
            self._handovers.discard(handover)
            try:
                outcome = self._received(source, result, handover)
            except (OSError, ValueError, MemoryError) as e:  # no memory, or no file handle, to receive the frames
                message = f"{source.id}: its frames cannot be received from the worker ({e}); give fewer --frames"
                outcome = Failure(source, "out_of_memory", message)
            done.set_result(outcome)

        def fail(error: WorkerError) -> None:
            self._handovers.discard(handover)
            handover.close()
            done.set_exception(error)

        def distrust() -> None:
            handover.is_reusable = False

        arguments = (source, self._sampling, self._decoding.decoder, handover.path, dice)
        self._ask(worker.read, arguments, source, finish, fail, distrust)
        return done

    def digest(self, source: Source) -> Future[bytes | Failure]:
        """Start to compute the digest of a source's content; return a future.

        The future raises WorkerError if no worker can read anything.
        """
        done: Future[bytes | Failure] = Future()

        def finish(result: object) -> None:
            assert isinstance(result, (bytes, Failure))
            done.set_result(result)

        self._ask(worker.digest, (source,), source, finish, done.set_exception)
        return done

    def _received(self, source: Source, result: object, handover: Handover) -> Clip | Failure:
        if isinstance(result, Failure):
            if handover.is_reusable:
                self._storage.give_back(handover)
            else:
                handover.close()
            return result
        assert isinstance(result, worker.SharedClip)
        for detail in result.details:
            logger.info("%s: %s", source.id, detail)
        logger.debug("%s: decoded in %.2f s", source.id, result.decode_s)
        if handover.is_reusable:
            pixels = self._storage.pixels(handover, result.shape)
        else:
            pixels = handover.pixels(result.shape)
            handover.close()
        return Clip(source, pixels, result.timeline, result.details, result.decode_s)

    def close(self) -> None:
        """Kill the workers."""
        with self._lock:
            self._is_closed = True
        self._closing.set()
        _end(self._pool)
        for handover in self._handovers:
            handover.close()
        self._handovers.clear()
        self._storage.close()
        self._underway.clear()

    def _start(self) -> ProcessPool:
        return ProcessPool(
            max_workers=self.workers,
            max_tasks=TASKS_PER_WORKER,
            initializer=worker.set_up,
            initargs=(self._decoding.decode_memory,),
            context=worker_context(),
        )

    def _ask(
        self,
        function: Callable[..., object],
        arguments: tuple[object, ...],
        source: Source,
        finish: Callable[[object], None],
        fail: Callable[[WorkerError], None],
        distrust: Callable[[], None] = lambda: None,
    ) -> None:
        """Run a function on a source in a worker; `finish` or `fail` is called exactly once."""

        def refuse(error: BaseException) -> None:
            distrust()
            failure = _describe_failure(source, error, self._decoding)
            if isinstance(error, HandoverError):
                self._fail(fail, no_room(str(error)))
            elif failure.kind in ("timeout", "out_of_memory"):
                finish(failure)
            else:
                self._check(lambda: finish(failure), fail)

        self._schedule(_Task(function, arguments, self._decoding.decode_timeout, finish, refuse, fail, distrust))

    def _check(self, blame: Callable[[], None], fail: Callable[[WorkerError], None]) -> None:
        """Call `blame` if a worker can decode a video that is known to be intact, otherwise `fail`."""

        def refuse(error: BaseException) -> None:
            self._fail(fail, no_workers(_described(error)))

        arguments = (self._sampling, self._decoding.decoder)
        self._schedule(_Task(worker.check, arguments, CHECK_S, lambda _: blame(), refuse, fail))

    def _fail(self, fail: Callable[[WorkerError], None], error: WorkerError) -> None:
        self._fatal = self._fatal or error
        fail(self._fatal)

    def _schedule(self, task: _Task) -> None:
        if self._fatal is not None:
            task.fail(self._fatal)
            return
        pool = self._pool
        task = replace(task, pool=pool)
        with self._lock:
            if not self._underway:
                self._active_s = time.monotonic()
            self._underway.add(task)
        future: Future[object]
        # The first task starts the pool's threads, and they start all its processes.
        guard = nullcontext() if pool is self._running else out_of_reach_of_signals()
        try:
            with guard:
                future = pool.schedule(task.function, args=task.arguments, timeout=task.timeout_s)
            self._running = pool
        except (RuntimeError, OSError):  # the pool broke or was closed in the meantime
            future = _broken()
        future.add_done_callback(partial(self._settle, task))

    def _settle(self, task: _Task, future: Future[object]) -> None:
        """End a task with its result, or try it again."""
        with self._lock:
            if self._is_closed or task not in self._underway:
                return
            self._underway.remove(task)
            self._active_s = time.monotonic()
        error = future.exception()
        if error is None:
            task.finish(future.result())
        elif isinstance(error, BrokenProcessPool):
            self._replace(task.pool)
            if task.broken + 1 >= TRIES:
                self._fail(task.fail, no_workers("worker processes exit immediately"))
            else:
                task.distrust()
                self._schedule(replace(task, broken=task.broken + 1))
        elif isinstance(error, ProcessExpired) and task.crashes + 1 < CRASHES:
            task.distrust()
            self._schedule(replace(task, crashes=task.crashes + 1))
        else:
            task.refuse(error)

    def _watch(self) -> None:
        """Reschedule tasks that the pool lost, which can happen if a worker is killed while it takes one."""
        limit_s = self._decoding.decode_timeout + GRACE_S
        while not self._closing.wait(limit_s / 10):
            with self._lock:
                is_lost = bool(self._underway) and time.monotonic() - self._active_s > limit_s
                lost = [task for task in self._underway if is_lost and task.pool is self._pool]
            for task in lost:
                self._settle(task, _broken())

    def _replace(self, broken: ProcessPool | None) -> None:
        with self._lock:
            if self._pool is not broken or self._is_closed:
                return
            self._pool = self._start()
        # In another thread: this may be one of the broken pool's.
        threading.Thread(target=_end, args=(broken,), daemon=True).start()


def _describe_failure(source: Source, error: BaseException, decoding: DecodingConfig) -> Failure:
    if isinstance(error, FutureTimeout):
        return timed_out(source, decoding.decode_timeout, work="to decode", remedy="use --sampling keyframe")
    if isinstance(error, MemoryError):
        return out_of_memory(source, decoding.decode_memory, remedy="give fewer --frames")
    if isinstance(error, ProcessExpired):
        return crashed(source, _described(error))
    return failed_internally(source, _described(error))


def _described(error: BaseException) -> str:
    """Describe how a worker ended: `signal SIGSEGV`, `KeyError: 'width'`."""
    return describe_exit(error.exitcode) if isinstance(error, ProcessExpired) else describe_error(error)


def _broken() -> Future[object]:
    future: Future[object] = Future()
    future.set_exception(BrokenProcessPool())
    return future


def _end(pool: ProcessPool) -> None:
    pool.stop()  # type: ignore[no-untyped-call]
    with suppress(FutureTimeout):  # a pool that lost tasks would wait for them forever
        pool.join(_END_S)
