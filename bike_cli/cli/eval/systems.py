"""The systems that `bike eval` compares: one for each combination of the given values."""

from __future__ import annotations

from collections.abc import Mapping
from itertools import product

from bike_cli.config import EvalConfig
from bike_cli.settings import changed

MANY = ("model", "template", "pool", "attributes")  # what systems may differ in


def systems_of(config: EvalConfig, many: Mapping[str, list[str]]) -> list[tuple[str, EvalConfig]]:
    """Return a name and a configuration for each combination of the values in which systems differ.

    The name is empty if there is only one system; then it is that of its model.
    """
    names = [name for name in MANY if len(many.get(name, [])) > 1]
    systems = []
    for values in product(*(many[name] for name in names)):
        parts = [value if name == "model" else f"{name} {value}" for name, value in zip(names, values, strict=True)]
        system = changed(config, dict(zip(names, values, strict=True)))
        systems.append((", ".join(parts), system))
    return systems
