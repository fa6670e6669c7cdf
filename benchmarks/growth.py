"""Check that time and memory grow with the work, not faster: `python -m benchmarks.growth`.

Each size runs in a process of its own. The slope is that of log(seconds) over log(size), by least squares; 1 means
linear growth. Seconds are those of the work, without the start of the process; MiB are the peak resident memory of the
process, with all that it imports. CPU seconds depend less on what else the machine does.
"""

from __future__ import annotations

import argparse
import json
import logging
import math
import resource
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import NamedTuple

MIB = 2**20
NAMED = 5  # labels of a prediction
SHOTS, FRAMES, DIM = 16, 8, 512


class Measured(NamedTuple):
    """What one size took."""

    seconds: float
    cpu_s: float
    peak_mib: float
    note: str = ""


class Item(NamedTuple):
    """What grows.

    Args:
        what: is counted.
        sizes: over two decades, ascending.
        quick: sizes that take a few seconds.
        target: for the largest of `sizes`.
    """

    run: Callable[..., str]
    what: str
    sizes: tuple[int, ...]
    quick: tuple[int, ...]
    target: str = ""


def main() -> None:
    """Print a line per item and size, and the slope of each item."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--quick", action="store_true", help="small sizes only, to see that everything runs")
    parser.add_argument("--only", choices=ITEMS, help="one item instead of all")
    parser.add_argument("--one", nargs=2, metavar=("ITEM", "SIZE"), help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.one:
        print(json.dumps(measure(options.one[0], int(options.one[1]))))
        return
    for name in [options.only] if options.only else ITEMS:
        item = ITEMS[name]
        found = []
        for size in item.quick if options.quick else item.sizes:
            command = [sys.executable, "-m", "benchmarks.growth", "--one", name, str(size)]
            ran = subprocess.run(command, check=True, stdout=subprocess.PIPE, text=True)
            measured = Measured(*json.loads(ran.stdout.splitlines()[-1]))
            found.append((size, measured))
            each = f"{1e6 * measured.cpu_s / size:9.1f} µs CPU each"
            times = f"{measured.seconds:8.2f} s {measured.cpu_s:8.2f} s CPU {each}"
            print(f"{name:10} {size:9,} {item.what:16} {times} {measured.peak_mib:7.0f} MiB  {measured.note}")
        slopes = [slope([(size, getattr(one, part)) for size, one in found]) for part in ("seconds", "cpu_s")]
        target = f"; target: {item.target}" if item.target and not options.quick else ""
        print(f"{name:10} slope {slopes[0]:.2f}, of CPU time {slopes[1]:.2f}{target}\n", flush=True)


def slope(points: list[tuple[int, float]]) -> float:
    """Return the slope of log(seconds) over log(size)."""
    xs, ys = zip(*((math.log(size), math.log(max(seconds, 1e-6))) for size, seconds in points), strict=True)
    mean_x, mean_y = sum(xs) / len(xs), sum(ys) / len(ys)
    over: float = sum((x - mean_x) ** 2 for x in xs)
    together: float = sum((x - mean_x) * (y - mean_y) for x, y in zip(xs, ys, strict=True))
    return together / over


def measure(name: str, size: int) -> Measured:
    """Run an item in this process."""
    logging.disable(logging.WARNING)
    with tempfile.TemporaryDirectory() as folder:
        timer = Timer()
        note = ITEMS[name].run(size, Path(folder), timer)
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return Measured(timer.seconds, timer.cpu_s, peak * (1 if sys.platform == "darwin" else 1024) / MIB, note)


class Timer:
    """The time of what runs inside `with`."""

    seconds = cpu_s = 0.0

    def __enter__(self) -> None:
        self._start = time.perf_counter(), time.process_time()

    def __exit__(self, *_: object) -> None:
        self.seconds += time.perf_counter() - self._start[0]
        self.cpu_s += time.process_time() - self._start[1]


# -- the items -------------------------------------------------------------------------------------------------------


def evaluated(size: int, folder: Path, timer: Timer) -> str:
    """Evaluate predictions of five among a 25th as many labels; return the size of the report."""
    import random

    import torch  # noqa: F401 - its import is no part of the work

    from bike_cli.cli.app import app

    rng, classes = random.Random(0), max(2 * NAMED, size // 25)
    labels = [f"doing thing number {i}" for i in range(classes)]
    folder.joinpath("names.txt").write_text("\n".join(labels) + "\n")
    with folder.joinpath("p.jsonl").open("w") as predicted, folder.joinpath("t.csv").open("w") as truth:
        truth.write("path,label\n")
        for i in range(size):
            top = rng.sample(range(classes), NAMED)
            truth.write(f"{i}.mp4,{labels[top[rng.random() < 0.3]]}\n")
            ranked = [{"label": labels[c], "score": 0.5 * 0.4**place} for place, c in enumerate(top)]
            predicted.write(json.dumps({"path": f"{i}.mp4", "status": "ok", "top": ranked}) + "\n")
    report = folder / "report.json"
    files = ("p.jsonl", "--labels", "t.csv", "--names", "names.txt")
    arguments = [name if name.startswith("--") else str(folder / name) for name in files]
    sys.argv = ["bike", "eval", *arguments, "-o", str(report)]
    with timer:
        try:
            app()
        except SystemExit as e:
            if e.code:
                raise
    return f"{report.stat().st_size / MIB:.2f} MiB of JSON, {classes:,} labels"


def labels_of(size: int) -> list[str]:
    """Return different labels of a few words."""
    from bike_cli.data.lexicons import read_lexicon

    words = read_lexicon("common")
    made = [f"{first} {second}" for first in read_lexicon("kinetics400") for second in words]
    return made[:: len(made) // size][:size]


def labelled(size: int, folder: Path, timer: Timer, *, times: int = 1) -> str:
    """Prepare a classifier for many labels with `tiny`; the last of several times counts."""
    from bike_cli.config import ClassifyConfig, StoreConfig
    from bike_cli.engine.engine import load
    from bike_cli.inference.prepare import prepare

    labels, config = labels_of(size), ClassifyConfig(store=StoreConfig(cache_dir=str(folder)))
    engine = load("tiny", device="cpu")
    for _ in range(times - 1):
        prepare(engine, labels, config)
    with timer:
        prepare(engine, labels, config)
    return ""


def labelled_again(size: int, folder: Path, timer: Timer) -> str:
    """Prepare a classifier for labels whose features are in the cache."""
    return labelled(size, folder, timer, times=2)


def fitted(size: int, folder: Path, timer: Timer) -> str:
    """Fit Tip-Adapter to 16 shots of each of many classes, and score a thousand videos."""
    del folder
    import torch

    from bike_cli.engine.heads.few_shot import Views, tip_adapter
    from bike_cli.engine.scoring import unit

    rng = torch.Generator().manual_seed(0)
    classes = torch.arange(size).repeat_interleave(SHOTS)
    text = unit(torch.randn(size, DIM, generator=rng))
    frames = unit(0.3 * text[classes][:, None] + torch.randn(len(classes), FRAMES, DIM, generator=rng) / DIM**0.5)
    weights = torch.rand(len(classes), size, FRAMES, generator=rng)
    views = Views(frames, weights.div_(weights.sum(dim=2, keepdim=True)))
    with timer, torch.no_grad():
        tip_adapter(views, classes, text, 100.0).logits(views[:1000])
    return ""


def stored(size: int, folder: Path, timer: Timer) -> str:
    """Fill the feature cache."""
    _fill(1, folder)
    with timer:
        _fill(size, folder)
    return f"{sum(file.stat().st_size for file in folder.iterdir()) / MIB:.0f} MiB"


def pruned(size: int, folder: Path, timer: Timer) -> str:
    """Drop all features of a cache but those of a thousandth of its size."""
    from bike_cli.engine.store.store import Store

    _fill(size, folder)
    with Store.open(folder) as store:
        kept = store.info().bytes // 1000
        with timer:
            result = store.prune(max_bytes=kept, unused_days=None)
    return f"{result.features:,} rows"


def _fill(size: int, folder: Path) -> None:
    import hashlib

    import numpy as np
    import torch

    from bike_cli.engine.store.store import Store
    from bike_cli.records import FrameTimes, Source, VideoFeatures

    frames = torch.from_numpy(np.random.default_rng(0).standard_normal((1, FRAMES, 96)).astype(np.float32))
    timeline = FrameTimes(np.zeros((1, FRAMES)), np.arange(FRAMES)[None], 10.0)
    features = VideoFeatures(Source.at("a.mp4"), frames, timeline)
    with Store.open(folder) as store:
        for i in range(size):
            content = hashlib.sha256(str(i).encode()).digest()
            store.remember(f"/videos/{i}.mp4", b"stamp", content)
            store.keep(content, b"r" * 32, features)


def listed(size: int, folder: Path, timer: Timer) -> str:
    """List folders of a thousand files."""
    from bike_cli.data.inputs import find_sources

    for i in range(size):
        if i % 1000 == 0:
            (folder / f"{i // 1000}").mkdir()
        (folder / f"{i // 1000}" / f"{i}.mp4").touch()
    with timer:
        found = sum(1 for _ in find_sources([str(folder)]))
    if found != size:
        raise SystemExit(f"found {found} of {size} files")
    return ""


ITEMS = {
    "eval": Item(evaluated, "predictions", (1000, 10_000, 100_000), (500, 2000), "under 1,500 MiB, 5 MiB of JSON"),
    "labels": Item(labelled, "labels", (1000, 10_000, 100_000), (300, 1000), "under 60 s"),
    "again": Item(labelled_again, "known labels", (1000, 10_000, 100_000), (300, 1000)),
    "tip": Item(fitted, "classes", (10, 100, 1000), (5, 20), "under 60 s, 2,000 MiB"),
    "fill": Item(stored, "rows", (1000, 10_000, 100_000), (300, 1000), "50 µs each"),
    "prune": Item(pruned, "rows", (1000, 10_000, 100_000), (300, 1000), "50 µs each"),
    "list": Item(listed, "files", (1000, 10_000, 100_000), (1000, 3000), "5 µs each"),
}


if __name__ == "__main__":
    main()
