"""bike's own model folder: `config.json` and `model.safetensors`, a model that explains itself.

config.json, an object with exactly these keys:

    format          "bike"
    version         1; a reader refuses any other
    name            what records call the model
    licence         of the weights; null where not stated
    clip            open_clip's model configuration: embed_dim, vision_cfg, text_cfg, quick_gelu, ...
    image           the fields of `ImageRecipe`
    recipe          the fields of `config.Recipe`
    temporal_heads  attention heads of the temporal transformer; null where there is none
    attribute_head  true where there is one

model.safetensors, fp32 or fp16, under `clip.`, `temporal.` and `attribute.`. Where most rows of the token embedding are
zero, `clip.token_embedding.rows` (int32 [R]) and `clip.token_embedding.values` ([R, width]) stand for
`clip.token_embedding.weight`: the rows that are not.
"""

from __future__ import annotations

import json
import logging
import tempfile
from collections.abc import Mapping
from dataclasses import asdict
from pathlib import Path
from typing import Any

import torch
from open_clip.model import CLIP
from safetensors.torch import save_file
from torch import Tensor

from bike_cli.config import Recipe
from bike_cli.engine.heads import AttributeHead, TemporalTransformer
from bike_cli.engine.parts import Checkpoint, build_attribute, build_clip, build_temporal
from bike_cli.engine.transforms import ImageRecipe
from bike_cli.engine.weights import WAY_OUT, fill, read_json, read_tensors
from bike_cli.errors import ModelError

FORMAT, VERSION = "bike", 1
CONFIG_FILE, WEIGHTS_FILE = "config.json", "model.safetensors"
EMBEDDING, ROWS, VALUES = (f"token_embedding.{part}" for part in ("weight", "rows", "values"))
KEYS = {"format", "version", "name", "licence", "clip", "image", "recipe", "temporal_heads", "attribute_head"}

logger = logging.getLogger(__name__)


def save_folder(folder: Path, checkpoint: Checkpoint, *, dtype: torch.dtype = torch.float32) -> None:
    """Write a checkpoint into a folder; each of the two files appears whole or not at all, others are left alone.

    Args:
        dtype: of the floating-point tensors on disk; `logit_scale` stays fp32.
    """
    folder.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(prefix=".unfinished-", dir=folder) as unfinished:
        save_file(_tensors(checkpoint, dtype), Path(unfinished, WEIGHTS_FILE))
        text = json.dumps(_config(checkpoint), indent=2, ensure_ascii=False)
        Path(unfinished, CONFIG_FILE).write_text(text + "\n", encoding="utf-8")
        # safetensors writes for the owner alone; a model is as readable as the text beside it.
        Path(unfinished, WEIGHTS_FILE).chmod(Path(unfinished, CONFIG_FILE).stat().st_mode)
        for name in (WEIGHTS_FILE, CONFIG_FILE):
            Path(unfinished, name).replace(folder / name)


def load_folder(folder: Path) -> Checkpoint:
    """Return the checkpoint that `save_folder` wrote.

    Raises:
        ModelError: a file that is missing or damaged, another format or version, tensors that do not fit.
    """
    config = read_json(folder / CONFIG_FILE)
    _check(config, folder / CONFIG_FILE)
    image, recipe = _recipes(config, folder / CONFIG_FILE)
    logger.info("model %s: weights from %s", config["name"], folder / WEIGHTS_FILE)
    clip = build_clip(_object(config, "clip", folder / CONFIG_FILE), str(folder))
    tensors = read_tensors(folder / WEIGHTS_FILE)
    if image.side != _side(clip):
        raise ModelError(f"{folder}: its image side is {image.side}, its tower's {_side(clip)}; save the model again")
    fill(clip, _dense(_part(tensors, "clip."), clip.vocab_size, folder), origin=f"{folder}, clip")
    temporal, attribute = _heads(config, tensors, clip, folder)
    return Checkpoint(
        name=str(config["name"]),
        clip=clip,
        clip_config=_object(config, "clip", folder / CONFIG_FILE),
        image=image,
        recipe=recipe,
        temporal_head=temporal,
        attribute_head=attribute,
        licence=None if config["licence"] is None else str(config["licence"]),
    )


def _heads(
    config: Mapping[str, object], tensors: Mapping[str, Tensor], clip: CLIP, folder: Path
) -> tuple[TemporalTransformer | None, AttributeHead | None]:
    heads, has_attributes = config["temporal_heads"], bool(config["attribute_head"])
    prefixes = ("clip.", *(["temporal."] if heads is not None else []), *(["attribute."] if has_attributes else []))
    strange = [name for name in tensors if not name.startswith(prefixes)]
    if strange:
        raise ModelError(f"{folder}: has tensors that its config does not speak of ({strange[0]}, …); save it again")
    origin, temporal, attribute = str(folder), None, None
    if heads is not None:
        temporal = build_temporal(_part(tensors, "temporal."), clip, heads=heads, origin=origin)
    if has_attributes:
        attribute = build_attribute(_part(tensors, "attribute."), clip, origin=origin)
    return temporal, attribute


def _config(checkpoint: Checkpoint) -> dict[str, object]:
    head = checkpoint.temporal_head
    return {
        "format": FORMAT,
        "version": VERSION,
        "name": checkpoint.name,
        "licence": checkpoint.licence,
        "clip": dict(checkpoint.clip_config),
        "image": asdict(checkpoint.image),
        # What training has not chosen is left out: models without it are as they were.
        "recipe": {name: value for name, value in asdict(checkpoint.recipe).items() if value is not None},
        "temporal_heads": None if head is None else head.heads,
        "attribute_head": checkpoint.attribute_head is not None,
    }


def _tensors(checkpoint: Checkpoint, dtype: torch.dtype) -> dict[str, Tensor]:
    states = {"clip.": _compact(checkpoint.clip.state_dict())}
    if checkpoint.temporal_head is not None:
        states["temporal."] = checkpoint.temporal_head.state_dict()
    if checkpoint.attribute_head is not None:
        states["attribute."] = checkpoint.attribute_head.state_dict()
    return {
        prefix + name: (t.to(dtype) if t.is_floating_point() and t.ndim else t).detach().cpu().contiguous()
        for prefix, state in states.items()
        for name, t in state.items()
    }


def _compact(state: Mapping[str, Tensor]) -> dict[str, Tensor]:
    embedding = state[EMBEDDING]
    rows = embedding.any(dim=1).nonzero().flatten()
    if 2 * len(rows) > len(embedding):
        return dict(state)
    others = {name: tensor for name, tensor in state.items() if name != EMBEDDING}
    return others | {ROWS: rows.to(torch.int32), VALUES: embedding[rows]}


def _dense(tensors: dict[str, Tensor], vocabulary: int, folder: Path) -> dict[str, Tensor]:
    if ROWS not in tensors:
        return tensors
    others = {name: tensor for name, tensor in tensors.items() if name not in (ROWS, VALUES)}
    rows, values = tensors[ROWS].long(), tensors.get(VALUES, torch.zeros(0, 0))
    if rows.ndim != 1 or values.ndim != 2 or len(rows) != len(values) or not _within(rows, vocabulary):
        raise ModelError(f"{folder}: {ROWS} and {VALUES} do not make an embedding of {vocabulary} rows; fetch it again")
    embedding = torch.zeros(vocabulary, values.shape[1])
    embedding[rows] = values.float()
    return others | {EMBEDDING: embedding}


def _side(clip: CLIP) -> int:
    side = clip.visual.image_size
    return int(side if isinstance(side, int) else side[0])


def _within(rows: Tensor, count: int) -> bool:
    return not len(rows) or (int(rows.min()) >= 0 and int(rows.max()) < count)


def _check(config: Mapping[str, object], where: Path) -> None:
    if config.get("format") != FORMAT:
        raise ModelError(f"{where}: is not a bike model; {WAY_OUT}")
    if config.get("version") != VERSION:
        raise ModelError(
            f"{where}: is of version {config.get('version')}, this bike reads version {VERSION}; upgrade bike, or save "
            "the model with this one"
        )
    if config.keys() != KEYS:
        wrong = ", ".join(sorted(map(str, config.keys() ^ KEYS)))
        raise ModelError(f"{where}: has missing or unknown keys ({wrong}); save the model again")


def _recipes(config: Mapping[str, object], where: Path) -> tuple[ImageRecipe, Recipe]:
    image, recipe = _object(config, "image", where), _object(config, "recipe", where)
    try:
        return ImageRecipe(**{**image, "mean": tuple(image["mean"]), "std": tuple(image["std"])}), Recipe(**recipe)
    except (TypeError, ValueError, KeyError) as e:
        raise ModelError(f"{where}: image or recipe is wrong ({e}); save the model again") from e


def _object(config: Mapping[str, object], key: str, where: Path) -> dict[str, Any]:
    value = config[key]
    if not isinstance(value, dict):
        raise ModelError(f"{where}: {key} is a {type(value).__name__}, not an object; save the model again")
    return value


def _part(tensors: Mapping[str, Tensor], prefix: str) -> dict[str, Tensor]:
    return {name.removeprefix(prefix): tensor for name, tensor in tensors.items() if name.startswith(prefix)}
