"""Decoded clips that wait for the image tower, which takes them in batches."""

from __future__ import annotations

from collections import deque
from typing import Generic, TypeVar

from bike_cli.config import SamplingConfig
from bike_cli.engine.engine import Engine
from bike_cli.video.workers.machine import clips_with_open_files

KEYFRAMES = 2  # that a clip is expected to have; most have more, and fill a batch sooner

Item = TypeVar("Item")


class ClipQueue(Generic[Item]):
    """Clips in the order of their arrival, which leave in batches of as many frames as the device encodes at once.

    Elsewhere than on CUDA, a batch is one clip: a CPU gains nothing from more, and a person waits for the first answer.
    """

    def __init__(self, engine: Engine, sampling: SamplingConfig) -> None:
        self._engine, self._sampling = engine, sampling
        self._clips: deque[tuple[Item, int]] = deque()
        self._frames = 0  # of all clips

    def __len__(self) -> int:
        return len(self._clips)

    @property
    def is_full(self) -> bool:
        """Whether there are enough clips for a batch."""
        return self._frames >= self._frames_per_batch

    def add(self, clip: Item, frames: int) -> None:
        """Add a clip with a number of frames, of all its crops."""
        self._clips.append((clip, frames))
        self._frames += frames

    def take(self) -> list[Item]:
        """Remove and return the clips of the next batch; a single one may have more frames than a batch."""
        batch: list[Item] = []
        left = self._frames_per_batch
        while self._clips and (not batch or self._clips[0][1] <= left):
            clip, frames = self._clips.popleft()
            batch.append(clip)
            left -= frames
            self._frames -= frames
        return batch

    def room(self, workers: int, per_worker: int) -> int:
        """Return how many clips may be in flight: in the workers, in a batch on the GPU and in the next one."""
        needed = per_worker * (workers + 1)
        frames = KEYFRAMES if self._sampling.sampling == "keyframe" else self._sampling.frames
        in_batches = 2 * (self._frames_per_batch // (frames * self._sampling.clips * self._sampling.crops))
        return max(needed, min(needed + in_batches, clips_with_open_files(workers)))

    @property
    def _frames_per_batch(self) -> int:
        encoder = self._engine.encoder
        return encoder.batches.at_once if encoder.placement.device.type == "cuda" else 1
