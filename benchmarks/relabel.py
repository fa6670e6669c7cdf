"""What a second run with other labels costs, when the store knows the videos: `python -m benchmarks.relabel`.

Each video is another file, made so by a few bytes at its end, which no decoder reads. The first run decodes and keeps,
the second only looks up and scores; both write JSON lines. Rates are from the first record on: starting, and reading
400 labels, cost the same in both.
"""

from __future__ import annotations

import argparse
import io
import logging
import tempfile
import time
from pathlib import Path

import bike_cli as bike
from benchmarks.material import copies, engine_of
from bike_cli.cli.classify.rows import as_json, as_object
from bike_cli.config import ClassifyConfig, StoreConfig
from bike_cli.data.lexicons import read_lexicon
from bike_cli.records import Spent

RATE_TARGET, RATIO_TARGET = 3000, 50


def main() -> None:
    """Print both rates and their ratio."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("folder", type=Path, nargs="?", help="of videos (default: seven ordinary clips)")
    parser.add_argument("-m", "--model", default="tiny")
    parser.add_argument("--videos", type=int, default=300, help="files (default: %(default)s)")
    parser.add_argument("--times", type=int, default=20, help="each is asked for again (default: %(default)s)")
    options = parser.parse_args()
    logging.disable(logging.WARNING)  # labels that the model does not know
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
    """Return the videos a second, and how many were decoded."""
    spent, written, begun_s = Spent(), io.StringIO(), 0.0
    for answer in bike.classify(engine, files, labels, config, spent=spent):
        begun_s = begun_s or time.perf_counter()
        print(as_json(as_object(answer)), file=written, flush=True)
    return (len(files) - 1) / (time.perf_counter() - begun_s), spent.decoded


if __name__ == "__main__":
    main()
