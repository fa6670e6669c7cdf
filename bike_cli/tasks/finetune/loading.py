"""Labelled videos become training batches: drawn, decoded and augmented ahead of the model.

Everything random about a video follows from the seed, the epoch and its place, whichever process, worker or batch it is
in. A resumed run, more workers or more GPUs therefore see the same pixels.
"""

from __future__ import annotations

import logging
import math
import threading
from collections import deque
from collections.abc import Iterable, Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import suppress
from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from bike_cli.engine.engine import Engine
from bike_cli.engine.towers.augmentation import Augmentation, augment
from bike_cli.engine.towers.transforms import to_cuda
from bike_cli.inference.processes import ProcessGroup
from bike_cli.records import Clip, Failure, Sample
from bike_cli.tasks.finetune.learner import Batch
from bike_cli.video.workers.pool import DecodePool

logger = logging.getLogger(__name__)

BATCHES_AHEAD = 2
CLIPS_PER_WORKER = 2  # being decoded, or waiting to be augmented
NO_VIDEO = -1  # a place without a video
ORDER, FRAMES, PIXELS = range(3)  # purposes of random numbers, as part of their seed


@dataclass(frozen=True, eq=False)
class LoadedBatch:
    """A batch, and the failures of the videos that this process could not read."""

    batch: Batch
    failures: tuple[Failure, ...]
    ready: torch.cuda.Event | None = None  # event after which the device has the pixels; None: it already has them


def plan_batches(
    epoch: int, labels: Sequence[int], *, batch_size: int, seed: int, balanced: bool, processes: int = 1
) -> list[list[int]]:
    """Return the batches of an epoch, as places among the samples.

    Their sizes differ by at most one video, so that no small batch is left over. For several processes, batches are
    padded with `NO_VIDEO` to a multiple of their number.

    Args:
        labels: of each sample.
        balanced: draw with replacement, each class equally often.
    """
    rng = np.random.Generator(np.random.PCG64([seed, epoch, ORDER]))
    if balanced:
        counts = np.bincount(labels)
        chances = 1 / counts[np.asarray(labels)]
        order = rng.choice(len(labels), size=len(labels), p=chances / chances.sum())
    else:
        order = rng.permutation(len(labels))
    batches = [batch.tolist() for batch in np.array_split(order, steps_per_epoch(len(labels), batch_size))]
    if processes == 1:
        return batches
    width = math.ceil(len(batches[0]) / processes) * processes
    return [batch + [NO_VIDEO] * (width - len(batch)) for batch in batches]


def steps_per_epoch(samples: int, batch_size: int) -> int:
    """Return the number of batches in an epoch."""
    return max(1, math.ceil(samples / batch_size))


def multi_hot(samples: Sequence[Sample], classes: int) -> Tensor:
    """Return the labels of samples as bool [N, C]."""
    present = torch.zeros(len(samples), classes, dtype=torch.bool)
    for row, sample in zip(present, samples, strict=True):
        row[list(sample.labels)] = True
    return present


def warn_once(failures: Iterable[Failure], reported: set[str]) -> None:
    """Log failures, except of videos with an id in `reported`, and add the ids to it."""
    for failure in failures:
        if failure.source.id not in reported:
            reported.add(failure.source.id)
            logger.warning("%s", failure.message)


class Loader:
    """Makes batches on the device, in a thread, while the model is trained.

    Args:
        classes: C, if videos have several labels; None: each has one.
        augmentation: None: the frames and the crop of inference.
    """

    def __init__(
        self,
        engine: Engine,
        samples: Sequence[Sample],
        pool: DecodePool,
        *,
        frames: int,
        seed: int,
        augmentation: Augmentation | None,
        classes: int | None = None,
        group: ProcessGroup | None = None,
    ) -> None:
        self._engine, self._samples, self._pool = engine, samples, pool
        self._frames, self._seed, self._augmentation = frames, seed, augmentation
        self._group = group or ProcessGroup()
        self._labels = (
            torch.tensor([sample.label for sample in samples]) if classes is None else multi_hot(samples, classes)
        )
        self._warned: set[str] = set()

    def batches(self, epoch: int, batches: Iterable[list[int]]) -> Iterator[LoadedBatch]:
        """Yield the planned batches of an epoch, in order. Close the iterator before the pool."""
        is_over = threading.Event()
        prepared = self._prepare_all(epoch, iter(batches), is_over)
        with ThreadPoolExecutor(1, thread_name_prefix="bike batches") as thread:
            pending = deque(thread.submit(next, prepared, None) for _ in range(BATCHES_AHEAD))
            try:
                while (loaded := pending.popleft().result()) is not None:
                    pending.append(thread.submit(next, prepared, None))
                    if loaded.ready is not None:
                        stream = torch.cuda.current_stream()
                        stream.wait_event(loaded.ready)
                        loaded.batch.pixels.record_stream(stream)
                    yield loaded
            finally:
                is_over.set()
                thread.shutdown(cancel_futures=True)

    # -- in the thread -------------------------------------------------------------------------------------------

    def _prepare_all(self, epoch: int, batches: Iterator[list[int]], is_over: threading.Event) -> Iterator[LoadedBatch]:
        """Make the batches one after the other, while clips of later ones are being decoded."""
        pending: deque[tuple[int, Future[Clip | Failure] | None]] = deque()
        requested: deque[list[int]] = deque()

        def request_clips() -> Iterator[bool]:
            """Request this process's clips from the pool, one for each item that is taken from this iterator."""
            for places in batches:
                requested.append(places)
                for place in self._own_places(places):
                    dice = None if self._augmentation is None else (self._seed, epoch, place, FRAMES)
                    source = self._samples[place].source
                    pending.append((place, None if place == NO_VIDEO else self._pool.decode(source, dice=dice)))
                    yield True

        requests = request_clips()
        window = CLIPS_PER_WORKER * self._pool.workers + 1

        def clips(count: int) -> Iterator[tuple[int, Clip | Failure | None]]:
            for _ in range(count):
                while len(pending) < window and next(requests, None) is not None:
                    pass
                place, future = pending.popleft()
                yield place, None if future is None else _outcome(future, is_over)

        while pending or next(requests, None) is not None:
            places = requested.popleft()
            yield self._prepare(epoch, places, clips(len(self._own_places(places))))

    def _own_places(self, places: list[int]) -> list[int]:
        rank, width = self._group.rank, len(places) // self._group.count
        return places[rank * width : (rank + 1) * width]

    def _prepare(
        self, epoch: int, places: list[int], clips: Iterable[tuple[int, Clip | Failure | None]]
    ) -> LoadedBatch:
        placement = self._engine.encoder.placement
        with placement.side_stream():
            videos: list[Tensor | None] = []
            failures = []
            for place, outcome in clips:
                if isinstance(outcome, Failure):
                    failures.append(outcome)
                videos.append(self._pixels(outcome, epoch, place) if isinstance(outcome, Clip) else None)
            return LoadedBatch(self._batch(places, videos), tuple(failures), placement.mark())

    def _pixels(self, clip: Clip, epoch: int, place: int) -> Tensor:
        """Return a clip as the model takes it, augmented: uint8 [T, 3, S, S]."""
        if clip.warning is not None and clip.source.id not in self._warned:
            self._warned.add(clip.source.id)
            logger.warning("%s: %s", clip.source.id, clip.warning)
        frames = _repeat_frames(clip.frames[0], self._frames)
        encoder = self._engine.encoder
        if self._augmentation is None:
            return encoder.pixels(frames)
        device = encoder.placement.device
        pixels = to_cuda(frames, device) if device.type == "cuda" else torch.from_numpy(frames).to(device)
        rng = np.random.Generator(np.random.PCG64([self._seed, epoch, place, PIXELS]))
        return augment(pixels, encoder.recipe, self._augmentation, rng)

    def _batch(self, places: list[int], videos: list[Tensor | None]) -> Batch:
        side, device = self._engine.encoder.recipe.side, self._engine.encoder.placement.device
        blank = torch.zeros(self._frames, 3, side, side, dtype=torch.uint8, device=device)
        present = torch.tensor([video is not None for video in videos])
        labels = self._labels[[max(place, 0) for place in places]]
        if self._group.count == 1:  # other processes would wait for the missing rows
            videos, labels = [video for video in videos if video is not None], labels[present]
            present = present[present]
        pixels = [blank if video is None else video for video in videos]
        return Batch(labels, torch.stack(pixels) if pixels else blank[None][:0], present)


def _repeat_frames(frames: NDArray[np.uint8], count: int) -> NDArray[np.uint8]:
    """Return `count` frames, repeating some of them if there are fewer."""
    return frames if len(frames) == count else frames[np.arange(count) * len(frames) // count]


def _outcome(future: Future[Clip | Failure], is_over: threading.Event) -> Clip | Failure | None:
    """Return the outcome of decoding a video; None once nobody needs it any more."""
    while not is_over.is_set():
        with suppress(TimeoutError):
            return future.result(timeout=0.5)
    return None
