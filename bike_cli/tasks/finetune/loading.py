"""Labelled videos become batches to learn from: drawn, decoded and varied ahead of the model.

Everything random about a video follows from the seed, the epoch and its place, whatever process, worker or batch it is
in: so a resumed run, more workers or more GPUs see the same pixels.
"""

from __future__ import annotations

import logging
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
from bike_cli.inference.processes import Processes
from bike_cli.records import Clip, Failure, Sample
from bike_cli.tasks.finetune.learner import Batch
from bike_cli.video.workers.pool import Decoded, DecodePool

logger = logging.getLogger(__name__)

AHEAD = 2  # batches that lie ready
CLIPS_A_WORKER = 2  # that are decoded or wait to be varied
NOTHING = -1  # a place that no video is at
ORDER, FRAMES, PIXELS = range(3)  # what dice are for


@dataclass(frozen=True)
class Plan:
    """A batch to be.

    Args:
        places: among the samples, of all processes; a multiple of their number, filled up with `NOTHING`.
    """

    epoch: int
    places: tuple[int, ...]


@dataclass(frozen=True, eq=False)
class Loaded:
    """A batch, and what of it could not be read in this process."""

    batch: Batch
    failures: tuple[Failure, ...]


@dataclass(frozen=True, eq=False)
class _Ready:
    loaded: Loaded
    event: torch.cuda.Event | None


def plans_of(
    epoch: int, labels: Sequence[int], *, batch_size: int, seed: int, balanced: bool, processes: int = 1
) -> list[Plan]:
    """Return the batches of an epoch, alike in size to one video: none is so small that it teaches little.

    Args:
        labels: of each sample.
        balanced: samples are drawn with repetition, each class as often as any other.
    """
    dice = np.random.Generator(np.random.PCG64([seed, epoch, ORDER]))
    if balanced:
        counts = np.bincount(labels)
        chances = 1 / counts[np.asarray(labels)]
        order = dice.choice(len(labels), size=len(labels), p=chances / chances.sum())
    else:
        order = dice.permutation(len(labels))
    batches = np.array_split(order, steps_of(len(labels), batch_size))
    width = -(-len(batches[0]) // processes) * processes
    return [_plan(epoch, batch.tolist(), width if processes > 1 else len(batch)) for batch in batches]


def steps_of(samples: int, batch_size: int) -> int:
    """Return how many batches an epoch has."""
    return max(1, -(-samples // batch_size))


def _plan(epoch: int, places: list[int], width: int) -> Plan:
    return Plan(epoch, tuple(places + [NOTHING] * (width - len(places))))


class Loader:
    """Batches on the device, made in a thread while the model learns.

    Args:
        classes: C, where videos have several labels; None: each has one.
        augmentation: None: the evaluation's crop of the evaluation's frames.
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
        processes: Processes | None = None,
    ) -> None:
        self._engine, self._samples, self._pool = engine, samples, pool
        self._frames, self._seed, self._augmentation = frames, seed, augmentation
        self._processes = processes or Processes()
        self._labels = _labels(samples, classes)
        self._told: set[str] = set()

    def batches(self, plans: Iterable[Plan]) -> Iterator[Loaded]:
        """Yield the batches of these plans, in their order; close it before the pool."""
        ended = threading.Event()
        made = self._all_made(iter(plans), ended)
        with ThreadPoolExecutor(1, thread_name_prefix="bike batches") as thread:
            coming = deque(thread.submit(next, made, None) for _ in range(AHEAD))
            try:
                while (ready := coming.popleft().result()) is not None:
                    coming.append(thread.submit(next, made, None))
                    yield self._received(ready)
            finally:
                ended.set()
                thread.shutdown(cancel_futures=True)

    def _received(self, ready: _Ready) -> Loaded:
        if ready.event is not None:
            stream = torch.cuda.current_stream()
            stream.wait_event(ready.event)
            ready.loaded.batch.pixels.record_stream(stream)
        return ready.loaded

    # -- in the thread -------------------------------------------------------------------------------------------

    def _all_made(self, plans: Iterator[Plan], ended: threading.Event) -> Iterator[_Ready]:
        """Make one batch after the other, with more clips under way than are in it."""
        coming: deque[tuple[int, Future[Decoded] | None]] = deque()
        asked: deque[Plan] = deque()
        asking = self._asked(plans, asked, coming)
        window = CLIPS_A_WORKER * self._pool.workers + 1

        def clips(count: int) -> Iterator[tuple[int, Clip | Failure | None]]:
            for _ in range(count):
                while len(coming) < window and next(asking, None) is not None:
                    pass
                place, future = coming.popleft()
                yield place, None if future is None else _outcome(future, ended)

        while coming or next(asking, None) is not None:
            plan = asked.popleft()
            yield self._made(plan, clips(len(self._own(plan))))

    def _asked(
        self, plans: Iterator[Plan], asked: deque[Plan], coming: deque[tuple[int, Future[Decoded] | None]]
    ) -> Iterator[bool]:
        """Ask for one clip after the other of this process's places."""
        for plan in plans:
            asked.append(plan)
            for place in self._own(plan):
                dice = None if self._augmentation is None else (self._seed, plan.epoch, place, FRAMES)
                source = self._samples[place].source
                coming.append((place, None if place == NOTHING else self._pool.decode(source, dice=dice)))
                yield True

    def _own(self, plan: Plan) -> tuple[int, ...]:
        rank, width = self._processes.rank, len(plan.places) // self._processes.count
        return plan.places[rank * width : (rank + 1) * width]

    def _made(self, plan: Plan, clips: Iterable[tuple[int, Clip | Failure | None]]) -> _Ready:
        placement = self._engine.encoder.placement
        with placement.side_stream():
            seen: list[Tensor | None] = []
            failures = []
            for place, outcome in clips:
                if isinstance(outcome, Failure):
                    failures.append(outcome)
                seen.append(self._varied(outcome, plan.epoch, place) if isinstance(outcome, Clip) else None)
            loaded = Loaded(self._batch(plan, seen), tuple(failures))
            return _Ready(loaded, placement.mark())

    def _varied(self, clip: Clip, epoch: int, place: int) -> Tensor:
        """Return a clip as the model sees it: uint8 [T, 3, S, S]."""
        if clip.warning is not None and clip.source.id not in self._told:
            self._told.add(clip.source.id)
            logger.warning("%s: %s", clip.source.id, clip.warning)
        frames = _of_length(clip.frames[0], self._frames)
        encoder = self._engine.encoder
        if self._augmentation is None:
            return encoder.pixels(frames)
        device = encoder.placement.device
        there = to_cuda(frames, device) if device.type == "cuda" else torch.from_numpy(frames).to(device)
        dice = np.random.Generator(np.random.PCG64([self._seed, epoch, place, PIXELS]))
        return augment(there, encoder.recipe, self._augmentation, dice)

    def _batch(self, plan: Plan, seen: list[Tensor | None]) -> Batch:
        side, device = self._engine.encoder.recipe.side, self._engine.encoder.placement.device
        nothing = torch.zeros(self._frames, 3, side, side, dtype=torch.uint8, device=device)
        present = torch.tensor([one is not None for one in seen])
        labels = self._labels[[max(place, 0) for place in plan.places]]
        if self._processes.count == 1:  # others wait for as many rows
            seen, labels = [one for one in seen if one is not None], labels[present]
            present = present[present]
        pixels = [nothing if one is None else one for one in seen]
        return Batch(labels, torch.stack(pixels) if pixels else nothing[None][:0], present)


def _of_length(frames: NDArray[np.uint8], count: int) -> NDArray[np.uint8]:
    """Return so many frames, some of them more than once where there are fewer."""
    return frames if len(frames) == count else frames[np.arange(count) * len(frames) // count]


def _labels(samples: Sequence[Sample], classes: int | None) -> Tensor:
    if classes is None:
        return torch.tensor([sample.label for sample in samples])
    present = torch.zeros(len(samples), classes, dtype=torch.bool)
    for row, sample in zip(present, samples, strict=True):
        row[list(sample.labels)] = True
    return present


def _outcome(future: Future[Decoded], ended: threading.Event) -> Clip | Failure | None:
    """Return what came of a video; None where nobody waits for it any more."""
    while not ended.is_set():
        with suppress(TimeoutError):
            return future.result(timeout=0.5).outcome
    return None
