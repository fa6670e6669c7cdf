"""The ways to learn from a handful of videos, and how users name them."""

from __future__ import annotations

from collections.abc import Callable, Mapping

from torch import Tensor

from bike_cli.engine.heads.few_shot import Head, Views, linear_probe, prototypes, tip_adapter, zero_shot
from bike_cli.errors import UsageError, shorten

Fit = Callable[[Views, Tensor, Tensor, float], Head]
METHODS: Mapping[str, Fit] = {
    "zeroshot": lambda shots, classes, text, scale: zero_shot(text, scale),
    "proto": prototypes,
    "tip": tip_adapter,
    "probe": linear_probe,
}
BASELINE = "zeroshot"
TRAINED = "bike"  # trains the image tower itself, and so sees each video anew: minutes on a GPU, hours without


def parse_shots(text: str) -> tuple[int, ...]:
    """Return the numbers of shots in a text such as `1,2,4`, ascending.

    Raises:
        UsageError: a part that is no whole number above 0.
    """
    parts = [part.strip() for part in text.split(",")]
    if not all(part.isdecimal() and len(part) < 10 and int(part) for part in parts):
        raise UsageError(f"shots is {shorten(text, 41)!r}; give whole numbers above 0, such as 1,2,4")
    return tuple(sorted({int(part) for part in parts}))


def parse_methods(text: str) -> tuple[str, ...]:
    """Return the methods in a text such as `proto,probe`; the baseline comes first, asked for or not.

    `all` are all that learn from frozen features.

    Raises:
        UsageError: a method that there is not.
    """
    asked = list(METHODS) if text.strip() == "all" else [part.strip() for part in text.split(",")]
    known = (*METHODS, TRAINED)
    unknown = next((method for method in asked if method not in known), None)
    if unknown is not None:
        raise UsageError(f"method {unknown!r}: there is none; choose of {', '.join(known)}, or all")
    return tuple(dict.fromkeys([BASELINE, *asked]))
