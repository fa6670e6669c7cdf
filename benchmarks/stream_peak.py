"""Print the peak resident memory of streaming a video at 2 frames per second: of this process, and of its worker.

`python -m benchmarks.stream_peak FILE`, in bytes. It imports no more than streaming needs. This needs Linux.
"""

from __future__ import annotations

import os
import sys
from collections.abc import Iterator
from pathlib import Path

from bike_cli.config import DecodingConfig
from bike_cli.records import Failure, Source
from bike_cli.video.streams.values import StreamRequest
from bike_cli.video.workers.frame_stream import FrameStream


def main() -> None:
    """Stream a video, and print the peaks."""
    worker = 0
    request = StreamRequest(2)
    with FrameStream(Source.at(sys.argv[1]), request, DecodingConfig(decode_timeout=600)) as stream:
        for event in stream:
            workers = [pid for server in children(os.getpid()) for pid in children(server)]
            worker = max([worker, *map(_peak, workers)])
            if isinstance(event, Failure):
                raise SystemExit(event.message)
    print(_peak(os.getpid()), worker)


def children(parent: int) -> Iterator[int]:
    """Yield the processes that a process started."""
    for entry in Path("/proc").iterdir():
        if entry.name.isdecimal():
            try:
                its_parent = int((entry / "stat").read_text().rsplit(")", 1)[1].split()[1])
            except OSError:
                continue
            if its_parent == parent:
                yield int(entry.name)


def _peak(pid: int) -> int:
    try:
        status = (Path("/proc") / str(pid) / "status").read_text()
    except OSError:  # it has just ended
        return 0
    lines = [line.split() for line in status.splitlines() if line.startswith("VmHWM:")]
    return int(lines[0][1]) * 1024 if lines else 0


if __name__ == "__main__":
    main()
