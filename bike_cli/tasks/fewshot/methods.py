"""The few-shot methods, and the options that choose them."""

from __future__ import annotations

from collections.abc import Callable, Mapping

from torch import Tensor

from bike_cli.engine.heads.few_shot import Head, Views, linear_probe, prototypes, tip_adapter, zero_shot
from bike_cli.errors import UsageError, concerning, shorten
from bike_cli.wording import either

Fit = Callable[[Views, Tensor, Tensor, float], Head]
METHODS: Mapping[str, Fit] = {
    "zeroshot": lambda shots, classes, text, scale: zero_shot(text, scale),
    "proto": prototypes,
    "tip": tip_adapter,
    "probe": linear_probe,
}
BASELINE = "zeroshot"
TRAINED = "bike"  # trains the image tower, so it encodes each video again: minutes on a GPU, hours without


@concerning("shots")
def parse_shots(text: str) -> tuple[int, ...]:
    """Return the numbers of shots in a text such as `1,2,4`, ascending; raise UsageError if one is not above 0."""
    parts = [part.strip() for part in text.split(",")]
    if not all(part.isdecimal() and len(part) < 10 and int(part) for part in parts):
        raise UsageError(f"shots is {shorten(text, 41)!r}; give whole numbers above 0, such as 1,2,4")
    return tuple(sorted({int(part) for part in parts}))


@concerning("method")
def parse_methods(text: str) -> tuple[str, ...]:
    """Return the methods in a text such as `proto,probe`. The baseline is always included, and comes first.

    `all` means all methods that learn from frozen features.

    Raises:
        UsageError: an unknown method.
    """
    methods = list(METHODS) if text.strip() == "all" else [part.strip() for part in text.split(",")]
    known = (*METHODS, TRAINED)
    unknown = next((method for method in methods if method not in known), None)
    if unknown is not None:
        raise UsageError(f"unknown method {unknown!r}; choose {either([*known, 'all'])}")
    return tuple(dict.fromkeys([BASELINE, *methods]))
