"""`bike fewshot`: learn classes from a few labelled videos, report accuracy, and save a classifier."""

from __future__ import annotations

import shlex
import sys
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from bike_cli.cli.flags import TrainingRequest, command
from bike_cli.cli.session import session, show_reading
from bike_cli.cli.terminal.console import check_stdout, loading, print_usage
from bike_cli.cli.terminal.targets import (
    check_apart,
    check_ending,
    check_model_folder,
    check_not_media,
    check_target,
    check_videos,
    explain_unwritable,
    warn_of_replacement,
)
from bike_cli.config import FewshotConfig, flag
from bike_cli.config.fields import DATA, LEARNING, OUTPUT
from bike_cli.errors import ExitCode, UsageError
from bike_cli.wording import count, percent

if TYPE_CHECKING:
    from bike_cli.engine.heads.saved_classifier import SavedClassifier
    from bike_cli.engine.models.parts import Checkpoint
    from bike_cli.tasks.fewshot.report import Report
    from bike_cli.tasks.fewshot.study import Study


@dataclass(frozen=True, kw_only=True)
class FewshotRequest(TrainingRequest):
    """The videos to learn from and to test on, and what to write."""

    test: Path | None = flag("--test", default=None, panel=DATA, help="Videos to test on, in the same form as DATA.")
    also: tuple[str, ...] = flag(
        "--also",
        default=(),
        panel=LEARNING,
        metavar="A,B,…",
        help="Labels without videos for the saved classifier, recognised by their text; repeat to add more.",
    )
    output: Path | None = flag(
        "-o", "--output", default=None, panel=OUTPUT, help="Write the report to this file, as JSON."
    )
    save: Path | None = flag(
        "--save",
        default=None,
        panel=OUTPUT,
        help="Save the first draw's classifier for bike classify --classifier; with --method bike, save a model "
        "folder for --model.",
    )
    plots: Path | None = flag(
        "--plots",
        default=None,
        panel=OUTPUT,
        help="Write the learning curve and the confusion matrix as PNG files into this folder; needs bike-cli[plots].",
    )


def fewshot(config: FewshotConfig, request: FewshotRequest) -> ExitCode:
    """Learn your classes from a few videos each, and report the accuracy.

    bike fewshot data/ --shots 2

    bike fewshot data/ --shots 4 --save actions.bike && bike classify --classifier actions.bike clips/
    """
    from bike_cli.data.labelled.train_sets import read_labelled

    _check_targets(config, request)
    also = _further_labels(request)
    labelled = read_labelled(str(request.data), names_file=request.labels, test=request.test, root=request.root)
    samples = [*labelled.train, *(labelled.test or ())]
    check_videos(request.output, request.save, samples=samples)
    if request.output is None:
        check_stdout("report", way_out="name a file with -o")
    with session(config, videos=len(samples), quiet=request.quiet) as running:
        engine = running.load()
        from bike_cli.tasks.fewshot.study import Study

        with loading("labels", quiet=running.quiet):
            study = Study(engine, labelled, config, running.pool)
        study.check_also(also)
        failed = show_reading(study.read(), quiet=request.quiet, prints_progress=request.progress)
        report = study.report()
        if request.save is not None:
            learned = _save(study, request.save, also)
    from bike_cli.cli.fewshot_tables import print_report, write_report

    if request.output is not None:
        data = {name: getattr(request, name) for name in ("data", "test", "labels", "root")}
        write_report(report, request.output, data={k: None if v is None else str(v) for k, v in data.items()})
    if sys.stdout is not None:
        print_report(report)
    if request.save is not None and not request.quiet:
        _print_usage(report, request.save, learned)
    if request.plots is not None:
        from bike_cli.cli.plots.files import write_plots

        write_plots(report, request.plots)
    return ExitCode.SOME_FAILED if failed else ExitCode.DONE


fewshot_command = command(fewshot)


def _check_targets(config: FewshotConfig, request: FewshotRequest) -> None:
    """Raise UsageError, before anything is read, where report, classifier or plots cannot be written."""
    read = [file for file in (request.data, request.test, request.labels, request.config) if file is not None]
    if request.output is not None:
        check_not_media(request.output, suggestion="report.json")
    if request.save is not None:
        check_not_media(request.save, suggestion="actions.bike", flag="--save")
    trains_model = config.method.split(",")[-1].strip() == "bike"
    if request.save is not None and trains_model:
        check_model_folder(request.save)
    for file in (request.output, None if trains_model else request.save):
        if file is not None:
            check_target(file, read)
    if request.output is not None:
        check_ending("-o", request.output, [".json"])
    if request.save is not None and not trains_model:
        check_ending("--save", request.save, [".bike"])
    check_apart({"-o": request.output, "--save": request.save})
    if request.save is not None:
        warn_of_replacement(request.save)
    if request.plots is not None:
        from bike_cli.cli.plots.files import check_plots

        check_plots(request.plots)


def _further_labels(request: FewshotRequest) -> tuple[str, ...]:
    from bike_cli.data.labels import parse_labels

    if not request.also:
        return ()
    if request.save is None:
        raise UsageError("--also: adds labels to the saved classifier, and none is saved; add --save actions.bike")
    return parse_labels(request.also, named="--also")


def _save(study: Study, save: Path, also: Sequence[str]) -> SavedClassifier | Checkpoint:
    from bike_cli.engine.models.weights import UNWRITABLE
    from bike_cli.tasks.fewshot.learning import save_learned

    learned = study.learned(also=also)
    with explain_unwritable(save, UNWRITABLE):
        save_learned(learned, save)
    return learned


def _print_usage(report: Report, save: Path, learned: SavedClassifier | Checkpoint) -> None:
    method, shots = report.methods[-1], max(report.shots)
    command = shlex.join(["bike", "classify", "-m" if save.is_dir() else "--classifier", str(save), "video.mp4"])
    classifier = f"{method}, {count(shots, 'shot')}, first draw"
    print_usage(f"{save}: {classifier}; use it with {command}")
    from bike_cli.engine.heads.saved_classifier import SavedClassifier
    from bike_cli.tasks.fewshot.held_out import why_not_calibrated

    if not isinstance(learned, SavedClassifier):
        return
    if learned.calibration is None:
        problem = why_not_calibrated(learned, len(report.draws[0].test))
        print_usage(f"{save}: has no calibration for --reject auto: {problem}")
    else:
        clips, promise = count(len(learned.calibration.values), "test video"), percent(learned.calibration.promise)
        print_usage(
            f"{save}: calibrated on {clips}: --reject auto loses at most {promise} of the videos of these classes, "
            "on average; how many other videos it catches is unknown"
        )
