"""What saved few-shot classifiers reject: `python -m benchmarks.rejection_fewshot`.

The films and the label lists A, C and E are those of `benchmarks.rejection`. "Nonsense" rows give the classes names of
which the model knows no word, so that only the shots say what they look like. For each draw, a probe learns from the
shots, other films of its classes calibrate at 5 %, and all remaining films are judged: by the measure that a saved
classifier uses, and by others. Features are computed anew; films are kept in a folder.
"""

from __future__ import annotations

import argparse
import tempfile
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from benchmarks.polar_films import Film, films_of
from benchmarks.rejection import PLAIN, PROMISE, A, C, Case, E, auroc, rendered_to
from bike_cli.config import FewshotConfig, SamplingConfig, SpottingConfig
from bike_cli.data.labelled.eval_sets import NONE
from bike_cli.engine.calibration.calibration import Calibration
from bike_cli.engine.engine import Engine, load
from bike_cli.engine.heads.few_shot import Views, as_views, linear_probe, prototypes
from bike_cli.engine.heads.shot_distances import fit_distances, knows_classes
from bike_cli.inference.features import Features
from bike_cli.inference.prepare import prepare
from bike_cli.records import Failure, Source
from bike_cli.tasks.fewshot.videos import VideoView, stack_views
from bike_cli.video.workers.pool import DecodePool

MEASURES = ("used", "cosine", "distance", "logit", "log-sum-exp", "margin", "class mean")


@dataclass(frozen=True)
class Row:
    """A label list, whose names may mean nothing, and the number of shots and of clips that calibrate per class."""

    case: Case
    shots: int
    held_out: int
    is_nonsense: bool = False
    pool: str = "tcs"

    @property
    def name(self) -> str:
        """What the table shows."""
        parts = [
            self.case.name,
            *(["nonsense"] if self.is_nonsense else []),
            *(["mean"] if self.pool == "mean" else []),
        ]
        return f"{', '.join(parts)} ({self.shots})"

    @property
    def labels(self) -> tuple[str, ...]:
        """The labels that the model reads."""
        return tuple(f"zq{i}x" for i in range(len(self.case.labels))) if self.is_nonsense else self.case.labels


ROWS = (
    *(Row(A, 2, 3), Row(C, 4, 8), Row(E, 4, 8), Row(A, 4, 3, is_nonsense=True, pool="mean")),
    *(Row(C, shots, 8, is_nonsense=True) for shots in (2, 4, 16)),
    Row(E, 8, 8, is_nonsense=True, pool="mean"),
)


def views_of(engine: Engine, row: Row, frames: Sequence[Tensor]) -> tuple[Views, Tensor]:
    """Return the films as the classes of a row see them, and the texts [C, D]."""
    config = FewshotConfig(spotting=SpottingConfig(pool=row.pool))  # type: ignore[arg-type]
    classifier = prepare(engine, row.labels, config, from_videos=len(row.labels), shows_attributes=False)
    views = [VideoView(*as_views(film, classifier.texts)) for film in frames]
    return stack_views(views, len(row.labels)), classifier.texts.classes


def measured(views: Views, shots: Views, classes: Tensor, text: Tensor, scale: float) -> dict[str, np.ndarray]:
    """Return every measure of all films, by name."""
    logits, distances = linear_probe(shots, classes, text, scale).logits(views), fit_distances(shots, classes)
    two = logits.topk(2, dim=1).values
    found = {
        "cosine": views.scores(text).max(dim=1).values,
        "distance": distances.closeness(views),
        "logit": two[:, 0],
        "log-sum-exp": logits.logsumexp(dim=1),
        "margin": two[:, 0] - two[:, 1],
        "class mean": views.scores(prototypes(shots, classes, text, 1.0).weight).max(dim=1).values,
    }
    found["used"] = found["cosine" if knows_classes(shots, classes, text) else "distance"]
    return {name: values.double().numpy() for name, values in found.items()}


def judged(engine: Engine, row: Row, films: Sequence[Film], frames: Sequence[Tensor], draws: int) -> str:
    """Return a row of the table: known lost and of none caught in per cent, and AUROC, averaged over draws."""
    views, text = views_of(engine, row, frames)
    truth = np.array([row.case.label_of(film) for film in films])
    results = np.zeros((draws, len(MEASURES), 3))
    for draw in range(draws):
        rng = np.random.default_rng(draw)
        orders = [rng.permutation(np.flatnonzero(truth == i)) for i in range(len(row.labels))]
        stop = row.shots + row.held_out
        parts = [(order[: row.shots], order[row.shots : stop], order[stop:]) for order in orders]
        shots, held_out, known = (np.concatenate(part) for part in zip(*parts, strict=True))
        classes = torch.tensor(truth[shots])
        found = measured(views, views[torch.tensor(shots)], classes, text, engine.logit_scale)
        for i, name in enumerate(MEASURES):
            values, unknown = found[name], found[name][truth == NONE]
            fields = ("label",), {}, np.sort(values[held_out]), 1.0, None, PROMISE, frozenset[str](), "logit"
            threshold = Calibration(*fields).threshold()  # type: ignore[arg-type]
            lost, caught = (values[known] < threshold).mean(), (unknown < threshold).mean()
            results[draw, i] = lost, caught, auroc(values[known], unknown)
    means, deviation = 100 * results.mean(axis=0), 100 * results[:, 0, 0].std(ddof=1)
    cells = [f"{means[0, 0]:.1f} ± {deviation:.1f}", *(f"{caught:.0f} / {area:.1f}" for _, caught, area in means)]
    return f"| {row.name} | " + " | ".join(cells) + " |"


def main() -> None:
    """Render, encode, judge and print."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--folder", type=Path, default=Path(tempfile.gettempdir(), "bike-rejection"))
    parser.add_argument("--draws", type=int, default=10)
    parser.add_argument("--seed", type=int, default=1, help="of the films")
    options = parser.parse_args()
    folder = options.folder / str(options.seed) / "plain"
    rendered = rendered_to(folder, films_of("plain", PLAIN, options.seed))
    engine, frames = load("tiny", device="cpu"), list[Tensor]()
    with DecodePool(SamplingConfig(), FewshotConfig().decoding) as pool:
        sources = [Source.at(file) for _, file in rendered]
        for batch in Features(sources, (engine,), SamplingConfig(), pool=pool):
            frames += [video[0].scored_frames for video in batch if not isinstance(video, Failure)]
    print("| | known lost | " + " | ".join(MEASURES) + " |\n|" + "---|" * (len(MEASURES) + 2))
    for row in ROWS:
        print(judged(engine, row, [film for film, _ in rendered], frames, options.draws), flush=True)


if __name__ == "__main__":
    main()
