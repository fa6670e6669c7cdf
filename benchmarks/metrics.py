"""Compare the time of all metrics of 100,000 predictions with one sort of the scores: `python -m benchmarks.metrics`.

The lower limit is one argsort of the scores, which every ranking of videos within classes needs.
"""

from __future__ import annotations

import argparse
import time
from collections.abc import Callable

import numpy as np

from bike_cli.tasks.evaluate.measurement import compare, measure
from bike_cli.tasks.evaluate.score_table import ScoreTable

TARGET_S = 20


def main() -> None:
    """Print the time of a sort, of all metrics with their intervals, and of a comparison."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--videos", type=int, default=100_000, help="number of predictions (default: %(default)s)")
    parser.add_argument("--classes", type=int, default=400, help="number of classes (default: %(default)s)")
    parser.add_argument("--resamples", type=int, default=1000, help="bootstrap resamples (default: %(default)s)")
    options = parser.parse_args()
    table = table_of(options.videos, options.classes, seed=0)
    sort_s = timed(lambda: table.logits.argsort(axis=0))
    figures_s = timed(lambda: measure(table, resamples=options.resamples))
    other = table_of(options.videos, options.classes, seed=1)
    compared_s = timed(lambda: compare(table, other, resamples=options.resamples))
    several = multi_label_table(options.videos, options.classes)
    several_s = timed(lambda: measure(several, resamples=options.resamples))
    print(f"{options.videos} predictions, {options.classes} classes, {options.resamples} resamples")
    print(f"one argsort     {sort_s:6.1f} s")
    print(f"metrics         {figures_s:6.1f} s   {figures_s / sort_s:.1f} sorts; target: under {TARGET_S} s")
    print(f"multi-label     {several_s:6.1f} s   {several_s / sort_s:.1f} sorts")
    print(f"comparison      {compared_s:6.1f} s   {compared_s / sort_s:.1f} sorts")


def table_of(videos: int, classes: int, *, seed: int) -> ScoreTable:
    """Return the scores of a fairly accurate classifier; a twentieth of the videos belong to no class."""
    truth = np.random.default_rng(0).integers(0, classes, videos)
    logits = np.random.default_rng(seed).standard_normal((videos, classes))
    logits[np.arange(videos), truth] += 3
    truth[::20] = -1
    return ScoreTable(*names(videos, classes), logits, truth)


def multi_label_table(videos: int, classes: int) -> ScoreTable:
    """Return the scores for videos with about four labels each."""
    rng = np.random.default_rng(0)
    truth = rng.random((videos, classes)) < 4 / classes
    return ScoreTable(*names(videos, classes), rng.standard_normal(truth.shape) + 2 * truth, truth)


def names(videos: int, classes: int) -> tuple[tuple[str, ...], tuple[str, ...]]:
    """Return names for labels and videos."""
    return tuple(str(i) for i in range(classes)), tuple(f"{i}.mp4" for i in range(videos))


def timed(work: Callable[[], object]) -> float:
    """Return the seconds that some work takes."""
    start_s = time.perf_counter()
    work()
    return time.perf_counter() - start_s


if __name__ == "__main__":
    main()
