"""Texts have the features of open_clip's own tokenizer and `encode_text`, for every kind of text tower it has."""

from dataclasses import replace
from typing import Any

import open_clip
import pytest
import torch
from open_clip import SimpleTokenizer
from text_configs import random_model, small_config, text_configs
from torch import Tensor

from bike_cli.engine.towers.encoder import Encoder, adapt
from bike_cli.engine.towers.placement import place
from bike_cli.engine.towers.text_tower import TextTower
from bike_cli.engine.towers.tokenizers import OpenAITokenizer
from bike_cli.engine.towers.transforms import ImageRecipe
from bike_cli.errors import UsageError
from bike_cli.records import Prompt

TEXTS = [
    "riding a bike",
    "a",
    "This is a video about skiing (not slalom or crosscountry)",
    "tai chi",
    "",
    "very " * 100,
]
BUNDLED = dict(text_configs(with_tokenizer_files=False))
RECIPE = ImageRecipe(32, (0.5, 0.5, 0.5), (0.5, 0.5, 0.5))
CAUSAL = {"ViT-B-32", "EVA02-B-16", "PE-Core-B-16", "PE-Core-bigG-14-448", "MobileCLIP-B", "ViTamin-B"}
WHOLE = {"MobileCLIP-S1", "MobileCLIP2-L-14", "coca_ViT-B-32"}


def encoder_of(config: dict[str, Any]) -> Encoder:
    model = random_model(config)
    tokenizer = OpenAITokenizer(model.context_length)
    return adapt(model, tokenizer=tokenizer, recipe=RECIPE, placement=place("cpu", "fp32"))


@pytest.fixture(scope="module", params=list(BUNDLED))
def arch(request: pytest.FixtureRequest) -> str:
    return str(request.param)


@pytest.fixture(scope="module")
def family(arch: str) -> Encoder:
    return encoder_of(BUNDLED[arch])


@torch.no_grad()
def expected_classes(encoder: Encoder, arch: str, texts: list[str]) -> Tensor:
    classes: Tensor = encoder.model.encode_text(open_clip.get_tokenizer(arch)(texts), normalize=False)
    return classes


@pytest.mark.parametrize("positions", ["eot", "words"])
def test_classes_are_those_of_encode_text(family: Encoder, arch: str, positions: str) -> None:
    ours = family.encode_texts(TEXTS, positions=positions)  # type: ignore[arg-type]

    expected = expected_classes(family, arch, TEXTS)
    assert torch.allclose(ours.classes, expected, atol=1e-6, rtol=1e-5)
    assert bool(ours.token_mask.any(dim=1).all())


def test_a_text_has_the_same_features_in_any_batch(family: Encoder) -> None:
    many = [f"{n} {'very ' * (n % 9)}small steps" for n in range(40)]

    together = family.encode_texts(many).classes

    alone = torch.cat([family.encode_texts([text]).classes for text in many])
    assert torch.allclose(together, alone, atol=1e-6, rtol=1e-5)


def test_a_position_has_features_only_where_the_tower_was_trained_for_them(family: Encoder) -> None:
    prompt = Prompt("a video of red bikes", 11, 20)

    if family.text_tower.has_token_features:
        every = family.encode_texts([prompt], positions="all")
        assert every.tokens.shape == (1, family.context, family.dim)
        assert torch.allclose(every.tokens[0, 6], every.classes[0], atol=1e-6)  # start, five words, end
    else:
        with pytest.raises(UsageError, match=r"spot all: .*; give eot or words"):
            family.encode_texts([prompt], positions="all")


def test_towers_with_and_without_features_of_tokens() -> None:
    towers = {arch: TextTower(random_model(small_config(arch))) for arch in CAUSAL | WHOLE}

    assert {arch for arch, tower in towers.items() if tower.has_token_features} == CAUSAL


def test_words_without_features_of_tokens_are_the_beginnings_of_the_label() -> None:
    encoder = encoder_of(small_config("MobileCLIP-S1"))
    prompts = [
        Prompt("a video of red  bikes, fast", 11, 21),
        Prompt("a video of tai", 11, 14),
        Prompt("a video of ", 11, 11),
    ]

    text = encoder.encode_texts(prompts, positions="words")

    beginnings = ["a video of red", "a video of red  bikes", "a video of tai", "a video of "]
    expected = encoder.encode_texts(beginnings).classes
    assert text.token_mask.tolist() == [[True, True], [True, False], [True, False]]
    assert torch.equal(text.tokens[text.token_mask], expected)
    assert torch.equal(text.classes, encoder.encode_texts([prompt.text for prompt in prompts]).classes)


@pytest.mark.parametrize("change", ["padding", "end", "cleaning", "pooling"])
def test_other_rows_or_another_pooling_make_other_features(change: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """The comparisons above would fail if one of these facts were wrong."""
    config = small_config("MobileCLIP-S1")
    encoder, texts = encoder_of(config), ["Riding A Bike", "TAI CHI"]
    before = encoder.encode_texts(texts).classes
    if change == "padding":
        monkeypatch.setattr(OpenAITokenizer, "padded", lambda _, ids, length: [*ids, *[1] * (length - len(ids))])
    elif change == "end":
        whole = OpenAITokenizer.row
        monkeypatch.setattr(OpenAITokenizer, "row", lambda self, ids: replace(whole(self, ids), ids=[49406, *ids]))
    elif change == "cleaning":
        monkeypatch.setattr(OpenAITokenizer, "encode", lambda _, text: SimpleTokenizer(clean="whitespace").encode(text))
    else:
        encoder = encoder_of({**config, "text_cfg": {**config["text_cfg"], "pool_type": "last"}})

    after = encoder.encode_texts(texts).classes

    assert float(torch.nn.functional.cosine_similarity(before, after).max()) < 0.999
