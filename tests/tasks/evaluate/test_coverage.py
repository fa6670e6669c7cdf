"""Simulations with a known truth: how often intervals contain it, and how often equal systems differ significantly."""

from functools import partial

import numpy as np
import pytest
from scipy.stats import binom

from benchmarks.coverage import (
    CONFIDENT,
    FEWSHOT_WORLDS,
    WORLDS,
    FewshotWorld,
    World,
    any_significant,
    coverage,
    finds_difference,
    gain,
    intervals,
    pair_coverage,
    pair_intervals,
)

RUNS = 200
CHANCE = 1e-4  # that a test fails although its claim is exactly true

pytestmark = pytest.mark.slow


def at_least(share: float, per_cent: float, runs: int = RUNS) -> bool:
    """Return whether a share found in simulations may be that of a true share of at least `per_cent`."""
    return share * runs / 100 >= binom.ppf(CHANCE, runs, per_cent / 100)


def at_most(share: float, per_cent: float, runs: int = RUNS) -> bool:
    """Return whether a share found in simulations may be that of a true share of at most `per_cent`."""
    return at_least(100 - share, 100 - per_cent, runs)


@pytest.mark.parametrize("videos", [5, 20, 100])
@pytest.mark.parametrize("world", [*WORLDS, *CONFIDENT], ids=str)
def test_intervals_contain_the_truth(world: World, videos: int) -> None:
    shares = coverage(world, [intervals(world, videos, seed) for seed in range(RUNS)])

    least = {"top1": 93, "mean_class": 93}
    assert {name: share for name, share in shares.items() if not at_least(share, least.get(name, 90))} == {}


@pytest.mark.parametrize("videos", [20, 100])
@pytest.mark.parametrize("world", WORLDS[::3], ids=str)
def test_intervals_of_differences_contain_the_truth(world: World, videos: int) -> None:
    shares = pair_coverage(world, [pair_intervals(world, videos, seed) for seed in range(RUNS)])

    assert {name: share for name, share in shares.items() if not at_least(share, 90)} == {}


@pytest.mark.parametrize("multi_label", [False, True], ids=["top1", "map"])
@pytest.mark.parametrize("videos", [20, 500])
@pytest.mark.parametrize("systems", [2, 5, 10])
def test_equal_systems_rarely_differ_significantly(systems: int, videos: int, multi_label: bool) -> None:
    found = map(partial(any_significant, systems, videos, multi_label), range(RUNS))

    assert at_most(100 * float(np.mean(list(found))), 6)


def test_a_difference_of_five_points_is_found_in_500_videos() -> None:
    assert at_least(100 * float(np.mean([finds_difference(2, seed) for seed in range(RUNS)])), 60)


@pytest.mark.parametrize("world", FEWSHOT_WORLDS, ids=str)
def test_the_interval_of_a_few_shot_gain_contains_the_truth(world: FewshotWorld) -> None:
    truth = float(np.mean([gain(world.unlimited, seed)[0] for seed in range(RUNS)]))
    found = [gain(world, seed)[1] for seed in range(RUNS)]

    assert at_least(100 * float(np.mean([low <= truth <= high for low, high in found])), 90)
