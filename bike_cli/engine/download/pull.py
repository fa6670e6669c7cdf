"""Download the weights of a model in advance, or for another machine."""

from __future__ import annotations

import json
import logging
import shutil
from dataclasses import dataclass
from pathlib import Path

from bike_cli.engine.download import hub
from bike_cli.engine.download.partial_file import check_space, report_write_errors, sha256_of
from bike_cli.engine.download.progress import Transfer
from bike_cli.engine.download.remote_file import offline_reason
from bike_cli.engine.models.aliases import ALIASES, BUNDLED, alias_weights
from bike_cli.errors import ModelError, UsageError, shorten

logger = logging.getLogger(__name__)

CONFIG_FILE = "open_clip_config.json"  # describes the weights next to it; repositories on the hub contain it as well


@dataclass(frozen=True)
class Pulled:
    """Weights on this disk.

    Args:
        was_there: nothing had to be downloaded or copied.
        is_verified: the content was compared with the hub's checksum, now or when it was downloaded.
    """

    path: Path
    was_there: bool
    is_verified: bool


def pull(model: str, *, offline: bool, folder: Path | None = None) -> Pulled:
    """Download the weights of a short name or an ARCH,TAG, unless an intact copy exists.

    Args:
        folder: where to write a copy that works on any machine; None: the cache.

    Raises:
        ModelError: the model does not exist, or its weights cannot be downloaded or written.
        UsageError: `folder` is a file, or `model` is the bundled one, which needs no copy.
    """
    if model == BUNDLED:
        from bike_cli.engine.models.catalogue import bundled_folder

        source = bundled_folder()
        if folder is not None or source is None:
            raise UsageError("model 'tiny': is part of every installation of bike; use -m tiny")
        return Pulled(source / "model.safetensors", was_there=True, is_verified=True)
    if folder is not None and folder.exists() and not folder.is_dir():
        raise UsageError(f"--to {folder}: is a file; give a folder")
    weights = _weights(model)
    cached = hub.cached_file(weights)
    is_intact = None if cached is None else hub.is_intact(cached, weights, offline=offline)
    if is_intact is False and offline_reason(offline=offline) is None:
        logger.warning("%s: is damaged; downloading it again", cached)
        cached = None
    elif is_intact is False:
        raise ModelError(f"{cached}: is damaged; delete it, and run bike models pull {model} with a network")
    if folder is not None:
        is_verified = cached is None or is_intact is True
        return _into_folder(folder, weights, cached, offline=offline, is_verified=is_verified)
    if cached is not None:
        return Pulled(cached, was_there=True, is_verified=is_intact is True)
    return Pulled(hub.download(weights, offline=offline), was_there=False, is_verified=True)


def _weights(model: str) -> hub.ModelFile:
    if model in ALIASES:
        return alias_weights(model)
    from bike_cli.engine.models import catalogue  # imports torch

    arch, comma, tag = model.partition(",")
    arch = arch.replace("/", "-")  # OpenAI spells it ViT-B/32
    if not comma:
        known = [BUNDLED, *ALIASES, *(f"{arch},{tag}" for arch, tag in catalogue.runnable_tags())]
        way_out = catalogue.suggestion(model, known)
        raise ModelError(f"model {shorten(repr(model))}: is not a short name or ARCH,TAG; {way_out}")
    catalogue.check_runnable(catalogue.architecture(arch), f"model '{arch},{tag}'")
    catalogue.tag_preprocessing(arch, tag)
    weights = catalogue.weights_of(arch, tag, model=model)
    if weights is None:
        raise ModelError(f"model {model!r}: is not on the hub; download it and use -m {arch},FILE")
    return catalogue.with_estimated_size(weights)


def _into_folder(
    folder: Path, weights: hub.ModelFile, cached: Path | None, *, offline: bool, is_verified: bool
) -> Pulled:
    before = [_stamp(folder / name) for name in weights.names]
    target = _copy(cached, folder, weights) if cached else hub.download(weights, offline=offline, folder=folder)
    was_there = _stamp(target) in before
    _write_config(folder, weights)
    return Pulled(target, was_there=was_there, is_verified=is_verified)


def _stamp(file: Path) -> tuple[int, int] | None:
    return (file.stat().st_ino, file.stat().st_mtime_ns) if file.is_file() else None


def _copy(source: Path, folder: Path, weights: hub.ModelFile) -> Path:
    target, digest = folder / source.name, sha256_of(source)
    if target.is_file() and sha256_of(target) == digest:
        return target
    size = source.stat().st_size
    transfer = Transfer(weights.model, source.name, str(source), size)
    with hub.locked_in(folder, transfer) as partial, report_write_errors(folder):
        check_space(folder, size, subject=f"model {weights.model!r}")
        shutil.copyfile(source, partial)
        if sha256_of(partial) != digest:
            partial.unlink()
            raise ModelError(f"{source}: changed while it was copied; run the command again")
        partial.replace(target)
    return target


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
