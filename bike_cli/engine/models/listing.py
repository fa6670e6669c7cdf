"""The models that `bike models` lists, and which of them are on this disk."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, replace

import open_clip

from bike_cli.engine.download import hub
from bike_cli.engine.download.hub import ModelFile
from bike_cli.engine.models.aliases import ALIASES, BUNDLED, MILLION, Alias, alias_files
from bike_cli.engine.models.catalogue import (
    architecture,
    bundled_folder,
    files_of,
    runnable_tags,
    sizes_of,
)
from bike_cli.engine.models.open_clip.families import FAMILIES, family_of
from bike_cli.engine.models.open_clip.hub_names import hub_name
from bike_cli.errors import UsageError, shorten
from bike_cli.wording import either

BYTES_PER_PARAMETER = 4  # fp32, as most weights are


@dataclass(frozen=True)
class KnownModel:
    """One line of `bike models`.

    Args:
        name: what --model takes.
        family: None for the bundled model and for repositories on the hub.
        repository: where the weights are on the hub.
        licence: of the weights; None if it is unknown.
        image_parameters: of the image tower; None for repositories on the hub.
        text_parameters: of the text tower.
        input_px: side of the frames, in pixels.
        context: tokens that the text tower reads.
        crops: whether it supports `--crops 3`.
        bytes_on_disk: None if a file of the model would have to be downloaded.
        download_bytes: size of the weights; 0 for the bundled model.
        is_estimated: whether `download_bytes` is computed from the parameters.
    """

    name: str
    family: str | None = None
    arch: str | None = None
    tag: str | None = None
    repository: str | None = None
    licence: str | None = None
    parameters: int | None = None
    image_parameters: int | None = None
    text_parameters: int | None = None
    input_px: int | None = None
    context: int | None = None
    crops: bool | None = None
    bytes_on_disk: int | None = None
    download_bytes: int | None = None
    is_estimated: bool = False
    note: str = ""


def known_models() -> list[KnownModel]:
    """Return the bundled model, the aliases, every open_clip tag that bike can run, and repositories on this disk.

    The network is not used.
    """
    tags = [_tagged(arch, tag) for arch, tag in runnable_tags()]
    return [_bundled(), *(_alias(name, alias) for name, alias in ALIASES.items()), *tags, *_repositories(tags)]


def selected(
    models: Iterable[KnownModel],
    *,
    family: str | None = None,
    licence: str | None = None,
    max_bytes: int | None = None,
    installed: bool = False,
) -> list[KnownModel]:
    """Return the models that meet all conditions.

    Args:
        family: name of a family, in any case.
        licence: a licence, in any case, or how it begins: `apache`, `cc-by-nc`.
        max_bytes: the largest download; models of unknown size are left out.
        installed: only models on this disk.
    Raises:
        UsageError: an unknown family or licence; lists the known ones.
    """
    models = list(models)
    if family is not None:
        models = _with(models, "--family", family, lambda model: model.family, {f.name for f in FAMILIES}, str.__eq__)
    if licence is not None:
        licences = {f.licence for f in FAMILIES}
        models = _with(models, "--licence", licence, lambda model: model.licence, licences, str.startswith)
    if max_bytes is not None:
        models = [model for model in models if model.download_bytes is not None and model.download_bytes <= max_bytes]
    return [model for model in models if model.bytes_on_disk is not None] if installed else models


def _with(
    models: list[KnownModel],
    flag: str,
    wanted: str,
    value: Callable[[KnownModel], str | None],
    known: set[str],
    fits: Callable[[str, str], bool],
) -> list[KnownModel]:
    if not _letters(wanted) or not any(fits(_letters(name), _letters(wanted)) for name in known):
        choices = sorted(known, key=_letters)
        raise UsageError(f"{flag} {shorten(repr(wanted), 60)}: is unknown; choose {either(choices)}")
    return [model for model in models if fits(_letters(value(model) or ""), _letters(wanted))]


def _letters(text: str) -> str:
    return re.sub(r"[^a-z0-9]", "", text.lower())


def _bundled() -> KnownModel:
    folder = bundled_folder()
    size = (folder / "model.safetensors").stat().st_size if folder else None
    note = "drawn shapes only"
    return KnownModel(BUNDLED, licence="MIT", parameters=4 * MILLION, bytes_on_disk=size, download_bytes=0, note=note)


def _alias(name: str, alias: Alias) -> KnownModel:
    return replace(
        _of_open_clip(name, alias.arch, alias.tag),
        repository=alias.repository,
        context=alias.context,
        crops=alias.crops,
        bytes_on_disk=_bytes_cached(alias_files(name)),
        download_bytes=alias.size,
        is_estimated=not alias.is_exact,
        note=alias.note,
    )


def _tagged(arch: str, tag: str) -> KnownModel:
    model = _of_open_clip(f"{arch},{tag}", arch, tag)
    files = files_of(arch, tag, model=model.name)
    alias = next((alias for alias in ALIASES.values() if (alias.arch, alias.tag) == (arch, tag)), None)
    estimated = None if model.parameters is None else BYTES_PER_PARAMETER * model.parameters
    text = architecture(arch)["text_cfg"]
    assert isinstance(text, Mapping)
    return replace(
        model,
        repository=files[0].repository if files else None,
        context=text.get("context_length", 77),
        crops=open_clip.get_pretrained_cfg(arch, tag).get("resize_mode", "shortest") == "shortest",
        bytes_on_disk=_bytes_cached(files) if files else None,
        download_bytes=estimated if alias is None else alias.size,
        is_estimated=alias is None or not alias.is_exact,
    )


def _of_open_clip(name: str, arch: str, tag: str) -> KnownModel:
    """Return what follows from an architecture and a tag, whichever name the model has."""
    family, sizes = family_of(arch, tag), sizes_of(arch)
    return KnownModel(
        name,
        family=None if family is None else family.name,
        arch=arch,
        tag=tag,
        licence=None if family is None else family.licence,
        parameters=None if sizes is None else sizes.parameters,
        image_parameters=None if sizes is None else sizes.image_parameters,
        text_parameters=None if sizes is None else sizes.text_parameters,
        input_px=None if sizes is None else sizes.input_px,
    )


def _repositories(tags: Iterable[KnownModel]) -> list[KnownModel]:
    """Return the repositories of open_clip weights in the cache that no tag names."""
    of_tags, models = {model.repository for model in tags}, []
    for repository, revision in hub.cached_revisions():
        name = hub_name(repository, revision)
        configuration, weights, *_ = hub.repository_files(name, repository, revision)
        size = _bytes_cached([configuration, weights])
        is_tag = repository in of_tags and revision == ModelFile.revision
        if not is_tag and size is not None:
            models.append(KnownModel(name, repository=repository, bytes_on_disk=size, note="from the hub"))
    return models


def _bytes_cached(files: list[ModelFile]) -> int | None:
    """Return the size of files on this disk; None if one is missing."""
    cached = [hub.cached_file(file) for file in files]
    return None if None in cached else sum(path.stat().st_size for path in cached if path is not None)
