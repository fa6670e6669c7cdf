"""The picture of a confusion matrix: numbers and names up to 60 classes, shades only for more."""

from __future__ import annotations

from typing import TYPE_CHECKING

import matplotlib as mpl
import numpy as np
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure
from matplotlib.ticker import MaxNLocator

from bike_cli.cli.plots.titles import set_title, short_name

if TYPE_CHECKING:
    from collections.abc import Sequence

    from matplotlib.axes import Axes
    from numpy.typing import NDArray

NAMED = 60  # classes that a matrix has room to name
SMALLEST_IN, LARGEST_IN = 3.6, 24.0  # sides of a matrix
CELL_IN = 0.3  # side of a cell with a number
DIGIT_IN = 0.075
MANY_IN = 9.0  # side of a matrix without names, until a cell is as small as
DOT_IN = 4 / 150
FAINTEST = 0.15  # share of the colours that the smallest share of videos is given
MEANING = "blue: correct, orange: wrong; darker: more of the true class"


def confusion_figure(counts: NDArray[np.int64], labels: Sequence[str], *, title: str, over: str = "") -> Figure:
    """Return a confusion matrix as a figure; numbers are of videos, shades are shares of the true class's videos.

    Args:
        counts: int64 [C, C], a row per true class.
        labels: of the classes.
        over: is added to what the numbers are, such as `, summed over 10 draws`.
    """
    classes = len(counts)
    is_named = classes <= NAMED
    side = classes * _cell_in(counts)
    figure = Figure(figsize=(side, side))
    FigureCanvasAgg(figure)  # measures text
    axes = figure.add_axes((0, 0, 1, 1))  # names stand outside; the file is as large as everything together
    places = (0.5, classes + 0.5)  # classes count from 1
    axes.imshow(_colours(counts), extent=(*places, *places[::-1]), interpolation_stage="rgba")
    axes.set_ylabel("true class")
    axes.set_xlabel("predicted class")
    if is_named:
        _write_names(axes, [short_name(label) for label in labels], side / classes)
        _write_numbers(axes, counts)
    else:
        axes.xaxis.set_major_locator(MaxNLocator(integer=True))
        axes.yaxis.set_major_locator(MaxNLocator(integer=True))
        axes.set_ylabel("true class, by its number in the list of labels")
        axes.set_xlabel("predicted class, by its number in the list of labels")
    caption = f"numbers: videos{over}; {MEANING}" if is_named else f"{classes:,} classes; {MEANING}"
    set_title(axes, title, caption, characters=round(side * 15))
    return figure


def _cell_in(counts: NDArray[np.int64]) -> float:
    """Return the side of a cell in inches."""
    classes = len(counts)
    if classes > NAMED:
        return min(LARGEST_IN / classes, max(DOT_IN, MANY_IN / classes))
    digits = len(str(counts.max(initial=0)))
    return max(CELL_IN, DIGIT_IN * (digits + 2), SMALLEST_IN / max(classes, 1))


def _colours(counts: NDArray[np.int64]) -> NDArray[np.uint8]:
    """Return the colour of each cell, uint8 [C, C, 3]."""
    shares = counts / np.maximum(counts.sum(axis=1, keepdims=True), 1)
    steps = np.round(255 * (FAINTEST + (1 - FAINTEST) * shares)).astype(np.uint8)
    blues, oranges = (mpl.colormaps[name](np.arange(256), bytes=True)[:, :3] for name in ("Blues", "Oranges"))
    colours: NDArray[np.uint8] = oranges[steps]
    diagonal = np.arange(len(counts))
    colours[diagonal, diagonal] = blues[steps[diagonal, diagonal]]
    colours[counts == 0] = 255
    return colours


def _write_names(axes: Axes, names: Sequence[str], cell_in: float) -> None:
    """Write the names of classes at both axes; those below are turned if they are wider than their cells."""
    places = range(1, len(names) + 1)
    axes.set_yticks(places, names, fontsize=8)
    axes.set_xticks(places, names, fontsize=8)
    widest = max((text.get_window_extent().width for text in axes.get_xticklabels()), default=0.0)
    if widest > 0.9 * cell_in * axes.figure.dpi:
        for text in axes.get_xticklabels():
            text.set(rotation=45, ha="right", rotation_mode="anchor")
    edges = [place - 0.5 for place in places[1:]]
    axes.set_xticks(edges, minor=True)
    axes.set_yticks(edges, minor=True)
    axes.grid(which="minor", color="#d5dae1", linewidth=0.5)
    axes.tick_params(which="both", length=0)


def _write_numbers(axes: Axes, counts: NDArray[np.int64]) -> None:
    colours = _colours(counts)
    light = colours @ np.array([0.2126, 0.7152, 0.0722])
    for i, j in np.argwhere(counts):
        colour = "black" if light[i, j] > 130 else "white"
        axes.text(j + 1, i + 1, f"{counts[i, j]}", ha="center", va="center", fontsize=8, color=colour)
