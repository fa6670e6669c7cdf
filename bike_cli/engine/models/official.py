"""Write a checkpoint as a file of the official BIKE code, if that code can run the model.

The official code derives an architecture from the shapes of its tensors and assumes the rest: OpenAI's CLIP, QuickGELU,
attention heads of width 64, OpenAI's preprocessing. A model that it would compute differently is refused; different
inputs (frames, prompts, spotting) are a warning.

Source: BIKE, official clip/model.py `build_model`, modules/video_clip.py, test.py and train_attributes.py.
"""

from __future__ import annotations

import logging
import tempfile
from collections.abc import Iterator, Mapping
from dataclasses import asdict
from pathlib import Path

import open_clip
import torch
from open_clip.constants import OPENAI_DATASET_MEAN, OPENAI_DATASET_STD
from open_clip.model import CLIPTextCfg, CLIPVisionCfg
from torch import Tensor, nn

from bike_cli.config import TRAINED_ATTRIBUTE_WEIGHT, OneBranch
from bike_cli.engine.heads.bike import MAX_FRAMES
from bike_cli.engine.models.catalogue import is_plain
from bike_cli.engine.models.checkpoints import BIKE_RECIPE, BIKE_RESIZE, infer_config
from bike_cli.engine.models.parts import Checkpoint
from bike_cli.engine.towers.neighbours import reads_neighbours
from bike_cli.errors import ModelError, UsageError, first_line

logger = logging.getLogger(__name__)

EPOCH = 0  # the official code only prints it
VOCABULARY = 49408  # of the one tokenizer that the official code has
BIKE_INTERPOLATION = "bicubic"
SHOWN = 3  # differences that a message names
WAY_OUT = "leave --official out and name a folder: bike's own format holds every model"

# The models that the official code downloads, and open_clip's names for them.
OFFICIAL_ARCHS: Mapping[str, str] = {
    **{name: f"{name}-quickgelu" for name in ("RN50", "RN101", "RN50x4", "RN50x16", "RN50x64")},
    "ViT-B/32": "ViT-B-32-quickgelu",
    "ViT-B/16": "ViT-B-16-quickgelu",
    "ViT-L/14": "ViT-L-14-quickgelu",
    "ViT-L/14-336px": "ViT-L-14-336-quickgelu",
}

# Keys of open_clip's configurations that do not affect features: for training, other tokenizers or other towers.
IDLE_VISION = {"patch_dropout", "timm_model_pretrained", "timm_pool", "timm_proj", "timm_proj_bias", "timm_drop"}
IDLE_VISION |= {"timm_drop_path", "attn_pooler_queries", "attn_pooler_heads"}
IDLE_TEXT = {"pad_id", "eos_id", "tokenizer_mode", "hf_model_pretrained", "hf_proj_type", "hf_pooler_type"}
IDLE_TEXT |= {"output_tokens", "final_ln_after_pool"}
RESNET = {"timm_model_name", "layers", "width", "head_width", "image_size"}  # what a ResNet is built from


def save_official(checkpoint: Checkpoint, branch: OneBranch, file: Path) -> None:
    """Write one branch of a checkpoint as an official BIKE file, in fp32; the file is replaced atomically.

    It has no optimizer state: the official code can test it, or continue training from it as `pretrain`. Settings that
    differ in the official code are logged as warnings.

    Raises:
        ModelError: a model that the official code would compute differently.
        UsageError: a branch that the model does not have.
        OSError: a file that cannot be written.
    """
    check_official(checkpoint, branch)
    for warning in _warnings(checkpoint, branch):
        logger.warning("%s: %s", checkpoint.name, warning)
    clip = _fp32(checkpoint.clip)
    clip["logit_scale"] = clip["logit_scale"].reshape(())  # of shape [1] in some open_clip architectures
    head = checkpoint.temporal_head if branch == "video" else checkpoint.attribute_head
    content = {
        "epoch": EPOCH,
        "model_state_dict": clip,
        "fusion_model_state_dict": {} if head is None else _fp32(head),
        "optimizer_state_dict": {},
    }
    file = file.resolve()  # a symbolic link stays a link
    with tempfile.TemporaryDirectory(prefix=".unfinished-", dir=file.parent) as unfinished:
        _write(content, Path(unfinished, file.name))
        Path(unfinished, file.name).replace(file)


def choose_branch(checkpoint: Checkpoint, asked: OneBranch | None) -> OneBranch:
    """Return the branch to write: the one asked for, or the only one with a head, or video without heads.

    Raises:
        UsageError: the model has two heads and no branch is asked for, or it does not have that branch.
    """
    temporal, attribute = checkpoint.temporal_head is not None, checkpoint.attribute_head is not None
    if asked == "attributes" and not attribute:
        raise UsageError(f"--branch attributes: {checkpoint.name} has no attribute head; leave --branch out")
    if asked is None and temporal and attribute:
        raise UsageError(
            f"{checkpoint.name}: has a temporal head and an attribute head, an official file holds one of them; "
            "add --branch video or --branch attributes"
        )
    return asked or ("attributes" if attribute else "video")


def check_official(checkpoint: Checkpoint, branch: OneBranch) -> None:
    """Check that the official code can run this branch, and would compute the same.

    Raises:
        ModelError: it cannot; the message names the differences.
        UsageError: a branch that the model does not have.
    """
    choose_branch(checkpoint, branch)
    faults = _faults(checkpoint, branch)
    if faults:
        more = ", …" if len(faults) > SHOWN else ""
        raise ModelError(
            f"{checkpoint.name}: the official code would build another model ({'; '.join(faults[:SHOWN])}{more}); "
            f"{WAY_OUT}"
        )


def official_arch(checkpoint: Checkpoint) -> str | None:
    """Return `network.arch` of the official config for this architecture; None: OpenAI has no model of these sizes."""
    return arch_of(checkpoint.clip_config)


def arch_of(clip_config: Mapping[str, object]) -> str | None:
    """Return OpenAI's name for the architecture of an open_clip configuration; None: it has no such model."""
    ours = _effective(clip_config)
    known = ((name, open_clip.get_model_config(arch)) for name, arch in OFFICIAL_ARCHS.items())
    return next((name for name, config in known if config and _effective(config) == ours), None)


# -- what the official code takes for granted --------------------------------------------------------------------


def _faults(checkpoint: Checkpoint, branch: OneBranch) -> list[str]:
    """Return how a model differs from the one that the official code builds from its tensors."""
    if reads_neighbours(checkpoint.clip.visual):
        return ["its frames attend to their neighbours"]
    ours = _effective(checkpoint.clip_config)
    if not is_plain(checkpoint.clip_config):
        return ["its text tower or its tokenizer is not OpenAI's"]
    if ours["vision_cfg.timm_model_name"]:
        return [f"its image tower is timm's {ours['vision_cfg.timm_model_name']}"]
    try:
        theirs = _effective(infer_config(checkpoint.clip.state_dict()))
    except (LookupError, ValueError) as e:
        return [f"OpenAI's CLIP has {first_line(e)}"]
    theirs |= {"text_cfg.context_length": MAX_FRAMES, "text_cfg.vocab_size": VOCABULARY}
    faults = [_difference(name, value, theirs.get(name)) for name, value in ours.items() if value != theirs.get(name)]
    head, heads = checkpoint.temporal_head, theirs["text_cfg.heads"]
    if branch == "video" and head is not None and head.heads != heads:
        faults.append(f"attention heads of the temporal head are {head.heads}, not {heads}")
    return faults


def _difference(name: str, ours: object, theirs: object) -> str:
    if name == "quick_gelu":
        return "its activation is GELU, not QuickGELU"
    return f"{name} is {ours}, not {theirs}"


def _effective(config: Mapping[str, object]) -> dict[str, object]:
    """Return the settings that features depend on, by name, including open_clip's defaults."""
    vision_cfg, text_cfg = config["vision_cfg"], config["text_cfg"]
    assert isinstance(vision_cfg, Mapping)
    assert isinstance(text_cfg, Mapping)
    vision, text = asdict(CLIPVisionCfg(**vision_cfg)), asdict(CLIPTextCfg(**text_cfg))
    is_resnet = isinstance(vision["layers"], (list, tuple))
    used = RESNET if is_resnet else vision.keys() - IDLE_VISION
    return {
        "embed_dim": config["embed_dim"],
        "quick_gelu": bool(config.get("quick_gelu")),
        "init_logit_bias": config.get("init_logit_bias"),
        **{f"vision_cfg.{name}": _plain(value) for name, value in vision.items() if name in used},
        **{f"text_cfg.{name}": _plain(value) for name, value in text.items() if name not in IDLE_TEXT},
    }


def _plain(value: object) -> object:
    """Return the same value for all ways of writing it: 224 and [224, 224], None and {}."""
    if isinstance(value, (list, tuple)):
        return value[0] if len(value) == 2 and value[0] == value[1] else tuple(value)
    return None if value == {} else value


# -- what the official code is fed with --------------------------------------------------------------------------


def _warnings(checkpoint: Checkpoint, branch: OneBranch) -> Iterator[str]:
    recipe = checkpoint.recipe
    if official_arch(checkpoint) is None:
        yield (
            "has sizes that no model of OpenAI has; save its model_state_dict alone, and set network.arch of the "
            "official config to that file"
        )
    if recipe.template != BIKE_RECIPE.template:
        yield f"reads labels with template {recipe.template}, the official code with bike's; change text_prompt.py"
    if branch == "attributes":
        if recipe.attribute_weight not in (None, TRAINED_ATTRIBUTE_WEIGHT):
            yield (
                f"weights attributes by {recipe.attribute_weight}, the official code by {TRAINED_ATTRIBUTE_WEIGHT}; "
                "change its fusion_acc"
            )
        return  # this branch has no frames
    frames = list(_frame_differences(checkpoint))
    if frames:
        yield f"wants other frames than the official code prepares ({', '.join(frames)}); change its test.py"
    if (recipe.spot, recipe.temperature) != (BIKE_RECIPE.spot, BIKE_RECIPE.temperature):
        yield (
            f"spots by {recipe.spot} at temperature {recipe.temperature}, the official code by {BIKE_RECIPE.spot} at "
            f"{BIKE_RECIPE.temperature}; expect different scores"
        )


def _frame_differences(checkpoint: Checkpoint) -> Iterator[str]:
    image = checkpoint.image
    if (image.mean, image.std) != (OPENAI_DATASET_MEAN, OPENAI_DATASET_STD):
        yield "mean and std are not OpenAI's"
    if image.interpolation != BIKE_INTERPOLATION:
        yield f"resized by {image.interpolation}, not {BIKE_INTERPOLATION}"
    if image.resize_mode != "shortest":
        yield f"resized to {image.resize_mode}, not shortest"
        return
    ours, theirs = image.resize_side or image.side, BIKE_RESIZE.get(image.side, image.side)
    if ours != theirs:
        yield f"resized to {ours} pixels, not {theirs}"


# -- the file ----------------------------------------------------------------------------------------------------


def _fp32(module: nn.Module) -> dict[str, Tensor]:
    # The counters of batch norms stay whole numbers.
    state = {name: t.detach().cpu().contiguous() for name, t in module.state_dict().items()}
    return {name: (t.float() if t.is_floating_point() else t) for name, t in state.items()}


def _write(content: Mapping[str, object], file: Path) -> None:
    with file.open("wb") as stream:
        try:
            torch.save(dict(content), stream)
        except RuntimeError as e:
            # torch reports a place in its own code, not the system's error.
            if not isinstance(e.__context__, OSError):
                raise
            raise OSError(e.__context__.errno, e.__context__.strerror) from e
