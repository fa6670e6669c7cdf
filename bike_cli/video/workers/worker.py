"""The code that runs in a decode worker: a process that never imports torch and may be killed at any time."""

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
from bike_cli.errors import VideoError
from bike_cli.records import Failure, FrameTimes, Source
from bike_cli.video.content import digest_of
from bike_cli.video.decoding import decode
from bike_cli.video.workers.descriptors import STANDARD
from bike_cli.video.workers.processes import ENDING_SIGNALS
from bike_cli.video.workers.shared_memory import HandoverWriter

MIB = 2**20
SELF_TEST = Path(__file__).with_name("self_test.y4m")
STATM = Path("/proc/self/statm")


@dataclass(frozen=True)
class SharedClip:
    """A clip that a worker returns; its pixels are in shared memory.

    Args:
        shape: of the pixels, [K, T, H, W, 3].
        timeline, details: of the clip.
        decode_s: seconds that decoding took.
    """

    shape: tuple[int, ...]
    timeline: FrameTimes
    details: tuple[str, ...]
    decode_s: float


def set_up(memory_mib: int) -> None:
    """Prepare this process: it prints nothing, ends with its parent, and uses a limited amount of memory."""
    # The parent ends this process. A signal to the whole group must not look like a crash caused by the video.
    for number in ENDING_SIGNALS:
        signal.signal(number, signal.SIG_IGN)
    _print_nothing()
    _die_with_parent()
    _limit_memory(memory_mib)


def check(sampling: SamplingConfig, decoder: Decoder) -> None:
    """Decode a small intact video, to find out whether a worker can decode at all."""
    with suppress(VideoError):  # a decoder that rejects it still works
        decode(Source.at(SELF_TEST), sampling, decoder=decoder)


def read(
    source: Source, sampling: SamplingConfig, decoder: Decoder, path: str, dice: tuple[int, ...] | None = None
) -> SharedClip | Failure:
    """Decode a source, and write its pixels to the shared memory at `path`; `dice` seeds the jitter for training."""
    start_s = time.perf_counter()
    rng = None if dice is None else np.random.Generator(np.random.PCG64(dice))
    try:
        clip = decode(source, sampling, decoder=decoder, rng=rng)
    except VideoError as e:
        return Failure(source, e.kind, str(e), time.perf_counter() - start_s)
    _write(clip.frames, path)
    return SharedClip(clip.frames.shape, clip.timeline, clip.details, time.perf_counter() - start_s)


def digest(source: Source) -> bytes | Failure:
    """Return the digest of a source's content."""
    start_s = time.perf_counter()
    try:
        return digest_of(source)
    except VideoError as e:
        return Failure(source, e.kind, str(e), time.perf_counter() - start_s)


def _write(pixels: NDArray[np.uint8], path: str) -> None:
    writer = HandoverWriter(path)
    try:
        writer.write(pixels)
    finally:
        writer.close()


def _print_nothing() -> None:
    # Native decoders print directly to file descriptors.
    null = os.open(os.devnull, os.O_RDWR)
    for stream in STANDARD:
        os.dup2(null, stream)
    if null not in STANDARD:
        os.close(null)


def _die_with_parent() -> None:
    """End this process when its parent ends, even if the parent was killed or a decoder hangs."""
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

    # The kernel can only limit address space, not resident memory; libraries already use a part of it.
    try:
        used = int(STATM.read_text().split()[0]) * resource.getpagesize()
    except OSError:  # /proc is not mounted
        return
    limit = used + memory_mib * MIB
    _, hard = resource.getrlimit(resource.RLIMIT_AS)
    if hard != resource.RLIM_INFINITY:
        limit = min(limit, hard)
    resource.setrlimit(resource.RLIMIT_AS, (limit, hard))
    resource.setrlimit(resource.RLIMIT_CORE, (0, 0))  # no core dumps: crashes of decoders must not fill the disk
