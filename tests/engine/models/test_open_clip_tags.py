"""Which of open_clip's weights bike runs. A new version of open_clip that adds some shows here."""

import open_clip
import pytest
from open_clip import hf_model

from bike_cli.engine.models import catalogue
from bike_cli.engine.models.checkpoints import open_checkpoint
from bike_cli.errors import ModelError

ALL = [(arch, tag) for arch, tag in open_clip.list_pretrained()]
WITH_TRANSFORMERS = {
    *("roberta-ViT-B-32", "xlm-roberta-base-ViT-B-32", "xlm-roberta-large-ViT-H-14"),
    *("nllb-clip-base", "nllb-clip-base-siglip", "nllb-clip-large", "nllb-clip-large-siglip"),
}


def verdict(arch: str, tag: str) -> str:
    """Return how opening the weights ends without a network, in a word."""
    try:
        open_checkpoint(f"{arch},{tag}", offline=True)
    except ModelError as e:
        message = str(e)
    if "not on this disk" in message:
        return "runs"
    if "pip install 'bike-cli[hf]'" in message:
        return "extra"
    return "twin" if "trained with another activation" in message else message


@pytest.fixture(scope="module")
def verdicts() -> dict[tuple[str, str], str]:
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(catalogue, "with_estimated_size", lambda file: file)  # it builds the model to count parameters
        return {pair: verdict(*pair) for pair in ALL}


@pytest.fixture(scope="module")
def without_extra() -> dict[tuple[str, str], str]:
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(hf_model, "transformers", None)
        return {pair: verdict(*pair) for pair in ALL if pair[0] in WITH_TRANSFORMERS}


def test_how_many_run(verdicts: dict[tuple[str, str], str]) -> None:
    counts = {word: list(verdicts.values()).count(word) for word in ("runs", "twin", "extra")}

    has_transformers = hf_model.transformers is not None
    assert counts == {"runs": 160, "twin": 27, "extra": 9} | ({"runs": 169, "extra": 0} if has_transformers else {})
    assert [pair for pair, word in verdicts.items() if word == "runs"] == catalogue.runnable_tags()


def test_what_needs_the_extra(without_extra: dict[tuple[str, str], str]) -> None:
    assert {arch for arch, _ in without_extra} == WITH_TRANSFORMERS
    assert list(without_extra.values()) == ["extra"] * 9


def test_twins_are_refused_with_the_name_of_the_other(verdicts: dict[tuple[str, str], str]) -> None:
    twins = [pair for pair, word in verdicts.items() if word == "twin"]

    for arch, tag in twins:
        other = arch.removesuffix("-quickgelu") if arch.endswith("-quickgelu") else f"{arch}-quickgelu"
        with pytest.raises(ModelError, match=f"use {other},{tag}$"):
            open_checkpoint(f"{arch},{tag}", offline=True)
        assert verdicts[other, tag] == "runs"


@pytest.mark.parametrize(
    "family",
    [
        *("EVA02-B-16", "ViTamin-L", "PE-Core-bigG-14-448", "MobileCLIP-B", "MobileCLIP2-S4", "coca_ViT-L-14"),
        *("ViT-SO400M-14-SigLIP", "ViT-gopt-16-SigLIP2-384", "ViT-bigG-14-CLIPA", "ViT-H-14-worldwide-378"),
    ],
)
def test_every_family_runs(verdicts: dict[tuple[str, str], str], family: str) -> None:
    assert "runs" in {word for (arch, _), word in verdicts.items() if arch == family}
