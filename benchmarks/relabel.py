"""Compare a second run with other labels, on cached features, with the first: `python -m benchmarks.relabel`.

All videos have different content, through bytes at the end that no decoder reads. The first run decodes and fills the
cache; the second only looks up and scores. Both write JSON lines. Rates count from the first record, because the
start-up and the encoding of 400 labels take the same time in both.
"""

from __future__ import annotations

import argparse
import io
import logging
import tempfile
import time
from pathlib import Path

import bike_cli as bike
from benchmarks.material import add_folder_argument, add_model_argument, copies, engine_of
from bike_cli.config import ClassifyConfig, StoreConfig
from bike_cli.data.lexicons import read_lexicon
from bike_cli.data.predictions.objects import as_object
from bike_cli.json_text import as_json
from bike_cli.records import Timings

RATE_TARGET, RATIO_TARGET = 3000, 50


def main() -> None:
    """Print both rates and their ratio."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    add_folder_argument(parser)
    add_model_argument(parser)
    parser.add_argument("--videos", type=int, default=300, help="videos, copied as needed (default: %(default)s)")
    parser.add_argument("--times", type=int, default=20, help="repetitions in the second run (default: %(default)s)")
    options = parser.parse_args()
    logging.disable(logging.WARNING)  # about labels that the model does not know
    engine = engine_of(options.model)
    labels = list(read_lexicon("kinetics400"))
    with tempfile.TemporaryDirectory() as folder:
        files = copies(options.folder, options.videos, Path(folder), different=True)
        config = ClassifyConfig(store=StoreConfig(cache_dir=str(Path(folder) / "store")))
        first, decoded = rate(engine, files, labels, config)
        print(f"first run   {first:8.1f} videos/s   {decoded} of {len(files)} decoded")
        others = [f"{label} again" for label in labels]
        again, decoded = max(rate(engine, files * options.times, others, config) for _ in range(3))
    print(f"second run  {again:8.1f} videos/s   {decoded} decoded; {len(labels)} other labels; target: {RATE_TARGET}")
    print(f"ratio       {again / first:8.1f}            target: {RATIO_TARGET}")


def rate(engine: bike.Engine, files: list[str], labels: list[str], config: ClassifyConfig) -> tuple[float, int]:
    """Return the videos per second, and how many were decoded."""
    spent, written, start_s = Timings(), io.StringIO(), 0.0
    for answer in bike.classify(engine, files, labels, config, spent=spent):
        start_s = start_s or time.perf_counter()
        print(as_json(as_object(answer)), file=written, flush=True)
    return (len(files) - 1) / (time.perf_counter() - start_s), spent.decoded


if __name__ == "__main__":
    main()
