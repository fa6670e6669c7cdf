"""What bike knows of models without building or downloading one: names, sizes, families, licences."""

import json
import re
import subprocess
import sys

import open_clip
import pytest
import timm
import torch
from open_clip.constants import HF_SAFE_WEIGHTS_NAME, HF_WEIGHTS_NAME
from speed import slow_but

from bike_cli.engine.download import hub
from bike_cli.engine.models import catalogue
from bike_cli.engine.models.aliases import ALIASES, alias_files
from bike_cli.engine.models.open_clip.families import family_of
from bike_cli.engine.models.open_clip.hub_names import twin_of
from bike_cli.engine.models.open_clip.preprocessing import input_size
from bike_cli.engine.models.open_clip.sizes import recorded_sizes

DTYPES = {torch.float32: ("F32", 4), torch.int64: ("I64", 8)}


@pytest.mark.parametrize("name", ALIASES)
def test_an_alias_describes_its_tag(name: str) -> None:
    alias = ALIASES[name]
    config = open_clip.get_model_config(alias.arch)
    pretrained = catalogue.tag_preprocessing(alias.arch, alias.tag)

    assert hub.WEIGHTS_FILES == (HF_SAFE_WEIGHTS_NAME, HF_WEIGHTS_NAME)
    assert (alias.arch, alias.tag) in catalogue.runnable_tags()
    assert pretrained["hf_hub"] == f"{alias.repository}/"
    assert alias.tokenizer == config["text_cfg"].get("hf_tokenizer_name")
    assert alias.context == config["text_cfg"].get("context_length", 77)
    assert alias.crops == (pretrained["resize_mode"] == "shortest")
    assert family_of(alias.arch, alias.tag) is not None


@pytest.mark.parametrize("name", slow_but(["base", "siglip2", "pe-base"], ALIASES))
def test_the_size_of_an_alias_is_that_of_a_file_with_its_tensors(name: str) -> None:
    alias = ALIASES[name]
    with torch.device("meta"):
        state = catalogue.construct(open_clip.get_model_config(alias.arch)).state_dict()
    end, header = 0, {}
    for key in sorted(state):
        dtype, width = DTYPES[state[key].dtype]
        begin, end = end, end + width * state[key].numel()
        header[key] = {"dtype": dtype, "shape": list(state[key].shape), "data_offsets": [begin, end]}

    size = len(json.dumps(header, separators=(",", ":")))
    assert alias.size == 8 + -(-size // 8) * 8 + end


@pytest.mark.parametrize(
    ("name", "listed"),  # as pages of the hub list the files
    [("pe-small", "349 MB"), ("siglip2", "1.50 GB"), ("mobile", "398 MB")],
)
def test_the_size_of_an_alias_is_the_one_that_the_hub_lists(name: str, listed: str) -> None:
    number, unit = listed.split()

    assert ALIASES[name].size / {"MB": 1e6, "GB": 1e9}[unit] == pytest.approx(float(number), rel=0.002)


def test_the_files_of_an_alias_are_those_of_its_tag() -> None:
    for name, alias in ALIASES.items():
        weights, *tokenizer = alias_files(name)
        of_tag = catalogue.weights_of(alias.arch, alias.tag)
        assert of_tag
        assert (weights.repository, weights.names) == (of_tag.repository, of_tag.names)
        assert [*tokenizer] == list(filter(None, [catalogue.tokenizer_of(alias.arch, model=name)]))


def test_multilingual_is_siglip2() -> None:
    assert (ALIASES["multilingual"].arch, ALIASES["multilingual"].tag) == (ALIASES["siglip2"].arch, "webli")


def test_names_and_sizes_are_known_without_torch() -> None:
    code = (
        "import sys; from bike_cli.engine.models import aliases\n"
        "from bike_cli.engine.models.open_clip.sizes import recorded_sizes\n"
        "aliases.alias_files('siglip2'); assert recorded_sizes()[aliases.ALIASES['siglip2'].arch]\n"
        "assert not {'torch', 'open_clip', 'tokenizers'} & set(sys.modules)"
    )

    subprocess.run([sys.executable, "-c", code], check=True, timeout=60)


# -- sizes


@pytest.mark.parametrize("arch", ["RN50", "ViT-B-32", "PE-Core-T-16-384", "ViT-B-16-SigLIP", "coca_ViT-B-32"])
def test_recorded_sizes_are_those_of_the_architecture(arch: str) -> None:
    assert recorded_sizes()[arch] == catalogue._counted(arch)


@pytest.mark.slow
def test_all_recorded_sizes_are_those_of_the_architectures() -> None:
    with torch.device("meta"):
        for arch, sizes in recorded_sizes().items():
            model = catalogue.construct(catalogue.architecture(arch))
            assert sum(p.numel() for p in model.parameters()) == sizes.parameters, arch
            assert sum(p.numel() for p in model.visual.parameters()) == sizes.image_parameters, arch
            assert input_size(model.visual) == (sizes.input_px, sizes.input_px), arch


def test_the_sizes_of_every_model_that_runs_are_recorded() -> None:
    described = {
        arch
        for arch, _ in catalogue.runnable_tags()
        if not catalogue.architecture(arch)["text_cfg"].get("hf_model_name")
    }
    assert described <= recorded_sizes().keys()


def test_a_size_that_is_not_known_is_estimated_from_the_parameters() -> None:
    weights = catalogue.weights_of("ViT-B-32", "laion2b_s34b_b79k")
    assert weights is not None
    estimated = catalogue.with_estimated_size(weights)

    assert (estimated.size, estimated.is_exact) == (4 * 151_277_313, False)


# -- families and licences


def test_every_model_that_runs_has_a_family() -> None:
    unknown = {arch for arch, tag in catalogue.runnable_tags() if family_of(arch, tag) is None}
    assert {arch for arch in unknown if not arch.startswith("nllb-clip-")} == set()
    assert family_of("ViT-B-32", "nobodys") is None


@pytest.mark.parametrize(
    ("pair", "name", "licence"),
    [
        ("ViT-B-16-quickgelu,openai", "OpenAI", "MIT"),
        ("RN50-quickgelu,cc12m", "OpenCLIP", "MIT"),
        ("ViT-B-32,laion2b_s34b_b79k", "LAION", "MIT"),
        ("ViT-B-32,commonpool_s_s13m_b4k", "DataComp", "MIT"),
        ("convnext_base,laion400m_s13b_b51k", "ConvNeXt", "MIT"),
        ("coca_ViT-B-32,laion2b_s13b_b90k", "CoCa", "MIT"),
        ("EVA02-L-14-336,merged2b_s6b_b61k", "EVA", "MIT"),
        ("ViTamin-L-336,datacomp1b", "ViTamin", "MIT"),
        ("ViT-B-16-SigLIP,webli", "SigLIP", "Apache-2.0"),
        ("ViT-B-16-SigLIP-i18n-256,webli", "SigLIP", "Apache-2.0"),
        ("ViT-B-16-SigLIP2,webli", "SigLIP2", "Apache-2.0"),
        ("ViT-L-14-CLIPA-336,datacomp1b", "CLIPA", "Apache-2.0"),
        ("PE-Core-bigG-14-448,meta", "PE-Core", "Apache-2.0"),
        ("ViT-B-16-quickgelu,metaclip_fullcc", "MetaCLIP", "CC-BY-NC-4.0"),
        ("ViT-H-14-worldwide-quickgelu,metaclip2_worldwide", "MetaCLIP2", "CC-BY-NC-4.0"),
        ("ViT-H-14-quickgelu,dfn5b", "DFN", "Apple AMLR"),
        ("MobileCLIP-B,datacompdr_lt", "MobileCLIP", "Apple AMLR"),
        ("MobileCLIP2-S2,dfndr2b", "MobileCLIP2", "Apple AMLR"),
    ],
)
def test_the_licence_of_a_tag_is_that_of_its_card(pair: str, name: str, licence: str) -> None:
    arch, tag = pair.split(",")

    family = family_of(arch, tag)

    assert family
    assert (family.name, family.licence) == (name, licence)
    assert tuple(pair.split(",")) in catalogue.runnable_tags()


def test_licences_agree_with_timm() -> None:
    licences = {}
    for config in filter(None, map(timm.get_pretrained_cfg, timm.list_pretrained())):
        owner = config.hf_hub_id or ""
        licences[f"{owner}{config.architecture}.{config.tag}" if owner.endswith("/") else owner] = config.license
    compared = 0
    for arch, tag in catalogue.runnable_tags():
        weights, family = catalogue.weights_of(arch, tag), family_of(arch, tag)
        assert weights
        if arch.startswith("nllb-clip-"):  # of no known licence
            continue
        assert family
        # timm states its own licence for OpenAI's vision transformers.
        if family.name != "OpenAI" and weights.repository in licences:
            compared += 1
            assert licences[weights.repository] == family.licence.lower(), (arch, tag)

    assert compared > 25


# -- names of other libraries


@pytest.mark.parametrize(
    "repository",
    [
        *("openai/clip-vit-base-patch32", "openai/clip-vit-base-patch16", "openai/clip-vit-large-patch14-336"),
        *(f"google/siglip2-base-patch16-{side}" for side in (224, 256, 384, 512)),
        *(f"google/siglip2-so400m-patch16-{side}" for side in (256, 384, 512)),
        *("google/siglip2-base-patch32-256", "google/siglip2-so400m-patch14-224", "google/siglip2-so400m-patch14-384"),
        *(
            "google/siglip2-giant-opt-patch16-384",
            "google/siglip-so400m-patch14-384",
            "google/siglip-large-patch16-256",
        ),
        *("google/siglip-base-patch16-224", "google/siglip-base-patch16-256-multilingual"),
        *("facebook/PE-Core-B16-224", "facebook/PE-Core-L14-336", "facebook/PE-Core-T16-384"),
    ],
)
def test_the_twin_of_a_repository_runs_and_has_its_patches_and_its_input(repository: str) -> None:
    twin = twin_of(repository)

    assert twin
    arch, tag = (ALIASES[twin].arch, ALIASES[twin].tag) if twin in ALIASES else twin.split(",")
    assert (arch, tag) in catalogue.runnable_tags()
    vision = open_clip.get_model_config(arch)["vision_cfg"]
    numbers = {int(number) for number in re.findall(r"(?:patch|[BTL]|-)(\d+)\b", repository)}
    patch = vision.get("patch_size") or int(vision["timm_model_name"].split("patch")[1].split("_")[0])
    # The one of 384 pixels and patches of 14 was made for 378, a multiple of 14.
    assert {patch, vision["image_size"]} >= numbers - ({384} if patch == 14 else set())


@pytest.mark.parametrize(
    ("repository", "twin"),
    [
        ("facebook/metaclip-b16-fullcc2.5b", "ViT-B-16-quickgelu,metaclip_fullcc"),
        ("facebook/metaclip-l14-400m", "ViT-L-14-quickgelu,metaclip_400m"),
        ("apple/MobileCLIP2-S2", "mobile"),
        ("apple/MobileCLIP2-L-14", "MobileCLIP2-L-14,dfndr2b"),
        ("apple/MobileCLIP-S1", "MobileCLIP-S1,datacompdr"),
        ("timm/ViT-B-16-SigLIP2", None),
        ("laion/CLIP-ViT-B-32-laion2B-s34B-b79K", None),
    ],
)
def test_twins_of_other_repositories(repository: str, twin: str | None) -> None:
    assert twin_of(repository) == twin
    if twin is not None and twin not in ALIASES:
        assert tuple(twin.split(",")) in catalogue.runnable_tags()
