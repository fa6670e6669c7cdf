"""Calibration error, AUROC, FPR95 and folds, against slow loops and scikit-learn."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as arrays
from numpy.typing import NDArray

from bike_cli.engine.calibration.quality import calibration_error, cross_fitted, rejected_by_others

LEVELS = st.integers(0, 8).map(lambda level: level / 8)  # with ties


def slow_calibration_error(chances: list[float], correct: list[bool]) -> float:
    error = 0.0
    for i in range(15):
        bin_ = [
            (chance, hit)
            for chance, hit in zip(chances, correct, strict=True)
            if i / 15 < chance <= (i + 1) / 15 or (i == 0 and chance == 0)
        ]
        if bin_:
            confidence, accuracy = (sum(column) / len(bin_) for column in zip(*bin_, strict=True))
            error += len(bin_) / len(chances) * abs(accuracy - confidence)
    return error


@given(st.lists(st.tuples(st.floats(0, 1).map(lambda x: round(x, 3)), st.booleans()), min_size=1, max_size=50))
def test_the_calibration_error_is_that_of_its_definition(answers: list[tuple[float, bool]]) -> None:
    chances, correct = [chance for chance, _ in answers], [hit for _, hit in answers]

    assert calibration_error(np.array(chances), np.array(correct)) == pytest.approx(
        slow_calibration_error(chances, correct), abs=1e-12
    )


@given(st.lists(st.tuples(st.floats(0, 1), st.booleans(), st.integers(1, 4)), min_size=1, max_size=20))
def test_a_weight_is_a_number_of_clips(answers: list[tuple[float, bool, int]]) -> None:
    chances, correct, weights = (np.array(column) for column in zip(*answers, strict=True))

    expected = calibration_error(np.repeat(chances, weights), np.repeat(correct, weights))
    assert calibration_error(chances, correct, weights) == pytest.approx(expected, abs=1e-12)


@given(
    arrays.arrays(np.float64, st.integers(2, 45), elements=LEVELS),
    st.sampled_from([0.05, 0.1, 0.15, 0.3]),
)
def test_each_clip_is_judged_by_all_others(values: NDArray[np.float64], promise: float) -> None:
    values = np.sort(values)

    expected = []
    for i, value in enumerate(values):
        others = np.delete(values, i)
        expected.append((1 + (others <= value).sum()) / (len(others) + 1) <= promise)
    assert rejected_by_others(values, promise).tolist() == expected


@pytest.mark.parametrize("clips", [2, 7, 100, 101, 345])
def test_no_clip_is_predicted_from_itself(clips: int) -> None:
    fitted: list[int] = []

    def fit(places: NDArray[np.int64]) -> frozenset[int]:
        fitted.append(len(places))
        return frozenset(places.tolist())

    def predict(others: frozenset[int], places: NDArray[np.int64]) -> NDArray[np.float64]:
        assert not others & set(places.tolist())
        assert len(others) + len(places) == clips
        return places.astype(np.float64)

    assert cross_fitted(fit, predict, clips).tolist() == list(range(clips))
    assert len(fitted) == (clips if clips <= 100 else 10)
