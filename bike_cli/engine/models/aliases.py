"""Short names of models, and facts about their weights that need neither torch nor open_clip."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from bike_cli.engine.download import hub

MILLION = 10**6
BUNDLED = "tiny"


@dataclass(frozen=True)
class Alias:
    """A short name for an open_clip tag.

    Args:
        repository: where the weights are on the hub.
        size: of its `hub.WEIGHTS_FILES[0]`, in bytes.
    """

    arch: str
    tag: str
    note: str
    licence: str
    parameters: int
    repository: str
    size: int


ALIASES: Mapping[str, Alias] = {
    "small": Alias(
        arch="ViT-B-32-quickgelu",
        tag="openai",
        note="4 times faster than base",
        licence="MIT",
        parameters=151 * MILLION,
        repository="timm/vit_base_patch32_clip_224.openai",
        size=605_143_284,
    ),
    "base": Alias(
        arch="ViT-B-16-quickgelu",
        tag="openai",
        note="the default; the backbone most papers report",
        licence="MIT",
        parameters=150 * MILLION,
        repository="timm/vit_base_patch16_clip_224.openai",
        size=598_516_980,
    ),
    "large": Alias(
        arch="ViT-L-14-quickgelu",
        tag="openai",
        note="the backbone of BIKE's best",
        licence="MIT",
        parameters=428 * MILLION,
        repository="timm/vit_large_patch14_clip_224.openai",
        size=1_710_517_724,
    ),
    "large-336": Alias(
        arch="ViT-L-14-336-quickgelu",
        tag="openai",
        note="large at 336 pixels",
        licence="MIT",
        parameters=428 * MILLION,
        repository="timm/vit_large_patch14_clip_336.openai",
        size=1_711_828_444,
    ),
}


def alias_weights(name: str) -> hub.Weights:
    """Return where the weights of an alias are."""
    from bike_cli.engine.download import hub

    alias = ALIASES[name]
    return hub.Weights(name, alias.arch, alias.repository, size=alias.size)


def download_missing(models: Iterable[str | None], *, offline: bool) -> None:
    """Download the weights of models that are aliases and are not on this disk yet.

    Commands call this before they import torch, which takes seconds: without a network the error comes at once.
    Other names are left to `open_checkpoint`.

    Raises:
        ModelError: the weights cannot be downloaded.
    """
    for model in models:
        if model is None or model not in ALIASES:
            continue
        from bike_cli.engine.download import hub

        weights = alias_weights(model)
        if hub.cached_file(weights) is None:
            hub.download(weights, offline=offline)
