"""Print the peak resident memory of `bike spot` on one video: of this process, and of its largest worker, in bytes.

    python -m benchmarks.spot_peak FILE [-m MODEL] [--device cuda] [--fps 2]

One worker reads the video, however many cores there are. The cache is on, in a temporary folder. This needs Linux.
"""

from __future__ import annotations

import argparse
import os
import tempfile

import bike_cli as bike
from benchmarks.material import add_model_argument, engine_of
from benchmarks.processes import descendants, peak_bytes
from bike_cli.config import DecodingConfig, StoreConfig
from bike_cli.records import Source

LABELS = ["red square", "blue circle", "green cross", "yellow star", "white triangle"]


def main() -> None:
    """Find segments in a video, and print the peaks."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("file")
    add_model_argument(parser)
    parser.add_argument("--device", default="auto")
    parser.add_argument("--fps", type=float, default=2.0, help="(default: %(default)g)")
    options = parser.parse_args()
    worker = 0

    def watch(source: Source, seconds: float) -> None:
        nonlocal worker
        worker = max([worker, *map(peak_bytes, descendants(os.getpid()))])

    engine = engine_of(options.model, device=options.device)
    with tempfile.TemporaryDirectory() as folder:
        config = bike.SpotConfig(
            fps=options.fps,
            decoding=DecodingConfig(workers=1, decode_timeout=600),
            store=StoreConfig(cache_dir=folder),
        )
        for answer in bike.spot(engine, [options.file], LABELS, config, report=watch):
            if isinstance(answer, bike.Failure):
                raise SystemExit(answer.message)
    print(peak_bytes(os.getpid()), worker)


if __name__ == "__main__":
    main()
