"""The trained modules: the names of the official tensors, and properties that follow from the definition."""

import pytest
import torch

from bike_cli.engine.heads.bike import MAX_FRAMES, TEMPORAL_LAYERS, AttributeHead, TemporalTransformer


@pytest.fixture
def head() -> TemporalTransformer:
    torch.manual_seed(0)
    return TemporalTransformer(32, 4).eval()


@torch.no_grad()
def test_a_head_that_adds_nothing_returns_its_frames(head: TemporalTransformer) -> None:
    head.frame_position_embeddings.weight.zero_()
    for block in head.transformer.resblocks:
        for parameter in (*block.attn.out_proj.parameters(), *block.mlp.c_proj.parameters()):
            parameter.zero_()
    frames = torch.randn(2, 5, 32)

    # Blocks that add nothing return their input, and the outer skip adds it once more.
    assert torch.allclose(head(frames), 2 * frames)


@torch.no_grad()
def test_order_matters_through_the_positions_alone(head: TemporalTransformer) -> None:
    frames = torch.randn(1, 5, 32)
    order = [4, 3, 2, 1, 0]

    assert not torch.allclose(head(frames[:, order]), head(frames)[:, order], atol=1e-4)

    head.frame_position_embeddings.weight.zero_()

    assert torch.allclose(head(frames[:, order]), head(frames)[:, order], atol=1e-5)


@torch.no_grad()
def test_early_frames_see_late_ones(head: TemporalTransformer) -> None:
    for parameter in head.parameters():
        parameter.normal_(std=0.3)
    frames = torch.randn(1, 5, 32)
    changed = frames.clone()
    changed[:, 4] = torch.randn(32)

    assert not torch.allclose(head(frames)[:, 0], head(changed)[:, 0], atol=1e-3)


def test_more_frames_than_positions_are_refused(head: TemporalTransformer) -> None:
    with pytest.raises(ValueError, match=f"positions for {MAX_FRAMES}"):
        head(torch.zeros(1, MAX_FRAMES + 1, 32))


def test_the_tensors_are_the_official_ones(head: TemporalTransformer) -> None:
    names = head.state_dict().keys()

    assert len(names) == 1 + 12 * TEMPORAL_LAYERS  # 73, as golden/README.md counts
    assert {"frame_position_embeddings.weight", "transformer.resblocks.5.mlp.c_proj.bias"} <= names


@torch.no_grad()
def test_attribute_cosines_ignore_the_length_of_what_comes_in() -> None:
    torch.manual_seed(1)
    head = AttributeHead(16).eval()
    for parameter in head.parameters():
        parameter.normal_()
    sentences, classes = torch.randn(3, 16), torch.randn(4, 16)

    scores = head(sentences, classes)

    assert scores.shape == (3, 4)
    assert float(scores.abs().max()) <= 1 + 1e-6
    assert torch.allclose(scores, head(100 * sentences, 0.01 * classes), atol=1e-5)
    assert not torch.allclose(scores[:3, :3], head(classes[:3], sentences[:3]).T, atol=1e-3)  # two different sides
