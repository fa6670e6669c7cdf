"""Repositories of open_clip weights: a configuration, weights, and a tokenizer where the model needs one.

They are on the hub, `hf-hub:OWNER/NAME` or `hf-hub:OWNER/NAME@REVISION`, or in a folder on this disk. A configuration
is untrusted data: it is checked before anything of the sizes it names is built, and nothing in it is downloaded or run.
"""

from __future__ import annotations

import logging
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from bike_cli.config import Recipe
from bike_cli.engine.download import hub
from bike_cli.engine.download.file_names import CONFIG_FILE, TOKENIZER_FILE
from bike_cli.engine.models.architecture import check_config, check_outputs, check_positions
from bike_cli.engine.models.catalogue import check_runnable
from bike_cli.engine.models.json_files import read_json
from bike_cli.engine.models.open_clip.hub_names import hub_files
from bike_cli.engine.models.open_clip.preprocessing import image_recipe
from bike_cli.engine.models.open_clip.text_models import description_next_to, description_of, with_description
from bike_cli.engine.models.open_clip.tokenizer_files import read_tokenizer
from bike_cli.engine.models.parts import Checkpoint, as_open_clip, check_buildable, fill_clip, outline_clip
from bike_cli.engine.models.weights import OPENAI_SIZES, read_state
from bike_cli.errors import ModelError, shorten
from bike_cli.wording import either

logger = logging.getLogger(__name__)


def open_hub_repository(model: str, *, offline: bool) -> Checkpoint:
    """Return the checkpoint of a repository on the hub.

    Args:
        model: hf-hub:OWNER/NAME or hf-hub:OWNER/NAME@REVISION.
    Raises:
        ModelError: a malformed name; files that are missing and cannot be downloaded; see `_open`.
    """
    return _open(fetch_repository(hub_files(model), offline=offline), model)


@dataclass(frozen=True)
class RepositoryFiles:
    """The files of a repository on this disk.

    Args:
        tokenizer: None if the model uses OpenAI's.
        description: configuration of a text tower that is a separate model; None for others.
    """

    config: Path
    weights: Path
    tokenizer: Path | None
    description: Path | None


def fetch_repository(files: Sequence[hub.ModelFile], *, offline: bool) -> RepositoryFiles:
    """Return the files of a repository in the cache, after downloading those that are missing.

    Raises:
        ModelError: files that are missing and cannot be downloaded; a model that bike cannot run.
    """
    config, weights, tokenizer, settings = files
    hub.check_available([config, weights], offline=offline)
    [config_file] = hub.fetch_all([config], offline=offline)
    check_described(config_file)  # before gigabytes are downloaded
    needed = {"weights": weights, "description": description_in(config_file, model=weights.model)}
    if needs_tokenizer(config_file):
        needed["tokenizer"] = tokenizer
    wanted = {what: file for what, file in needed.items() if file is not None}
    hub.check_available(list(wanted.values()), offline=offline)
    if "tokenizer" in wanted:
        hub.fetch_with_companion(tokenizer, settings, offline=offline)
    paths = dict(zip(wanted, hub.fetch_all(list(wanted.values()), offline=offline), strict=True))
    return RepositoryFiles(config_file, paths["weights"], paths.get("tokenizer"), paths.get("description"))


def check_described(config_file: Path) -> None:
    """Raise ModelError if a configuration does not describe a model that bike can run."""
    check_runnable(_model_cfg(config_file), str(config_file))


def description_in(config_file: Path, *, model: str) -> hub.ModelFile | None:
    """Return where the description of a model's text tower is on the hub; None if its configuration contains it."""
    return description_of(_text_cfg(_model_cfg(config_file), config_file), model=model)


def needs_tokenizer(config_file: Path) -> bool:
    """Return whether a model needs a tokenizer.json."""
    return bool(_text_cfg(_model_cfg(config_file), config_file).get("hf_tokenizer_name"))


def open_folder_repository(folder: Path, name: str) -> Checkpoint:
    """Return the checkpoint of a folder with open_clip_config.json, weights, and a tokenizer where it needs one.

    Raises:
        ModelError: a file that is missing; see `_open`.
    """
    weights = next((folder / name for name in hub.WEIGHTS_FILES if (folder / name).is_file()), None)
    if not folder.is_dir():
        raise ModelError(f"model {shorten(repr(name))}: no such folder; check the path")
    if not (folder / CONFIG_FILE).is_file():
        raise ModelError(f"{folder}: has no {CONFIG_FILE}; give a folder of open_clip weights, or one written by bike")
    if weights is None:
        raise ModelError(f"{folder}: has no {either(hub.WEIGHTS_FILES)}; copy the whole folder again")
    check_described(folder / CONFIG_FILE)
    on_hub = description_in(folder / CONFIG_FILE, model=name)
    description = None if on_hub is None else description_next_to(weights, on_hub)
    return _open(RepositoryFiles(folder / CONFIG_FILE, weights, folder / TOKENIZER_FILE, description), name)


def _open(files: RepositoryFiles, name: str) -> Checkpoint:
    """Return the checkpoint of these files.

    Raises:
        ModelError: a configuration that bike cannot run or that asks for a download; tensors that do not fit it.
    """
    config_file, weights_file = files.config, files.weights
    config = _model_cfg(config_file)
    if files.description is not None:
        config = with_description(config, files.description)
    logger.info("model %s: weights from %s", name, weights_file)
    check_buildable(config, str(config_file))
    check_config(config, str(config_file))
    vision = config["vision_cfg"]
    assert isinstance(vision, Mapping)
    if vision.get("timm_model_pretrained"):
        raise ModelError(f"{config_file}: timm_model_pretrained is true, which asks for a download; set it to false")
    state, origin = read_state(weights_file), f"{weights_file} as {config_file}"
    if state.head is not None:
        raise ModelError(f"{weights_file}: is a checkpoint of the official code; give the file itself to -m")
    if "input_resolution" in state.clip and not config.get("quick_gelu"):
        raise ModelError(f'{weights_file}: was trained with QuickGELU; add "quick_gelu": true to {config_file}')
    tensors = {name: tensor for name, tensor in state.clip.items() if name not in OPENAI_SIZES}
    config, tensors = as_open_clip(config, tensors)
    check_positions(config, tensors, origin)
    check_outputs(outline_clip(config, tensors, origin=origin), config, origin=origin)
    clip = fill_clip(config, tensors, origin=origin)
    preprocess = read_json(config_file).get("preprocess_cfg", {})
    if not isinstance(preprocess, dict):
        raise ModelError(f"{config_file}: preprocess_cfg is a {type(preprocess).__name__}, not an object; fix it")
    text, tokenizer = _text_cfg(config, config_file), None
    if text.get("hf_tokenizer_name"):
        assert files.tokenizer is not None
        tokenizer = read_tokenizer(files.tokenizer, text, name=name)
    image, source = image_recipe(preprocess, clip.visual, origin), hub.source_of(weights_file)
    return Checkpoint(name, clip, config, image, Recipe(), tokenizer=tokenizer, source=source)


def _model_cfg(config_file: Path) -> dict[str, object]:
    config = read_json(config_file).get("model_cfg")
    if not isinstance(config, dict):
        raise ModelError(f"{config_file}: has no model_cfg, so it does not describe open_clip weights; fix it")
    return config


def _text_cfg(config: Mapping[str, object], config_file: Path) -> Mapping[str, object]:
    text = config.get("text_cfg")
    if not isinstance(text, Mapping):
        raise ModelError(f"{config_file}: text_cfg is not an object; fix it")
    return text
