"""Accuracy with descriptions of labels, on drawn clips: `python -m benchmarks.descriptions`.

Renders clips with `examples/shapes.py`, writes label files whose labels the bundled model knows well or not at all,
and evaluates each with `bike eval --descriptions off --descriptions add --descriptions only`. Prints the accuracies in
per cent with their 95 % intervals, and the gain of descriptions on the same clips. Clips are kept if a folder is given.
"""

from __future__ import annotations

import argparse
import csv
import json
import subprocess
import sys
import tempfile
from collections.abc import Iterator, Mapping
from pathlib import Path

import yaml

sys.path.append(str(Path(__file__).parents[1] / "examples"))

from shapes import COLOURS, SHAPES, Dice, draw_scenes, write_clips

SEED = 3_000_000  # used for no other clips
ODD_SHAPES = ("roundel", "quadrate", "trigon", "pentagram", "cardioid", "lozenge", "crucifix", "annulus")
ODD_COLOURS = ("crimson", "emerald", "azure", "lemon", "tangerine", "mauve", "fuchsia", "ivory")
OTHER_WORDS = {"circle": "disc", "square": "box", "cross": "plus", "ring": "hoop"}
USES = ("off", "add", "only")

Described = Mapping[str, list[str]]


def main() -> None:
    """Print one row per label file."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("folder", nargs="?", type=Path, help="folder for the clips (default: a temporary one)")
    parser.add_argument("--clips", type=int, default=256, help="clips per kind (default: %(default)s)")
    options = parser.parse_args()
    with tempfile.TemporaryDirectory() as temporary:
        folder = options.folder or Path(temporary)
        print("| clips | labels | " + " | ".join(f"`{use}`" for use in USES) + " | gain of `add` |")
        print("|---|---|" + "---|" * (len(USES) + 1))
        for kind, shapes in (("single", SHAPES), ("passers", SHAPES[:4])):
            clips = folder / kind
            if not (clips / "truth.csv").is_file():
                write_clips(clips, draw_scenes(Dice(SEED), options.clips, kind, apart=kind == "passers"), SEED)
            for name, described in label_files(shapes):
                print(f"| {kind} | {name} | {' | '.join(evaluate(clips, shapes, described, folder))} |", flush=True)


def label_files(shapes: tuple[str, ...]) -> Iterator[tuple[str, Described]]:
    """Yield names of label files, and the descriptions of each label, in the order of `shapes` and `COLOURS`."""
    pairs = [(shape, colour) for shape in shapes for colour in COLOURS]
    plain = [f"{colour} {shape}" for shape, colour in pairs]
    odd = [f"{ODD_COLOURS[COLOURS.index(c)]} {ODD_SHAPES[SHAPES.index(s)]}" for s, c in pairs]
    others = [plain[(7 * i + 11) % len(plain)] for i in range(len(plain))]
    negated = [f"{name}, not a {other}" for name, other in zip(odd, others, strict=True)]
    texts = [describe(shape, colour) for shape, colour in pairs]
    yield "odd words", dict(zip(odd, texts, strict=True))
    yield "odd words and a negation", dict(zip(negated, texts, strict=True))
    yield "odd words, one description", {label: some[:1] for label, some in zip(odd, texts, strict=True)}
    named = [[f"{text}, called {label}" for text in some] for label, some in zip(odd, texts, strict=True)]
    yield "odd words, named at the end", dict(zip(odd, named, strict=True))
    yield "words it knows", dict(zip(plain, texts, strict=True))


def describe(shape: str, colour: str) -> list[str]:
    """Return descriptions in words that the model knows in part, as a person would write them."""
    return [
        f"a {colour} {shape}",
        f"a {colour} {OTHER_WORDS.get(shape, shape)} crossing the picture",
        f"one {shape} shape, coloured {colour}, in front of something dark",
    ]


def evaluate(clips: Path, shapes: tuple[str, ...], described: Described, folder: Path) -> list[str]:
    """Return the accuracy with each use of descriptions, and the difference of the second to the first."""
    labels = list(described)
    (folder / "labels.yaml").write_text(yaml.safe_dump(dict(described), sort_keys=False, width=10**6))
    with (clips / "truth.csv").open(newline="") as file:
        rows = list(csv.DictReader(file))
    data, report = clips / "labelled.csv", folder / "report.json"
    with data.open("w", newline="") as file:
        writer = csv.writer(file)
        writer.writerow(["path", "label"])
        for row in rows:
            if row["shape"] in shapes and row["colour"] in COLOURS:
                place = shapes.index(row["shape"]) * len(COLOURS) + COLOURS.index(row["colour"])
                writer.writerow([row["path"], labels[place]])
    flags = [flag for use in USES for flag in ("--descriptions", use)]
    command = ["bike_cli", "eval", str(data), "-m", "tiny", "-l", str(folder / "labels.yaml"), *flags, "-q"]
    subprocess.run([sys.executable, "-m", *command, "-o", str(report)], check=True, stdout=subprocess.DEVNULL)
    content = json.loads(report.read_text())
    values = [system["metrics"]["top1"] for system in content["systems"]]
    shown = [f"{100 * value['value']:.1f} ({100 * value['low']:.1f} to {100 * value['high']:.1f})" for value in values]
    gain = next(pair for pair in content["comparisons"] if pair["metric"] == "top1")
    low, high = (100 * gain[end] for end in ("low", "high"))
    return [*shown, f"{100 * gain['difference']:+.1f} ({low:+.1f} to {high:+.1f})"]


if __name__ == "__main__":
    main()
