"""A name after --model becomes a checkpoint: open_clip tags, official BIKE files, our own folders, the bundled model.

tiny                        the bundled model
base, siglip2, ...          short names of tags, see `aliases.py`
ARCH,TAG                    open_clip weights: found in the cache, or downloaded as open_clip does
ARCH,FILE                   weights on this disk for an open_clip architecture; `open_clip/preprocessing.py` says how
                            their frames are prepared
FILE                        an official BIKE checkpoint or an OpenAI state dict; its shapes give the architecture
FOLDER                      bike's own, see `folder.py`; or a repository of open_clip weights, as the hub has them and
                            `bike models pull --to` writes them, also as local-dir:FOLDER
hf-hub:OWNER/NAME[@REV]     a repository of open_clip weights on the hub; see `open_clip/repositories.py`
"""

from __future__ import annotations

import logging
import stat
from collections.abc import Iterator, Mapping
from dataclasses import replace
from pathlib import Path

import open_clip
from torch import Tensor

from bike_cli.config import Recipe
from bike_cli.engine.download import hub
from bike_cli.engine.download.file_names import CONFIG_FILE
from bike_cli.engine.models import catalogue
from bike_cli.engine.models.architecture import check_config
from bike_cli.engine.models.folder import load_folder
from bike_cli.engine.models.importers.layouts import check_needs_no_import
from bike_cli.engine.models.json_files import WAY_OUT
from bike_cli.engine.models.open_clip.families import family_of
from bike_cli.engine.models.open_clip.hub_names import FOLDER, HUB, twin_of
from bike_cli.engine.models.open_clip.preprocessing import image_recipe, preprocessing_for_file
from bike_cli.engine.models.open_clip.repositories import open_folder_repository, open_hub_repository
from bike_cli.engine.models.open_clip.text_models import description_next_to, with_description
from bike_cli.engine.models.open_clip.tokenizer_files import read_tokenizer
from bike_cli.engine.models.parts import (
    HEAD_WIDTH,
    Checkpoint,
    as_open_clip,
    build_attribute,
    build_temporal,
    fill_clip,
    outline_clip,
)
from bike_cli.engine.models.training_records import named_path
from bike_cli.engine.models.weight_files import file_status
from bike_cli.engine.models.weights import (
    OPENAI_SIZES,
    UNREADABLE,
    State,
    check_finite,
    read_content,
    state_in,
)
from bike_cli.engine.towers.text_tower import text_width
from bike_cli.engine.towers.tokenizers import TOKENIZER_FILE, FileTokenizer
from bike_cli.errors import ModelError, first_line, shorten

WEIGHTS_SUFFIXES = {".pt", ".pth", ".bin", ".ckpt", ".safetensors"}
CLASSIFIER_TENSORS = {"weight", "bias", "keys", "key_classes"}  # see engine/heads/saved_classifier.py
BIKE_RECIPE = Recipe(spot="all", temperature=0.01, template="bike")  # what official checkpoints were trained with
# Heads of ActionCLIP and of the official code that bike does not have, by how their tensors' names begin.
OTHER_HEADS = {"lstm_visual.": "LSTM", "shift.": "Conv_1D", "transformer.cls_token": "Transf_cls"}
BIKE_RESIZE = {224: 256}  # the official test resize; other inputs are resized to their own side
logger = logging.getLogger(__name__)


def open_checkpoint(model: str, *, offline: bool = False) -> Checkpoint:
    """Return the checkpoint that `model` names; see the top of this file.

    Args:
        offline: never touch the network.
    Raises:
        ModelError: no such model, or weights that are missing, damaged or of a kind bike cannot run.
    """
    if model == catalogue.BUNDLED:
        folder = catalogue.bundled_folder()
        if folder is None:
            raise ModelError("model 'tiny': this installation lacks weights/tiny; install bike again")
        return load_folder(folder)
    alias = catalogue.ALIASES.get(model)
    if alias is not None:
        return _tagged(alias.arch, alias.tag, model=model, offline=offline)
    if model.startswith(HUB):
        return open_hub_repository(model, offline=offline)
    if model.startswith(FOLDER):
        return open_folder_repository(named_path(model.removeprefix(FOLDER)), model)
    path = named_path(model)
    status = file_status(path) if model else None  # an empty path is the working folder
    if status is not None:
        if not stat.S_ISDIR(status.st_mode):
            logger.info("model %s: an official BIKE checkpoint or an OpenAI state dict", path)
            return official_checkpoint(path)
        is_repository = (path / CONFIG_FILE).is_file()
        return open_folder_repository(path, model) if is_repository else load_folder(path)
    arch, comma, weights = model.partition(",")
    arch = arch.replace("/", "-") if comma else arch  # OpenAI's own spelling, ViT-B/32
    if comma and _is_path(weights):
        return _for_architecture(arch, named_path(weights))
    if comma:
        return _tagged(arch, weights, model=model, offline=offline)
    raise _unknown(model)


def official_checkpoint(file: Path) -> Checkpoint:
    """Return the checkpoint in an official BIKE file, or in an OpenAI state dict.

    Raises:
        ModelError: a file of another kind, or tensors that do not fit.
    """
    state = _read(file)
    return _checkpoint(str(file), _inferred(state, file), state, {}, origin=str(file))


def _read(file: Path) -> State:
    content = read_content(file)
    check_needs_no_import(content, file)
    return state_in(content, file)


def _unknown(model: str) -> ModelError:
    if not model:
        return ModelError("model '': is empty; name one, such as base, or a file or folder")
    arch = model.replace("/", "-")
    tags = [tag for known, tag in catalogue.runnable_tags() if known == arch]
    if tags:
        way_out = f"use {arch},{tags[0]}, or another tag that bike models --all lists"
        return ModelError(f"model {model!r}: is an architecture without a tag of weights; {way_out}")
    if hub.is_repository(model) and named_path(model).suffix.lower() not in WEIGHTS_SUFFIXES:
        return _not_a_folder(model)
    if _is_path(model):
        return ModelError(f"{shorten(model)}: no such file or folder; check the path")
    names = [catalogue.BUNDLED, *catalogue.ALIASES, *open_clip.list_models()]
    way_out = catalogue.suggestion(model, names)
    return ModelError(f"model {shorten(repr(model))}: is not a short name, ARCH,TAG, file or folder; {way_out}")


def _not_a_folder(repository: str) -> ModelError:
    """Return what to do about OWNER/NAME, which may be a folder or a repository on the hub."""
    subject, twin = f"{shorten(repository)}: no such file or folder", twin_of(repository)
    if twin is not None:
        return ModelError(
            f"{subject}, and bike cannot read the weights of that name on the hub; use the same weights as -m {twin}"
        )
    return ModelError(
        f"{subject}; check the path, or use -m {HUB}{shorten(repository)} for open_clip weights on the hub"
    )


def _is_path(text: str) -> bool:
    path = named_path(text)
    exists = bool(text) and file_status(path) is not None
    return exists or "/" in text or "\\" in text or path.suffix.lower() in WEIGHTS_SUFFIXES


# -- open_clip tags ----------------------------------------------------------------------------------------------


def _tagged(arch: str, tag: str, *, model: str, offline: bool) -> Checkpoint:
    name, config = f"{arch},{tag}", catalogue.architecture(arch)
    catalogue.check_runnable(config, f"model '{name}'")
    pretrained = catalogue.tag_preprocessing(arch, tag)
    needed = catalogue.files_of(arch, tag, model=model)
    if not needed:
        raise ModelError(f"model '{arch},{tag}': is not on the hub; download it and use -m {arch},FILE")
    needed[0] = catalogue.with_estimated_size(needed[0])
    fetched = hub.fetch_all(needed, offline=offline)
    files = {file.kind: path for file, path in zip(needed, fetched, strict=True)}
    file, text = files["weights"], config["text_cfg"]
    logger.info("model %s: weights from %s", name, file)
    assert isinstance(text, Mapping)
    tokenizer = read_tokenizer(files["tokenizer"], text, name=name) if "tokenizer" in files else None
    family, source = family_of(arch, tag), hub.source_of(file)
    licence = None if family is None else family.licence
    if "configuration" in files:
        config = _described(config, files["configuration"])
        described = _checkpoint(name, config, _read(file), pretrained, origin=name)
        return replace(described, licence=licence, tokenizer=tokenizer, source=source)
    try:
        # open_clip loads them itself: it knows every format that its tags were ever written in.
        clip = open_clip.create_model(arch, pretrained=str(file), weights_only=True)
    except UNREADABLE as e:
        raise ModelError(
            f"{file}: cannot be loaded as {name} ({first_line(e)}); to repair it, run bike models pull {model}"
        ) from e
    check_finite(clip.state_dict(), origin=str(file))
    image = image_recipe(pretrained, clip.visual, name)
    plain = Checkpoint(name, clip.float(), config, image, Recipe(), licence=licence, tokenizer=tokenizer)
    return replace(plain, source=source)


def _described(config: Mapping[str, object], file: Path) -> dict[str, object]:
    """Return a configuration with the description of its text tower that is in a file."""
    described = with_description(config, file)
    check_config(described, str(file))
    return described


# -- files -------------------------------------------------------------------------------------------------------


def _for_architecture(arch: str, file: Path) -> Checkpoint:
    logger.info("model %s: weights from %s", arch, file)
    config, state = catalogue.architecture(arch), _read(file)
    catalogue.check_runnable(config, f"model '{arch},{file}'")
    description = catalogue.description_of(arch, model=f"{arch},{file}")
    if description is not None:
        config = _described(config, description_next_to(file, description))
    is_openais = state.head is not None or "input_resolution" in state.clip
    if is_openais and not config.get("quick_gelu"):
        raise ModelError(f"{file}: was trained with another activation than {arch} has; use {arch}-quickgelu,{file}")
    tokenizer = _tokenizer_for_file(config, arch, file)
    preprocess = preprocessing_for_file(arch, file)
    checkpoint = _checkpoint(f"{arch},{file}", config, state, preprocess, origin=f"{file} as {arch}")
    return replace(checkpoint, tokenizer=tokenizer, source=hub.source_of(file))


def _checkpoint(
    name: str, config: Mapping[str, object], state: State, preprocess: Mapping[str, object], *, origin: str
) -> Checkpoint:
    tensors = {name: tensor for name, tensor in state.clip.items() if name not in OPENAI_SIZES}
    config, tensors = as_open_clip(config, tensors)
    outline_clip(config, tensors, origin=origin)
    clip = fill_clip(config, tensors, origin=origin)
    image = image_recipe(preprocess, clip.visual, origin)
    plain = Checkpoint(name, clip, config, image, Recipe())
    return plain if state.head is None else _with_head(plain, state.head, origin)


def _tokenizer_for_file(config: Mapping[str, object], arch: str, file: Path) -> FileTokenizer | None:
    """Return the tokenizer next to weights in a file, or else that of the architecture on the hub."""
    text = config["text_cfg"]
    assert isinstance(text, Mapping)
    on_hub = catalogue.tokenizer_of(arch, model=f"{arch},{file}")
    if on_hub is None:
        return None
    path: Path | None = file.with_name(TOKENIZER_FILE)
    if path is None or file_status(path) is None:
        path = hub.cached_file(on_hub)
    if path is None:
        raise ModelError(
            f"{file}: has no {TOKENIZER_FILE} next to it; download that of {on_hub.repository}, and put it there"
        )
    return read_tokenizer(path, text, name=str(file))


def _with_head(plain: Checkpoint, head: Mapping[str, Tensor], origin: str) -> Checkpoint:
    is_temporal = any(name.startswith("transformer.resblocks.0.") for name in head)
    is_attribute = "query_fc.0.weight" in head
    other = next((kind for mark, kind in OTHER_HEADS.items() if any(name.startswith(mark) for name in head)), None)
    way_out = "use a checkpoint with the head Transf, or without a head"
    if other is not None:
        raise ModelError(f"{origin}: has the head {other}, which bike does not support; {way_out}")
    if head and not is_temporal and not is_attribute:
        raise ModelError(f"{origin}: has a head of an unknown kind ({shorten(next(iter(head)))}, …); {way_out}")
    clip = plain.clip
    heads = text_width(clip) // HEAD_WIDTH
    return replace(
        plain,
        image=replace(plain.image, resize_side=BIKE_RESIZE.get(plain.image.side)),
        recipe=BIKE_RECIPE,
        temporal_head=build_temporal(head, clip, heads=heads, origin=origin) if is_temporal else None,
        attribute_head=build_attribute(head, clip, origin=origin) if is_attribute else None,
    )


def _inferred(state: State, file: Path) -> dict[str, object]:
    if state.clip.keys() >= CLASSIFIER_TENSORS:
        raise ModelError(f"{file}: is a saved classifier, not a model; use bike classify --classifier {file}")
    config = config_of(state.clip, file)
    if state.head is None and "input_resolution" not in state.clip:
        # The activation leaves no trace in the tensors, and a wrong one makes features silently worse.
        fits = " or ".join(f"{arch},{file}" for arch in _fitting(config)) or f"ARCH,{file}"
        raise ModelError(f"{file}: does not record its activation function; use --model {fits}")
    return config


def config_of(state: Mapping[str, Tensor], file: Path) -> dict[str, object]:
    """Return the open_clip configuration of an OpenAI CLIP; errors begin with the file.

    Raises:
        ModelError: not a CLIP, or one of impossible sizes.
    """
    try:
        config = infer_config(state)
        check_config(config, str(file))
    except (LookupError, ValueError, AttributeError, ArithmeticError) as e:
        raise ModelError(f"{file}: is not a CLIP ({first_line(e)} is missing or wrong); {WAY_OUT}") from e
    return config


def infer_config(state: Mapping[str, Tensor]) -> dict[str, object]:
    """Return the open_clip configuration of an OpenAI CLIP, from the shapes of its tensors.

    Raises:
        LookupError: a tensor that every CLIP has is missing.
    Source: OpenAI CLIP, `build_model`; its twin in open_clip rounds weights to fp16.
    """
    width = state["ln_final.weight"].shape[0]
    text = {
        "context_length": state["positional_embedding"].shape[0],
        "vocab_size": state["token_embedding.weight"].shape[0],
        "width": width,
        "heads": width // HEAD_WIDTH,
        "layers": _count(state, "transformer.resblocks."),
    }
    is_transformer = any(name.startswith("visual.transformer.") for name in state)
    vision = _vision_transformer(state) if is_transformer else _resnet(state)
    return {"embed_dim": state["text_projection"].shape[1], "vision_cfg": vision, "text_cfg": text, "quick_gelu": True}


def _vision_transformer(state: Mapping[str, Tensor]) -> dict[str, object]:
    width, _, patch, _ = state["visual.conv1.weight"].shape
    grid = _square_root(state["visual.positional_embedding"].shape[0] - 1)
    layers = _count(state, "visual.transformer.resblocks.")
    return {"image_size": patch * grid, "layers": layers, "width": width, "patch_size": patch}


def _resnet(state: Mapping[str, Tensor]) -> dict[str, object]:
    grid = _square_root(state["visual.attnpool.positional_embedding"].shape[0] - 1)
    layers = [_count(state, f"visual.layer{stage}.") for stage in (1, 2, 3, 4)]
    return {
        "image_size": 32 * grid,
        "layers": layers,
        "width": state["visual.layer1.0.conv1.weight"].shape[0],
        "patch_size": None,
    }


def _count(state: Mapping[str, Tensor], prefix: str) -> int:
    return len({name.removeprefix(prefix).split(".")[0] for name in state if name.startswith(prefix)})


def _square_root(count: int) -> int:
    root = int(max(0, count) ** 0.5 + 0.5)
    if root * root != count or not root:
        raise ValueError(f"a square number of positions ({count})")
    return root


def _fitting(config: Mapping[str, object]) -> Iterator[str]:
    sizes = {**config, "quick_gelu": None}
    for arch in open_clip.list_models():
        known = open_clip.get_model_config(arch)
        if known and catalogue.is_plain(known) and {**known, "quick_gelu": None} == sizes:
            yield arch
