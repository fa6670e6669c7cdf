"""The features of many texts: the same as those of single texts, kept in the store, and found again block by block."""

import sqlite3
from collections.abc import Callable, Sequence
from dataclasses import replace
from pathlib import Path

import pytest
import torch
from torch import Tensor

from bike_cli.config import Spot, StoreConfig
from bike_cli.data.labels import fill
from bike_cli.engine.engine import Engine
from bike_cli.engine.store.store import Store
from bike_cli.engine.towers.encoder import Encoder
from bike_cli.engine.towers.tokens import Truncated
from bike_cli.inference.text_features import FEWEST, Texts, encode_prompts
from bike_cli.records import Prompt, TextFeatures

COLOURS, SHAPES = ("red", "blue", "green", "dark", "pale"), ("square", "circle", "cross", "star", "riding a bike")
LONG = "very " * 90 + "red square"  # longer than the context


def prompts(count: int, template: str = "a video of {}.") -> list[Prompt]:
    """Return different texts of several lengths; the eleventh is too long."""
    labels = [f"{COLOURS[i % 5]} {SHAPES[i // 5 % 5]}{' and more' * (i % 3)} {i}" for i in range(count)]
    labels[10] = LONG
    return [fill(template, label) for label in labels]


@pytest.fixture
def store(tmp_path: Path) -> StoreConfig:
    return StoreConfig(cache_dir=str(tmp_path))


@pytest.fixture
def read(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """The texts that the tower reads."""
    texts: list[str] = []
    real = Encoder.encode_prompts

    def encode(self: Encoder, some: Sequence[Prompt], *, positions: Spot) -> tuple[TextFeatures, list[Truncated]]:
        texts.extend(prompt.text for prompt in some)
        return real(self, some, positions=positions)

    monkeypatch.setattr(Encoder, "encode_prompts", encode)
    return texts


def parts(texts: Texts) -> list[Tensor]:
    return [texts.features.classes, texts.features.tokens, texts.features.token_mask]


def same_bits(some: Texts, others: Texts) -> bool:
    equal = [a.dtype == b.dtype and torch.equal(a, b) for a, b in zip(parts(some), parts(others), strict=True)]
    return all(equal) and some.cut == others.cut and some.features.texts == others.features.texts


@pytest.mark.parametrize("positions", ["words", "eot"])
def test_features_of_many_texts_are_those_of_single_texts(tiny: Engine, positions: Spot) -> None:
    many = prompts(FEWEST + 700)

    found = encode_prompts(tiny, many, positions=positions)

    for i in range(0, len(many), 97):
        one = tiny.encoder.encode_texts([many[i]], positions=positions)
        width = one.tokens.shape[1]
        torch.testing.assert_close(found.features.classes[i], one.classes[0], atol=1e-5, rtol=1e-5)
        torch.testing.assert_close(found.features.tokens[i, :width], one.tokens[0], atol=1e-5, rtol=1e-5)
        assert found.features.tokens[i, width:].abs().sum() == 0
        assert found.features.token_mask[i].sum() == one.token_mask[0].sum()
    assert [cut.index for cut in found.cut] == [10]
    assert found.cut == tiny.encoder.truncated(many)


@pytest.mark.parametrize("positions", ["words", "eot"])
def test_a_second_run_reads_no_text_and_has_the_same_bits(
    tiny: Engine, store: StoreConfig, read: list[str], positions: Spot
) -> None:
    many = prompts(1500)
    first = encode_prompts(tiny, many, positions=positions, store=store)
    assert len(read) == 1500

    second = encode_prompts(tiny, many, positions=positions, store=store)

    assert len(read) == 1500
    assert same_bits(first, second)
    assert same_bits(first, encode_prompts(tiny, many, positions=positions))
    assert len(second.cut) == 1


def test_lists_that_differ_in_one_text_share_most_blocks(tiny: Engine, store: StoreConfig, read: list[str]) -> None:
    many = prompts(3000)
    first = encode_prompts(tiny, many, positions="eot", store=store)
    read.clear()

    second = encode_prompts(tiny, [many[0], *many[2:]], positions="eot", store=store)

    assert 0 < len(read) < 1500
    torch.testing.assert_close(second.features.classes[1:], first.features.classes[2:], atol=1e-5, rtol=1e-5)


@pytest.mark.parametrize(
    "change",
    [
        lambda engine: replace(engine, clip_config={**engine.clip_config, "quick_gelu": "another"}),
        lambda engine: replace(engine, encoder=_in_half(engine.encoder)),
        lambda engine: replace(engine, encoder=replace(engine.encoder, tokenizer=_shorter(engine.encoder))),
    ],
    ids=["computation", "precision", "tokenizer"],
)
def test_what_features_depend_on_tells_them_apart(
    tiny: Engine, store: StoreConfig, read: list[str], change: Callable[[Engine], Engine]
) -> None:
    encode_prompts(tiny, prompts(FEWEST), positions="eot", store=store)

    encode_prompts(change(tiny), prompts(FEWEST), positions="eot", store=store)

    assert len(read) == 2 * FEWEST


def _in_half(encoder: Encoder) -> Encoder:
    return replace(encoder, placement=replace(encoder.placement, dtype=torch.bfloat16))


def _shorter(encoder: Encoder) -> object:
    return replace(encoder.tokenizer, context=40)  # type: ignore[type-var]


def test_weights_templates_and_positions_tell_features_apart(
    tiny: Engine, store: StoreConfig, read: list[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    encode_prompts(tiny, prompts(FEWEST), positions="eot", store=store)
    encode_prompts(tiny, prompts(FEWEST), positions="words", store=store)
    encode_prompts(tiny, prompts(FEWEST, "a clip of {}."), positions="eot", store=store)
    assert len(read) == 3 * FEWEST

    weight = tiny.encoder.text_tower.modules.ln_final.weight
    monkeypatch.setattr(weight, "data", weight.data * 2)
    encode_prompts(replace(tiny), prompts(FEWEST), positions="eot", store=store)

    assert len(read) == 4 * FEWEST


def test_few_texts_and_all_positions_are_not_kept(tiny: Engine, store: StoreConfig, tmp_path: Path) -> None:
    encode_prompts(tiny, prompts(FEWEST - 1), positions="eot", store=store)
    encode_prompts(tiny, prompts(FEWEST), positions="all", store=store)
    encode_prompts(tiny, prompts(FEWEST), positions="eot", store=replace(store, cache=False))

    assert list(tmp_path.iterdir()) == []


def test_the_store_reports_texts_apart_from_videos(tiny: Engine, store: StoreConfig, tmp_path: Path) -> None:
    many = prompts(1500)
    encode_prompts(tiny, many, positions="eot", store=store)

    with Store.open(tmp_path) as opened:
        info = opened.info()
        assert (info.videos, [recipe.videos for recipe in info.recipes]) == (0, [0])
        assert info.recipes[0].recipe == "tiny, float32 on cpu, texts"
        assert info.recipes[0].bytes == 1500 * 4 * tiny.encoder.dim
        assert opened.prune(max_bytes=0, unused_days=None).features == 0
        assert opened.info().recipes == ()


@pytest.mark.parametrize("content", [b"not a store", None])
def test_a_store_that_cannot_be_used_is_not(tiny: Engine, store: StoreConfig, tmp_path: Path, content: bytes) -> None:
    if content is None:
        tmp_path.joinpath("features.sqlite").mkdir()
    else:
        tmp_path.joinpath("features.sqlite").write_bytes(content)

    found = encode_prompts(tiny, prompts(FEWEST), positions="eot", store=store)

    assert same_bits(found, encode_prompts(tiny, prompts(FEWEST), positions="eot"))


def test_a_row_that_does_not_fit_is_computed_again(
    tiny: Engine, store: StoreConfig, read: list[str], tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    first = encode_prompts(tiny, prompts(FEWEST), positions="eot", store=store)
    connection = sqlite3.connect(tmp_path / "features.sqlite")
    connection.execute("UPDATE features SET warning = ?", (b'{"counts": [1], "cut": []}',))
    connection.commit()
    connection.close()

    assert same_bits(first, encode_prompts(tiny, prompts(FEWEST), positions="eot", store=store))
    assert len(read) == 2 * FEWEST
    assert "damaged row" in caplog.text  # its checksum does not match
