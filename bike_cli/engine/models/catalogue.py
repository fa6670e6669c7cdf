"""The architectures and weights of open_clip: which of them bike runs, and where their files are."""

from __future__ import annotations

import difflib
import os
from collections.abc import Mapping, Sequence
from dataclasses import replace
from functools import cache
from pathlib import Path
from typing import Any

import open_clip
import torch
from open_clip import CustomTextCLIP
from open_clip.coca_model import CoCa
from open_clip.model import CLIP, CLIPVisionCfg

from bike_cli.config import EngineConfig
from bike_cli.engine.download import hub
from bike_cli.engine.models.aliases import ALIASES as ALIASES
from bike_cli.engine.models.aliases import BUNDLED as BUNDLED
from bike_cli.engine.models.aliases import alias_files
from bike_cli.engine.models.architecture import USUAL
from bike_cli.engine.models.open_clip import text_models
from bike_cli.engine.models.open_clip.preprocessing import input_size
from bike_cli.engine.models.open_clip.sizes import Sizes, recorded_sizes
from bike_cli.engine.towers.text_tower import ImageTextModel
from bike_cli.errors import ModelError, shorten
from bike_cli.wording import either

DEFAULT = EngineConfig.model
TAGS_SHOWN = 5  # in a message
SHOWN = 60  # characters of a value in a message
LONGEST_NAME = 200  # characters that are compared with known names
SIMILAR = 0.6  # share of a name that a suggestion must have in common with it


def bundled_folder() -> Path | None:
    """Return the folder of the bundled model: in the installed package, or next to it in a checkout."""
    package = Path(__file__).parents[2]
    places = (package / "weights" / BUNDLED, package.parent / "weights" / BUNDLED)
    return next((place for place in places if (place / "model.safetensors").is_file()), None)


def architecture(arch: str) -> dict[str, object]:
    """Return open_clip's configuration of an architecture.

    Raises:
        ModelError: an architecture that open_clip does not know; the message suggests similar names.
    """
    # With `hf-hub:` and `local-dir:`, open_clip would download or read a file.
    config = None if ":" in arch else open_clip.get_model_config(arch)
    if config is None:
        way_out = suggestion(arch, open_clip.list_models())
        raise ModelError(f"model {shorten(repr(arch))}: open_clip has no such architecture; {way_out}")
    return config  # type: ignore[no-any-return]


def tag_preprocessing(arch: str, tag: str) -> dict[str, object]:
    """Return open_clip's description of the weights `arch,tag`: where they are, how frames are prepared.

    Raises:
        ModelError: an unknown tag; weights trained with another activation than the architecture's.
    """
    config, tags = architecture(arch), open_clip.list_pretrained_tags_by_model(arch)
    pretrained: dict[str, object] = open_clip.get_pretrained_cfg(arch, tag)
    twin = _twin(arch)
    # open_clip only warns, but the features would be silently worse.
    if twin and (_is_twins(config, pretrained) if pretrained else open_clip.get_pretrained_cfg(twin, tag)):
        raise ModelError(f"model '{arch},{tag}': trained with another activation (QuickGELU); use {twin},{tag}")
    if not pretrained:
        shown = tags if len(tags) <= TAGS_SHOWN else [*tags[:TAGS_SHOWN], "another one of bike models --all"]
        way_out = suggestion(tag, tags, f"choose {either(shown)}")
        raise ModelError(f"model {shorten(repr(f'{arch},{tag}'))}: open_clip has no such weights; {way_out}")
    return pretrained


def _twin(arch: str) -> str | None:
    """Return the same architecture with the other activation, if there is one."""
    twin = arch.removesuffix("-quickgelu") if arch.endswith("-quickgelu") else f"{arch}-quickgelu"
    return twin if twin in open_clip.list_models() else None


def _is_twins(config: Mapping[str, object], pretrained: Mapping[str, object]) -> bool:
    """Return whether weights were trained with another activation than an architecture's."""
    return bool(pretrained.get("quick_gelu")) != bool(config.get("quick_gelu"))


def is_plain(config: Mapping[str, object]) -> bool:
    """Return whether an open_clip configuration is a plain CLIP with OpenAI's tokenizer and causal text tower."""
    text = config["text_cfg"]
    assert isinstance(text, dict)
    nonstandard = ("hf_model_name", "hf_tokenizer_name", "no_causal_mask", "embed_cls", "tokenizer_kwargs")
    custom = bool(config.get("custom_text")) or "multimodal_cfg" in config or any(text.get(key) for key in nonstandard)
    return not custom and text.get("pool_type", "argmax") == "argmax"


def ran_in_0_1(config: Mapping[str, object]) -> bool:
    """Return whether version 0.1 ran a configuration; hashes of its features and classifiers must stay as they were.

    All that such a model computes follows from its weights, except for its attention heads, which are the usual ones.
    """
    if not is_plain(config):
        return False
    vision, text = config["vision_cfg"], config["text_cfg"]
    assert isinstance(vision, Mapping)
    assert isinstance(text, Mapping)
    if (
        vision.keys() | text.keys() <= USUAL
        and vision.get("head_width", CLIPVisionCfg.head_width) == CLIPVisionCfg.head_width
    ):
        return True
    return {**config, "quick_gelu": None} in [
        {**open_clip.get_model_config(arch), "quick_gelu": None} for arch in open_clip.list_models()
    ]


def check_runnable(config: Mapping[str, object], origin: str) -> None:
    """Raise ModelError if bike cannot run an open_clip configuration; the message begins with `origin`."""
    fault = _fault(config)
    if fault is not None:
        raise ModelError(f"{origin}: {fault}")


def _fault(config: Mapping[str, object]) -> str | None:
    """Return why bike cannot run a configuration, and the way out; None if it can."""
    vision, text = config.get("vision_cfg"), config.get("text_cfg")
    if not isinstance(vision, Mapping) or not isinstance(text, Mapping):
        return "vision_cfg or text_cfg is not an object; fix the configuration"
    if not _has_known_tokenizer(text):
        return "text_cfg sets options of its tokenizer that bike does not support; choose another model"
    if text_models.names_text_model(config):
        return text_models.fault(config)
    if not config.get("custom_text") and (text.get("embed_cls") or "multimodal_cfg" in config):
        return "custom_text is not set, which its text tower needs; fix the configuration"
    return None


def _has_known_tokenizer(text: Mapping[str, object]) -> bool:
    """Return whether all options of a tokenizer are known; one that is left out would make other rows."""
    options, is_file = text.get("tokenizer_kwargs") or {}, bool(text.get("hf_tokenizer_name"))
    if not isinstance(options, Mapping) or text.get("tokenizer_mode"):
        return False
    return options.keys() <= {"clean", "strip_sep_token"} if is_file else options in ({}, {"clean": "lower"})


def weights_of(arch: str, tag: str, *, model: str = "") -> hub.ModelFile | None:
    """Return where the weights of a tag are on the hub; None where open_clip has them elsewhere.

    Args:
        model: the name that the user gave; empty: ARCH,TAG.
    """
    if model in ALIASES:
        return alias_files(model)[0]
    repository, name = os.path.split(str(open_clip.get_pretrained_cfg(arch, tag).get("hf_hub", "")))
    if not repository:
        return None
    names = (str(Path(name).with_suffix(".safetensors")), name) if name else hub.WEIGHTS_FILES
    return hub.ModelFile(model or f"{arch},{tag}", arch, repository, tuple(dict.fromkeys(names)))


def files_of(arch: str, tag: str, *, model: str) -> list[hub.ModelFile]:
    """Return where the files of a tag are on the hub: its weights, and its tokenizer and description if it has them.

    The list is empty where open_clip has the weights elsewhere.
    """
    weights = weights_of(arch, tag, model=model)
    others = (tokenizer_of(arch, model=model), description_of(arch, model=model))
    return [] if weights is None else [weights, *(file for file in others if file is not None)]


def tokenizer_of(arch: str, *, model: str) -> hub.ModelFile | None:
    """Return where the tokenizer of an architecture is on the hub; None for OpenAI's, which is part of open_clip."""
    text = architecture(arch)["text_cfg"]
    assert isinstance(text, Mapping)
    repository = text.get("hf_tokenizer_name")
    if not repository:
        return None
    return hub.tokenizer_file(model, arch, str(repository))


def description_of(arch: str, *, model: str) -> hub.ModelFile | None:
    """Return where the description of an architecture's text tower is on the hub; None if open_clip contains it."""
    text = architecture(arch)["text_cfg"]
    assert isinstance(text, Mapping)
    return text_models.description_of(text, model=model, arch=arch)


def with_estimated_size(weights: hub.ModelFile) -> hub.ModelFile:
    """Return the weights with a size; an unknown one is estimated at four bytes per parameter."""
    sizes = sizes_of(weights.arch) if weights.size is None else None
    return weights if sizes is None else replace(weights, size=4 * sizes.parameters, is_exact=False)


def sizes_of(arch: str) -> Sizes | None:
    """Return the parameters and the input of an architecture; None if only the hub knows its text tower.

    One that is not recorded is built for that.
    """
    return recorded_sizes().get(arch) or _counted(arch)


@cache
def _counted(arch: str) -> Sizes | None:
    config = architecture(arch)
    if text_models.names_text_model(config):
        return None
    with torch.device("meta"):
        model = construct(config)
    image = sum(p.numel() for p in model.visual.parameters())
    return Sizes(image, sum(p.numel() for p in model.parameters()) - image, input_size(model.visual)[0])


def construct(config: Mapping[str, object]) -> ImageTextModel:
    """Return a model of an open_clip configuration, with random weights; nothing is downloaded."""
    parts: dict[str, Any] = {name: dict(part) if isinstance(part, Mapping) else part for name, part in config.items()}
    parts["vision_cfg"]["timm_model_pretrained"] = False  # downloaded weights would be overwritten
    # The classes are chosen as in `open_clip.create_model`.
    has_own_tower = parts.pop("custom_text", False)
    if text_models.KEY in parts:
        return text_models.build(parts)
    kind = (CoCa if "multimodal_cfg" in parts else CustomTextCLIP) if has_own_tower else CLIP
    return kind(**parts)


def suggestion(name: str, known: Sequence[str], otherwise: str = "bike models --all lists all names") -> str:
    """Return what to do about a misspelled name, to end a message with: the nearest known names, or else a hint."""
    near = difflib.get_close_matches(name[:LONGEST_NAME], known, n=3, cutoff=SIMILAR)
    near = near or [other for other in known if sorted(other) == sorted(name)]  # letters that changed places
    near = near or [longer for longer in known if len(name) > 1 and longer.startswith(name)][:3]
    return f"did you mean {either(near)}?" if near else otherwise


def runnable_tags() -> list[tuple[str, str]]:
    """Return (architecture, tag) of all weights of open_clip that bike can run."""
    runs = []
    for arch, tag in open_clip.list_pretrained():
        config, pretrained = open_clip.get_model_config(arch), open_clip.get_pretrained_cfg(arch, tag)
        if config and _fault(config) is None and not (_is_twins(config, pretrained) and _twin(arch)):
            runs.append((arch, tag))
    return runs
