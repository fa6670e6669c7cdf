"""A small model with a bias, as sigmoid losses train it, and the same model without."""

import math

import torch
from small_models import assembled
from text_configs import random_model, small_config

from bike_cli.config import Recipe
from bike_cli.engine.engine import Engine
from bike_cli.engine.models.parts import Checkpoint
from bike_cli.engine.towers.transforms import ImageRecipe

SCALE, BIAS = 40.0, -10.0


def biased_checkpoint(bias: float | None = BIAS) -> Checkpoint:
    """Return a model with random weights; those of models with different biases are the same."""
    config = small_config("MobileCLIP-S1")
    if bias is not None:
        config["init_logit_bias"] = bias
    model = random_model(config)
    with torch.no_grad():
        model.logit_scale.fill_(math.log(SCALE))
    image = ImageRecipe(32, (0.5, 0.5, 0.5), (0.5, 0.5, 0.5))
    return Checkpoint("small one", model, config, image, Recipe(temperature=0.05))


def biased_engine(bias: float | None = BIAS) -> Engine:
    """Return the engine of `biased_checkpoint`, on the CPU."""
    return assembled(biased_checkpoint(bias))
