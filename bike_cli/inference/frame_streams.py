"""Features of the frames of long videos, bin by bin, as their frames arrive from workers.

A video is read in one pass, and only its features stay in memory. They are stored in chunks while the video is being
read, so that a run that was killed continues where it stopped, and a run with other labels decodes nothing.
"""

from __future__ import annotations

import logging
import threading
import time
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import Future
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from functools import partial
from queue import SimpleQueue

from pebble import concurrent

from bike_cli.config import DecodingConfig, SpotConfig
from bike_cli.data.remote.fetching import Fetcher
from bike_cli.data.remote.uris import source_named
from bike_cli.engine.engine import Engine
from bike_cli.engine.store.store import open_store, recipe_key
from bike_cli.inference.bin_features import BinFeatures, Bins, ChunkShelf
from bike_cli.media import missing_message
from bike_cli.records import Failure, Source, Timings
from bike_cli.video.content import changed_lately, stamp_of
from bike_cli.video.streams.values import FrameBatch, StreamEnd, StreamRequest, join_ends
from bike_cli.video.workers.frame_stream import FrameStream, split
from bike_cli.video.workers.pool import DecodePool

logger = logging.getLogger(__name__)

PIXELS_VERSION = "resized by torch"  # change it when frames are resized in another way, so old features are not found


@dataclass(eq=False)
class _Video:
    """One video on its way to features."""

    place: int
    source: Source
    local: Source | None = None  # the temporary file of a remote source
    stamp: bytes | None = None  # of the file before it was read; None: the store cannot use it
    content: bytes | None = None  # digest of the file's bytes; None: the features are not stored
    bins: Bins = field(default_factory=lambda: Bins(0))
    streams: int = 0  # that are still being read, or wait for a worker
    filled: dict[int, int] = field(default_factory=dict)  # end of the bins of each stream, by its number
    ends: dict[int, StreamEnd] = field(default_factory=dict)  # by the number of the stream
    failure: Failure | None = None


class FrameStreams:
    """The features of long videos, in the order of the inputs.

    Args:
        videos: how many there are, if known: workers that would have nothing to do read parts of the same video.
        shelf: None: nothing is looked up or kept.
        spent: updated during the work.
        report: called with a source and the seconds of it that were read so far.
    """

    def __init__(
        self,
        inputs: Iterable[str | Source | Failure],
        engine: Engine,
        request: StreamRequest,
        *,
        pool: DecodePool,
        decoding: DecodingConfig,
        videos: int | None = None,
        shelf: ChunkShelf | None = None,
        spent: Timings | None = None,
        report: Callable[[Source, float], None] | None = None,
    ) -> None:
        self._inputs, self._engine, self._request = inputs, engine, request
        self._pool, self._decoding = pool, decoding
        self._shelf, self._spent, self._report = shelf, spent or Timings(), report
        self._parts = max(1, pool.workers // videos) if videos else 1
        self._fetcher = Fetcher(decoding.decode_timeout)
        self._calls: SimpleQueue[Callable[[], None]] = SimpleQueue()
        self._slots = threading.Semaphore(pool.workers)  # for videos that are being read
        self._reading: set[threading.Semaphore] = set()  # of the streams that are being read
        self._taken = 0  # inputs so far
        self._is_fed = False  # there are no more inputs
        self._is_over = threading.Event()  # the caller stopped
        self._ready: dict[int, BinFeatures | Failure] = {}
        self._place = 0  # of the next answer to yield

    def __iter__(self) -> Iterator[BinFeatures | Failure]:
        """Yield the features of each video, or why it cannot be read.

        Raises:
            Any error of the inputs, after the answers for the inputs before it.
            WorkerError: no worker can decode.
        """
        feeder = concurrent.thread(self._feed)()
        feeder.add_done_callback(lambda _: self._calls.put(self._end_of_inputs))
        try:
            while not (self._is_fed and self._place == self._taken):
                start_s = time.perf_counter()
                call = self._calls.get()
                self._spent.wait_s += time.perf_counter() - start_s
                call()
                while self._place in self._ready:
                    self._place += 1
                    yield self._ready.pop(self._place - 1)
        finally:
            self._is_over.set()
            self._slots.release()
            for taken in self._reading:
                taken.release()
            self._fetcher.close()
        error = feeder.exception()
        if error is not None:
            raise error

    # -- in other threads: they put steps on the queue, which the caller's thread runs -----------------------------

    def _feed(self) -> None:
        for given in self._inputs:
            self._slots.acquire()
            if self._is_over.is_set():
                return
            self._calls.put(partial(self._begin, self._taken, given))
            self._taken += 1

    def _read(self, video: _Video, part: int, request: StreamRequest, workers: threading.Semaphore) -> None:
        taken = threading.Semaphore(0)
        with workers:
            self._reading.add(taken)
            try:
                if not self._is_over.is_set():
                    self._stream(video, part, request, taken)
            finally:
                self._reading.discard(taken)

    def _stream(self, video: _Video, part: int, request: StreamRequest, taken: threading.Semaphore) -> None:
        with FrameStream(video.local or video.source, request, self._decoding) as stream:
            for item in stream:
                # The worker decodes the next batch meanwhile, and reuses the memory of this one after it.
                self._calls.put(partial(self._take, video, part, item, taken))
                taken.acquire()
                if self._is_over.is_set():
                    return

    # -- in the caller's thread ----------------------------------------------------------------------------------

    def _end_of_inputs(self) -> None:
        self._is_fed = True

    def _begin(self, place: int, given: str | Source | Failure) -> None:
        if isinstance(given, Failure):
            self._finish(_Video(place, given.source), given)
            return
        source = given if isinstance(given, Source) else source_named(given)
        video = _Video(place, source, bins=Bins(self._engine.encoder.dim))
        if not str(source.path).strip():
            self._finish(video, Failure(source, "missing", missing_message(source.id)))
            return
        if source.remote is not None:
            fetching = self._fetcher.fetch(source)
            fetching.add_done_callback(lambda done: self._calls.put(lambda: self._take_fetched(video, done.result())))
            return
        if self._shelf is not None:
            video.stamp = stamp_of(source.path)
        if self._shelf is None or video.stamp is None:
            self._start(video)
            return
        video.content = self._shelf.store.content(str(source.path.absolute()), video.stamp)
        if video.content is not None:
            self._start(video)
            return
        digest = self._pool.digest(source)
        digest.add_done_callback(lambda done: self._calls.put(lambda: self._identify(video, done.result())))

    def _take_fetched(self, video: _Video, local: Source | Failure) -> None:
        if isinstance(local, Failure):
            self._finish(video, local)
        else:
            video.local = local
            self._start(video)

    def _identify(self, video: _Video, content: bytes | Failure) -> None:
        if isinstance(content, bytes) and self._shelf is not None and video.stamp is not None:
            video.content = content
            if not changed_lately(video.source.path):
                self._shelf.store.remember(str(video.source.path.absolute()), video.stamp, content)
        self._start(video)

    def _start(self, video: _Video) -> None:
        """Read what the store does not have."""
        if self._shelf is not None and video.content is not None:
            video.bins = self._shelf.stored(video.content, self._engine.encoder.dim)
        bins = video.bins
        if bins.is_complete:
            logger.info("%s: features from the cache", video.source.id)
            self._finish(video, bins.features(video.source, self._request.fps))
            return
        if bins.chunks:
            logger.info("%s: a part of the features from the cache", video.source.id)
        self._spent.decoded += 1
        requests = [replace(self._request, first_bin=start, end_bin=stop) for start, stop in bins.unknown]
        idle = self._parts - len(requests)
        if idle > 0:  # the last range is the longest one, unless a run with several workers was killed
            requests[-1:] = split(video.local or video.source, requests[-1], idle + 1, self._decoding)
        video.streams = len(requests)
        video.filled = {part: one.first_bin for part, one in enumerate(requests)}
        workers = threading.Semaphore(self._parts)
        for part, one in enumerate(requests):
            reading: Future[None] = concurrent.thread(self._read)(video, part, one, workers)
            reading.add_done_callback(lambda done: self._calls.put(done.result))  # which raises its error, if any

    def _take(
        self, video: _Video, part: int, item: FrameBatch | StreamEnd | Failure, taken: threading.Semaphore
    ) -> None:
        if isinstance(item, FrameBatch):
            start_s = time.perf_counter()
            if video.failure is None:
                features = self._engine.encode_frames(item.frames, resizer="torch").float().cpu().numpy()
                video.filled[part] = video.bins.add(item.bins, features, after=video.filled[part])
                self._keep(video)
                if self._report is not None:
                    self._report(video.source, int(item.bins[-1, 1]) / self._request.fps)
            self._spent.encode_s += time.perf_counter() - start_s
            taken.release()
            return
        taken.release()
        video.streams -= 1
        if isinstance(item, Failure):
            video.failure = video.failure or replace(item, source=video.source)
        else:
            video.ends[part] = item
        if not video.streams:
            self._end(video)

    def _end(self, video: _Video) -> None:
        if video.failure is not None:
            self._finish(video, video.failure)
            return
        end = join_ends([video.ends[part] for part in sorted(video.ends)])
        for detail in end.details:
            logger.info("%s: %s", video.source.id, detail)
        self._spent.decode_s += end.decode_s
        video.bins.close(end)
        self._keep(video)
        self._finish(video, video.bins.features(video.source, self._request.fps))

    def _keep(self, video: _Video) -> None:
        """Store the chunks that are complete, unless the file changed meanwhile."""
        if self._shelf is None or video.content is None or not any(video.bins.unstored):
            return
        if stamp_of(video.source.path) != video.stamp:
            video.content = None
            return
        self._shelf.keep(video.content, video.source, video.bins)

    def _finish(self, video: _Video, outcome: BinFeatures | Failure) -> None:
        if video.local is not None:
            self._fetcher.discard(video.local)
        self._ready[video.place] = outcome
        self._slots.release()


@contextmanager
def open_chunks(engine: Engine, config: SpotConfig) -> Iterator[ChunkShelf | None]:
    """Open the store for the features of long videos under a config; None if it is off or cannot be used."""
    store = open_store(config.store)
    if store is None:
        yield None
        return
    with store:
        recipe = recipe_key(f"{engine.identity} {PIXELS_VERSION}", config)
        placement = engine.encoder.placement
        parts = [engine.name, f"{str(placement.dtype).removeprefix('torch.')} on {placement.device.type}"]
        parts += [f"{config.fps:g} frames per second"] + ["draft"] * config.draft
        store.describe(recipe, ", ".join(parts))
        yield ChunkShelf(store, recipe)
