"""What `bike fewshot` found out: tables for people, JSON for programs."""

from __future__ import annotations

import math
import sys
from collections.abc import Mapping
from pathlib import Path

from rich import box
from rich.console import Console
from rich.table import Table

from bike_cli.cli.classify.rows import as_json
from bike_cli.cli.terminal.console import plain
from bike_cli.cli.terminal.output_file import open_output
from bike_cli.tasks.evaluate.metrics import Mean, recalls
from bike_cli.tasks.fewshot.methods import BASELINE
from bike_cli.tasks.fewshot.outcomes import Report, gain, over_trials
from bike_cli.tasks.fewshot.report import _summed, as_object

NARROWEST = 72  # columns; in less, figures would be cut to others
CLASSES_SHOWN = 30  # a table of more is for files


# -- tables -------------------------------------------------------------------------------------------------------


def print_report(report: Report) -> None:
    """Print the tables on stdout."""
    console = Console(file=sys.stdout, highlight=False)
    console.width = max(console.width, NARROWEST)
    console.print(_curve(report))
    console.print(_classes(report))
    console.print(plain(_footer(report), "dim"))


def _curve(report: Report) -> Table:
    table = Table(box=box.SIMPLE, title=plain(_title(report)), title_justify="left")
    table.add_column("shots", justify="right")
    table.add_column("method")
    for column in ("top-1", "macro", "gain over zero-shot"):
        table.add_column(column, justify="right")
    for shots in report.shots:
        table.add_section()
        for method in report.methods:
            outcomes = report.of(method, shots)
            better = "" if method == BASELINE else _signed(gain(outcomes, report.of(BASELINE, shots)))
            figures = [_share(over_trials(outcomes, figure)) for figure in ("top1", "macro")]
            first = str(shots) if method == BASELINE else ""
            table.add_row(*map(plain, (first, method, *figures, better)))
    return table


def _classes(report: Report) -> Table:
    """Return how right each class is, by the last method with the most shots."""
    method, shots = report.methods[-1], max(report.shots)
    table = Table(box=box.SIMPLE, title=plain(f"{method}, {shots} shots, by class"), title_justify="left")
    table.add_column("class", overflow="fold")
    for column in ("right", "zero-shot", "videos", "most often taken for"):
        table.add_column(column, justify="left" if column.startswith("most") else "right")
    counts, told = _summed(report, method, shots), _summed(report, BASELINE, shots)
    shares, before = recalls(counts), recalls(told)
    worst = sorted(range(len(counts)), key=lambda i: (math.isnan(shares[i]), shares[i]))[:CLASSES_SHOWN]
    for i in worst if len(counts) > CLASSES_SHOWN else range(len(counts)):
        others = counts[i].copy()
        others[i] = 0
        taken = f"{report.labels[int(others.argmax())]} ({others.max() / counts[i].sum():.0%})" if others.any() else ""
        tested = f"{counts[i].sum() / len(report.draws):,.0f}"  # in each draw
        cells = (_percent(shares[i]), _percent(before[i]), tested, taken)
        table.add_row(plain(report.labels[i]), *map(plain, cells))
    if len(counts) > CLASSES_SHOWN:
        table.caption = f"the {CLASSES_SHOWN} least right of {len(counts)}; all are in the report of -o"
    return table


def _title(report: Report) -> str:
    count = len(report.draws)
    over = f"{count} draws" if count > 1 else "the videos of one draw"
    return f"per cent right, ± standard error over {over}; gain with its 95 % interval"


def _footer(report: Report) -> str:
    tested = sorted({len(drawn.test) for drawn in report.draws})
    parts = [
        f"{len(report.labels)} classes",
        f"{'–'.join(f'{count:,}' for count in tested[:1] + tested[1:][-1:])} videos tested on",
        f"seed {report.config.seed}",
        f"model {report.engine.name}",
        f"{report.seconds:.1f} s",
    ]
    if report.failures:
        parts.insert(2, f"{len(report.failures)} could not be read")
    if report.left_out:
        parts.insert(2, f"{len(report.left_out)} left out as copies")
    return " · ".join(parts)


def _share(mean: Mean) -> str:
    return f"{100 * mean.value:.1f}" + ("" if mean.error is None else f" ± {100 * mean.error:.1f}")


def _signed(mean: Mean) -> str:
    gained = f"{_points(mean.value):+.1f}"
    if mean.margin is None:
        return gained
    # No gain is beyond 100 points, whatever so few draws allow.
    low, high = max(-1.0, mean.value - mean.margin), min(1.0, mean.value + mean.margin)
    return f"{gained} [{_points(low):+.1f}, {_points(high):+.1f}]"


def _points(share: float) -> float:
    return round(100 * share, 1) + 0.0  # never -0.0


def _percent(share: float) -> str:
    return "–" if math.isnan(share) else f"{share:.0%}"


# -- JSON ---------------------------------------------------------------------------------------------------------


def write_report(report: Report, file: Path, *, data: Mapping[str, str | None]) -> None:
    """Write everything as one JSON object; the same command gives the same bytes again, but for `seconds`."""
    with open_output(file) as stream:
        stream.write(as_json(as_object(report, data=data)) + "\n")
