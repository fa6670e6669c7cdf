"""The interval of mean class accuracy: that of a single share where it should be, and never too narrow."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy.stats import beta, binom, binomtest

from bike_cli.tasks.evaluate.statistics.intervals import mean_proportion_interval

RUNS = 1000
CHANCE = 1e-4  # that a simulation fails although its claim is exactly true


def counts(*shares: tuple[int, int]) -> tuple[np.ndarray, np.ndarray]:
    """Return successes and trials as arrays."""
    return np.array([s for s, _ in shares]), np.array([t for _, t in shares])


@pytest.mark.parametrize(
    ("shares", "successes", "trials"),
    [
        ([(7, 9)], 7, 9),
        ([(5, 5)], 5, 5),
        ([(0, 3), (0, 0)], 0, 3),  # a class without videos does not count
        ([(2, 4), (4, 4), (0, 4)], 6, 12),
        ([(1, 1), (0, 1), (1, 1), (1, 1)], 3, 4),
    ],
)
def test_classes_with_equally_many_videos_have_the_exact_interval_of_all_videos(
    shares: list[tuple[int, int]], successes: int, trials: int
) -> None:
    found = mean_proportion_interval(*counts(*shares))

    exact = binomtest(successes, trials).proportion_ci(method="exact")
    assert found.value == pytest.approx(successes / trials)
    assert (found.low, found.high) == pytest.approx((exact.low, exact.high))


@given(
    shares=st.lists(
        st.integers(0, 30).flatmap(lambda t: st.tuples(st.integers(0, t), st.just(t))), min_size=1, max_size=8
    ).filter(lambda shares: any(t for _, t in shares))
)
def test_the_interval_contains_the_mean_and_is_at_least_that_of_all_videos(shares: list[tuple[int, int]]) -> None:
    found = mean_proportion_interval(*counts(*shares))

    videos = sum(t for _, t in shares)
    assert found.value == pytest.approx(np.mean([s / t for s, t in shares if t]))
    assert 0 <= found.low <= found.value <= found.high <= 1
    # Unequal classes make the mean less certain than the share of as many videos.
    hits, misses = found.value * videos, (1 - found.value) * videos
    assert found.low <= (beta.ppf(0.025, hits, misses + 1) if hits > 1e-9 else 0) + 1e-9
    assert found.high >= (beta.ppf(0.975, hits + 1, misses) if misses > 1e-9 else 1) - 1e-9


PROFILES = {
    "easy and hard": lambda place: np.where(place < 0.5, 0.98, 0.3),
    "ever easier": lambda place: 0.2 + 0.8 * place,
    "ever harder": lambda place: 1 - 0.8 * place,
    "equal": lambda place: np.full_like(place, 0.9),
    "nearly perfect": lambda place: np.where(place < 0.8, 0.99, 0.5),
}


@pytest.mark.slow
@pytest.mark.parametrize("profile", PROFILES)
@pytest.mark.parametrize("sizes", ["equal", "long tail", "one rare class"])
@pytest.mark.parametrize("classes", [2, 10, 50, 400])
def test_the_interval_contains_the_mean_of_unequal_classes(classes: int, sizes: str, profile: str) -> None:
    rng, order = np.random.default_rng(0), np.arange(classes)
    recalls = PROFILES[profile]((order + 0.5) / classes)
    weights = {"equal": np.ones(classes), "long tail": 1 / (1 + order), "one rare class": np.where(order, 1, 0.02)}
    shares = weights[sizes] / weights[sizes].sum()

    for videos in (5, 10, 20, 50, 200, 1000):
        found = []
        for _ in range(RUNS):
            trials = rng.multinomial(videos, shares)
            interval = mean_proportion_interval(rng.binomial(trials, recalls), trials)
            truth = recalls[trials > 0].mean()
            found.append(interval.low - 1e-9 <= truth <= interval.high + 1e-9)
        assert sum(found) >= binom.ppf(CHANCE, RUNS, 0.93), f"{videos} videos: {sum(found) / RUNS:.1%}"
