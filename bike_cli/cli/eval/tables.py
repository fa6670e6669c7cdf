"""The results of `bike eval` as tables, JSON and a confusion matrix."""

from __future__ import annotations

import csv
import sys
from collections.abc import Iterable, Iterator, Mapping, Sequence
from pathlib import Path
from textwrap import wrap

from rich import box
from rich.box import Box
from rich.console import Console, Group, JustifyMethod
from rich.table import Table

from bike_cli.cli.eval.wording import (
    FIRST_DRAW,
    RELIABILITY,
    adjusted_p,
    cautions,
    compared_on,
    decided_by,
    is_of_draws,
    keys_of,
    metric_name,
    percent,
    short_names,
    shown_comparisons,
    shown_metric,
    signed_metric,
    unseen_labels,
    untested,
    verdict,
    without,
)
from bike_cli.cli.terminal.console import NARROWEST_TABLE, cautioned, plain, print_table, stdout
from bike_cli.cli.terminal.output_file import open_output
from bike_cli.errors import UsageError
from bike_cli.json_text import escaped
from bike_cli.tasks.evaluate.json_values import Estimate
from bike_cli.tasks.evaluate.report import Comparison, EvaluationReport, Metric, SystemResult
from bike_cli.tasks.evaluate.reproduction import AnyReport
from bike_cli.wording import count

LONGEST_WORD = 11  # "calibration"
MOST_INLINE = 3  # systems; with more, intervals stand below their metrics


def write_json(report: AnyReport, file: Path) -> None:
    """Write a report; the file appears when it is complete."""
    with open_output(file) as stream:
        stream.write(escaped(report.to_json()) + "\n")


def write_confusion(report: EvaluationReport, file: Path) -> None:
    """Write the first system's confusion matrix, a row per true class, as CSV or PNG by the file's name.

    Raises:
        UsageError: videos have several labels, so the report has no confusion matrix.
    """
    system = report.systems[0]
    labels = [of_class.label for of_class in system.per_class]
    if system.confusion is None:
        raise UsageError("--confusion: needs videos with one label each, and these have several; leave it out")
    if file.suffix.lower() == ".png":
        from bike_cli.cli.plots.files import write_matrix

        write_matrix(system.confusion.matrix(len(labels)), labels, system=system.name, file=file)
        return
    with open_output(file) as stream:
        rows = csv.writer(stream, lineterminator="\n")
        rows.writerow(["is, taken for", *labels])
        counts = system.confusion.matrix(len(labels))
        rows.writerows([label, *row.tolist()] for label, row in zip(labels, counts, strict=True))


def write_reliability(report: EvaluationReport, file: Path) -> None:
    """Write the first system's reliability diagrams, a row per bin of confidence, as CSV or PNG by the file's name.

    Raises:
        UsageError: the answers have no scores, or videos have several labels.
    """
    system = report.systems[0]
    if system.reliability is None:
        raise UsageError("--reliability: needs answers with scores, and videos with one label each; leave it out")
    if file.suffix.lower() == ".png":
        from bike_cli.cli.plots.files import write_reliability_plot

        names = {name: RELIABILITY.get(name, name) for name in system.reliability}
        write_reliability_plot({names[name]: bins for name, bins in system.reliability.items()}, system.name, file)
        return
    with open_output(file) as stream:
        rows = csv.writer(stream, lineterminator="\n")
        rows.writerow(["of", "low", "high", "videos", "confidence", "accuracy", "accuracy_low", "accuracy_high"])
        for name, bins in system.reliability.items():
            for one in bins:
                accuracy = one.accuracy
                numbers = (one.low, one.high, one.confidence, accuracy.value, accuracy.low, accuracy.high)
                low, high, *others = (f"{number:.6g}" for number in numbers)
                rows.writerow([name, low, high, one.videos, *others])


def print_tables(report: EvaluationReport) -> None:
    """Print all tables on stdout."""
    console = stdout(sys.stdout)
    layout: Box | None = box.SIMPLE if console.width >= NARROWEST_TABLE else None
    tables: list[Table | Group] = [_headline(report, layout)]
    calibrated = [system for system in report.systems if len(system.reliability or {}) > 1]
    tables += [table for system in calibrated[:1] for table in _reliability_tables(system, layout)]
    if report.splits:
        tables.append(_unseen_splits(report, layout) if unseen_labels(report) else _splits(report, layout))
    tables += comparison_tables(report, layout, console) if report.comparisons else []
    for table in tables:
        print_table(console, table, *([""] if layout is None else []))
    print_table(console, plain(_footer(report), "dim"))
    for text in cautions(report):
        print_table(console, cautioned(text))


def make_table(layout: Box | None, title: str = "") -> Table:
    """Return an empty table; without a layout, a narrow one."""
    is_narrow = layout is None
    shown = plain(title) if title else None
    return Table(box=layout, title=shown, title_justify="left", pad_edge=not is_narrow, collapse_padding=is_narrow)


def _headline(report: EvaluationReport, layout: Box | None) -> Table:
    systems, names = report.systems, short_names(report)
    scope = " ".join(["", FIRST_DRAW, without(unseen_labels(report))]).rstrip() if is_of_draws(report) else ""
    title = f"in per cent{scope}, with 95 % confidence intervals"
    table = make_table(layout, title)
    table.add_column("")
    for system in systems:
        table.add_column(plain(names[system.name]), justify="right", overflow="fold")
        if system.official is not None:
            table.add_column("official code", justify="right")
    for key in keys_of([*(system.metrics for system in systems), *(system.official for system in systems)]):
        cells: list[tuple[str, str]] = []  # a metric, and its interval or deviation
        for system in systems:
            cells.append(_with_interval(key, system.metrics.get(key)))
            if system.official is not None:
                cells.append(_with_deviation(system.official.get(key)))
        if len(systems) > MOST_INLINE or layout is None:
            table.add_row(metric_name(key), *(value for value, _ in cells))
            table.add_row("", *(plain(around, "dim") for _, around in cells))
        else:
            table.add_row(metric_name(key), *(f"{value} ({around})" if around else value for value, around in cells))
    return table


def _with_interval(key: str, metric: Metric | None) -> tuple[str, str]:
    if metric is None:
        return "", ""
    value, low, high = (shown_metric(key, number) for number in (metric.value, metric.low, metric.high))
    return value, f"{low}–{high}"


def _with_deviation(metric: Estimate | None) -> tuple[str, str]:
    if metric is None:
        return "", ""
    return percent(metric.value), "" if metric.std is None else f"± {percent(metric.std)}"


def _reliability_tables(system: SystemResult, layout: Box | None) -> Iterator[Table]:
    """Yield a table per reliability diagram."""
    for name, bins in (system.reliability or {}).items():
        table = make_table(layout, f"reliability: {RELIABILITY.get(name, name)}")
        for column in ("confidence", "videos", "mean confidence", "correct"):
            table.add_column(column, justify="right", overflow="fold")
        for one in bins:
            around = f"{percent(one.accuracy.low)}–{percent(one.accuracy.high)}"
            edges = f"{percent(one.low)}–{percent(one.high)}"
            correct = f"{percent(one.accuracy.value)} ({around})"
            table.add_row(*map(plain, (edges, f"{one.videos:,}", percent(one.confidence), correct)))
        yield table


def _splits(report: EvaluationReport, layout: Box | None) -> Table:
    table = make_table(layout)
    shown = [key for key in ("top1", "top5") if any(key in split.metrics for split in report.splits)]
    for column in ("system", "split", "classes", "videos", *map(metric_name, shown)):
        table.add_column(column, justify="left" if column in ("system", "split") else "right")
    names = short_names(report)
    for split in report.splits:
        counts = ["" if count is None else f"{count:,}" for count in (split.classes, split.videos)]
        table.add_row(
            *map(plain, (names.get(split.system, split.system), split.name, *counts, *_estimates(split.metrics, shown)))
        )
        if split.official is not None:
            table.add_row("  official code", "", "", "", *_estimates(split.official, shown))
    return table


def _unseen_splits(report: EvaluationReport, layout: Box | None) -> Table:
    """Return a row per metric, with a column per system; the JSON and the page have each draw."""
    draws = sum(split.system == report.splits[0].system and bool(split.unseen) for split in report.splits)
    of_classes = count(len(unseen_labels(report)), "class", "classes")
    table = make_table(layout, f"in per cent, mean ± std over {count(draws, 'draw')} of {of_classes} to leave out")
    means = [split for split in report.splits if not split.unseen]
    names = short_names(report)
    table.add_column("")
    for split in means:
        table.add_column(plain(names.get(split.system, split.system)), justify="right", overflow="fold")
    for key in keys_of(split.metrics for split in means):
        table.add_row(metric_name(key), *(_estimates(split.metrics, [key])[0] for split in means))
    return table


def _estimates(metrics: Mapping[str, Estimate], shown: Sequence[str]) -> list[str]:
    """Return metrics, with their standard deviations if there are any."""
    return [" ".join(_with_deviation(metrics.get(key))).rstrip() for key in shown]


def comparison_tables(
    report: AnyReport, layout: Box | None, console: Console, *, name_width: int = LONGEST_WORD
) -> list[Group]:
    """Return a table per compared system, with as few line breaks in its cells as the console needs.

    Args:
        name_width: of the names of metrics where they are broken.
    """
    unlimited = console.options.update(max_width=10 * console.width)  # measures are cut to this width
    names = short_names(report)
    baseline = names[report.comparisons[0].baseline]
    scope = f", in percentage points, {compared_on(report)}; {decided_by(report)}"
    tables: list[Group] = []
    for system in dict.fromkeys(row.system for row in report.comparisons):
        rows = [row for row in shown_comparisons(report) if row.system == system]
        for broken in ((), ("metric",), ("metric", "result")):
            table = _comparison(rows, layout, broken, name_width)
            if console.measure(table, options=unlimited).maximum <= console.width:
                break
        # Not as the table's title, which would be no wider than the table.
        title = plain(f"{names[system]} compared with {baseline}{'' if tables else scope}", "italic")
        tables.append(Group(title, table))
    if untested(report):  # below the last one
        table.caption, table.caption_justify = plain(untested(report), "dim"), "left"
    return tables


def _comparison(rows: Iterable[Comparison], layout: Box | None, broken: Sequence[str], name_width: int) -> Table:
    """Return a row per metric.

    Args:
        broken: the columns whose cells are broken into lines; Rich would break words.
    """
    table = make_table(layout)
    for column in ("metric", "difference", "95 % interval", "p", ""):
        justify: JustifyMethod = "left" if column in ("metric", "") else "right"
        name = "diff." if layout is None and column == "difference" else column
        table.add_column(name, justify=justify, no_wrap=True, overflow="fold")
    for row in rows:
        metric, result = metric_name(row.metric), verdict(row)
        if "metric" in broken:
            metric = "\n".join(wrap(metric, name_width))
        if "result" in broken:
            result = result.replace(" ", "\n")
        low, high = signed_metric(row.metric, row.low), signed_metric(row.metric, row.high)
        interval = f"{low.removesuffix(' s')} to {high}"
        table.add_row(metric, signed_metric(row.metric, row.difference), interval, adjusted_p(row), result)
    return table


def _footer(report: EvaluationReport) -> str:
    data = report.data
    parts = [count(data.videos, "video"), count(data.classes, "class", "classes"), f"protocol {report.protocol}"]
    failed, empty = len(data.failed), len(data.classes_without_videos)
    parts += [f"{count(failed, 'video')} failed"] if failed else []
    parts += [f"{count(empty, 'class', 'classes')} without videos"] if empty else []
    return " · ".join(parts)
