"""Inputs become frame features: found in the store, or decoded in worker processes and encoded in batches.

Three parties share the work, so that each waits as little as possible for the others:

    feeder (a thread)    takes inputs as they come
    this generator       looks each up in the store, asks workers for those it does not find, encodes the clips that
                         are ready in batches, and yields features in the order of the inputs
    workers (processes)  read files, decode

Clips take memory, so only a few are in flight at a time. Features take little: thousands may wait for their turn, so a
video that hangs until its time limit does not keep the others from being decoded and encoded.
"""

from __future__ import annotations

import logging
import threading
import time
from collections import deque
from collections.abc import Callable, Iterable, Iterator, Sequence
from concurrent.futures import Future
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from queue import Empty, SimpleQueue
from typing import TypeVar

import numpy as np
import torch
from numpy.typing import NDArray
from pebble import concurrent

from bike_cli.config import SamplingConfig
from bike_cli.data.remote.fetching import Fetcher
from bike_cli.data.remote.uris import source_named
from bike_cli.engine.engine import Engine
from bike_cli.engine.store.store import Store
from bike_cli.inference.clip_queue import ClipQueue
from bike_cli.media import missing_message
from bike_cli.records import Clip, Failure, Source, Timings, VideoFeatures
from bike_cli.video.content import changed_lately, stamp_of
from bike_cli.video.decoding import clip_from_array
from bike_cli.video.workers.pool import DecodePool
from bike_cli.wording import count

Input = str | Path | Source | Clip | NDArray[np.uint8] | VideoFeatures | Failure
EncodedVideo = tuple[VideoFeatures, ...]  # the features of one video, from each engine in the order of the engines
Result = TypeVar("Result")

logger = logging.getLogger(__name__)

AHEAD = 4096  # inputs that may be taken before the first of them has its answer
CLIPS_A_WORKER = 2  # that are being decoded or wait to be encoded; a GPU's batches come on top
CLIP_BYTES = 512 * 2**20  # of all clips in flight; each worker may always have one
AT_ONCE = 256  # features that are yielded together


@dataclass(eq=False)
class _Job:
    """One input on its way to features. Each step fills in what it finds out."""

    place: int  # of the input, from 0
    source: Source
    stamp: bytes | None = None  # of the file before it was read; None: the store cannot use it
    content: bytes | None = None  # digest of the file's bytes; None: not known, and the features are not stored
    outcome: Clip | Failure | None = None  # of reading the input
    has_slot: bool = False  # whether it holds one of the few slots for clips in flight
    is_read: bool = False  # whether a worker was asked for it
    video: EncodedVideo | None = None  # its features, from the start of their encoding
    ready: torch.cuda.Event | None = None  # event at which the device has computed them; None: already


@dataclass(frozen=True)
class Shelf:
    """The store, and the recipe of each engine in it."""

    store: Store
    recipes: tuple[bytes, ...]

    def lookup(self, source: Source, stamp: bytes) -> tuple[bytes | None, EncodedVideo | None]:
        """Return the content that the store remembers for a source, and its features if those of all engines exist."""
        path = str(source.path.absolute())
        rows = [self.store.lookup(path, stamp, recipe) for recipe in self.recipes]
        stored = [row.features for row in rows if row.features is not None]
        content = rows[0].content
        return content, tuple(row.of(source) for row in stored) if len(stored) == len(rows) else None

    def of_content(self, source: Source, content: bytes) -> EncodedVideo | None:
        """Return the features of a file with the same bytes under another name."""
        stored = [self.store.features(content, recipe) for recipe in self.recipes]
        return tuple(row.of(source) for row in stored if row is not None) if all(stored) else None

    def keep(self, content: bytes, video: EncodedVideo) -> None:
        """Store the features of a content."""
        for recipe, features in zip(self.recipes, video, strict=True):
            self.store.keep(content, recipe, features)


class Features:
    """The features of inputs, as they come, in the order of the inputs.

    Args:
        engines: each encodes every video.
        shelf: None: nothing is looked up or kept.
        spent: updated during the work.
    """

    # How a video travels. Its `_Job` is passed from step to step; every step runs in the caller's thread:
    #
    #     _look_up ──────────────► _finish      in the store: done
    #        │ waits for a slot
    #        ├──► _identify ─────► _finish      bytes hashed by a worker; in the store under another name: done
    #        │       │
    #        └───────┴──► _arrive ──► _launch ──► _land ──► _finish
    #                     decoded     encoding    encoded, stored
    #
    # A remote video is not looked up. Once it has a slot it is fetched to a temporary file, which is deleted when it is
    # decoded. `_fetching` limits such files.
    #
    # Other threads (the feeder, and those of the pool that complete futures) do not run steps: they put the next step
    # on the queue `_calls`, as a call, and leave the job alone from then on. `_receive` runs calls from the queue until
    # it has clips for a batch or answers to yield. A call that raises, because no worker can decode, ends the run.
    #
    # Two semaphores limit what is in flight. `_ahead` limits the inputs without a yielded answer: the feeder acquires
    # it for each input, `_next` releases it. `_slots` limits the clips in memory: a job acquires it before it goes to a
    # worker (the feeder does, for inputs that are clips), and `_finish` releases it. Once the size of a clip is known,
    # `CLIP_BYTES` limits the jobs with workers further. When the caller stops early, `__iter__` releases both, so that
    # a waiting feeder sees `_is_over` and ends.
    #
    # The feeder does not look videos up itself: SQLite and torch release the interpreter lock at each step, and two
    # threads that do so all the time are slower than one.

    def __init__(
        self,
        inputs: Iterable[Input],
        engines: Sequence[Engine],
        sampling: SamplingConfig,
        *,
        pool: DecodePool,
        shelf: Shelf | None = None,
        spent: Timings | None = None,
    ) -> None:
        self._inputs, self._engines, self._sampling = inputs, engines, sampling
        self._pool, self._shelf, self._spent = pool, shelf, spent or Timings()
        self._fetcher = Fetcher(pool.timeout_s)
        self._calls: SimpleQueue[Callable[[], None]] = SimpleQueue()
        self._ahead = threading.Semaphore(AHEAD)
        self._clips: ClipQueue[_Job] = ClipQueue(engines[0], sampling)
        self._slots = threading.Semaphore(self._clips.room(pool.workers, CLIPS_A_WORKER))
        self._taken = 0  # inputs so far
        self._is_fed = False  # there are no more inputs
        self._is_over = False  # the caller stopped
        self._waiting: deque[_Job] = deque()  # for a slot
        self._reading = 0  # jobs that workers have, or whose clips wait to be encoded
        self._fetching = 0  # remote jobs that are fetched or decoded, each with a temporary file
        self._largest = 1  # bytes of a clip so far
        self._ready: dict[int, EncodedVideo | Failure] = {}
        self._place = 0  # of the next answer to yield

    def __iter__(self) -> Iterator[list[EncodedVideo | Failure]]:
        """Yield what is ready: one item per input, at least one at a time.

        Raises:
            Any error of the inputs, after the answers for the inputs before it.
            WorkerError: no worker can decode; what was decoded before is kept.
        """
        feeder: Future[None] = concurrent.thread(self._feed)()
        feeder.add_done_callback(lambda _: self._calls.put(self._end_of_inputs))
        launched: list[_Job] = []
        try:
            while not self._is_done:
                self._receive(wait=not launched)
                # The device gets a full batch before this one waits for the last. A batch that is not full grows
                # meanwhile: many small ones take much longer.
                before, launched = launched, []
                if not before or self._clips.is_full:
                    launched = self._launch(self._clips.take())
                self._land(before)
                if launched and launched[0].ready is None:
                    self._land(launched)
                    launched = []
                while batch := self._next():
                    yield batch
        finally:
            self._is_over = True
            self._ahead.release()
            self._slots.release()
            self._fetcher.close()
            spent = self._spent
            logger.info(
                "%s: %s from the cache, %s decoded in %.2f s of %s; encoded in %.2f s, waited %.2f s for videos",
                *(count(self._place, "video"), f"{spent.cached:,}", f"{spent.decoded:,}", spent.decode_s),
                *(count(self._pool.workers, "worker"), spent.encode_s, spent.wait_s),
            )
        error = feeder.exception()
        if error is not None:
            raise error

    @property
    def _is_done(self) -> bool:
        return self._is_fed and self._place == self._taken

    # -- in the feeder's thread ----------------------------------------------------------------------------------

    def _feed(self) -> None:
        for given in self._inputs:
            self._ahead.acquire()
            if self._is_over:
                return
            self._begin(self._taken, given)
            self._taken += 1

    def _begin(self, place: int, given: Input) -> None:
        step: Callable[[_Job], None]
        if isinstance(given, (Clip, np.ndarray)):
            self._slots.acquire()
            name = f"array {place + 1}"
            clip = given if isinstance(given, Clip) else clip_from_array(given, self._sampling, name=name)
            job, step = _Job(place, clip.source, outcome=clip, has_slot=True), self._arrive
        elif isinstance(given, VideoFeatures):
            job, step = _Job(place, given.source, video=(given,)), self._take_known
        elif isinstance(given, Failure):
            job, step = _Job(place, given.source, outcome=given), self._arrive
        elif isinstance(given, str) and not given.strip():  # Path("") would be the current folder
            source = Source.at(given)
            job, step = _Job(place, source, outcome=Failure(source, "missing", missing_message(given))), self._arrive
        else:
            source = given if isinstance(given, Source) else source_named(given)
            is_stored = self._shelf is not None and source.remote is None
            job, step = _Job(place, source, stamp_of(source.path) if is_stored else None), self._look_up
        self._calls.put(partial(step, job))

    # -- in the caller's thread ----------------------------------------------------------------------------------

    def _receive(self, *, wait: bool) -> None:
        """Run the steps on the queue, until there are clips for a batch or answers to yield."""
        while not self._clips.is_full and not (len(self._ready) >= AT_ONCE and self._place in self._ready):
            must_wait = wait and not self._clips and self._place not in self._ready
            if must_wait and self._is_done:
                break
            start_s = time.perf_counter()
            try:
                call = self._calls.get(must_wait)
            except Empty:
                break
            self._spent.wait_s += (time.perf_counter() - start_s) if must_wait else 0
            call()

    def _end_of_inputs(self) -> None:
        self._is_fed = True

    def _take_known(self, job: _Job) -> None:
        assert job.video is not None
        self._finish(job, job.video)

    def _then(self, future: Future[Result], step: Callable[[Result], None]) -> None:
        """Have the caller's thread take the result of a future, or raise its error."""
        future.add_done_callback(lambda done: self._calls.put(lambda: step(done.result())))

    def _look_up(self, job: _Job) -> None:
        if self._shelf is not None and job.stamp is not None:
            job.content, video = self._shelf.lookup(job.source, job.stamp)
            if video is not None:
                logger.info("%s: features from the cache", job.source.id)
                self._spent.cached += 1
                self._finish(job, video)
                return
        self._waiting.append(job)
        self._begin_waiting()

    def _begin_waiting(self) -> None:
        """Give waiting jobs to workers, while slots are free."""
        most = max(self._pool.workers, CLIP_BYTES // self._largest)
        while self._waiting and self._reading < most:
            is_remote = self._waiting[0].source.remote is not None
            if is_remote and self._fetching >= CLIPS_A_WORKER * (self._pool.workers + 1):
                break
            if not self._slots.acquire(blocking=False):
                break
            self._reading += 1
            job = self._waiting.popleft()
            job.has_slot = job.is_read = True
            if is_remote:
                self._fetching += 1
                self._then(self._fetcher.fetch(job.source), partial(self._take_fetched, job))
            elif job.stamp is None or job.content is not None:
                self._decode(job)
            else:
                self._then(self._pool.digest(job.source), partial(self._identify, job))

    def _identify(self, job: _Job, content: bytes | Failure) -> None:
        """Look a video up by its bytes, or have it decoded."""
        if isinstance(content, Failure) or self._shelf is None or job.stamp is None:
            self._decode(job)  # the decoder reports what is wrong with it
            return
        if not changed_lately(job.source.path):
            self._shelf.store.remember(str(job.source.path.absolute()), job.stamp, content)
        job.content = content
        video = self._shelf.of_content(job.source, content)
        if video is None:
            self._decode(job)
        else:
            logger.info("%s: features from the cache, of a file with the same content", job.source.id)
            self._spent.cached += 1
            self._finish(job, video)

    def _decode(self, job: _Job) -> None:
        if self._shelf is not None:
            logger.info("%s: not in the cache, will be decoded", job.source.id)
        self._then(self._pool.decode(job.source), partial(self._take_decoded, job))

    def _take_fetched(self, job: _Job, local: Source | Failure) -> None:
        if isinstance(local, Failure):
            self._fetching -= 1
            job.outcome = local
            self._arrive(job)
        else:
            self._then(self._pool.decode(local), partial(self._take_decoded, job, local=local))

    def _take_decoded(self, job: _Job, outcome: Clip | Failure, *, local: Source | None = None) -> None:
        if local is not None:
            self._fetcher.discard(local)
            self._fetching -= 1
            outcome = replace(outcome, source=job.source)
        self._spent.decode_s += outcome.decode_s
        self._spent.decoded += 1
        job.outcome = outcome
        self._arrive(job)
        self._begin_waiting()

    def _arrive(self, job: _Job) -> None:
        if isinstance(job.outcome, Clip):
            self._largest = max(self._largest, job.outcome.frames.nbytes)
            self._clips.add(job, job.outcome.timeline.times_s.size * self._sampling.crops)
        elif job.outcome is not None:
            self._finish(job, job.outcome)

    def _launch(self, jobs: list[_Job]) -> list[_Job]:
        """Start encoding the clips of some jobs, and return the jobs."""
        if not jobs:
            return jobs
        start_s = time.perf_counter()
        clips = [job.outcome for job in jobs if isinstance(job.outcome, Clip)]
        views = [engine.encode_clips(clips, crops=self._sampling.crops) for engine in self._engines]
        ready = self._engines[0].encoder.placement.mark()
        for job, features in zip(jobs, zip(*views, strict=True), strict=True):
            job.video, job.ready = features, ready
        self._spent.encode_s += time.perf_counter() - start_s
        return jobs

    def _land(self, jobs: list[_Job]) -> None:
        """Wait until some jobs are encoded, and store their features."""
        start_s = time.perf_counter()
        if jobs and jobs[0].ready is not None:
            jobs[0].ready.synchronize()
        for job in jobs:
            assert job.video is not None
            # A file that changed meanwhile may have been hashed before and decoded after.
            if self._shelf is not None and job.content is not None and stamp_of(job.source.path) == job.stamp:
                self._shelf.keep(job.content, job.video)
            self._finish(job, job.video)
        self._spent.encode_s += time.perf_counter() - start_s

    def _finish(self, job: _Job, outcome: EncodedVideo | Failure) -> None:
        self._ready[job.place] = outcome
        if job.has_slot:
            self._slots.release()
            self._reading -= job.is_read
            self._begin_waiting()

    def _next(self) -> list[EncodedVideo | Failure]:
        """Return the answers that can be yielded now, up to the first that is missing."""
        batch: list[EncodedVideo | Failure] = []
        while len(batch) < AT_ONCE and self._place in self._ready:
            batch.append(self._ready.pop(self._place))
            self._place += 1
        if batch:
            self._ahead.release(len(batch))
        return batch
