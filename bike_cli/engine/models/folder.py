"""bike's own model folder: `config.json`, which describes the model, `model.safetensors`, and its `tokenizer.json`.

config.json, an object with these keys and no others:

    format          "bike"
    version         1; a reader refuses any other
    name            what records call the model
    licence         of the weights; null where not stated
    clip            open_clip's model configuration: embed_dim, vision_cfg, text_cfg, quick_gelu, ...; hf_text_cfg
                    describes a text tower that is a model of its own
    image           the fields of `ImageRecipe`
    recipe          the fields of `config.Recipe`
    temporal_heads  attention heads of the temporal transformer; null without one
    attribute_head  whether there is an attribute head
    training        labels and settings of the training, see `training_records.py`; absent in a model without training
    tokenizer       the fields of `TokenizerRecipe` and the sha256 of tokenizer.json; absent in a model with OpenAI's
    temporal        "neighbours": frames attend to their neighbours, see `towers/neighbours.py`; absent in other models
    source          the fields of `HubSource`: the download of these weights, or of those that training started from;
                    absent in a model that does not come from the hub

model.safetensors, fp32 or fp16, under `clip.`, `temporal.` and `attribute.`. Where most rows of the token embedding
are zero, `token_embedding.rows` (int32 [R]) and `token_embedding.values` ([R, width]) stand for
`token_embedding.weight` and hold the other rows.
"""

from __future__ import annotations

import json
import logging
import stat
import tempfile
from collections.abc import Mapping
from dataclasses import MISSING, asdict, fields
from pathlib import Path
from types import NoneType
from typing import Any, TypeVar

import torch
from open_clip.model import CLIPTextCfg
from safetensors.torch import save_file
from torch import Tensor

from bike_cli.config import Recipe
from bike_cli.engine.download.hub import HubSource
from bike_cli.engine.heads.bike import AttributeHead, TemporalTransformer
from bike_cli.engine.models.architecture import check_config, check_outputs, check_positions
from bike_cli.engine.models.json_files import WAY_OUT, read_json
from bike_cli.engine.models.open_clip.tokenizer_files import read_content
from bike_cli.engine.models.parts import (
    Checkpoint,
    build_attribute,
    build_temporal,
    check_buildable,
    fill_clip,
    outline_clip,
)
from bike_cli.engine.models.training_records import CONFIG_FILE as CONFIG_FILE
from bike_cli.engine.models.training_records import KEY as TRAINING
from bike_cli.engine.models.training_records import to_json, training_in
from bike_cli.engine.models.weight_files import file_status
from bike_cli.engine.models.weights import check_finite, read_tensors
from bike_cli.engine.towers.neighbours import can_read_neighbours, read_neighbours, reads_neighbours
from bike_cli.engine.towers.text_tower import ImageTextModel
from bike_cli.engine.towers.tokenizers import TOKENIZER_FILE, FileTokenizer, TokenizerRecipe
from bike_cli.engine.towers.transforms import ImageRecipe, as_pair
from bike_cli.errors import ModelError, shorten

FORMAT, VERSION = "bike", 1
WEIGHTS_FILE = "model.safetensors"
EMBEDDINGS = ("token_embedding", "text.token_embedding")  # of a plain CLIP, and of a model with a text tower of its own
TEMPORAL, NEIGHBOURS = "temporal", "neighbours"
KEYS = {"format", "version", "name", "licence", "clip", "image", "recipe", "temporal_heads", "attribute_head"}
TOKENIZER = "tokenizer"
SOURCE = "source"
OPTIONAL_KEYS = {TRAINING, TOKENIZER, TEMPORAL, SOURCE}
LONGEST_NAME = 5000  # characters; fine-tuned models are named after their folder, official ones after their file
MOST_ROWS = 2**17  # of a token embedding that is stored by its rows; OpenAI's tokenizer has 49,408 tokens
SHOWN = 60  # characters of a value in a message

Section = TypeVar("Section", ImageRecipe, Recipe, TokenizerRecipe, HubSource)

logger = logging.getLogger(__name__)


def save_folder(folder: Path, checkpoint: Checkpoint, *, dtype: torch.dtype = torch.float32) -> None:
    """Write a checkpoint into a folder; each of its files is replaced atomically, other files stay.

    Args:
        dtype: of the floating-point tensors on disk; `logit_scale` stays fp32.
    Raises:
        ModelError: a tensor holds NaN or infinity, or would in `dtype`.
    """
    folder.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(prefix=".unfinished-", dir=folder) as unfinished:
        tensors = _tensors(checkpoint, dtype)
        check_finite(tensors, origin=f"{checkpoint.name} as {str(dtype).removeprefix('torch.')}")
        save_file(tensors, Path(unfinished, WEIGHTS_FILE))
        text = json.dumps(_config(checkpoint), indent=2, ensure_ascii=False)
        Path(unfinished, CONFIG_FILE).write_text(text + "\n", encoding="utf-8")
        # safetensors makes a file readable by the owner alone; the model gets the same permissions as config.json.
        Path(unfinished, WEIGHTS_FILE).chmod(Path(unfinished, CONFIG_FILE).stat().st_mode)
        if checkpoint.tokenizer is not None:
            Path(unfinished, TOKENIZER_FILE).write_bytes(checkpoint.tokenizer.content)
        for name in (WEIGHTS_FILE, TOKENIZER_FILE, CONFIG_FILE):
            if Path(unfinished, name).exists():
                Path(unfinished, name).replace(folder / name)


def load_folder(folder: Path) -> Checkpoint:
    """Return the checkpoint that `save_folder` wrote.

    Raises:
        ModelError: a file that is missing or damaged, another format or version, a value that is not what this format
            says, tensors that do not fit or hold NaN.
    """
    where = folder / CONFIG_FILE
    if file_status(where) is None:
        raise ModelError(f"{shorten(folder)}: is not a model folder, it has no {CONFIG_FILE}; {WAY_OUT}")
    config = read_json(where)
    _check(config, where)
    image, recipe = _recipes(config, where)
    logger.info("model %s: weights from %s", config["name"], folder / WEIGHTS_FILE)
    clip_config = _object(config, "clip", where)
    tensors = read_tensors(folder / WEIGHTS_FILE)
    clip = _clip(clip_config, _part(tensors, "clip."), image, folder)
    if TEMPORAL in config:
        _let_read_neighbours(clip, where)
    temporal, attribute = _heads(config, tensors, clip, folder)
    return Checkpoint(
        name=str(config["name"]),
        clip=clip,
        clip_config=clip_config,
        image=image,
        recipe=recipe,
        temporal_head=temporal,
        attribute_head=attribute,
        licence=None if config["licence"] is None else str(config["licence"]),
        training=training_in(config, where),
        tokenizer=_tokenizer(config, clip_config, folder),
        source=_section(HubSource, config, SOURCE, where) if SOURCE in config else None,
    )


def _clip(config: Mapping[str, object], tensors: dict[str, Tensor], image: ImageRecipe, folder: Path) -> ImageTextModel:
    check_buildable(config, str(folder / CONFIG_FILE))
    check_config(config, str(folder / CONFIG_FILE))
    text, origin = config["text_cfg"], f"{folder}, clip"
    assert isinstance(text, Mapping)
    vocabulary = text.get("vocab_size", CLIPTextCfg.vocab_size)
    outlined = _outlined(tensors, vocabulary, folder)
    check_positions(config, outlined, origin)
    outline = outline_clip(config, outlined, origin=origin)
    check_outputs(outline, config, origin=origin)
    side, _ = as_pair(outline.visual.image_size)
    if image.side != side:
        raise ModelError(f"{folder}: its image side is {image.side}, its tower's {side}; save the model again")
    return fill_clip(config, _dense(tensors, vocabulary), origin=origin)


def _tokenizer(config: Mapping[str, object], clip_config: Mapping[str, object], folder: Path) -> FileTokenizer | None:
    text, where = clip_config["text_cfg"], folder / CONFIG_FILE
    assert isinstance(text, Mapping)
    if TOKENIZER not in config:
        if text.get("hf_tokenizer_name"):  # OpenAI's tokenizer would give ids of other words
            raise ModelError(f"{where}: does not describe its tokenizer; save the model again")
        return None
    values = dict(_object(config, TOKENIZER, where))
    digest, content = values.pop("sha256", None), read_content(folder / TOKENIZER_FILE)
    recipe = _section(TokenizerRecipe, {TOKENIZER: values}, TOKENIZER, where)
    context = text.get("context_length", CLIPTextCfg.context_length)
    tokenizer = FileTokenizer(content, recipe, context, str(config["name"]))
    if tokenizer.sha256 != digest:
        raise ModelError(f"{folder / TOKENIZER_FILE}: is not the file that was saved; copy the whole folder again")
    return tokenizer


def _let_read_neighbours(clip: ImageTextModel, where: Path) -> None:
    if not can_read_neighbours(clip.visual):
        raise ModelError(
            f"{where}: {TEMPORAL} is {NEIGHBOURS}, which only a plain Vision Transformer can have; save the model again"
        )
    read_neighbours(clip.visual)


def _heads(
    config: Mapping[str, object], tensors: Mapping[str, Tensor], clip: ImageTextModel, folder: Path
) -> tuple[TemporalTransformer | None, AttributeHead | None]:
    heads, has_attributes = config["temporal_heads"], bool(config["attribute_head"])
    prefixes = ("clip.", *(["temporal."] if heads is not None else []), *(["attribute."] if has_attributes else []))
    unknown = [name for name in tensors if not name.startswith(prefixes)]
    if unknown:
        raise ModelError(
            f"{folder}: contains tensors that config.json does not describe ({shorten(unknown[0], SHOWN)}, …); "
            "save it again"
        )
    origin, temporal, attribute = str(folder), None, None
    if heads is not None:
        temporal = build_temporal(_part(tensors, "temporal."), clip, heads=heads, origin=origin)
    if has_attributes:
        attribute = build_attribute(_part(tensors, "attribute."), clip, origin=origin)
    return temporal, attribute


def _config(checkpoint: Checkpoint) -> dict[str, object]:
    head, tokenizer = checkpoint.temporal_head, checkpoint.tokenizer
    return {
        "format": FORMAT,
        "version": VERSION,
        "name": checkpoint.name,
        "licence": checkpoint.licence,
        "clip": dict(checkpoint.clip_config),
        "image": asdict(checkpoint.image),
        # Unset values are left out, so that models without them stay readable for older versions.
        "recipe": {name: value for name, value in asdict(checkpoint.recipe).items() if value is not None},
        "temporal_heads": None if head is None else head.heads,
        "attribute_head": checkpoint.attribute_head is not None,
        # Left out for a model without training, because version 0.1 refuses unknown keys.
        **({} if checkpoint.training is None else {TRAINING: to_json(checkpoint.training)}),
        **({} if tokenizer is None else {TOKENIZER: {"sha256": tokenizer.sha256, **asdict(tokenizer.recipe)}}),
        # Other versions must refuse such a model: they would compute a plain CLIP.
        **({TEMPORAL: NEIGHBOURS} if reads_neighbours(checkpoint.clip.visual) else {}),
        **({} if checkpoint.source is None else {SOURCE: asdict(checkpoint.source)}),
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
    name = next((name for name in EMBEDDINGS if f"{name}.weight" in state), None)
    if name is None:
        return dict(state)
    embedding = state[f"{name}.weight"]
    rows = embedding.any(dim=1).nonzero().flatten()
    if 2 * len(rows) > len(embedding) or len(embedding) > MOST_ROWS:
        return dict(state)
    others = {key: tensor for key, tensor in state.items() if key != f"{name}.weight"}
    return others | {f"{name}.rows": rows.to(torch.int32), f"{name}.values": embedding[rows]}


def _outlined(tensors: dict[str, Tensor], vocabulary: int, folder: Path) -> dict[str, Tensor]:
    """Return the tensors, with a token embedding on the `meta` device in place of its stored rows."""
    name = _stored_by_rows(tensors)
    if name is None:
        return tensors
    rows, values = tensors[f"{name}.rows"], tensors.get(f"{name}.values", torch.zeros(0, 0))
    is_whole = not rows.is_floating_point() and rows.ndim == 1 and values.ndim == 2 and len(rows) == len(values)
    if not is_whole or vocabulary > MOST_ROWS or not ((rows >= 0) & (rows < vocabulary)).all():
        raise ModelError(
            f"{folder}: {name}.rows and {name}.values do not make an embedding of {vocabulary} rows; download it again"
        )
    embedding = torch.empty(vocabulary, values.shape[1], dtype=values.dtype, device="meta")
    return _with_embedding(tensors, name, embedding)


def _dense(tensors: dict[str, Tensor], vocabulary: int) -> dict[str, Tensor]:
    name = _stored_by_rows(tensors)
    if name is None:
        return tensors
    values = tensors[f"{name}.values"]
    embedding = torch.zeros(vocabulary, values.shape[1])
    embedding[tensors[f"{name}.rows"].long()] = values.float()
    return _with_embedding(tensors, name, embedding)


def _stored_by_rows(tensors: Mapping[str, Tensor]) -> str | None:
    return next((name for name in EMBEDDINGS if f"{name}.rows" in tensors), None)


def _with_embedding(tensors: Mapping[str, Tensor], name: str, embedding: Tensor) -> dict[str, Tensor]:
    stored = (f"{name}.rows", f"{name}.values")
    return {key: tensor for key, tensor in tensors.items() if key not in stored} | {f"{name}.weight": embedding}


def _check(config: Mapping[str, object], where: Path) -> None:
    if config.get("format") != FORMAT:
        raise ModelError(f"{where}: is not a bike model; {WAY_OUT}")
    version = config.get("version")
    if type(version) is not int or version != VERSION:
        raise ModelError(
            f"{where}: is of version {shorten(version, SHOWN)}, but this bike reads version {VERSION}; upgrade bike, "
            "or save the model with this one"
        )
    if config.keys() - OPTIONAL_KEYS != KEYS:
        wrong = ", ".join(sorted(shorten(name, SHOWN) for name in (config.keys() - OPTIONAL_KEYS) ^ KEYS)[:3])
        raise ModelError(f"{where}: has missing or unknown keys ({wrong}); save the model again")
    wanted = {"name": (str,), "licence": (str, NoneType), "temporal_heads": (int, NoneType), "attribute_head": (bool,)}
    for key, kinds in wanted.items():
        if type(config[key]) not in kinds:
            raise ModelError(f"{where}: {key} is {shorten(repr(config[key]), SHOWN)}; save the model again")
    if config.get(TEMPORAL, NEIGHBOURS) != NEIGHBOURS:
        shown = shorten(repr(config[TEMPORAL]), SHOWN)
        raise ModelError(f"{where}: {TEMPORAL} is {shown}, but this bike only knows {NEIGHBOURS}; upgrade bike")
    if not 0 < len(str(config["name"])) <= LONGEST_NAME:
        raise ModelError(f"{where}: name has {len(str(config['name'])):,} characters; give it 1 to {LONGEST_NAME}")


def _recipes(config: Mapping[str, object], where: Path) -> tuple[ImageRecipe, Recipe]:
    image = _section(ImageRecipe, config, "image", where)
    recipe = _section(Recipe, config, "recipe", where)
    for key, name in {"template": recipe.template, "lexicon": recipe.lexicon}.items():
        # Each may name a file, and reading a pipe or a device would never end.
        status = file_status(Path(name)) if "/" in name or "\\" in name else None
        if status is not None and not (stat.S_ISREG(status.st_mode) or stat.S_ISDIR(status.st_mode)):
            raise ModelError(
                f"{where}: recipe.{key} is {shorten(repr(name), SHOWN)}, which is not a file; name another"
            )
    return image, recipe


def _section(kind: type[Section], config: Mapping[str, object], key: str, where: Path) -> Section:
    """Return a part of the configuration as its dataclass."""
    values = _object(config, key, where)
    known = {f.name: f for f in fields(kind)}
    missing = sorted(name for name, f in known.items() if f.default is MISSING and name not in values)
    if missing or values.keys() - known.keys():
        fault = f"lacks {missing[0]}" if missing else f"has an unknown key, {min(values.keys() - known.keys())}"
        raise ModelError(f"{where}: {key} {shorten(fault)}; save the model again")
    try:
        arguments: Any = {name: tuple(v) if isinstance(v, list) else v for name, v in values.items()}
        return kind(**arguments)
    except ValueError as e:
        raise ModelError(f"{where}: {key}.{shorten(e)}; save the model again") from e


def _object(config: Mapping[str, object], key: str, where: Path) -> dict[str, Any]:
    value = config[key]
    if not isinstance(value, dict):
        raise ModelError(f"{where}: {key} is a {type(value).__name__}, not an object; save the model again")
    return value


def _part(tensors: Mapping[str, Tensor], prefix: str) -> dict[str, Tensor]:
    return {name.removeprefix(prefix): tensor for name, tensor in tensors.items() if name.startswith(prefix)}
