"""The value of a calibration: ranks, thresholds and conditions, against slow definitions and simulations."""

import math
from fractions import Fraction

import numpy as np
import pytest
from calibrations import CONDITIONS, a_calibration
from hypothesis import given
from hypothesis import strategies as st

from bike_cli.engine.calibration.calibration import Curve, check_promise, fewest_clips, rejected_ranks
from bike_cli.errors import UsageError

PROMISES = ("0.01", "0.03", "0.05", "0.07", "0.1", "0.15", "0.29", "0.3", "0.49")


def slow_fit(values: list[float], value: float) -> Fraction:
    """The conformal p-value by its definition, as an exact fraction."""
    return Fraction(1 + sum(known <= value for known in values), len(values) + 1)


@given(
    st.lists(st.integers(-20, 20), min_size=1, max_size=60),
    st.integers(-21, 21),
    st.sampled_from(PROMISES),
)
def test_a_clip_is_rejected_where_its_p_value_is_at_most_the_promise(
    levels: list[int], level: int, promise: str
) -> None:
    values, value = [level / 32 for level in sorted(levels)], level / 32
    calibration = a_calibration(values=values, promise=float(promise))

    expected = slow_fit(values, value)
    assert calibration.fit(value) == float(expected)
    assert (calibration.fit(value) <= float(promise)) == (expected <= Fraction(promise))
    if len(values) >= fewest_clips(float(promise)):
        assert (value < calibration.threshold()) == (expected <= Fraction(promise))
    else:
        assert expected > Fraction(promise)  # no value at all is rejected


@pytest.mark.parametrize("promise", PROMISES)
def test_ranks_are_those_of_exact_arithmetic(promise: str) -> None:
    exact = Fraction(promise)

    for clips in range(1, 2000):
        assert rejected_ranks(float(promise), clips) == math.floor(exact * (clips + 1))
    assert fewest_clips(float(promise)) == next(n for n in range(1, 200) if exact * (n + 1) >= 1)


def test_nineteen_clips_are_the_least_for_five_per_cent() -> None:
    assert (fewest_clips(0.05), fewest_clips(0.1)) == (19, 9)
    assert a_calibration(values=np.arange(19) / 19).threshold() == 0
    with pytest.raises(
        UsageError, match=r"at least 19 known clips, .* has 18 clips; calibrate with 1 more, or .* 0\.1"
    ):
        a_calibration(values=np.arange(18) / 19).threshold()
    with pytest.raises(UsageError, match=r"needs at least 9 .* has 4 clips; calibrate with 5 more, or .* 0\.2"):
        check_promise(0.1, 4)
    with pytest.raises(UsageError, match=r"needs at least 19 .* has 1 clip; calibrate with 18 more$"):
        check_promise(0.05, 1)


@pytest.mark.parametrize("promise", [0.0, 0.5, -0.1, 1.0, math.nan])
def test_a_promise_outside_of_its_range_is_refused(promise: float) -> None:
    with pytest.raises(UsageError, match=r"promise is .*; give a number above 0 and below 0\.5"):
        a_calibration().threshold(promise)


@pytest.mark.parametrize(("clips", "promise"), [(19, 0.05), (39, 0.05), (140, 0.05), (19, 0.1), (10, 0.1)])
def test_exchangeable_clips_are_lost_at_most_as_often_as_promised(clips: int, promise: float) -> None:
    rng = np.random.default_rng(clips)
    draws = 4000
    # Skewed scores, whose distribution differs between draws: only exchangeability within a draw is assumed.
    values = np.tanh(rng.gamma(2, 0.1 + rng.random((draws, 1)), (draws, clips + 1)))
    thresholds = [a_calibration(values=np.sort(known), promise=promise).threshold() for known in values[:, :-1]]

    lost = float((values[:, -1] < thresholds).mean())

    error = math.sqrt(promise * (1 - promise) / draws)
    assert lost <= promise + 3 * error
    assert lost >= math.floor(promise * (clips + 1)) / (clips + 1) - 3 * error  # and no less than it can be


def test_ties_are_never_lost_more_often_than_promised() -> None:
    rng = np.random.default_rng(0)
    values = rng.integers(0, 5, (4000, 40)) / 8
    thresholds = [a_calibration(values=np.sort(known)).threshold() for known in values[:, :-1]]

    assert float((values[:, -1] < thresholds).mean()) <= 0.05


@given(st.floats(-1000, 1000), st.floats(-1000, 1000), st.floats(-1, 1))
def test_a_curve_is_a_logistic_function(slope: float, offset: float, value: float) -> None:
    at = a_calibration(curve=Curve(slope, offset)).right(value)

    assert at == pytest.approx((1 + math.tanh((slope * value + offset) / 2)) / 2, abs=1e-12)
    assert a_calibration(curve=None).right(value) is None


@pytest.mark.parametrize(
    ("changed", "problem"),
    [
        ({"values": []}, "values have shape"),
        ({"values": np.zeros(10_001)}, "values have shape"),
        ({"values": np.zeros((2, 2))}, "values have shape"),
        ({"values": [0.2, 0.1]}, "ascending"),
        ({"values": [0.1, math.nan]}, "finite"),
        ({"values": [0.1, 1.1]}, "not cosines"),
        ({"scale": 0.19}, "scale is 0.19"),
        ({"scale": math.nan}, "scale is nan"),
        ({"promise": 0.5}, "promise is 0.5"),
        ({"labels": ()}, "labels"),
        ({"labels": ("a", "a")}, "labels"),
        ({"measure": "margin"}, "measure is 'margin'"),
    ],
)
def test_values_outside_of_their_ranges_are_refused(changed: dict[str, object], problem: str) -> None:
    with pytest.raises(ValueError, match=problem):
        a_calibration(**changed)


def test_logits_are_not_bounded() -> None:
    assert a_calibration(values=[-3.0, 25.0], measure="logit", promise=0.4).threshold() == -3


def test_values_and_conditions_cannot_be_changed() -> None:
    values, conditions = np.array([0.1, 0.2]), dict(CONDITIONS)
    calibration = a_calibration(values=values, conditions=conditions)
    values[0], conditions["frames"] = 0.9, 99

    assert calibration.values.tolist() == [0.1, 0.2]
    assert calibration.conditions["frames"] == 8
    with pytest.raises(ValueError, match="read-only"):
        calibration.values[0] = 1


def test_equal_conditions_pass_whatever_the_model_is_called() -> None:
    a_calibration().check(CONDITIONS)
    a_calibration().check({**CONDITIONS, "model": "./weights/tiny"})


@pytest.mark.parametrize(
    ("changed", "message"),
    [
        ({"fingerprint": "b", "model": "base"}, "is of the model tiny, but this run uses base; give --model tiny"),
        (
            {"fingerprint": "b"},
            "is of the model tiny, whose weights have changed since; calibrate again with",
        ),
        ({"frames": 4}, "is of frames 8, but this run has frames 4; give --frames 8, or calibrate again"),
        (
            {"frames": 4, "draft": True},
            "is of frames 8 and draft off, but this run has frames 4 and draft on; give --frames 8 and no --draft",
        ),
        (
            {"pool": "mean", "spot": None, "temperature": None},
            "is of pool tcs, but this run has pool mean; give --pool tcs, or",
        ),
        ({"precision": "bfloat16"}, "give --precision fp32"),
        ({"template": ("a {}",)}, "is of template 'This is {}', .* has template 'a {}'; give --template 'This is {}'"),
        ({"further": 1}, "further None, .* further 1"),
    ],
)
def test_other_conditions_are_refused_by_name(changed: dict[str, object], message: str) -> None:
    with pytest.raises(UsageError, match=message) as caught:
        a_calibration().check({**CONDITIONS, **changed})

    assert str(caught.value).startswith("calibration: ")
    assert caught.value.exit_code == 2


def test_a_score_that_is_not_a_number_fits_nothing() -> None:
    with pytest.raises(ValueError, match="NaN"):
        a_calibration(values=[0.1, 0.2]).fit(math.nan)
