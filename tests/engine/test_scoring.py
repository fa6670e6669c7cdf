"""Unit vectors, fusion, probabilities and ranking."""

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from bike_cli.engine.scoring import fuse, match_spread, matches, probabilities, rank, unit


def test_unit_vectors_have_length_one_however_short_they_were() -> None:
    x = torch.tensor([[3.0, 4.0], [3e-20, 4e-20]], dtype=torch.float64)

    assert torch.allclose(unit(x), torch.tensor([[0.6, 0.8], [0.6, 0.8]], dtype=torch.float64))


def test_matches_are_those_of_an_issue_of_open_clip() -> None:
    """The logits of a SigLIP, and what is made of them: github.com/mlfoundations/open_clip/issues/716."""
    logits = torch.tensor([-1.25, -8.88, -10.93], dtype=torch.float64)

    compared = probabilities(logits, logit_scale=1).tolist()

    assert matches((logits + 12.93) / 117.33, 117.33, -12.93).tolist() == pytest.approx(
        [0.223, 1.4e-4, 1.8e-5], rel=0.02
    )
    assert compared == pytest.approx([0.9995, 4.9e-4, 6.3e-5], rel=0.02)


def test_a_match_is_never_quite_0_or_1_and_needs_no_luck_with_large_numbers() -> None:
    found = matches(torch.tensor([-1.0, 1.0]), 1e4, 0.0).tolist()

    assert 0 < found[0] < 1e-300
    assert 1 - 1e-15 < found[1] < 1


def test_a_zero_vector_stays_zero() -> None:
    assert unit(torch.zeros(2, 3)).tolist() == [[0, 0, 0], [0, 0, 0]]


def test_fusion_ends_at_either_branch() -> None:
    video, attributes = torch.tensor([[0.2, 0.8]]), torch.tensor([[0.6, 0.4]])

    assert torch.equal(fuse(video, attributes, 1.0), video)
    assert torch.equal(fuse(video, attributes, 0.0), attributes)
    assert torch.allclose(fuse(video, attributes, 0.75), torch.tensor([[0.3, 0.7]]))


def test_matched_scores_have_the_mean_and_spread_of_the_others_and_keep_their_order() -> None:
    wild, calm = torch.tensor([[-5.0, 20.0, 3.0]]), torch.tensor([[0.30, 0.20, 0.25]])

    matched = match_spread(wild, calm)

    assert float(matched.mean()) == pytest.approx(0.25)
    assert float(matched.std()) == pytest.approx(float(calm.std()))
    assert rank(matched, 3).tolist() == rank(wild, 3).tolist()


def test_scores_without_spread_have_no_effect() -> None:
    matched = match_spread(torch.full((1, 3), 0.7), torch.tensor([[0.1, 0.2, 0.3]]))

    assert torch.allclose(matched, torch.full((1, 3), 0.2))


def test_one_class_matches_itself() -> None:
    assert match_spread(torch.tensor([[0.9]]), torch.tensor([[0.3]])).tolist() == [[pytest.approx(0.3)]]


def test_probabilities_are_the_softmax_of_the_scaled_cosines() -> None:
    scores = torch.tensor([[0.0, 0.01 * torch.log(torch.tensor(3.0))]])

    assert torch.allclose(probabilities(scores, 100.0), torch.tensor([[0.25, 0.75]]))


def test_rank_is_best_first_with_ties_in_list_order_and_nan_last() -> None:
    scores = torch.tensor([[0.1, 0.5, float("nan"), 0.5, -2.0]])

    assert rank(scores, 5).tolist() == [[1, 3, 0, 4, 2]]


@given(k=st.integers(1, 9), classes=st.integers(1, 6))
def test_rank_gives_no_more_than_there_are(k: int, classes: int) -> None:
    assert rank(torch.zeros(2, classes), k).tolist() == [list(range(min(k, classes)))] * 2
