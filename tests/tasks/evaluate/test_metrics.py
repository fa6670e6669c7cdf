"""Accuracies equal those of plain loops, and intervals follow from the density of Student's t."""

import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from numpy.typing import NDArray

from bike_cli.tasks.evaluate.metrics import confusion, mean_class_accuracy, mean_of, recalls, share_of, top1
from bike_cli.tasks.fewshot.report import Outcome, summarise

answers = st.lists(st.tuples(st.integers(0, 3), st.integers(0, 3)), min_size=1, max_size=30)


def counted(pairs: list[tuple[int, int]]) -> NDArray[np.int64]:
    truth, guesses = np.array(pairs, dtype=np.int64).T
    return confusion(truth, guesses, 4)


def covered(reach: float, freedom: int) -> float:
    """Return the probability that Student's t is within +-reach, by the trapezoidal rule."""
    t = np.linspace(-reach, reach, 200_001)
    factor = math.gamma((freedom + 1) / 2) / (math.sqrt(freedom * math.pi) * math.gamma(freedom / 2))
    return float(np.trapezoid(factor * (1 + t**2 / freedom) ** (-(freedom + 1) / 2), t))


def test_three_values_have_the_interval_of_two_degrees_of_freedom() -> None:
    mean = mean_of([1.0, 2.0, 3.0])

    assert mean.value == 2
    assert mean.error == pytest.approx(1 / math.sqrt(3))
    assert mean.margin == pytest.approx(4.303 / math.sqrt(3), rel=1e-4)


def test_two_values_have_the_interval_of_one_degree_of_freedom() -> None:
    mean = mean_of([0.0, 1.0])

    assert mean.value == 0.5
    assert mean.error == pytest.approx(0.5)
    assert mean.margin == pytest.approx(12.706 / 2, rel=1e-4)


@pytest.mark.parametrize("count", range(2, 32))
def test_the_interval_covers_95_percent_of_students_t(count: int) -> None:
    mean = mean_of(np.arange(count, dtype=np.float64))

    assert mean.error is not None
    assert mean.margin is not None
    assert covered(mean.margin / mean.error, count - 1) == pytest.approx(0.95, abs=1e-4)


@pytest.mark.parametrize(("count", "t"), [(32, 2.0395), (61, 2.0003), (1001, 1.9623)])
def test_many_values_have_students_interval_too(count: int, t: float) -> None:
    mean = mean_of(np.arange(count, dtype=np.float64))

    assert mean.error is not None
    assert mean.margin is not None
    assert mean.margin / mean.error == pytest.approx(t, abs=0.003)


@given(values=st.lists(st.floats(-100, 100), min_size=2, max_size=40))
def test_the_error_is_that_of_a_plain_loop(values: list[float]) -> None:
    mean = mean_of(values)

    middle = sum(values) / len(values)
    variance = sum((value - middle) ** 2 for value in values) / (len(values) - 1)
    assert mean.value == pytest.approx(middle, abs=1e-9)
    assert mean.error == pytest.approx(math.sqrt(variance / len(values)), abs=1e-9)


def test_a_single_value_has_no_error() -> None:
    mean = mean_of([0.75])

    assert (mean.value, mean.error, mean.margin) == (0.75, None, None)


def test_equal_values_have_no_error() -> None:
    mean = mean_of([0.5, 0.5, 0.5, 0.5])

    assert (mean.value, mean.error, mean.margin) == (0.5, 0, 0)


@pytest.mark.parametrize("hits", [0, 3, 8])
def test_the_error_of_a_share_adds_two_hits_and_two_misses(hits: int) -> None:
    found = share_of(np.arange(8) < hits)

    added = np.array([1.0] * (hits + 2) + [0.0] * (10 - hits))
    assert found.value == hits / 8
    assert found.error == pytest.approx(added.std() / math.sqrt(12))
    reach = 1.959964 * added.std() / math.sqrt(12)
    assert found.low == pytest.approx(max(hits / 8 - reach, 0))
    assert found.high == pytest.approx(min(hits / 8 + reach, 1))


def test_equal_answers_of_few_videos_leave_the_gain_uncertain() -> None:
    counts, hits = np.eye(2, dtype=np.int64), np.array([True, True])
    same = [Outcome("probe", 1, trial, counts, hits, np.arange(2), {}) for trial in (0, 1)]

    gain = summarise(same, same).gain

    assert gain.value == 0
    assert (gain.margin or 0) > 0.9  # of one draw of two videos


@pytest.mark.parametrize("trials", [1, 2])
@pytest.mark.parametrize("hits", [0, 1, 2])
def test_intervals_stay_within_the_possible_values(hits: int, trials: int) -> None:
    counts = np.array([[hits, 2 - hits], [0, 0]], dtype=np.int64)
    correct = [np.arange(2) < hits, np.arange(2) < 2 - hits]
    outcomes = [Outcome("probe", 1, trial, counts, correct[trial], np.arange(2), {}) for trial in range(trials)]
    baseline = [Outcome("zeroshot", 1, trial, counts, ~correct[trial], np.arange(2), {}) for trial in range(trials)]

    found = summarise(outcomes, baseline)

    for mean, lowest in ((found.top1, 0), (found.mean_class, 0), (found.gain, -1)):
        assert (mean.low is None) == (mean.margin is None)
        if mean.low is not None and mean.high is not None:
            assert lowest <= mean.low <= mean.value <= mean.high <= 1
            assert mean.margin == (mean.high - mean.low) / 2
    assert found.gain.low == -1 or found.gain.high == 1  # of two videos, the interval without a limit is wider


def test_no_values_have_no_mean() -> None:
    with pytest.raises(ValueError, match="values is empty"):
        mean_of([])


@given(pairs=answers)
def test_confusion_counts_each_pair_of_classes(pairs: list[tuple[int, int]]) -> None:
    counts = counted(pairs)

    assert counts.tolist() == [[pairs.count((truth, guess)) for guess in range(4)] for truth in range(4)]


def test_confusion_has_a_row_for_classes_that_never_occur() -> None:
    counts = confusion(np.array([1, 1]), np.array([0, 1]), 3)

    assert counts.tolist() == [[0, 0, 0], [1, 1, 0], [0, 0, 0]]


@given(pairs=answers)
def test_top1_is_the_share_of_correct_videos(pairs: list[tuple[int, int]]) -> None:
    assert top1(counted(pairs)) == pytest.approx(sum(truth == guess for truth, guess in pairs) / len(pairs))


@given(pairs=answers)
def test_recalls_are_the_share_of_correct_videos_per_class(pairs: list[tuple[int, int]]) -> None:
    shares = recalls(counted(pairs))

    guesses = [[guess for truth, guess in pairs if truth == c] for c in range(4)]
    expected = [own.count(c) / len(own) if own else math.nan for c, own in enumerate(guesses)]
    assert shares.tolist() == pytest.approx(expected, nan_ok=True)


@given(pairs=answers)
def test_macro_is_the_mean_over_the_classes_that_have_videos(pairs: list[tuple[int, int]]) -> None:
    present = sorted({truth for truth, _ in pairs})
    shares = [pairs.count((c, c)) / sum(truth == c for truth, _ in pairs) for c in present]

    assert mean_class_accuracy(counted(pairs)) == pytest.approx(sum(shares) / len(shares))


def test_a_class_without_a_video_has_no_recall_and_does_not_lower_the_mean() -> None:
    counts = np.array([[3, 1, 0], [0, 0, 0], [1, 0, 1]])

    assert recalls(counts).tolist() == pytest.approx([0.75, math.nan, 0.5], nan_ok=True)
    assert mean_class_accuracy(counts) == pytest.approx(0.625)


def test_a_large_class_decides_top1_but_not_macro() -> None:
    counts = np.array([[98, 0], [2, 0]])

    assert top1(counts) == pytest.approx(0.98)
    assert mean_class_accuracy(counts) == pytest.approx(0.5)
