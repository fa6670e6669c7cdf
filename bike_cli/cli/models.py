"""`bike models`: list the models that `--model` accepts, and download them."""

from __future__ import annotations

import shlex
import sys
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer
from rich import box
from rich.console import Console
from rich.table import Table

from bike_cli.cli import options as o
from bike_cli.cli.completion import model_names
from bike_cli.cli.help import BikeCommand, BikeGroup
from bike_cli.cli.terminal.console import check_stdout, handle_errors, notice, plain, print_usage
from bike_cli.cli.terminal.json_text import as_json
from bike_cli.config import EngineConfig
from bike_cli.errors import UsageError
from bike_cli.settings import naming_origins, resolve, warn_of_unknown_variables

if TYPE_CHECKING:
    from bike_cli.engine.models.catalogue import KnownModel

TAGS_FROM = 110  # columns that leave room for a column of tags; below, they follow the table

models_app = typer.Typer(cls=BikeGroup, invoke_without_command=True)

Everything = Annotated[bool, o.switch("--all", "-a", help="Also list every open_clip tag that runs.")]
Json = Annotated[bool, o.switch("--json", help="Print one JSON object per line.")]


@models_app.callback()
def models_command(
    context: typer.Context, everything: Everything = False, json_lines: Json = False, verbose: o.Verbose = 0
) -> None:
    """List models with their size, licence and whether they are on this disk; or download one."""
    if context.invoked_subcommand is None:
        list_command(everything, json_lines, verbose)
    elif everything or json_lines or verbose:
        command = context.invoked_subcommand
        with handle_errors():
            raise UsageError(f"bike models {command}: flags go after {command}, not before it; move them")


@models_app.command("list", cls=BikeCommand)
def list_command(everything: Everything = False, json_lines: Json = False, verbose: o.Verbose = 0) -> None:
    """List the models; the same as bike models without a command."""
    with handle_errors(verbose=verbose):
        check_stdout("list", way_out="redirect it to a file")
        from bike_cli.engine.models.catalogue import known_models

        models = known_models(counts_parameters=everything)
        if json_lines or not sys.stdout.isatty():
            for model in models:
                typer.echo(as_json(asdict(model)))
            return
        # A tag that has a short name is listed under that name.
        aliases = [model for model in models if "," not in model.name]
        here = [model for model in models if "," in model.name and (everything or model.bytes_on_disk)]
        console = Console(highlight=False)
        with_tags = console.width >= TAGS_FROM
        console.print(_table([*aliases, *here], with_tags=with_tags))
        if not with_tags:
            tags = "; ".join(f"{model.name} is {model.arch},{model.tag}" for model in aliases if model.arch)
            console.print(f"In open_clip, {tags}.", markup=False)
        if not everything:
            typer.echo(f"{len(models) - len(aliases)} open_clip tags run as well: bike models --all", err=True)


@models_app.command("pull", cls=BikeCommand)
def pull_command(
    model: Annotated[
        str,
        typer.Argument(metavar="NAME", autocompletion=model_names, help="Short name, or ARCH,TAG; see bike models."),
    ],
    to: Annotated[
        Path | None,
        typer.Option("--to", metavar="DIR", help="Write a folder to copy to another machine, for use with -m DIR."),
    ] = None,
    offline: o.Offline = None,
    quiet: o.Quiet = False,
    verbose: o.Verbose = 0,
) -> None:
    """Download and verify the weights of a model, and print their path.

    An interrupted download continues where it stopped.
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
        if not pulled.is_verified:
            notice(f"{pulled.path}: is there already, but its checksum cannot be checked offline", level="warning")
        state = ("already there" if pulled.was_there else "ready") + (", verified" if pulled.is_verified else "")
        print_usage(f"{model}: {state}{_usage(model, folder)}", quiet=quiet)


def _usage(model: str, folder: Path | None) -> str:
    if folder is None:
        return f"; use it with -m {model}"
    name = shlex.quote(str(folder))
    return f"; copy {name} to the other machine and run there: bike classify -m {name} VIDEO -L 'LABEL, LABEL'"


def _table(models: list[KnownModel], *, with_tags: bool) -> Table:
    table = Table(box=box.SIMPLE_HEAD, pad_edge=False, header_style="bold")
    table.add_column("--model", overflow="fold")
    table.add_column("Parameters", justify="right", no_wrap=True)
    table.add_column("Download", justify="right", no_wrap=True)
    table.add_column("On disk", no_wrap=True)
    table.add_column("Licence", no_wrap=True)
    table.add_column("Notes", overflow="fold")
    if with_tags:
        table.add_column("open_clip", overflow="fold", style="dim")
    for model in models:
        tag = f"{model.arch},{model.tag}" if model.arch and "," not in model.name else ""
        parameters = f"{model.parameters / 1e6:.0f} M" if model.parameters else ""
        download = "" if model.download_bytes is None else _megabytes(model.download_bytes)
        on_disk = "no" if model.bytes_on_disk is None else _megabytes(model.bytes_on_disk)
        licence = model.licence or "see its page"
        cells = (plain(model.name, "bold"), parameters, download, on_disk, licence, model.note)
        table.add_row(*cells, *([tag] if with_tags else []))
    return table


def _megabytes(size: int) -> str:
    return f"{size / 1e6:,.0f} MB" if size else "none"
