"""Measure the bundled model on fresh clips, through real H.264 files, and print one table in Markdown.

    python examples/measure_tiny.py                   the table, on clips of a seed used nowhere else
    python examples/measure_tiny.py --choose          choose the spotting options on validation clips of another seed
    python examples/measure_tiny.py --clips FOLDER    clips of another renderer, with a truth.csv like that of shapes.py

Every result has a standard error: binomial for an accuracy, paired for a difference on the same clips. Labels are
always used within BIKE's prompt.
"""

from __future__ import annotations

import argparse
import csv
import functools
import statistics
import tempfile
import time
from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import Literal, TypeVar, get_args

import torch
from shapes import (
    BACKGROUNDS,
    COLOURS,
    MOTIONS,
    SHAPES,
    SIZES,
    Dice,
    Scenes,
    describe,
    draw_scenes,
    pose,
    write_clip_of,
)
from torch import Tensor

from bike_cli.config import PROMPT, SamplingConfig, Spot
from bike_cli.data.labels import fill
from bike_cli.data.lexicons import read_lexicon
from bike_cli.engine.attributes import associate, attribute_scores, attribute_sentence, encode_lexicon
from bike_cli.engine.engine import Engine, load
from bike_cli.engine.scoring import fuse, match_spread, unit
from bike_cli.engine.spotting import concept_scores, mean_scores, saliency
from bike_cli.engine.voters import voters
from bike_cli.records import Source, TextFeatures
from bike_cli.video.decoding import decode

# Training drew from seed 0 and was watched on seed 10000, both on a GPU, whose random numbers are others.
VALIDATION_SEED, TEST_SEED = 1_000_000, 2_000_000
WORKERS = 2
PAIRS = tuple(f"{colour} {shape}" for shape in SHAPES for colour in COLOURS)
SPOTS: tuple[Spot, ...] = get_args(Spot)
TEMPERATURES = (0.01, 0.03, 0.1)
LEAST_WEIGHT = 0.9  # a saliency that is shown must lie on frames where the object is
MEAN, RAW_MEAN, SOFTMAX, BEST = (
    "mean pooling",
    "mean pooling, no head",
    "softmax a frame, averaged",
    "best single frame",
)


# -- Clips and questions ------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Film:
    """A set of clips to render, and the numbers of frames to look at."""

    kind: str
    held_out: bool | None = None
    apart: bool = False
    frames: tuple[int, ...] = (8,)


@dataclass(frozen=True)
class Case:
    """A question about a film, with the labels to choose from."""

    name: str
    film: str
    asks: Literal["pair", "motion"] = "pair"
    labels: tuple[str, ...] = PAIRS
    frames: int = 8


FILMS = {
    "seen": Film("single", held_out=False),
    "never seen": Film("single", held_out=True, frames=(8, 16)),
    "empty": Film("sparse", apart=True),
    "passers-by": Film("passers", apart=True),
    "flash": Film("flash"),
}
FOUR_SHAPES = PAIRS[: 4 * len(COLOURS)]  # those that passers-by never have
CASES = (
    Case("64 pairs, seen", "seen"),
    Case("64 pairs, never seen", "never seen"),
    Case("motion, 8 frames", "never seen", "motion", MOTIONS),
    Case("motion, 16 frames", "never seen", "motion", MOTIONS, frames=16),
    Case("sparse, empty rest", "empty", labels=FOUR_SHAPES),
    Case("sparse, passers-by", "passers-by", labels=FOUR_SHAPES),
    Case("another flashes up", "flash"),
)


@dataclass(frozen=True)
class Watched:
    """Clips as the image tower sees them, by number of frames, and what is true of them."""

    scenes: Scenes
    features: Mapping[int, Tensor]  # [V, T, D], raw
    times: Mapping[int, Tensor]  # [V, T], 0 to 1

    def truth(self, case: Case) -> Tensor:
        """Return the index of each clip's right label, [V]."""
        if case.asks == "motion":
            return self.scenes.motion[:, 0]
        return self.scenes.shape[:, 0] * len(COLOURS) + self.scenes.colour[:, 0]

    def is_there(self, frames: int) -> Tensor:
        """Return on which frames the named object can be seen, bool [V, T]."""
        posed = pose(self.scenes, self.times[frames])
        inside = ((posed.centre > 0) & (posed.centre < 1)).all(-1)
        return (posed.opacity > 0.5)[:, 0] & inside[:, 0]


def watch(engine: Engine, film: Film, count: int, seed: int) -> Watched:
    """Return `count` clips of a film, rendered, written as H.264, decoded and encoded."""
    scenes = draw_scenes(Dice(seed), count, film.kind, held_out=film.held_out, apart=film.apart)
    with tempfile.TemporaryDirectory() as folder:

        def look(i: int) -> list[tuple[Tensor, Tensor]]:
            path = write_clip_of(scenes, i, Path(folder, f"{i:05d}.mp4"), seed=seed + i)
            return [look_at(engine, path, frames) for frames in film.frames]

        seen = in_threads(look, range(count))
    columns = list(zip(*seen, strict=True))
    features = {n: torch.stack([f for f, _ in column]) for n, column in zip(film.frames, columns, strict=True)}
    times = {n: torch.stack([t for _, t in column]) for n, column in zip(film.frames, columns, strict=True)}
    return Watched(scenes, features, times)


def look_at(engine: Engine, path: Path, frames: int) -> tuple[Tensor, Tensor]:
    """Return a file's raw frame features [T, D] and their times [T], 0 to 1."""
    clip = decode(Source.at(path), SamplingConfig(frames=frames))
    return engine.encode_clip(clip).frames[0], torch.from_numpy(clip.times_s[0] / clip.duration_s).float()


Given, Made = TypeVar("Given"), TypeVar("Made")


def in_threads(work: Callable[[Given], Made], items: Sequence[Given], *, workers: int = WORKERS) -> list[Made]:
    """Return the work done on each item, in order, a core a thread."""
    with ThreadPoolExecutor(workers, initializer=torch.set_num_threads, initargs=(1,)) as pool:
        return list(pool.map(work, items))


# -- Answers ------------------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Answers:
    """Scores of one case by every pool [V, C], and where spotting looks [V, C, T]."""

    scores: Mapping[str, Tensor]
    saliencies: Mapping[str, Tensor]


@functools.cache
def read(engine: Engine, labels: tuple[str, ...], spot: Spot) -> TextFeatures:
    """Return the features of labels in BIKE's prompt."""
    return engine.encode_texts([fill(PROMPT, label) for label in labels], positions=spot)


def answer(engine: Engine, features: Tensor, labels: tuple[str, ...]) -> Answers:
    """Return what every pool says of raw features [V, T, D]."""
    classes = unit(read(engine, labels, "eot").classes)
    related = engine.temporal(features)
    frames = unit(related)
    cosines = torch.einsum("vtd,cd->vtc", frames, classes)
    scores = {
        RAW_MEAN: mean_scores(features, classes),
        MEAN: mean_scores(related, classes),
        SOFTMAX: (engine.logit_scale * cosines).softmax(-1).mean(1),
        BEST: cosines.amax(1),
    }
    saliencies = {}
    for spot in SPOTS:
        tokens, mask = voters(read(engine, labels, spot), spot)
        for temperature in TEMPERATURES:
            name = spotting(spot, temperature)
            saliencies[name] = saliency(frames, unit(tokens), temperature, mask)
            scores[name] = concept_scores(frames, saliencies[name], classes)
    return Answers(scores, saliencies)


def spotting(spot: Spot, temperature: float) -> str:
    """Return the name of a way to spot."""
    return f"spotting by {spot}, {temperature:g}"


def weight_there(watched: Watched, answers: Answers, case: Case) -> dict[str, Tensor]:
    """Return the share of the right label's saliency on frames where its object is, a clip [V']; by way to spot.

    Clips are left out in which no frame of those looked at shows the object.
    """
    there, truth = watched.is_there(case.frames), watched.truth(case)
    rows = torch.arange(len(truth))
    return {name: (weights[rows, truth] * there).sum(1)[there.any(1)] for name, weights in answers.saliencies.items()}


# -- The choice of spotting ---------------------------------------------------------------------------------------


def choose(right: Mapping[str, Mapping[str, Tensor]], weights: Mapping[str, Tensor]) -> tuple[str, dict[str, float]]:
    """Return the way to spot whose worst loss is least, and the worst loss of each, in points.

    A loss is what the best pool of a case gets right beyond this one. Ways that lay less than LEAST_WEIGHT on frames
    where the object is, with an empty rest, are out.
    """
    shares = {name: {pool: rate(hits) for pool, hits in by_pool.items()} for name, by_pool in right.items()}
    worst = {
        way: max(100 * (max(by_pool.values()) - by_pool[way]) for by_pool in shares.values())
        for way, weight in weights.items()
        if float(weight.mean()) >= LEAST_WEIGHT
    }
    return min(worst, key=worst.__getitem__), worst


# -- Printing -----------------------------------------------------------------------------------------------------


def rate(hits: Tensor) -> float:
    """Return the share of True."""
    return float(hits.double().mean())


def share(hits: Tensor) -> str:
    """Return a share of clips in per cent, with its binomial standard error."""
    p = rate(hits)
    return f"{100 * p:.1f} ± {100 * (p * (1 - p) / len(hits)) ** 0.5:.1f}"


def mean(values: Tensor) -> str:
    """Return a mean with its standard error."""
    return f"{float(values.mean()):.2f} ± {float(values.std()) / len(values) ** 0.5:.2f}"


def difference(better: Tensor, worse: Tensor) -> str:
    """Return a difference of two shares of the same clips in points, with its paired standard error."""
    gain = better.double() - worse.double()
    return f"{100 * float(gain.mean()):+.1f} ± {100 * float(gain.std()) / len(gain) ** 0.5:.1f}"


def print_row(*cells: object) -> None:
    """Print one row of a Markdown table."""
    print("| " + " | ".join(str(cell) for cell in cells) + " |", flush=True)


def print_head(*cells: object) -> None:
    """Print the first row of a Markdown table, and the rule under it."""
    print()
    print_row(*cells)
    print_row(*["---"] * len(cells))


# -- The measurements ---------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Measured:
    """All that one seed's clips tell: by case and pool, which clips are right [V]; by case, weights."""

    watched: Mapping[str, Watched]
    answers: Mapping[str, Answers]
    right: Mapping[str, Mapping[str, Tensor]]
    weights: Mapping[str, Mapping[str, Tensor]]


def measure(engine: Engine, count: int, seed: int) -> Measured:
    """Return the answers to every case; plain clips are twice `count`."""
    counts = {name: count * (2 if film.kind == "single" else 1) for name, film in FILMS.items()}
    # Films take seeds of their own, a long way apart: a clip's noise has the seed of its film and its place.
    seeds = {name: seed + 50_000 * i for i, name in enumerate(FILMS)}
    watched = {name: watch(engine, film, counts[name], seeds[name]) for name, film in FILMS.items()}
    answers, right, weights = {}, {}, {}
    for case in CASES:
        film = watched[case.film]
        answers[case.name] = answer(engine, film.features[case.frames], case.labels)
        right[case.name] = {
            pool: scores.argmax(1) == film.truth(case) for pool, scores in answers[case.name].scores.items()
        }
        if FILMS[case.film].apart:
            weights[case.name] = weight_there(film, answers[case.name], case)
    return Measured(watched, answers, right, weights)


def print_pools(measured: Measured) -> None:
    """Print how often each pool is right, and where each way to spot looks."""
    names, weighed = list(measured.right), list(measured.weights)
    print_head("right, %", *names, *(f"weight, {name}" for name in weighed))
    for pool in measured.right[names[0]]:
        cells = [share(measured.right[name][pool]) for name in names]
        looks = [mean(measured.weights[name][pool]) if pool in measured.weights[name] else "" for name in weighed]
        print_row(pool, *cells, *looks)
    print_row("clips", *(len(next(iter(measured.right[name].values()))) for name in names), *("" for _ in weighed))


def print_gains(measured: Measured, way: str) -> None:
    """Print what the chosen spotting gains over simpler pools, on the same clips."""
    pools = (RAW_MEAN, MEAN, SOFTMAX, BEST)
    print_head(f"points gained by {way} over", *pools)
    for name, by_pool in measured.right.items():
        print_row(name, *(difference(by_pool[way], by_pool[pool]) for pool in pools))


REVERSED = {
    "left": "right",
    "right": "left",
    "up": "down",
    "down": "up",
    "growing": "shrinking",
    "shrinking": "growing",
}


def print_order(engine: Engine, measured: Measured, way: str) -> None:
    """Print what becomes of motions that have a direction when their frames change order."""
    watched = measured.watched["never seen"]
    turned = [MOTIONS.index(" ".join(REVERSED.get(word, word) for word in name.split())) for name in MOTIONS]
    motion = watched.scenes.motion[:, 0]
    backwards = torch.tensor(turned)[motion]
    directed = backwards != motion
    generator = torch.Generator().manual_seed(0)
    print_head(
        "motions with a direction, never-seen pairs", "reversed: the reversed label, %", "shuffled: the label, %"
    )
    for frames in FILMS["never seen"].frames:
        features = watched.features[frames][directed]
        orders = torch.stack([torch.randperm(frames, generator=generator) for _ in features])
        shuffled = features.gather(1, orders[..., None].expand_as(features))
        flipped, mixed = (answer(engine, f, MOTIONS).scores[way].argmax(1) for f in (features.flip(1), shuffled))
        print_row(f"{frames} frames", share(flipped == backwards[directed]), share(mixed == motion[directed]))


def print_attributes(engine: Engine, measured: Measured, way: str) -> None:
    """Print how often the words shown are right, and what fusing them does to the answer, beside a control."""
    lexicon = encode_lexicon(engine.encoder, read_lexicon("shapes"))
    single = encode_lexicon(engine.encoder, [phrase for phrase in lexicon.phrases if " " not in phrase])
    watched = measured.watched["never seen"]
    true = [true_words(watched.scenes, i) for i in range(len(watched.scenes))]
    print_head("words that are right, %, never-seen pairs", "best", "best two", "best five")
    for name, some in (("single words", single), ("all phrases", lexicon)):
        found = associate(watched.features[8], some, 5)
        hits = torch.tensor(
            [[is_true(a.phrase, words) for a in attributes] for attributes, words in zip(found, true, strict=True)]
        )
        print_row(name, *(f"{100 * rate(hits[:, :k]):.1f}" for k in (1, 2, 5)))
    print_head("points gained by fusing at weight 0.2", "attributes", "the raw frames themselves (control)")
    for case in CASES:
        features = measured.watched[case.film].features[case.frames]
        video, truth = measured.answers[case.name].scores[way], measured.watched[case.film].truth(case)
        sentences = [attribute_sentence([a.phrase for a in found]) for found in associate(features, lexicon, 5)]
        classes = read(engine, case.labels, "eot").classes
        by_words = attribute_scores(engine.encode_texts(sentences, positions="eot").classes, classes)
        by_frames = mean_scores(features, unit(classes))
        fused = [
            fuse(video, match_spread(other, like=video), 0.8).argmax(1) == truth for other in (by_words, by_frames)
        ]
        print_row(case.name, *(difference(hits, measured.right[case.name][way]) for hits in fused))


def true_words(scenes: Scenes, i: int) -> set[str]:
    """Return every word that is true of scene i's named object."""
    words = describe(scenes, i)
    return {words[key] for key in ("shape", "colour", "size", "motion", "background")}


def is_true(phrase: str, words: set[str]) -> bool:
    """Return whether a lexicon's phrase says nothing but these words."""
    known = (*SHAPES, *COLOURS, *SIZES, *MOTIONS, *BACKGROUNDS)
    said = [phrase] if phrase in known else [word for word in phrase.split() if word in known]
    return set(said) <= words


def print_speed(engine: Engine, seconds_to_load: float) -> None:
    """Print how long loading and one clip take on WORKERS cores."""
    torch.set_num_threads(WORKERS)
    scenes = draw_scenes(Dice(0), 1)
    with tempfile.TemporaryDirectory() as folder:
        path = write_clip_of(scenes, 0, Path(folder, "clip.mp4"), seed=0)
        seconds = []
        for _ in range(20):
            read.cache_clear()
            start = time.perf_counter()
            features, _ = look_at(engine, path, 8)
            tokens, mask = voters(read(engine, PAIRS, engine.recipe.spot), engine.recipe.spot)
            frames = unit(engine.temporal(features[None]))
            weights = saliency(frames, unit(tokens), engine.recipe.temperature, mask)
            concept_scores(frames, weights, unit(read(engine, PAIRS, engine.recipe.spot).classes))
            seconds.append(time.perf_counter() - start)
    print(f"\nLoaded in {seconds_to_load:.2f} s; a clip, 8 frames, 64 labels read anew: ", end="")
    print(f"{1000 * statistics.median(seconds):.0f} ms, median of {len(seconds)}, {WORKERS} cores.")


# -- Clips of another renderer ------------------------------------------------------------------------------------


def measure_folder(engine: Engine, folder: Path, way: str) -> None:
    """Print how often clips of another renderer are named rightly: every colour of every shape that occurs."""
    with (folder / "truth.csv").open(encoding="utf-8", newline="") as file:
        rows = list(csv.DictReader(file))
    features = torch.stack([f for f, _ in in_threads(lambda row: look_at(engine, folder / row["path"], 8), rows)])
    shapes = {row["shape"] for row in rows}
    pairs = tuple(pair for pair in PAIRS if pair.split()[1] in shapes)
    questions = {
        f"{len(pairs)} pairs": (pairs, [pairs.index(f"{row['colour']} {row['shape']}") for row in rows]),
        f"{len(MOTIONS)} motions": (MOTIONS, [MOTIONS.index(row["motion"]) for row in rows]),
    }
    pools = (RAW_MEAN, MEAN, SOFTMAX, BEST, way)
    print_head(f"{len(rows)} clips, right, %", *pools)
    for name, (labels, truth) in questions.items():
        scores = answer(engine, features, labels).scores
        print_row(name, *(share(scores[pool].argmax(1) == torch.tensor(truth)) for pool in pools))


def main() -> None:
    """Print what was asked for."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--model", default="tiny", help="model to measure (default: %(default)s)")
    parser.add_argument(
        "--count", type=int, default=384, help="clips per kind, twice as many plain ones (default: %(default)s)"
    )
    parser.add_argument("--seed", type=int, default=TEST_SEED, help="seed of the clips (default: %(default)s)")
    parser.add_argument("--choose", action="store_true", help="choose the spotting options on validation clips")
    parser.add_argument("--clips", type=Path, metavar="FOLDER", help="measure clips of another renderer")
    options = parser.parse_args()
    start = time.perf_counter()
    engine = load(options.model, device="cpu")
    seconds_to_load = time.perf_counter() - start
    way = spotting(engine.recipe.spot, engine.recipe.temperature)
    if options.clips:
        measure_folder(engine, options.clips, way)
        return
    measured = measure(engine, options.count, VALIDATION_SEED if options.choose else options.seed)
    print_pools(measured)
    if options.choose:
        chosen, worst = choose(measured.right, measured.weights["sparse, empty rest"])
        print_head("way to spot", "worst loss, points")
        for name in sorted(worst, key=worst.__getitem__):
            print_row(name, f"{worst[name]:.1f}")
        print(f"\nChosen: {chosen}.")
        return
    print_gains(measured, way)
    print_order(engine, measured, way)
    print_attributes(engine, measured, way)
    print_speed(engine, seconds_to_load)


if __name__ == "__main__":
    main()
