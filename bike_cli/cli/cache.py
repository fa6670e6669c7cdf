"""`bike cache`: show and prune the stored frame features of videos."""

from __future__ import annotations

import math
import sys
from dataclasses import asdict
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer
from rich import box
from rich.filesize import decimal
from rich.table import Table

from bike_cli.cli import options as o
from bike_cli.cli.help import BikeCommand, BikeGroup
from bike_cli.cli.terminal.console import check_stdout, handle_errors, plain, print_table, safe, stdout
from bike_cli.config import StoreConfig
from bike_cli.errors import UsageError
from bike_cli.json_text import as_json
from bike_cli.settings import naming_origins, resolve, warn_of_unknown_variables
from bike_cli.wording import count

if TYPE_CHECKING:
    from bike_cli.engine.store.store import Pruned, StoreInfo

cache_app = typer.Typer(cls=BikeGroup, help="Show or prune the stored features of videos.", no_args_is_help=True)


@cache_app.command("info", cls=BikeCommand)
def info_command(cache_dir: o.CacheDir = None, json_line: o.Json = False, verbose: o.Verbose = 0) -> None:
    """Show the place and size of the cache, and its content for each model and sampling."""
    with handle_errors(verbose=verbose), naming_origins():
        check_stdout("answer", way_out="redirect it to a file")
        from bike_cli.engine.store.file import origin, store_file
        from bike_cli.engine.store.store import Store, StoreInfo

        folder = _folder(cache_dir)
        file = store_file(folder)
        if origin(file) == "none":
            info = StoreInfo(file, bytes=0, videos=0, files=0, last_used=None, recipes=())
        else:
            with Store.open(folder) as store:
                info = store.info()
        if json_line or not sys.stdout.isatty():
            typer.echo(as_json(_as_object(info)))
        else:
            _show(info)


@cache_app.command("prune", cls=BikeCommand)
def prune_command(
    max_size: Annotated[
        str | None, typer.Option("--max-size", metavar="SIZE", help="Largest size to keep: 10GB, 500MB or 1GiB.")
    ] = None,
    unused_days: Annotated[
        float | None,
        typer.Option("--unused-days", metavar="DAYS", help="Drop features that were not used for this many days."),
    ] = None,
    everything: Annotated[bool, o.switch("--all", help="Remove the whole cache, even if it is damaged.")] = False,
    cache_dir: o.CacheDir = None,
    json_line: o.Json = False,
    verbose: o.Verbose = 0,
) -> None:
    """Make the cache smaller."""
    with handle_errors(verbose=verbose), naming_origins():
        from bike_cli.engine.store.file import origin, remove, store_file
        from bike_cli.engine.store.store import Pruned, Store

        max_bytes = None if max_size is None else o.size_in_bytes(max_size)
        _check_choice(max_bytes, unused_days, everything=everything)
        folder = _folder(cache_dir)
        file = store_file(folder)
        if everything:
            pruned = Pruned(None, None, bytes_before=remove(file), bytes_after=0)
        elif origin(file) == "none":
            pruned = Pruned(0, 0, bytes_before=0, bytes_after=0)
        else:
            with Store.open(folder) as store:
                pruned = store.prune(max_bytes, unused_days)
        if json_line or sys.stdout is None or not sys.stdout.isatty():
            typer.echo(as_json({"file": str(file), **asdict(pruned)}))
        else:
            typer.echo(f"{safe(str(file))}: {_summary(pruned)}")


def _check_choice(max_bytes: int | None, unused_days: float | None, *, everything: bool) -> None:
    some = max_bytes is not None or unused_days is not None
    if not some and not everything:
        raise UsageError("bike cache prune: needs a limit; give --max-size 10GB, --unused-days 30 or --all")
    if some and everything:
        raise UsageError("bike cache prune: --all removes everything; give it alone")
    if unused_days is not None and not (math.isfinite(unused_days) and unused_days >= 0):
        raise UsageError(f"--unused-days {unused_days}: is not a number of days; give 0 or more, such as 30")


def _folder(cache_dir: str | None) -> Path | None:
    warn_of_unknown_variables()
    chosen = resolve(StoreConfig, flags={"cache_dir": cache_dir}).cache_dir
    return Path(chosen) if chosen else None


def _as_object(info: StoreInfo) -> dict[str, object]:
    recipes = [{**asdict(recipe), "last_used": _time(recipe.last_used)} for recipe in info.recipes]
    last_used = None if info.last_used is None else _time(info.last_used)
    return {**asdict(info), "file": str(info.file), "last_used": last_used, "recipes": recipes}


def _show(info: StoreInfo) -> None:
    console = stdout()
    if not info.bytes:
        console.print(plain(f"{info.file}: is empty"), soft_wrap=True)
        return
    console.print(plain(str(info.file), "bold"), soft_wrap=True)
    console.print(f"{decimal(info.bytes)}, {count(info.videos, 'video')}, {count(info.files, 'known file')}")
    if info.recipes:
        console.print()
        print_table(console, _table(info))


def _table(info: StoreInfo) -> Table:
    table = Table(box=box.SIMPLE_HEAD, show_edge=False, pad_edge=False, header_style="bold")
    table.add_column("Features of", overflow="fold")
    table.add_column("Videos", justify="right", no_wrap=True)
    table.add_column("Size", justify="right", no_wrap=True)
    table.add_column("Last used", no_wrap=True)
    for recipe in info.recipes:
        videos = f"{recipe.videos:,}" if recipe.videos else "–"
        table.add_row(plain(recipe.recipe), videos, decimal(recipe.bytes), _time(recipe.last_used)[:10])
    return table


def _summary(pruned: Pruned) -> str:
    if not pruned.bytes_before:
        return "was empty"
    if pruned.features is None:
        return f"removed, {decimal(pruned.bytes_before)}"
    sizes = f"{decimal(pruned.bytes_before)} → {decimal(pruned.bytes_after)}"
    return f"dropped the features of {count(pruned.features, 'video')}, {sizes}"


def _time(seconds: int) -> str:
    try:
        return datetime.fromtimestamp(seconds, UTC).strftime("%Y-%m-%dT%H:%M:%SZ")
    except (ValueError, OverflowError, OSError):
        return ""  # a damaged cell; its only use is the order of eviction
