"""Decoding in processes that can be killed: a video that hangs, crashes or eats memory costs only itself.

The processes come from pebble's pool. A failure is only put down to a video when a worker that gets another one lives:
where no worker can decode anything, the run stops, and no video is blamed.
"""

from __future__ import annotations

import logging
import signal
import threading
import time
from collections.abc import Callable
from concurrent.futures import Future
from concurrent.futures import TimeoutError as FutureTimeout
from concurrent.futures.process import BrokenProcessPool
from contextlib import suppress
from dataclasses import dataclass, replace
from types import TracebackType

from pebble import ProcessExpired, ProcessPool

from bike_cli.config import DecodingConfig, SamplingConfig
from bike_cli.errors import WorkerError
from bike_cli.records import Clip, Failure, Source
from bike_cli.video.readers.decord import check_decord_is_installed
from bike_cli.video.workers import worker
from bike_cli.video.workers.machine import _allow_handles, cores
from bike_cli.video.workers.processes import out_of_reach_of_signals, worker_context
from bike_cli.video.workers.shared_memory import Handover

logger = logging.getLogger(__name__)

END_S = 10.0  # that a pool may take to end
TASKS_A_WORKER = 500  # then a new one takes its place: decoders leak
GRACE_S = 30.0  # beyond its time limit, after which a task that has not ended is considered lost
TRIES = 3  # of a task during which the pool broke down, which is not the video's fault
CHECK_S = 60.0  # that a worker may take for a video that is known to be intact
CRASHES = 2  # of workers that get the same video, before it is blamed


@dataclass(frozen=True)
class Decoded:
    """What came of a video, and the seconds of a worker it took."""

    outcome: Clip | Failure
    spent_s: float


@dataclass(frozen=True, eq=False)
class _Task:
    """Work for a worker, and what to do with its end.

    Args:
        finish: takes the result.
        refuse: takes the error, when it is no use to try again.
        fail: takes the error where all tasks would fail.
        broken: how often the pool broke down during it.
        crashes: how many workers died of it.
    """

    function: Callable[..., object]
    arguments: tuple[object, ...]
    timeout_s: float
    finish: Callable[[object], None]
    refuse: Callable[[BaseException], None]
    fail: Callable[[WorkerError], None]
    broken: int = 0
    crashes: int = 0


@dataclass(frozen=True)
class _Underway:
    """A task that a pool has, and what is done when it ends."""

    pool: ProcessPool
    settle: Callable[[Future[object]], None]


class DecodePool:
    """Worker processes that decode, and can be killed.

    Every future ends with a result, whatever happens to its worker, or with a WorkerError where no worker can decode;
    only `close` leaves some undone for ever.

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
        self._fatal: WorkerError | None = None
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
        with out_of_reach_of_signals(), suppress(BrokenProcessPool):  # which the first task reports
            assert self._pool.active  # asking starts them

    def decode(self, source: Source, *, dice: tuple[int, ...] | None = None) -> Future[Decoded]:
        """Return the clip of a source to come, or why there is none; `dice` seed the jitter of training.

        The future raises WorkerError where no worker can decode.
        """
        done: Future[Decoded] = Future()
        try:
            handover = Handover()
        except OSError as e:
            done.set_exception(_no_room(e.strerror or str(e)))
            return done
        self._handovers.add(handover)

        def finish(result: object) -> None:
            self._handovers.discard(handover)
            with handover:
                try:
                    decoded = _decoded(source, result, handover)
                except (OSError, ValueError, MemoryError) as e:  # no memory, or no handle, to take it over
                    message = f"{source.id}: its frames could not be taken over ({e}); ask for fewer frames"
                    decoded = Decoded(Failure(source, "out_of_memory", message), 0.0)
            done.set_result(decoded)

        def fail(error: WorkerError) -> None:
            self._handovers.discard(handover)
            handover.close()
            done.set_exception(error)

        arguments = (source, self._sampling, self._decoding.decoder, handover.path, dice)
        self._ask(worker.read, arguments, source, finish, fail)
        return done

    def digest(self, source: Source) -> Future[bytes | Failure]:
        """Return the digest of a source's bytes to come, or why there is none.

        The future raises WorkerError where no worker can read anything.
        """
        done: Future[bytes | Failure] = Future()

        def finish(result: object) -> None:
            if isinstance(result, worker.Refusal):
                done.set_result(Failure(source, result.kind, result.message))
            else:
                assert isinstance(result, bytes)
                done.set_result(result)

        self._ask(worker.digest, (source,), source, finish, done.set_exception)
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
            context=worker_context(),
        )

    def _ask(
        self,
        function: Callable[..., object],
        arguments: tuple[object, ...],
        source: Source,
        finish: Callable[[object], None],
        fail: Callable[[WorkerError], None],
    ) -> None:
        """Have a worker do something with a source; whatever happens, `finish` or `fail` is called once."""

        def refuse(error: BaseException) -> None:
            refusal = _refusal(source, error, self._decoding)
            if isinstance(error, worker.HandoverError):
                self._fail(fail, _no_room(str(error)))
            elif refusal.kind in ("timeout", "out_of_memory"):
                finish(refusal)
            else:
                self._check(lambda: finish(refusal), fail)

        self._schedule(_Task(function, arguments, self._decoding.decode_timeout, finish, refuse, fail))

    def _check(self, blame: Callable[[], None], fail: Callable[[WorkerError], None]) -> None:
        """Call `blame` if a worker decodes a video that is known to be intact, else `fail`."""

        def refuse(error: BaseException) -> None:
            self._fail(fail, _no_workers(_described(error)))

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
        # What `settle` holds on to, a clip in the end, is let go of at once: it knows its ticket, and not itself.
        ticket = object()

        def settle(future: Future[object]) -> None:
            with self._lock:
                if self._is_closed or self._underway.pop(ticket, None) is None:
                    return
                self._stirred_s = time.monotonic()
            error = future.exception()
            if error is None:
                task.finish(future.result())
                return
            if isinstance(error, BrokenProcessPool):
                self._replace(pool)
            self._try_again(task, error)

        with self._lock:
            if not self._underway:
                self._stirred_s = time.monotonic()
            self._underway[ticket] = _Underway(pool, settle)
        future: Future[object]
        try:
            with out_of_reach_of_signals():
                future = pool.schedule(task.function, args=task.arguments, timeout=task.timeout_s)
        except (RuntimeError, OSError):  # it has broken down, or was closed, since
            future = _broken()
        future.add_done_callback(settle)

    def _try_again(self, task: _Task, error: BaseException) -> None:
        if isinstance(error, BrokenProcessPool):
            if task.broken + 1 >= TRIES:
                self._fail(task.fail, _no_workers("worker processes exit immediately"))
            else:
                self._schedule(replace(task, broken=task.broken + 1))
        elif isinstance(error, ProcessExpired) and task.crashes + 1 < CRASHES:
            self._schedule(replace(task, crashes=task.crashes + 1))
        else:
            task.refuse(error)

    def _watch(self) -> None:
        """Reschedule tasks that the pool lost, as it may when a worker is killed while it takes one."""
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


def _decoded(source: Source, result: object, handover: Handover) -> Decoded:
    if isinstance(result, worker.Refusal):
        return Decoded(Failure(source, result.kind, result.message), result.spent_s)
    assert isinstance(result, worker.Parcel)
    clip = Clip(source, handover.pixels(result.shape), result.timeline, result.details)
    for detail in result.details:
        logger.info("%s: %s", source.id, detail)
    logger.debug("%s: decoded in %.2f s", source.id, result.spent_s)
    return Decoded(clip, result.spent_s)


def _refusal(source: Source, error: BaseException, decoding: DecodingConfig) -> worker.Refusal:
    limit_s, limit_mib = decoding.decode_timeout, decoding.decode_memory
    if isinstance(error, FutureTimeout):
        fact = f"takes longer than {limit_s:g} s to decode; raise --decode-timeout, or use --sampling keyframe"
        return worker.Refusal("timeout", f"{source.id}: {fact}", limit_s)
    if isinstance(error, MemoryError):
        fact = f"takes more than {limit_mib} MiB to decode; raise --decode-memory, or ask for fewer frames"
        return worker.Refusal("out_of_memory", f"{source.id}: {fact}", 0.0)
    if isinstance(error, ProcessExpired):
        fact = f"crashes its decoder ({_described(error)}); repair or convert the file"
        return worker.Refusal("crashed", f"{source.id}: {fact}", 0.0)
    fact = f"cannot be read because of a bug in bike ({_described(error)}); please report it"
    return worker.Refusal("internal", f"{source.id}: {fact}", 0.0)


def _described(error: BaseException) -> str:
    """Return how a worker ended, in words: `signal SIGSEGV`, `KeyError: 'width'`."""
    if not isinstance(error, ProcessExpired):
        return f"{type(error).__name__}: {error}".removesuffix(": ")
    code = error.exitcode
    try:
        return f"signal {signal.Signals(-code).name}"
    except ValueError:
        return f"exit code {code}"


def _no_workers(fact: str) -> WorkerError:
    return WorkerError(f"decode workers: cannot decode any video here ({fact}); run `bike doctor`, or reinstall bike")


def _no_room(fact: str) -> WorkerError:
    return WorkerError(f"temporary folder: has no room for the frames of videos ({fact}); free some, or set TMPDIR")


def _broken() -> Future[object]:
    future: Future[object] = Future()
    future.set_exception(BrokenProcessPool())
    return future


def _end(pool: ProcessPool) -> None:
    pool.stop()  # type: ignore[no-untyped-call]
    with suppress(FutureTimeout):  # one that has lost tasks may wait for them for ever
        pool.join(END_S)
