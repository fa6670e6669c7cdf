"""What a run is asked for: its loss, its head, and the settings that may change when it goes on."""

from __future__ import annotations

from dataclasses import replace

from bike_cli.config import FinetuneConfig
from bike_cli.engine.engine import Engine
from bike_cli.engine.models.parts import new_temporal
from bike_cli.errors import ConfigError

SIDED = ("left", "right", "clockwise", "counterclockwise", "anticlockwise")
# What may change when a run goes on: it has no say in what is computed.
FREE = {
    *("workers", "decode_timeout", "decode_memory", "cache", "cache_dir", "save_minutes"),
    *("accumulate", "checkpointing", "strategy", "compile", "offline", "model", "device"),
}


def loss_of(config: FinetuneConfig, *, multi_label: bool) -> str:
    """Return the loss that is meant.

    Raises:
        ConfigError: one for a single label where videos have several, or the other way round.
    """
    loss = config.learning.loss
    if loss == "auto":
        return "bce" if multi_label else "nce"
    if multi_label != (loss == "bce"):
        fact = "videos have several labels" if multi_label else "each video has one label"
        way_out = "leave it out, or give bce" if multi_label else "leave it out, or give --multi-label"
        raise ConfigError(f"loss is {loss}, but {fact}; {way_out}")
    return loss


def _with_head(engine: Engine, config: FinetuneConfig) -> Engine:
    """Return the engine with the temporal head that is asked for."""
    kind = config.learning.head
    if config.learning.branch == "attributes":
        return engine
    if kind == "none":
        return replace(engine, temporal_head=None)
    if engine.temporal_head is not None:
        return engine
    head = new_temporal(engine.encoder.model, seed=config.learning.seed)
    return replace(engine, temporal_head=head.to(engine.encoder.placement.device))
