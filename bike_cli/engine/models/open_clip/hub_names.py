"""Names of repositories on the hub. Nothing here imports torch.

`hf-hub:OWNER/NAME` and `hf-hub:OWNER/NAME@REVISION` are repositories of open_clip weights. Users often give the
name of a repository for the transformers library instead, which bike cannot read. For many of these, this module knows
the twin: the name of the same weights for open_clip.
"""

from __future__ import annotations

import re
from collections.abc import Callable

from bike_cli.engine.download import hub
from bike_cli.errors import ModelError, shorten

HUB, FOLDER = "hf-hub:", "local-dir:"
_ON_HUB = re.compile(r"(?P<repository>[\w.-]+/[\w.-]+?)(@(?P<revision>\w[\w.-]*(/[\w.-]+)*))?")

_SIZES = {"base": "B", "large": "L", "so400m": "SO400M", "giant-opt": "gopt"}
# Names of the official repositories of transformers weights, and the short name or ARCH,TAG of the same weights.
# fmt: off
_TWINS: tuple[tuple[str, Callable[[re.Match[str]], str]], ...] = (
    (r"openai/clip-vit-base-patch32", lambda _: "small"),
    (r"openai/clip-vit-base-patch16", lambda _: "base"),
    (r"openai/clip-vit-large-patch14", lambda _: "large"),
    (r"openai/clip-vit-large-patch14-336", lambda _: "large-336"),
    (r"google/siglip2-base-patch16-256", lambda _: "siglip2"),
    (r"google/siglip2-large-patch16-256", lambda _: "siglip2-large"),
    (r"google/siglip2-so400m-patch16-384", lambda _: "siglip2-so400m"),
    (r"google/siglip2-so400m-patch14-384", lambda _: "ViT-SO400M-14-SigLIP2-378,webli"),
    (r"google/siglip2-(base|large|so400m|giant-opt)-patch(\d+)-(\d+)",
     lambda m: f"ViT-{_SIZES[m[1]]}-{m[2]}-SigLIP2{_side(m[3])},webli"),
    (r"google/siglip-base-patch16-256-multilingual", lambda _: "ViT-B-16-SigLIP-i18n-256,webli"),
    (r"google/siglip-so400m-patch16-256-i18n", lambda _: "ViT-SO400M-16-SigLIP-i18n-256,webli"),
    (r"google/siglip-(base|large|so400m)-patch(\d+)-(\d+)",
     lambda m: f"ViT-{_SIZES[m[1]]}-{m[2]}-SigLIP{_side(m[3])},webli"),
    (r"facebook/PE-Core-T16-384", lambda _: "pe-tiny"),
    (r"facebook/PE-Core-S16-384", lambda _: "pe-small"),
    (r"facebook/PE-Core-B16-224", lambda _: "pe-base"),
    (r"facebook/PE-Core-L14-336", lambda _: "pe-large"),
    (r"facebook/PE-Core-G14-448", lambda _: "pe-giant"),
    (r"facebook/metaclip-([blh])(\d+)-(400m|fullcc)(2\.5b)?",
     lambda m: f"ViT-{m[1].upper()}-{m[2]}-quickgelu,metaclip_{m[3]}"),
    (r"apple/MobileCLIP2-S2", lambda _: "mobile"),
    (r"apple/MobileCLIP2-(\w+(-14)?)", lambda m: f"MobileCLIP2-{m[1]},dfndr2b"),
    (r"apple/MobileCLIP-(S1|S2|B)", lambda m: f"MobileCLIP-{m[1]},datacompdr"),
)
# fmt: on


def _side(pixels: str) -> str:
    return "" if pixels == "224" else f"-{pixels}"


def hub_files(model: str) -> list[hub.ModelFile]:
    """Return the files of a repository on the hub: see `hub.repository_files`.

    Args:
        model: hf-hub:OWNER/NAME or hf-hub:OWNER/NAME@REVISION.
    Raises:
        ModelError: a malformed name, or that of a repository whose weights are not for open_clip.
    """
    match = _ON_HUB.fullmatch(model.removeprefix(HUB))
    if match is None or ".." in model or not hub.is_repository(match["repository"]):
        raise ModelError(f"model {shorten(repr(model))}: is not {HUB}OWNER/NAME or {HUB}OWNER/NAME@REVISION; check it")
    twin = twin_of(match["repository"])
    if twin is not None:
        raise ModelError(
            f"model {model!r}: its weights are not in open_clip's format; use the same weights as -m {twin}"
        )
    return hub.repository_files(model, match["repository"], match["revision"])


def hub_name(repository: str, revision: str) -> str:
    """Return the name that --model takes for a revision of a repository."""
    return f"{HUB}{repository}" + ("" if revision == hub.ModelFile.revision else f"@{revision}")


def twin_of(repository: str) -> str | None:
    """Return the short name or ARCH,TAG of the weights in a repository for another library; None if unknown."""
    for pattern, name in _TWINS:
        if match := re.fullmatch(pattern, repository):
            return name(match)
    return None
