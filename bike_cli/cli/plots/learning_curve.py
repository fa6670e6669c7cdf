"""The learning curve of a few-shot report: accuracy by the number of videos per class."""

from __future__ import annotations

import math
from itertools import pairwise
from typing import TYPE_CHECKING

from matplotlib.figure import Figure

from bike_cli.cli.plots.titles import SOFT, set_title, short_name
from bike_cli.tasks.fewshot.methods import BASELINE
from bike_cli.wording import count

if TYPE_CHECKING:
    from collections.abc import Sequence

    from matplotlib.axes import Axes

    from bike_cli.tasks.evaluate.metrics import Mean
    from bike_cli.tasks.fewshot.report import Report

MARKERS = "osD^vPX*"
CLOSEST = 0.12  # gap between two numbers of shots, as a share of the axis
DODGED = 0.5  # the share of a gap that the methods of one number of shots take


def learning_curve_figure(report: Report) -> Figure:
    """Return top-1 of each method by the number of shots; the baseline is a line, because it learns from none."""
    figure = Figure(figsize=(8, 4.8), layout="constrained")
    axes = figure.add_subplot()
    baseline = report.summary(BASELINE, report.shots[0]).top1
    low, high = _whiskers(baseline)
    value = 100 * baseline.value
    axes.axhspan(value - low, value + high, color=SOFT, alpha=0.12, linewidth=0)
    axes.axhline(value, color=SOFT, linestyle="--", label="zero-shot")
    places, is_to_scale = _places(report.shots)
    learned = [method for method in report.methods if method != BASELINE]
    gap = min((after - before for before, after in pairwise(places)), default=1.0)
    for i, method in enumerate(learned):
        shift = DODGED * gap * ((i + 0.5) / len(learned) - 0.5)
        _draw_method(axes, [place + shift for place in places], [report.summary(method, k).top1 for k in report.shots])
        axes.containers[-1].set_label(method)
    axes.set_xlim(places[0] - 0.5 * gap, places[-1] + 0.5 * gap)
    axes.set_xticks(places, [str(shots) for shots in report.shots])
    axes.set_xlabel("videos per class (shots)" + ("" if is_to_scale else ", not to scale"))
    axes.set_ylim(-2, 102)  # markers at 0 and 100 are whole
    axes.set_yticks(range(0, 101, 20))
    axes.set_ylabel("top-1 accuracy in %")
    axes.grid(axis="y", alpha=0.3)
    figure.legend(loc="outside right upper", frameon=False)
    draws = len(report.draws)
    over = f"mean over {count(draws, 'draw')}" if draws > 1 else "of one draw"
    caption = f"{count(len(report.labels), 'class', 'classes')}; top-1 {over} ± standard error"
    set_title(axes, f"Few-shot accuracy of {short_name(report.engine.name)}", caption, characters=90)
    return figure


def _draw_method(axes: Axes, places: Sequence[float], means: Sequence[Mean]) -> None:
    i = len(axes.containers)
    axes.errorbar(
        places,
        [100 * mean.value for mean in means],
        yerr=list(zip(*map(_whiskers, means), strict=True)),
        marker=MARKERS[i % len(MARKERS)],
        markersize=5,
        color=f"C{i % 10}",
        capsize=3,
        linewidth=1.2,
    )


def _whiskers(mean: Mean) -> tuple[float, float]:
    """Return how far an error reaches down and up in per cent; no accuracy is below 0 or above 100."""
    error = mean.error or 0.0
    return 100 * min(error, mean.value), 100 * min(error, 1 - mean.value)


def _places(shots: Sequence[int]) -> tuple[list[float], bool]:
    """Return where the numbers of shots stand on the axis, and whether their distances are to scale (base 2)."""
    places = [math.log2(k) for k in shots]
    nearest = min((after - before for before, after in pairwise(places)), default=1.0)
    is_to_scale = nearest >= CLOSEST * (places[-1] - places[0])
    return (places if is_to_scale else [float(i) for i in range(len(shots))]), is_to_scale
