"""Measure `bike spot` against its limits: `python -m benchmarks.spot`.

    reading   CPU time of everything after start-up, over that of a bare decode and a bare encode of the frames taken.
              A bare decode is PyAV alone in one thread, from start to end; a bare encode is the image tower alone.
    draft     the same CPU time with --draft, over that without
    cache     how many times as fast a second run with other labels is, which decodes nothing; its segments and
              probabilities must equal those of a run without a cache to the last bit
    behind    milliseconds per minute of video from features to segments, with 10 labels at 4 fps: CPU time, or
              elapsed time on a GPU
    memory    how much the peak memory of this process and of its worker grows from ten seconds to hours of 1080p
    cores     on a GPU: videos per second, over what processes deliver that only decode, one on each core

What is compared takes turns, so that other load affects both. Numbers are medians of several runs after one that warms
up. Labels are encoded once per run, before the videos; that time is printed, and in no ratio. Weights of architectures
are random, which does not affect speed. This needs Linux.
"""

from __future__ import annotations

import argparse
import multiprocessing
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from functools import partial
from itertools import product
from pathlib import Path
from typing import TypeVar

import numpy as np
import torch

import bike_cli as bike
from benchmarks.material import add_model_argument, copies_of, engine_of
from benchmarks.memory import big_picture, repeated
from benchmarks.processes import cpu_s
from benchmarks.spot_reading import decode_bare, write_scaled
from bike_cli.config import DecodingConfig, SamplingConfig, StoreConfig
from bike_cli.engine.heads.bike import TemporalTransformer
from bike_cli.inference.bin_features import BinFeatures
from bike_cli.records import Source, Timeline
from bike_cli.tasks.spot import prepare_localiser
from bike_cli.video.workers.machine import cores
from bike_cli.video.workers.pool import DecodePool

LABELS = tuple(map(" ".join, product(("red", "green"), ("circle", "square", "triangle", "star", "heart"))))
OTHER_LABELS = tuple(map(" ".join, product(("blue", "yellow"), ("circle", "square", "triangle", "star", "heart"))))
SIZES = ((568, 320), (1920, 1080))
FPS_BEHIND = 4.0
HEAD_HEADS = 8  # of a temporal head with random weights, where a model has none
MIB = 2**20
Result = TypeVar("Result")
VIDEOS_PER_CORE = 4
RESIZED_TOGETHER = 10  # frames; of 1080p, bike reads as many at once


@dataclass(frozen=True)
class Row:
    """A measured number and what it should be."""

    name: str
    value: float
    target: float
    unit: str = ""
    at_most: bool = True

    def __str__(self) -> str:
        is_met = self.value <= self.target if self.at_most else self.value >= self.target
        bound = f"{'at most' if self.at_most else 'at least'} {self.target:g}{self.unit}"
        return f"{self.name:58}{self.value:10.2f}{self.unit:4} {bound:18} {'met' if is_met else 'MISSED'}"


@dataclass(frozen=True)
class Bench:
    """A model, workers that are running, and a folder for what is written.

    Args:
        runs: of each way, after one that warms up.
    """

    engine: bike.Engine
    pool: DecodePool
    folder: Path
    runs: int

    def spot(
        self, films: Sequence[Path], *, labels: Sequence[str] = LABELS, cache: Path | None = None, draft: bool = False
    ) -> tuple[Callable[[], list[Timeline]], float]:
        """Prepare a run; return what runs it, and the seconds that preparing took: encoding labels and lexicon.

        Args:
            cache: folder of the feature cache; None: off.
        """
        store = StoreConfig(cache=cache is not None, cache_dir=None if cache is None else str(cache))
        config = bike.SpotConfig(store=store, draft=draft)
        start_s = time.perf_counter()
        answers = bike.spot(self.engine, list(map(str, films)), labels, config, pool=self.pool, keeps_scores=True)
        prepared_s = time.perf_counter() - start_s

        def run() -> list[Timeline]:
            timelines = []
            for answer in answers:
                if not isinstance(answer, Timeline):
                    raise SystemExit(answer.message)
                timelines.append(answer)
            return timelines

        return run, prepared_s

    def new_cache(self) -> Path:
        """Return an empty folder."""
        return Path(tempfile.mkdtemp(dir=self.folder))

    def turns(self, ways: dict[str, Callable[[], float]]) -> list[dict[str, float]]:
        """Return the numbers of all ways in each run; they take turns."""
        return [{name: way() for name, way in ways.items()} for _ in range(self.runs + 1)][1:]


def main() -> None:
    """Print the table."""
    options = _options()
    engine = engine_of(options.model, device=options.device)
    is_on_gpu = engine.encoder.placement.device.type == "cuda"
    print(f"{options.model}, {engine.encoder.placement}, {cores()} cores, {options.seconds} s per video")
    seconds = options.seconds
    with tempfile.TemporaryDirectory() as name, DecodePool(SamplingConfig(), DecodingConfig()) as pool:
        pool.warm_up()
        bench = Bench(engine, pool, Path(name), options.runs)
        films = [
            write_scaled(bench.folder / f"{height}.mp4", options.video, width=width, height=height, seconds=seconds)
            for width, height in SIZES
        ]
        _, prepared_s = bench.spot(films[:1])
        print(f"encoding 10 labels and the lexicon: {prepared_s:.1f} s, once per run", flush=True)
        steps: list[Callable[[], list[Row]]] = [
            *(partial(reading, bench, film) for film in films),
            partial(draft, bench, films[-1]),
            *(partial(cached, bench, film) for film in films),
            partial(behind, bench),
            *([partial(memory, bench, options)] if options.hours else []),
        ]
        for step in steps if not is_on_gpu else [*steps, partial(all_cores, bench, films[0])]:
            for row in step():
                print(row, flush=True)
    if not is_on_gpu:
        print("videos decoded by all cores: measured on a GPU only, as the model needs the cores here")


def _options() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("video", type=Path, nargs="?", help="video to scale and repeat (default: moving textures)")
    add_model_argument(parser)
    parser.add_argument("--device", default="auto")
    parser.add_argument("--seconds", type=int, default=60, help="length of the videos (default: %(default)s)")
    parser.add_argument("--runs", type=int, default=3, help="runs of each way (default: %(default)s)")
    parser.add_argument(
        "--hours", type=float, default=2.0, help="length of the long video; 0: none (default: %(default)s)"
    )
    parser.add_argument("--quick", action="store_true", help="10 s, one run, and 0.1 h: to see that it works")
    options = parser.parse_args()
    if options.quick:
        options.seconds, options.runs, options.hours = 10, 1, 0.1
    return options


def reading(bench: Bench, film: Path) -> list[Row]:
    """Return the CPU time of a run over that of its bare parts."""
    n_frames = bench.spot([film])[0]()[0].frames
    width, height = SIZES[0] if film.stem == str(SIZES[0][1]) else SIZES[1]
    ways = {
        "decode": lambda: cpu_s(lambda: decode_bare(film)),
        "encode": lambda: cpu_s(lambda: bare_encode(bench.engine, n_frames)),
        "resize": lambda: cpu_s(lambda: resize(bench.engine, n_frames, width, height)),
        "bike": lambda: cpu_s(bench.spot([film], cache=bench.new_cache())[0]),
    }
    turns = bench.turns(ways)
    ratio = statistics.median(turn["bike"] / (turn["decode"] + turn["encode"]) for turn in turns)
    each = ", ".join(f"{name} {statistics.median(turn[name] for turn in turns):.2f} s" for name in ways)
    print(f"  {film.stem}p: CPU time: {each}")
    return [Row(f"reading: CPU time over bare decode + encode, {film.stem}p", ratio, 1.25)]


@torch.no_grad()
def bare_encode(engine: bike.Engine, n_frames: int) -> None:
    """Run the image tower on as many frames, which are on its device already."""
    encoder = engine.encoder
    device, side = encoder.placement.device, encoder.recipe.side
    at_once = encoder.batches.at_once
    pixels = torch.zeros(at_once, 3, side, side, device=device)
    with encoder.placement.autocast():
        for start in range(0, n_frames, at_once):
            encoder.tower(pixels[: n_frames - start])
    done = encoder.placement.mark()
    if done is not None:
        done.synchronize()  # which does not spin, as that would count as CPU time


def resize(engine: bike.Engine, n_frames: int, width: int, height: int) -> None:
    """Resize as many frames for the image tower, in small batches."""
    frames = np.zeros((RESIZED_TOGETHER, height, width, 3), np.uint8)
    for start in range(0, n_frames, RESIZED_TOGETHER):
        engine.encoder.pixels(frames[: n_frames - start])


def draft(bench: Bench, film: Path) -> list[Row]:
    """Return the CPU time of a draft over that of an exact run."""
    ways = {
        "exact": lambda: cpu_s(bench.spot([film])[0]),
        "draft": lambda: cpu_s(bench.spot([film], draft=True)[0]),
    }
    ratio = statistics.median(turn["draft"] / turn["exact"] for turn in bench.turns(ways))
    return [Row(f"draft: CPU time over exact, {film.stem}p", ratio, 0.7)]


def cached(bench: Bench, film: Path) -> list[Row]:
    """Return how many times as fast a second run with other labels is; check its results."""
    ratios = []
    for _ in range(bench.runs + 1):
        cache = bench.new_cache()
        first, second = (bench.spot([film], labels=some, cache=cache)[0] for some in (LABELS, OTHER_LABELS))
        first_s, _ = timed(first)
        second_s, found = timed(second)
        ratios.append(first_s / second_s)
    check_equal(found, bench.spot([film], labels=OTHER_LABELS)[0]())
    print(
        f"  {film.stem}p: elapsed: first {first_s:.2f} s, second {1000 * second_s:.0f} ms; equal to a run without cache"
    )
    return [
        Row(f"cache: times as fast as the first run, {film.stem}p", statistics.median(ratios[1:]), 50, at_most=False)
    ]


def timed(work: Callable[[], Result]) -> tuple[float, Result]:
    """Return how long some work takes, and its result."""
    start_s = time.perf_counter()
    found = work()
    return time.perf_counter() - start_s, found


def check_equal(found: Sequence[Timeline], expected: Sequence[Timeline]) -> None:
    """Exit unless two runs have the same segments and probabilities."""
    for one, other in zip(found, expected, strict=True):
        assert one.scores is not None
        assert other.scores is not None
        is_equal = one.segments == other.segments and np.array_equal(one.scores, other.scores, equal_nan=True)
        if not is_equal:
            raise SystemExit(f"{one.source.id}: a run from the cache differs from one without a cache")


def behind(bench: Bench) -> list[Row]:
    """Return the time from features to segments, without and with a temporal head."""
    engine, minutes = bench.engine, 10
    device = engine.encoder.placement.device
    head = engine.temporal_head
    if head is None:
        torch.manual_seed(0)
        head = TemporalTransformer(engine.encoder.dim, HEAD_HEADS).to(device).eval()
    n_bins = round(60 * minutes * FPS_BEHIND)
    dice = torch.Generator().manual_seed(0)
    frames = torch.randn(n_bins, engine.encoder.dim, generator=dice)
    edges_s = np.arange(n_bins + 1) / FPS_BEHIND
    video = BinFeatures(Source.at("v"), frames, torch.ones(n_bins, dtype=torch.bool), edges_s, n_bins, None, None)
    rows = []
    clock = time.perf_counter if device.type == "cuda" else time.process_time
    for one, name, target in ((None, "without a temporal head", 5.0), (head, "with a temporal head", 100.0)):
        spot = "eot" if one is None else "words"
        config = bike.SpotConfig(fps=FPS_BEHIND, spot=spot)
        localiser = prepare_localiser(replace(engine, temporal_head=one), LABELS, config)
        spent = []
        for _ in range(bench.runs + 1):
            start_s = clock()
            localiser.timeline(video)
            spent.append(1000 * (clock() - start_s) / minutes)
        rows.append(Row(f"behind: per minute of video, {name}", statistics.median(spent[1:]), target, " ms"))
    return rows


def memory(bench: Bench, options: argparse.Namespace) -> list[Row]:
    """Return the growth of peak memory with the length of a video; of 2 frames per second, all of which are read."""
    short = big_picture(bench.folder / "short.mp4", seconds=10, fps=2)
    long = repeated(short, bench.folder / "long.mp4", times=round(options.hours * 360))
    peaks = []
    for title, film in (("10 s", short), (f"{options.hours:g} h", long)):
        arguments = [str(film), "-m", options.model, "--device", options.device]
        start_s = time.monotonic()
        done = subprocess.run(
            [sys.executable, "-m", "benchmarks.spot_peak", *arguments], stdout=subprocess.PIPE, text=True, check=True
        )
        peaks.append(np.array([int(number) / MIB for number in done.stdout.split()]))
        shown = f"this process {peaks[-1][0]:.1f} MiB, worker {peaks[-1][1]:.1f} MiB"
        print(f"  {title} of 1080p: {shown}, {time.monotonic() - start_s:.0f} s", flush=True)
    growth = float((peaks[1] - peaks[0]).sum())
    return [Row(f"memory: growth of the peak from 10 s to {options.hours:g} h of 1080p", growth, 100, " MiB")]


def all_cores(bench: Bench, film: Path) -> list[Row]:
    """Return the videos per second of `bike spot` over those of processes that only decode."""
    files = [Path(path) for path in copies_of([film], VIDEOS_PER_CORE * cores(), bench.folder, different=True)]
    with multiprocessing.get_context("spawn").Pool(cores()) as processes:
        processes.map(decode_bare, files[: cores()])  # wait for the processes to start

        def bare() -> list[int]:
            return list(processes.imap_unordered(decode_bare, files))

        ways = {"bare": lambda: timed(bare)[0], "bike": lambda: timed(bench.spot(files)[0])[0]}
        turns = bench.turns(ways)
    rates = {name: len(files) / statistics.median(turn[name] for turn in turns) for name in ways}
    print(
        f"  {len(files)} videos of {film.stem}p: bare {rates['bare']:.1f} videos/s, bike {rates['bike']:.1f} videos/s"
    )
    share = statistics.median(turn["bare"] / turn["bike"] for turn in turns)
    return [Row(f"cores: videos per second over bare decoders, {film.stem}p", share, 0.9, at_most=False)]


if __name__ == "__main__":
    main()
