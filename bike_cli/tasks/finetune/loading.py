"""Labelled videos become training batches: drawn, decoded and augmented ahead of the model.

Everything random about a video follows from the seed, the epoch and its place, whichever process, worker or batch it is
in. A resumed run, more workers or more GPUs therefore see the same pixels.
"""

from __future__ import annotations

import logging
import math
from collections import deque
from collections.abc import Iterable, Iterator, Sequence
from concurrent.futures import FIRST_COMPLETED, Future, ThreadPoolExecutor, wait
from itertools import islice
from typing import TYPE_CHECKING

import numpy as np
import torch
from torch import Tensor

from bike_cli.engine.towers.augmentation import augment
from bike_cli.engine.towers.transforms import to_cuda
from bike_cli.inference.processes import ProcessGroup
from bike_cli.records import Clip, Failure, Sample
from bike_cli.tasks.finetune.learner import Batch
from bike_cli.video.workers.pool import DecodePool

if TYPE_CHECKING:
    from bike_cli.tasks.finetune.plan import RunPlan

logger = logging.getLogger(__name__)

BATCHES_AHEAD = 2
CLIPS_PER_WORKER = 2  # being decoded, or waiting to be augmented
NO_VIDEO = -1  # a place without a video
ORDER, FRAMES, PIXELS = range(3)  # purposes of random numbers, as part of their seed


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
    """Makes batches on the device, in a thread, while the model is trained."""

    def __init__(self, plan: RunPlan, pool: DecodePool, group: ProcessGroup) -> None:
        self._samples, self._encoder, self._pool, self._group = plan.train, plan.engine.encoder, pool, group
        self._frames, self._seed = plan.config.sampling.frames, plan.config.learning.seed
        self._augmentation = plan.augmentation  # None: the frames and the crop of inference
        if plan.labelled.multi_label:
            self._labels = multi_hot(self._samples, len(plan.labelled.labels))
        else:
            self._labels = torch.tensor([sample.label for sample in self._samples])
        self._warned: set[str] = set()

    def batches(self, epoch: int, batches: Sequence[list[int]]) -> Iterator[Batch]:
        """Yield the planned batches of an epoch, in order. Close the iterator before the pool."""
        is_over: Future[None] = Future()
        loaded = self._load(epoch, batches, is_over)
        with ThreadPoolExecutor(1, thread_name_prefix="bike batches") as thread:
            pending = deque(thread.submit(next, loaded, None) for _ in range(BATCHES_AHEAD))
            try:
                while (batch := pending.popleft().result()) is not None:
                    pending.append(thread.submit(next, loaded, None))
                    if batch.ready is not None:
                        stream = torch.cuda.current_stream()
                        stream.wait_event(batch.ready)
                        batch.pixels.record_stream(stream)
                    yield batch
            finally:
                is_over.set_result(None)
                thread.shutdown(cancel_futures=True)

    # -- in the thread -------------------------------------------------------------------------------------------

    def _load(self, epoch: int, batches: Sequence[list[int]], is_over: Future[None]) -> Iterator[Batch]:
        """Make the batches one after the other, while clips of later ones are being decoded; end once it is over."""
        placement, side = self._encoder.placement, self._encoder.recipe.side
        rank, count = self._group.rank, self._group.count
        shards = [places[rank * len(places) // count : (rank + 1) * len(places) // count] for places in batches]
        varies = self._augmentation is not None
        requests = (
            self._pool.decode(self._samples[place].source, dice=(self._seed, epoch, place, FRAMES) if varies else None)
            for shard in shards
            for place in shard
            if place != NO_VIDEO
        )
        decoding: deque[Future[Clip | Failure]] = deque()
        for places, shard in zip(batches, shards, strict=True):
            videos: list[Tensor | None] = [None] * len(shard)
            failures: list[Failure] = []
            with placement.side_stream():
                for i, place in enumerate(shard):
                    if place == NO_VIDEO:
                        continue
                    decoding.extend(islice(requests, CLIPS_PER_WORKER * self._pool.workers + 1 - len(decoding)))
                    future = decoding.popleft()
                    wait((future, is_over), return_when=FIRST_COMPLETED)  # type: ignore[misc]
                    if is_over.done():
                        return
                    outcome = future.result()
                    if isinstance(outcome, Failure):
                        failures.append(outcome)
                    else:
                        videos[i] = self._pixels(outcome, epoch, place)
                if count == 1:  # other processes would wait for the missing rows
                    places = [place for place, video in zip(places, videos, strict=True) if video is not None]
                    videos = [video for video in videos if video is not None]
                blank = torch.zeros(self._frames, 3, side, side, dtype=torch.uint8, device=placement.device)
                pixels = [blank if video is None else video for video in videos]
                batch = Batch(
                    labels=self._labels[[max(place, 0) for place in places]],
                    pixels=torch.stack(pixels) if pixels else blank[None][:0],
                    present=torch.tensor([video is not None for video in videos], dtype=torch.bool),
                    failures=tuple(failures),
                    ready=placement.mark(),
                )
            yield batch

    def _pixels(self, clip: Clip, epoch: int, place: int) -> Tensor:
        """Return a clip as the model takes it, augmented: uint8 [T, 3, S, S]."""
        if clip.warning is not None and clip.source.id not in self._warned:
            self._warned.add(clip.source.id)
            logger.warning("%s: %s", clip.source.id, clip.warning)
        frames = clip.frames[0]
        if len(frames) != self._frames:  # a short video repeats some of its frames
            frames = frames[np.arange(self._frames) * len(frames) // self._frames]
        if self._augmentation is None:
            return self._encoder.pixels(frames)
        device = self._encoder.placement.device
        pixels = to_cuda([frames], device) if device.type == "cuda" else torch.from_numpy(frames).to(device)
        rng = np.random.Generator(np.random.PCG64([self._seed, epoch, place, PIXELS]))
        return augment(pixels, self._encoder.recipe, self._augmentation, rng)
