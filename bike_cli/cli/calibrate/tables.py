"""The report of `bike calibrate`, as tables and as JSON."""

from __future__ import annotations

import sys

from rich import box
from rich.box import Box
from rich.measure import Measurement
from rich.table import Table

from bike_cli.cli.terminal.console import NARROWEST_TABLE, cautioned, plain, print_table, stdout
from bike_cli.json_text import escaped
from bike_cli.tasks.calibrate.report import CalibrationReport, Promise, Separation
from bike_cli.wording import count, percent

WIDEST_TABLE = 1000  # columns; no table is as wide
ENOUGH_CLIPS = 100  # below, a single calibration may lose several times what is promised


def print_json(report: CalibrationReport) -> None:
    """Print the report as one line of JSON."""
    sys.stdout.write(escaped(report.to_json()) + "\n")


def print_tables(report: CalibrationReport) -> None:
    """Print the tables on stdout."""
    console = stdout(sys.stdout)
    layout: Box | None = box.SIMPLE if console.width >= NARROWEST_TABLE else None
    of_none = ", and clips of none that are caught" if report.unknown else ""
    measure = report.calibration.measure
    side = "above" if measure == "distance" else "below"
    print_table(console, plain(f"known clips that are lost {side} each threshold of the {measure}{of_none}"))
    promises = _promises(report, layout, wraps=layout is None)
    if Measurement.get(console, console.options.update_width(WIDEST_TABLE), promises).maximum > console.width:
        promises = _promises(report, layout, wraps=True)
    tables = [promises, _quality(report, layout)]
    tables += [] if report.separation is None else [_separation(report.separation, measure, layout)]
    print_table(console, *tables)
    print_table(console, plain(_footer(report), "dim"))
    for caution in _cautions(report):
        print_table(console, cautioned(caution))


def _promises(report: CalibrationReport, layout: Box | None, *, wraps: bool) -> Table:
    table = Table(box=layout, pad_edge=layout is not None)
    columns = ["promised", "threshold", "expected", "95 % interval", "leave-one-out"]
    for column in [*columns, *(["caught"] if report.unknown else [])]:
        table.add_column(column, justify="right", no_wrap=not wraps, overflow="fold")
    for row in report.promises:
        table.add_row(*map(plain, _promise(row, report)))
    return table


def _promise(row: Promise, report: CalibrationReport) -> list[str]:
    promised = percent(row.promise)
    if row.threshold is None or row.expected is None or row.low is None or row.high is None:
        return [promised, f"needs {count(row.fewest, 'clip')}"]
    left_out = row.left_out
    margin = "" if left_out is None or left_out.error is None else f" ± {100 * left_out.error:.1f}"
    return [
        promised,
        f"{report.calibration.shown(row.threshold):.4f}",
        percent(row.expected),
        f"{100 * row.low:.1f}–{100 * row.high:.1f} %",
        "–" if left_out is None else f"{100 * left_out.value:.1f}{margin} %",
        *([f"{row.caught:,} of {report.unknown:,}"] if report.unknown else []),
    ]


def _quality(report: CalibrationReport, layout: Box | None) -> Table:
    before, after, separation = report.before, report.after, report.separation
    table = Table(box=layout, pad_edge=layout is not None)
    for column, justify in (("probabilities", "left"), ("before", "right"), ("after", "right")):
        table.add_column(column, justify=justify, overflow="fold")  # type: ignore[arg-type]
    errors = (before.calibration_error, after.calibration_error)
    table.add_row("known clips: calibration error", *map(percent, errors))
    table.add_row("known clips: log loss", *(f"{loss:.4f}" for loss in (before.log_loss, after.log_loss)))
    if separation is not None:
        table.add_row("with none: calibration error", *map(percent, (separation.before, separation.after)))
    return table


def _separation(separation: Separation, measure: str, layout: Box | None) -> Table:
    table = Table(box=layout, pad_edge=layout is not None)
    for column, justify in ((f"known clips and none, by {measure}", "left"), ("", "right"), ("95 % interval", "right")):
        table.add_column(column, justify=justify, overflow="fold")  # type: ignore[arg-type]
    for name, metric in (("AUROC", separation.auroc), ("FPR95", separation.fpr95)):
        table.add_row(name, percent(metric.value), f"{100 * metric.low:.1f}–{100 * metric.high:.1f} %")
    return table


def _footer(report: CalibrationReport) -> str:
    accuracy = report.accuracy
    error = "" if accuracy.error is None else f" ± {100 * accuracy.error:.1f}"
    parts = [
        count(report.known, "known clip"),
        count(len(report.calibration.labels), "class", "classes"),
        f"{100 * accuracy.value:.1f}{error} % correct",
        f"scale {report.calibration.scale:.3f}",
    ]
    parts += [f"{report.unknown:,} of none"] if report.unknown else []
    parts += [f"{len(report.failed):,} could not be read"] if report.failed else []
    parts += [f"{len(report.learned):,} left out, as the classifier was trained on them"] if report.learned else []
    parts += [f"{len(report.copies):,} counted once as copies"] if report.copies else []
    return " · ".join(parts)


def _cautions(report: CalibrationReport) -> list[str]:
    cautions = []
    if report.known < ENOUGH_CLIPS:
        own = next(row for row in report.promises if row.promise == report.calibration.promise)
        assert own.high is not None
        cautions.append(
            f"with {count(report.known, 'clip')}, a calibration may lose up to {percent(own.high)} instead of "
            f"{percent(own.promise)}; give {ENOUGH_CLIPS} or more"
        )
    cautions.append("nothing is promised about clips that show something else, or that are not like these")
    return cautions
