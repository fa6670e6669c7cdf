"""A baseline for decoding: decord, in processes that do nothing else."""

from __future__ import annotations

import multiprocessing
import time
from collections.abc import Sequence

import decord
import numpy as np

decord.logging.set_level(decord.logging.QUIET)


class BareDecode:
    """Processes that decode the same frames as bike, and discard them.

    Args:
        keyframes: of each frame, decode the nearest keyframe instead.
    """

    def __init__(self, processes: int, frames: int, *, keyframes: bool = False) -> None:
        self._pool = multiprocessing.get_context("spawn").Pool(processes)
        self._frames, self._keyframes = frames, keyframes
        self._pool.map(_read, [("", frames, keyframes)] * processes)  # wait for the processes to start

    def seconds(self, files: Sequence[str]) -> float:
        """Return the seconds that decoding all files takes."""
        start_s = time.perf_counter()
        for _ in self._pool.imap_unordered(_read, [(file, self._frames, self._keyframes) for file in files]):
            pass
        return time.perf_counter() - start_s

    def close(self) -> None:
        """End the processes."""
        self._pool.terminate()
        self._pool.join()


def _read(request: tuple[str, int, bool]) -> None:
    file, frames, keyframes = request
    if not file:
        return
    reader = decord.VideoReader(file, num_threads=1)
    positions = (len(reader) / frames * np.arange(frames)).astype(int)
    if keyframes:
        keys = np.array(reader.get_key_indices())
        positions = np.unique(keys[np.abs(keys[:, None] - positions).argmin(axis=0)])
    reader.get_batch(positions.tolist()).asnumpy()
