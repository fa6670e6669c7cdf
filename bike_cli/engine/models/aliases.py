"""Short names of models, and facts about their weights that need neither torch nor open_clip."""

from __future__ import annotations

import os
import re
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
    repository: str
    size: int
    parameters: int
    note: str
    tag: str = "openai"
    licence: str = "MIT"


# fmt: off
ALIASES: Mapping[str, Alias] = {
    "small": Alias("ViT-B-32-quickgelu", "timm/vit_base_patch32_clip_224.openai", 605_143_284,
                   151 * MILLION, "4 times faster than base"),
    "base": Alias("ViT-B-16-quickgelu", "timm/vit_base_patch16_clip_224.openai", 598_516_980,
                  150 * MILLION, "used if no --model is given"),
    "large": Alias("ViT-L-14-quickgelu", "timm/vit_large_patch14_clip_224.openai", 1_710_517_724,
                   428 * MILLION, "slower, usually more accurate"),
    "large-336": Alias("ViT-L-14-336-quickgelu", "timm/vit_large_patch14_clip_336.openai", 1_711_828_444,
                       428 * MILLION, "large, with frames of 336 pixels"),
}
# fmt: on


def alias_weights(name: str) -> hub.ModelFile:
    """Return where the weights of an alias are."""
    from bike_cli.engine.download import hub

    alias = ALIASES[name]
    return hub.ModelFile(name, alias.arch, alias.repository, size=alias.size)


def weights_named(model: str) -> str | None:
    """Return a name of the weights that is the same for all names of them; None for a file or folder.

    Weights with different names here are different.
    """
    if model == BUNDLED:
        return model
    if model in ALIASES:
        return f"{ALIASES[model].arch},{ALIASES[model].tag}"
    arch, comma, tag = model.partition(",")
    is_file = os.path.lexists(model) or not re.fullmatch(r"[\w-]+", tag)
    return f"{arch.replace('/', '-')},{tag}" if comma and not is_file else None


def download_missing(models: Iterable[str | None], *, offline: bool) -> None:
    """Download the weights of models that are aliases and are not on this disk yet.

    Commands call this before they import torch, which takes seconds: without a network the error comes at once.
    Other names are left to `open_checkpoint`.

    Raises:
        ModelError: the weights cannot be downloaded.
    """
    for weights in [alias_weights(model) for model in models if model and model in ALIASES]:
        from bike_cli.engine.download import hub

        if hub.cached_file(weights) is None:
            hub.download(weights, offline=offline)
