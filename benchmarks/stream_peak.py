"""Print the peak resident memory of streaming a video at 2 frames per second: of this process, and of its worker.

`python -m benchmarks.stream_peak FILE`, in bytes. It imports no more than streaming needs. This needs Linux.
"""

from __future__ import annotations

import os
import sys

from benchmarks.processes import children, peak_bytes
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
            worker = max([worker, *map(peak_bytes, workers)])
            if isinstance(event, Failure):
                raise SystemExit(event.message)
    print(peak_bytes(os.getpid()), worker)


if __name__ == "__main__":
    main()
