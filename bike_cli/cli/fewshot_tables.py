"""The output of `bike fewshot`: tables on stdout, and the JSON report."""

from __future__ import annotations

import math
import sys
from collections.abc import Mapping
from pathlib import Path

from rich import box
from rich.box import Box
from rich.table import Table

from bike_cli.cli.terminal.console import NARROWEST_TABLE, cautioned, plain, print_table, stdout
from bike_cli.cli.terminal.output_file import open_output
from bike_cli.json_text import escaped
from bike_cli.tasks.evaluate.metrics import Mean, recalls
from bike_cli.tasks.fewshot.methods import BASELINE
from bike_cli.tasks.fewshot.report import Report
from bike_cli.wording import FEW_VIDEOS, caution, count, points

CLASSES_SHOWN = 30


def print_report(report: Report) -> None:
    """Print the tables on stdout."""
    console = stdout(sys.stdout)
    fewest = min(len(drawn.test) for drawn in report.draws)
    little = caution(fewest, "test", f"test on {FEW_VIDEOS} or more")
    # A title of the table would wrap to its width.
    print_table(console, plain(_title(report)), _curve(report, console.width), _classes(report))
    print_table(console, plain(_footer(report), "dim"))
    if little is not None:  # Rich would join two texts into one line
        print_table(console, cautioned(little))


def _curve(report: Report, width: int) -> Table:
    layout: Box | None = box.SIMPLE if width >= NARROWEST_TABLE else None
    table = Table(box=layout, pad_edge=layout is not None)
    table.add_column("shots", justify="right", no_wrap=True)
    table.add_column("method", no_wrap=True)
    for column in ("top-1", "mean class"):
        table.add_column(column, justify="right", no_wrap=True)
    table.add_column("gain over zero-shot", justify="right", overflow="fold")
    for shots in report.shots:
        table.add_section()
        for method in report.methods:
            summary, is_baseline = report.summary(method, shots), method == BASELINE
            cells = (str(shots) if is_baseline else "", method, _mean(summary.top1), _mean(summary.mean_class))
            table.add_row(*map(plain, (*cells, "" if is_baseline else _gain(summary.gain))))
    return table


def _classes(report: Report) -> Table:
    method, shots = report.methods[-1], max(report.shots)
    title = plain(f"{method}, {count(shots, 'shot')}, per class")
    table = Table(box=box.SIMPLE, title=title, title_justify="left")
    table.add_column("class", overflow="fold")
    for column in ("accuracy", "zero-shot", "videos", "most often taken for"):
        table.add_column(column, justify="left" if column.startswith("most") else "right")
    counts, baseline = report.summary(method, shots).counts, report.summary(BASELINE, shots).counts
    shares, baseline_shares = recalls(counts), recalls(baseline)
    worst = sorted(range(len(counts)), key=lambda i: (math.isnan(shares[i]), shares[i]))[:CLASSES_SHOWN]
    for i in worst if len(counts) > CLASSES_SHOWN else range(len(counts)):
        mistakes = counts[i].copy()
        mistakes[i] = 0
        likeliest = int(mistakes.argmax())
        taken = f"{report.labels[likeliest]} ({_percent(mistakes.max() / counts[i].sum())})" if mistakes.any() else ""
        videos = f"{counts[i].sum() / len(report.draws):,.0f}"  # per draw
        table.add_row(*map(plain, (report.labels[i], _percent(shares[i]), _percent(baseline_shares[i]), videos, taken)))
    if len(counts) > CLASSES_SHOWN:
        table.caption = f"the {CLASSES_SHOWN} of {len(counts)} classes with the lowest accuracy; -o writes all"
    return table


def _title(report: Report) -> str:
    if len(report.draws) == 1:
        return "accuracy in %, ± standard error over the test videos; gain with 95 % interval, for this draw only"
    return f"accuracy in %, ± standard error over {len(report.draws):,} draws; gain with 95 % interval"


def _footer(report: Report) -> str:
    sizes = sorted({len(drawn.test) for drawn in report.draws})
    fewest = f"{sizes[0]:,}–" if len(sizes) > 1 else ""
    parts = [
        count(len(report.labels), "class", "classes"),
        f"{fewest}{count(sizes[-1], 'test video')}",
        f"seed {report.config.seed}",
        f"model {report.engine.name}",
        f"{report.seconds:.1f} s",
    ]
    if report.failures:
        parts.insert(2, f"{len(report.failures)} could not be read")
    if report.left_out:
        parts.insert(2, f"{len(report.left_out)} left out as copies")
    return " · ".join(parts)


def _mean(mean: Mean) -> str:
    return f"{100 * mean.value:.1f}" + ("" if mean.error is None else f" ± {100 * mean.error:.1f}")


def _gain(mean: Mean) -> str:
    gain = f"{points(mean.value):+.1f}"
    if mean.low is None or mean.high is None:
        return gain
    return f"{gain} [{points(mean.low):+.1f}, {points(mean.high):+.1f}]"


def _percent(share: float) -> str:
    return "–" if math.isnan(share) else f"{100 * share:.0f} %"


def write_report(report: Report, file: Path, *, data: Mapping[str, str | None]) -> None:
    """Write the report as one line of JSON; the same command writes the same bytes again, except for `seconds`."""
    with open_output(file) as stream:
        stream.write(escaped(report.to_json(data)) + "\n")
