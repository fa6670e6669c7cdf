"""Inputs become frame features: found in the store, or decoded in worker processes and encoded in batches.

Three parties, so that none waits for another more than it must:

    feeder (a thread)    takes inputs as they come
    this generator       looks each up in the store, asks workers for the others, encodes whatever clips are ready,
                         together, and hands features on in the order of the inputs
    workers (processes)  read files, decode

Clips take memory, so only a few are under way at a time. Features take little: they may wait for thousands of places,
and a video that hangs until its time is up does not keep the others from being decoded and encoded.
"""

from __future__ import annotations

import logging
import threading
import time
from collections import deque
from collections.abc import Iterable, Iterator, Sequence
from concurrent.futures import Future
from dataclasses import dataclass, replace
from pathlib import Path
from queue import Empty, SimpleQueue

import numpy as np
import torch
from numpy.typing import NDArray
from pebble import concurrent

from bike_cli.config import SamplingConfig
from bike_cli.engine.engine import Engine
from bike_cli.engine.store.store import Store
from bike_cli.media import missing_message
from bike_cli.records import Clip, Failure, Source, Spent, VideoFeatures
from bike_cli.video.content import changed_lately, stamp_of
from bike_cli.video.decoding import clip_from_array
from bike_cli.video.workers.pool import Decoded, DecodePool

Input = str | Path | Source | Clip | NDArray[np.uint8] | Failure

logger = logging.getLogger(__name__)

AHEAD = 4096  # inputs that may be taken before the first of them has its answer
CLIPS_A_WORKER = 2  # that are decoded or wait to be encoded; so many more that a batch may form
CLIP_BYTES = 512 * 2**20  # that clips may take together; but each worker may always hold one
AT_ONCE = 256  # features that are handed on together


@dataclass(frozen=True)
class Seen:
    """What each engine saw of one video, in the order of the engines."""

    features: tuple[VideoFeatures, ...]


@dataclass(frozen=True)
class _Arrival:
    """What came of the input at a place.

    Args:
        content: digest of its bytes; None: it is not kept.
        stamp: of the file before it was read.
        has_slot: it holds one of the few places of clips under way.
        is_read: a worker was asked for it.
    """

    place: int
    came: Clip | Failure | Seen
    content: bytes | None = None
    stamp: bytes | None = None
    has_slot: bool = True
    is_read: bool = False
    spent_s: float | None = None


@dataclass(frozen=True)
class _Asked:
    """A video that the store may know.

    Args:
        stamp: None: of no use to the store.
        content: digest of its bytes, where the store remembers it.
    """

    place: int
    source: Source
    stamp: bytes | None
    content: bytes | None = None


@dataclass(frozen=True)
class _Digested:
    asked: _Asked
    found: bytes | Failure


@dataclass(frozen=True)
class _Launched:
    """Features on their way out of a device; `ready` tells when they have come, None: they have."""

    arrivals: list[_Arrival]
    seen: list[Seen]
    ready: torch.cuda.Event | None


@dataclass(frozen=True)
class Shelf:
    """The store, and the recipe of each engine in it."""

    store: Store
    recipes: tuple[bytes, ...]

    def lookup(self, source: Source, stamp: bytes) -> tuple[bytes | None, Seen | None]:
        """Return the content that is remembered of a source, and what was seen of it if all engines have seen it."""
        path = str(source.path.absolute())
        found = [self.store.lookup(path, stamp, recipe) for recipe in self.recipes]
        kept = [one.features for one in found if one.features is not None]
        content = found[0].content
        return content, Seen(tuple(one.of(source) for one in kept)) if len(kept) == len(found) else None

    def of_content(self, source: Source, content: bytes) -> Seen | None:
        """Return what was seen of the same bytes under another name."""
        kept = [self.store.features(content, recipe) for recipe in self.recipes]
        return Seen(tuple(one.of(source) for one in kept if one is not None)) if all(kept) else None

    def keep(self, content: bytes, seen: Seen) -> None:
        """Keep what was seen."""
        for recipe, features in zip(self.recipes, seen.features, strict=True):
            self.store.keep(content, recipe, features)


class Features:
    """The features of inputs, as they come, in the order of the inputs.

    Args:
        engines: each sees every video.
        shelf: None: nothing is looked up or kept.
        spent: added to as the work goes on.
    """

    def __init__(
        self,
        inputs: Iterable[Input],
        engines: Sequence[Engine],
        sampling: SamplingConfig,
        *,
        pool: DecodePool,
        shelf: Shelf | None,
        spent: Spent,
    ) -> None:
        self._inputs, self._engines, self._sampling = inputs, engines, sampling
        self._pool, self._shelf, self._spent = pool, shelf, spent
        self._came: SimpleQueue[_Arrival | _Asked | _Digested | Future[None] | BaseException] = SimpleQueue()
        self._ahead = threading.Semaphore(AHEAD)
        self._slots = threading.Semaphore(CLIPS_A_WORKER * (pool.workers + 1))
        self._taken = 0  # inputs so far
        self._is_fed = False  # there are no more
        self._is_over = False  # nobody waits for the rest
        self._waiting: deque[_Asked] = deque()  # for a slot
        self._reading = 0  # of those that workers were asked for, have no answer yet
        self._largest = 1  # bytes of a clip so far
        self._ready: dict[int, Seen | Failure] = {}
        self._place = 0  # of the next to be handed on

    def __iter__(self) -> Iterator[list[Seen | Failure]]:
        """Yield what is ready: one item an input, at least one at a time.

        Raises:
            Whatever the inputs raise, behind what came before it.
            WorkerError: no worker can decode; what was decoded before is kept.
        """
        feeder: Future[None] = concurrent.thread(self._feed)()
        feeder.add_done_callback(self._came.put)
        launched: _Launched | None = None
        try:
            while not (self._is_fed and self._place == self._taken):
                clips = self._receive(wait=launched is None)
                # The device gets its next batch before this one waits for the last.
                before, launched = launched, self._launch(clips)
                if before is not None:
                    self._land(before)
                if launched is not None and launched.ready is None:
                    self._land(launched)
                    launched = None
                while batch := self._next():
                    yield batch
        finally:
            self._is_over = True
            self._ahead.release()
            self._slots.release()
            self._log_times()
        error = feeder.exception()
        if error is not None:
            raise error

    def _log_times(self) -> None:
        spent, read = self._spent, self._place
        logger.info(
            "%d videos: %d decoded in %.2f s of %d workers, encoded in %.2f s, waited %.2f s for videos",
            *(read, spent.decoded, spent.decode_s, self._pool.workers, spent.encode_s, spent.wait_s),
        )

    # -- in the feeder's thread ----------------------------------------------------------------------------------

    def _feed(self) -> None:
        for given in self._inputs:
            self._ahead.acquire()
            if self._is_over:
                return
            self._begin(self._taken, given)
            self._taken += 1

    def _begin(self, place: int, given: Input) -> None:
        if isinstance(given, Failure):
            self._came.put(_Arrival(place, given, has_slot=False))
        elif isinstance(given, Clip):
            self._slots.acquire()
            self._came.put(_Arrival(place, given))
        elif isinstance(given, np.ndarray):
            self._slots.acquire()
            clip = clip_from_array(given, self._sampling, name=f"array {place + 1}")
            self._came.put(_Arrival(place, clip))
        elif isinstance(given, str) and not given.strip():  # Path("") would be the current folder
            failure = Failure(Source.at(given), "missing", missing_message(given))
            self._came.put(_Arrival(place, failure, has_slot=False))
        else:
            source = given if isinstance(given, Source) else Source.at(given)
            self._came.put(_Asked(place, source, None if self._shelf is None else stamp_of(source.path)))

    # -- in the caller's thread ----------------------------------------------------------------------------------

    def _receive(self, *, wait: bool) -> list[_Arrival]:
        """Return the clips that have come, as many as make a batch; all else is put in its place."""
        clips: list[_Arrival] = []
        most = self._clips_at_once()
        while len(clips) < most and not self._has_batch():
            must_wait = wait and not clips and self._place not in self._ready
            if must_wait and self._is_fed and self._place == self._taken:
                break
            try:
                one = self._wait() if must_wait else self._came.get_nowait()
            except Empty:
                break
            if isinstance(one, BaseException):  # no worker can decode
                raise one
            if isinstance(one, Future):
                self._is_fed = True
            elif isinstance(one, _Asked):
                self._find(one)
            elif isinstance(one, _Digested):
                self._identify(one)
            elif isinstance(one.came, Clip):
                clips.append(one)
            else:
                self._put(one, one.came)
        return clips

    def _has_batch(self) -> bool:
        """Say whether so much is ready that it must not wait for more."""
        return len(self._ready) >= AT_ONCE and self._place in self._ready

    def _wait(self) -> _Arrival | _Asked | _Digested | Future[None] | BaseException:
        start_s = time.perf_counter()
        one = self._came.get()
        self._spent.wait_s += time.perf_counter() - start_s
        return one

    def _clips_at_once(self) -> int:
        encoder = self._engines[0].encoder
        # A CPU gains nothing from batches, and a person waits for the first answer.
        if encoder.placement.device.type != "cuda":
            return 1
        return max(1, encoder.batches.at_once // (self._sampling.frames * self._sampling.clips * self._sampling.crops))

    # Here, not in the feeder's thread: SQLite and torch hand the interpreter over at each step, and two threads that
    # do so all the time are slower than one.
    def _find(self, asked: _Asked) -> None:
        """Look a video up, or have it read."""
        if self._shelf is not None and asked.stamp is not None:
            content, seen = self._shelf.lookup(asked.source, asked.stamp)
            if seen is not None:
                logger.info("%s: features from the cache", asked.source.id)
                self._put(_Arrival(asked.place, seen, has_slot=False), seen)
                return
            asked = replace(asked, content=content)
        self._waiting.append(asked)
        self._begin_waiting()

    def _begin_waiting(self) -> None:
        """Have workers read what waits, as far as there are slots."""
        most = max(self._pool.workers, CLIP_BYTES // self._largest)
        while self._waiting and self._reading < most and self._slots.acquire(blocking=False):
            self._reading += 1
            asked = self._waiting.popleft()
            if asked.stamp is None or asked.content is not None:
                self._decode(asked)
            else:
                self._digest(asked)

    def _digest(self, asked: _Asked) -> None:
        def digested(future: Future[bytes | Failure]) -> None:
            error = future.exception()
            self._came.put(_Digested(asked, future.result()) if error is None else error)

        self._pool.digest(asked.source).add_done_callback(digested)

    def _decode(self, asked: _Asked) -> None:
        if self._shelf is not None:
            logger.info("%s: not in the cache, will be decoded", asked.source.id)

        def decoded(future: Future[Decoded]) -> None:
            error = future.exception()
            if error is not None:
                self._came.put(error)
                return
            done = future.result()
            arrival = _Arrival(
                asked.place, done.outcome, asked.content, asked.stamp, is_read=True, spent_s=done.spent_s
            )
            self._came.put(arrival)

        self._pool.decode(asked.source).add_done_callback(decoded)

    def _identify(self, digested: _Digested) -> None:
        """Look up what is known by its bytes now, or have it decoded."""
        shelf, asked, content = self._shelf, digested.asked, digested.found
        if shelf is None or asked.stamp is None or isinstance(content, Failure):
            self._decode(replace(asked, stamp=None))  # the decoder says what is wrong with it
            return
        if not changed_lately(asked.source.path):
            shelf.store.remember(str(asked.source.path.absolute()), asked.stamp, content)
        seen = shelf.of_content(asked.source, content)
        if seen is None:
            self._decode(replace(asked, content=content))
        else:
            logger.info("%s: features from the cache, of a file with the same content", asked.source.id)
            self._put(_Arrival(asked.place, seen, is_read=True), seen)

    def _launch(self, arrivals: list[_Arrival]) -> _Launched | None:
        """Set the towers to work on clips."""
        if not arrivals:
            return None
        start_s = time.perf_counter()
        clips = [arrival.came for arrival in arrivals if isinstance(arrival.came, Clip)]
        views = [engine.encode_clips(clips, crops=self._sampling.crops) for engine in self._engines]
        ready = self._engines[0].encoder.placement.mark()
        self._spent.encode_s += time.perf_counter() - start_s
        return _Launched(arrivals, [Seen(features) for features in zip(*views, strict=True)], ready)

    def _land(self, launched: _Launched) -> None:
        """Wait for the towers, and keep what they saw."""
        start_s = time.perf_counter()
        if launched.ready is not None:
            launched.ready.synchronize()
        for arrival, seen in zip(launched.arrivals, launched.seen, strict=True):
            self._keep(arrival, seen)
            self._put(arrival, seen)
        self._spent.encode_s += time.perf_counter() - start_s

    def _keep(self, arrival: _Arrival, seen: Seen) -> None:
        if self._shelf is None or arrival.content is None:
            return
        # A file that changed meanwhile may have been decoded as other bytes than were digested.
        if stamp_of(seen.features[0].source.path) == arrival.stamp:
            self._shelf.keep(arrival.content, seen)

    def _put(self, arrival: _Arrival, outcome: Seen | Failure) -> None:
        self._ready[arrival.place] = outcome
        if isinstance(arrival.came, Clip):
            self._largest = max(self._largest, arrival.came.frames.nbytes)
        if arrival.has_slot:
            self._slots.release()
            self._reading -= arrival.is_read
            self._begin_waiting()
        if arrival.spent_s is not None:
            self._spent.decode_s += arrival.spent_s
            self._spent.decoded += 1

    def _next(self) -> list[Seen | Failure]:
        """Return what can be handed on, up to the first that is missing."""
        batch: list[Seen | Failure] = []
        while len(batch) < AT_ONCE and self._place in self._ready:
            batch.append(self._ready.pop(self._place))
            self._place += 1
        if batch:
            self._ahead.release(len(batch))
        return batch
