"""Short names of models, and facts about their weights that need neither torch nor open_clip."""

from __future__ import annotations

import os
import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, replace
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
        is_exact: whether `size` is that of the file; otherwise it is computed from the tensors in fp32.
        context: tokens that the text tower reads.
        crops: whether `--crops 3` exists: not for models that squash a frame into a square instead of cropping it.
        tokenizer: the repository of its tokenizer.json; None for OpenAI's, which is part of open_clip.
    """

    arch: str
    repository: str
    size: int
    note: str
    tag: str = "openai"
    context: int = 77
    crops: bool = True
    tokenizer: str | None = None
    is_exact: bool = True


def _pe_core(arch: str, size: int, note: str, context: int = 32) -> Alias:
    return Alias(arch, f"timm/{arch}", size, note, "meta", context, crops=False, is_exact=False)


def _siglip2(arch: str, size: int, note: str) -> Alias:
    repository = f"timm/{arch}"
    return Alias(arch, repository, size, note, "webli", 64, crops=False, tokenizer=repository, is_exact=False)


_SIGLIP2 = _siglip2("ViT-B-16-SigLIP2-256", 1_500_971_152, "many languages")

# fmt: off
ALIASES: Mapping[str, Alias] = {
    "small": Alias("ViT-B-32-quickgelu", "timm/vit_base_patch32_clip_224.openai", 605_143_284,
                   "faster than base"),
    "base": Alias("ViT-B-16-quickgelu", "timm/vit_base_patch16_clip_224.openai", 598_516_980,
                  "the default"),
    "large": Alias("ViT-L-14-quickgelu", "timm/vit_large_patch14_clip_224.openai", 1_710_517_724,
                   "slower than base"),
    "large-336": Alias("ViT-L-14-336-quickgelu", "timm/vit_large_patch14_clip_336.openai", 1_711_828_444,
                       "large, 336 px"),
    "pe-tiny": _pe_core("PE-Core-T-16-384", 278_219_132, "images and videos"),
    "pe-small": _pe_core("PE-Core-S-16-384", 348_787_644, "images and videos"),
    "pe-base": _pe_core("PE-Core-B-16", 1_790_694_460, "images and videos"),
    "pe-large": _pe_core("PE-Core-L-14-336", 2_684_623_612, "images and videos"),
    "pe-giant": _pe_core("PE-Core-bigG-14-448", 9_677_174_236, "images and videos", context=72),
    "siglip2": _SIGLIP2,
    "siglip2-large": _siglip2("ViT-L-16-SigLIP2-256", 3_526_175_648, "many languages"),
    "siglip2-so400m": _siglip2("ViT-SO400M-16-SigLIP2-384", 4_544_235_176, "many languages"),
    "multilingual": replace(_SIGLIP2, note="same as siglip2"),
    "mobile": Alias("MobileCLIP2-S2", "timm/MobileCLIP2-S2-OpenCLIP", 397_699_324,
                    "research only", "dfndr2b", is_exact=False),
}
# fmt: on


def alias_files(name: str) -> list[hub.ModelFile]:
    """Return where the weights of an alias are, and its tokenizer, if that is a file."""
    from bike_cli.engine.download import hub

    alias = ALIASES[name]
    weights = hub.ModelFile(name, alias.arch, alias.repository, size=alias.size, is_exact=alias.is_exact)
    return [weights, *([] if alias.tokenizer is None else [hub.tokenizer_file(name, alias.arch, alias.tokenizer)])]


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


def is_on_disk(model: str) -> bool | None:
    """Return whether a short name's files are on this disk, without torch; None for other names."""
    if model == BUNDLED:
        return True
    if model not in ALIASES:
        return True if os.path.lexists(model) else None
    from bike_cli.engine.download import hub

    return all(hub.cached_file(file) is not None for file in alias_files(model))


def download_missing(models: Iterable[str | None], *, offline: bool) -> None:
    """Download the weights and tokenizers of models that are aliases and are not on this disk yet.

    Commands call this before they import torch, which takes seconds: without a network the error comes at once.
    Other names are left to `open_checkpoint`.

    Raises:
        ModelError: a file cannot be downloaded.
    """
    for model in models:
        if model and model in ALIASES:
            from bike_cli.engine.download import hub

            hub.fetch_all(alias_files(model), offline=offline)
