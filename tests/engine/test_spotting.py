"""The words of a label weight the frames: BIKE's definition, its symmetries and its use of memory."""

import math

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from tensor_watch import LargestTensor
from torch import Tensor

from bike_cli.engine.scoring import unit
from bike_cli.engine.spotting import concept_scores, mean_scores, saliency
from bike_cli.engine.voters import Voters, voters
from bike_cli.records import TextFeatures

seeds = st.integers(0, 2**31)
sizes = st.integers(1, 4)


def vectors(seed: int, *shape: int) -> Tensor:
    return unit(torch.randn(*shape, generator=torch.Generator().manual_seed(seed), dtype=torch.float64))


def some_of(classes: int, words: int, seed: int = 0) -> Tensor:
    """A mask that leaves each class a voter or more, not always the first."""
    mask = torch.rand(classes, words, generator=torch.Generator().manual_seed(seed)) < 0.5
    mask[:, seed % words] = True
    return mask


def slow_saliency(frames: Tensor, tokens: Tensor, temperature: float, mask: Tensor) -> list[list[list[float]]]:
    def votes(v: int, c: int, word: int) -> list[float]:
        powers = [math.exp(float(tokens[c, word] @ frame) / temperature) for frame in frames[v]]
        return [p / sum(powers) for p in powers]

    def mean(v: int, c: int) -> list[float]:
        ballots = [votes(v, c, word) for word in range(tokens.shape[1]) if mask[c, word]]
        return [sum(column) / len(ballots) for column in zip(*ballots, strict=True)]

    return [[mean(v, c) for c in range(len(tokens))] for v in range(len(frames))]


@settings(max_examples=25)
@given(seed=seeds, videos=sizes, classes=sizes, words=sizes, length=sizes)
def test_saliency_is_the_mean_of_the_words_votes(seed: int, videos: int, classes: int, words: int, length: int) -> None:
    frames, tokens = vectors(seed, videos, length, 5), vectors(seed + 1, classes, words, 5)
    mask = some_of(classes, words, seed)

    ours = saliency(frames, tokens, 0.2, mask)

    expected = torch.tensor(slow_saliency(frames, tokens, 0.2, mask), dtype=torch.float64)
    assert torch.allclose(ours, expected, atol=1e-12)


@settings(max_examples=25)
@given(seed=seeds, length=st.integers(1, 9))
def test_equal_frames_share_saliency_evenly(seed: int, length: int) -> None:
    frames = vectors(seed, 1, 1, 5).expand(2, length, 5)

    weights = saliency(frames, vectors(seed + 1, 3, 4, 5), 0.01)

    assert torch.allclose(weights, torch.full((2, 3, length), 1 / length, dtype=torch.float64))


@settings(max_examples=25)
@given(seed=seeds)
def test_the_saliency_of_shuffled_frames_is_shuffled_alike(seed: int) -> None:
    frames, tokens = vectors(seed, 2, 6, 5), vectors(seed + 1, 3, 4, 5)
    order = torch.randperm(6, generator=torch.Generator().manual_seed(seed))

    shuffled = saliency(frames[:, order], tokens, 0.05)

    assert torch.allclose(shuffled, saliency(frames, tokens, 0.05)[:, :, order])


@settings(max_examples=25)
@given(seed=seeds)
def test_masked_positions_do_not_vote(seed: int) -> None:
    frames, tokens = vectors(seed, 2, 6, 5), vectors(seed + 1, 3, 4, 5)
    mask = torch.tensor([[True, True, False, False]] * 3)
    other = torch.cat([tokens[:, :2], vectors(seed + 2, 3, 2, 5)], dim=1)

    assert torch.equal(saliency(frames, tokens, 0.05, mask), saliency(frames, other, 0.05, mask))
    assert torch.allclose(saliency(frames, tokens, 0.05, mask), saliency(frames, tokens[:, :2], 0.05))


@pytest.mark.parametrize("masked", [True, False])
def test_gradients_are_those_of_the_definition(masked: bool) -> None:
    frames, tokens = vectors(5, 2, 3, 4).requires_grad_(), vectors(6, 3, 3, 4).requires_grad_()
    mask = some_of(3, 3) if masked else None

    assert torch.autograd.gradcheck(lambda f, t: saliency(f, t, 0.5, mask), (frames, tokens))


def test_the_frame_that_shows_the_word_gets_weight_for_that_class_only() -> None:
    frames = torch.eye(4)[None]  # four frames with different content
    tokens = torch.eye(4)[[2, 0]][:, None]  # class 0 matches frame 2, class 1 frame 0

    weights = saliency(frames, tokens, 0.01)

    assert torch.allclose(weights, torch.eye(4)[[2, 0]][None])


def test_a_lower_temperature_is_sharper() -> None:
    frames, tokens = vectors(3, 1, 6, 5), vectors(4, 1, 1, 5)

    sharp, soft = (float(saliency(frames, tokens, t).max()) for t in (0.01, 1.0))

    assert sharp > soft


@pytest.mark.parametrize("masked", [True, False])
@pytest.mark.parametrize("limit", ["CHUNK_NUMBERS", "BLOCK_TOKENS"])
@pytest.mark.parametrize("numbers", [1, 10, 100, 500])
def test_chunking_changes_no_value(monkeypatch: pytest.MonkeyPatch, limit: str, numbers: int, masked: bool) -> None:
    frames, tokens = vectors(5, 2, 6, 5), vectors(6, 9, 4, 5)
    mask = some_of(9, 4) if masked else None
    whole = saliency(frames, tokens, 0.05, mask)

    monkeypatch.setattr(f"bike_cli.engine.voters.{limit}", numbers)

    assert torch.allclose(saliency(frames, tokens, 0.05, mask), whole, atol=1e-14)


@pytest.mark.parametrize("masked", [True, False])
@pytest.mark.parametrize("tokens_together", [3, 1000])
def test_the_voters_of_a_class_are_its_own_in_order(
    monkeypatch: pytest.MonkeyPatch, tokens_together: int, masked: bool
) -> None:
    monkeypatch.setattr("bike_cli.engine.voters.BLOCK_TOKENS", tokens_together)
    tokens, mask = vectors(6, 9, 4, 5), some_of(9, 4)

    among = Voters.among(tokens, mask if masked else None)

    for i in range(9):
        assert torch.equal(among.of_class(i), tokens[i][mask[i]] if masked else tokens[i])
    with pytest.raises(IndexError):
        among.of_class(9)


def test_voters_that_all_vote_are_not_copied() -> None:
    tokens = vectors(6, 9, 4, 5)

    (block,) = Voters.among(tokens, None).blocks

    assert block.tokens.data_ptr() == tokens.data_ptr()


def test_no_classes_have_no_saliency() -> None:
    assert saliency(vectors(0, 2, 6, 5), vectors(0, 0, 4, 5), 0.1).shape == (2, 0, 6)


@pytest.mark.parametrize("temperature", [0.0, -1.0, float("nan")])
def test_a_temperature_that_is_not_positive_is_refused(temperature: float) -> None:
    with pytest.raises(ValueError, match="temperature"):
        saliency(vectors(0, 1, 2, 3), vectors(0, 1, 2, 3), temperature)


def test_a_class_without_a_voter_is_refused() -> None:
    with pytest.raises(ValueError, match="no position that votes"):
        saliency(vectors(0, 1, 2, 3), vectors(0, 2, 2, 3), 0.1, torch.tensor([[True, False], [False, False]]))


@settings(max_examples=25)
@given(seed=seeds)
def test_scores_are_those_of_bikes_weighted_video_vector(seed: int) -> None:
    frames, classes = vectors(seed, 2, 6, 5), vectors(seed + 1, 3, 5)
    weights = saliency(frames, classes[:, None], 0.1)

    scores = concept_scores(frames, weights, classes)

    pooled = torch.einsum("vct,vtd->vcd", weights, frames)
    assert torch.allclose(scores, (pooled * classes).sum(dim=-1))


def test_even_saliency_is_the_mean_cosine() -> None:
    frames, classes = vectors(1, 2, 6, 5), vectors(2, 3, 5)

    scores = concept_scores(frames, torch.full((2, 3, 6), 1 / 6, dtype=torch.float64), classes)

    assert torch.allclose(scores, torch.einsum("vtd,cd->vtc", frames, classes).mean(dim=1))


def test_the_baseline_averages_raw_frames_before_it_normalises() -> None:
    frames = torch.tensor([[[3.0, 0.0], [0.0, 1.0]]])  # a longer frame counts more

    scores = mean_scores(frames, torch.eye(2))

    assert torch.allclose(scores, torch.tensor([[3.0, 1.0]]) / math.sqrt(10))


@pytest.mark.parametrize(("spot", "positions", "masked"), [("words", 4, True), ("all", 4, False), ("eot", 1, False)])
def test_each_spot_has_its_voters(spot: str, positions: int, masked: bool) -> None:
    text = TextFeatures(("a", "b"), vectors(0, 2, 5), vectors(1, 2, 4, 5), torch.ones(2, 4, dtype=torch.bool))

    tokens, mask = voters(text, spot)  # type: ignore[arg-type]

    assert tokens.shape == (2, positions, 5)
    assert (mask is not None) == masked


def test_ten_thousand_labels_never_make_a_vector_for_each_video_and_label() -> None:
    videos, length, classes, dim = 16, 8, 10_000, 512
    frames, concepts = unit(torch.randn(videos, length, dim)), unit(torch.randn(classes, dim))
    tokens = concepts[:, None].expand(classes, 6, dim)  # six words per label

    with LargestTensor() as largest:
        concept_scores(frames, saliency(frames, tokens, 0.01), concepts)

    # The tokens alone have this size; a vector for each video and label would be larger.
    assert largest.numbers <= classes * 6 * dim < videos * classes * dim


def test_the_dispatch_mode_would_see_such_a_tensor() -> None:
    with LargestTensor() as largest:
        torch.einsum("vct,vtd->vcd", torch.ones(2, 3, 4), torch.ones(2, 4, 5))

    assert largest.numbers >= 2 * 3 * 5
