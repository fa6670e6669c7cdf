"""Kill `bike spot` in the middle of a long video, and measure what the next run reads again.

    python -m benchmarks.spot_resume [--hours 2] [-m MODEL] [--workers 1]

The first run is killed with SIGKILL once the cache has half of the video. Printed are the seconds of video that the
cache has then, the seconds that the next run reads, and how long both runs took. The video repeats a generated clip.
"""

from __future__ import annotations

import argparse
import sqlite3
import subprocess
import sys
import tempfile
import time
from contextlib import closing
from dataclasses import dataclass, field, fields
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from torch import Tensor

import bike_cli as bike
from benchmarks.material import CLIP_S, add_model_argument, write_clip
from benchmarks.memory import repeated
from bike_cli.config import DecodingConfig, StoreConfig
from bike_cli.engine.engine import Engine
from bike_cli.engine.store.file import store_file
from bike_cli.engine.towers.transforms import Resizer
from bike_cli.inference.bin_features import CHUNK

FPS = 2.0
LABELS = ("red square", "blue circle")
POLL_S = 0.1


def main() -> None:
    """Print the table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    add_model_argument(parser)
    parser.add_argument("--hours", type=float, default=2.0, help="length of the video (default: %(default)s)")
    parser.add_argument("--workers", type=int, default=1, help="that read it (default: %(default)s)")
    options = parser.parse_args()
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        length_s = 3600 * options.hours
        film = repeated(write_clip(folder / "clip.mp4", 0), folder / "film.mp4", times=round(length_s / CLIP_S))
        killed_s, stored = kill_at_half(film, folder, options, chunks=round(length_s * FPS / CHUNK / 2))
        print(f"killed after {killed_s:.0f} s: the cache has {stored * CHUNK / FPS:.0f} s of {length_s:.0f} s of video")
        read_s, took_s = run_again(film, folder, options)
        print(f"the next run reads {read_s:.0f} s of video, and takes {took_s:.0f} s")


def kill_at_half(film: Path, folder: Path, options: argparse.Namespace, *, chunks: int) -> tuple[float, int]:
    """Run `bike spot` until a number of chunks is stored; return how long that took, and the number in the end."""
    start_s = time.monotonic()
    flags = ["--fps", str(FPS), "--workers", str(options.workers), "--cache-dir", str(folder / "cache"), "-q"]
    command = [sys.executable, "-m", "bike_cli", "spot", str(film), "-m", options.model, "-L", ",".join(LABELS), *flags]
    with subprocess.Popen(command, stdout=subprocess.DEVNULL) as process:
        while process.poll() is None and stored_chunks(folder / "cache") < chunks:
            time.sleep(POLL_S)
        process.kill()
    if process.returncode >= 0:
        raise SystemExit("bike spot ended before it was killed; give more --hours")
    return time.monotonic() - start_s, stored_chunks(folder / "cache")


def stored_chunks(cache: Path) -> int:
    """Return the number of rows of features on disk; 0 while there is no store."""
    file = store_file(cache)
    if not file.exists():
        return 0
    try:
        with closing(sqlite3.connect(f"file:{file}?mode=ro", uri=True)) as connection:
            return int(connection.execute("SELECT count(*) FROM features").fetchone()[0])
    except sqlite3.OperationalError:  # it is being created
        return 0


@dataclass(frozen=True, eq=False)
class CountingEngine(Engine):
    """An engine that notes the number of frames in each batch."""

    batches: list[int] = field(default_factory=list)

    def encode_frames(self, frames: NDArray[np.uint8] | Tensor, *, crops: int = 1, resizer: Resizer = "pil") -> Tensor:
        """Return raw features, as an engine does."""
        self.batches.append(len(frames))
        return super().encode_frames(frames, crops=crops, resizer=resizer)


def run_again(film: Path, folder: Path, options: argparse.Namespace) -> tuple[float, float]:
    """Return the seconds of video that are read to complete the timeline, and how long that takes."""
    loaded = bike.load(options.model)
    engine = CountingEngine(**{f.name: getattr(loaded, f.name) for f in fields(loaded)})
    store = StoreConfig(cache_dir=str(folder / "cache"))
    config = bike.SpotConfig(fps=FPS, decoding=DecodingConfig(workers=options.workers), store=store)
    start_s = time.monotonic()
    (answer,) = bike.spot(engine, [str(film)], LABELS, config)
    assert isinstance(answer, bike.Timeline), answer
    return sum(engine.batches) / FPS, time.monotonic() - start_s


if __name__ == "__main__":
    main()
