"""How often what `bike eval` and `bike fewshot` say of their numbers is true: `python -m benchmarks.coverage`.

The program simulates videos and models whose true metrics are known. It counts how often 95 % intervals contain the
truth, how often equal systems are said to differ significantly, and how often a difference of 5 points is found.
"""

from __future__ import annotations

import argparse
import os
from collections.abc import Callable, Sequence
from concurrent.futures import ProcessPoolExecutor
from dataclasses import dataclass
from functools import partial
from typing import TypeVar

import numpy as np
import torch
from numpy.typing import NDArray

from bike_cli.tasks.evaluate.measurement import compare, mark_significant, measure
from bike_cli.tasks.evaluate.metrics import confusion
from bike_cli.tasks.evaluate.report import Comparison
from bike_cli.tasks.evaluate.score_table import ScoreTable
from bike_cli.tasks.fewshot.report import Outcome, summarise
from bike_cli.wording import count

RESAMPLES = 300  # enough for a standard error
TRUTH_VIDEOS = 400_000
BETTER_BY = 0.3  # separation
FIVE_POINTS = 0.235  # separation that increases an accuracy of 80.9 % by 5 points

Result = TypeVar("Result")
Ends = tuple[float, float]


def main() -> None:
    """Print the tables of `docs/benchmarks.md`."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--runs", type=int, default=1000, help="simulations per number (default: %(default)s)")
    parser.add_argument("--videos", default="5,10,20,50,100,200,1000", help="numbers of videos (default: %(default)s)")
    parser.add_argument("--workers", type=int, default=os.cpu_count(), help="processes (default: one per core)")
    options = parser.parse_args()
    videos = [int(count) for count in options.videos.split(",")]
    with ProcessPoolExecutor(options.workers, initializer=torch.set_num_threads, initargs=(1,)) as pool:

        def repeat(simulate: Callable[[int], Result]) -> list[Result]:
            return list(pool.map(simulate, range(options.runs), chunksize=8))

        print("Per cent of 95 % intervals that contain the truth: the lowest of all worlds")
        print_row("videos", list(METRICS))
        for count in videos:
            shares = [coverage(world, repeat(partial(intervals, world, count))) for world in WORLDS]
            print_row(count, [lowest(shares, key) for key in METRICS])
        for world, counts in (*((world, (20, 100)) for world in CONFIDENT), *MANY_CLASSES):
            print(f"\nThe same for {world}")
            print_row("videos", list(METRICS))
            for count in counts:
                shares = [coverage(world, repeat(partial(intervals, world, count)))]
                print_row(count, [lowest(shares, key) for key in METRICS])
        print("\nThe same for the difference of two systems")
        print_row("videos", list(METRICS))
        for count in videos:
            shares = [pair_coverage(world, repeat(partial(pair_intervals, world, count))) for world in WORLDS]
            print_row(count, [lowest(shares, key) for key in METRICS])
        print("\nPer cent of reports on equal systems in which any difference is significant")
        print_row("videos", [f"{systems} systems, {metric}" for metric in ("top-1", "mAP") for systems in (2, 5, 10)])
        for count in (20, 50, 100, 500):
            single = [repeat(partial(any_significant, systems, count, False)) for systems in (2, 5, 10)]
            several = [repeat(partial(any_significant, systems, count, True)) for systems in (2, 5, 10)]
            print_row(count, [100 * float(np.mean(found)) for found in single + several])
        print("\nPer cent of differences of 5 points that are found with 500 videos")
        for systems in (2, 5, 10):
            found = repeat(partial(finds_difference, systems))
            print_row(f"{systems} systems", [100 * float(np.mean(found))])
        print("\nPer cent of intervals of a few-shot gain that contain the truth")
        for world in FEWSHOT_WORLDS:
            truth = float(np.mean([value for value, _ in repeat(partial(gain, world.unlimited))]))
            found = repeat(partial(gain, world))
            print_row(str(world), [100 * float(np.mean([low <= truth <= high for _, (low, high) in found]))])


def lowest(shares: Sequence[dict[str, float]], metric: str) -> float | str:
    """Return the lowest of several shares, or a dash for a metric that is not computed for so few videos."""
    return min((share[metric] for share in shares if metric in share), default="–")


def print_row(name: object, cells: Sequence[object]) -> None:
    """Print a row of a Markdown table."""
    shown = [f"{cell:.1f}" if isinstance(cell, float) else str(cell) for cell in cells]
    print("|", " | ".join([str(name), *shown]), "|", flush=True)


# -- evaluation --------------------------------------------------------------------------------------------------------

METRICS = ("top1", "mean_class", "macro_f1", "ece", "brier", "auroc_none", "map")


@dataclass(frozen=True)
class World:
    """A population of videos and a model.

    Args:
        classes: number of classes, equally frequent.
        separation: by how much the logit of the true class is higher, in standard deviations.
        sharpness: what logits are multiplied by; the model is calibrated if it equals `separation`.
        unknown: share of videos that belong to none of the classes.
    """

    classes: int
    separation: float
    sharpness: float
    unknown: float = 0.3

    def draw(self, videos: int, seed: int, *, better_by: float = 0.0, shared: float = 0.0) -> tuple[ScoreTable, ...]:
        """Return the scores of two models for some videos.

        Args:
            better_by: separation that the second model has in addition.
            shared: share of the variance that both models have in common.
        """
        rng = np.random.default_rng(seed)
        truth = rng.integers(0, self.classes, videos)
        truth[rng.random(videos) < self.unknown] = -1
        known, common = truth >= 0, rng.standard_normal((videos, self.classes))
        tables = []
        for separation in (self.separation, self.separation + better_by):
            noise = rng.standard_normal((videos, self.classes))
            logits = shared**0.5 * common + (1 - shared) ** 0.5 * noise
            logits[known, truth[known]] += separation
            tables.append(table_of(self.sharpness * logits, truth))
        return tuple(tables)


WORLDS = (
    World(2, 1.0, 1.0),
    World(2, 3.0, 3.0),
    World(5, 1.5, 1.0),
    World(5, 3.5, 1.0),
    World(10, 2.5, 2.5),
    World(10, 2.5, 6.0),
    World(10, 4.5, 4.5),
)


# Whose answers are nearly all correct, and more confident than that.
CONFIDENT = (World(10, 4.5, 20, 0.02), World(10, 5, 10, 0), World(2, 3, 12, 0))
MANY_CLASSES = ((World(50, 3, 3, 0), (100, 500)), (World(100, 3, 3, 0), (200, 1000)))  # with numbers of videos


def table_of(logits: NDArray[np.float64], truth: NDArray[np.int64] | NDArray[np.bool_]) -> ScoreTable:
    """Return logits [V, C] and true classes [V] as a table."""
    videos, classes = logits.shape
    return ScoreTable(tuple(map(str, range(classes))), tuple(map(str, range(videos))), logits, truth)


def true_metrics(world: World, *, better_by: float = 0.0) -> dict[str, float]:
    """Return the metrics of the population, to about 0.1 points."""
    table = world.draw(TRUTH_VIDEOS, 10**9, better_by=better_by)[1]
    return {name: metric.value for name, metric in measure(table, resamples=1).metrics.items()}


def intervals(world: World, videos: int, seed: int) -> dict[str, Ends]:
    """Return the ends of all intervals in a sample of videos."""
    table = world.draw(videos, seed)[0]
    if not table.present.any():
        return {}
    metrics = measure(table, seed=seed, resamples=RESAMPLES).metrics
    return {name: (metric.low, metric.high) for name, metric in metrics.items()}


def coverage(world: World, found: Sequence[dict[str, Ends]]) -> dict[str, float]:
    """Return the per cent of intervals that contain the truth, by metric."""
    return _coverage(found, true_metrics(world))


def pair_intervals(world: World, videos: int, seed: int) -> dict[str, Ends]:
    """Return the ends of the intervals of all differences in a sample of videos."""
    first, second = world.draw(videos, seed, better_by=BETTER_BY, shared=0.5)
    if not first.present.any():
        return {}
    return {row.metric: (row.low, row.high) for row in compare(first, second, seed=seed, resamples=RESAMPLES)}


def pair_coverage(world: World, found: Sequence[dict[str, Ends]]) -> dict[str, float]:
    """Return the per cent of intervals that contain the true difference, by metric."""
    first, second = true_metrics(world), true_metrics(world, better_by=BETTER_BY)
    return _coverage(found, {name: second[name] - first[name] for name in first})


def _coverage(found: Sequence[dict[str, Ends]], truth: dict[str, float]) -> dict[str, float]:
    ends = {name: [one[name] for one in found if name in one] for name in METRICS}
    return {
        name: 100 * float(np.mean([low <= truth[name] <= high for low, high in rows]))
        for name, rows in ends.items()
        if rows
    }


def several_systems(
    systems: int, videos: int, seed: int, *, better_by: float = 0.0, multi_label: bool = False
) -> list[ScoreTable]:
    """Return the scores of systems that share half of their variance, for videos of 10 classes.

    Args:
        better_by: separation that the second system has in addition; the others are equal.
    """
    rng = np.random.default_rng(seed)
    classes = 10
    if multi_label:
        truth = rng.random((videos, classes)) < 0.2
        truth[0, 0] = True
    else:
        truth = np.eye(classes, dtype=np.bool_)[rng.integers(0, classes, videos)]
    common, noise = rng.standard_normal((videos, classes)), rng.standard_normal((systems, videos, classes))
    logits = 0.5**0.5 * (common + noise) + 2.5 * truth
    logits[1] += better_by * truth
    return [table_of(2.5 * one, truth if multi_label else truth.argmax(axis=1)) for one in logits]


def compared(tables: Sequence[ScoreTable], seed: int) -> list[Comparison]:
    """Return the comparisons of all systems with the first, marked as in a report."""
    resamples = RESAMPLES if tables[0].multi_label else 1  # an exact test needs none
    rows = [row for other in tables[1:] for row in compare(tables[0], other, seed=seed, resamples=resamples)]
    return mark_significant(rows, "map" if tables[0].multi_label else "top1")


def any_significant(systems: int, videos: int, multi_label: bool, seed: int) -> bool:
    """Return whether a report on equal systems calls any difference significant."""
    tables = several_systems(systems, videos, seed, multi_label=multi_label)
    return any(row.significant for row in compared(tables, seed))


def finds_difference(systems: int, seed: int) -> bool:
    """Return whether a report finds that the second of several systems is 5 points better than the first."""
    rows = compared(several_systems(systems, 500, seed, better_by=FIVE_POINTS), seed)
    return bool(next(row.significant for row in rows if row.significant is not None))


# -- few-shot learning -------------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class FewshotWorld:
    """Classes around random centres, a classifier that averages text and drawn videos, and a baseline from text alone.

    Args:
        shots: number of videos per class to learn from.
        pool: number of videos per class to draw from.
        test: number of test videos per class; 0: those of the pool that were not drawn.
        trials: number of draws.
    """

    shots: int
    pool: int
    test: int
    trials: int
    classes: int = 5

    @property
    def unlimited(self) -> FewshotWorld:
        """The same with fresh videos for a single draw, for the true gain."""
        return FewshotWorld(self.shots, self.shots, 400, 1, self.classes)

    def __str__(self) -> str:
        tested = f"{self.test} test videos" if self.test else "the rest is tested on"
        return f"{count(self.trials, 'draw')} of {self.shots} from {self.pool} videos per class, {tested}"


FEWSHOT_WORLDS = (
    FewshotWorld(1, 10, 0, 3),
    FewshotWorld(1, 20, 0, 10),
    FewshotWorld(1, 20, 20, 30),
    FewshotWorld(4, 20, 0, 10),
    FewshotWorld(4, 20, 20, 10),
    FewshotWorld(16, 40, 40, 5),
    FewshotWorld(16, 40, 40, 1),
)


def gain(world: FewshotWorld, seed: int) -> tuple[float, Ends]:
    """Return the gain that a study measures, and its interval."""
    dimensions = 16
    centres = np.random.default_rng(0).standard_normal((world.classes, dimensions)) * 0.75
    texts = centres + np.random.default_rng(1).standard_normal(centres.shape) * 0.75
    rng = np.random.default_rng(seed)
    pool = centres[:, None] + rng.standard_normal((world.classes, world.pool + world.test, dimensions))
    outcomes, baseline = [], []
    for trial in range(world.trials):
        order = np.stack([rng.permutation(world.pool) for _ in range(world.classes)])
        drawn = np.take_along_axis(pool, order[:, : world.shots, None], axis=1)
        rest = np.arange(world.pool, world.pool + world.test)[None].repeat(world.classes, 0)
        tested = rest if world.test else order[:, world.shots :]
        videos = (tested + 1000 * np.arange(world.classes)[:, None]).ravel()
        features = np.take_along_axis(pool, tested[..., None], axis=1).reshape(-1, dimensions)
        truth = np.arange(world.classes).repeat(tested.shape[1])
        for kept, prototypes in ((outcomes, (drawn.mean(axis=1) + texts) / 2), (baseline, texts)):
            guesses = ((features[:, None] - prototypes) ** 2).sum(axis=2).argmin(axis=1)
            counts = confusion(truth, guesses, world.classes)
            kept.append(Outcome("probe", world.shots, trial, counts, guesses == truth, videos, {}))
    measured = summarise(outcomes, baseline).gain
    assert measured.low is not None
    assert measured.high is not None
    return measured.value, (measured.low, measured.high)


if __name__ == "__main__":
    main()
