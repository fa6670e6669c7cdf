"""The code of a worker process that streams the frames of one video.

The parent sends the names of shared memory, one for each batch that the worker may fill; the worker answers with what
it wrote, with signs of progress while it has nothing to send, and with the outcome.
"""

from __future__ import annotations

import time
from dataclasses import dataclass, replace
from multiprocessing.connection import Connection
from types import TracebackType
from typing import Literal, TypeAlias

import numpy as np
from numpy.typing import NDArray

from bike_cli.config import SamplingConfig
from bike_cli.errors import VideoError
from bike_cli.records import Failure, Source
from bike_cli.video.streams.outcomes import BinFrame, Outcome
from bike_cli.video.streams.parts import split_request
from bike_cli.video.streams.reading import read_frames
from bike_cli.video.streams.values import StreamRequest
from bike_cli.video.workers import worker
from bike_cli.video.workers.failures import describe_error
from bike_cli.video.workers.shared_memory import HandoverError, HandoverWriter

BATCH_BYTES = 64 * 2**20
BATCH_FRAMES = 64
_STEPS = 100  # packets or images between two looks at the clock
_PROGRESS_S = 1.0  # between two signs of progress, at least
_OF_LIMIT = 0.1  # the same as a share of the time limit


@dataclass(frozen=True)
class SharedBatch:
    """A batch in shared memory: the shape of its pixels, [B, H, W, 3], and its bins."""

    shape: tuple[int, ...]
    bins: list[tuple[int, int]]


@dataclass(frozen=True)
class Progress:
    """A sign that the worker does not hang."""


@dataclass(frozen=True)
class Problem:
    """Why the worker ends, if not by a fault of the video."""

    kind: Literal["out_of_memory", "internal", "no_room"]
    text: str = ""


Message: TypeAlias = SharedBatch | Progress | Outcome | Failure | Problem | list[StreamRequest] | None


@dataclass(frozen=True)
class Limits:
    """What a worker may use: seconds without a message, and memory."""

    timeout_s: float
    memory_mib: int


def stream(link: Connection, source: Source, request: StreamRequest, limits: Limits) -> None:
    """Send the frames of a video, then the outcome or a failure."""
    with _Parent(link, source, limits) as parent:
        batch = _BatchWriter(parent)
        for item in read_frames(source, request, step=parent.step):
            if isinstance(item, BinFrame):
                batch.add(item)
            else:
                batch.send()
                parent.send(replace(item, decode_s=parent.busy_s))


def split(link: Connection, source: Source, request: StreamRequest, parts: int, limits: Limits) -> None:
    """Send a request in parts."""
    with _Parent(link, source, limits) as parent:
        parent.send(split_request(source, request, parts, step=parent.step))


def check(link: Connection, source: Source, limits: Limits) -> None:
    """Decode a small intact video, to find out whether a worker can decode at all; send None if it can."""
    with _Parent(link, source, limits) as parent:
        worker.check(SamplingConfig(frames=1), "auto")
        parent.send(None)


class _ParentGoneError(Exception):
    """The parent closed its end of the connection."""


class _Parent:
    """The parent of this process, which hears of every error within the context.

    Attributes:
        busy_s: seconds of work since the start of the context.
    """

    def __init__(self, link: Connection, source: Source, limits: Limits) -> None:
        self._link, self._source, self._limits = link, source, limits
        self._progress_s = min(_PROGRESS_S, _OF_LIMIT * limits.timeout_s)
        self._steps = 0
        self._waited_s = 0.0
        self._started_s = self._sent_s = time.monotonic()

    @property
    def busy_s(self) -> float:
        return time.monotonic() - self._started_s - self._waited_s

    def __enter__(self) -> _Parent:
        worker.set_up(self._limits.memory_mib)
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> bool:
        if error is None or isinstance(error, _ParentGoneError):
            return True
        if isinstance(error, VideoError):
            message: Message = Failure(self._source, error.kind, str(error), self.busy_s)
        elif isinstance(error, MemoryError):
            message = Problem("out_of_memory")
        elif isinstance(error, HandoverError):
            message = Problem("no_room", str(error))
        elif isinstance(error, Exception):
            message = Problem("internal", describe_error(error))
        else:
            return False
        self.send(message)
        return True

    def step(self) -> None:
        """Count a step of work; send a sign of progress now and then."""
        self._steps += 1
        if self._steps % _STEPS == 0 and time.monotonic() - self._sent_s > self._progress_s:
            self.send(Progress())

    def send(self, message: Message) -> None:
        try:
            self._link.send(message)
        except OSError as e:
            raise _ParentGoneError from e
        self._sent_s = time.monotonic()

    def next_path(self) -> str:
        """Wait until another batch may be filled; return the path of its memory."""
        start_s = time.monotonic()
        try:
            path: str = self._link.recv()
        except (EOFError, OSError) as e:
            raise _ParentGoneError from e
        self._waited_s += time.monotonic() - start_s
        return path


class _BatchWriter:
    """Writes frames to shared memory, and sends a batch once it is full."""

    def __init__(self, parent: _Parent) -> None:
        self._parent = parent
        self._writer: HandoverWriter | None = None
        self._bins: list[tuple[int, int]] = []
        self._shape: tuple[int, ...] = ()

    def add(self, frame: BinFrame) -> None:
        pixels = np.ascontiguousarray(frame.pixels)
        if self._writer is None:
            self._writer = HandoverWriter(self._parent.next_path())
            self._shape = pixels.shape
        self._writer.write(pixels)
        self._bins.append((frame.first_bin, frame.end_bin))
        if len(self._bins) >= _frames_per_batch(pixels):
            self.send()

    def send(self) -> None:
        if self._writer is None:
            return
        self._writer.close()
        self._parent.send(SharedBatch((len(self._bins), *self._shape), self._bins))
        self._writer, self._bins = None, []


def _frames_per_batch(pixels: NDArray[np.uint8]) -> int:
    return max(1, min(BATCH_FRAMES, BATCH_BYTES // max(1, pixels.nbytes)))
