"""Pictures of a few-shot report; they need matplotlib, an extra."""

from __future__ import annotations

from importlib.util import find_spec
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from bike_cli.cli.console import safe
from bike_cli.errors import UsageError

if TYPE_CHECKING:
    from bike_cli.tasks.fewshot import Report

CURVE, CONFUSION = "learning_curve.png", "confusion_matrix.png"
NAMED = 60  # classes that a matrix has room to name
DPI = 150


def check_plots(folder: Path) -> None:
    """Raise UsageError where no picture can be drawn into a folder."""
    if find_spec("matplotlib") is None:
        raise UsageError("--plots: draws with matplotlib, which is not installed; pip install 'bike-cli[plots]'")
    if folder.exists() and not folder.is_dir():
        raise UsageError(f"{folder}: is a file; name a folder for the pictures")
    try:
        folder.mkdir(parents=True, exist_ok=True)
    except OSError as e:
        raise UsageError(f"{folder}: cannot be made ({e.strerror}); choose a folder that is yours") from e


def write_plots(report: Report, folder: Path) -> None:
    """Write the learning curve and the confusion matrix of the last method with the most shots."""
    import matplotlib as mpl

    with mpl.rc_context({"text.usetex": False, "text.parse_math": False}):  # labels are no formulas
        try:
            _curve(report, folder / CURVE)
            _matrix(report, folder / CONFUSION)
        except OSError as e:
            raise UsageError(f"{folder}: cannot be written to ({e.strerror}); choose a folder that is yours") from e


def _curve(report: Report, file: Path) -> None:
    from matplotlib.figure import Figure

    from bike_cli.cli.fewshot_report import over_trials

    figure = Figure(figsize=(6, 4), layout="constrained")
    axes = figure.add_subplot()
    for method in report.methods:
        means = [over_trials(report.of(method, shots), "top1") for shots in report.shots]
        heights = [100 * mean.value for mean in means]
        errors = [100 * (mean.error or 0) for mean in means]
        axes.errorbar(report.shots, heights, yerr=errors, marker="o", capsize=3, label=method)
    axes.set_xscale("log", base=2)
    axes.set_xticks(report.shots, [str(shots) for shots in report.shots])
    axes.minorticks_off()
    axes.set_xlabel("videos a class")
    axes.set_ylabel("top-1 in %, ± standard error")
    axes.grid(alpha=0.3)
    axes.legend()
    figure.savefig(file, dpi=DPI)


def _matrix(report: Report, file: Path) -> None:
    from matplotlib.figure import Figure

    method, shots = report.methods[-1], max(report.shots)
    counts = np.sum([outcome.counts for outcome in report.of(method, shots)], axis=0)
    shares = 100 * counts / np.maximum(counts.sum(axis=1, keepdims=True), 1)
    side = min(24.0, 4 + 0.25 * len(counts))
    figure = Figure(figsize=(side, side), layout="constrained")
    axes = figure.add_subplot()
    image = axes.imshow(shares, vmin=0, vmax=100, cmap="viridis")
    if len(counts) <= NAMED:
        names = [safe(label) for label in report.labels]
        axes.set_xticks(range(len(names)), names, rotation=90)
        axes.set_yticks(range(len(names)), names)
    axes.set_xlabel("taken for")
    axes.set_ylabel("is")
    axes.set_title(f"{method}, {shots} shots")
    figure.colorbar(image, label="% of the class's videos", shrink=0.7)
    figure.savefig(file, dpi=DPI)
