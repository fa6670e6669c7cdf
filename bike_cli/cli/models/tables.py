"""Tables of models, and of verified files."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from itertools import groupby
from typing import TYPE_CHECKING

from rich import box
from rich.console import Console
from rich.table import Table

from bike_cli.cli.terminal.console import plain
from bike_cli.engine.download.transfer import readable_size
from bike_cli.engine.models.aliases import BUNDLED

if TYPE_CHECKING:
    from bike_cli.engine.download.verify import Verified
    from bike_cli.engine.models.listing import KnownModel

TAGS_FROM = 116  # columns that leave room for a column of tags
OTHERS = "other"  # heading of models without a family
LEGEND = "Parameters: image tower + text tower. Input: side of the frames in pixels."
SQUASHED = "* squashes frames into a square instead of cropping them; --crops 3 is refused"
ESTIMATED = "~ estimated from the parameters"


def show_names(console: Console, models: Sequence[KnownModel]) -> None:
    """Print models with their notes, one line per model at 80 columns."""
    with_tags = console.width >= TAGS_FROM
    table = _table("--model")
    table.add_column("Licence", no_wrap=True)
    table.add_column("Notes", overflow="fold")
    if with_tags:
        table.add_column("open_clip", overflow="fold", style="dim")
    for model in models:
        tag = [f"{model.arch},{model.tag}" if model.arch and "," not in model.name else ""] if with_tags else []
        table.add_row(plain(model.name, "bold"), *_facts(model), model.licence or "see its page", model.note, *tag)
    _print(console, table, models)


def show_families(console: Console, models: Iterable[KnownModel]) -> None:
    """Print models by family, with the licence in the heading; a tag and its short name share a line."""
    models = list(models)
    named = [model for model in models if model.arch and "," not in model.name]
    short = {f"{model.arch},{model.tag}": model.name for model in reversed(named)}
    rows = [model for model in models if "," in model.name or not model.arch]
    ranks = {name: number for number, name in reversed(list(enumerate(map(_heading, rows))))}
    table = _table("--model")
    for heading, members in groupby(sorted(rows, key=lambda model: ranks[_heading(model)]), key=_heading):
        table.add_row(plain(heading, "bold"), end_section=False)
        for model in members:
            name = short.get(model.name)
            table.add_row(plain(f"  {model.name}" + (f" ({name})" if name else "")), *_facts(model))
    _print(console, table, rows)


def show_verified(console: Console, files: Iterable[Verified]) -> None:
    """Print the status of files."""
    table = Table(box=box.SIMPLE_HEAD, show_edge=False, padding=(0, 1, 0, 0), header_style="bold")
    table.add_column("Status", no_wrap=True)
    table.add_column("Model", overflow="fold")
    table.add_column("File", overflow="fold")
    table.add_column("Size", justify="right", no_wrap=True)
    styles = {"intact": "green", "damaged": "bold red", "unknown": "yellow"}
    for file in files:
        size = readable_size(file.bytes)
        table.add_row(plain(file.status, styles[file.status]), plain(file.model), plain(file.path.name), size)
    console.print(table)


def _table(first: str) -> Table:
    table = Table(box=box.SIMPLE_HEAD, show_edge=False, padding=(0, 1, 0, 0), header_style="bold")
    table.add_column(first, overflow="fold")
    table.add_column("Parameters", justify="right", no_wrap=True)
    table.add_column("Input", justify="right", no_wrap=True)
    table.add_column("Download", justify="right", no_wrap=True)
    return table


def _facts(model: KnownModel) -> tuple[str, str, str]:
    """Return the parameters of both towers, the side of the input, and the size of the download."""
    if model.image_parameters and model.text_parameters:
        parameters = f"{_millions(model.image_parameters)} + {_millions(model.text_parameters)} M"
    else:
        parameters = f"{_millions(model.parameters)} M" if model.parameters else ""
    side = "" if model.input_px is None else f"{model.input_px}{' ' if model.crops else '*'}"
    if model.bytes_on_disk is not None:
        return parameters, side, "on disk"
    size = "" if model.download_bytes is None else readable_size(model.download_bytes)
    return parameters, side, f"{'~' if model.is_estimated else ''}{size}"


def _millions(parameters: int) -> str:
    return f"{parameters / 1e6:.0f}"


def _heading(model: KnownModel) -> str:
    family = model.family or ("bundled" if model.name == BUNDLED else OTHERS)
    return f"{family}: {model.licence or 'licence on its page'}"


def _print(console: Console, table: Table, models: Iterable[KnownModel]) -> None:
    models = list(models)
    console.print(table)
    console.print()
    console.print(LEGEND)
    if any(model.crops is False for model in models):
        console.print(SQUASHED)
    if any(model.is_estimated and model.bytes_on_disk is None for model in models):
        console.print(ESTIMATED)
