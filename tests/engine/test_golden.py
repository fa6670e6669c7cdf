"""The public functions return the numbers of the official code, from its checkpoints, pixels and prompts."""

from collections.abc import Callable

import numpy as np
import pytest
import torch
from numpy.typing import NDArray
from torch import Tensor

from bike_cli.engine.attributes import attribute_scores, attribute_sentence
from bike_cli.engine.engine import Engine
from bike_cli.engine.scoring import fuse, probabilities, unit
from bike_cli.engine.spotting import concept_scores, mean_scores, saliency
from bike_cli.engine.towers.tokens import tokenise
from bike_cli.engine.voters import voters
from bike_cli.records import Prompt, TextFeatures

Golden = dict[str, NDArray[np.generic]]
Official = Callable[[str], Engine]

CHECKPOINTS = ["bike_tiny_checkpoint", "bike_tiny_checkpoint_ddp", "bike_tiny_attributes_checkpoint"]
BRANCHES = pytest.mark.parametrize(("head", "interaction"), [(h, i) for h in ("None", "Transf") for i in ("DP", "VCS")])
LOGITS, PROBABILITIES = 1e-5, 1e-6  # tolerances: golden/README.md, section 2


def tensor(array: NDArray[np.generic]) -> Tensor:
    return torch.from_numpy(np.array(array))


def assert_close(ours: Tensor, official: NDArray[np.generic], within: float) -> None:
    assert ours.shape == official.shape
    assert float((ours - tensor(official)).abs().max()) < within


def encode(engine: Engine, pixels: NDArray[np.generic]) -> Tensor:
    """[..., T, H, W, 3] -> [..., T, D]"""
    features = engine.encode_frames(pixels.reshape(-1, *pixels.shape[-3:]).astype(np.uint8))
    return features.reshape(*pixels.shape[:-3], -1)


def read(engine: Engine, golden: Golden) -> TextFeatures:
    return engine.encode_texts([str(prompt) for prompt in golden["prompts"]])


def score(engine: Engine, frames: Tensor, text: TextFeatures, head: str, interaction: str) -> Tensor:
    frames = engine.temporal(frames) if head == "Transf" else frames
    classes = unit(text.classes)
    if interaction == "DP":
        return mean_scores(frames, classes)
    tokens, mask = voters(text, engine.recipe.spot)
    weights = saliency(unit(frames), unit(tokens), engine.recipe.temperature, mask)
    return concept_scores(unit(frames), weights, classes)


@pytest.fixture(scope="module")
def bike(official: Official) -> Engine:
    return official("bike_tiny_checkpoint")


@pytest.fixture(scope="module")
def text(bike: Engine, golden_model: Golden) -> TextFeatures:
    return read(bike, golden_model)


@pytest.mark.parametrize("name", CHECKPOINTS)
def test_every_official_file_gives_the_frame_features(official: Official, golden_model: Golden, name: str) -> None:
    features = encode(official(name), golden_model["frames_u8"])

    assert_close(features, golden_model["image_features"], LOGITS)


@pytest.mark.parametrize("name", CHECKPOINTS)
def test_every_official_file_gives_the_text_features(official: Official, golden_model: Golden, name: str) -> None:
    text = read(official(name), golden_model)

    assert_close(text.classes, golden_model["class_features"], LOGITS)
    assert_close(text.tokens, golden_model["token_features"], LOGITS)


def test_official_files_agree_bit_by_bit(official: Official, golden_model: Golden) -> None:
    first, *others = (encode(official(name), golden_model["frames_u8"]) for name in CHECKPOINTS)

    assert all(torch.equal(first, other) for other in others)


def test_the_temporal_head_matches_on_raw_and_on_very_small_features(bike: Engine, golden_model: Golden) -> None:
    frames = tensor(golden_model["image_features"])

    assert_close(bike.temporal(frames), golden_model["temporal_features"], LOGITS)
    # The only case in which a LayerNorm epsilon of 1e-5 instead of 1e-12 is visible.
    assert_close(bike.temporal(0.001 * frames), golden_model["temporal_features_small_input"], LOGITS)


@BRANCHES
def test_logits_from_pixels(
    bike: Engine, text: TextFeatures, golden_model: Golden, head: str, interaction: str
) -> None:
    scores = score(bike, encode(bike, golden_model["frames_u8"]), text, head, interaction)

    assert_close(scores, golden_model[f"logits_{head}_{interaction}"], LOGITS)


@BRANCHES
def test_probabilities_of_one_view(
    bike: Engine, text: TextFeatures, golden_model: Golden, head: str, interaction: str
) -> None:
    scores = score(bike, tensor(golden_model["image_features"]), text, head, interaction)
    once = probabilities(scores, 1.0)

    assert_close(once, golden_model[f"trainval_probs_{head}_{interaction}"], PROBABILITIES)
    assert_close(probabilities(once, 1.0), golden_model[f"test_probs_{head}_{interaction}_1view"], PROBABILITIES)


@BRANCHES
def test_twelve_views_from_pixels(
    bike: Engine, text: TextFeatures, golden_model: Golden, head: str, interaction: str
) -> None:
    frames = encode(bike, golden_model["views_u8"])  # [V, K, T, D]
    scores = score(bike, frames.flatten(0, 1), text, head, interaction).reshape(3, 12, -1)
    averaged = probabilities(probabilities(scores, 1.0).mean(dim=1), 1.0)

    assert_close(scores, golden_model[f"view_logits_{head}_{interaction}"], LOGITS)
    assert_close(averaged, golden_model[f"test_probs_{head}_{interaction}_12view"], PROBABILITIES)


@pytest.mark.parametrize("head", ["None", "Transf"])
def test_saliency(bike: Engine, text: TextFeatures, golden_model: Golden, head: str) -> None:
    raw = tensor(golden_model["image_features"])
    frames = unit(bike.temporal(raw) if head == "Transf" else raw)

    weights = saliency(frames, unit(text.tokens), bike.recipe.temperature)

    assert_close(weights.transpose(0, 1), golden_model[f"vcs_weights_{head}"], LOGITS)  # theirs: [C, V, T]


def test_masking_the_padding_is_not_parity(bike: Engine, text: TextFeatures, golden_model: Golden) -> None:
    frames = unit(bike.temporal(tensor(golden_model["image_features"])))

    weights = saliency(frames, unit(text.tokens), bike.recipe.temperature, text.token_mask)

    assert float((weights.transpose(0, 1) - tensor(golden_model["vcs_weights_Transf"])).abs().max()) > 1e-2


def test_attribute_sentences_are_joined_as_officially(golden_model: Golden) -> None:
    prefix = "This is a video about "
    sentences = [str(s) for s in golden_model["attr_sentences"]]
    phrases = [s.removeprefix(prefix).split(",") for s in sentences]

    assert all(len(p) == 5 for p in phrases)
    assert [attribute_sentence(p) for p in phrases] == sentences


def test_overlong_sentences_are_cut_as_officially(bike: Engine, golden_model: Golden) -> None:
    sentences = [Prompt.plain(str(s)) for s in golden_model["attr_sentences"]]

    tokens = [tokenise(bike.encoder.tokenizer, s) for s in sentences]
    padded = [t.ids + [0] * (77 - len(t.ids)) for t in tokens]

    assert padded == golden_model["attr_ids"].tolist()
    assert [bool(t.cut) for t in tokens] == [False, False, True]


def test_attribute_branch_from_sentences(official: Official, golden_model: Golden) -> None:
    engine = official("bike_tiny_attributes_checkpoint")
    sentences = engine.encode_texts([str(s) for s in golden_model["attr_sentences"]]).classes

    scores = attribute_scores(sentences, read(engine, golden_model).classes, engine.attribute_head)

    assert_close(sentences, golden_model["attr_sentence_features"], LOGITS)
    assert_close(scores, golden_model["attr_logits"], LOGITS)
    assert_close(probabilities(scores, 1.0), golden_model["attr_probs"], PROBABILITIES)


def test_fusion_of_the_branches(official: Official, bike: Engine, text: TextFeatures, golden_model: Golden) -> None:
    video = score(bike, encode(bike, golden_model["frames_u8"]), text, "Transf", "VCS")
    engine = official("bike_tiny_attributes_checkpoint")
    sentences = engine.encode_texts([str(s) for s in golden_model["attr_sentences"]]).classes
    attributes = attribute_scores(sentences, text.classes, engine.attribute_head)

    fused = fuse(probabilities(video, 1.0), probabilities(attributes, 1.0), 0.7)

    assert_close(fused, golden_model["fusion_probs"], PROBABILITIES)


def test_logit_scale_is_that_of_the_file(bike: Engine, golden_model: Golden) -> None:
    assert bike.logit_scale == pytest.approx(float(np.exp(golden_model["logit_scale"])), rel=1e-6)
