"""Image towers of real size, with random weights, as their architecture initialises them."""

import numpy as np
import open_clip
import torch
from numpy.typing import NDArray
from text_configs import config_with_whole_image_tower

from bike_cli.config import Recipe
from bike_cli.engine.engine import assemble
from bike_cli.engine.models.catalogue import construct
from bike_cli.engine.models.open_clip.preprocessing import image_recipe
from bike_cli.engine.models.parts import Checkpoint
from bike_cli.engine.towers.encoder import Encoder
from bike_cli.engine.towers.placement import Placement

ATTENTION_POOLED = ("ViT-B-16-SigLIP2-256", "PE-Core-B-16")


def whole_image_tower(arch: str, placement: Placement) -> Encoder:
    """Return an encoder with the image tower of an architecture, and a small text tower; always the same weights."""
    torch.manual_seed(0)
    config = config_with_whole_image_tower(arch)
    model = construct(config).eval()
    (tag, *_) = open_clip.list_pretrained_tags_by_model(arch)
    image = image_recipe(open_clip.get_pretrained_cfg(arch, tag), model.visual, arch)
    return assemble(Checkpoint(arch, model, config, image, Recipe()), placement).encoder


def coloured_noise(count: int) -> NDArray[np.uint8]:
    """Return frames uint8 [count, 160, 200, 3] of noise, each with a colour of its own."""
    rng = np.random.default_rng(0)
    noise, colours = rng.integers(0, 60, (count, 160, 200, 3)), rng.integers(0, 196, (count, 1, 1, 3))
    return (noise + colours).astype(np.uint8)
