"""Compare `bike classify --ray local` with `bike classify`, on the same videos and cores: `python -m benchmarks.ray`.

    speed     videos per second after a third of the records, over those of a run without Ray
    first     seconds from the start to the first record
    memory    peak of Ray's object store while 16 clips in full HD are classified
    GPUs      with --gpus N: videos per second of N actors, with a GPU and the Nth part of the cores each, over those of
              one such actor

Runs with and without Ray take turns, so that other load affects both; numbers are medians. No run uses a cache. This
needs Linux and `pip install 'bike-cli[ray]'`.
"""

from __future__ import annotations

import argparse
import statistics
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from benchmarks.classify import SHORT_S, shortened
from benchmarks.material import add_folder_argument, add_model_argument, copies, copies_of, find_videos
from benchmarks.processes import descendants
from benchmarks.spot import Row
from benchmarks.spot_reading import write_scaled
from bike_cli.video.workers.machine import cores

LABELS = ",".join(f"{colour} {shape}" for colour in ("red", "green", "blue") for shape in ("circle", "square", "star"))
FULL_HD, FULL_HD_S, FULL_HD_CLIPS = (1920, 1080), 10, 16
POLL_S = 0.1
MIB = 2**20


@dataclass(frozen=True)
class Timing:
    """How fast a run was.

    Args:
        first_s: from the start to the first record.
        rate: videos per second after a third of the records.
        store_bytes: peak of the files of Ray's object store.
    """

    first_s: float
    rate: float
    store_bytes: int


def main() -> None:
    """Print the table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    add_folder_argument(parser)
    add_model_argument(parser)
    parser.add_argument("--videos", type=int, default=240, help="number of videos (default: %(default)s)")
    parser.add_argument("--runs", type=int, default=3, help="of each kind (default: %(default)s)")
    parser.add_argument("--short", action="store_true", help=f"use the first {SHORT_S} s of videos, at 320x240")
    parser.add_argument("--gpus", type=int, default=1, help="GPUs to compare with one (default: %(default)s)")
    options = parser.parse_args()
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        given = shortened(options.folder, folder) if options.short else options.folder
        videos = copies(given, options.videos, folder, different=True)
        pairs = [(timed(videos, options.model), timed(videos, options.model, ray=True)) for _ in range(options.runs)]
        for pair in pairs:
            for name, run in zip(("without Ray", "with Ray"), pair, strict=True):
                print(f"{name:12}{run.rate:6.2f} videos/s, the first record after {run.first_s:.1f} s")
        ratio = statistics.median(on_ray.rate / plain.rate for plain, on_ray in pairs)
        first_s = statistics.median(on_ray.first_s for _, on_ray in pairs)
        gpus = [on_gpus(videos, options.model, options.gpus) for _ in range(options.runs if options.gpus > 1 else 0)]
        large = large_clips(options.folder, folder)
        store = timed(large, options.model, ray=True).store_bytes / MIB
    print(f"{cores()} cores, {options.videos} videos, model {options.model}, medians of {options.runs}")
    print(Row("speed, over that of a run without Ray", ratio, 0.85, at_most=False))
    if gpus:
        print(
            Row(f"speed on {options.gpus} GPUs, over one", statistics.median(gpus), 0.9 * options.gpus, at_most=False)
        )
    print(Row("first record", first_s, 20, " s"))
    print(Row(f"object store, {FULL_HD_CLIPS} clips in full HD", store, 50, "MiB"))


def large_clips(videos: Path | None, folder: Path) -> list[str]:
    """Write clips in full HD."""
    video, (width, height) = find_videos(videos, folder)[0], FULL_HD
    large = write_scaled(folder / "large.mp4", video, width=width, height=height, seconds=FULL_HD_S)
    (folder / "large").mkdir()
    return copies_of([large], FULL_HD_CLIPS, folder / "large", different=True)


def on_gpus(videos: Sequence[str], model: str, gpus: int) -> float:
    """Return how many times as fast an actor on each GPU is as one on one GPU; each has the same number of cores."""
    share = cores() // gpus
    one, all_of_them = (timed(videos, model, ray=True, actors=actors, cpus=share).rate for actors in (1, gpus))
    print(f"1 GPU {one:6.2f} videos/s, {gpus} GPUs {all_of_them:6.2f}")
    return all_of_them / one


def timed(videos: Sequence[str], model: str, *, ray: bool = False, actors: int = 1, cpus: int | None = None) -> Timing:
    """Classify videos in a process of its own, with all cores, or with `cpus` for each actor."""
    on_ray = ["--ray", "local", "--ray-actors", str(actors), "--ray-cpus", str(cpus or cores())]
    flags = on_ray if ray else ["--no-cache"]
    command = [sys.executable, "-m", "bike_cli", "classify", "--files-from", "-", "-m", model, "-L", LABELS, "-q"]
    start_s = time.monotonic()
    with subprocess.Popen([*command, *flags], stdin=subprocess.PIPE, stdout=subprocess.PIPE) as process:
        assert process.stdin is not None
        assert process.stdout is not None
        process.stdin.write("\n".join(videos).encode())
        process.stdin.close()
        with watching_store(process.pid) as peak:
            moments = [time.monotonic() for _ in process.stdout]
        if process.wait() or len(moments) != len(videos):
            raise SystemExit(f"bike classify has ended with {process.returncode} after {len(moments)} records")
    begun = len(moments) // 3  # the first records of a run on Ray come together
    rate = (len(moments) - 1 - begun) / (moments[-1] - moments[begun])
    return Timing(moments[0] - start_s, rate, max(peak))


@contextmanager
def watching_store(pid: int) -> Iterator[list[int]]:
    """Yield a list that gets the bytes of the object store that a process and its children use, again and again."""
    sizes, is_over = [0], threading.Event()

    def watch() -> None:
        while not is_over.wait(POLL_S):
            sizes.append(max((store_bytes(child) for child in descendants(pid)), default=0))

    thread = threading.Thread(target=watch)
    thread.start()
    try:
        yield sizes
    finally:
        is_over.set()
        thread.join()


def store_bytes(pid: int) -> int:
    """Return the memory of the object store that a process has open: a file in memory, which is filled as needed."""
    try:
        files = [file for file in Path(f"/proc/{pid}/fd").iterdir() if "plasma" in str(file.readlink())]
        return max((file.stat().st_blocks * 512 for file in files), default=0)
    except OSError:  # the process has ended
        return 0


if __name__ == "__main__":
    main()
