"""Parts of the tables for people: the console, bars, percentages, and texts that are cut to a width."""

from __future__ import annotations

import os
from collections.abc import Sequence
from typing import TextIO

from rich.cells import cell_len, set_cell_size
from rich.console import Console

from bike_cli.cli.terminal.console import colours
from bike_cli.records import Failure

BARS, ASCII_BARS = "▁▂▃▄▅▆▇█", "._-=+*%#"


class Screen(Console):
    """A console for tables on a stream, as wide as its terminal."""

    def __init__(self, stream: TextIO) -> None:
        super().__init__(file=stream, highlight=False, width=_width(stream), color_system=colours())

    @property
    def is_ascii(self) -> bool:
        """Whether the stream's encoding has no bars."""
        return self.options.ascii_only

    def on_broken_pipe(self) -> None:
        """Let the top-level handler choose the exit code: Rich would exit with 1, like a bug."""
        raise BrokenPipeError


def _width(stream: TextIO) -> int | None:
    """Return the width of a terminal in columns; None to let Rich detect it."""
    # Rich checks descriptors 0 to 2, none of which may be this terminal while stdout is reserved.
    if not stream.isatty() or "COLUMNS" in os.environ:
        return None
    try:
        return os.get_terminal_size(stream.fileno()).columns or None
    except (OSError, ValueError):
        return None


def fill_lines(parts: Sequence[str], separator: str, width: int) -> list[str]:
    """Join parts to as few lines as possible; a line is only longer than `width` if one part is."""
    lines: list[str] = []
    for part in parts:
        if lines and cell_len(lines[-1] + separator + part) <= width:
            lines[-1] += separator + part
        else:
            lines.append(part)
    return lines


def keep_ends(text: str, width: int) -> str:
    """Return a path cut in the middle: its start says where it is, and its end, which gets more room, which file."""
    if cell_len(text) <= width:
        return text
    start = set_cell_size(text, (width - 1) // 3).rstrip(" ")
    end = text[len(start) :]
    while end and cell_len(start) + 1 + cell_len(end) > width:
        end = end[1:]
    return f"{start}…{end}"


def without_path(failure: Failure) -> str:
    """Return the message of a failure without the path that it begins with."""
    return failure.message.removeprefix(f"{failure.source.id}: ")
