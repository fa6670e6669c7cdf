"""What runs in a decode worker: a process that never imports torch and may be killed at any moment."""

from __future__ import annotations

import os
import signal
import sys
import threading
import time
from dataclasses import dataclass
from multiprocessing import connection, parent_process

import numpy as np
from numpy.typing import NDArray

from bike_cli.config import Decoder, SamplingConfig
from bike_cli.errors import FailureKind, VideoError
from bike_cli.records import Source
from bike_cli.video.content import digest_of
from bike_cli.video.decoding import decode

MIB = 2**20


@dataclass(frozen=True)
class Parcel:
    """A clip on its way out of a worker; its pixels lie in shared memory.

    Args:
        shape: of the pixels, [K, T, H, W, 3].
        spent_s: seconds that decoding took.
        details: how the source was read, for the log of `-v`.
    """

    shape: tuple[int, ...]
    times_s: NDArray[np.float64]
    duration_s: float | None
    warning: str | None
    positions: NDArray[np.int64] | None
    spent_s: float
    details: tuple[str, ...] = ()


@dataclass(frozen=True)
class Refusal:
    """Why there is no clip; a VideoError that can travel."""

    kind: FailureKind
    message: str
    spent_s: float


def set_up(memory_mib: int) -> None:
    """Make this process one that dies quickly, prints nothing and takes no more than its share of memory."""
    # Killed at once: a Python handler would wait for native code that may never come back.
    signal.signal(signal.SIGTERM, signal.SIG_DFL)
    _print_nothing()
    _die_with_parent()
    _limit_memory(memory_mib)


def read(
    source: Source, sampling: SamplingConfig, decoder: Decoder, path: str, dice: tuple[int, ...] | None = None
) -> Parcel | Refusal:
    """Decode one source, and write its pixels to the shared memory at `path`; `dice` seed the jitter of training."""
    start_s = time.perf_counter()
    rng = None if dice is None else np.random.Generator(np.random.PCG64(dice))
    try:
        clip = decode(source, sampling, decoder=decoder, rng=rng)
        _write(clip.frames, path)
    except VideoError as e:
        return Refusal(e.kind, str(e), time.perf_counter() - start_s)
    spent_s = time.perf_counter() - start_s
    return Parcel(clip.frames.shape, clip.times_s, clip.duration_s, clip.warning, clip.positions, spent_s, clip.details)


def digest(source: Source) -> bytes | Refusal:
    """Return the digest of a source's bytes."""
    start_s = time.perf_counter()
    try:
        return digest_of(source)
    except VideoError as e:
        return Refusal(e.kind, str(e), time.perf_counter() - start_s)


def _write(pixels: NDArray[np.uint8], path: str) -> None:
    left = np.ascontiguousarray(pixels).data.cast("B")
    handle = os.open(path, os.O_WRONLY)
    try:
        while left:
            left = left[os.write(handle, left) :]
    finally:
        os.close(handle)


def _print_nothing() -> None:
    # Native decoders print what they like, at the level of file descriptors.
    nowhere = os.open(os.devnull, os.O_RDWR)
    for stream in (0, 1, 2):
        os.dup2(nowhere, stream)
    os.close(nowhere)


def _die_with_parent() -> None:
    """End when the process that wants the clips is gone, even if it was killed and even in the middle of a hang."""
    parent = parent_process()
    if parent is None:
        return
    sentinel = parent.sentinel

    def watch() -> None:
        connection.wait([sentinel])
        os.kill(os.getpid(), signal.SIGKILL if hasattr(signal, "SIGKILL") else signal.SIGTERM)

    threading.Thread(target=watch, daemon=True).start()


def _limit_memory(memory_mib: int) -> None:
    if sys.platform != "linux":  # macOS ignores the limit, Windows has none
        return
    import resource

    # Address space, not resident memory, is what a kernel can limit; libraries take a part of it before any video.
    with open("/proc/self/statm") as file:  # noqa: PTH123
        now = int(file.read().split()[0]) * resource.getpagesize()
    limit = now + memory_mib * MIB
    _, hard = resource.getrlimit(resource.RLIMIT_AS)
    if hard != resource.RLIM_INFINITY:
        limit = min(limit, hard)
    resource.setrlimit(resource.RLIMIT_AS, (limit, hard))
    resource.setrlimit(resource.RLIMIT_CORE, (0, 0))  # a crash of a decoder is no reason to fill the disk
