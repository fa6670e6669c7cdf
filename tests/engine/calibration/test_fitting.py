"""The scale and the curve, against general optimisers and scikit-learn."""

import math
from collections.abc import Callable

import numpy as np
import pytest
from numpy.typing import NDArray
from scipy import optimize, special
from sklearn.linear_model import LogisticRegression

from bike_cli.engine.calibration.fitting import fit_curve, fit_scale, sigmoid, softmax
from bike_cli.engine.calibration.quality import log_loss


def drawn_clips(seed: int, *, clips: int, classes: int, noise: float) -> tuple[NDArray[np.float64], NDArray[np.int64]]:
    """Draw logits of clips, 100 times cosines: the true label is 0.15 nearer, and cosines have noise."""
    rng = np.random.default_rng(seed)
    truth = rng.integers(0, classes, clips)
    cosines = 0.15 + noise * rng.normal(size=(clips, classes))
    cosines[np.arange(clips), truth] += 0.15
    return 100 * cosines, truth


def objective(scale: float, logits: NDArray[np.float64], truth: NDArray[np.int64]) -> float:
    """The negative log posterior, from its definition."""
    likelihood = special.log_softmax(scale * logits, axis=1)[np.arange(len(truth)), truth].sum()
    return float(-likelihood + math.log(scale) ** 2 / (2 * 0.5**2))


CASES = [
    {"seed": seed, "clips": clips, "classes": classes, "noise": noise}
    for seed, (clips, classes, noise) in enumerate(
        [(20, 4, 0.01), (20, 4, 0.05), (25, 5, 0.1), (150, 32, 0.02), (150, 32, 0.06), (150, 32, 0.1), (9, 2, 0.3)]
    )
]


@pytest.mark.parametrize("case", CASES)
def test_the_scale_is_the_most_probable_on_a_dense_grid(case: dict[str, float]) -> None:
    logits, truth = drawn_clips(**case)  # type: ignore[arg-type]

    scale = fit_scale(logits, truth)

    grid = np.geomspace(0.2, 2, 400)
    losses = [objective(candidate, logits, truth) for candidate in grid]
    start = int(np.argmin(losses))
    bounds = (grid[max(start - 1, 0)], grid[min(start + 1, len(grid) - 1)])
    exact = optimize.minimize_scalar(
        objective, args=(logits, truth), bounds=bounds, method="bounded", options={"xatol": 1e-9}
    ).x
    assert scale == pytest.approx(exact, abs=1e-5)
    assert 0.2 <= scale <= 2


def test_the_scale_stays_within_its_bounds() -> None:
    logits, truth = drawn_clips(0, clips=500, classes=8, noise=0.02)

    assert fit_scale(logits, (truth + 1) % 8) == 0.2  # all wrong
    assert fit_scale(logits / 100, truth) == 2.0  # all correct, and far too unsure
    assert fit_scale(np.zeros((5, 1)), np.zeros(5, np.int64)) == pytest.approx(1, abs=1e-9)  # the prior alone


@pytest.mark.parametrize("noise", [0.01, 0.04, 0.06, 0.1])
@pytest.mark.parametrize("classes", [4, 32])
def test_a_scale_from_five_clips_a_class_never_harms_others(noise: float, classes: int) -> None:
    before, after = [], []
    for seed in range(20):
        logits, truth = drawn_clips(seed, clips=5 * classes, classes=classes, noise=noise)
        scale = fit_scale(logits, truth)
        assert 0.2 <= scale <= 2
        others, own = drawn_clips(1000 + seed, clips=400, classes=classes, noise=noise)
        before.append(-special.log_softmax(others, axis=1)[np.arange(400), own].mean())
        after.append(-special.log_softmax(scale * others, axis=1)[np.arange(400), own].mean())

    assert np.mean(after) <= np.mean(before) + 0.01


def test_a_bare_scale_would_run_away() -> None:
    logits, truth = drawn_clips(0, clips=20, classes=4, noise=0.01)  # all correct
    logits /= 10  # and unsure

    bare = [special.log_softmax(s * logits, axis=1)[np.arange(20), truth].sum() for s in (1, 10, 100)]
    assert bare[0] < bare[1] < bare[2]
    assert fit_scale(logits, truth) < 2.0001


def curve_of_scikit_learn(
    values: NDArray[np.float64], correct: NDArray[np.bool_], known: int
) -> Callable[[NDArray[np.float64]], NDArray[np.float64]]:
    """Fit the curve as a ridge regression without an intercept: the inputs are scaled by their prior deviations."""
    n = len(values)
    weights = np.where(np.arange(n) < known, n / (2 * known), n / (2 * (n - known)))
    mean = np.average(values, weights=weights)
    spread = np.sqrt(np.average((values - mean) ** 2, weights=weights))

    def inputs(x: NDArray[np.float64]) -> NDArray[np.float64]:
        return np.stack([4 * (x - mean) / spread, np.full(len(x), 10.0)], axis=1)

    model = LogisticRegression(C=1, fit_intercept=False, tol=1e-12, max_iter=10_000, solver="newton-cholesky")
    model.fit(inputs(values), correct, sample_weight=weights)
    return lambda x: model.predict_proba(inputs(x))[:, 1]


@pytest.mark.parametrize(("known", "unknown", "gap"), [(150, 10, 0.2), (150, 10, 0.02), (20, 40, 0.05), (9, 1, 0.0)])
def test_the_curve_is_that_of_scikit_learn(known: int, unknown: int, gap: float) -> None:
    rng = np.random.default_rng(known)
    values = np.concatenate([0.2 + gap + 0.03 * rng.normal(size=known), 0.2 + 0.03 * rng.normal(size=unknown)])
    is_known = np.arange(known + unknown) < known
    correct = is_known & (rng.random(known + unknown) < 0.9)

    curve = fit_curve(values, correct, is_known)

    grid = np.linspace(0, 0.6, 50)
    expected = curve_of_scikit_learn(values, correct, known)(grid)
    assert [curve.at(x) for x in grid] == pytest.approx(expected, abs=1e-5)


@pytest.mark.parametrize("unknown", [2, 10, 200])
def test_the_curve_does_not_depend_on_how_many_clips_are_unknown(unknown: int) -> None:
    rng = np.random.default_rng(0)
    low = np.tile([0.15, 0.2], unknown // 2)
    values = np.concatenate([0.25 + 0.05 * rng.normal(size=100), low])
    is_known = np.arange(len(values)) < 100

    curve = fit_curve(values, is_known, is_known)
    twice = fit_curve(np.concatenate([values, low]), np.append(is_known, low < 0), np.append(is_known, low < 0))

    assert curve.at(0.2) == pytest.approx(twice.at(0.2), abs=0.02)


def test_separable_clips_have_a_finite_curve() -> None:
    is_known = np.array([False, False, True, True])

    curve = fit_curve(np.array([0.1, 0.11, 0.3, 0.31]), is_known, is_known)

    assert 0.001 < curve.at(0.105) < 0.1
    assert 0.9 < curve.at(0.305) < 0.999


@pytest.mark.parametrize("correct", [[True] * 4, [False] * 4, [True, False, True, True]])
@pytest.mark.parametrize("is_known", [[True] * 4, [False] * 4, [True, True, True, False]])
@pytest.mark.parametrize("values", [[0.3] * 4, [0.1, 0.2, 0.3, 0.4]])
def test_degenerate_clips_have_a_finite_curve(values: list[float], is_known: list[bool], correct: list[bool]) -> None:
    curve = fit_curve(np.array(values), np.array(correct), np.array(is_known))

    assert math.isfinite(curve.slope)
    assert 0.0001 < curve.at(0.3) < 0.9999
    if len(set(values)) == 1:
        assert curve.slope == pytest.approx(0, abs=1e-9)


def test_functions_are_those_of_scipy() -> None:
    rng = np.random.default_rng(0)
    logits, truth = 300 * rng.normal(size=(40, 7)), rng.integers(0, 7, 40)

    assert softmax(logits) == pytest.approx(special.softmax(logits, axis=1), abs=1e-15)
    assert sigmoid(logits) == pytest.approx(special.expit(logits), abs=1e-15)
    assert log_loss(logits, truth) == pytest.approx(-special.log_softmax(logits, axis=1)[np.arange(40), truth])
