"""Stream frames from worker processes that can be killed: one process for each video, or part of a video.

A worker may fill at most two batches: one that the caller works on, and the next one. So memory is bounded even if the
caller is slow. A worker that crashes is replaced once by one that continues where it stopped.
"""

from __future__ import annotations

import weakref
from collections.abc import Iterator
from contextlib import closing, suppress
from dataclasses import replace
from types import TracebackType
from typing import TypeAlias

import numpy as np

from bike_cli.config import DecodingConfig
from bike_cli.errors import WorkerError
from bike_cli.records import Failure, Source
from bike_cli.video.streams.outcomes import Outcome
from bike_cli.video.streams.values import FrameBatch, StreamEnd, StreamRequest
from bike_cli.video.workers import stream_worker
from bike_cli.video.workers.failures import (
    crashed,
    failed_internally,
    no_room,
    no_workers,
    out_of_memory,
    timed_out,
)
from bike_cli.video.workers.pool import CHECK_S, CRASHES
from bike_cli.video.workers.stream_worker import Limits, Message, Problem, SharedBatch
from bike_cli.video.workers.worker_process import WorkerProcess

_EXIT_S = 5.0  # time for a crashed process to end: a core dump takes longer than closing its connection
BATCHES = 2  # that a worker may fill before the caller is done with the first one

Event: TypeAlias = FrameBatch | StreamEnd | Failure


class FrameStream(Iterator[Event]):
    """The frames of one video, from a worker process that starts at once and dies with this object.

    It yields batches, and then either the end of the stream or a failure, which may also come after some batches.

    Args:
        decoding: `decode_memory` limits the worker; `decode_timeout` is the time for each batch, and for each 100
            packets that yield no frame. Its decoder is always PyAV.
    Raises:
        WorkerError: no worker can decode, or there is no room for frames; also while it is read.
    """

    def __init__(self, source: Source, request: StreamRequest, decoding: DecodingConfig) -> None:
        self.source, self.request = source, request
        self._decoding = decoding
        self._filled: list[tuple[int, int]] = []  # bins, those in a row as one
        self._crashes = 0
        self._is_over = False
        self._worker = self._start()

    def __enter__(self) -> FrameStream:
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, _: TracebackType | None) -> None:
        self.close()

    def __next__(self) -> Event:
        while not self._is_over:
            self._allow_batch()  # the caller is done with the one that it took last
            if not self._worker.link.poll(self._decoding.decode_timeout):
                work, remedy = "to decode the next frames", "use --draft"
                return self._end(timed_out(self.source, self._decoding.decode_timeout, work=work, remedy=remedy))
            event = self._take_event()
            if event is not None:
                return event
        raise StopIteration

    def close(self) -> None:
        """Kill the worker; nothing further is yielded."""
        self._is_over = True
        self._worker.end()

    def _allow_batch(self) -> None:
        try:
            self._worker.allow_batches(BATCHES)
        except WorkerError:
            self.close()
            raise

    def _take_event(self) -> Event | None:
        """Return the next event; None after a sign of progress, or if another worker continues."""
        try:
            message: Message = self._worker.link.recv()
        except (EOFError, OSError):
            return self._replace_worker()
        if isinstance(message, SharedBatch):
            return self._batch(message)
        if isinstance(message, Outcome):
            return self._end(message.stream_end(self.request, self._filled))
        if isinstance(message, Failure):
            return self._end(message)
        return self._refuse(message) if isinstance(message, Problem) else None

    # -- what a worker sends ---------------------------------------------------------------------------------------

    def _batch(self, message: SharedBatch) -> Event:
        try:
            frames = self._worker.pixels(message.shape)
        except (OSError, ValueError, MemoryError) as e:
            text = f"{self.source.id}: its frames cannot be received from the worker ({e}); free some memory"
            return self._end(Failure(self.source, "out_of_memory", text))
        for first, end in message.bins:
            if self._filled and self._filled[-1][1] == first:
                first = self._filled.pop()[0]
            self._filled.append((first, end))
        return FrameBatch(frames, np.array(message.bins, np.int64))

    def _refuse(self, problem: Problem) -> Event:
        if problem.kind == "no_room":
            self.close()
            raise no_room(problem.text)
        if problem.kind == "out_of_memory":
            return self._end(
                out_of_memory(self.source, self._decoding.decode_memory, remedy="convert the video to a smaller size")
            )
        self._check_workers(problem.text)
        return self._end(failed_internally(self.source, problem.text))

    def _replace_worker(self) -> Failure | None:
        """Start another worker that continues where this one crashed; return a failure after the last attempt."""
        end = self._worker.end(grace_s=_EXIT_S)
        self._crashes += 1
        if self._crashes < CRASHES:
            self._worker = self._start()
            return None
        self._check_workers(end)
        self._end(failure := crashed(self.source, end))
        return failure

    def _end(self, event: StreamEnd | Failure) -> StreamEnd | Failure:
        self.close()
        return event

    def _start(self) -> WorkerProcess:
        first = self._filled[-1][1] if self._filled else self.request.first_bin
        request = replace(self.request, first_bin=first)
        worker = WorkerProcess(stream_worker.stream, self.source, request, _limits(self._decoding))
        weakref.finalize(self, worker.end)
        worker.allow_batches(BATCHES)
        return worker

    def _check_workers(self, reason: str) -> None:
        """Raise WorkerError if a worker cannot even decode a video that is known to be intact."""
        self.close()
        with closing(WorkerProcess(stream_worker.check, self.source, _limits(self._decoding))) as checking:
            try:
                can_decode = checking.link.poll(CHECK_S) and checking.link.recv() is None
            except (EOFError, OSError):
                can_decode = False
        if not can_decode:
            raise no_workers(reason)


def _limits(decoding: DecodingConfig) -> Limits:
    return Limits(decoding.decode_timeout, decoding.decode_memory)


def split(source: Source, request: StreamRequest, parts: int, decoding: DecodingConfig) -> list[StreamRequest]:
    """Return at most `parts` requests that together have the bins of one, to be streamed by several workers.

    The packets of the file are read in a worker process, without decoding. A file in which decoding cannot start in the
    middle, or that cannot be read within the limits, is not split: streaming it then reports why.

    Raises:
        WorkerError: no process can be started.
    """
    if parts < 2:
        return [request]
    worker = WorkerProcess(stream_worker.split, source, request, parts, _limits(decoding))
    with closing(worker), suppress(EOFError, OSError):  # it crashed
        while worker.link.poll(decoding.decode_timeout):
            message: Message = worker.link.recv()
            if isinstance(message, list):
                return message
            if isinstance(message, Problem):
                break
    return [request]
