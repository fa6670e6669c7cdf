"""`bike models` lists models without a network and without building one."""

from pathlib import Path

import pytest
from open_clip import hf_model
from repositories import put_on_hub, write_repository
from small_models import ARCH, TAG, put_in_cache, tiny_checkpoint

from bike_cli.engine.models import catalogue
from bike_cli.engine.models.aliases import ALIASES
from bike_cli.engine.models.listing import KnownModel, known_models, selected
from bike_cli.errors import UsageError

HAS_TRANSFORMERS = hf_model.transformers is not None


pytestmark = pytest.mark.usefixtures("_no_network")


@pytest.mark.usefixtures("_registered")
def test_the_list_shows_which_models_are_on_this_disk(tmp_path: Path) -> None:
    file = put_in_cache(tmp_path / "hub", tiny_checkpoint())

    listed = {model.name: model for model in known_models()}

    assert listed[f"{ARCH},{TAG}"].bytes_on_disk == file.stat().st_size
    assert listed["base"].bytes_on_disk is None
    assert list(listed)[: len(ALIASES) + 1] == ["tiny", *ALIASES]


def test_a_model_without_its_tokenizer_is_not_on_this_disk(tmp_path: Path) -> None:
    alias = ALIASES["siglip2"]
    snapshot = put_on_hub(tmp_path / "hub", write_repository(tmp_path / "r", "ViT-B-32"), alias.repository)
    assert installed() == {"tiny"}

    (snapshot / "tokenizer.json").write_text("{}")

    assert installed() == {"tiny", "siglip2", "multilingual", f"{alias.arch},{alias.tag}"}
    size = (snapshot / "open_clip_model.safetensors").stat().st_size
    assert {model.name: model.bytes_on_disk for model in known_models()}["siglip2"] == size + 2


def test_repositories_in_the_cache_are_listed(tmp_path: Path) -> None:
    put_on_hub(tmp_path / "hub", write_repository(tmp_path / "r", "ViT-B-32"), "somebody/fine-tuned")
    for name in ("models--somebody--else", "models--a--b--c", "models--b-", "datasets--somebody--clips"):
        (tmp_path / "hub" / name / "snapshots").mkdir(parents=True)

    assert installed() == {"tiny", "hf-hub:somebody/fine-tuned"}


def test_a_pinned_revision_in_the_cache_is_listed(tmp_path: Path) -> None:
    put_on_hub(tmp_path / "hub", write_repository(tmp_path / "r", "ViT-B-32"), "somebody/fine-tuned", revision="v1")

    assert installed() == {"tiny", "hf-hub:somebody/fine-tuned@v1"}


def installed() -> set[str]:
    return {model.name for model in selected(known_models(), installed=True)}


@pytest.mark.usefixtures("_registered")
def test_the_list_leaves_out_models_that_would_be_refused() -> None:
    names = {model.name for model in known_models()}

    assert {"ViT-L-14,laion2b_s32b_b82k", "RN50-quickgelu,openai", "convnext_base,laion400m_s13b_b51k"} <= names
    assert {"ViT-B-16-SigLIP,webli", "ViT-L-14-CLIPA,datacomp1b", "PE-Core-B-16,meta"} <= names
    assert not {"ViT-B-16,openai", f"bike-test,{TAG}"} & names
    assert ("nllb-clip-base,v1" in names) == HAS_TRANSFORMERS


def test_every_tag_that_runs_is_listed_with_all_facts() -> None:
    tags = [model for model in known_models() if "," in model.name]

    assert len(tags) == len(catalogue.runnable_tags()) == (169 if HAS_TRANSFORMERS else 160)
    for model in tags:
        if catalogue.sizes_of(str(model.arch)) is None:  # only the hub knows the sizes of its text tower
            assert model.parameters is None
            continue
        assert model.parameters == (model.image_parameters or 0) + (model.text_parameters or 0)
        assert all((model.family, model.licence, model.repository, model.input_px, model.context)), model.name
        assert model.crops is not None
    sizes = {f"{alias.arch},{alias.tag}": alias.size for alias in ALIASES.values()}
    assert {model.name: model.download_bytes for model in tags if model.name in sizes} == sizes
    vitamin = next(model for model in tags if model.arch == "ViTamin-XL-384")
    assert vitamin.input_px == 384


@pytest.mark.parametrize(
    ("conditions", "names"),
    [
        ({"family": "pe core"}, {"one", "two"}),
        ({"licence": "mit"}, {"one"}),
        ({"licence": "cc-by"}, {"two"}),
        ({"max_bytes": 100}, {"one"}),
        ({"max_bytes": 99}, set()),
        ({"installed": True}, {"two"}),
        ({"family": "EVA"}, set()),
        ({}, {"one", "two", "three"}),
    ],
)
def test_conditions(conditions: dict[str, object], names: set[str]) -> None:
    models = [
        KnownModel("one", family="PE-Core", licence="MIT", download_bytes=100),
        KnownModel("two", family="PE-Core", licence="CC-BY-NC-4.0", download_bytes=101, bytes_on_disk=101),
        KnownModel("three"),
    ]

    assert {model.name for model in selected(models, **conditions)} == names  # type: ignore[arg-type]


def test_a_family_is_its_whole_name() -> None:
    assert {model.family for model in selected(known_models(), family="siglip")} == {"SigLIP"}


@pytest.mark.parametrize(("flag", "value"), [("family", "sig"), ("family", ""), ("licence", "gpl"), ("licence", "-")])
def test_an_unknown_condition_is_a_usage_error(flag: str, value: str) -> None:
    with pytest.raises(UsageError, match=rf"--{flag} '{value}': is unknown; choose .*(SigLIP2|MIT)"):
        selected([], **{flag: value})  # type: ignore[arg-type]
