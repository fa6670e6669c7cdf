"""`bike eval`: labelled videos, or predictions already made, become figures that one can trust."""

from __future__ import annotations

import sys
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import suppress
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from bike_cli.cli import options as o
from bike_cli.cli.eval.arguments import OUTPUTS, labels_of, targets_of, tested_of
from bike_cli.cli.eval.few_shot import check_shots, of_shots
from bike_cli.cli.eval.predictions import of_predictions
from bike_cli.cli.eval.repeat import arguments_of, compared_with, config_of_before, read_before, take_over
from bike_cli.cli.eval.systems import MANY, systems_of
from bike_cli.cli.terminal.console import (
    check_stdout,
    display,
    download_aliases,
    error_room,
    loading,
    plain,
    print_config,
    say,
    someone_watches,
    stderr,
)
from bike_cli.cli.terminal.targets import check_apart, check_target, check_videos
from bike_cli.config import EvalConfig, Protocol
from bike_cli.data.predictions.files import inspect_files
from bike_cli.errors import ExitCode, UsageError
from bike_cli.settings import dump, flatten, resolve

if TYPE_CHECKING:
    from bike_cli.tasks.evaluate.evaluation import Evaluation
    from bike_cli.tasks.evaluate.mistakes import Mistakes
    from bike_cli.tasks.evaluate.report import EvaluationReport

FIGURES = "Figures"
MODEL_CONFIG = "config.json"  # of a folder that is a model

Given = Annotated[
    list[str] | None,
    typer.Argument(
        metavar="DATA…",
        help="Class folders, CSV path,label, list files, Charades or ActivityNet annotations; or predictions.",
    ),
]
Labels = Annotated[
    list[Path] | None,
    typer.Option(
        "-l",
        "--labels",
        help="All classes (id,name; name,label; one per line), or those of each list; of predictions: labelled data.",
        show_default=False,
        rich_help_panel=o.DATA,
    ),
]
Names = Annotated[
    Path | None,
    typer.Option("--names", help="Of predictions: all classes.", show_default=False, rich_help_panel=o.DATA),
]
MultiLabel = Annotated[bool, typer.Option("--multi-label", help="Videos have several labels.", rich_help_panel=o.DATA)]
Unknown = Annotated[
    str | None,
    typer.Option(
        "--unknown",
        metavar="CLASS",
        help="A class whose videos are of none of the labels.",
        show_default=False,
        rich_help_panel=o.DATA,
    ),
]
Subset = Annotated[
    str | None,
    typer.Option("--subset", help="Of ActivityNet annotations.", show_default="validation", rich_help_panel=o.DATA),
]
Merge = Annotated[
    bool,
    typer.Option("--merge", help="Files of predictions are parts of one, as --shard makes.", rich_help_panel=o.DATA),
]
ProtocolOption = Annotated[
    Protocol | None,
    typer.Option("--protocol", help="Which figures.", show_default="standard", rich_help_panel=FIGURES),
]
OfficialOption = Annotated[
    bool | None,
    typer.Option(
        "--official", help="And what the official code would print.", show_default=False, rich_help_panel=FIGURES
    ),
]
Seed = Annotated[
    int | None, typer.Option("--seed", help="Of the bootstrap.", show_default="0", rich_help_panel=FIGURES)
]
Resamples = Annotated[
    int | None,
    typer.Option("--resamples", help="Of the bootstrap.", show_default="1000", rich_help_panel=FIGURES),
]
ReportFile = Annotated[
    Path | None,
    typer.Option("-o", "--output", help="Write everything as JSON.", show_default=False, rich_help_panel=o.OUTPUT),
]
Page = Annotated[
    Path | None,
    typer.Option("--report", help="Write a page to look at, as HTML.", show_default=False, rich_help_panel=o.OUTPUT),
]
Confusion = Annotated[
    Path | None,
    typer.Option(
        "--confusion",
        help="Write the first system's confusion matrix: .csv, or .png to look at.",
        show_default=False,
        rich_help_panel=o.OUTPUT,
    ),
]
From = Annotated[
    Path | None,
    typer.Option(
        "--from", help="Repeat the run of a JSON report, and say whether the digits agree.", show_default=False
    ),
]


Models = Annotated[
    list[str] | None,
    typer.Option("-m", "--model", help="See bike models. Several are compared.", rich_help_panel=o.MODEL),
]
Templates = Annotated[
    list[str] | None,
    typer.Option("--template", help="As for classify. Several are compared.", rich_help_panel=o.TEXTS),
]
Pools = Annotated[
    list[str] | None, typer.Option("--pool", help="tcs, mean. Several are compared.", rich_help_panel=o.FRAMES)
]
Lexicons = Annotated[
    list[str] | None,
    typer.Option("--attributes", help="As for classify. Several are compared.", rich_help_panel=o.TEXTS),
]


def eval_command(  # the signature is the manual
    data: Given = None,
    labels: Labels = None,
    names: Names = None,
    root: o.Root = None,
    multi_label: MultiLabel = False,
    unknown: Unknown = None,
    subset: Subset = None,
    merge: Merge = False,
    protocol: ProtocolOption = None,
    official: OfficialOption = None,
    seed: Seed = None,
    resamples: Resamples = None,
    shots: o.Shots = None,
    method: o.MethodOption = None,
    trials: o.Trials = None,
    model: Models = None,
    device: o.Device = None,
    precision: o.PrecisionOption = None,
    offline: o.Offline = None,
    frames: o.Frames = None,
    clips: o.Clips = None,
    crops: o.Crops = None,
    sampling: o.SamplingOption = None,
    pool: Pools = None,
    spot: o.SpotOption = None,
    temperature: o.Temperature = None,
    decoder: o.DecoderOption = None,
    workers: o.Workers = None,
    cache: o.Cache = None,
    cache_dir: o.CacheDir = None,
    template: Templates = None,
    attributes: Lexicons = None,
    attribute_weight: o.AttributeWeight = None,
    attribute_model: o.AttributeModel = None,
    output: ReportFile = None,
    report: Page = None,
    confusion: Confusion = None,
    from_: From = None,
    quiet: o.Quiet = False,
    verbose: o.Verbose = 0,
    config: o.ConfigFile = None,
    dump_config: o.DumpConfig = False,
) -> None:
    """Tell how right a model is on labelled videos, and whether another is really better.

    bike eval data/ -m base -m large --report report.html

    bike eval predictions.jsonl others.jsonl --labels truth.csv
    """
    given = locals()
    with error_room(quiet=quiet, verbose=verbose):
        raise typer.Exit(_run(given))


def _run(given: dict[str, object]) -> ExitCode:
    before = None
    if isinstance(file := given["from_"], Path):
        before = read_before(file)
        take_over(given, before, file)
    config, many = _configs(given)
    if before is not None:
        config = config_of_before(before, config)
    if given["dump_config"]:
        print_config(dump(config))
        return ExitCode.DONE
    files = given["data"]
    if not isinstance(files, list) or not files:
        raise UsageError("data: none given; name labelled videos, or predictions with --labels")
    _check_targets(given, files, config)
    if not targets_of(given, OUTPUTS):
        check_stdout("report", way_out="name a file with -o")
    inputs, is_predicted = inspect_files(files, merge=bool(given["merge"]))
    check_shots(given, config, is_predicted=is_predicted)
    _check_used(given, is_predicted=is_predicted)
    paths = [file.path for file in inputs]
    if config.protocol == "fewshot":
        made = of_shots(given, config, many, paths)
    elif is_predicted:
        made = of_predictions(given, config, inputs)
    else:
        made = _of_videos(given, config, many, paths)
    if made is None:  # another process tells
        return ExitCode.DONE
    report, mistakes = made
    _write(report, mistakes, given)
    if before is not None and (code := compared_with(before, report)) is not ExitCode.DONE:
        return code
    return ExitCode.SOME_FAILED if report.data.failed or report.systems_left_out else ExitCode.DONE


# -- what is asked for -------------------------------------------------------------------------------------------------


def _configs(given: dict[str, object]) -> tuple[EvalConfig, dict[str, list[str]]]:
    """Return the config of the first system, and the values of what systems differ in."""
    many: dict[str, list[str]] = {}
    for name in MANY:
        values = given[name]
        if isinstance(values, list) and values:
            many[name] = list(dict.fromkeys(str(value) for value in values))
    flags = {name: given.get(name) for name in o.fields_of(EvalConfig)}
    flags |= {name: many[name][0] if name in many else None for name in MANY}
    file = given["config"]
    return resolve(EvalConfig, flags=flags, file=file if isinstance(file, Path) else None), many


def _check_targets(given: dict[str, object], files: Sequence[str], config: EvalConfig) -> None:
    targets = targets_of(given, OUTPUTS)
    check_apart(targets)
    read = list(_read_files(given, files, config))
    for target in targets.values():
        check_target(target, read)
    matrix = targets.get("--confusion")
    if matrix is None:
        return
    if matrix.suffix.lower() not in (".csv", ".png"):
        raise UsageError(f"{matrix}: is neither a table nor a picture; let its name end in .csv or .png")
    if given["multi_label"]:
        raise UsageError("--confusion: videos have several labels, so none is taken for another; leave it out")
    if matrix.suffix.lower() == ".png":
        from bike_cli.cli.plots import check_drawing

        check_drawing("--confusion")


def _check_used(given: dict[str, object], *, is_predicted: bool) -> None:
    """Raise UsageError where something was asked for that would have no say."""
    of_others = MANY if is_predicted else ("names", "merge")
    asked = next((name for name in of_others if given[name]), None)
    if asked is not None:
        fact = "these are predictions, made already" if is_predicted else "is of predictions, and these are videos"
        raise UsageError(f"--{asked}: {fact}; leave it out")


def _read_files(given: dict[str, object], files: Sequence[str], config: EvalConfig) -> Iterator[Path]:
    """Yield what is read beside videos, as far as it is a file: data, labels, lexicons, templates, models."""
    told = [given[name] for name in ("labels", "names", "config", "from_", *MANY)]
    values = flatten(config)
    told += [values[name] for name in (*MANY, "attribute_model")]
    for value in (*files, *(one for some in told for one in (some if isinstance(some, list) else [some]))):
        path = Path("" if value is None else str(value))
        with suppress(OSError, ValueError):  # a template, say, is no name of a file
            if path.is_dir() and (path / MODEL_CONFIG).is_file():
                yield from path.iterdir()
            elif path.exists():
                yield path


# -- videos ------------------------------------------------------------------------------------------------------------


def _of_videos(
    given: dict[str, object], config: EvalConfig, many: Mapping[str, list[str]], files: Sequence[str]
) -> tuple[EvaluationReport, Mistakes] | None:
    from bike_cli.video.workers.pool import DecodePool

    tested = tested_of(given, files, names=labels_of(given))
    check_videos(*targets_of(given, OUTPUTS).values(), samples=tested.samples)
    with DecodePool(config.sampling, config.decoding, most=len(tested.samples)) as pool:
        models = many.get("model", [config.engine.model])
        download_aliases(models, offline=config.engine.offline, quiet=bool(given["quiet"]))
        pool.warm_up()  # while torch and the models are loaded
        from bike_cli.inference.processes import found, together
        from bike_cli.tasks.evaluate.evaluation import Evaluation
        from bike_cli.tasks.evaluate.mistakes import Mistakes
        from bike_cli.tasks.evaluate.summary import check_protocol

        check_protocol(config, tested)
        by, quiet = found(), bool(given["quiet"])
        quiet = quiet or not by.is_first
        with loading(", ".join(models), quiet=quiet):
            systems = systems_of(config, many, by)
        with together(by, systems[0].engine.encoder.placement.device):
            evaluation = Evaluation(systems, tested, config, pool, by=by)
            _watch(evaluation, quiet=quiet)
        if not by.is_first:
            return None
        report = evaluation.report(files, arguments_of(given))
        return report, evaluation.mistakes() if given["report"] is not None else Mistakes()


def _watch(evaluation: Evaluation, *, quiet: bool) -> None:
    console = stderr(quiet=quiet or not someone_watches())
    with display(console), console.status(plain("reading videos")) as status:
        for done, total, failure in evaluation.read():
            status.update(plain(f"reading videos: {done:,}/{total:,}"))
            if failure is not None and not quiet:
                say(failure.message, level="warning")


# -- out ---------------------------------------------------------------------------------------------------------------


def _write(report: EvaluationReport, mistakes: Mistakes, given: dict[str, object]) -> None:
    """Write and print what was found; what cannot be written keeps nothing else back."""
    from bike_cli.cli.eval.page import write_html
    from bike_cli.cli.eval.tables import print_tables, write_confusion, write_json

    ways: dict[str, Callable[[Path], None]] = {
        "output": lambda file: write_json(report, file),
        "report": lambda file: write_html(report, mistakes, file),
        "confusion": lambda file: write_confusion(report, file),
    }
    errors = []
    for name, write in ways.items():
        if isinstance(file := given[name], Path):
            try:
                write(file)
            except UsageError as e:
                errors.append(e)
    if sys.stdout is not None:
        print_tables(report)
    for error in errors[1:]:
        say(str(error), level="error")
    if errors:
        raise errors[0]
