"""`bike eval`: evaluate models on labelled videos, or predictions that were made before."""

from __future__ import annotations

import sys
from collections.abc import Callable, Iterator, Sequence
from contextlib import suppress
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING

from bike_cli.cli.eval.detection.command import OF_SPOTTING, evaluate_detection
from bike_cli.cli.eval.few_shot import evaluate_few_shot
from bike_cli.cli.eval.predictions import evaluate_predictions
from bike_cli.cli.eval.repeat import (
    apply_previous_arguments,
    apply_previous_settings,
    arguments_of,
    compare_with_previous,
    read_previous,
)
from bike_cli.cli.eval.request import MANY, EvalRequest, read_requested_videos
from bike_cli.cli.flags import Flags, command, trained_defaults
from bike_cli.cli.session import Session, session, show_reading
from bike_cli.cli.terminal.console import check_stdout, notice
from bike_cli.cli.terminal.targets import check_apart, check_ending, check_not_media, check_target, check_videos
from bike_cli.cli.videos.rejection import RejectionRule, rule_of
from bike_cli.config import EvalConfig
from bike_cli.data.predictions.files import inspect_files
from bike_cli.errors import ExitCode, UsageError
from bike_cli.settings import changed, flatten, resolve

if TYPE_CHECKING:
    from bike_cli.data.labelled.eval_sets import EvalSet
    from bike_cli.tasks.evaluate.evaluation import Evaluation
    from bike_cli.tasks.evaluate.mistakes import Mistakes
    from bike_cli.tasks.evaluate.report import EvaluationReport

DRAWN = ("--confusion", "--reliability")  # as a table or as a picture
ENDINGS = {"-o": [".json"], "--report": [".html", ".htm"], **{flag: [".csv", ".png"] for flag in DRAWN}}
OF_PROTOCOLS = {  # settings of these alone
    "fewshot": ("shots", "method", "trials"),
    "detection": ("tiou", *OF_SPOTTING),
}
OF_REJECTION = ("calibration", "reject", "promise")
WITHOUT_REJECTION = ("fewshot", "multilabel", "detection")  # protocols
MODEL_CONFIG = "config.json"  # in the folder of a model


def configure(flags: Flags, request: EvalRequest) -> tuple[EvalConfig, EvalRequest]:
    """Return the configuration of the first system, and the request with that of an earlier run."""
    previous = None if request.from_ is None else read_previous(request.from_)
    arguments = arguments_of(flags, request)
    if previous is not None:
        request, arguments = apply_previous_arguments(previous, flags, request)
    first = {name: values[0] for name, values in request.compared.items()}
    models = request.compared.get("model", ())
    defaults = trained_defaults(EvalConfig, models=models)
    config = resolve(EvalConfig, flags={**flags, **first}, file=request.config, defaults=defaults)
    if previous is not None:
        config = apply_previous_settings(previous, config)
    combined = request.combinations.items()
    systems = {name: changed(config, values) if values else config for name, values in combined}
    return config, replace(request, arguments=arguments, previous=previous, systems=systems)


def evaluate(config: EvalConfig, request: EvalRequest) -> ExitCode:
    """Evaluate models on labelled videos, with confidence intervals and significance tests.

    bike eval data/ -m base -m large --report report.html

    bike eval predictions.jsonl others.jsonl --labels truth.csv

    bike eval truth.json --protocol detection -m large

    bike eval found.jsonl --labels truth.json --protocol detection
    """
    if not request.data:
        raise UsageError("DATA: missing; name labelled videos, or predictions with --labels")
    _check_targets(config, request)
    if not request.targets:
        check_stdout("report", way_out="name a file with -o")
    _check_settings(config, request)
    if config.protocol == "detection":
        return evaluate_detection(config, request)
    inputs, is_predicted = inspect_files(request.data, merge=request.merge, labels=request.labels)
    _check_used(config, request, is_predicted=is_predicted)
    paths = [file.path for file in inputs]
    if config.protocol == "fewshot":
        made = evaluate_few_shot(config, request, paths)
    elif is_predicted:
        made = evaluate_predictions(config, request, inputs)
    else:
        made = _evaluate_videos(config, request, paths)
    if made is None:  # another process reports
        return ExitCode.DONE
    report, mistakes = made
    _write(report, mistakes, request)
    if request.previous is not None and (code := compare_with_previous(request.previous, report)) is not ExitCode.DONE:
        return code
    return ExitCode.SOME_FAILED if report.data.failed or report.systems_left_out else ExitCode.DONE


eval_command = command(evaluate, configure=configure, hidden=["compile"])  # processes load models uncompiled


def _check_targets(config: EvalConfig, request: EvalRequest) -> None:
    if request.output is not None:
        check_not_media(request.output, suggestion="report.json")
    check_apart(request.targets)
    read = list(_read_files(config, request))
    for flag, target in request.targets.items():
        check_target(target, read)
        check_ending(flag, target, ENDINGS[flag])
    for flag in DRAWN:
        if flag in request.targets:
            _check_drawn(flag, request.targets[flag], request)


def _check_drawn(flag: str, file: Path, request: EvalRequest) -> None:
    if file.suffix.lower() not in (".csv", ".png"):
        raise UsageError(f"{file}: is neither a table nor an image; end its name in .csv or .png")
    if request.multi_label:
        raise UsageError(f"{flag}: needs videos with one label each, and these have several; leave it out")
    if file.suffix.lower() == ".png":
        from bike_cli.cli.plots.files import check_drawing

        check_drawing(flag)


def _check_settings(config: EvalConfig, request: EvalRequest) -> None:
    """Raise UsageError for a setting of another protocol."""
    config.check_unseen_split(multi_label=request.multi_label, has_unknown=request.unknown is not None)
    drawn = () if config.unseen_split is None else ("trials",)
    for protocol, names in OF_PROTOCOLS.items():
        given = next((name for name in names if name in request.arguments and name not in drawn), None)
        if given is not None and config.protocol != protocol:
            problem = f"--{given.replace('_', '-')}: needs --protocol {protocol}, not {config.protocol}"
            raise UsageError(f"{problem}; give that, or leave it out", settings=("protocol",))
    rejects = next((name for name in OF_REJECTION if name in request.arguments), None)
    if rejects is not None and (config.protocol in WITHOUT_REJECTION or request.multi_label):
        problem = f"is not supported by the protocol {config.protocol}"
        problem = "needs videos with one label each, and these have several" if request.multi_label else problem
        raise UsageError(f"--{rejects}: {problem}; leave it out", settings=("protocol",))


def _check_used(config: EvalConfig, request: EvalRequest, *, is_predicted: bool) -> None:
    """Raise UsageError for a flag that would have no effect."""
    if is_predicted and config.protocol == "fewshot":
        problem = "protocol fewshot: learns from videos, and these are predictions"
        raise UsageError(f"{problem}; name labelled videos", settings=("protocol",))
    unused = MANY if is_predicted else ("names", "merge")
    given = next((name for name in unused if getattr(request, name)), None)
    if given is not None:
        problem = "is for videos, and these are predictions" if is_predicted else "is for predictions, not for videos"
        raise UsageError(f"--{given}: {problem}; leave it out")
    rejects = next((name for name in OF_REJECTION if name in request.arguments), None)
    if is_predicted and rejects is not None:
        raise UsageError(f"--{rejects}: is for videos, and these are predictions; give it to bike classify")


def _read_files(config: EvalConfig, request: EvalRequest) -> Iterator[Path]:
    """Yield the files that are read in addition to videos: data, labels, lexicons, templates, models."""
    settings = flatten(config)
    values = [*request.data, *request.labels, request.names, request.none_from, request.config, request.from_]
    values += [request.calibration]
    values += [value for name in MANY for value in (*getattr(request, name), settings[name])]
    for value in (*values, settings["attribute_model"]):
        path = Path("" if value is None else str(value))
        with suppress(OSError, ValueError):  # a template, for instance, is not the name of a file
            if path.is_dir() and (path / MODEL_CONFIG).is_file():
                yield from path.iterdir()
            elif path.exists():
                yield path


def _evaluate_videos(
    config: EvalConfig, request: EvalRequest, files: Sequence[str]
) -> tuple[EvaluationReport, Mistakes] | None:
    from bike_cli.tasks.evaluate.mistakes import Mistakes

    rule = rule_of(config, request.calibration)
    tested = read_requested_videos(request, files, names=request.labels)
    check_videos(*request.targets.values(), samples=tested.samples)
    with session(config, videos=len(tested.samples), quiet=request.quiet) as running:
        evaluation = _evaluation(config, request, tested, rule, running)
        show_reading(evaluation.read(), quiet=running.quiet, prints_progress=request.progress)
        if not evaluation.processes.is_first:
            return None
        report = evaluation.report(files, request.arguments)
        return report, Mistakes() if request.report is None else evaluation.mistakes()


def _evaluation(
    config: EvalConfig, request: EvalRequest, tested: EvalSet, rule: RejectionRule, running: Session
) -> Evaluation:
    models = request.compared.get("model", [config.engine.model])
    running.start(models)
    from bike_cli.tasks.evaluate.evaluation import Evaluation, System
    from bike_cli.tasks.evaluate.summary import check_protocol

    check_protocol(config, tested)
    engines, processes = running.load_in_each_process(models)
    systems = []
    for name, system in request.systems.items():
        engine = engines[system.engine.model]
        systems.append(System(name or engine.name, engine, system))
    return Evaluation(systems, tested, config, running.pool, processes, calibration=rule.calibration)


def _write(report: EvaluationReport, mistakes: Mistakes, request: EvalRequest) -> None:
    """Write and print the report; a file that cannot be written does not prevent the others."""
    from bike_cli.cli.eval.page import write_html
    from bike_cli.cli.eval.tables import print_tables, write_confusion, write_json, write_reliability

    writers: dict[str, Callable[[Path], None]] = {
        "-o": lambda file: write_json(report, file),
        "--report": lambda file: write_html(report, mistakes, file),
        "--confusion": lambda file: write_confusion(report, file),
        "--reliability": lambda file: write_reliability(report, file),
    }
    errors = []
    for flag, write in writers.items():
        if flag in request.targets:
            try:
                write(request.targets[flag])
            except UsageError as e:
                errors.append(e)
    if sys.stdout is not None:
        print_tables(report)
    for error in errors[1:]:
        notice(str(error), level="error")
    if errors:
        raise errors[0]
