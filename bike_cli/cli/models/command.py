"""`bike models`: list the models that `--model` accepts, download them, and verify what was downloaded."""

from __future__ import annotations

import shlex
import sys
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from bike_cli.cli import options as o
from bike_cli.cli.completion import families, licences, model_names
from bike_cli.cli.flags import with_flags_of
from bike_cli.cli.help import BikeCommand, BikeGroup
from bike_cli.cli.terminal.console import check_stdout, handle_errors, notice, print_usage, stdout
from bike_cli.cli.terminal.signals import import_torch
from bike_cli.config import EngineConfig
from bike_cli.errors import ExitCode, UsageError
from bike_cli.json_text import as_json
from bike_cli.settings import naming_origins, resolve, warn_of_unknown_variables
from bike_cli.wording import count

if TYPE_CHECKING:
    from bike_cli.engine.download.verify import Verified

models_app = typer.Typer(cls=BikeGroup, invoke_without_command=True)

Everything = Annotated[bool, o.switch("--all", "-a", help="List all weights of open_clip that bike runs, by family.")]
Family = Annotated[
    str | None,
    typer.Option("--family", metavar="NAME", autocompletion=families, help="List only this family, such as SigLIP2."),
]
Licence = Annotated[
    str | None,
    typer.Option("--licence", metavar="NAME", autocompletion=licences, help="List only this licence, such as MIT."),
]
MaxSize = Annotated[
    str | None,
    typer.Option("--max-size", metavar="SIZE", help="List only downloads up to this size: 500MB, 2GB."),
]
Installed = Annotated[bool, o.switch("--installed", help="List only models on this disk.")]
Json = Annotated[bool, o.switch("--json", help="Print one JSON object per line.")]


@models_app.command("list", cls=BikeCommand)
def list_command(
    everything: Everything = False,
    family: Family = None,
    licence: Licence = None,
    max_size: MaxSize = None,
    installed: Installed = False,
    json_lines: Json = False,
    verbose: o.Verbose = 0,
) -> None:
    """List the models; the same as bike models without a command.

    bike models --family siglip2

    bike models --licence apache --max-size 2GB
    """
    with handle_errors(verbose=verbose):
        check_stdout("list", way_out="redirect it to a file")
        max_bytes = None if max_size is None else o.size_in_bytes(max_size)
        from bike_cli.cli.models.tables import show_families, show_names

        import_torch()
        from bike_cli.engine.models.listing import known_models, selected

        known = known_models()
        models = selected(known, family=family, licence=licence, max_bytes=max_bytes, installed=installed)
        if json_lines or not sys.stdout.isatty():
            for model in models:
                typer.echo(as_json(asdict(model)))
            return
        if not models:
            notice("no model matches these filters", level="warning")
            return
        console = stdout()
        if everything or any(value is not None for value in (family, licence, max_size)):
            show_families(console, models)
            return
        tags = [model for model in models if "," in model.name]
        # A tag that has a short name is listed under that name.
        short = {(model.arch, model.tag) for model in known if "," not in model.name}
        here = [model for model in tags if model.bytes_on_disk is not None and (model.arch, model.tag) not in short]
        show_names(console, [*(model for model in models if "," not in model.name), *here])
        if not installed:
            typer.echo(f"bike also runs {len(tags)} weights of open_clip; to list them: bike models --all", err=True)


@models_app.callback()
@with_flags_of(list_command)
def models_command(context: typer.Context, **flags: object) -> None:
    """List models with their sizes, inputs and licences, download them, and verify downloads."""
    command = context.invoked_subcommand
    if command is None:
        list_command(**flags)  # type: ignore[arg-type]
    elif any(flags.values()):
        with handle_errors():
            raise UsageError(f"bike models {command}: flags must follow {command}; move them")


@models_app.command("pull", cls=BikeCommand)
def pull_command(
    model: Annotated[
        str,
        typer.Argument(
            metavar="NAME",
            autocompletion=model_names,
            help="Short name, ARCH,TAG or hf-hub:OWNER/NAME; see bike models.",
        ),
    ],
    to: Annotated[
        Path | None,
        typer.Option("--to", metavar="DIR", help="Write a folder to copy to another machine, for use with -m DIR."),
    ] = None,
    offline: o.Offline = None,
    quiet: o.Quiet = False,
    verbose: o.Verbose = 0,
) -> None:
    """Download and verify a model, and print the path of its weights.

    This includes the tokenizer and the configuration, if the model needs them. An interrupted download continues where
    it stopped.
    """
    with handle_errors(quiet=quiet, verbose=verbose), naming_origins():
        from bike_cli.cli.terminal.downloads import Downloads
        from bike_cli.engine.download.progress import reporting_to
        from bike_cli.engine.download.pull import pull

        warn_of_unknown_variables()
        config = resolve(EngineConfig, flags={"offline": offline})
        folder = None if to is None else to.expanduser()
        with reporting_to(Downloads(quiet=quiet)):
            pulled = pull(model, offline=config.offline, folder=folder)
        typer.echo(str(pulled.path))
        for path in pulled.unverified:
            notice(f"{path}: exists already, but its checksum cannot be verified offline", level="warning")
        state = ("already there" if pulled.was_there else "ready") + ("" if pulled.unverified else ", verified")
        print_usage(f"{model}: {state}{_usage(model, folder)}", quiet=quiet)


@models_app.command("verify", cls=BikeCommand)
def verify_command(
    model: Annotated[
        str | None,
        typer.Argument(metavar="NAME", autocompletion=model_names, help="Model to verify; without it, all downloads."),
    ] = None,
    offline: o.Offline = None,
    json_lines: Json = False,
    quiet: o.Quiet = False,
    verbose: o.Verbose = 0,
) -> None:
    """Compare downloaded files with their checksums.

    The exit code is 3 if a file is damaged. bike models pull repairs it.
    """
    with handle_errors(quiet=quiet, verbose=verbose), naming_origins():
        check_stdout("list", way_out="redirect it to a file")
        from bike_cli.cli.models.tables import show_verified
        from bike_cli.engine.download.verify import verify

        warn_of_unknown_variables()
        offline = resolve(EngineConfig, flags={"offline": offline}).offline
        files = []
        for file in verify(model, offline=offline):
            files.append(file)
            if json_lines or not sys.stdout.isatty():
                typer.echo(as_json({**asdict(file), "path": str(file.path)}))
        if files and not json_lines and sys.stdout.isatty():
            show_verified(stdout(), files)
        damaged = [file for file in files if file.status == "damaged"]
        for file in damaged:
            notice(f"{file.path}: is damaged; to repair it, run bike models pull {file.model}", level="warning")
        print_usage(_summary(files), quiet=quiet)
        if damaged:
            raise typer.Exit(ExitCode.SOME_FAILED)


def _summary(files: list[Verified]) -> str:
    if not files:
        return "no model has been downloaded"
    numbers = [(status, sum(file.status == status for file in files)) for status in ("intact", "damaged", "unknown")]
    return f"{count(len(files), 'file')}: {', '.join(f'{number} {status}' for status, number in numbers if number)}"


def _usage(model: str, folder: Path | None) -> str:
    if folder is None:
        return f"; use it with -m {model}"
    name = shlex.quote(str(folder))
    return f"; copy {name} to the other machine and run there: bike classify -m {name} VIDEO -L 'LABEL, LABEL'"
