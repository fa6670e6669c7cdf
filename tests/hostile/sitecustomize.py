"""A decoder and a cutter that do to a worker what hostile videos do, told by the names of files.

A stream of a file with "later" in its name does so after its first batch, and "once" only as long as the file next to
it with the ending `.once` exists. One that "dawdles" takes 3 s before its first frame.

Python imports this module at its start where this folder is on PYTHONPATH; only decode workers are changed. HOSTILE
names what goes wrong with every video: workers end at once (`start`), or a bug keeps them from decoding (`bug`).
"""

import ctypes
import os
import sys
import time
from pathlib import Path
from typing import Any

import numpy as np


def behave(name: str) -> None:
    """Do what the name of a video says."""
    if "hangs" in name:
        ctypes.CDLL(None).pause()  # in native code, where no Python signal handler runs
    if "spins" in name:
        while True:
            pass
    if "segfaults" in name:
        ctypes.string_at(0)
    if "is_killed" in name:
        os.kill(os.getpid(), 9)
    if "leaves" in name:
        os._exit(7)
    if "eats" in name:
        eaten = []
        while True:
            eaten.append(np.empty(2**24, np.uint8))  # not filled: the limit is one of address space
    if "floods" in name:
        for _ in range(20_000):
            os.write(1, b"all work and no play\n" * 10)
            os.write(2, b"makes Jack a dull boy\n" * 10)
    if "is_a_bug" in name:
        raise KeyError("an error that nobody foresaw")


if any("forkserver" in argument for argument in sys.orig_argv):
    from collections.abc import Iterator

    from bike_cli.config import Decoder, SamplingConfig
    from bike_cli.records import Clip, Source
    from bike_cli.video.streams.outcomes import BinFrame, Outcome, Step
    from bike_cli.video.streams.values import StreamRequest
    from bike_cli.video.workers import stream_worker, worker

    decode = worker.decode

    def end(memory_mib: int) -> None:
        os._exit(3)

    if os.environ.get("HOSTILE") == "start":
        worker.set_up = end

    def hostile(
        source: Source, config: SamplingConfig, *, decoder: Decoder, rng: np.random.Generator | None = None
    ) -> Clip:
        behave("is_a_bug" if os.environ.get("HOSTILE") == "bug" else source.path.name)
        return decode(source, config, decoder=decoder, rng=rng)

    worker.decode = hostile

    from bike_cli.video import cutting

    cut = cutting.cut

    def hostile_cut(source: Source, start_s: float, end_s: float, target: Path, **how: Any) -> cutting.Cut:  # noqa: ANN401
        if "begins" in source.path.name:
            cutting.part_of(target).write_bytes(b"the beginning")
        if "works_long" in source.path.name:
            for _ in range(12):
                how["report"]()
                time.sleep(0.25)
        behave(source.path.name)
        return cut(source, start_s, end_s, target, **how)

    cutting.cut = hostile_cut

    read_frames = stream_worker.read_frames

    def behave_in_stream(source: Source) -> None:
        name, once = source.path.name, source.path.with_name(f"{source.path.name}.once")
        if os.environ.get("HOSTILE") == "bug":
            behave("is_a_bug")
        if "once" in name:
            if not once.exists():
                return
            once.unlink()
        behave(name)

    def hostile_frames(
        source: Source, request: StreamRequest, *, step: Step | None = None
    ) -> Iterator[BinFrame | Outcome]:
        later = 70 if "later" in source.path.name else 0
        if "dawdles" in source.path.name and step is not None:
            for _ in range(30):
                time.sleep(0.1)
                for _ in range(100):
                    step()
        if not later:
            behave_in_stream(source)
        for i, frame in enumerate(read_frames(source, request, step=step)):
            if later and i == later:
                behave_in_stream(source)
            yield frame

    stream_worker.read_frames = hostile_frames

    split_request = stream_worker.split_request

    def hostile_split(
        source: Source, request: StreamRequest, parts: int, *, step: Step | None = None
    ) -> list[StreamRequest]:
        behave(source.path.name)
        return split_request(source, request, parts, step=step)

    stream_worker.split_request = hostile_split
