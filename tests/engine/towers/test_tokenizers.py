"""Rows of token ids are those of each model's own tokenizer; see `support/make_tokenizers.py` for the expected ones."""

import copy
import json
import re
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
from odd_texts import ODD_TEXTS
from open_clip import SimpleTokenizer
from text_configs import random_model, small_config, text_configs

from bike_cli.engine.models.open_clip.tokenizer_files import read_tokenizer
from bike_cli.engine.towers.encoder import Encoder, adapt
from bike_cli.engine.towers.placement import place
from bike_cli.engine.towers.tokenizers import FileTokenizer, OpenAITokenizer, TokenizerRecipe
from bike_cli.engine.towers.tokens import Tokenizer, tokenise
from bike_cli.engine.towers.transforms import ImageRecipe
from bike_cli.errors import ModelError
from bike_cli.records import Prompt

FOLDER = Path(__file__).parent / "tokenizers"
# The architecture that each kind stands for, and the context that its rows were made with.
KINDS = {
    "siglip": ("ViT-B-16-SigLIP", 16),
    "siglip2": ("ViT-B-16-SigLIP2-256", 24),
    "clipa": ("ViT-L-14-CLIPA", 32),
    "metaclip2": ("ViT-H-14-worldwide", 77),
    "roberta": ("roberta-ViT-B-32", 77),
    "xlm_roberta": ("xlm-roberta-base-ViT-B-32", 77),
    "nllb": ("nllb-clip-base", 77),
}
OF_OPEN_CLIP = [kind for kind in KINDS if kind not in ("roberta", "xlm_roberta", "nllb")]


def text_cfg(kind: str) -> dict[str, Any]:
    arch, context = KINDS[kind]
    text: dict[str, Any] = small_config(arch)["text_cfg"]
    return {**text, "context_length": context}


def tokenizer_of(kind: str) -> FileTokenizer:
    return read_tokenizer(FOLDER / kind / "tokenizer.json", text_cfg(kind), name=kind)


def rows_of(kind: str) -> list[list[int]]:
    rows: list[list[int]] = json.loads((FOLDER / kind / "rows.json").read_text())
    return rows


def row(tokenizer: Tokenizer, text: str) -> list[int]:
    return tokenizer.padded(tokenizer.row(tokenizer.encode(text)).ids, tokenizer.context)


@pytest.mark.parametrize("kind", KINDS)
def test_rows_are_those_of_the_models_own_tokenizer(kind: str) -> None:
    tokenizer = tokenizer_of(kind)

    assert [row(tokenizer, text) for text in ODD_TEXTS] == rows_of(kind)


def test_rows_are_those_of_openais_tokenizer() -> None:
    tokenizer, expected = OpenAITokenizer(20), SimpleTokenizer()

    assert [row(tokenizer, text) for text in ODD_TEXTS] == expected(ODD_TEXTS, context_length=20).tolist()


@pytest.mark.parametrize("kind", [*KINDS, "openai"])
def test_a_text_is_kept_or_cut_and_nothing_is_lost(kind: str) -> None:
    tokenizer = OpenAITokenizer(20) if kind == "openai" else tokenizer_of(kind)

    tokens = [tokenise(tokenizer, Prompt.plain(text)) for text in ODD_TEXTS]

    assert [each.kept + each.cut for each in tokens] == [tokenizer.encode(text) for text in ODD_TEXTS]
    assert all(len(each.ids) == tokenizer.context for each in tokens if each.cut)
    assert sum(bool(each.cut) for each in tokens) >= 3


@pytest.mark.parametrize("kind", KINDS)
def test_other_facts_make_other_rows(kind: str) -> None:
    """Each fact of a recipe matters: the comparison above would fail without it."""
    tokenizer, expected = tokenizer_of(kind), rows_of(kind)
    recipe = tokenizer.recipe
    clean = "canonicalize" if kind == "clipa" else "lower"
    changes: dict[str, Any] = {"pad": recipe.pad + 1, "end": (), "clean": clean}
    changes |= {"start": ()} if recipe.start else {}
    changes |= {"end": (102,)} if kind == "clipa" else {}

    for name, value in changes.items():
        changed = replace(tokenizer, recipe=replace(recipe, **{name: value}))
        assert [row(changed, text) for text in ODD_TEXTS] != expected, name


@pytest.mark.parametrize("kind", KINDS)
def test_an_unknown_family_is_read_from_its_settings(kind: str) -> None:
    text = {**text_cfg(kind), "hf_tokenizer_name": "somebody/else"}

    tokenizer = read_tokenizer(FOLDER / kind / "tokenizer.json", text, name=kind)

    assert [row(tokenizer, text) for text in ODD_TEXTS] == rows_of(kind)


def write(folder: Path, kind: str, **settings: object) -> Path:
    """Copy a tokenizer, with other settings next to it."""
    (folder / "tokenizer.json").write_bytes((FOLDER / kind / "tokenizer.json").read_bytes())
    (folder / "tokenizer_config.json").write_text(json.dumps(settings))
    return folder / "tokenizer.json"


def test_flags_for_start_and_end_win_over_the_file(tmp_path: Path) -> None:
    settings = {"pad_token": {"content": "<pad>"}, "bos_token": "<bos>", "eos_token": "<eos>"}
    file = write(tmp_path, "siglip2", **settings, add_bos_token=True, add_eos_token=False)

    recipe = read_tokenizer(file, {"context_length": 24}, name="x").recipe

    assert (recipe.start, recipe.end, recipe.pad) == ((2,), (), 0)


@pytest.mark.parametrize(
    ("settings", "said"),
    [
        ({}, r"neither tokenizer\.json nor tokenizer_config\.json names a pad_token"),
        ({"pad_token": "<nowhere>"}, "names a pad_token"),
        ({"pad_token": "<pad>", "padding_side": "left"}, "pads texts on the left"),
        ({"pad_token": "<pad>", "truncation_side": "left"}, "cuts texts on the left"),
    ],
)
def test_settings_that_do_not_make_rows_are_refused(tmp_path: Path, settings: dict[str, object], said: str) -> None:
    with pytest.raises(ModelError, match=said):
        read_tokenizer(write(tmp_path, "siglip", **settings), {"context_length": 16}, name="x")


@pytest.mark.parametrize(
    "content", [b"", b"{}", b"[1, 2", b"\xff\xfe", b'{"version": "1.0", "model": {"type": "None"}}']
)
def test_a_file_that_is_no_tokenizer_is_named(content: bytes) -> None:
    with pytest.raises(ModelError, match=r"^mine: its tokenizer\.json is not a tokenizer \(.*\); download it again$"):
        FileTokenizer(content, TokenizerRecipe(), 16, "mine")


@pytest.mark.parametrize(
    ("values", "said"),
    [
        ({"clean": "upper"}, "clean is 'upper', not lower, whitespace or canonicalize"),
        ({"start": [1]}, "start is"),
        ({"end": (-1,)}, "end is"),
        ({"end": tuple(range(9))}, "end is"),
        ({"pad": True}, "pad is True"),
        ({"zeroed": "1"}, "zeroed is"),
    ],
)
def test_an_impossible_recipe_is_refused(values: dict[str, Any], said: str) -> None:
    with pytest.raises(ValueError, match=said):
        TokenizerRecipe(**values)


# -- words of a label ---------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("before", "after"), [("a video of ", ""), ("", " in the park"), ("", ""), ("a photo of ", "!")]
)
@pytest.mark.parametrize(
    "label", ["riding a bike", "tai chi", "体操", "...", "  red  circles ", "very " * 90, "Skiing"]
)
@pytest.mark.parametrize("kind", KINDS)
def test_words_are_positions_of_the_labels_own_tokens(kind: str, label: str, before: str, after: str) -> None:
    tokenizer = tokenizer_of(kind)

    tokens = tokenise(tokenizer, Prompt(before + label + after, len(before), len(before) + len(label)))

    own = range(len(tokenizer.recipe.start), len(tokenizer.recipe.start) + len(tokens.kept))
    assert tokens.ids[own.start : own.stop] == tokens.kept
    if len(tokens.words) > 1:
        assert own.start <= tokens.words.start < tokens.words.stop <= own.stop
    shown = tokenizer.decode([tokens.ids[i] for i in tokens.words]).strip()
    if label in ("riding a bike", "tai chi") and not tokens.cut:
        assert label in shown or shown in label


# -- features -----------------------------------------------------------------------------------------------------


RECIPE = ImageRecipe(32, (0.5, 0.5, 0.5), (0.5, 0.5, 0.5))
# The kind of the tokenizer that open_clip names; mT5 ends and pads its rows like SigLIP 2.
KIND_OF = {
    r"timm/ViT-.*-SigLIP2.*|google/mt5-base": "siglip2",
    r"timm/ViT-.*-SigLIP(-i18n.*)?": "siglip",
    "bert-base-uncased": "clipa",
    "facebook/xlm-v-base": "metaclip2",
}


def with_tokenizer(config: dict[str, Any], kind: str, **changes: object) -> Encoder:
    """Return the encoder of a configuration, with the context and the vocabulary of the small tokenizer."""
    own = {"context_length": KINDS[kind][1], "vocab_size": 400, **changes}
    config = {**config, "text_cfg": {**config["text_cfg"], **own}}
    tokenizer = tokenizer_of(kind)
    return adapt(random_model(config), tokenizer=tokenizer, recipe=RECIPE, placement=place("cpu", "fp32"))


def encoder_of(kind: str, **changes: object) -> Encoder:
    return with_tokenizer(small_config(KINDS[kind][0]), kind, **changes)


def different_configs() -> dict[str, tuple[dict[str, Any], str]]:
    """Return a configuration for each kind of text tower with a tokenizer file, and the kind of its tokenizer."""
    seen: dict[str, tuple[str, dict[str, Any], str]] = {}
    for arch, config in text_configs(with_tokenizer_files=True):
        named = config["text_cfg"]["hf_tokenizer_name"]
        kind = next(kind for pattern, kind in KIND_OF.items() if re.fullmatch(pattern, named))
        text = {k: v for k, v in config["text_cfg"].items() if k not in ("hf_tokenizer_name", "context_length")}
        seen.setdefault(json.dumps([kind, {**config, "text_cfg": text}], sort_keys=True), (arch, config, kind))
    return {arch: (config, kind) for arch, config, kind in seen.values()}


CONFIGS = different_configs()


@torch.no_grad()
@pytest.mark.parametrize("arch", CONFIGS)
def test_classes_are_those_of_encode_text_with_the_models_own_rows(arch: str) -> None:
    config, kind = CONFIGS[arch]
    encoder = with_tokenizer(config, kind)

    classes = encoder.encode_texts(ODD_TEXTS).classes

    expected = encoder.model.encode_text(torch.tensor(rows_of(kind)), normalize=False)
    assert torch.allclose(classes, expected, atol=1e-6, rtol=1e-5)


@pytest.mark.parametrize("arch", CONFIGS)
def test_a_text_has_the_same_features_in_any_batch(arch: str) -> None:
    encoder = with_tokenizer(*CONFIGS[arch])
    many = [f"{n} {'very ' * (n % 9)}small steps" for n in range(20)]

    together = encoder.encode_texts([*many, "very " * 100]).classes

    alone = torch.cat([encoder.encode_texts([text]).classes for text in many])
    assert torch.allclose(together[:-1], alone, atol=1e-6, rtol=1e-5)


@torch.no_grad()
@pytest.mark.parametrize("kind", OF_OPEN_CLIP)
def test_a_wrong_recipe_changes_features(kind: str) -> None:
    encoder = encoder_of(kind)
    tokenizer = encoder.tokenizer
    assert isinstance(tokenizer, FileTokenizer)
    changes: list[dict[str, Any]] = [{"end": ()}, {"end": (5,)}]
    changes += [{"pad": 7}] if not encoder.text_tower.has_token_features else []

    before = encoder.encode_texts(ODD_TEXTS[30:60]).classes
    for change in changes:
        other = replace(encoder, tokenizer=replace(tokenizer, recipe=replace(tokenizer.recipe, **change)))
        after = other.encode_texts(ODD_TEXTS[30:60]).classes
        assert float(torch.nn.functional.cosine_similarity(before, after).min()) < 0.999, change


@torch.no_grad()
@pytest.mark.parametrize("kind", ["siglip", "siglip2", "clipa"])
def test_a_tower_that_reads_another_position_has_other_features(kind: str) -> None:
    """The comparison with `encode_text` would fail for a wrong pooling."""
    texts = ODD_TEXTS[30:60]
    last = encoder_of(kind).encode_texts(texts).classes
    rows = torch.tensor(rows_of(kind)[30:60])

    for pooling in ("argmax", "first"):
        other = encoder_of(kind, pool_type=pooling).model.encode_text(rows, normalize=False)
        assert float(torch.nn.functional.cosine_similarity(last, other).min()) < 0.999, pooling


@pytest.mark.parametrize("change", [{"pool_type": "argmax"}, {"eos_id": 1}])
def test_a_tower_that_reads_texts_elsewhere_than_at_their_end_is_refused(change: dict[str, Any]) -> None:
    with pytest.raises(ModelError, match=r"^metaclip2: does not read texts where its tokenizer ends them"):
        encoder_of("metaclip2", **change)


@pytest.mark.parametrize("kind", ["clipa", "metaclip2"])
def test_a_number_that_the_tower_has_no_embedding_for_is_refused(kind: str) -> None:
    encoder = encoder_of(kind)
    tokenizer = encoder.tokenizer
    assert isinstance(tokenizer, FileTokenizer)
    content = json.loads(tokenizer.content)
    start = tokenizer.vocabulary
    # One more than the 400 that the tower knows. The library numbers added tokens one after the other.
    content["added_tokens"] += [
        {**content["added_tokens"][0], "id": start + i, "content": f"<more{i}>"} for i in range(401 - start)
    ]
    more = replace(encoder, tokenizer=replace(tokenizer, content=json.dumps(content).encode()))

    assert more.unknown([f"<more{400 - start}>"]) == [0]
    more.encode_texts([f"<more{399 - start}>"])
    with pytest.raises(ModelError, match=f"^{kind}: knows 400 tokens, but its tokenizer gives number 400; give the"):
        more.encode_texts(["riding a bike", f"<more{400 - start}>"])


def test_a_tokenizer_that_cannot_read_texts_is_named() -> None:
    content = b'{"version": "1.0", "model": {"type": "WordLevel", "vocab": {"a": 0}, "unk_token": "[UNK]"}}'

    with pytest.raises(ModelError, match=r"^mine: its tokenizer\.json cannot read a text \(.*UNK.*\)"):
        FileTokenizer(content, TokenizerRecipe(), 16, "mine").encode("riding")


def test_a_text_has_the_same_ids_each_time() -> None:
    tokenizer = tokenizer_of("siglip2")
    content = json.loads(tokenizer.content)
    content["model"]["dropout"] = 0.9
    varying = replace(tokenizer, content=json.dumps(content).encode())

    assert varying.encode("riding a bike in the park") == tokenizer.encode("riding a bike in the park")


def test_a_tokenizer_can_be_copied() -> None:
    tokenizer = tokenizer_of("siglip")

    assert copy.deepcopy(tokenizer).encode("riding") == tokenizer.encode("riding")
