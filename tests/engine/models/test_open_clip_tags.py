"""Which of open_clip's weights bike runs: `open_clip_tags.csv` lists them all, so that changes of open_clip show here.

A verdict is `runs`; `extra`, for a model that needs transformers; or the architecture with the weights' activation.
"""

import csv
import re
from pathlib import Path

import open_clip
import pytest
from open_clip import hf_model

from bike_cli.engine.models import catalogue
from bike_cli.engine.models.checkpoints import open_checkpoint
from bike_cli.errors import ModelError

ALL = [(arch, tag) for arch, tag in open_clip.list_pretrained()]
with Path(__file__).with_name("open_clip_tags.csv").open(newline="") as _file:
    TABLE = {(row["arch"], row["tag"]): row["verdict"] for row in csv.DictReader(_file)}
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
    twin = re.search(rf"trained with another activation .*; use (\S+),{tag}$", message)
    return twin[1] if twin else message


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


def test_the_table_has_all_weights_of_open_clip() -> None:
    assert sorted(TABLE) == sorted(ALL)


@pytest.mark.parametrize(("arch", "tag"), TABLE, ids=",".join)
def test_weights_run_or_are_refused_with_the_reason(
    arch: str, tag: str, verdicts: dict[tuple[str, str], str], without_extra: dict[tuple[str, str], str]
) -> None:
    expected = TABLE[arch, tag]

    assert without_extra.get((arch, tag), verdicts[arch, tag]) == expected
    if expected == "extra" and hf_model.transformers is not None:
        assert verdicts[arch, tag] == "runs"
    if expected not in ("runs", "extra"):
        assert TABLE[expected, tag] == "runs"


def test_how_many_run(verdicts: dict[tuple[str, str], str]) -> None:
    found = list(TABLE.values())

    assert (len(found), found.count("runs"), found.count("extra")) == (196, 160, 9)
    assert [pair for pair, word in verdicts.items() if word == "runs"] == catalogue.runnable_tags()
    assert {arch for (arch, _), word in TABLE.items() if word == "extra"} == WITH_TRANSFORMERS


@pytest.mark.parametrize(
    "family",
    [
        *("EVA02-B-16", "ViTamin-L", "PE-Core-bigG-14-448", "MobileCLIP-B", "MobileCLIP2-S4", "coca_ViT-L-14"),
        *("ViT-SO400M-14-SigLIP", "ViT-gopt-16-SigLIP2-384", "ViT-bigG-14-CLIPA", "ViT-H-14-worldwide-378"),
    ],
)
def test_every_family_runs(verdicts: dict[tuple[str, str], str], family: str) -> None:
    assert "runs" in {word for (arch, _), word in verdicts.items() if arch == family}
