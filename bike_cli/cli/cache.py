"""`bike cache`: what is kept of the videos that were seen, and how to let go of it."""

from __future__ import annotations

import math
import re
import sys
from dataclasses import asdict
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer
from rich import box
from rich.console import Console
from rich.table import Table

from bike_cli.cli import options as o
from bike_cli.cli.classify.rows import as_json
from bike_cli.cli.terminal.console import check_stdout, handle_errors, plain, safe
from bike_cli.config import StoreConfig
from bike_cli.errors import UsageError
from bike_cli.settings import resolve

if TYPE_CHECKING:
    from bike_cli.engine.store.store import Pruned, StoreInfo

cache_app = typer.Typer(help="Show or prune the kept features of videos.", no_args_is_help=True)

_UNITS = {"": 0, "k": 1, "m": 2, "g": 3, "t": 4}

CacheDir = Annotated[
    str | None, typer.Option("--cache-dir", help="Where it is kept.", show_default="the user's cache folder")
]
Json = Annotated[bool, typer.Option("--json", help="One JSON object.")]


@cache_app.command("info")
def info_command(cache_dir: CacheDir = None, json_line: Json = False, verbose: o.Verbose = 0) -> None:
    """Show where the cache is, its size, and what is kept by which model and sampling."""
    with handle_errors(verbose=verbose):
        check_stdout("answer", way_out="redirect it to a file")
        from bike_cli.engine.store.file import origin, store_file
        from bike_cli.engine.store.store import Store, StoreInfo

        folder = _folder(cache_dir)
        file = store_file(folder)
        if origin(file) == "none":
            found = StoreInfo(file, bytes=0, videos=0, files=0, last_used=None, recipes=())
        else:
            with Store.open(folder) as store:
                found = store.info()
        if json_line or not sys.stdout.isatty():
            typer.echo(as_json(_as_object(found)))
        else:
            _show(found)


@cache_app.command("prune")
def prune_command(
    max_size: Annotated[
        str | None,
        typer.Option("--max-size", metavar="SIZE", help="Keep so much, what was used last: 10GB, 500MB, 1GiB."),
    ] = None,
    unused_days: Annotated[
        float | None, typer.Option("--unused-days", metavar="DAYS", help="Drop what was not used for so many days.")
    ] = None,
    everything: Annotated[bool, typer.Option("--all", help="Remove the cache, even where it is damaged.")] = False,
    cache_dir: CacheDir = None,
    json_line: Json = False,
    verbose: o.Verbose = 0,
) -> None:
    """Make the cache smaller."""
    with handle_errors(verbose=verbose):
        from bike_cli.engine.store.file import origin, remove, store_file
        from bike_cli.engine.store.store import Pruned, Store

        max_bytes = None if max_size is None else size_in_bytes(max_size)
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
            typer.echo(f"{safe(str(file))}: {_told(pruned)}")


def size_in_bytes(text: str) -> int:
    """Return the bytes that `500MB`, `1.5 GiB` or `1000000` name; MB are millions, MiB are 2**20."""
    match = re.fullmatch(r"\s*(\d+(?:\.\d+)?)\s*([kmgt]?)(i?)b?\s*", text, re.IGNORECASE | re.ASCII)
    if match is None or (match[3] and not match[2]):
        raise UsageError(f"--max-size {text!r}: is no size; give one such as 500MB, 10GB or 1GiB")
    return int(float(match[1]) * (1024 if match[3] else 1000) ** _UNITS[match[2].lower()])


def _check_choice(max_bytes: int | None, unused_days: float | None, *, everything: bool) -> None:
    some = max_bytes is not None or unused_days is not None
    if not some and not everything:
        raise UsageError("bike cache prune: nothing to go by; give --max-size 10GB, --unused-days 30 or --all")
    if some and everything:
        raise UsageError("bike cache prune: --all leaves nothing to choose from; give it alone")
    if unused_days is not None and not (math.isfinite(unused_days) and unused_days >= 0):
        raise UsageError(f"--unused-days {unused_days}: is no number of days; give one from 0, such as 30")


def _folder(cache_dir: str | None) -> Path | None:
    chosen = resolve(StoreConfig, flags={"cache_dir": cache_dir}).cache_dir
    return Path(chosen) if chosen else None


def _as_object(found: StoreInfo) -> dict[str, object]:
    recipes = [{**asdict(recipe), "last_used": _time(recipe.last_used)} for recipe in found.recipes]
    last_used = None if found.last_used is None else _time(found.last_used)
    return {**asdict(found), "file": str(found.file), "last_used": last_used, "recipes": recipes}


def _show(found: StoreInfo) -> None:
    console = Console(highlight=False, soft_wrap=True)
    if not found.bytes:
        console.print(plain(f"{found.file}: nothing is kept yet"))
        return
    console.print(plain(str(found.file), "bold"))
    console.print(f"{_size(found.bytes)}, {found.videos:,} videos, {found.files:,} remembered files")
    if found.recipes:
        Console(highlight=False).print(_table(found))


def _table(found: StoreInfo) -> Table:
    table = Table(box=box.SIMPLE_HEAD, pad_edge=False, header_style="bold")
    table.add_column("Features of", overflow="fold")
    table.add_column("Videos", justify="right", no_wrap=True)
    table.add_column("Size", justify="right", no_wrap=True)
    table.add_column("Last used", no_wrap=True)
    for recipe in found.recipes:
        table.add_row(plain(recipe.recipe), f"{recipe.videos:,}", _size(recipe.bytes), _time(recipe.last_used)[:10])
    return table


def _told(pruned: Pruned) -> str:
    if not pruned.bytes_before:
        return "nothing was kept"
    if pruned.features is None:
        return f"removed, {_size(pruned.bytes_before)}"
    sizes = f"{_size(pruned.bytes_before)} → {_size(pruned.bytes_after)}"
    return f"dropped the features of {pruned.features:,} videos, {sizes}"


def _size(count: float) -> str:
    for unit in ("bytes", "kB", "MB", "GB"):
        if count < 1000:
            return f"{count:.0f} {unit}" if unit in ("bytes", "kB") else f"{count:.1f} {unit}"
        count /= 1000
    return f"{count:.1f} TB"


def _time(seconds: int) -> str:
    """Return a time in UTC as ISO 8601 writes it."""
    try:
        return datetime.fromtimestamp(seconds, UTC).strftime("%Y-%m-%dT%H:%M:%SZ")
    except (ValueError, OverflowError, OSError):
        return ""  # a damaged cell; its only use is the order of eviction
