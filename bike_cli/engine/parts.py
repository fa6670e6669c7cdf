"""What a model is made of, built from a description and filled from a file."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass

import torch
from open_clip.model import CLIP
from torch import Tensor

from bike_cli.config import Recipe
from bike_cli.engine.catalogue import is_plain
from bike_cli.engine.heads import AttributeHead, TemporalTransformer
from bike_cli.engine.transforms import ImageRecipe
from bike_cli.engine.weights import fill
from bike_cli.errors import ModelError

HEAD_WIDTH = 64  # of every attention head of OpenAI's towers
PLAIN_ONLY = "this release runs plain CLIP models only, such as ViT-B-16-quickgelu,openai"


@dataclass(frozen=True, eq=False)
class Checkpoint:
    """A model as it lies in a file: on the CPU, in fp32.

    Args:
        name: what records call it.
        clip: a plain CLIP.
        clip_config: the open_clip configuration that `clip` was built from.
    """

    name: str
    clip: CLIP
    clip_config: Mapping[str, object]
    image: ImageRecipe
    recipe: Recipe
    temporal_head: TemporalTransformer | None = None
    attribute_head: AttributeHead | None = None
    licence: str | None = None


def build_clip(config: Mapping[str, object], origin: str) -> CLIP:
    """Return a CLIP of this open_clip configuration, with random weights; `origin` begins the message.

    Raises:
        ModelError: a configuration that is not a plain CLIP's, or that open_clip cannot build.
    """
    # The towers' pretrained weights would be downloaded, to be overwritten.
    towers = {name: dict(tower) for name, tower in config.items() if isinstance(tower, Mapping)}
    if not {"vision_cfg", "text_cfg"} <= towers.keys() or not is_plain(config):
        raise ModelError(f"{origin}: has a text tower of its own kind; {PLAIN_ONLY}")
    towers["vision_cfg"]["timm_model_pretrained"] = False
    if ":" in str(towers["vision_cfg"].get("timm_model_name")):
        raise ModelError(f"{origin}: its image tower would be fetched from the network; name one that timm has")
    try:
        return CLIP(**{**config, **towers})
    except (TypeError, ValueError, LookupError, AssertionError, ArithmeticError, RuntimeError) as e:
        raise ModelError(f"{origin}: open_clip cannot build this architecture ({e}); mend the configuration") from e


def build_temporal(state: Mapping[str, Tensor], clip: CLIP, *, heads: object, origin: str) -> TemporalTransformer:
    """Return the temporal head of these tensors, fit for `clip`; `origin` begins the message.

    Raises:
        ModelError: tensors that do not fit; a number of attention heads that does not divide D.
    """
    width = width_of(clip)
    if not isinstance(heads, int) or heads < 1 or width % heads:
        raise ModelError(f"{origin}: {heads} attention heads do not divide an embedding of {width}; save it again")
    head = TemporalTransformer(width, heads)
    fill(head, state, origin=f"{origin}, temporal head")
    return head.eval()


def new_temporal(clip: CLIP, *, seed: int) -> TemporalTransformer:
    """Return a temporal head that has learnt nothing, of the official size: text width / 64 attention heads."""
    width, heads = width_of(clip), max(1, int(clip.ln_final.weight.shape[0]) // HEAD_WIDTH)
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        return TemporalTransformer(width, math.gcd(width, heads)).eval()


def new_attribute(clip: CLIP, *, seed: int) -> AttributeHead:
    """Return an attribute head that has learnt nothing."""
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        return AttributeHead(width_of(clip)).eval()


def build_attribute(state: Mapping[str, Tensor], clip: CLIP, *, origin: str) -> AttributeHead:
    """Return the attribute head of these tensors, fit for `clip`; `origin` begins the message.

    Raises:
        ModelError: tensors that do not fit.
    """
    head = AttributeHead(width_of(clip))
    fill(head, state, origin=f"{origin}, attribute head")
    return head.eval()


def width_of(clip: CLIP) -> int:
    """Return D, the size of an embedding."""
    projection = clip.text_projection
    if projection is None:
        return int(clip.ln_final.weight.shape[0])
    return int(projection.shape[1] if isinstance(projection, Tensor) else projection.out_features)
