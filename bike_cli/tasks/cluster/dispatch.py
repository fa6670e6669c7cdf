"""Give batches of sources to actors, and yield the answers in order, whatever happens to the actors.

A batch whose actor died is done again by another actor, alone there, on another machine if one is ready. After
`DEATHS_TOGETHER` deaths its videos are done one at a time, and a video whose actor died `DEATHS_ALONE` times becomes a
failure. So a video that kills its actor costs at most four deaths, and no other video its answer. If several videos in
a row seem to kill their actors, and nothing is answered in between, the fault is not theirs, and the run ends.

Answers that wait for older ones are bounded in number and size, so memory is bounded also if a batch takes very long.
"""

from __future__ import annotations

import logging
import threading
import time
from collections import deque
from collections.abc import Callable, Collection, Generator, Iterable, Iterator
from concurrent.futures import Future
from queue import Empty, SimpleQueue
from typing import Generic

from pebble import concurrent

from bike_cli.errors import BikeError, WorkerError
from bike_cli.records import Failure
from bike_cli.tasks.cluster.actor import BatchAnswer
from bike_cli.tasks.cluster.batches import Batch
from bike_cli.tasks.cluster.blame import BLAMED_IN_A_ROW, crash_failure, error_for_all, internal_failure, reason_of
from bike_cli.tasks.cluster.places import Call, Place, Reference, StartedActor
from bike_cli.tasks.cluster.runtime import is_alive, kill
from bike_cli.tasks.cluster.work import Answer, Given
from bike_cli.wording import count

AT_ONCE = 2  # batches in an actor at the same time, so that its decoders do not wait for the last videos of a batch
STARTS = 3  # of an actor that dies before it is ready
PLACES = 3  # or half of all: where no actor can start, before the run ends although others have not started yet
WINDOW = 8192  # answers that may wait for older ones
WINDOW_BYTES = 2**28
AHEAD = 1024  # sources that are read ahead
POLL_S = 0.05  # between looks for new sources
WAIT_S = 1.0
PATIENCE_S = 60.0  # before a warning that no actor has started

logger = logging.getLogger(__name__)


class Dispatcher(Generic[Answer]):
    """Yields the answers for sources, in order.

    Args:
        create: creates an actor, and starts it. What it starts returns an error, or what stands for its machine.
        actors: their number.
        batch: sources per batch; fewer if they arrive slowly.
        begin: called once, when the first actor is ready, or at the end if there was nothing to do.
    """

    def __init__(
        self,
        create: Callable[[], StartedActor],
        sources: Iterable[Given],
        *,
        actors: int,
        batch: int,
        begin: Callable[[], object] = lambda: None,
    ) -> None:
        self._create, self._sources, self._size, self._begin = create, sources, batch, begin
        self._places: list[Place[Answer]] = [Place(handle=None) for _ in range(actors)]
        self._calls: dict[Reference, Call[Answer]] = {}
        self._order: deque[Batch[Answer]] = deque()  # those that are not yielded yet
        self._suspects: list[Batch[Answer]] = []  # whose actor died
        self._arrived: SimpleQueue[Given] = SimpleQueue()
        self._ahead = threading.Semaphore(AHEAD)
        self._is_over = self._has_begun = self._lacks_sources = self._has_warned = False
        self._batches = 0
        self._failed_starts = 0  # in succession, of all places
        self._blamed = 0  # videos in succession
        self._start_s = time.monotonic()  # since when no actor is ready

    def __iter__(self) -> Generator[Answer | Failure, None, None]:
        """Yield the answers.

        Raises:
            BikeError: what an actor reports, after the answers before it.
            WorkerError: actors die before they are ready, or with whatever they do.
            Any error of the sources, after the answers for the sources before it; any error of `begin`.
        """
        feeder: Future[None] = concurrent.thread(self._feed)()
        try:
            for place in self._places:
                self._launch(place)
            while True:
                is_fed = feeder.done()
                yield from self._finished()
                self._assign()
                if is_fed and self._arrived.empty() and not self._order:
                    break
                self._wait(may_get_sources=not is_fed)
            self._begin_once()
        finally:
            self._is_over = True
            self._ahead.release()
            for place in self._places:
                kill(place.handle)
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

    def _launch(self, place: Place[Answer]) -> None:
        started = self._create()
        place.handle, place.is_ready, place.machine, place.batches = started.handle, False, None, []
        if not self._has_ready:
            self._start_s = time.monotonic()
        self._calls[started.start] = Call(place, started.handle)

    def _begin_once(self) -> None:
        if not self._has_begun:
            self._has_begun = True
            self._begin()

    @property
    def _has_ready(self) -> bool:
        return any(place.is_ready for place in self._places)

    def _finished(self) -> Iterator[Answer | Failure]:
        """Yield the answers that need not wait for older ones, or raise the error that takes their place."""
        while self._order and self._order[0].is_done and not self._is_doubtful(self._order[0]):
            batch = self._order.popleft()
            yield from batch.answers
            if batch.error is not None:
                raise batch.error

    def _is_doubtful(self, batch: Batch[Answer]) -> bool:
        """Return whether a video was blamed, and other videos will soon show whether their actors die, too."""
        if not batch.is_blamed or not self._blamed:
            return False
        has_more = not self._arrived.empty() and self._has_window
        return has_more or any(not other.is_done for other in self._order)

    # -- work for the actors -------------------------------------------------------------------------------------

    def _assign(self) -> None:
        """Give work to each actor that can take some; first what killed an actor, which needs one of its own."""
        awaited: set[Place[Answer]] = set()  # they get nothing else until they are free for a suspect
        for batch in sorted(self._suspects, key=lambda batch: batch.number):
            place = self._place_for(batch, without=awaited)
            if place is None:
                continue
            awaited.add(place)
            if place.batches:
                continue
            if is_alive(place.handle):
                self._suspects.remove(batch)
                self._give(place, batch)
            else:  # it may have been lost with its machine, and no video may be blamed for that
                kill(place.handle)
                self._launch(place)
        self._lacks_sources = False
        if not self._has_window:
            return
        for number in range(AT_ONCE):  # none gets a second batch while another one has nothing to do
            for place in self._places:
                if not place.is_ready or len(place.batches) != number or place in awaited or place.has_suspect:
                    continue
                new = self._new_batch()
                if new is None:
                    self._lacks_sources = True
                    return
                self._give(place, new)

    def _give(self, place: Place[Answer], batch: Batch[Answer]) -> None:
        place.batches.append(batch)
        sources = batch.next_sources()
        reference = place.handle.answer.remote(sources)
        self._calls[reference] = Call(place, place.handle, place.names, batch, tuple(sources))

    def _place_for(self, batch: Batch[Answer], *, without: Collection[Place[Answer]]) -> Place[Answer] | None:
        """Return the place that does a suspect as soon as it has nothing else to do; None: it must wait for one.

        It is one on a machine where no actor died of the suspect, or else another place, or else any: a broken machine
        must not let a video be blamed. It rather waits for other suspects.
        """

        def has_failed(place: Place[Answer]) -> tuple[bool, bool]:
            return place.machine is not None and place.machine in batch.died_at, place in batch.died_at

        ready = [place for place in self._places if place.is_ready]
        best = min(map(has_failed, ready), default=None)
        free = [place for place in ready if place not in without and not place.has_suspect]
        return min(
            (place for place in free if has_failed(place) == best), key=lambda place: len(place.batches), default=None
        )

    def _new_batch(self) -> Batch[Answer] | None:
        """Return a batch of the sources that have arrived; None if no source has."""
        sources: list[Given] = []
        while len(sources) < self._size:
            try:
                sources.append(self._arrived.get_nowait())
            except Empty:
                break
            self._ahead.release()
        if not sources:
            return None
        self._batches += 1
        self._order.append(Batch(sources, self._batches))
        return self._order[-1]

    @property
    def _has_window(self) -> bool:
        """Whether the answers that wait for older ones leave room for more."""
        waiting = sum(len(batch.answers) for batch in self._order)
        return waiting < WINDOW and sum(batch.size_bytes for batch in self._order) < WINDOW_BYTES

    # -- results -------------------------------------------------------------------------------------------------

    def _wait(self, *, may_get_sources: bool) -> None:
        """Take a result that has arrived; wait for one, or until there may be new sources."""
        import ray

        timeout_s = POLL_S if may_get_sources and self._lacks_sources else WAIT_S
        done, _ = ray.wait(list(self._calls), num_returns=1, timeout=timeout_s) if self._calls else ([], [])
        if not self._calls:
            time.sleep(POLL_S)
        for reference in done:
            call = self._calls.pop(reference)
            if call.batch is None:
                self._take_start(call, reference)
            else:
                self._take_answers(call, call.batch, reference)
        self._warn_if_nothing_starts()

    def _take_start(self, call: Call[Answer], reference: Reference) -> None:
        import ray

        place = call.place
        if place.handle is not call.handle:
            return
        try:
            started: BikeError | object = ray.get(reference)
        except ray.exceptions.RayError as e:
            logger.info("an actor ended before it was ready: %s", e)
            self._take_failed_start(place, e)
            return
        if isinstance(started, BikeError):
            self._give_up(place, started)
            return
        place.is_ready, place.machine, place.failed_starts, self._failed_starts = True, started, 0, 0
        logger.info("an actor is ready")
        self._begin_once()

    def _take_failed_start(self, place: Place[Answer], error: BaseException) -> None:
        """Start another actor in place of one that died before it was ready, unless that has been tried often."""
        kill(place.handle)
        place.failed_starts += 1
        self._failed_starts += 1
        if place.failed_starts < STARTS:
            self._launch(place)
            return
        problem = WorkerError(
            f"--ray: actors end before they are ready ({reason_of(error)}); check that their machines have bike and "
            "enough memory for the model, or use a smaller one"
        )
        place.is_given_up = True
        most = STARTS * max(PLACES, len(self._places) // 2)
        may_start = any(not other.is_given_up for other in self._places) and self._failed_starts < most
        if may_start and not self._has_ready:
            logger.warning("%s; bike waits for the other actors", problem)
            return
        self._give_up(place, problem)

    def _give_up(self, place: Place[Answer], error: BikeError) -> None:
        """Raise the error of a place where no actor can start, or work without that place if another actor is ready."""
        kill(place.handle)
        place.is_given_up = True
        if not self._has_ready:
            raise error
        logger.warning("%s; the other actors go on", error)

    def _take_answers(self, call: Call[Answer], batch: Batch[Answer], reference: Reference) -> None:
        import ray

        try:
            answered: BatchAnswer[Answer] = ray.get(reference)
        except ray.exceptions.RayError as e:
            self._take_death(call, batch, e)
        else:
            batch.add(call.sources, answered)
            if answered.answers:
                self._blamed = 0
            if call.place.handle is call.handle:
                call.place.batches.remove(batch)
            if not batch.is_done:
                self._suspects.append(batch)

    def _take_death(self, call: Call[Answer], batch: Batch[Answer], error: BaseException) -> None:
        """Count what an actor died of, and replace it, unless another result has done so.

        Raises:
            WorkerError: actors die with whatever they do.
        """
        import ray

        reason = reason_of(error)
        logger.info("an actor ended while it worked on %s: %s", count(len(call.sources), "video"), error)
        raised = isinstance(error, ray.exceptions.RayTaskError)
        blamed = None
        if not getattr(error, "preempted", False):  # the cluster has taken its machine away
            blamed = batch.note_death(
                call.names, lambda source: internal_failure(source, reason) if raised else crash_failure(source)
            )
        if not batch.is_done:
            self._suspects.append(batch)
        if call.place.handle is call.handle:
            kill(call.handle)
            self._launch(call.place)
        if blamed is not None:
            self._blamed += 1
            if self._blamed >= BLAMED_IN_A_ROW:
                raise error_for_all(blamed, reason, is_bug=raised)

    def _warn_if_nothing_starts(self) -> None:
        waited_s = time.monotonic() - self._start_s
        if waited_s > PATIENCE_S and not self._has_warned and not self._has_ready:
            self._has_warned = True
            logger.warning(
                "--ray: no actor has started for %.0f s; the cluster may have no room for one, or the model is being "
                "downloaded; ray status shows what is free",
                waited_s,
            )
