"""The parts of a model, built from a configuration and filled with tensors."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import TypeVar

import torch
from open_clip.convert import convert_state_dict
from open_clip.model import convert_to_custom_text_state_dict
from torch import Tensor, nn

from bike_cli.config import Recipe, TrainingRecord
from bike_cli.engine.download.hub import HubSource
from bike_cli.engine.heads.bike import AttributeHead, TemporalTransformer
from bike_cli.engine.models.architecture import UNBUILDABLE, build_and_fill, check_text, outline
from bike_cli.engine.models.catalogue import check_runnable, construct
from bike_cli.engine.models.open_clip.text_models import names_text_model
from bike_cli.engine.models.weights import fill
from bike_cli.engine.towers.text_tower import ImageTextModel, text_width, width_of
from bike_cli.engine.towers.tokenizers import FileTokenizer
from bike_cli.engine.towers.transforms import ImageRecipe
from bike_cli.errors import ModelError, first_line, shorten

Head = TypeVar("Head", bound=nn.Module)

# Tables that old versions of transformers stored, and newer ones compute.
COMPUTED = {"text.transformer.embeddings.position_ids", "text.transformer.embed_positions.weights"}
HEAD_WIDTH = 64  # of every attention head of OpenAI's towers


@dataclass(frozen=True, eq=False)
class Checkpoint:
    """A model as loaded from a file: on the CPU, in fp32.

    Args:
        name: what records call it.
        clip: an image-text model of open_clip.
        clip_config: the open_clip configuration that `clip` was built from.
        training: None for a model that bike did not train.
        tokenizer: None: OpenAI's.
        source: where the weights were downloaded, or those that training started from; None for other weights.
    """

    name: str
    clip: ImageTextModel
    clip_config: Mapping[str, object]
    image: ImageRecipe
    recipe: Recipe
    temporal_head: TemporalTransformer | None = None
    attribute_head: AttributeHead | None = None
    licence: str | None = None
    training: TrainingRecord | None = None
    tokenizer: FileTokenizer | None = None
    source: HubSource | None = None


def build_clip(config: Mapping[str, object], origin: str) -> ImageTextModel:
    """Return a model of this open_clip configuration, with random weights; errors begin with `origin`.

    Raises:
        ModelError: a configuration that bike cannot run, or that open_clip cannot build.
    """
    check_buildable(config, origin)
    try:
        return construct(config)
    except UNBUILDABLE as e:
        fact = first_line(e)
        raise ModelError(f"{origin}: open_clip cannot build this architecture ({fact}); fix the configuration") from e


def check_buildable(config: Mapping[str, object], origin: str) -> None:
    """Raise ModelError if bike cannot run an open_clip configuration, or it needs a download."""
    check_runnable(config, origin)
    vision = config["vision_cfg"]
    if isinstance(vision, Mapping) and ":" in str(vision.get("timm_model_name")):
        raise ModelError(f"{origin}: its image tower would be fetched from the network; name one that timm has")


def as_open_clip(
    config: Mapping[str, object], state: Mapping[str, Tensor]
) -> tuple[dict[str, object], dict[str, Tensor]]:
    """Return a configuration and tensors that fit it, from tensors in another layout that open_clip can read.

    Source: open_clip's `load_checkpoint`. Weights without a bias of the scores make a model without one; open_clip
        gives them a bias of 0, for which all labels would match every video.
    """
    config, tensors = dict(config), dict(state)
    if names_text_model(config):
        tensors = {name: tensor for name, tensor in tensors.items() if name not in COMPUTED}
    if config.get("custom_text"):
        with torch.device("meta"):
            model = construct(config)
        tensors = convert_to_custom_text_state_dict(convert_state_dict(model, tensors))
    if "logit_bias" not in tensors:
        config.pop("init_logit_bias", None)
    return config, tensors


def outline_clip(config: Mapping[str, object], state: Mapping[str, Tensor], *, origin: str) -> ImageTextModel:
    """Return a model on the `meta` device, where it takes no memory, after checking that `state` fits it.

    Args:
        state: tensors of any device; only their shapes count.
    Raises:
        ModelError: a configuration that bike cannot run, or that open_clip cannot build; tensors that do not fit.
    """
    return outline(lambda: build_clip(config, origin), state, origin=origin)


def fill_clip(config: Mapping[str, object], state: Mapping[str, Tensor], *, origin: str) -> ImageTextModel:
    """Return a model with these tensors, which `outline_clip` has accepted.

    Raises:
        ModelError: a tensor holds NaN or infinity, or the scale of the scores is infinite.
    """
    vision = config["vision_cfg"]
    if isinstance(vision, Mapping) and vision.get("timm_model_name"):
        clip = build_clip(config, origin)
        fill(clip, state, origin=origin)
    else:
        clip = build_and_fill(lambda: build_clip(config, origin), state, origin=origin)
    scale = clip.logit_scale.detach()
    if not math.isfinite(scale.exp()):
        raise ModelError(f"{origin}: logit_scale is {float(scale):g}, whose exponential is too large; train it again")
    if names_text_model(config):
        check_text(clip.eval(), config, origin=origin)
    return clip.eval()


def build_temporal(
    state: Mapping[str, Tensor], clip: ImageTextModel, *, heads: object, origin: str
) -> TemporalTransformer:
    """Return the temporal head with these tensors, for `clip`; errors begin with `origin`.

    Raises:
        ModelError: tensors that do not fit or hold NaN; a number of attention heads that does not divide D.
    """
    width = width_of(clip)
    if isinstance(heads, bool) or not isinstance(heads, int) or heads < 1 or width % heads:
        shown = shorten(repr(heads), 60)
        raise ModelError(f"{origin}: {shown} attention heads do not divide an embedding of {width}; save it again")
    return _head(lambda: TemporalTransformer(width, heads), state, origin=f"{origin}, temporal head")


def _head(build: Callable[[], Head], state: Mapping[str, Tensor], *, origin: str) -> Head:
    outline(build, state, origin=origin)
    return build_and_fill(build, state, origin=origin)


def new_temporal(clip: ImageTextModel, *, seed: int) -> TemporalTransformer:
    """Return an untrained temporal head of the official size: text width / 64 attention heads."""
    width, heads = width_of(clip), max(1, text_width(clip) // HEAD_WIDTH)
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        return TemporalTransformer(width, math.gcd(width, heads)).eval()


def new_attribute(clip: ImageTextModel, *, seed: int) -> AttributeHead:
    """Return an untrained attribute head."""
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        return AttributeHead(width_of(clip)).eval()


def build_attribute(state: Mapping[str, Tensor], clip: ImageTextModel, *, origin: str) -> AttributeHead:
    """Return the attribute head with these tensors, for `clip`; errors begin with `origin`.

    Raises:
        ModelError: tensors that do not fit or hold NaN.
    """
    width = width_of(clip)
    return _head(lambda: AttributeHead(width), state, origin=f"{origin}, attribute head")
