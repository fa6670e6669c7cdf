"""Give batches of sources to actors, and yield the answers in order, whatever happens to the actors.

A batch whose actor died is done again by another actor, alone there. After `DEATHS_TOGETHER` deaths its videos are done
one at a time, and a video whose actor died `DEATHS_ALONE` times becomes a failure. So a video that kills its actor
costs at most four deaths, and no other video its answer. Batches are in flight for `WINDOW` places at most, so memory
is bounded also if one of them takes very long.
"""

from __future__ import annotations

import logging
import threading
import time
from collections import deque
from collections.abc import Callable, Generator, Iterable
from concurrent.futures import Future
from dataclasses import dataclass, field
from queue import Empty, SimpleQueue
from typing import Any, Generic

from pebble import concurrent

from bike_cli.errors import BikeError, WorkerError, first_line
from bike_cli.records import Failure, Source
from bike_cli.tasks.cluster.actor import BatchAnswer
from bike_cli.tasks.cluster.batches import Batch
from bike_cli.tasks.cluster.runtime import kill
from bike_cli.tasks.cluster.work import Answer, Given
from bike_cli.wording import count

AT_ONCE = 2  # batches in an actor at the same time, so that its decoders do not wait for the last videos of a batch
STARTS = 3  # of an actor that dies before it is ready
WINDOW = 256  # batches that may be ahead of the oldest one without all answers
AHEAD = 1024  # sources that are read ahead
POLL_S = 0.05  # between looks for new sources
WAIT_S = 1.0
ANSWER_S = 30.0  # for an idle actor to say that it runs
PATIENCE_S = 60.0  # before a warning that no actor has started

logger = logging.getLogger(__name__)
Reference = Any  # of Ray, to a result that does not exist yet


@dataclass(frozen=True)
class StartedActor:
    """An actor that was just created, and the reference to the result of its `start`."""

    handle: Any
    start: Reference


@dataclass(eq=False)
class _Actor(Generic[Answer]):
    """A place for an actor: when one dies, another one takes it.

    Args:
        failed_starts: how many in succession died before they were ready.
    """

    handle: Any
    is_ready: bool = False
    failed_starts: int = 0
    batches: list[Batch[Answer]] = field(default_factory=list)


class Dispatcher(Generic[Answer]):
    """Yields the answers for sources, in order.

    Args:
        create: creates an actor, and starts it.
        actors: their number.
        batch: sources per batch; fewer if they arrive slowly.
    """

    def __init__(
        self, create: Callable[[], StartedActor], sources: Iterable[Given], *, actors: int, batch: int
    ) -> None:
        self._create, self._sources, self._size = create, sources, batch
        self._number = actors
        self._actors: list[_Actor[Answer]] = []
        self._calls: dict[Reference, tuple[_Actor[Answer], Any, Batch[Answer] | None]] = {}  # None: the call of `start`
        self._order: deque[Batch[Answer]] = deque()  # those that are not yielded yet
        self._suspects: deque[Batch[Answer]] = deque()  # whose actor died
        self._arrived: SimpleQueue[Given] = SimpleQueue()
        self._ahead = threading.Semaphore(AHEAD)
        self._is_over = self._is_fed = False
        self._start_s = time.monotonic()  # since when no actor is ready
        self._has_warned = False

    def __iter__(self) -> Generator[Answer | Failure, None, None]:
        """Yield the answers.

        Raises:
            BikeError: what an actor reports, after the answers before it.
            WorkerError: actors die before they are ready.
            Any error of the sources, after the answers for the sources before it.
        """
        feeder: Future[None] = concurrent.thread(self._feed)()
        try:
            for _ in range(self._number):
                actor: _Actor[Answer] = _Actor(handle=None)
                self._actors.append(actor)
                self._launch(actor)
            while True:
                self._is_fed = feeder.done()
                self._assign()
                while self._order and self._order[0].is_done:
                    batch = self._order.popleft()
                    yield from batch.answers
                    if batch.error is not None:
                        raise batch.error
                if self._is_fed and self._arrived.empty() and not self._order:
                    break
                self._wait()
        finally:
            self._is_over = True
            self._ahead.release()
            for actor in self._actors:
                kill(actor.handle)
        error = feeder.exception()
        if error is not None:
            raise error

    def _feed(self) -> None:
        """Take the sources as they come, in a thread."""
        for given in self._sources:
            self._ahead.acquire()
            if self._is_over:
                return
            self._arrived.put(given)

    def _launch(self, actor: _Actor[Answer]) -> None:
        started = self._create()
        actor.handle, actor.is_ready, actor.batches = started.handle, False, []
        if not any(other.is_ready for other in self._actors):
            self._start_s = time.monotonic()
        self._calls[started.start] = (actor, started.handle, None)

    # -- work for the actors -------------------------------------------------------------------------------------

    def _assign(self) -> None:
        """Give work to each actor that can take some."""
        for actor in self._actors:
            while actor.is_ready and (batch := self._next_batch(actor)) is not None:
                actor.batches.append(batch)
                self._calls[actor.handle.answer.remote(batch.next_sources())] = (actor, actor.handle, batch)

    def _next_batch(self, actor: _Actor[Answer]) -> Batch[Answer] | None:
        """Return what an actor does next; None if it must end something first, or if there is nothing to do."""
        if self._suspects:
            return None if actor.batches or not self._is_alive(actor) else self._suspects.popleft()
        if not self._has_room(actor):
            return None
        sources: list[Given] = []
        while len(sources) < self._size:
            try:
                sources.append(self._arrived.get_nowait())
            except Empty:
                break
            self._ahead.release()
        if not sources:
            return None
        self._order.append(Batch(sources))
        return self._order[-1]

    def _is_alive(self, actor: _Actor[Answer]) -> bool:
        """Return whether an idle actor still runs; otherwise replace it.

        It may have been lost with its machine, and no video may be blamed for that.
        """
        import ray

        try:
            ray.get(actor.handle.__ray_ready__.remote(), timeout=ANSWER_S)
        except ray.exceptions.RayError as e:
            logger.info("an idle actor ended: %s", e)
            kill(actor.handle)
            self._launch(actor)
            return False
        return True

    def _has_room(self, actor: _Actor[Answer]) -> bool:
        # What killed an actor before has one of its own.
        is_shared = not any(batch.deaths for batch in actor.batches)
        return actor.is_ready and is_shared and len(actor.batches) < AT_ONCE and len(self._order) < WINDOW

    # -- results -------------------------------------------------------------------------------------------------

    def _wait(self) -> None:
        """Take the results that have arrived; wait for one, or until there may be new sources."""
        import ray

        takes_sources = not self._is_fed and not self._suspects and any(map(self._has_room, self._actors))
        if not self._calls:
            time.sleep(POLL_S)
            return
        timeout_s = POLL_S if takes_sources else WAIT_S
        done, _ = ray.wait(list(self._calls), num_returns=1, timeout=timeout_s)
        for reference in done:
            actor, handle, batch = self._calls.pop(reference)
            if batch is None:
                self._take_start(actor, handle, reference)
            else:
                self._take_answers(actor, handle, batch, reference)
        self._warn_if_nothing_starts()

    def _take_start(self, actor: _Actor[Answer], handle: object, reference: Reference) -> None:
        import ray

        if actor.handle is not handle:
            return
        try:
            error: BikeError | None = ray.get(reference)
        except ray.exceptions.RayError as e:
            actor.failed_starts += 1
            logger.info("an actor ended before it was ready: %s", e)
            kill(handle)
            if actor.failed_starts < STARTS:
                self._launch(actor)
            else:
                self._give_up(
                    WorkerError(
                        f"--ray: actors end before they are ready ({_reason(e)}); check that their machines have bike "
                        "and enough memory for the model, or use a smaller one"
                    )
                )
            return
        if error is not None:
            kill(handle)
            self._give_up(error)
            return
        actor.is_ready, actor.failed_starts = True, 0
        logger.info("an actor is ready")

    def _give_up(self, error: BikeError) -> None:
        """Raise the error of a place where no actor can start, or work without that place if another actor is ready."""
        if not any(actor.is_ready for actor in self._actors):
            raise error
        logger.warning("%s; the other actors go on", error)

    def _take_answers(self, actor: _Actor[Answer], handle: object, batch: Batch[Answer], reference: Reference) -> None:
        import ray

        try:
            answered: BatchAnswer[Answer] = ray.get(reference)
        except ray.exceptions.RayError as e:
            self._take_death(actor, handle, batch, e)
        else:
            batch.add(answered)
            if actor.handle is handle:
                actor.batches.remove(batch)
        if not batch.is_done:
            self._suspects.appendleft(batch)

    def _take_death(self, actor: _Actor[Answer], handle: object, batch: Batch[Answer], error: BaseException) -> None:
        """Count what an actor died of, and replace it, unless another result has done so."""
        import ray

        reason = _reason(error)
        logger.info("an actor ended while it worked on %s: %s", count(len(batch.next_sources()), "video"), error)
        raised = isinstance(error, ray.exceptions.RayTaskError)
        if not getattr(error, "preempted", False):  # the cluster has taken its machine away
            batch.note_death(lambda source: _internal(source, reason) if raised else _crashed(source))
        if actor.handle is handle:
            kill(handle)
            self._launch(actor)

    def _warn_if_nothing_starts(self) -> None:
        waited_s = time.monotonic() - self._start_s
        if waited_s > PATIENCE_S and not self._has_warned and not any(actor.is_ready for actor in self._actors):
            self._has_warned = True
            logger.warning(
                "--ray: no actor has started for %.0f s; the cluster may have no room for one, or the model is being "
                "downloaded; ray status shows what is free",
                waited_s,
            )


def _crashed(source: Source) -> Failure:
    problem = "kills the process of the model each time"
    return Failure(source, "crashed", f"{source.id}: {problem}; repair or convert the file, or leave it out")


def _internal(source: Source, reason: str) -> Failure:
    problem = f"cannot be processed because of a bug in bike ({reason})"
    return Failure(source, "internal", f"{source.id}: {problem}; please report it")


def _reason(error: BaseException) -> str:
    """Return why an actor ended, in a few words; the last line of a traceback that Ray passes on."""
    cause = getattr(error, "cause", None)
    if isinstance(cause, BaseException):
        return f"{type(cause).__name__}: {first_line(cause)}"
    lines = [line.strip() for line in str(error).splitlines() if line.strip()]
    return (lines[-1] if lines else type(error).__name__)[:200].rstrip(".")
