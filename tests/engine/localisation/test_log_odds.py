"""Log-odds: the definition, rivals, and the probabilities of a saved classifier."""

import math

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from bike_cli.engine.localisation.log_odds import log_odds, window_log_odds


@pytest.mark.parametrize("exclusive", [False, True])
def test_log_odds_are_those_of_the_definition(exclusive: bool) -> None:
    excess = torch.rand(7, 4, generator=torch.Generator().manual_seed(0), dtype=torch.float64) * 0.4 - 0.1
    best = excess.amax(dim=1) + torch.tensor([0.0, 0.1, 0.0, 0.2, 0.0, 0.0, 0.05])  # a rival that is not reported
    scale, lead = 40.0, 1.0 if exclusive else math.log(300)

    ours = log_odds(excess, best, scale, exclusive=exclusive)

    for t in range(7):
        for c in range(4):
            own = scale * float(excess[t, c]) - math.log(300)
            assert float(ours[t, c]) == pytest.approx(min(own, lead - scale * float(best[t] - excess[t, c])))


def slow_log_odds(chances: list[list[float]], windows: list[list[int]], bins: int) -> list[list[float]]:
    """For each bin, the mean over the windows whose middle half it is in."""
    classes, width = len(chances[0]), len(windows[0])
    quarter = width // 4
    result = []
    for t in range(bins):
        votes = []
        for i, window in enumerate(windows):
            for j, bin_ in enumerate(window):
                is_middle = quarter <= j < width - quarter
                is_end = (i == 0 and j < quarter) or (i == len(windows) - 1 and j >= width - quarter)
                if bin_ == t and (is_middle or is_end):
                    votes.append(chances[i])
        p = [sum(column) / len(votes) if votes else math.nan for column in zip(*(votes or chances), strict=True)]
        share = 1 / classes
        result.append([math.log(x / (1 - x)) - math.log(share / (1 - share)) for x in p])
    return result


@settings(max_examples=60, deadline=None)
@given(read=st.lists(st.booleans(), min_size=1, max_size=20), width=st.integers(1, 8), seed=st.integers(0, 99))
def test_the_log_odds_of_windows_are_those_of_a_slow_loop(read: list[bool], width: int, seed: int) -> None:
    places = [t for t, was_read in enumerate(read) if was_read]
    if not places:
        return
    width = min(width, len(places))
    windows = [places[i : i + width] for i in range(len(places) - width + 1)]
    chances = torch.softmax(torch.randn(len(windows), 3, generator=torch.Generator().manual_seed(seed)), dim=1)

    ours = window_log_odds(chances, torch.tensor(windows), len(read))

    expected = slow_log_odds(chances.double().tolist(), windows, len(read))
    assert torch.allclose(ours, torch.tensor(expected, dtype=torch.float64), atol=1e-9, equal_nan=True)
    assert torch.isnan(ours).any(dim=1).tolist() == [not was_read for was_read in read]


def test_certain_probabilities_stay_finite() -> None:
    numbers = window_log_odds(torch.tensor([[1.0, 0.0]]), torch.tensor([[0, 1]]), 2)

    assert torch.isfinite(numbers).all()
    assert (numbers[:, 0] > 30).all()
    assert (numbers[:, 1] < -30).all()


@pytest.mark.parametrize("classes", [2, 3, 10, 400])
def test_an_even_share_speaks_neither_for_a_class_nor_against_it(classes: int) -> None:
    numbers = window_log_odds(torch.full((3, classes), 1 / classes), torch.tensor([[0], [1], [2]]), 3)

    assert numbers.tolist() == [[pytest.approx(0, abs=1e-6)] * classes] * 3


def test_no_windows_say_nothing() -> None:
    numbers = window_log_odds(torch.zeros(0, 2), torch.zeros(0, 8, dtype=torch.int64), 3)

    assert numbers.shape == (3, 2)
    assert torch.isnan(numbers).all()
