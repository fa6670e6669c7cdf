"""Writes pictures as PNG files."""

from __future__ import annotations

import json
from importlib.util import find_spec
from pathlib import Path
from typing import TYPE_CHECKING

from bike_cli.cli.plots.fonts import fonts_for
from bike_cli.cli.terminal.targets import check_folder_name, explain_unwritable
from bike_cli.errors import UsageError
from bike_cli.wording import count

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    import numpy as np
    from matplotlib.figure import Figure
    from numpy.typing import NDArray

    from bike_cli.tasks.evaluate.report import ReliabilityBin
    from bike_cli.tasks.fewshot.report import Report

CURVE, CONFUSION, TRAINING = "learning_curve.png", "confusion_matrix.png", "training.png"
DPI = 150
MARGIN_IN = 0.15


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
    """Write the learning curve, and the confusion matrix of the last method with the most shots.

    Raises:
        UsageError: a file cannot be written.
    """
    from bike_cli.cli.plots.confusion import confusion_figure
    from bike_cli.cli.plots.learning_curve import learning_curve_figure

    method, shots, draws = report.methods[-1], max(report.shots), len(report.draws)
    title = f"Confusion matrix: {method}, {count(shots, 'shot')}"
    over = f", summed over {count(draws, 'draw')}" if draws > 1 else ""
    with fonts_for([report.engine.name, *report.labels], folder), explain_unwritable(folder):
        _save(learning_curve_figure(report), folder / CURVE)
        counts = report.summary(method, shots).counts
        _save(confusion_figure(counts, report.labels, title=title, over=over), folder / CONFUSION)


def write_training_plot(folder: Path) -> Path | None:
    """Draw the log of a training run into its folder; None without matplotlib.

    Raises:
        UsageError: the file cannot be written.
    """
    if find_spec("matplotlib") is None:
        return None
    from bike_cli.cli.plots.training import training_figure

    log, name = folder / "metrics.jsonl", folder.resolve().name
    records = [json.loads(line) for line in log.read_text(encoding="utf-8").splitlines()] if log.exists() else []
    with fonts_for([name], folder / TRAINING), explain_unwritable(folder):
        _save(training_figure(records, name=name), folder / TRAINING)
    return folder / TRAINING


def write_matrix(counts: NDArray[np.int64], labels: Sequence[str], *, system: str, file: Path) -> None:
    """Draw the confusion matrix of a system, int64 [C, C] with a row per true class.

    Raises:
        UsageError: the file cannot be written.
    """
    from bike_cli.cli.plots.confusion import confusion_figure

    with fonts_for([system, *labels], file), explain_unwritable(file):
        _save(confusion_figure(counts, labels, title=f"Confusion matrix: {system}"), file)


def write_reliability_plot(diagrams: Mapping[str, Sequence[ReliabilityBin]], system: str, file: Path) -> None:
    """Draw the reliability diagrams of a system, by what the confidence is.

    Raises:
        UsageError: the file cannot be written.
    """
    from bike_cli.cli.plots.reliability import reliability_figure

    with fonts_for([system], file), explain_unwritable(file):
        _save(reliability_figure(diagrams, title=f"Reliability: {system}"), file)


def _save(figure: Figure, file: Path) -> None:
    figure.savefig(file, dpi=DPI, bbox_inches="tight", pad_inches=MARGIN_IN)
