"""The systems that `bike eval` compares: one for each combination of the given values."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from itertools import product
from typing import TYPE_CHECKING

from bike_cli.config import ClassifyConfig, EvalConfig
from bike_cli.settings import flatten, resolve

if TYPE_CHECKING:
    from bike_cli.engine.engine import Engine
    from bike_cli.tasks.evaluate.evaluation import System

MANY = ("model", "template", "pool", "attributes")  # what systems may differ in


def systems_of(config: EvalConfig, many: Mapping[str, list[str]], engines: Mapping[str, Engine]) -> list[System]:
    """Return a system for each combination of the values in which systems differ."""
    from bike_cli.tasks.evaluate.evaluation import System

    names = [name for name in MANY if len(many.get(name, [])) > 1]
    systems = []
    for values in product(*(many[name] for name in names)):
        flags = dict(zip(names, values, strict=True))
        wanted = resolve(ClassifyConfig, flags=flags, environment={}, defaults=flatten(config))
        engine = engines[wanted.engine.model]
        parts = [value if name == "model" else f"{name} {value}" for name, value in flags.items()]
        systems.append(System(", ".join(parts) or engine.name, engine, replace(wanted, top=1)))
    return systems
