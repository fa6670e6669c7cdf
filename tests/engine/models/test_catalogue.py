"""`bike models` lists models without a network and without building one."""

import json
from pathlib import Path

import open_clip
import pytest
import torch
from open_clip.constants import HF_SAFE_WEIGHTS_NAME, HF_WEIGHTS_NAME
from small_models import ARCH, TAG, put_in_cache, tiny_checkpoint

from bike_cli.engine.download import hub
from bike_cli.engine.models import catalogue


def test_every_alias_names_weights_that_run() -> None:
    assert hub.WEIGHTS_FILES == (HF_SAFE_WEIGHTS_NAME, HF_WEIGHTS_NAME)
    for alias in catalogue.ALIASES.values():
        assert catalogue.is_plain(catalogue.architecture(alias.arch))
        assert catalogue.tag_preprocessing(alias.arch, alias.tag)["hf_hub"] == f"{alias.repository}/"


@pytest.mark.parametrize("name", catalogue.ALIASES)
def test_the_size_of_an_alias_is_that_of_a_file_with_its_tensors(name: str) -> None:
    alias = catalogue.ALIASES[name]
    with torch.device("meta"):
        state = open_clip.CLIP(**open_clip.get_model_config(alias.arch)).state_dict()
    end, header = 0, {}
    for key in sorted(state):
        begin, end = end, end + 4 * state[key].numel()
        header[key] = {"dtype": "F32", "shape": list(state[key].shape), "data_offsets": [begin, end]}

    size = len(json.dumps(header, separators=(",", ":")))
    assert alias.size == 8 + -(-size // 8) * 8 + end


def test_a_size_that_is_not_known_is_estimated_from_the_parameters() -> None:
    weights = catalogue.weights_of("ViT-B-32", "laion2b_s34b_b79k")
    assert weights is not None
    estimated = catalogue.with_estimated_size(weights)

    assert (estimated.size, estimated.is_exact) == (4 * 151_277_313, False)


@pytest.mark.parametrize("name", ["small", "base", "large"])
def test_the_parameters_of_an_alias_are_those_of_its_architecture(name: str) -> None:
    alias = catalogue.ALIASES[name]
    with torch.device("meta"):
        clip = open_clip.CLIP(**open_clip.get_model_config(alias.arch))

    assert sum(p.numel() for p in clip.parameters()) == pytest.approx(alias.parameters, rel=0.005)


@pytest.mark.usefixtures("_registered")
def test_the_list_shows_which_models_are_on_this_disk(tmp_path: Path) -> None:
    file = put_in_cache(tmp_path / "hub", tiny_checkpoint())

    listed = {model.name: model for model in catalogue.known_models()}

    assert listed[f"{ARCH},{TAG}"].bytes_on_disk == file.stat().st_size
    assert listed["base"].bytes_on_disk is None
    assert next(iter(listed)) == "tiny"


@pytest.mark.usefixtures("_registered")
def test_the_list_leaves_out_models_that_would_be_refused() -> None:
    names = {model.name for model in catalogue.known_models()}

    assert {"ViT-L-14,laion2b_s32b_b82k", "RN50-quickgelu,openai", "convnext_base,laion400m_s13b_b51k"} <= names
    assert {"ViT-B-16-SigLIP,webli", "ViT-L-14-CLIPA,datacomp1b", "PE-Core-B-16,meta"} <= names
    assert not {"ViT-B-16,openai", f"bike-test,{TAG}", "nllb-clip-base,v1"} & names
