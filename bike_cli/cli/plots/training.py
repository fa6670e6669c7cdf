"""The picture of a training run: loss, learning rate and validation."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from matplotlib.figure import Figure
from matplotlib.ticker import MaxNLocator

from bike_cli.cli.plots.titles import short_name
from bike_cli.wording import METRIC_NAMES

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from matplotlib.axes import Axes

    Records = Sequence[Mapping[str, Any]]

MARKED = 100  # steps whose points are marked; more would be a thick line
KINDS = {"video": "video", "attributes": "attributes", "wise_ft": "wise-ft", "fused": "both, fused"}
# Width of the line, marker and its size; what coincides with any of the others is seen nevertheless.
LINES = ((3.0, "o", 9.0), (1.3, "s", 5.0), (0.8, "D", 14.0), (0.8, "x", 8.0))
HOLLOW = "D"


def training_figure(records: Records, *, name: str) -> Figure:
    """Return the log of a run as a figure.

    Args:
        records: the lines of the log.
        name: of the run.
    """
    steps = [record for record in records if record["kind"] == "step"]
    validations = [record for record in records if record["kind"] == "validated"]
    metrics = list(validations[-1]["metrics"]) if validations else []
    figure = Figure(figsize=(10, 6.5 if metrics else 3.6), layout="constrained")
    columns = max(1, len(metrics))  # pairs of columns, so that two panels and any number of panels are equally wide
    grid = figure.add_gridspec(2 if metrics else 1, 2 * columns)
    for i, (key, title) in enumerate({"loss": "Training loss", "rate": "Learning rate"}.items()):
        axes = figure.add_subplot(grid[0, i * columns : (i + 1) * columns])
        for branch in dict.fromkeys(record["branch"] for record in steps):
            own = [record for record in steps if record["branch"] == branch]
            _draw(axes, branch, [r["step"] for r in own], [r.get(key) for r in own], is_marked=len(own) <= MARKED)
        _finish(axes, title, x="step", y=title.split()[-1])
    for i, metric in enumerate(metrics):
        axes = figure.add_subplot(grid[1, 2 * i : 2 * i + 2])
        for what in dict.fromkeys(record["what"] for record in validations):
            own = [record for record in validations if record["what"] == what and metric in record["metrics"]]
            shares = [record["metrics"][metric] for record in own]
            _draw(axes, what, [r["epoch"] for r in own], [None if s is None else 100 * s for s in shares])
        _finish(axes, f"Validation: {METRIC_NAMES.get(metric, metric)}", x="completed epochs", y="%")
        axes.margins(x=0.08)
        axes.set_ylim(-3, 103)
        axes.set_yticks(range(0, 101, 20))
    lines = {str(line.get_label()): line for axes in figure.axes for line in axes.lines}
    if len(lines) > 1:
        figure.legend(list(lines.values()), list(lines), loc="outside right upper", frameon=False)
    figure.suptitle(f"Training run {short_name(name)}")
    return figure


def _draw(
    axes: Axes, what: str, places: Sequence[int], values: Sequence[float | None], *, is_marked: bool = True
) -> None:
    i = list(KINDS).index(what)
    width, marker, size = LINES[i]
    shown = [float("nan") if value is None else value for value in values]
    axes.plot(
        places,
        shown,
        color=f"C{i}",
        linewidth=width,
        marker=marker if is_marked else "",
        markersize=size,
        markerfacecolor="none" if marker == HOLLOW else f"C{i}",
        label=KINDS[what],
        zorder=2 + i,
    )


def _finish(axes: Axes, title: str, *, x: str, y: str) -> None:
    axes.set_title(title, loc="left", fontsize=10)
    axes.set_xlabel(x)
    axes.set_ylabel(y)
    axes.xaxis.set_major_locator(MaxNLocator(nbins=7, integer=True, min_n_ticks=1))
    axes.xaxis.set_major_formatter("{x:,.0f}")
    axes.grid(alpha=0.3)
