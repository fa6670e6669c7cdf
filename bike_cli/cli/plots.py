"""Pictures of a few-shot report and of a training; they need matplotlib, an extra."""

from __future__ import annotations

import json
from importlib.util import find_spec
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from bike_cli.cli.terminal.console import safe
from bike_cli.cli.terminal.targets import check_folder_name, explain_unwritable
from bike_cli.errors import UsageError
from bike_cli.wording import count

if TYPE_CHECKING:
    from collections.abc import Sequence

    from numpy.typing import NDArray

    from bike_cli.tasks.fewshot.report import Report

CURVE, CONFUSION, TRAINING = "learning_curve.png", "confusion_matrix.png", "training.png"
NAMED = 60  # classes that a matrix has room to name
DPI = 150


def check_drawing(flag: str) -> None:
    """Raise UsageError where nothing can be drawn; `flag` asks for it."""
    if find_spec("matplotlib") is None:
        raise UsageError(f"{flag}: draws with matplotlib, which is not installed; pip install 'bike-cli[plots]'")


def check_plots(folder: Path) -> None:
    """Raise UsageError where no picture can be drawn into a folder."""
    check_folder_name(folder)
    check_drawing("--plots")
    if folder.exists() and not folder.is_dir():
        raise UsageError(f"{folder}: is a file; name a folder for the pictures")
    with explain_unwritable(folder):
        folder.mkdir(parents=True, exist_ok=True)


def write_plots(report: Report, folder: Path) -> None:
    """Write the learning curve and the confusion matrix of the last method with the most shots."""
    import matplotlib as mpl

    as_text = mpl.rc_context({"text.usetex": False, "text.parse_math": False})  # labels are not formulas
    with as_text, explain_unwritable(folder):
        _curve(report, folder / CURVE)
        method, shots = report.methods[-1], max(report.shots)
        counts, title = report.summary(method, shots).counts, f"{method}, {count(shots, 'shot')}"
        draw_matrix(counts, report.labels, title=title, file=folder / CONFUSION)


def write_training_plot(folder: Path) -> Path | None:
    """Draw loss and validation of a training from its log into its folder; None without matplotlib."""
    if find_spec("matplotlib") is None:
        return None
    from matplotlib.figure import Figure

    log = folder / "metrics.jsonl"
    records = [json.loads(line) for line in log.read_text(encoding="utf-8").splitlines()] if log.exists() else []
    figure = Figure(figsize=(8, 4), layout="constrained")
    losses, rights = figure.subplots(1, 2)
    for branch in dict.fromkeys(r["branch"] for r in records if r["kind"] == "step"):
        steps = [r for r in records if r["kind"] == "step" and r["branch"] == branch]
        losses.plot([r["step"] for r in steps], [r["loss"] for r in steps], label=branch)
    validations = [r for r in records if r["kind"] == "validated" and r["what"] in ("video", "attributes")]
    for what in dict.fromkeys(r["what"] for r in validations):
        for name in validations[0]["metrics"]:
            of = [r for r in validations if r["what"] == what]
            label = f"{what}, {name}"
            rights.plot([r["epoch"] for r in of], [100 * r["metrics"][name] for r in of], marker=".", label=label)
    for axes, x, y in ((losses, "step", "loss"), (rights, "epoch", "validation in %")):
        axes.set_xlabel(x)
        axes.set_ylabel(y)
        axes.grid(alpha=0.3)
        if axes.lines:
            axes.legend()
    with explain_unwritable(folder):
        figure.savefig(folder / TRAINING, dpi=DPI)
    return folder / TRAINING


def _curve(report: Report, file: Path) -> None:
    from matplotlib.figure import Figure

    figure = Figure(figsize=(6, 4), layout="constrained")
    axes = figure.add_subplot()
    for method in report.methods:
        means = [report.summary(method, shots).top1 for shots in report.shots]
        heights = [100 * mean.value for mean in means]
        errors = [100 * (mean.error or 0) for mean in means]
        axes.errorbar(report.shots, heights, yerr=errors, marker="o", capsize=3, label=method)
    axes.set_xscale("log", base=2)
    axes.set_xticks(report.shots, [str(shots) for shots in report.shots])
    axes.minorticks_off()
    axes.set_xlabel("videos per class")
    axes.set_ylabel("top-1 in %, ± standard error")
    axes.grid(alpha=0.3)
    axes.legend()
    figure.savefig(file, dpi=DPI)


def draw_matrix(counts: NDArray[np.int64], labels: Sequence[str], *, title: str, file: Path) -> None:
    """Draw a confusion matrix [C, C], in shares of each true class's videos.

    Raises:
        UsageError: the file cannot be written.
    """
    from matplotlib.figure import Figure

    shares = 100 * counts / np.maximum(counts.sum(axis=1, keepdims=True), 1)
    side = min(24.0, 4 + 0.25 * len(counts))
    figure = Figure(figsize=(side, side), layout="constrained")
    axes = figure.add_subplot()
    image = axes.imshow(shares, vmin=0, vmax=100, cmap="viridis")
    if len(counts) <= NAMED:
        names = [safe(label) for label in labels]
        axes.set_xticks(range(len(names)), names, rotation=90)
        axes.set_yticks(range(len(names)), names)
    axes.set_xlabel("taken for")
    axes.set_ylabel("is")
    axes.set_title(safe(title))
    figure.colorbar(image, label="% of the class's videos", shrink=0.7)
    with explain_unwritable(file):
        figure.savefig(file, dpi=DPI)
