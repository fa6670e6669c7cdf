"""`bike labels`: check a list of labels, correct it, and join it with descriptions."""

from __future__ import annotations

import os
import sys
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Literal

import typer

from bike_cli.cli import options as o
from bike_cli.cli.completion import models
from bike_cli.cli.flags import metavar_of
from bike_cli.cli.help import BikeCommand, BikeGroup
from bike_cli.cli.terminal.console import check_stdout, handle_errors, loading, notice, print_usage, stdout
from bike_cli.cli.terminal.output_file import open_output
from bike_cli.cli.terminal.signals import import_torch
from bike_cli.cli.terminal.targets import check_not_media, check_target, warn_of_replacement
from bike_cli.config import ClassifyConfig, EngineConfig
from bike_cli.errors import ExitCode, UsageError
from bike_cli.json_text import as_json
from bike_cli.settings import naming_origins, resolve, variable_of, warn_of_unknown_variables
from bike_cli.wording import count

if TYPE_CHECKING:
    from bike_cli.data.label_checks.describing import MergedDescriptions
    from bike_cli.data.label_checks.findings import CheckedLabels, Finding
    from bike_cli.data.label_checks.fixing import FixedLabels
    from bike_cli.data.labels import LabelSet

labels_app = typer.Typer(
    cls=BikeGroup, help="Check a list of labels, correct it, and describe its labels.", no_args_is_help=True
)

NAMED = 10  # labels in warnings; a list may have thousands
STDIN, STDIN_NAME = Path("-"), Path("stdin")

CheckFormat = Literal["table", "json"]
LabelsFile = Annotated[
    Path | None,
    typer.Argument(metavar="FILE", help="File of labels, in any form that bike classify -l reads; - is stdin."),
]
LabelList = Annotated[
    list[str] | None,
    typer.Option("-L", metavar="A,B,…", help="Labels, separated by commas; repeat to add more."),
]
Model = Annotated[
    str | None,
    typer.Option(
        "-m",
        "--model",
        autocompletion=models,
        show_default="base, if it is on this disk",
        help="Model to check the labels with; see bike models.",
    ),
]


@labels_app.command("check", cls=BikeCommand)
def check_command(
    file: LabelsFile = None,
    label_list: LabelList = None,
    model: Model = None,
    no_model: Annotated[bool, o.switch("--no-model", help="Leave out the checks that need a model.")] = False,
    template: Annotated[
        str | None,
        typer.Option("--template", help="Prompt template, as in bike classify.", show_default="the model's own"),
    ] = None,
    fix: Annotated[
        Path | None,
        typer.Option("--fix", metavar="OUT", help="Write a corrected list to this .txt, .csv or .yaml file."),
    ] = None,
    format_: Annotated[
        CheckFormat | None,
        typer.Option(
            "-f",
            "--format",
            metavar=metavar_of(CheckFormat),
            show_default="a table on a terminal, json elsewhere",
            help="Output format.",
        ),
    ] = None,
    strict: Annotated[bool, o.switch("--strict", help="Exit with code 3 if anything is found.")] = False,
    offline: o.Offline = None,
    quiet: o.Quiet = False,
    verbose: o.Verbose = 0,
) -> None:
    """Find labels that a model reads badly, and say how to write them.

    The exit code is 0, whatever is found; with --strict, it is 3 if anything is.

    bike labels check labels.txt

    bike labels check labels.txt -m tiny --fix better.txt
    """
    with handle_errors(quiet=quiet, verbose=verbose), naming_origins():
        check_stdout("report", way_out="redirect it to a file")
        warn_of_unknown_variables()
        labels = _labels_to_check(file, label_list or [])
        if fix is not None:
            _check_written(fix, [] if file is None else [file], flag="--fix")
        from bike_cli.data.label_checks.fixing import fix_labels
        from bike_cli.data.label_checks.spelling import check_spelling

        if no_model and (model is not None or template is not None):
            raise UsageError("--no-model: leaves out the checks of a model; leave out -m and --template, or --no-model")
        found = check_spelling(labels)
        used = None if no_model else _model_to_use(model, offline=offline, quiet=quiet)
        if used is not None:
            found += _check_with(used, labels, template, quiet=quiet)
        place = {line.where: i for i, line in enumerate(labels.lines)}
        found.sort(key=lambda finding: place.get(finding.where, -1 if finding.label else len(place)))
        fixed = None if fix is None else fix_labels(labels, found)
        _report(labels, found, fixed, used, format_)
        if fix is not None and fixed is not None:
            _write_fixed(fixed, fix, found, quiet=quiet)
        if strict and found:
            raise typer.Exit(ExitCode.SOME_FAILED)


@labels_app.command("expand", cls=BikeCommand)
def expand_command(
    file: Annotated[
        Path, typer.Argument(metavar="FILE", help="File of labels, with descriptions or without; - is stdin.")
    ],
    merge: Annotated[
        list[Path] | None,
        typer.Option(
            "--merge", metavar="FILE", help="File of labels with descriptions; - is stdin; repeat to merge several."
        ),
    ] = None,
    output: Annotated[
        Path | None,
        typer.Option("-o", "--output", help="Write to this .yaml or .csv file.", show_default="YAML on stdout"),
    ] = None,
    prompt: Annotated[
        bool, o.switch("--prompt", help="Print a prompt that asks a language model for descriptions of these labels.")
    ] = False,
    strict: Annotated[
        bool, o.switch("--strict", help="Exit with code 3 if a label has no description, or a description no label.")
    ] = False,
    quiet: o.Quiet = False,
    verbose: o.Verbose = 0,
) -> None:
    """Join labels and their descriptions to one file, which -l of other commands reads.

    bike labels expand labels.txt --prompt

    bike labels expand labels.txt --merge descriptions.yaml -o described.yaml
    """
    with handle_errors(quiet=quiet, verbose=verbose):
        from bike_cli.data.label_checks.describing import description_prompt, merge_descriptions
        from bike_cli.data.label_checks.fixing import labels_text

        if [file, *(merge or [])].count(STDIN) > 1:
            raise UsageError("-: stands for stdin, which can be read only once; name files instead")
        if prompt and (merge or output is not None):
            raise UsageError("--prompt: only prints a prompt; leave out --merge and -o, or --prompt")
        if output is None:
            check_stdout("list", way_out="name a file with -o")
        else:
            _check_written(output, [file, *(merge or [])])
        labels = _read_label_set(file)
        if prompt:
            typer.echo(description_prompt(labels.labels), nl=False)
            return
        merged = merge_descriptions(labels, [_read_label_set(path) for path in merge or []])
        target = output or Path("labels.yaml")  # on stdout, YAML
        text = labels_text(merged.labels, target)
        if output is None:
            typer.echo(text, nl=False)
        else:
            with open_output(output) as stream:
                stream.write(text)
        _warn_of_unmatched(STDIN_NAME if file == STDIN else file, merged)
        described = count(len(merged.labels.descriptions), "described label")
        print_usage(f"{output or 'stdout'}: {described} of {len(labels.labels)}", quiet=quiet)
        if strict and (merged.undescribed or merged.strange):
            raise typer.Exit(ExitCode.SOME_FAILED)


def _warn_of_unmatched(file: Path, merged: MergedDescriptions) -> None:
    """Warn of labels without descriptions, and of descriptions without a label, of which the first are named."""
    for label in merged.undescribed[:NAMED]:
        notice(f"{file}: label {label!r} has no description", level="warning")
    if (more := len(merged.undescribed) - NAMED) > 0:
        notice(f"{file}: {count(more, 'more label')} without a description", level="warning")
    for label in merged.strange[:NAMED]:
        notice(f"{file}: has no label {label!r}, which is described; its descriptions are left out", level="warning")
    if (more := len(merged.strange) - NAMED) > 0:
        notice(f"{file}: has no label for {count(more, 'more description')}; left out, too", level="warning")


def _labels_to_check(file: Path | None, label_list: list[str]) -> CheckedLabels:
    from bike_cli.data.label_checks.reading import parse_to_check, read_to_check, text_to_check

    if file is not None and label_list:
        raise UsageError("labels: both FILE and -L were given; choose one")
    if file is None and not label_list:
        raise UsageError("labels: missing; name a file of labels, or give -L 'running, jumping'")
    if file is None:
        return parse_to_check(label_list)
    return text_to_check(_text_of_stdin(), STDIN_NAME) if file == STDIN else read_to_check(file)


def _read_label_set(file: Path) -> LabelSet:
    from bike_cli.data.label_files import read_table
    from bike_cli.data.labels import label_set, read_label_set

    return label_set(read_table(_text_of_stdin(), STDIN_NAME)) if file == STDIN else read_label_set(file)


def _text_of_stdin() -> str:
    from bike_cli.data.lines import decode_text

    if sys.stdin is None:
        raise UsageError("stdin: is closed; name a file of labels instead of -")
    return decode_text(sys.stdin.buffer.read(), STDIN_NAME, of="labels")


def _check_written(file: Path, read: list[Path], flag: str = "-o") -> None:
    """Raise UsageError, before anything is read, if a list of labels cannot be written to a file."""
    from bike_cli.data.label_checks.fixing import SUFFIXES

    check_not_media(file, suggestion="labels.txt", flag=flag)
    check_target(file, read)
    if file.suffix.lower() not in SUFFIXES:
        raise UsageError(f"{flag} {file}: labels are written as .txt, .csv or .yaml; end the name in one of these")
    warn_of_replacement(file)


def _model_to_use(model: str | None, *, offline: bool | None, quiet: bool) -> EngineConfig | None:
    """Return the configuration of the model; None, with a note, for a default that is not on this disk."""
    from bike_cli.engine.models.aliases import is_on_disk

    config = resolve(EngineConfig, flags={"model": model, "offline": offline})
    is_given = model is not None or variable_of("model") in os.environ
    if is_given or is_on_disk(config.model):
        return config
    print_usage(
        f"{config.model}: is not on this disk, so the checks that need a model are left out; name one with -m, or "
        f"download it with bike models pull {config.model}",
        quiet=quiet,
    )
    return None


def _check_with(config: EngineConfig, labels: CheckedLabels, template: str | None, *, quiet: bool) -> list[Finding]:
    template = resolve(ClassifyConfig, flags={"template": template}).template
    with loading(config.model, quiet=quiet):
        from bike_cli.engine.models.aliases import download_missing

        download_missing([config.model], offline=config.offline)
        import_torch()
        from bike_cli.engine.engine import load_configured
        from bike_cli.tasks.label_check import check_with_model

        return check_with_model(load_configured(config), labels, template=template)


def _report(
    labels: CheckedLabels,
    found: list[Finding],
    fixed: FixedLabels | None,
    used: EngineConfig | None,
    format_: CheckFormat | None,
) -> None:
    if format_ == "json" or (format_ is None and not sys.stdout.isatty()):
        report: dict[str, object] = {"labels": len(labels.lines), "model": None if used is None else used.model}
        report |= {"findings": [asdict(finding) for finding in found]}
        if fixed is not None:
            report["fixed"] = _as_object(fixed)
        typer.echo(as_json(report))
        return
    from bike_cli.cli.labels.tables import show_findings

    show_findings(stdout(), len(labels.lines), found)


def _as_object(fixed: FixedLabels) -> dict[str, object]:
    return {
        "labels": list(fixed.labels.labels),
        "changed": [{"where": line.where, "label": line.text, "corrected": text} for line, text in fixed.changed],
        "merged": [{"where": line.where, "label": line.text, "into": text} for line, text in fixed.merged],
        "removed": [{"where": line.where, "label": line.text} for line in fixed.removed],
    }


def _write_fixed(fixed: FixedLabels, fix: Path, found: list[Finding], *, quiet: bool) -> None:
    from bike_cli.data.label_checks.fixing import labels_text

    text = labels_text(fixed.labels, fix, ids=fixed.ids, names=fixed.names)
    with open_output(fix) as stream:
        stream.write(text)
    if fix.suffix.lower() != ".csv" and (fixed.ids or fixed.names):
        notice(f"{fix}: leaves out the ids or names of the file; end its name in .csv to keep them", level="warning")
    for line, kept in fixed.merged:
        notice(f"{line.where}: merged {line.text!r} into {kept!r}", level="warning")
    for line in fixed.removed:
        notice(f"{line.where}: left out {line.text!r}", level="warning")
    left = sum(finding.corrected is None for finding in found)
    parts = [count(len(fixed.labels.labels), "label"), f"{len(fixed.changed)} changed", f"{len(fixed.merged)} merged"]
    parts += [f"{count(left, 'problem')} left, see above"] if left else []
    print_usage(f"{fix}: {', '.join(parts)}", quiet=quiet)
