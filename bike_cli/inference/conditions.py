"""What scores depend on, with every default resolved: the conditions of a calibration."""

from __future__ import annotations

import hashlib
import json
from dataclasses import asdict

from bike_cli.config import (
    TRAINED_ATTRIBUTE_WEIGHT,
    AttributeConfig,
    Descriptions,
    DescriptionUse,
    Spot,
    SpottingConfig,
    VideoConfig,
)
from bike_cli.data.labels import read_templates
from bike_cli.engine.engine import Engine
from bike_cli.engine.heads.saved_classifier import SavedClassifier


def conditions_of(
    engine: Engine,
    config: VideoConfig,
    descriptions: Descriptions | None = None,
    saved: SavedClassifier | None = None,
) -> dict[str, object]:
    """Return all that the scores of a label depend on, except the video and the label.

    Two runs have equal conditions exactly if they score alike: whether a default was written out, or a template was
    given by name or as text, makes no difference. `model` only names the model; `fingerprint` stands for it.

    Args:
        descriptions: of the labels; they do not count if the config turns them off.
        saved: the classifier that decides; None: labels alone do.
    Raises:
        UsageError: templates that cannot be read.
    """
    spots = config.spotting.pool == "tcs"  # otherwise nothing weights the frames
    spot, temperature = resolve_spotting(config.spotting, engine)
    return {
        "model": engine.name,
        "fingerprint": engine.fingerprint,
        "precision": str(engine.encoder.placement.dtype).removeprefix("torch."),
        **asdict(config.sampling),
        "decoder": config.decoding.decoder,
        "pool": config.spotting.pool,
        "spot": spot if spots else None,
        "temperature": float(temperature) if spots else None,
        "template": read_templates(config.template or engine.recipe.template),
        "descriptions": _digest_of(descriptions or {}, config.descriptions),
        "attribute_weight": float(resolve_attribute_weight(config.attributes, engine)),
        **({} if saved is None else {"classifier": saved.digest}),
    }


def _digest_of(descriptions: Descriptions, use: DescriptionUse) -> str | None:
    """Return how descriptions are used, with a digest of them; None if none count."""
    described = sorted((label, list(texts)) for label, texts in descriptions.items() if texts)
    if use == "off" or not described:
        return None
    return f"{use} {hashlib.sha256(json.dumps(described).encode()).hexdigest()[:16]}"


def resolve_spotting(config: SpottingConfig, engine: Engine) -> tuple[Spot, float]:
    """Return which tokens weight the frames, and the temperature: those given, else the model's own."""
    temperature = engine.recipe.temperature if config.temperature is None else config.temperature
    return config.spot or engine.recipe.spot, temperature


def resolve_attribute_weight(config: AttributeConfig, engine: Engine) -> float:
    """Return how much attributes count: as much as is given, else what the model's training chose, else 0.

    Args:
        engine: the model that finds attributes; does not matter if the config names another one.
    """
    if config.attributes == "off":
        return 0.0
    if config.attribute_weight is not None:
        return config.attribute_weight
    if config.attribute_model is None and engine.recipe.attribute_weight is not None:
        return engine.recipe.attribute_weight  # that of its training
    # Without training, attributes from the same encoder do not improve the answer.
    trusted = config.attribute_model is not None or engine.attribute_head is not None
    return TRAINED_ATTRIBUTE_WEIGHT if trusted else 0.0
