"""The models that --model accepts, and which of them are on this disk."""

from __future__ import annotations

import difflib
import os
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from functools import cache
from pathlib import Path
from typing import Any

import open_clip
import torch
from open_clip import CustomTextCLIP
from open_clip.coca_model import CoCa
from open_clip.model import CLIP

from bike_cli.engine.download import hub
from bike_cli.engine.models.aliases import ALIASES as ALIASES
from bike_cli.engine.models.aliases import BUNDLED as BUNDLED
from bike_cli.engine.models.aliases import MILLION, alias_weights
from bike_cli.engine.towers.text_tower import ImageTextModel
from bike_cli.engine.towers.tokenizers import TOKENIZER_FILE
from bike_cli.errors import ModelError, shorten
from bike_cli.wording import either

TAGS_SHOWN = 5  # in a message
SHOWN = 60  # characters of a value in a message
LONGEST_NAME = 200  # characters that are compared with known names
SIMILAR = 0.6  # share of a name that a suggestion must have in common with it


@dataclass(frozen=True)
class KnownModel:
    """One line of `bike models`.

    Args:
        name: what --model takes.
        parameters: None where it is not known without building the model.
        bytes_on_disk: None where it would have to be downloaded.
        download_bytes: size of the download; 0 for the bundled model, None where it is not known.
    """

    name: str
    arch: str | None
    tag: str | None
    note: str
    licence: str | None
    parameters: int | None
    bytes_on_disk: int | None
    download_bytes: int | None = None


def known_models(*, counts_parameters: bool = False) -> list[KnownModel]:
    """Return the bundled model, the aliases, then every open_clip tag that bike can run; the network is not used.

    Args:
        counts_parameters: also of the tags, whose models are built for that, without weights; this takes seconds.
    """
    folder = bundled_folder()
    size = (folder / "model.safetensors").stat().st_size if folder else None
    bundled = KnownModel(
        BUNDLED, None, None, "bundled: runs offline, knows drawn shapes only", "MIT", 4 * MILLION, size, 0
    )
    aliases = [
        KnownModel(name, a.arch, a.tag, a.note, a.licence, a.parameters, _bytes_cached(a.arch, a.tag), a.size)
        for name, a in ALIASES.items()
    ]
    tags = [
        KnownModel(
            f"{arch},{tag}",
            arch,
            tag,
            "",
            None,
            parameters_of(arch) if counts_parameters else None,
            _bytes_cached(arch, tag),
        )
        for arch, tag in runnable_tags()
    ]
    return [bundled, *aliases, *tags]


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
    twin = arch.removesuffix("-quickgelu") if arch.endswith("-quickgelu") else f"{arch}-quickgelu"
    # open_clip only warns, but the features would be silently worse.
    if pretrained:
        belongs_to_twin = bool(pretrained.get("quick_gelu")) != bool(config.get("quick_gelu"))
    else:
        belongs_to_twin = bool(open_clip.get_pretrained_cfg(twin, tag))
    if belongs_to_twin:
        raise ModelError(f"model '{arch},{tag}': trained with another activation (QuickGELU); use {twin},{tag}")
    if not pretrained:
        shown = tags if len(tags) <= TAGS_SHOWN else [*tags[:TAGS_SHOWN], "another one of bike models --all"]
        way_out = suggestion(tag, tags, f"choose {either(shown)}")
        raise ModelError(f"model {shorten(repr(f'{arch},{tag}'))}: open_clip has no such weights; {way_out}")
    return pretrained


def is_plain(config: Mapping[str, object]) -> bool:
    """Return whether an open_clip configuration is a plain CLIP with OpenAI's tokenizer and causal text tower."""
    text = config["text_cfg"]
    assert isinstance(text, dict)
    nonstandard = ("hf_model_name", "hf_tokenizer_name", "no_causal_mask", "embed_cls", "tokenizer_kwargs")
    custom = bool(config.get("custom_text")) or "multimodal_cfg" in config or any(text.get(key) for key in nonstandard)
    return not custom and text.get("pool_type", "argmax") == "argmax"


def check_runnable(config: Mapping[str, object], origin: str) -> None:
    """Raise ModelError if bike cannot run an open_clip configuration; the message begins with `origin`."""
    fault = _fault(config)
    if fault is not None:
        raise ModelError(f"{origin}: {fault}; bike models --all lists the models that run")


def _fault(config: Mapping[str, object]) -> str | None:
    """Return why bike cannot run a configuration; None if it can."""
    vision, text = config.get("vision_cfg"), config.get("text_cfg")
    if not isinstance(vision, Mapping) or not isinstance(text, Mapping):
        return "vision_cfg or text_cfg is not an object"
    if text.get("hf_model_name"):
        tower = shorten(text["hf_model_name"], SHOWN)
        return f"its text tower is a model of its own ({tower}), which this release does not support"
    if not config.get("custom_text") and (text.get("embed_cls") or "multimodal_cfg" in config):
        return "custom_text is not set, which its text tower needs"
    return None


def weights_of(arch: str, tag: str, *, model: str = "") -> hub.ModelFile | None:
    """Return where the weights of a tag are on the hub; None where open_clip has them elsewhere.

    Args:
        model: the name that the user gave; empty: ARCH,TAG.
    """
    if model in ALIASES:
        return alias_weights(model)
    repository, name = os.path.split(str(open_clip.get_pretrained_cfg(arch, tag).get("hf_hub", "")))
    if not repository:
        return None
    names = (str(Path(name).with_suffix(".safetensors")), name) if name else hub.WEIGHTS_FILES
    return hub.ModelFile(model or f"{arch},{tag}", arch, repository, tuple(dict.fromkeys(names)))


def tokenizer_of(arch: str, *, model: str) -> hub.ModelFile | None:
    """Return where the tokenizer of an architecture is on the hub; None for OpenAI's, which is part of open_clip."""
    text = architecture(arch)["text_cfg"]
    assert isinstance(text, Mapping)
    repository = text.get("hf_tokenizer_name")
    if not repository:
        return None
    return hub.ModelFile(model, arch, str(repository), (TOKENIZER_FILE,), kind="tokenizer")


def with_estimated_size(weights: hub.ModelFile) -> hub.ModelFile:
    """Return the weights with a size; an unknown one is estimated at four bytes per parameter."""
    if weights.size is not None:
        return weights
    return replace(weights, size=4 * parameters_of(weights.arch), is_exact=False)


@cache
def parameters_of(arch: str) -> int:
    """Return the number of parameters of an architecture."""
    with torch.device("meta"):
        return sum(p.numel() for p in construct(architecture(arch)).parameters())


def construct(config: Mapping[str, object]) -> ImageTextModel:
    """Return a model of an open_clip configuration, with random weights."""
    parts: dict[str, Any] = {name: dict(part) if isinstance(part, Mapping) else part for name, part in config.items()}
    parts["vision_cfg"]["timm_model_pretrained"] = False  # downloaded weights would be overwritten
    # The classes are chosen as in `open_clip.create_model`.
    has_own_tower = parts.pop("custom_text", False)
    kind = (CoCa if "multimodal_cfg" in parts else CustomTextCLIP) if has_own_tower else CLIP
    return kind(**parts)


def suggestion(name: str, known: Sequence[str], otherwise: str = "bike models --all lists all names") -> str:
    """Return what to do about a misspelled name, to end a message with: the nearest known names, or else a hint."""
    near = difflib.get_close_matches(name[:LONGEST_NAME], known, n=3, cutoff=SIMILAR)
    return f"did you mean {either(near)}?" if near else otherwise


def runnable_tags() -> list[tuple[str, str]]:
    """Return (architecture, tag) of all weights of open_clip that bike can run."""
    runs = []
    for arch, tag in open_clip.list_pretrained():
        config, pretrained = open_clip.get_model_config(arch), open_clip.get_pretrained_cfg(arch, tag)
        if config and _fault(config) is None and bool(config.get("quick_gelu")) == bool(pretrained.get("quick_gelu")):
            runs.append((arch, tag))
    return runs


def _bytes_cached(arch: str, tag: str) -> int | None:
    weights = weights_of(arch, tag)
    file = None if weights is None else hub.cached_file(weights)
    return file.stat().st_size if file else None
