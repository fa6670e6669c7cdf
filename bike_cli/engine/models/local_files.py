"""The files of a model on this disk, for a machine that does not have them."""

from __future__ import annotations

import stat
from dataclasses import dataclass
from pathlib import Path

from bike_cli.engine.download.file_names import (
    CONFIG_FILE,
    LOCAL_DESCRIPTION_FILE,
    SETTINGS_FILE,
    TOKENIZER_FILE,
    WEIGHTS_FILES,
)
from bike_cli.engine.models import catalogue, training_records
from bike_cli.engine.models.open_clip.hub_names import FOLDER, HUB
from bike_cli.engine.models.training_records import named_path
from bike_cli.engine.models.weight_files import file_status

FOLDER_WEIGHTS = "model.safetensors"  # in bike's own folders
NEIGHBOURS = (CONFIG_FILE, TOKENIZER_FILE, SETTINGS_FILE, LOCAL_DESCRIPTION_FILE)  # of weights, where they exist


@dataclass(frozen=True)
class LocalModel:
    """A model of which `--model` names a file or a folder.

    Args:
        prefix: what precedes the path: an architecture and a comma, `local-dir:`, or nothing.
        name: of the file of weights; empty if a folder is named.
        files: all that the model is read from, in one folder.
    """

    prefix: str
    name: str
    files: tuple[Path, ...]


def local_model(model: str) -> LocalModel | None:
    """Return the files of a model on this disk; None for the bundled model, and for models of the hub."""
    if not model or model == catalogue.BUNDLED or model in catalogue.ALIASES or model.startswith(HUB):
        return None
    prefix = FOLDER if model.startswith(FOLDER) else ""
    path = named_path(model.removeprefix(prefix))
    status = file_status(path)
    if status is None and "," in model:
        architecture, _, weights = model.partition(",")
        prefix, path = f"{architecture},", named_path(weights)
        status = file_status(path)
    if status is None:
        return None
    if stat.S_ISDIR(status.st_mode):
        return LocalModel(prefix, "", _existing(path, _names_in_folder(path)))
    neighbours = _existing(path.parent, NEIGHBOURS) if prefix else ()
    return LocalModel(prefix, path.name, (path, *neighbours))


def _names_in_folder(folder: Path) -> tuple[str, ...]:
    if not (folder / CONFIG_FILE).is_file():
        return training_records.CONFIG_FILE, FOLDER_WEIGHTS, TOKENIZER_FILE
    weights = next((name for name in WEIGHTS_FILES if (folder / name).is_file()), WEIGHTS_FILES[0])
    return weights, *NEIGHBOURS


def _existing(folder: Path, names: tuple[str, ...]) -> tuple[Path, ...]:
    return tuple(folder / name for name in names if (folder / name).is_file())
