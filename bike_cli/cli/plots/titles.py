"""Titles and names in pictures."""

from __future__ import annotations

import textwrap
from typing import TYPE_CHECKING

from bike_cli.cli.terminal.console import safe

if TYPE_CHECKING:
    from matplotlib.axes import Axes

LONGEST, LONGEST_TITLE = 40, 120  # characters
SOFT = "#545d68"


def short_name(text: str, longest: int = LONGEST) -> str:
    """Return a name without control characters, and without its middle if it is very long."""
    name = safe(text)
    return name if len(name) <= longest else f"{name[: longest // 2]}…{name[1 - longest // 2 :]}"


def set_title(axes: Axes, title: str, caption: str, *, characters: int) -> None:
    """Write a title and a caption over the axes, in lines of up to so many characters of the caption."""
    lines = textwrap.wrap(caption, characters)
    axes.annotate(
        "\n".join(lines),
        xy=(0, 1),
        xycoords="axes fraction",
        xytext=(0, 6),
        textcoords="offset points",
        va="bottom",
        fontsize=8,
        color=SOFT,
    )
    wrapped = textwrap.fill(short_name(title, LONGEST_TITLE), round(0.7 * characters))
    axes.set_title(wrapped, loc="left", pad=10 + 10.5 * len(lines), fontsize=12)
