"""Decoding: the sequence of states is the best of all, runs are what it says, and time has no direction."""

import math
from itertools import pairwise, product

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray

from bike_cli.engine.localisation.decoding import Run, RunRule, evidence, find_runs, most_likely_states, probabilities

# Quarters are exact in floating point, so ties are ties.
quarters = st.integers(-4, 8).map(lambda n: n / 4)
costs = st.integers(0, 8).map(lambda n: n / 4)
RULE = RunRule(fps=4, min_duration_s=1, threshold=0.5)
YES, NO = 6.0, -60.0


def value_of(states: tuple[int, ...], support: list[float], cost: float) -> float:
    changes = sum(a != b for a, b in pairwise(states))
    return sum(e for e, there in zip(support, states, strict=True) if there) - cost * changes


def best_by_trying_all(support: list[float], cost: float) -> list[bool]:
    """The best of all sequences of states; of several, the one that is there least."""
    every = list(product((0, 1), repeat=len(support)))
    most = max(value_of(states, support, cost) for states in every)
    best = [states for states in every if value_of(states, support, cost) == most]
    least = tuple(map(min, zip(*best, strict=True)))
    assert least in best  # there is one that is there least
    return [bool(there) for there in least]


def decode(columns: list[list[float]], cost: float) -> NDArray[np.bool_]:
    return most_likely_states(np.array(columns, np.float32).T, cost)


@settings(max_examples=300, deadline=None)
@given(support=st.lists(quarters, min_size=1, max_size=9), cost=costs)
def test_the_states_are_the_best_of_all(support: list[float], cost: float) -> None:
    assert decode([support], cost)[:, 0].tolist() == best_by_trying_all(support, cost)


@settings(max_examples=100, deadline=None)
@given(support=st.lists(quarters, min_size=1, max_size=40), cost=costs)
def test_time_has_no_direction(support: list[float], cost: float) -> None:
    assert decode([support[::-1]], cost)[::-1].tolist() == decode([support], cost).tolist()


@settings(max_examples=100, deadline=None)
@given(support=st.lists(quarters, min_size=1, max_size=30), cost=costs, silence=st.integers(1, 5))
def test_silence_after_a_video_adds_no_state(support: list[float], cost: float, silence: int) -> None:
    states = decode([support], cost)

    longer = decode([support + [-4.0] * silence], cost)  # enough to leave at once, whatever it costs

    assert not longer[len(support) :].any()
    if not states[-1]:
        assert longer[: len(support)].tolist() == states.tolist()


@settings(max_examples=50, deadline=None)
@given(columns=st.lists(st.lists(quarters, min_size=6, max_size=6), min_size=1, max_size=5), cost=costs)
def test_labels_are_decoded_by_themselves(columns: list[list[float]], cost: float) -> None:
    together = decode(columns, cost)

    assert together.T.tolist() == [decode([column], cost)[:, 0].tolist() for column in columns]


def test_a_video_without_bins_has_no_states() -> None:
    assert decode([[], []], 1.0).shape == (0, 2)


def runs_of(*columns: list[float], rule: RunRule = RULE, missing: tuple[int, ...] = ()) -> list[Run]:
    numbers = torch.tensor(columns).T
    is_read = torch.tensor([t not in missing for t in range(len(numbers))])
    return find_runs(numbers, is_read, rule)


def spans(runs: list[Run]) -> list[tuple[int, int, int]]:
    return [(run.label, run.start, run.stop) for run in runs]


def test_runs_are_of_each_label_with_their_ends() -> None:
    found = runs_of([NO] * 4 + [YES] * 4 + [NO] * 4, [YES] * 12, [NO] * 12)

    assert spans(found) == [(0, 4, 8), (1, 0, 12)]


def test_a_gap_below_the_least_duration_is_bridged_and_one_of_it_is_not() -> None:
    short, long = ([YES] * 5 + [NO] * gap + [YES] * 5 for gap in (3, 4))

    assert spans(runs_of(short)) == [(0, 0, 13)]
    assert spans(runs_of(long)) == [(0, 0, 5), (0, 9, 14)]


@pytest.mark.parametrize(("bins", "found"), [(2, False), (3, True)])
def test_a_segment_needs_more_evidence_than_two_changes_cost(bins: int, found: bool) -> None:
    # At most 2 nats a bin; two changes cost 4.
    assert bool(runs_of([NO] * 5 + [YES] * bins + [NO] * 5)) == found


def test_bins_that_were_not_read_speak_neither_for_nor_against() -> None:
    gap = [YES] * 5 + [math.nan] * 6 + [YES] * 5

    assert spans(runs_of(gap, missing=tuple(range(5, 11)))) == [(0, 0, 16)]
    assert spans(runs_of([NO, NO, *[YES] * 12], missing=(0, 1, 2, 10, 11, 12, 13))) == [(0, 3, 10)]
    assert spans(runs_of([YES] * 6 + [NO] * 4, missing=(4, 5, 6))) == [(0, 0, 4)]
    assert runs_of([YES] * 4, missing=(0, 1, 2, 3)) == []


def test_the_score_is_the_mean_of_bins_in_which_the_label_is_visible() -> None:
    numbers = [2.0, NO, 1.0, 3.0, 3.0, math.nan]

    (run,) = runs_of(numbers, missing=(5,))

    p = [1 / (1 + math.exp(-x)) for x in (2.0, 1.0, 3.0, 3.0)]
    assert run.score == pytest.approx(sum(p) / 4)
    assert (run.start, run.stop, run.peak) == (0, 5, 3)


def test_the_score_is_the_mean_of_all_bins_where_the_label_is_visible_in_none() -> None:
    (run,) = runs_of([-1.0, -0.5, math.nan, -1.0], rule=RunRule(4, 1, threshold=0.1), missing=(2,))

    assert run.score == pytest.approx(sum(1 / (1 + math.exp(-x)) for x in (-1.0, -0.5, -1.0)) / 3)


def test_a_higher_threshold_finds_less() -> None:
    numbers = [1.0] * 8

    assert runs_of(numbers, rule=RunRule(4, 1, 0.7)) != []
    assert runs_of(numbers, rule=RunRule(4, 1, 0.9)) == []


@pytest.mark.parametrize("threshold", [0.3, 0.5, 0.9])
def test_evidence_is_that_of_the_definition(threshold: float) -> None:
    numbers = np.array([-50.0, -3.0, 0.0, 1.0, 2.5, 50.0])

    ours = evidence(numbers, threshold)

    v, tau = 1 - 1 / math.e, math.log(threshold / (1 - threshold))
    expected = [min(2.0, math.log(v * math.exp(z - tau) + 1 - v)) for z in numbers.tolist()]
    assert ours.tolist() == pytest.approx(expected, abs=1e-12)
    assert evidence(np.array([-np.inf, np.inf], np.float32), threshold).tolist() == [-1, 2]


@pytest.mark.parametrize(
    "numbers",
    [
        (0, 1, 0.5),
        (math.nan, 1, 0.5),
        (math.inf, 1, 0.5),
        (1, -1, 0.5),
        (1, math.nan, 0.5),
        (1, math.inf, 0.5),
        (1, 1, 0),
        (1, 1, 1),
        (1, 1, math.nan),
    ],
)
def test_a_rule_outside_its_range_is_refused(numbers: tuple[float, float, float]) -> None:
    with pytest.raises(ValueError, match="fps"):
        RunRule(*numbers)


def test_probabilities_are_the_sigmoid_of_log_odds() -> None:
    numbers = np.array([-1000.0, -2.0, 0.0, 3.0, 1000.0])

    ours = probabilities(numbers).tolist()

    assert ours == [0, *(pytest.approx(1 / (1 + math.exp(-z))) for z in (-2.0, 0.0, 3.0)), 1]
