"""`bike models`: what --model takes, and what of it is here already."""

from __future__ import annotations

import sys
from dataclasses import asdict
from typing import TYPE_CHECKING, Annotated

import typer
from rich import box
from rich.console import Console
from rich.table import Table

from bike_cli.cli import options as o
from bike_cli.cli.console import check_stdout, error_room, plain
from bike_cli.cli.rows import as_json

if TYPE_CHECKING:
    from bike_cli.engine.catalogue import KnownModel

TAGS_FROM = 110  # columns from which tags have room beside the short names


def models_command(
    everything: Annotated[bool, typer.Option("--all", "-a", help="Every open_clip tag that runs, too.")] = False,
    json_lines: Annotated[bool, typer.Option("--json", help="One JSON object a line.")] = False,
    verbose: o.Verbose = 0,
) -> None:
    """List the models: short names, open_clip tags, what is on this disk, size and licence."""
    with error_room(verbose=verbose):
        check_stdout("list", way_out="redirect it to a file")
        from bike_cli.engine.catalogue import known_models

        models = known_models()
        if json_lines or not sys.stdout.isatty():
            for model in models:
                typer.echo(as_json(asdict(model)))
            return
        # A tag with a short name is shown under it.
        aliases = [model for model in models if "," not in model.name]
        here = [model for model in models if "," in model.name and (everything or model.bytes_on_disk)]
        console = Console(highlight=False)
        console.print(_table([*aliases, *here], with_tags=console.width >= TAGS_FROM))
        if not everything:
            typer.echo(f"{len(models) - len(aliases)} open_clip tags run as well: bike models --all", err=True)


def _table(models: list[KnownModel], *, with_tags: bool) -> Table:
    table = Table(box=box.SIMPLE_HEAD, pad_edge=False, header_style="bold")
    table.add_column("--model", overflow="fold")
    table.add_column("Parameters", justify="right", no_wrap=True)
    table.add_column("On disk", justify="right", no_wrap=True)
    table.add_column("Licence", no_wrap=True)
    table.add_column("", overflow="fold")
    if with_tags:
        table.add_column("open_clip", overflow="fold", style="dim")
    for model in models:
        tag = f"{model.arch},{model.tag}" if model.arch and "," not in model.name else ""
        size = "no" if model.bytes_on_disk is None else f"{model.bytes_on_disk / 1e6:.0f} MB"
        parameters = f"{model.parameters / 1e6:.0f} M" if model.parameters else ""
        cells = (plain(model.name, "bold"), parameters, size, model.licence or "see its page", model.note)
        table.add_row(*cells, *([tag] if with_tags else []))
    return table
