"""Download the files of a model in advance, or for another machine."""

from __future__ import annotations

import json
import logging
import shutil
from dataclasses import dataclass
from pathlib import Path

from bike_cli.engine.download import hub
from bike_cli.engine.download.checksums import sha256_of
from bike_cli.engine.download.file_names import CONFIG_FILE
from bike_cli.engine.download.partial_file import check_space, report_write_errors
from bike_cli.engine.download.progress import Transfer
from bike_cli.engine.download.remote_file import offline_reason
from bike_cli.engine.models.aliases import ALIASES, BUNDLED, alias_files
from bike_cli.engine.models.open_clip.hub_names import HUB, hub_files, twin_of
from bike_cli.errors import ModelError, UsageError, shorten

logger = logging.getLogger(__name__)


@dataclass(frozen=True)
class Pulled:
    """A model on this disk.

    Args:
        path: of the weights.
        was_there: nothing had to be downloaded or copied.
        unverified: files whose content could not be compared with the hub's checksum, now or when downloaded.
    """

    path: Path
    was_there: bool
    unverified: tuple[Path, ...] = ()


def pull(model: str, *, offline: bool, folder: Path | None = None) -> Pulled:
    """Download the weights of a model, and its tokenizer and configuration, except files with an intact copy.

    Args:
        model: a short name, an ARCH,TAG or a repository on the hub.
        folder: where to write a copy that works on any machine; None: the cache.

    Raises:
        ModelError: the model does not exist, or its files cannot be downloaded or written.
        UsageError: `folder` is a file, or `model` is the bundled one, which needs no copy.
    """
    if model == BUNDLED:
        from bike_cli.engine.models.catalogue import bundled_folder

        source = bundled_folder()
        if folder is not None or source is None:
            raise UsageError("model 'tiny': is part of every installation of bike; use -m tiny")
        return Pulled(source / "model.safetensors", was_there=True)
    if folder is not None and folder.exists() and not folder.is_dir():
        raise UsageError(f"--to {folder}: is a file; give a folder")
    if model.startswith(HUB):
        return _pull_repository(hub_files(model), folder, offline=offline)
    files = files_of(model)
    if model not in ALIASES:
        from bike_cli.engine.models import catalogue

        catalogue.check_runnable(catalogue.architecture(files[0].arch), f"model {model!r}")
    hub.check_available(files, offline=offline)
    pulled = _all_of([_pull_file(file, folder, offline=offline) for file in files])
    if folder is not None:
        _write_config(folder, files[0])
    return pulled


def files_of(model: str) -> list[hub.ModelFile]:
    """Return the files of a short name or an ARCH,TAG: its weights, and its tokenizer and description if it has them.

    Raises:
        ModelError: no such model, or one that is not on the hub.
    """
    if model in ALIASES:
        return alias_files(model)
    from bike_cli.engine.models import catalogue  # imports torch

    arch, comma, tag = model.partition(",")
    arch = arch.replace("/", "-")  # OpenAI spells it ViT-B/32
    if not comma:
        known = [BUNDLED, *ALIASES, *(f"{arch},{tag}" for arch, tag in catalogue.runnable_tags())]
        way_out = catalogue.suggestion(model, known)
        if hub.is_repository(model):
            way_out = f"did you mean {twin_of(model) or f'{HUB}{shorten(model)}'}?"
        raise ModelError(f"model {shorten(repr(model))}: is not a short name, ARCH,TAG or {HUB}OWNER/NAME; {way_out}")
    catalogue.tag_preprocessing(arch, tag)
    files = catalogue.files_of(arch, tag, model=model)
    if not files:
        raise ModelError(f"model {model!r}: is not on the hub; download it and use -m {arch},FILE")
    return [catalogue.with_estimated_size(files[0]), *files[1:]]


def _pull_repository(files: list[hub.ModelFile], folder: Path | None, *, offline: bool) -> Pulled:
    config, weights, tokenizer, settings = files
    hub.check_available([config, weights], offline=offline)
    pulled = [_pull_file(config, folder, offline=offline)]
    # These import torch.
    from bike_cli.engine.models.open_clip.repositories import check_described, description_in, needs_tokenizer

    check_described(pulled[0].path)  # before gigabytes are downloaded
    if needs_tokenizer(pulled[0].path):
        hub.check_available([tokenizer], offline=offline)
        # A cached tokenizer without settings: an earlier download found that the repository has none.
        if hub.cached_file(settings) is not None or hub.cached_file(tokenizer) is None:
            with hub.allowing_absence():
                pulled.append(_pull_file(settings, folder, offline=offline))
        pulled.append(_pull_file(tokenizer, folder, offline=offline))
    description = description_in(pulled[0].path, model=weights.model)
    if description is not None:
        hub.check_available([description], offline=offline)
        pulled.append(_pull_file(description, folder, offline=offline))
    return _all_of([_pull_file(weights, folder, offline=offline), *pulled])


def _all_of(pulled: list[Pulled]) -> Pulled:
    unverified = tuple(path for file in pulled for path in file.unverified)
    return Pulled(pulled[0].path, all(file.was_there for file in pulled), unverified)


def _pull_file(file: hub.ModelFile, folder: Path | None, *, offline: bool) -> Pulled:
    cached = hub.cached_file(file)
    is_intact = None if cached is None else hub.is_intact(cached, file, offline=offline)
    if is_intact is False and offline_reason(offline=offline) is None:
        logger.warning("%s: is damaged; downloading it again", cached)
        cached = None
    elif is_intact is False:
        raise ModelError(f"{cached}: is damaged; delete it, and run bike models pull {file.model} with a network")
    if cached is None:
        before = [] if folder is None else [_stamp(folder / hub.name_in_folder(name)) for name in file.names]
        path = hub.download(file, offline=offline, folder=folder)
        return Pulled(path, was_there=_stamp(path) in before)
    unverified = () if is_intact else (cached,)
    if folder is None:
        return Pulled(cached, was_there=True, unverified=unverified)
    target = folder / hub.name_in_folder(cached.name)
    was_there = _copy(cached, target, file.model)
    return Pulled(target, was_there, unverified and (target,))


def _stamp(file: Path) -> tuple[int, int] | None:
    return (file.stat().st_ino, file.stat().st_mtime_ns) if file.is_file() else None


def _copy(source: Path, target: Path, model: str) -> bool:
    """Copy a file, and return whether the same content was there."""
    digest = sha256_of(source)
    if target.is_file() and sha256_of(target) == digest:
        return True
    size = source.stat().st_size
    transfer = Transfer(model, target.name, str(source), size)
    with hub.locked_in(target.parent, transfer) as partial, report_write_errors(target.parent):
        check_space(target.parent, size, subject=f"model {model!r}")
        shutil.copyfile(source, partial)
        if sha256_of(partial) != digest:
            partial.unlink()
            raise ModelError(f"{source}: changed while it was copied; run the command again")
        partial.replace(target)
    return False


def _write_config(folder: Path, weights: hub.ModelFile) -> None:
    """Write the description of the model that repositories on the hub have, from open_clip's table of tags."""
    from bike_cli.engine.models import catalogue

    alias = ALIASES.get(weights.model)
    tag = weights.model.partition(",")[2] if alias is None else alias.tag
    pretrained = catalogue.tag_preprocessing(weights.arch, tag)
    keys = ("mean", "std", "interpolation", "resize_mode")
    config = {
        "model_cfg": catalogue.architecture(weights.arch),
        "preprocess_cfg": {key: pretrained[key] for key in keys if key in pretrained},
    }
    with report_write_errors(folder):
        (folder / CONFIG_FILE).write_text(json.dumps(config, indent=2) + "\n", encoding="utf-8")
