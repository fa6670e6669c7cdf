"""Measure `bike finetune` on rendered clips, through real H.264 files, and print one table in Markdown.

    python examples/measure_finetune.py                       the table: what each part of BIKE adds
    python examples/measure_finetune.py --choose 3e-4,1e-3    choose the learning rate on validation clips
    python examples/measure_finetune.py --keep DIR            keep the clips, for bike finetune DIR

The bundled model has words for the known motions; no caption in its training described the new ones. Each motion is
shown with many shapes and colours. Test clips combine shapes and colours that are combined neither in the training and
validation clips nor in the training of the bundled model.

The temporal head of the model already knows the known motions, so the ablation either omits it or starts with a new
one. All other weights start from the bundled model. Every row is trained in the same way, on the same clips and with
the same seeds. Results are means over seeds with standard errors.
"""

from __future__ import annotations

import argparse
import multiprocessing
import sys
import tempfile
import time
from collections.abc import Iterable, Mapping, Sequence
from concurrent.futures import ProcessPoolExecutor, as_completed
from contextlib import closing
from dataclasses import dataclass, replace
from pathlib import Path

import torch
from measure_tiny import in_threads, print_head, print_row
from shapes import EVERY_MOTION, MOTIONS, NEW_MOTIONS, Dice, Scenes, draw_scenes, frame_times, one, write_clip
from shapes import render as frames_of

from bike_cli.config import (
    AttributeConfig,
    BatchConfig,
    Branch,
    ClassifyConfig,
    EngineConfig,
    FinetuneConfig,
    HeadKind,
    LearningConfig,
    Pool,
    SpottingConfig,
    StoreConfig,
)
from bike_cli.data.labelled.train_sets import TrainSet, read_labelled
from bike_cli.engine.engine import Engine, load
from bike_cli.records import Prediction, Sample
from bike_cli.tasks.classify import classify
from bike_cli.tasks.evaluate.metrics import mean_of
from bike_cli.tasks.finetune.run import Finetuning
from bike_cli.tasks.finetune.validation import Validation
from bike_cli.video.workers.machine import cores
from bike_cli.video.workers.pool import DecodePool

# Apart from those of training, of tiny's validation and test, and of few-shot learning (see measure_fewshot.py).
SEEDS = {"train": 7_000_000, "val": 8_000_000, "test": 9_000_000}
# Clips of each motion on a side, of those that are learned from.
SHARES = {"train": 1.0, "val": 0.25, "test": 0.5}
MOTIONS_OF = {"known": MOTIONS, "new": NEW_MOTIONS}
# The bundled model keeps no row for words that it was not trained on: frozen, its text tower reads them all alike.
FREEZE = {"known": "text", "new": "none"}
SIDE_PX = 64  # as large as the bundled model looks at; larger clips take longer to render and to decode


# -- Clips --------------------------------------------------------------------------------------------------------


def scenes_of(side: str, motion: str, clips: int) -> Scenes:
    """Return scenes of one motion; those to test on are of pairs of shape and colour that others never have."""
    is_new, seed = motion in NEW_MOTIONS, SEEDS[side] + 10_000 * EVERY_MOTION.index(motion)
    # Enough that the motion comes up often enough.
    drawn = draw_scenes(Dice(seed), 40 * clips + 400, held_out=side == "test", new_motions=is_new)
    of_motion = (drawn.motion[:, 0] == EVERY_MOTION.index(motion)).nonzero().flatten()[:clips]
    assert len(of_motion) == clips
    return Scenes(**{name: value[of_motion] for name, value in vars(drawn).items()})


def render(folder: Path, motions: Sequence[str], clips: int) -> None:
    """Write `clips` clips of each motion to learn from, and those to validate and to test on, into class folders."""
    places: list[tuple[Scenes, int, Path]] = []
    for side, share in SHARES.items():
        for motion in motions:
            of_motion = folder / side / motion.replace(" ", "_")
            of_motion.mkdir(parents=True, exist_ok=True)
            scenes = scenes_of(side, motion, max(1, round(share * clips)))
            places += [(scenes, i, of_motion / f"{i:04d}.mp4") for i in range(len(scenes))]
    in_threads(write, places, workers=cores())


def write(place: tuple[Scenes, int, Path]) -> None:
    """Write one scene as H.264."""
    scenes, i, path = place
    write_clip(path, frames_of(one(scenes, i), frame_times(scenes, i), Dice(i), SIDE_PX)[0])


# -- What is compared ---------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Row:
    """A way to train, or one to use what was trained.

    Args:
        head: `none`, or a temporal head that begins `anew`, or the model's `own`.
        trained_as: the row whose runs this one uses; "": it has its own, or is not trained at all.
    """

    name: str
    pool: Pool = "tcs"
    head: str = "anew"
    branch: Branch = "video"
    trained_as: str = ""
    learns: bool = True


BEFORE = Row("zero-shot, before", head="own", learns=False)
SPOTTING, ATTRIBUTES = "`pool tcs, head transf`", "the same, `branch both`"
ROWS = (
    BEFORE,
    Row("zero-shot, `pool mean, head none`", pool="mean", head="none", learns=False),
    Row("`pool mean, head none`", pool="mean", head="none"),
    Row("`pool mean, head transf`", pool="mean"),
    # Attributes are learned after the video branch and leave it alone: one run has both.
    Row(SPOTTING, trained_as=ATTRIBUTES),
    Row(ATTRIBUTES, branch="both"),
    Row("`pool tcs`, the bundled head trained on", head="own"),
)


@dataclass(frozen=True)
class Job:
    """One run: a row with a seed and a rate."""

    task: str
    row: Row
    seed: int
    lr: float
    epochs: int
    batch_size: int
    clips: Path
    device: str
    workers: int
    tests: bool = True


@dataclass(frozen=True)
class Outcome:
    """How right a run is, for each row that it stands for: on what is validated on, and on each test clip."""

    job: Job
    validated: Mapping[str, float]
    right: Mapping[str, Sequence[bool]]
    attribute_weight: float | None
    seconds: float

    def top1(self, row: str) -> float:
        """Return the share of test clips that are told."""
        return sum(self.right[row]) / len(self.right[row])


# -- Training and testing -----------------------------------------------------------------------------------------


def config_of(job: Job) -> FinetuneConfig:
    """Return what the run is told; where it says nothing, the paper's recipe."""
    kind: HeadKind = "none" if job.row.head == "none" else "transf"
    return FinetuneConfig(
        engine=EngineConfig(model="tiny", device=job.device),
        store=StoreConfig(cache=False),
        spotting=SpottingConfig(pool=job.row.pool),
        learning=LearningConfig(
            branch=job.row.branch, head=kind, freeze=FREEZE[job.task], lr=job.lr, epochs=job.epochs, seed=job.seed
        ),
        batches=BatchConfig(batch_size=job.batch_size),
    )


def begun(row: Row, device: str) -> Engine:
    """Return the bundled model as a row begins with it."""
    engine = load("tiny", device=device)
    return engine if row.head == "own" else replace(engine, temporal_head=None)


def run(job: Job) -> Outcome:
    """Return what comes of a job."""
    begun_s = time.monotonic()
    torch.set_num_threads(1)  # other jobs have the other cores
    labelled, config = read_labelled(job.clips, keep_val=True), config_of(job)
    config = replace(config, decoding=replace(config.decoding, workers=job.workers))
    with tempfile.TemporaryDirectory() as folder, DecodePool(config.sampling, config.decoding) as pool:
        if not job.row.learns:
            engine = begun(job.row, job.device)
            right = {job.row.name: told(engine, labelled, config, pool)} if job.tests else {}
            return Outcome(job, {}, right, None, time.monotonic() - begun_s)
        training = Finetuning(begun(job.row, job.device), labelled, config, pool, Path(folder, "model"))
        with closing(training.folder):
            best: dict[str, float] = {}
            for record in training:
                if isinstance(record, Validation) and record.epoch:
                    best[record.what] = max(best.get(record.what, 0.0), record.metrics["top1"])
        validated = {row.name: best["fused" if row.branch == "both" else "video"] for row in rows_of(job.row)}
        engine, right = load(str(Path(folder, "model")), device=job.device), {}
        for row in rows_of(job.row) if job.tests else ():
            right[row.name] = told(engine, labelled, config, pool, fuses=row.branch == "both")
        return Outcome(job, validated, right, engine.recipe.attribute_weight, time.monotonic() - begun_s)


def rows_of(trained: Row) -> list[Row]:
    """Return the rows that the runs of one row stand for."""
    return [row for row in ROWS if trained.name in (row.name, row.trained_as)]


def told(
    engine: Engine, labelled: TrainSet, config: FinetuneConfig, pool: DecodePool, *, fuses: bool = False
) -> list[bool]:
    """Return for each test clip whether `bike classify` tells it."""
    attributes = AttributeConfig() if fuses else AttributeConfig(attributes="off")
    asked = ClassifyConfig(spotting=config.spotting, store=config.store, attributes=attributes, top=1)
    samples: tuple[Sample, ...] = labelled.test or ()
    answers = classify(engine, [sample.source for sample in samples], labelled.labels, asked, pool=pool)
    found = []
    for sample, answer in zip(samples, answers, strict=True):
        assert isinstance(answer, Prediction), answer
        found.append(answer.ranked[0].label == labelled.labels[sample.label])
    return found


def outcomes(jobs: Sequence[Job], at_once: int) -> list[Outcome]:
    """Return what comes of jobs, so many of them at once; print each to stderr as it is known."""
    if at_once == 1:
        return [tell(run(job)) for job in jobs]
    with ProcessPoolExecutor(at_once, multiprocessing.get_context("spawn")) as processes:
        running = [processes.submit(run, job) for job in jobs]
        for done in as_completed(running):
            tell(done.result())
        return [done.result() for done in running]


def tell(outcome: Outcome) -> Outcome:
    """Print one outcome in a line to stderr, and return it."""
    job = outcome.job
    validated = [f"validated {share:.4f}, {name}" for name, share in outcome.validated.items()]
    tested = [f"tested {outcome.top1(name):.4f}, {name}" for name in outcome.right]
    shares = "; ".join(validated + tested)
    print(f"{job.task}, {job.lr:g}, seed {job.seed}, {outcome.seconds:.0f} s: {shares}", file=sys.stderr)
    return outcome


# -- Printing -----------------------------------------------------------------------------------------------------


def figure(shares: Iterable[float]) -> str:
    """Return the mean of shares in per cent, with its standard error."""
    mean = mean_of(list(shares))
    return f"{100 * mean.value:.1f}" if mean.error is None else f"{100 * mean.value:.1f} ± {100 * mean.error:.1f}"


def print_rates(found: Sequence[Outcome]) -> None:
    """Print how right each row is on what is validated on, by motions and rate."""
    ways = sorted({(outcome.job.task, outcome.job.lr) for outcome in found})
    print_head("validation clips told, %", *(f"{task}, {rate:g}" for task, rate in ways))
    for row in (row for row in ROWS if row.learns):
        of_row = [outcome for outcome in found if row.name in outcome.validated]
        print_row(
            row.name,
            *(figure(o.validated[row.name] for o in of_row if (o.job.task, o.job.lr) == way) for way in ways),
        )


def print_table(found: Sequence[Outcome]) -> None:
    """Print how right each row is on the test clips."""
    tasks = list(dict.fromkeys(outcome.job.task for outcome in found))
    print_head("clips told, %, compositions never seen", *(f"{task} motions" for task in tasks))
    for row in ROWS:
        of_row = [outcome for outcome in found if row.name in outcome.right]
        print_row(row.name, *(figure(o.top1(row.name) for o in of_row if o.job.task == task) for task in tasks))
    counts = {o.job.task: len(next(iter(o.right.values()))) for o in found}
    print(f"\nTest clips: {', '.join(f'{count} of {task} motions' for task, count in counts.items())}.")
    weights = [f"{o.job.task} {o.attribute_weight:g}" for o in found if o.attribute_weight is not None]
    print(f"Weight of the attributes, chosen on validation clips: {', '.join(weights)}.")


# -- The program --------------------------------------------------------------------------------------------------


def jobs_of(options: argparse.Namespace, clips: Path) -> list[Job]:
    """Return the jobs that were asked for."""
    rates = [float(rate) for rate in options.choose.split(",")] if options.choose else [options.lr]
    trained = [row for row in ROWS if not row.trained_as and (row.learns or not options.choose)]
    workers = max(1, cores() // options.jobs)
    return [
        Job(
            *(task, row, seed, rate, options.epochs, options.batch_size, clips / task, options.device, workers),
            tests=not options.choose,
        )
        for task in options.motions
        for rate in rates
        for seed in range(options.seeds)  # outermost, so that a run cut short has figures for every row
        for row in trained
        if row.learns or not seed
    ]


def main() -> None:
    """Render, learn, and print."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument(
        "--motions",
        nargs="+",
        choices=MOTIONS_OF,
        default=list(MOTIONS_OF),
        help="known or new motions (default: both)",
    )
    parser.add_argument("--clips", type=int, default=64, help="training clips per motion (default: %(default)s)")
    parser.add_argument("--epochs", type=int, default=20, help="training epochs (default: %(default)s)")
    parser.add_argument("--batch-size", type=int, default=16, help="videos per step (default: %(default)s)")
    parser.add_argument(
        "--lr", type=float, default=3e-3, help="learning rate of heads, ten times that of CLIP (default: %(default)s)"
    )
    parser.add_argument("--seeds", type=int, default=3, help="runs per row (default: %(default)s)")
    parser.add_argument(
        "--choose", metavar="LR,…", help="compare these learning rates on validation clips, without a test"
    )
    parser.add_argument("--jobs", type=int, default=1, help="parallel runs (default: %(default)s)")
    parser.add_argument("--device", default="cpu", help="device of the model (default: %(default)s)")
    parser.add_argument("--keep", type=Path, help="folder for the clips; existing ones are reused")
    options = parser.parse_args()
    with tempfile.TemporaryDirectory() as made:
        folder = options.keep or Path(made)
        for task in options.motions:
            if not (folder / task).exists():
                render(folder / task, MOTIONS_OF[task], options.clips)
        found = outcomes(jobs_of(options, folder), options.jobs)
    if options.choose:
        print_rates(found)
        return
    print_table(found)


if __name__ == "__main__":
    main()
