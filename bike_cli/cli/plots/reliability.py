"""The picture of a reliability diagram: how many answers of a confidence are correct."""

from __future__ import annotations

from typing import TYPE_CHECKING

from matplotlib.figure import Figure

from bike_cli.cli.plots.titles import SOFT, set_title

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from bike_cli.tasks.evaluate.report import ReliabilityBin

MARKERS = "osD^"


def reliability_figure(diagrams: Mapping[str, Sequence[ReliabilityBin]], *, title: str) -> Figure:
    """Return reliability diagrams as a figure: a point per bin of confidence, with the interval of its accuracy.

    Args:
        diagrams: by what the confidence is.
    """
    figure = Figure(figsize=(6.4, 5.6), layout="constrained")
    axes = figure.add_subplot()
    axes.plot([0, 100], [0, 100], color=SOFT, linestyle="--", linewidth=1, label="perfect calibration")
    for i, (name, bins) in enumerate(diagrams.items()):
        accuracies = [one.accuracy for one in bins]
        axes.errorbar(
            [100 * one.confidence for one in bins],
            [100 * one.value for one in accuracies],
            yerr=[
                [100 * (one.value - one.low) for one in accuracies],
                [100 * (one.high - one.value) for one in accuracies],
            ],
            marker=MARKERS[i % len(MARKERS)],
            markersize=5,
            color=f"C{i}",
            capsize=3,
            linewidth=1.2,
            linestyle="none",
            label=name,
        )
    axes.set_xlim(-2, 102)
    axes.set_ylim(-2, 102)
    axes.set_xlabel("mean confidence of the bin in %")
    axes.set_ylabel("correct answers in %")
    axes.set_aspect("equal")
    axes.grid(alpha=0.3)
    figure.legend(loc="outside lower center", frameon=False)
    set_title(axes, title, "below the dashed line: too confident; lines at points: 95 % intervals", characters=75)
    return figure
