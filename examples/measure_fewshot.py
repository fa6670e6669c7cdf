"""Measure `bike fewshot` on rendered clips, through real H.264 files, and print one table in Markdown.

    python examples/measure_fewshot.py                the table: known and new motions, every method, 1 to 16 shots
    python examples/measure_fewshot.py --keep DIR     keep the clips, for bike fewshot DIR/new

The bundled model has words for the known motions. No caption in its training described the new ones, so their text
means little and zero-shot accuracy is near chance. All results are means over draws with standard errors. Every method
gets the same draws, and is tested on all clips that are not drawn.
"""

from __future__ import annotations

import argparse
import tempfile
from pathlib import Path

from measure_tiny import in_threads
from shapes import EVERY_MOTION, MOTIONS, NEW_MOTIONS, Dice, draw_scenes, write_clip_of

from bike_cli.config import EngineConfig, FewshotConfig, SpottingConfig, StoreConfig
from bike_cli.data.labelled.train_sets import read_labelled
from bike_cli.engine.engine import Engine, load
from bike_cli.tasks.evaluate.metrics import mean_of
from bike_cli.tasks.fewshot.methods import BASELINE, METHODS
from bike_cli.tasks.fewshot.report import Report
from bike_cli.tasks.fewshot.study import Study
from bike_cli.video.workers.pool import DecodePool

# Apart from the seeds of training (0, 10000), of tiny's validation and test (1000000, 2000000), and of the clips on
# which the probe's constants were chosen (3000000, 3000001; 4000000 was looked at once).
SEEDS = {"known": 5_000_000, "new": 5_000_001}
MOTIONS_OF = {"known": MOTIONS, "new": NEW_MOTIONS}


def render(folder: Path, task: str, clips: int) -> None:
    """Write `clips` clips of each motion of a task into class folders."""
    motions = MOTIONS_OF[task]
    # Enough that each motion comes up often enough.
    scenes = draw_scenes(Dice(SEEDS[task]), 3 * clips * len(motions), held_out=None, new_motions=task == "new")
    places = []
    for motion in motions:
        of_motion = (scenes.motion[:, 0] == EVERY_MOTION.index(motion)).nonzero().flatten().tolist()[:clips]
        assert len(of_motion) == clips
        (folder / motion.replace(" ", "_")).mkdir(parents=True, exist_ok=True)
        places += [(i, folder / motion.replace(" ", "_") / f"{n:04d}.mp4") for n, i in enumerate(of_motion)]
    in_threads(lambda one: write_clip_of(scenes, one[0], one[1], seed=one[0]), places)


def study(engine: Engine, folder: Path, options: argparse.Namespace) -> Report:
    """Return the report on the clips of a folder."""
    config = FewshotConfig(
        engine=EngineConfig(model="tiny"),
        store=StoreConfig(cache=False),
        spotting=SpottingConfig(pool=options.pool),
        shots="1,2,4,8,16",
        method=options.method,
        trials=options.trials,
    )
    with DecodePool(config.sampling, config.decoding) as pool:
        running = Study(engine, read_labelled(folder), config, pool)
        for _ in running.read():
            pass
        return running.report()


def print_table(report: Report, task: str) -> None:
    """Print one task's rows, the best of each column in bold, and how often the probe is worse than others."""
    best = {
        shots: max(mean_of([o.top1 for o in report.of(method, shots)]).value for method in report.methods)
        for shots in report.shots
    }
    for method in report.methods:
        cells = []
        for shots in report.shots:
            mean = mean_of([outcome.top1 for outcome in report.of(method, shots)])
            text = f"{100 * mean.value:.1f} ± {100 * (mean.error or 0):.1f}"
            cells.append(f"**{text}**" if mean.value == best[shots] else text)
        print(f"| {task} | `{method}` | " + " | ".join(cells) + " |", flush=True)


def print_worse(report: Report, task: str) -> None:
    """Print in how many draws the probe is below the others, and by how much in the mean."""
    for other in (BASELINE, "proto", "tip"):
        for shots in report.shots if other in report.methods and "probe" in report.methods else ():
            pairs = zip(report.of("probe", shots), report.of(other, shots), strict=True)
            gains = [ours.top1 - theirs.top1 for ours, theirs in pairs]
            mean, below = mean_of(gains), sum(gain < 0 for gain in gains)
            figures = f"{100 * mean.value:+.2f} ± {100 * (mean.error or 0):.2f}"
            print(f"{task}, {shots} shots: probe against {other} {figures}, below it in {below} of {len(gains)} draws")


def main() -> None:
    """Render, learn, and print."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument(
        "--clips", type=int, default=56, help="clips per class, of which up to 16 are drawn (default: %(default)s)"
    )
    parser.add_argument("--trials", type=int, default=40, help="number of draws (default: %(default)s)")
    parser.add_argument("--method", default="all", help=f"all, or one of {', '.join(METHODS)} (default: %(default)s)")
    parser.add_argument("--pool", choices=("tcs", "mean"), default="tcs", help="as in bike fewshot")
    parser.add_argument("--device", default="cpu", help="device of the model (default: %(default)s)")
    parser.add_argument("--keep", type=Path, help="folder for the clips; existing ones are reused")
    options = parser.parse_args()
    engine = load("tiny", device=options.device)
    reports: dict[str, Report] = {}
    with tempfile.TemporaryDirectory() as made:
        folder = options.keep or Path(made)
        print("| motions | method | " + " | ".join(f"{k} shot{'s' if k > 1 else ''}" for k in (1, 2, 4, 8, 16)) + " |")
        print("|---|---|" + "---|" * 5, flush=True)
        for task in MOTIONS_OF:
            if not (folder / task).exists():
                render(folder / task, task, options.clips)
            reports[task] = study(engine, folder / task, options)
            print_table(reports[task], task)
    print()
    for task, report in reports.items():
        print_worse(report, task)


if __name__ == "__main__":
    main()
