"""`bike eval`: labelled videos, or predictions already made, become figures that one can trust."""

from __future__ import annotations

import json
import sys
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from bike_cli.cli import options as o
from bike_cli.cli.console import error_room, loading, plain, say, someone_watches, stderr
from bike_cli.cli.eval_fewshot import check_shots, of_shots
from bike_cli.cli.eval_predictions import is_predicted, of_predictions, tested_of
from bike_cli.cli.fewshot import DATA, MethodOption, Root, Shots, Trials
from bike_cli.cli.systems import MANY, systems_of
from bike_cli.config import EvalConfig, Protocol, dump, resolve
from bike_cli.errors import ExitCode, UsageError

if TYPE_CHECKING:
    from bike_cli.cli.html_report import Mistakes
    from bike_cli.tasks.evaluate import Evaluation

FIGURES = "Figures"
SAMENESS = 1e-6  # how far figures may be apart and still be the same digits, on another machine

Given = Annotated[
    list[str] | None,
    typer.Argument(
        metavar="DATA…",
        help="Class folders, CSV path,label, list files, Charades or ActivityNet annotations; or predictions.",
    ),
]
Labels = Annotated[
    Path | None,
    typer.Option(
        "-l",
        "--labels",
        help="All classes (id,name; name,label; one a line); of predictions: the labelled data.",
        show_default=False,
        rich_help_panel=DATA,
    ),
]
Names = Annotated[
    Path | None,
    typer.Option("--names", help="Of predictions: all classes.", show_default=False, rich_help_panel=DATA),
]
MultiLabel = Annotated[bool, typer.Option("--multi-label", help="Videos have several labels.", rich_help_panel=DATA)]
Unknown = Annotated[
    str | None,
    typer.Option(
        "--unknown",
        metavar="CLASS",
        help="A class whose videos are of none of the labels.",
        show_default=False,
        rich_help_panel=DATA,
    ),
]
Subset = Annotated[
    str,
    typer.Option("--subset", help="Of ActivityNet annotations.", rich_help_panel=DATA),
]
Merge = Annotated[
    bool, typer.Option("--merge", help="Files of predictions are parts of one, as --shard makes.", rich_help_panel=DATA)
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
    root: Root = None,
    multi_label: MultiLabel = False,
    unknown: Unknown = None,
    subset: Subset = "validation",
    merge: Merge = False,
    protocol: ProtocolOption = None,
    official: OfficialOption = None,
    seed: Seed = None,
    resamples: Resamples = None,
    shots: Shots = None,
    method: MethodOption = None,
    trials: Trials = None,
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
    config: o.ConfigFile = None,
    dump_config: o.DumpConfig = False,
) -> None:
    """Tell how right a model is on labelled videos, and whether another is really better.

    bike eval data/ -m base -m large --report report.html

    bike eval predictions.jsonl others.jsonl --labels truth.csv
    """
    given = locals()
    with error_room(quiet=quiet):
        raise typer.Exit(_run(given))


def _run(given: dict[str, object]) -> ExitCode:
    before = _before(given)
    config, many = _configs(given)
    if given["dump_config"]:
        typer.echo(dump(config), nl=False)
        return ExitCode.DONE
    files = given["data"]
    if not isinstance(files, list) or not files:
        raise UsageError("data: none given; name labelled videos, or predictions with --labels")
    _check_targets(given, files)
    predicted = [is_predicted(file) for file in files]
    if any(predicted) and not all(predicted):
        other = files[predicted.index(False)]
        raise UsageError(
            f"{other}: holds no predictions, but {files[predicted.index(True)]} does; give files of one kind"
        )
    check_shots(given, config, is_predicted=any(predicted))
    if config.protocol == "fewshot":
        made = of_shots(given, config, many, files)
    elif all(predicted):
        made = of_predictions(given, config, files)
    else:
        made = _of_videos(given, config, many, files)
    if made is None:  # another process tells
        return ExitCode.DONE
    report, mistakes = made
    _write(report, mistakes, given)
    if before is not None:
        return _compared_with(before, report)
    data = report["data"]
    return ExitCode.SOME_FAILED if isinstance(data, dict) and data["failed"] else ExitCode.DONE


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


def _before(given: dict[str, object]) -> Mapping[str, object] | None:
    """Take over what a report was made of, where --from names one."""
    file = given["from_"]
    if not isinstance(file, Path):
        return None
    try:
        report = json.loads(file.read_text(encoding="utf-8"))
        arguments = report["arguments"]
        report["systems"]
    except (OSError, ValueError, KeyError, TypeError) as e:
        raise UsageError(f"{file}: is no report of bike eval -o ({e}); name one") from e
    kept = (
        "output",
        "report",
        "confusion",
        "from_",
        "quiet",
        "config",
        "dump_config",
        "device",
        "workers",
        "cache",
        "cache_dir",
    )
    asked = [name for name, value in given.items() if value and name not in kept and name not in ("subset",)]
    if asked:
        raise UsageError(f"--from: repeats what {file} was made of, so {asked[0]} cannot be given, too; leave it out")
    for name, value in arguments.items():
        is_path = name in ("labels", "names", "root") and value is not None
        given[name] = Path(value) if is_path else value
    return report  # type: ignore[no-any-return]


def _check_targets(given: dict[str, object], files: Sequence[str]) -> None:
    from bike_cli.cli.fewshot import check_target

    read = [Path(file) for file in files] + [Path(str(given[n])) for n in ("labels", "names") if given[n] is not None]
    for name in ("output", "report", "confusion"):
        target = given[name]
        if isinstance(target, Path):
            check_target(target, read)
    matrix = given["confusion"]
    if isinstance(matrix, Path) and matrix.suffix.lower() not in (".csv", ".png"):
        raise UsageError(f"{matrix}: is neither a table nor a picture; let its name end in .csv or .png")
    if isinstance(matrix, Path) and matrix.suffix.lower() == ".png":
        from bike_cli.cli.plots import check_drawing

        check_drawing("--confusion")


# -- videos ------------------------------------------------------------------------------------------------------------


def _of_videos(
    given: dict[str, object], config: EvalConfig, many: Mapping[str, list[str]], files: Sequence[str]
) -> tuple[dict[str, object], Mistakes] | None:
    from bike_cli.video.pool import DecodePool

    tested = tested_of(given, files, names=given["labels"])
    with DecodePool(config.sampling, config.decoding, most=len(tested.samples)) as pool:
        pool.warm_up()  # while torch and the models are loaded
        from bike_cli.tasks.evaluate import Evaluation
        from bike_cli.tasks.evaluation_report import Judged, check_protocol, data_of, report_of
        from bike_cli.tasks.processes import found, together

        check_protocol(config, tested)
        by, quiet = found(), bool(given["quiet"])
        quiet = quiet or not by.is_first
        with loading(", ".join(many.get("model", [config.engine.model])), quiet=quiet):
            systems = systems_of(config, many, by)
        with together(by, systems[0].engine.encoder.placement.device):
            evaluation = Evaluation(systems, tested, pool, config.store, official=config.official, by=by)
            _watch(evaluation, quiet=quiet)
            if not by.is_first:
                return None
            tables = evaluation.tables()
        judged = [Judged(s.name, table, official) for s, (table, official) in zip(systems, tables, strict=True)]
        figures = report_of(judged, tested, evaluation.kept, config)
        failed = [{"path": f.source.id, "type": f.kind, "message": f.message} for f in evaluation.failures]
        data = data_of(tested, files, failed, len(evaluation.kept), evaluation.contents)
        from bike_cli.cli.eval_report import mistakes_of, whole_report
        from bike_cli.cli.html_report import Mistakes

        report = whole_report(given, config, data, figures, engine=systems[0].engine, model=systems[0].engine.name)
        # Their frames are read once more, as long as there are workers.
        wrong = mistakes_of(judged[0].table, evaluation.look) if given["report"] is not None else []
    return report, Mistakes(wrong, judged[0].name if len(judged) > 1 else "")


def _watch(evaluation: Evaluation, *, quiet: bool) -> None:
    with stderr(quiet=quiet or not someone_watches()).status(plain("reading videos")) as status:
        for done, total, failure in evaluation.read():
            status.update(plain(f"reading videos: {done:,}/{total:,}"))
            if failure is not None and not quiet:
                say(failure.message, level="warning")


# -- out ---------------------------------------------------------------------------------------------------------------


def _write(report: dict[str, object], mistakes: Mistakes, given: dict[str, object]) -> None:
    from bike_cli.cli.eval_report import print_tables, write_confusion, write_json
    from bike_cli.cli.html_report import write_html

    output, page = given["output"], given["report"]
    if isinstance(output, Path):
        write_json(report, output)
    if isinstance(page, Path):
        write_html(report, mistakes, page)
    matrix = given["confusion"]
    if isinstance(matrix, Path):
        write_confusion(report, matrix)
    if sys.stdout is not None:
        print_tables(report)


def _compared_with(before: Mapping[str, object], report: dict[str, object]) -> ExitCode:
    """Say whether figures are those of before."""
    apart = list(_apart(before["systems"], json.loads(json.dumps(report["systems"])), "systems"))
    if not apart:
        stderr().print(plain("the digits agree with those of --from", "dim"))
        return ExitCode.DONE
    were, are = (one["data"].get("contents") for one in (before, report))  # type: ignore[attr-defined]
    way_out = "compare data, model and versions"
    if were and are:
        way_out = "compare model and versions" if were == are else "videos or labels are others than before"
    say(f"--from: {len(apart)} figures differ, first {apart[0]}; {way_out}", level="error")
    return ExitCode.SOME_FAILED


def _apart(before: object, now: object, where: str) -> Iterator[str]:
    if isinstance(before, dict) and isinstance(now, dict):
        for key in {**before, **now}:
            yield from _apart(before.get(key), now.get(key), f"{where}.{key}")
    elif isinstance(before, list) and isinstance(now, list) and len(before) == len(now):
        for i, (one, other) in enumerate(zip(before, now, strict=True)):
            yield from _apart(one, other, f"{where}[{i}]")
    elif isinstance(before, int | float) and isinstance(now, int | float):
        if abs(before - now) > SAMENESS:
            yield f"{where}: {before} before, {now} now"
    elif before != now:
        yield f"{where}: {before!r} before, {now!r} now"
