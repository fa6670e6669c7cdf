"""What runs in a decode worker: a process that never imports torch and may be killed at any moment."""

from __future__ import annotations

import os
import signal
import sys
import threading
import time
from contextlib import suppress
from dataclasses import dataclass
from multiprocessing import connection, parent_process
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from bike_cli.config import Decoder, SamplingConfig
from bike_cli.errors import FailureKind, VideoError
from bike_cli.records import Source, Timeline
from bike_cli.video.content import digest_of
from bike_cli.video.decoding import decode
from bike_cli.video.workers.descriptors import STANDARD
from bike_cli.video.workers.processes import ENDING_SIGNALS

MIB = 2**20
SELF_TEST = Path(__file__).with_name("self_test.y4m")
STATM = Path("/proc/self/statm")


@dataclass(frozen=True)
class Parcel:
    """A clip on its way out of a worker; its pixels lie in shared memory.

    Args:
        shape: of the pixels, [K, T, H, W, 3].
        timeline, details: of the clip.
        spent_s: seconds that decoding took.
    """

    shape: tuple[int, ...]
    timeline: Timeline
    details: tuple[str, ...]
    spent_s: float


@dataclass(frozen=True)
class Refusal:
    """Why there is no clip; a VideoError that can travel."""

    kind: FailureKind
    message: str
    spent_s: float


class HandoverError(Exception):
    """The pixels of a clip could not be written to where the main process reads them."""


def set_up(memory_mib: int) -> None:
    """Make this process one that prints nothing, ends with its parent and takes no more than its share of memory."""
    # The parent ends it; a signal to the whole group must not look like a crash of the video.
    for number in ENDING_SIGNALS:
        signal.signal(number, signal.SIG_IGN)
    _print_nothing()
    _die_with_parent()
    _limit_memory(memory_mib)


def check(sampling: SamplingConfig, decoder: Decoder) -> None:
    """Decode a small video that is known to be intact, so that a worker that survives can decode at all."""
    with suppress(VideoError):  # a decoder that refuses it works all the same
        decode(Source.at(SELF_TEST), sampling, decoder=decoder)


def read(
    source: Source, sampling: SamplingConfig, decoder: Decoder, path: str, dice: tuple[int, ...] | None = None
) -> Parcel | Refusal:
    """Decode one source, and write its pixels to the shared memory at `path`; `dice` seed the jitter of training."""
    start_s = time.perf_counter()
    rng = None if dice is None else np.random.Generator(np.random.PCG64(dice))
    try:
        clip = decode(source, sampling, decoder=decoder, rng=rng)
    except VideoError as e:
        return Refusal(e.kind, str(e), time.perf_counter() - start_s)
    _write(clip.frames, path)
    return Parcel(clip.frames.shape, clip.timeline, clip.details, time.perf_counter() - start_s)


def digest(source: Source) -> bytes | Refusal:
    """Return the digest of a source's bytes."""
    start_s = time.perf_counter()
    try:
        return digest_of(source)
    except VideoError as e:
        return Refusal(e.kind, str(e), time.perf_counter() - start_s)


def _write(pixels: NDArray[np.uint8], path: str) -> None:
    left = np.ascontiguousarray(pixels).data.cast("B")
    try:
        handle = os.open(path, os.O_WRONLY | getattr(os, "O_BINARY", 0))  # Windows would translate line ends
        try:
            while left:
                left = left[os.write(handle, left) :]
        finally:
            os.close(handle)
    except OSError as e:
        raise HandoverError(e.strerror or str(e)) from e


def _print_nothing() -> None:
    # Native decoders print what they like, at the level of file descriptors.
    nowhere = os.open(os.devnull, os.O_RDWR)
    for stream in STANDARD:
        os.dup2(nowhere, stream)
    if nowhere not in STANDARD:
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
    try:
        import resource
    except ImportError:  # Python was built without it
        return

    # Address space, not resident memory, is what a kernel can limit; libraries take a part of it before any video.
    try:
        now = int(STATM.read_text().split()[0]) * resource.getpagesize()
    except OSError:  # /proc is not mounted
        return
    limit = now + memory_mib * MIB
    _, hard = resource.getrlimit(resource.RLIMIT_AS)
    if hard != resource.RLIM_INFINITY:
        limit = min(limit, hard)
    resource.setrlimit(resource.RLIMIT_AS, (limit, hard))
    resource.setrlimit(resource.RLIMIT_CORE, (0, 0))  # a crash of a decoder is no reason to fill the disk
