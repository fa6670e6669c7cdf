"""The results of `bike eval --protocol detection` as tables."""

from __future__ import annotations

import sys
from collections.abc import Iterator
from dataclasses import replace

from rich import box
from rich.box import Box
from rich.console import Console, Group
from rich.table import Table

from bike_cli.cli.eval.tables import MOST_INLINE, comparison_tables, make_table
from bike_cli.cli.eval.wording import is_in_seconds, keys_of, metric_name, short_names, shown_metric
from bike_cli.cli.terminal.console import NARROWEST_TABLE, cautioned, plain, print_table
from bike_cli.tasks.detection.metrics import map_key
from bike_cli.tasks.detection.report import DetectionReport
from bike_cli.tasks.evaluate.report import Metric
from bike_cli.wording import FEW_VIDEOS, caution, count

MOST_THRESHOLDS = 7  # of mAP that are shown; of more, the usual ones are
NAME_WIDTH = 16  # of "segment precision", broken
FEW_SEGMENTS = 20  # of a class; with fewer, the intervals of its average precision are too narrow
USUAL = ("0.3", "0.4", "0.5", "0.6", "0.7", "0.75", "0.95")


def print_detection_tables(report: DetectionReport) -> None:
    """Print all tables on stdout."""
    console = Console(file=sys.stdout, highlight=False)
    layout: Box | None = box.SIMPLE if console.width >= NARROWEST_TABLE else None
    shown = with_shown_metrics(report)
    tables: list[Table | Group] = [_headline(shown, layout)]
    tables += comparison_tables(shown, layout, console, name_width=NAME_WIDTH) if shown.comparisons else []
    for table in tables:
        print_table(console, table, *([""] if layout is None else []))
    print_table(console, plain(_footer(report), "dim"))
    for text in _cautions(report):
        print_table(console, cautioned(text))


def with_shown_metrics(report: DetectionReport) -> DetectionReport:
    """Return the report without the thresholds of mAP that tables have no room for."""
    names = set(report.tiou)
    shown = names if len(names) <= MOST_THRESHOLDS else names.intersection(USUAL)
    hidden = {map_key(name) for name in names - shown}
    systems = tuple(
        replace(system, metrics={key: metric for key, metric in system.metrics.items() if key not in hidden})
        for system in report.systems
    )
    return replace(
        report, systems=systems, comparisons=tuple(row for row in report.comparisons if row.metric not in hidden)
    )


def _headline(report: DetectionReport, layout: Box | None) -> Table:
    names = short_names(report)
    table = make_table(layout, "in per cent, with 95 % confidence intervals")
    table.add_column("")
    for system in report.systems:
        table.add_column(plain(names[system.name]), justify="right", overflow="fold")
    for key in keys_of(system.metrics for system in report.systems):
        cells = [_cell(key, system.metrics.get(key)) for system in report.systems]
        if len(report.systems) > MOST_INLINE or layout is None:
            table.add_row(metric_name(key), *(value for value, _ in cells))
            table.add_row("", *(plain(around, "dim") for _, around in cells))
        else:
            table.add_row(metric_name(key), *(f"{value} ({around})" if around else value for value, around in cells))
    return table


def _cell(key: str, metric: Metric | None) -> tuple[str, str]:
    if metric is None:
        return "–", ""
    low, high = (shown_metric(key, value).removesuffix(" s") for value in (metric.low, metric.high))
    unit = " s" if is_in_seconds(key) else ""
    return shown_metric(key, metric.value), f"{low}–{high}{unit}"


def _cautions(report: DetectionReport) -> Iterator[str]:
    """Yield why intervals may be too narrow."""
    little = caution(report.data.videos, "annotated", f"annotate {FEW_VIDEOS} or more")
    if little is not None:
        yield little
    few = sum(0 < of_class.segments < FEW_SEGMENTS for of_class in report.systems[0].per_class)
    if few:
        classes = count(few, "class has", "classes have")
        yield f"{classes} fewer than {FEW_SEGMENTS} true segments, so intervals of mAP may be too narrow"


def _footer(report: DetectionReport) -> str:
    data = report.data
    free = f" ({data.label_free:,} without a segment)" if data.label_free else ""
    parts = [f"{count(data.videos, 'video')}{free}", count(data.segments, "segment")]
    parts += [count(data.classes, "class", "classes"), f"protocol {report.protocol}"]
    failed, empty = len(data.failed), len(data.classes_without_segments)
    parts += [f"{count(failed, 'video')} failed"] if failed else []
    parts += [f"{count(empty, 'class', 'classes')} without segments"] if empty else []
    return " · ".join(parts)
