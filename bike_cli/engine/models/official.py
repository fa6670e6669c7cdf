"""A checkpoint becomes a file of the official BIKE code, where that code can hold it.

The official code tells an architecture from the shapes of its tensors and takes the rest for granted: OpenAI's CLIP,
QuickGELU, 64 wide attention heads, OpenAI's frames. What it would compute otherwise is refused; what it would only be
fed otherwise (frames, prompts, spotting) is a warning.

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
from bike_cli.engine.models.checkpoints import BIKE_RECIPE, BIKE_RESIZE, infer_config
from bike_cli.engine.models.parts import Checkpoint
from bike_cli.engine.models.weights import first_line
from bike_cli.errors import ModelError, UsageError

logger = logging.getLogger(__name__)

EPOCH = 0  # the official code prints it; what trained these weights may not have counted any
VOCABULARY = 49408  # of the one tokenizer that the official code has
BIKE_INTERPOLATION = "bicubic"
SHOWN = 3  # differences that a message names
WAY_OUT = "leave --official out and name a folder: one of bike's own holds every model"

# The models that the official code downloads, and open_clip's names for them.
OFFICIAL_ARCHS: Mapping[str, str] = {
    **{name: f"{name}-quickgelu" for name in ("RN50", "RN101", "RN50x4", "RN50x16", "RN50x64")},
    "ViT-B/32": "ViT-B-32-quickgelu",
    "ViT-B/16": "ViT-B-16-quickgelu",
    "ViT-L/14": "ViT-L-14-quickgelu",
    "ViT-L/14-336px": "ViT-L-14-336-quickgelu",
}

# What open_clip's configurations say that no feature depends on: training alone, another tokenizer's, other towers'.
IDLE_VISION = {"patch_dropout", "timm_model_pretrained", "timm_pool", "timm_proj", "timm_proj_bias", "timm_drop"}
IDLE_VISION |= {"timm_drop_path", "attn_pooler_queries", "attn_pooler_heads"}
IDLE_TEXT = {"pad_id", "eos_id", "tokenizer_mode", "hf_model_pretrained", "hf_proj_type", "hf_pooler_type"}
IDLE_TEXT |= {"output_tokens", "final_ln_after_pool"}
RESNET = {"timm_model_name", "layers", "width", "head_width", "image_size"}  # what a ResNet is built from


def save_official(checkpoint: Checkpoint, branch: OneBranch, file: Path) -> None:
    """Write one branch of a checkpoint as an official BIKE file, in fp32; it appears whole or not at all.

    Without optimizer state: the official code tests such a file, or trains on from it as `pretrain`. What that code
    would do otherwise with the right weights is logged as warnings.
    Raises:
        ModelError: a model that the official code would compute otherwise.
        UsageError: a branch that the model does not have.
        OSError: a file that cannot be written.
    """
    check_official(checkpoint, branch)
    for warning in _warnings(checkpoint, branch):
        logger.warning("%s: %s", checkpoint.name, warning)
    head = checkpoint.temporal_head if branch == "video" else checkpoint.attribute_head
    content = {
        "epoch": EPOCH,
        "model_state_dict": _clip_state(checkpoint),
        "fusion_model_state_dict": {} if head is None else _fp32(head),
        "optimizer_state_dict": {},
    }
    file = file.resolve()  # a link stays one
    with tempfile.TemporaryDirectory(prefix=".unfinished-", dir=file.parent) as unfinished:
        _write(content, Path(unfinished, file.name))
        Path(unfinished, file.name).replace(file)


def choose_branch(checkpoint: Checkpoint, asked: OneBranch | None) -> OneBranch:
    """Return the branch to write: the one asked for, or the only one that the model has a head for; else video.

    Raises:
        UsageError: two heads and none asked for; a branch that the model does not have.
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
    """Raise where the official code cannot hold this branch, or would compute it otherwise.

    Raises:
        ModelError: see there; it names what differs.
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
    """Return what the official config calls this architecture, `network.arch`; None: OpenAI has none of these sizes."""
    ours = _effective(checkpoint.clip_config)
    known = ((name, open_clip.get_model_config(arch)) for name, arch in OFFICIAL_ARCHS.items())
    return next((name for name, config in known if config and _effective(config) == ours), None)


# -- what the official code takes for granted --------------------------------------------------------------------


def _faults(checkpoint: Checkpoint, branch: OneBranch) -> list[str]:
    """Say where a model differs from the one that the official code makes of its tensors."""
    ours = _effective(checkpoint.clip_config)
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
    """Return all that features depend on, by name, open_clip's defaults included."""
    vision_cfg, text_cfg = config["vision_cfg"], config["text_cfg"]
    assert isinstance(vision_cfg, Mapping)
    assert isinstance(text_cfg, Mapping)
    vision, text = asdict(CLIPVisionCfg(**vision_cfg)), asdict(CLIPTextCfg(**text_cfg))
    is_resnet = isinstance(vision["layers"], (list, tuple))
    seen = RESNET if is_resnet else vision.keys() - IDLE_VISION
    return {
        "embed_dim": config["embed_dim"],
        "quick_gelu": bool(config.get("quick_gelu")),
        "init_logit_bias": config.get("init_logit_bias"),
        **{f"vision_cfg.{name}": _plain(value) for name, value in vision.items() if name in seen},
        **{f"text_cfg.{name}": _plain(value) for name, value in text.items() if name not in IDLE_TEXT},
    }


def _plain(value: object) -> object:
    """Return one value for each way of writing it: 224 and [224, 224], no arguments and {}."""
    if isinstance(value, (list, tuple)):
        return value[0] if len(value) == 2 and value[0] == value[1] else tuple(value)
    return None if value == {} else value


# -- what the official code is fed with --------------------------------------------------------------------------


def _warnings(checkpoint: Checkpoint, branch: OneBranch) -> Iterator[str]:
    recipe = checkpoint.recipe
    if official_arch(checkpoint) is None:
        yield (
            "has sizes that no model of OpenAI's has; save its model_state_dict alone, and let network.arch of the "
            "official config name that file"
        )
    if recipe.template != BIKE_RECIPE.template:
        yield f"reads labels with template {recipe.template}, the official code with bike's; change text_prompt.py"
    if branch == "attributes":
        if recipe.attribute_weight not in (None, TRAINED_ATTRIBUTE_WEIGHT):
            yield (
                f"weighs attributes by {recipe.attribute_weight}, the official code by {TRAINED_ATTRIBUTE_WEIGHT}; "
                "change fusion_acc there"
            )
        return  # which sees no frames
    frames = list(_frame_differences(checkpoint))
    if frames:
        yield f"wants other frames than the official code prepares ({', '.join(frames)}); change its test.py"
    if (recipe.spot, recipe.temperature) != (BIKE_RECIPE.spot, BIKE_RECIPE.temperature):
        yield (
            f"spots by {recipe.spot} at temperature {recipe.temperature}, the official code by {BIKE_RECIPE.spot} at "
            f"{BIKE_RECIPE.temperature}; expect other scores there"
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


def _clip_state(checkpoint: Checkpoint) -> dict[str, Tensor]:
    state = _fp32(checkpoint.clip)
    # Some open_clip architectures hold it as a list of one.
    return {**state, "logit_scale": state["logit_scale"].reshape(())}


def _fp32(module: nn.Module) -> dict[str, Tensor]:
    # The counters of batch norms stay whole numbers.
    state = {name: t.detach().cpu().contiguous() for name, t in module.state_dict().items()}
    return {name: (t.float() if t.is_floating_point() else t) for name, t in state.items()}


def _write(content: Mapping[str, object], file: Path) -> None:
    with file.open("wb") as stream:
        try:
            torch.save(dict(content), stream)
        except RuntimeError as e:
            # torch tells where in its own code writing stopped, not what the system said.
            if not isinstance(e.__context__, OSError):
                raise
            raise OSError(e.__context__.errno, e.__context__.strerror) from e
