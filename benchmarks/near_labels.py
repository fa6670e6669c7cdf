"""How far apart the features of labels are, by meaning: `python -m benchmarks.near_labels`.

The bundled model was trained with several words for the same thing ("circle" and "disc", "growing" and "getting
bigger"). For lists with such pairs, prints the distances of their text features as shares of the median distance of
all pairs: the largest of pairs with the same meaning, and the smallest of the others. `bike labels check` warns about
pairs below a third.
"""

from __future__ import annotations

import random

import torch

from bike_cli.engine.engine import Engine, load
from bike_cli.engine.scoring import unit
from bike_cli.inference.label_texts import encode_labels
from bike_cli.tasks.label_check import NEAR

SHAPES = ("circle", "square", "triangle", "star", "heart", "diamond", "cross", "ring")
COLOURS = ("red", "green", "blue", "yellow", "orange", "purple", "pink", "white")
MOTIONS = ("moving left", "moving right", "moving up", "moving down", "bouncing", "spinning", "growing", "shrinking")
SAME_SHAPES = {"circle": ("disc", "dot", "ball"), "square": ("box",), "cross": ("plus",), "ring": ("hoop", "donut")}
SAME_MOTIONS = (
    *(("spinning", "rotating"), ("growing", "getting bigger"), ("growing", "expanding"), ("moving up", "rising")),
    *(("shrinking", "getting smaller"), ("moving down", "falling"), ("moving right", "going to the right")),
)
SIZES = (("small", "little"), ("big", "large"))

Pairs = list[tuple[str, str]]


def main() -> None:
    """Print one row per list."""
    engine = load("tiny", device="cpu")
    print(f"| list | labels without other names | same, at most | other, at least | below {NEAR:.2f}: same | other |")
    print("|---|---|---|---|---|---|")
    for name, (labels, same) in lists().items():
        print(f"| {name} | {len(labels)} | {' | '.join(measure(engine, labels, same))} |")


def lists() -> dict[str, tuple[list[str], Pairs]]:
    """Return lists of labels, and their pairs with the same meaning."""
    things = [f"{colour} {shape}" for shape in SHAPES for colour in COLOURS]
    words = [(shape, other) for shape, others in SAME_SHAPES.items() for other in others]
    all_things = [(f"{colour} {a}", f"{colour} {b}") for a, b in words for colour in COLOURS]
    few = random.Random(0).sample(all_things, 10)
    sized = [f"{size} {thing}" for size in ("small", "big") for thing in things]
    same_sizes = [(f"{a} {thing}", f"{b} {thing}") for a, b in SIZES for thing in things[::8]]
    return {
        "64 things": (things, []),
        "64 things, 10 with two names": (things, few),
        "64 things, all names": (things, all_things),
        "8 shapes, all names": (list(SHAPES), words),
        "8 motions, other words for 7": (list(MOTIONS), list(SAME_MOTIONS)),
        "128 sizes and things, 16 with two names": (sized, same_sizes),
    }


def measure(engine: Engine, labels: list[str], same: Pairs) -> list[str]:
    """Return the extremes of distances as shares of the median, and how many pairs are near."""
    labels = [*labels, *(other for _, other in same)]
    meaning = {other: one for one, other in same}
    classes = unit(encode_labels(engine, labels, template=None, spot="eot").classes)
    rows, columns = torch.triu_indices(len(labels), len(labels), 1)
    distances = torch.cdist(classes, classes)[rows, columns]
    shares = distances / distances.median()
    pairs = zip(rows.tolist(), columns.tolist(), strict=True)
    alike = torch.tensor([meaning.get(labels[i], labels[i]) == meaning.get(labels[j], labels[j]) for i, j in pairs])
    near = shares < NEAR
    largest = f"{float(shares[alike].max()):.3f}" if bool(alike.any()) else ""
    counts = (
        f"{int((near & alike).sum())} of {int(alike.sum())}",
        f"{int((near & ~alike).sum())} of {int((~alike).sum())}",
    )
    return [largest, f"{float(shares[~alike].min()):.3f}", *counts]


if __name__ == "__main__":
    main()
