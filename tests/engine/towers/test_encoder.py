"""The adapter returns the features of open_clip's own encoders, for every kind of plain CLIP."""

import copy
from dataclasses import replace

import numpy as np
import open_clip
import pytest
import torch
from open_clip import SimpleTokenizer
from open_clip.transform import PreprocessCfg, image_transform_v2
from PIL import Image
from small_models import TOWERS, assembled, tiny_checkpoint
from torch import Tensor
from whole_towers import ATTENTION_POOLED, coloured_noise, whole_image_tower

from bike_cli.engine.engine import Engine
from bike_cli.engine.towers.encoder import Encoder, adapt
from bike_cli.engine.towers.placement import Placement, place
from bike_cli.engine.towers.tokenizers import OpenAITokenizer
from bike_cli.errors import ModelError
from bike_cli.records import Prompt

TEXTS = ["riding a bike", "a", "This is a video about skiing (not slalom or crosscountry)", "tai chi", "very " * 100]


def frames(count: int, width: int = 50, height: int = 40) -> np.ndarray[tuple[int, ...], np.dtype[np.uint8]]:
    return np.random.default_rng(count).integers(0, 256, (count, height, width, 3), dtype=np.uint8)


def cosine_distance(a: Tensor, b: Tensor) -> float:
    return float((1 - torch.nn.functional.cosine_similarity(a, b)).abs().max())


@pytest.fixture
def encoder(engine: Engine) -> Encoder:
    return engine.encoder


@pytest.fixture(scope="module", params=list(TOWERS))
def tower(request: pytest.FixtureRequest) -> str:
    return str(request.param)


@pytest.fixture(scope="module")
def family(tower: str) -> Encoder:
    return assembled(tiny_checkpoint(tower)).encoder


@torch.no_grad()
def test_frames_match_open_clips_transform_and_tower(family: Encoder, tower: str) -> None:
    recipe, clip = family.recipe, frames(3)
    transform = image_transform_v2(PreprocessCfg(recipe.side, mean=recipe.mean, std=recipe.std), is_train=False)

    ours = family.encode_frames(clip)

    untouched = tiny_checkpoint(tower).clip  # the same weights, in which no block was changed
    expected = untouched.encode_image(torch.stack([transform(Image.fromarray(frame)) for frame in clip]))
    assert cosine_distance(ours, expected) < 1e-5
    assert torch.allclose(ours, expected, atol=1e-5)


@torch.no_grad()
@pytest.mark.parametrize("positions", ["eot", "words", "all"])
def test_classes_match_open_clip_whatever_is_kept(family: Encoder, positions: str) -> None:
    ours = family.encode_texts(TEXTS, positions=positions)  # type: ignore[arg-type]

    expected = family.model.encode_text(SimpleTokenizer()(TEXTS))
    assert torch.allclose(ours.classes, expected, atol=1e-5)


@torch.no_grad()
def test_tokens_match_open_clips_intermediates(encoder: Encoder) -> None:
    ours = encoder.encode_texts(TEXTS, positions="all")

    states = encoder.model.forward_intermediates(
        text=SimpleTokenizer()(TEXTS), text_indices=1, normalize_intermediates=True, normalize=False
    )["text_intermediates"][-1]
    assert torch.allclose(ours.tokens, states @ encoder.model.text_projection, atol=1e-5)


def test_the_positions_of_words_are_moved_to_the_left(encoder: Encoder) -> None:
    before = "This is a video about "
    prompts = [Prompt(before + label, len(before), len(before + label)) for label in ("riding a bike", "skiing")]

    every = encoder.encode_texts(prompts, positions="all")
    words = encoder.encode_texts(prompts, positions="words")

    assert words.token_mask.tolist() == [[True, True, True], [True, False, False]]
    assert torch.allclose(words.tokens[words.token_mask], every.tokens[every.token_mask], atol=1e-5)
    assert float(words.tokens[1, 1:].abs().max()) == 0


def test_end_of_text_keeps_one_position(encoder: Encoder) -> None:
    text = encoder.encode_texts(TEXTS, positions="eot")

    assert text.tokens.shape == (5, 1, encoder.dim)
    assert torch.equal(text.tokens[:, 0], text.classes)
    assert bool(text.token_mask.all())


@pytest.mark.parametrize("positions", ["eot", "words", "all"])
def test_no_texts_give_no_features(encoder: Encoder, positions: str) -> None:
    text = encoder.encode_texts([], positions=positions)  # type: ignore[arg-type]

    assert text.classes.shape == (0, encoder.dim)
    assert text.token_mask.shape[0] == 0


def test_a_text_has_the_same_features_in_any_batch(encoder: Encoder) -> None:
    many = [f"{n} {'very ' * (n % 9)}small steps" for n in range(40)]  # several batches, by length

    together = encoder.encode_texts(many).classes

    alone = torch.cat([encoder.encode_texts([text]).classes for text in many])
    assert torch.allclose(together, alone, atol=1e-5)


def test_frames_are_the_same_in_any_batch(encoder: Encoder) -> None:
    clip = frames(40)

    together = encoder.encode_frames(clip)

    alone = torch.cat([encoder.encode_frames(clip[i : i + 1]) for i in range(40)])
    assert torch.allclose(together, alone, atol=1e-5)


def test_crops_are_outermost_across_batches(encoder: Encoder) -> None:
    clip = frames(20, width=96, height=40)

    features = encoder.encode_frames(clip, crops=3)

    first = encoder.encode_frames(clip[:1], crops=3)
    assert features.shape == (60, encoder.dim)
    assert torch.allclose(features[[0, 20, 40]], first, atol=1e-5)


def test_tensors_and_read_only_arrays_are_frames_too(encoder: Encoder) -> None:
    clip = frames(2)
    locked = clip.copy()
    locked.flags.writeable = False

    assert torch.equal(encoder.encode_frames(torch.from_numpy(clip)), encoder.encode_frames(locked))


def test_no_frames_give_no_features(encoder: Encoder) -> None:
    assert encoder.encode_frames(frames(0)).shape == (0, encoder.dim)


@pytest.mark.parametrize(
    "wrong", [np.zeros((2, 8, 8, 3), np.float32), np.zeros((8, 8, 3), np.uint8), np.zeros((1, 0, 8, 3), np.uint8)]
)
def test_other_arrays_are_not_frames(encoder: Encoder, wrong: np.ndarray) -> None:  # type: ignore[type-arg]
    with pytest.raises(ValueError, match=r"expected uint8 \[B, H, W, 3\]"):
        encoder.encode_frames(wrong)


def test_features_may_enter_a_graph(encoder: Encoder) -> None:
    features = encoder.encode_frames(frames(2))
    weight = torch.ones(encoder.dim, requires_grad=True)

    (features @ weight).sum().backward()  # an inference-mode tensor would refuse

    assert weight.grad is not None


def test_half_precision_stays_close_and_comes_out_float32(encoder: Encoder) -> None:
    bf16 = Placement(torch.device("cpu"), torch.bfloat16)
    half = adapt(encoder.model, tokenizer=encoder.tokenizer, recipe=encoder.recipe, placement=bf16)

    features = half.encode_frames(frames(4))

    expected = encoder.encode_frames(frames(4))
    assert features.dtype == torch.float32
    assert 0 < cosine_distance(features, expected) < 1e-3


@pytest.mark.slow
@pytest.mark.parametrize("arch", ATTENTION_POOLED)
def test_a_tower_pooled_by_attention_stays_close_in_16_bits(arch: str) -> None:
    encoder = whole_image_tower(arch, place("cpu", "fp32"))
    pictures = coloured_noise(4)
    expected = encoder.encode_frames(pictures)

    with torch.autocast("cpu", torch.float16):  # as on a GPU; bike does not offer it on a CPU
        half = encoder.encode_frames(pictures).float()

    # The features of a tower without training are similar for all frames; their differences have to be right as well.
    assert cosine_distance(half, expected) < 0.0005
    assert cosine_distance(half - half.mean(dim=0), expected - expected.mean(dim=0)) < 0.0005


def test_overlong_texts_are_reported_with_what_is_cut(encoder: Encoder) -> None:
    told = encoder.truncated(["short", " ".join(["run"] * 75) + " jump swim", "tai chi"])

    assert [(t.index, t.kept, t.cut) for t in told] == [(1, " ".join(["run"] * 75), "jump swim")]


def test_a_tokenizer_with_more_tokens_than_the_model_is_refused(encoder: Encoder) -> None:
    custom = open_clip.CustomTextCLIP(
        48,
        vision_cfg=dict(TOWERS["vit"]),  # type: ignore[arg-type]
        text_cfg={"vocab_size": 100, "width": 64, "heads": 1, "layers": 1},  # type: ignore[arg-type]
    )

    with pytest.raises(ModelError, match=r"CustomTextCLIP: knows 100 tokens, but its tokenizer has 49,408"):
        adapt(custom, tokenizer=OpenAITokenizer(77), recipe=encoder.recipe, placement=encoder.placement)


def test_the_identity_of_an_encoder_covers_everything_that_affects_features(encoder: Encoder) -> None:
    def adapted(**changes: object) -> str:
        parts = {"tokenizer": encoder.tokenizer, "recipe": encoder.recipe, "placement": place("cpu", "fp32"), **changes}
        return adapt(copy.deepcopy(encoder.model), **parts).identity  # type: ignore[arg-type]

    other_weights, other_activation = copy.deepcopy(encoder.model), copy.deepcopy(encoder.model)
    with torch.no_grad():
        next(other_weights.visual.parameters()).view(-1)[0] += 1
    for block in other_activation.visual.transformer.resblocks:
        block.mlp.gelu = torch.nn.ReLU()
    rest = {"tokenizer": encoder.tokenizer, "recipe": encoder.recipe, "placement": place("cpu", "fp32")}

    identities = [
        adapted(),
        adapted(recipe=replace(encoder.recipe, interpolation="bilinear")),
        adapted(placement=place("cpu", "bf16")),
        adapt(other_weights, **rest).identity,  # type: ignore[arg-type]
        adapt(other_activation, **rest).identity,  # type: ignore[arg-type]
    ]

    assert len(set(identities)) == len(identities)
    assert adapted() == identities[0]


def test_a_copy_of_an_encoder_encodes_with_its_own_weights(encoder: Encoder) -> None:
    copied = copy.deepcopy(encoder)

    with torch.no_grad():
        copied.model.visual.proj.zero_()

    assert not bool(copied.encode_frames(frames(1)).any())
    assert bool(encoder.encode_frames(frames(1)).any())
