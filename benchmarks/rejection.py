"""What `bike calibrate` promises, on rendered films: `python -m benchmarks.rejection`.

Renders films with `benchmarks.polar_films`, which took no part in training, scores them with the bundled model, and
leaves out labels, so that the films of those show none of the labels:

    A  32 pairs of a colour and a shape; four other shapes are unknown      B  the same with four other colours
    C  four shapes; four others are unknown      D  as A, where the object is there for 30 to 60 % of a film
    E  five motions; five others are unknown

For each of 20 draws, five films per label calibrate, as `bike calibrate` does at 5 %, and all others are judged. Rows
named "mean" pool by the mean, and rows named "noise" add normal noise of 0.10 to every cosine, as of a worse model.
`--clips` names a folder of real videos, far from anything that the model knows.

Films and features are kept in a folder, so that a second run only judges.
"""

from __future__ import annotations

import argparse
import tempfile
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from sklearn.metrics import roc_auc_score, roc_curve

from benchmarks.polar_films import COLOURS, SHAPES, Film, films_of
from bike_cli.config import CalibrateConfig, SamplingConfig, SpottingConfig, StoreConfig
from bike_cli.data.labelled.eval_sets import NONE, EvalSet
from bike_cli.engine.calibration.calibration import Calibration
from bike_cli.engine.calibration.fitting import fit_curve, fit_scale, softmax
from bike_cli.engine.calibration.quality import calibration_error, log_loss
from bike_cli.engine.engine import Engine, load
from bike_cli.media import is_media_name
from bike_cli.records import Sample, Source
from bike_cli.tasks.calibrate.clips import CalibrationClips, Scored
from bike_cli.video.workers.pool import DecodePool

PROMISE = 0.05
SHOTS, UNKNOWN_SHOTS = 5, 10  # films per label that calibrate, and films of none of the labels
NOISE = 0.10
KEPT = 0.95  # share of known films that FPR95 keeps
KNOWN_SHAPES, KNOWN_COLOURS = SHAPES[:4], COLOURS[:4]
KNOWN_MOTIONS = ("moving left", "moving up", "bouncing", "spinning", "growing")
PLAIN, SPARSE_KNOWN, SPARSE_UNKNOWN = 640, 320, 160
PAIRS = tuple(f"{colour} {shape}" for shape in SHAPES for colour in COLOURS)
COLUMNS = (
    *("right", "lost", "sd", "caught", "real", "AUROC", "FPR95", "AUROC score"),
    *("NLL", "scaled", "scale", "to", "ECE", "by curve"),
)


@dataclass(frozen=True)
class Case:
    """A label list, the films that are judged by it, and how."""

    name: str
    labels: tuple[str, ...]
    kind: str = "plain"
    pool: str = "tcs"
    noise: float = 0.0

    def label_of(self, film: Film) -> int:
        """Return the index of a film's label, -1 for a film that shows none of the labels."""
        about = film.about
        for text in (f"{about.colour} {about.shape}", about.shape, about.motion):
            if text in self.labels:
                return self.labels.index(text)
        return NONE


A = Case("A", tuple(pair for pair in PAIRS if pair.split()[1] in KNOWN_SHAPES))
B = Case("B", tuple(pair for pair in PAIRS if pair.split()[0] in KNOWN_COLOURS))
C = Case("C", KNOWN_SHAPES)
D = Case("D", A.labels, kind="sparse")
E = Case("E", KNOWN_MOTIONS)
CASES = (
    *(A, B, C, D, E),
    replace(D, name="D, mean", pool="mean"),
    replace(A, name="A, noise", noise=NOISE),
    replace(E, name="E, noise", noise=NOISE),
)


# -- Films and scores ---------------------------------------------------------------------------------------------


def render(folder: Path, seed: int) -> dict[str, list[tuple[Film, Path]]]:
    """Render the films of each kind, except for the files that exist."""
    sets = {
        "plain": films_of("plain", PLAIN, seed),
        "sparse": [
            *films_of("sparse", SPARSE_KNOWN, seed, shapes=KNOWN_SHAPES),
            *films_of("sparse", SPARSE_UNKNOWN, seed, shapes=SHAPES[4:]),
        ],
    }
    return {kind: rendered_to(folder / kind, films) for kind, films in sets.items()}


def rendered_to(folder: Path, films: Sequence[Film]) -> list[tuple[Film, Path]]:
    """Return films with their files, which are rendered unless they exist."""
    folder.mkdir(parents=True, exist_ok=True)
    found = [(film, folder / f"{i:04d}.mkv") for i, film in enumerate(films)]
    for film, file in found:
        if not file.exists():
            film.write(file)
    return found


def score(engine: Engine, case: Case, films: Sequence[tuple[Film, Path]], real: Sequence[Path], store: Path) -> Scored:
    """Return the scores of films and of real videos, in this order; a real video that cannot be read is left out."""
    samples = [Sample(Source.at(file), case.label_of(film)) for film, file in films]
    samples += [Sample(Source.at(file), NONE) for file in real]
    config = CalibrateConfig(
        spotting=SpottingConfig(pool=case.pool),  # type: ignore[arg-type]
        store=StoreConfig(cache_dir=str(store)),
    )
    eval_set = EvalSet(case.labels, case.labels, tuple(samples))
    with DecodePool(SamplingConfig(), config.decoding) as pool:
        clips = CalibrationClips(engine, eval_set, config, pool)
        for _ in clips.read():
            pass
    return clips.scored  # the known first


def with_noise(scored: Scored, deviation: float, logit_scale: float) -> Scored:
    """Return scores with normal noise on every cosine."""
    if not deviation:
        return scored
    noise = np.random.default_rng(0).normal(0, deviation, scored.logits.shape)
    logits = scored.logits + logit_scale * noise
    return Scored(logits.max(axis=1) / logit_scale, logits, scored.truth)


# -- Draws --------------------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Judged:
    """What one draw loses and catches, as shares, and how good its probabilities are on other films."""

    lost: float
    caught: float
    real: float
    before: float  # log loss
    after: float
    scale: float
    error_before: float  # calibration error with as many films of none of the labels as of them
    error_after: float


def draws_of(known: Scored, unknown: Scored, real: Scored, draws: int) -> Iterator[Judged]:
    """Yield what each draw of five films per label and ten of none does to all other films."""
    for seed in range(draws):
        rng = np.random.default_rng(seed)
        drawn = np.zeros(len(known.truth), dtype=np.bool_)
        for label in np.unique(known.truth):
            drawn[rng.permutation(np.flatnonzero(known.truth == label))[:SHOTS]] = True
        of_none = np.zeros(len(unknown.truth), dtype=np.bool_)
        of_none[rng.permutation(len(unknown.truth))[:UNKNOWN_SHOTS]] = True
        yield _judged(known.at(drawn), known.at(~drawn), unknown.at(of_none), unknown.at(~of_none), real)


def _judged(own: Scored, others: Scored, none: Scored, other_none: Scored, real: Scored) -> Judged:
    threshold = _calibration(own).threshold(PROMISE)
    scale = fit_scale(own.logits, own.truth)
    curve = fit_curve(
        np.concatenate([own.values, none.values]),
        np.concatenate([own.correct, none.correct]),
        np.arange(len(own.truth) + len(none.truth)) < len(own.truth),
    )
    number = min(len(others.truth), len(other_none.truth))  # half of the films are unknown
    values = np.concatenate([others.values[:number], other_none.values[:number]])
    logits = np.concatenate([others.logits[:number], other_none.logits[:number]])
    correct = np.concatenate([others.correct[:number], other_none.correct[:number]])
    return Judged(
        lost=float((others.values < threshold).mean()),
        caught=float((other_none.values < threshold).mean()),
        real=float((real.values < threshold).mean()) if len(real.values) else np.nan,
        before=float(log_loss(others.logits, others.truth).mean()),
        after=float(log_loss(scale * others.logits, others.truth).mean()),
        scale=scale,
        error_before=calibration_error(softmax(logits).max(axis=1), correct),
        error_after=calibration_error(np.array([curve.at(value) for value in values.tolist()]), correct),
    )


def _calibration(own: Scored) -> Calibration:
    values = np.sort(own.values)
    return Calibration(("label",), {}, values, 1.0, None, PROMISE, frozenset(), measure="logit")


def row_of(known: Scored, unknown: Scored, real: Scored, draws: int) -> list[float]:
    """Return the numbers of one row, as in `COLUMNS`."""
    judged = list(draws_of(known, unknown, real, draws))
    mean = {name: float(np.mean([getattr(one, name) for one in judged])) for name in Judged.__annotations__}
    confidence = [softmax(part.logits).max(axis=1) for part in (known, unknown)]
    scales = [one.scale for one in judged]
    shares = [
        *(known.correct.mean(), mean["lost"], np.std([one.lost for one in judged], ddof=1), mean["caught"]),
        *(mean["real"], auroc(known.values, unknown.values), fpr95(known.values, unknown.values)),
        auroc(*confidence),
    ]
    errors = [mean["error_before"], mean["error_after"]]
    return [
        *(100 * float(share) for share in shares),
        *(mean["before"], mean["after"], min(scales), max(scales)),
        *(100 * error for error in errors),
    ]


def shown(name: str, numbers: Sequence[float]) -> str:
    """Return a row of the table: shares with one decimal, losses and scales with three."""
    digits = [1] * 8 + [3] * 2 + [2] * 2 + [1] * 2
    return f"| {name} | " + " | ".join(f"{x:.{d}f}" for x, d in zip(numbers, digits, strict=True)) + " |"


def main() -> None:
    """Render, score, judge and print."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--folder", type=Path, default=Path(tempfile.gettempdir(), "bike-rejection"))
    parser.add_argument("--clips", type=Path, help="folder of real videos")
    parser.add_argument("--draws", type=int, default=20)
    parser.add_argument("--seed", type=int, default=1, help="of the films")
    options = parser.parse_args()
    folder = options.folder / str(options.seed)
    films = render(folder, options.seed)
    real = sorted(file for file in options.clips.iterdir() if is_media_name(file)) if options.clips else []
    engine = load("tiny", device="cpu")
    print("| | " + " | ".join(COLUMNS) + " |\n|" + "---|" * (len(COLUMNS) + 1))
    for case in CASES:
        scored = score(engine, case, films[case.kind], real, folder / "store")
        scored = with_noise(scored, case.noise, engine.logit_scale)
        drawn = sum(case.label_of(film) == NONE for film, _ in films[case.kind])
        places = np.split(np.arange(len(scored.truth)), np.cumsum([(scored.truth != NONE).sum(), drawn]))
        of_labels, of_none, of_real = (scored.at(part) for part in places)
        print(shown(case.name, row_of(of_labels, of_none, of_real, options.draws)), flush=True)


def auroc(known: NDArray[np.float64], unknown: NDArray[np.float64]) -> float:
    """Return the probability that a known clip has a higher score than an unknown one; half of it where equal."""
    return float(roc_auc_score(*_is_known(known, unknown)))


def fpr95(known: NDArray[np.float64], unknown: NDArray[np.float64]) -> float:
    """Return the share of unknown clips that are kept by the highest threshold that keeps 95 % of the known."""
    false, true, _ = roc_curve(*_is_known(known, unknown), drop_intermediate=False)
    return float(false[true >= KEPT - 1e-12].min())


def _is_known(
    known: NDArray[np.float64], unknown: NDArray[np.float64]
) -> tuple[NDArray[np.bool_], NDArray[np.float64]]:
    return np.arange(len(known) + len(unknown)) < len(known), np.concatenate([known, unknown])


if __name__ == "__main__":
    main()
