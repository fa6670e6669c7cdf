"""The preprocessing of a model's frames, from a file next to its weights or from open_clip's table of tags."""

from __future__ import annotations

import logging
from collections.abc import Mapping
from pathlib import Path

import open_clip
from open_clip.transform import PreprocessCfg, merge_preprocess_dict
from torch import nn

from bike_cli.engine.download.file_names import CONFIG_FILE
from bike_cli.engine.models.json_files import read_json
from bike_cli.engine.models.weight_files import file_status
from bike_cli.engine.towers.transforms import ImageRecipe, as_pair
from bike_cli.errors import ModelError, first_line

KEYS = ("mean", "std", "interpolation", "resize_mode")  # of a tag; the size belongs to the architecture
OPENAI: Mapping[str, object] = {}  # open_clip's default

logger = logging.getLogger(__name__)


def image_recipe(preprocess: Mapping[str, object], tower: nn.Module, origin: str) -> ImageRecipe:
    """Return the recipe that an open_clip preprocessing configuration describes, for an image tower.

    Raises:
        ModelError: an input that is not square; a value of another type or out of range.
    """
    size = {"size": input_size(tower)}
    merged = merge_preprocess_dict(merge_preprocess_dict(PreprocessCfg(), dict(preprocess)), size)
    try:
        return ImageRecipe.from_open_clip(merged)
    except (ValueError, TypeError) as e:
        raise ModelError(f"{origin}: its preprocessing is invalid ({first_line(e)}); choose another model") from e


def input_size(tower: nn.Module) -> tuple[int, int]:
    """Return the width and height of the frames that an image tower takes.

    Source: open_clip's configuration, unless timm's tower takes one size only. ViTamin-XL-384 needs this: open_clip 3.3
        states 256, but the tower was trained with 384, and the wrong size raises no error.
    """
    trunk = getattr(tower, "trunk", None)
    described = getattr(trunk, "pretrained_cfg", None) or {}
    if described.get("fixed_input_size") and described.get("input_size"):
        _, height, width = described["input_size"]
        if (height, width) != as_pair(tower.image_size):
            return width, height
    return as_pair(tower.image_size)


def preprocessing_for_file(arch: str, file: Path) -> Mapping[str, object]:
    """Return the preprocessing for weights in a file, from the open_clip_config.json next to it.

    Without one, it is that of all weights that open_clip has for the architecture, or OpenAI's if these differ.
    """
    config = file.with_name(CONFIG_FILE)
    if file_status(config) is not None:
        preprocess = read_json(config).get("preprocess_cfg", {})
        if not isinstance(preprocess, dict):
            raise ModelError(f"{config}: preprocess_cfg is a {type(preprocess).__name__}, not an object; fix it")
        return preprocess
    known = [open_clip.get_pretrained_cfg(arch, tag) for tag in open_clip.list_pretrained_tags_by_model(arch)]
    recipes = [{key: tag[key] for key in KEYS if key in tag} for tag in known]
    if not recipes or all(_is_openais(recipe) for recipe in recipes):
        return OPENAI
    fix = f"to change that, put the {CONFIG_FILE} of its repository next to it"
    if any(recipe != recipes[0] for recipe in recipes):
        logger.warning(
            "%s: uses the preprocessing of OpenAI's models, but weights of %s differ in theirs; %s", file, arch, fix
        )
        return OPENAI
    logger.warning("%s: uses the preprocessing of other weights of %s (%s); %s", file, arch, _shown(recipes[0]), fix)
    return recipes[0]


def _is_openais(recipe: Mapping[str, object]) -> bool:
    default = merge_preprocess_dict(PreprocessCfg(), {})
    return bool(merge_preprocess_dict(PreprocessCfg(), dict(recipe)) == default)


def _shown(recipe: Mapping[str, object]) -> str:
    return ", ".join(f"{key} {value}" for key, value in recipe.items())
