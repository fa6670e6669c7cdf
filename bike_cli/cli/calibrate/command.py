"""`bike calibrate`: find out from labelled clips what the scores of a model mean."""

from __future__ import annotations

import shlex
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import TYPE_CHECKING, Literal

from bike_cli.cli.flags import Flags, Request, command
from bike_cli.cli.session import session, show_reading
from bike_cli.cli.terminal.console import check_stdout, loading, print_usage
from bike_cli.cli.terminal.targets import (
    check_ending,
    check_not_media,
    check_target,
    check_videos,
    warn_of_replacement,
)
from bike_cli.cli.videos.request import check_model, resolve_with_classifier
from bike_cli.config import CalibrateConfig, Flag, flag
from bike_cli.config.fields import DATA, OUTPUT
from bike_cli.errors import ExitCode
from bike_cli.settings import flag_name
from bike_cli.wording import count, percent

if TYPE_CHECKING:
    from bike_cli.engine.calibration.calibration import Calibration
    from bike_cli.engine.heads.saved_classifier import SavedClassifier

DATA_HELP = (
    "Labelled clips, other than those of the model's training: class folders, CSV files path,label, or list files."
)


@dataclass(frozen=True, kw_only=True)
class CalibrateRequest(Request):
    """The clips to calibrate with, and what to write."""

    data: tuple[str, ...] = field(metadata={"flag": Flag((), DATA_HELP)})
    labels: Path | None = flag(
        "-l",
        "--labels",
        default=None,
        panel=DATA,
        help="File of all classes: one per line, or CSV id,name or name,label.",
    )
    classifier: Path | None = flag(
        "--classifier",
        default=None,
        panel=DATA,
        help="Calibrate this classifier, saved by bike fewshot --save, including its model and settings; clips that it "
        "was trained on are left out.",
    )
    root: Path | None = flag(
        "--root",
        default=None,
        panel=DATA,
        default_text="the folder of the file",
        help="Folder that relative paths start from.",
    )
    none_label: str | None = flag(
        "--none-label",
        default=None,
        panel=DATA,
        metavar="CLASS",
        default_text="none, if there is such a class",
        help="Class of clips that show none of the labels.",
    )
    save: Path | None = flag(
        "--save",
        default=None,
        panel=OUTPUT,
        help="Write the calibration to this file, for bike classify --calibration.",
    )
    format: Literal["table", "json"] = flag(
        "-f", "--format", default="table", panel=OUTPUT, help="Print the report as tables, or as one line of JSON."
    )
    saved: SavedClassifier | None = None  # what `classifier` contains
    given: Flags = field(default_factory=dict)  # flags of settings


def configure(flags: Flags, request: CalibrateRequest) -> tuple[CalibrateConfig, CalibrateRequest]:
    """Return the configuration, whose defaults are those of a classifier or trained model, and the request with it."""
    config, saved = resolve_with_classifier(CalibrateConfig, flags, request)
    return config, replace(request, saved=saved, given=flags)


def calibrate(config: CalibrateConfig, request: CalibrateRequest) -> ExitCode:
    """Find, from labelled clips, when a video shows none of the labels or of a classifier's classes; calibrate scores.

    bike calibrate data/ --save cal.json

    bike calibrate data/ --classifier actions.bike --save cal.json

    bike calibrate data/ --promise 0.1 -f json
    """
    from bike_cli.data.labelled.eval_sets import NONE
    from bike_cli.engine.calibration.calibration import check_promise
    from bike_cli.tasks.calibrate.reading import read_calibration_set

    check_model(config.engine.model, request)
    check_stdout("report", way_out="redirect it to a file")
    _check_save(request)
    clips = read_calibration_set(
        request.data,
        none_label=request.none_label,
        names_file=request.labels,
        root=request.root,
        learned=() if request.saved is None else request.saved.labels,
    )
    check_promise(config.promise, sum(sample.label != NONE for sample in clips.samples))
    check_videos(request.save, samples=clips.samples)
    with session(config, videos=len(clips.samples), quiet=request.quiet) as running:
        engine = running.load()
        from bike_cli.tasks.calibrate.calibrate import CalibrationRun

        with loading("labels", quiet=running.quiet):
            run = CalibrationRun(engine, clips, config, running.pool, saved=request.saved)
        failed = show_reading(run.read(), quiet=request.quiet, prints_progress=request.progress)
        report = run.report()
    from bike_cli.cli.calibrate.tables import print_json, print_tables

    if request.save is not None:
        report.save(request.save)
    (print_json if request.format == "json" else print_tables)(report)
    if request.save is not None and not request.quiet:
        promise, known = percent(config.promise), count(report.known, "clip")
        usage = _usage(request, request.save, report.calibration)
        print_usage(f"{request.save}: {promise} promised, {known}; use it with {usage}")
    return ExitCode.SOME_FAILED if failed else ExitCode.DONE


calibrate_command = command(calibrate, configure=configure)


def _usage(request: CalibrateRequest, save: Path, calibration: Calibration) -> str:
    """Return the command that rejects under the same conditions; only a file of labels may still have to be named."""
    words = ["bike", "classify"]
    words += [] if request.config is None else ["--config", str(request.config)]
    for name, value in request.given.items():
        if name in calibration.conditions and value is not None and value is not False:
            words += [flag_name(name)] if value is True else [flag_name(name), str(value)]
    if request.classifier is not None:
        words += ["--classifier", str(request.classifier)]
    else:
        words += ["-l", str(request.labels or "labels.txt")]
    return shlex.join([*words, "--calibration", str(save), "--reject", "auto", "video.mp4"])


def _check_save(request: CalibrateRequest) -> None:
    """Raise UsageError, before anything is read, where the calibration cannot be written."""
    if request.save is None:
        return
    check_not_media(request.save, suggestion="cal.json", flag="--save")
    read = [Path(name) for name in request.data]
    check_target(
        request.save, [*read, *(file for file in (request.labels, request.classifier, request.config) if file)]
    )
    check_ending("--save", request.save, [".json"])
    warn_of_replacement(request.save)
