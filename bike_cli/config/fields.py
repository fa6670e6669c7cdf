"""What a configuration field carries besides its type and default: its flag, its help, and what its value affects."""

from __future__ import annotations

import dataclasses
from dataclasses import Field, dataclass
from typing import Any, Literal, TypeVar

from bike_cli.errors import ConfigError

# What changes with a value. `nothing`: only what is shown. `runtime`: speed, memory and places on disk. `pixels`: the
# frames that are read. `features`: what a model makes of them. `scores`: what labels and metrics make of features.
# `training`: the weights that are learned.
Affects = Literal["nothing", "runtime", "pixels", "features", "scores", "training"]
RESULTS: tuple[Affects, ...] = ("pixels", "features", "scores", "training")

# Panels of the help, in the order in which they are shown: what most runs need comes first.
DATA, OUTPUT, METRICS, LEARNING, BATCHES = "Data", "Output", "Metrics", "Learning", "Batches"
DETECTION = "Protocol detection, with videos"
KEEPING, TEXTS, FRAMES = "Validation and checkpoints", "Labels and scores", "Frames"
MODEL, DECODING, CLUSTER, GENERAL = "Device and downloads", "Decoding and cache", "Cluster", "General"
PANELS = (
    *(None, DATA, OUTPUT, METRICS, DETECTION, LEARNING, BATCHES, KEEPING, TEXTS, FRAMES, MODEL, DECODING),
    *(CLUSTER, GENERAL),
)


@dataclass(frozen=True)
class Flag:
    """How a field is given on the command line.

    Args:
        names: all its spellings; empty for a positional argument. The help shows short names and the first long one:
            other long names are old ones, which still work.
        affects: None for fields of a request, which are not settings.
        default_text: what the help shows as the default, where the value itself would not explain it.
        is_counted: repeating the flag raises the number.
    """

    names: tuple[str, ...]
    help: str
    panel: str | None = None
    affects: Affects | None = None
    metavar: str | None = None
    default_text: str | None = None
    is_counted: bool = False


Default = TypeVar("Default")


def flag(
    *names: str,
    default: Default,
    help: str,  # noqa: A002 - as argparse, click and Typer call it
    panel: str | None = None,
    affects: Affects | None = None,
    metavar: str | None = None,
    default_text: str | None = None,
    is_counted: bool = False,
) -> Default:
    """Return a dataclass field that a flag sets; see `Flag`."""
    described = Flag(names, help, panel, affects, metavar, default_text, is_counted)
    return dataclasses.field(default=default, metadata={"flag": described})


def same_flag(
    section: type,
    name: str,
    *,
    panel: str | None = None,
    affects: Affects | None = None,
) -> Any:  # noqa: ANN401 - of the field's type
    """Return a dataclass field like one of another configuration: the same flag, help, default and effects.

    Args:
        panel: of the help; None: that of the other field.
        affects: what results depend on; None: that of the other field.
    """
    other = {f.name: f for f in dataclasses.fields(section)}[name]
    described = other.metadata["flag"]
    described = dataclasses.replace(described, panel=panel or described.panel, affects=affects or described.affects)
    return dataclasses.field(default=other.default, metadata={"flag": described})


def flag_of(field: Field[object]) -> Flag | None:
    """Return the flag of a dataclass field; None for a field without one."""
    return field.metadata.get("flag")


def check_at_least(lowest: int, **values: int | None) -> None:
    """Raise ConfigError for the first value below `lowest`; None is valid."""
    for name, value in values.items():
        if value is not None and value < lowest:
            raise ConfigError(f"{name} is {value}; give a whole number of at least {lowest}")


def check_above(limit: float, **values: float | None) -> None:
    """Raise ConfigError for the first value that is not a finite number above `limit`; None is valid."""
    for name, value in values.items():
        if value is not None and not limit < value < float("inf"):
            raise ConfigError(f"{name} is {value}; give a number above {limit}")


def check_not_below(lowest: float, **values: float) -> None:
    """Raise ConfigError for the first value that is not a finite number of at least `lowest`."""
    for name, value in values.items():
        if not lowest <= value < float("inf"):
            raise ConfigError(f"{name} is {value}; give a number of at least {lowest}")
