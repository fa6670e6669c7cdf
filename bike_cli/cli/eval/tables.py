"""What `bike eval` found out: tables for people, JSON for programs."""

from __future__ import annotations

import csv
import math
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, cast

import numpy as np
from rich import box
from rich.console import Console
from rich.table import Table

from bike_cli.cli.classify.rows import as_json
from bike_cli.cli.eval.page import METRICS, SETTLED, SMALLER_IS_BETTER, compared_on
from bike_cli.cli.eval.repeat import OWN
from bike_cli.cli.fewshot_tables import NARROWEST
from bike_cli.cli.terminal.console import plain
from bike_cli.cli.terminal.output_file import open_output
from bike_cli.config import PRIVATE, EvalConfig
from bike_cli.errors import UsageError
from bike_cli.settings import flatten
from bike_cli.versions import versions

if TYPE_CHECKING:
    from bike_cli.engine.engine import Engine

Object = Mapping[str, object]

BESIDE = 3  # systems; of more, intervals stand below their figures
NAMES = {name: called for name, (called, _) in METRICS.items()} | {
    "running_map": "running mAP",
    "half_top1": "top-1 on halves",
    "half_top1_std": "  its std",
    "half_top5": "top-5 on halves",
    "half_top5_std": "  its std",
    "splits_top1": "top-1 on splits",
    "splits_top1_std": "  its std",
    "splits_top5": "top-5 on splits",
    "splits_top5_std": "  its std",
    "attributes_top1": "top-1 of attributes",
    "attributes_top5": "top-5 of attributes",
    "fused_top1": "top-1 with attributes",
}


def whole_report(
    given: Object, config: EvalConfig, data: Object, figures: Object, *, engine: Engine | None, model: str
) -> dict[str, object]:
    """Return the JSON of an evaluation; `arguments` are those that --from repeats.

    Args:
        engine: the first system's; None: the predictions were made before.
    """
    arguments = {name: _as_written(value) for name, value in given.items() if name not in OWN and value is not None}
    placement = None if engine is None else engine.encoder.placement
    settings = flatten(config)
    if engine is None:  # how predictions were made is not known
        settings = {name: settings[name] for name in ("protocol", "seed", "resamples")}
    return {
        "command": "eval",
        "protocol": config.protocol,
        "model": model,
        "fingerprint": None if engine is None else engine.fingerprint,
        "device": None if placement is None else placement.device.type,
        "dtype": None if placement is None else str(placement.dtype).removeprefix("torch."),
        "arguments": arguments,
        "settings": {name: value for name, value in settings.items() if name not in PRIVATE},
        "data": data,
        **figures,
        "systems_left_out": [],
        "versions": versions(),
        "seed": config.seed,
    }


def _as_written(value: object) -> object:
    some = [_as_written(one) for one in value] if isinstance(value, list) else value
    return str(some) if isinstance(some, Path) else some


def write_json(report: Object, file: Path) -> None:
    """Write a report; the file appears when it is complete."""
    with open_output(file) as stream:
        stream.write(as_json(report) + "\n")


def write_confusion(report: Object, file: Path) -> None:
    """Write the first system's confusion matrix, a row a true class, as CSV or PNG by the file's name.

    Raises:
        UsageError: several labels a video have none.
    """
    system = _systems(report)[0]
    labels = [str(one["label"]) for one in cast("Sequence[Object]", system["per_class"])]
    counts = system["confusion"]
    if counts is None:
        raise UsageError("--confusion: videos have several labels, so none is taken for another; leave it out")
    if file.suffix.lower() == ".png":
        from bike_cli.cli.plots import draw_matrix

        draw_matrix(np.asarray(counts), labels, title=str(system["name"]), file=file)
        return
    with open_output(file) as stream:
        rows = csv.writer(stream, lineterminator="\n")
        rows.writerow(["is, taken for", *labels])
        rows.writerows([label, *row] for label, row in zip(labels, cast("list[list[int]]", counts), strict=True))


def print_tables(report: Object) -> None:
    """Print the figures on stdout."""
    console = Console(file=sys.stdout, highlight=False)
    console.width = max(console.width, NARROWEST)
    console.print(_headline(report))
    for part in (_splits(report), _differences(report)):
        if part is not None:
            console.print(part)
    console.print(plain(_footer(report), "dim"))


# -- tables ------------------------------------------------------------------------------------------------------------


def _systems(report: Object) -> Sequence[Object]:
    return cast("Sequence[Object]", report["systems"])


def _title(report: Object) -> str:
    return f"per cent{', of the first draw' * (report['protocol'] == 'fewshot')}, with 95 % intervals"


def _headline(report: Object) -> Table:
    systems = _systems(report)
    table = Table(box=box.SIMPLE, title=plain(_title(report)), title_justify="left")
    table.add_column("")
    for system in systems:
        table.add_column(plain(str(system["name"])), justify="right", overflow="fold")
        if system["official"] is not None:
            table.add_column("official code", justify="right")
    own = list(dict.fromkeys(name for system in systems for name in cast(Object, system["metrics"])))
    officials = dict.fromkeys(name for system in systems for name in cast(Object, system["official"] or {}))
    for name in (*own, *(name for name in officials if name not in own)):
        cells: list[tuple[str, str]] = []
        for system in systems:
            metrics = cast("Mapping[str, Mapping[str, float | None]]", system["metrics"])
            cells.append(_with_interval(metrics[name]) if name in metrics else ("", ""))
            if system["official"] is not None:
                cells.append((_percent(cast("Mapping[str, float]", system["official"]).get(name)), ""))
        called, values, around = NAMES.get(name, name), [value for value, _ in cells], [one for _, one in cells]
        if len(systems) > BESIDE:
            table.add_row(*map(plain, (called, *values)))
            table.add_row("", *(plain(one, "dim") for one in around))
        else:
            beside = [f"{value} ({one})" if one else value for value, one in cells]
            table.add_row(*map(plain, (called, *beside)))
    return table


def _splits(report: Object) -> Table | None:
    splits = cast("Sequence[Object]", report["splits"])
    if not splits:
        return None
    table = Table(box=box.SIMPLE)
    for column in ("system", "split", "classes", "videos", "top-1", "top-5"):
        table.add_column(column, justify="left" if column in ("system", "split") else "right")
    for split in splits:
        counts = ["" if split[k] is None else f"{split[k]:,}" for k in ("classes", "videos")]
        table.add_row(*map(plain, (str(split["system"]), str(split["name"]), *counts, *_both(split["metrics"]))))
        if "official" in split:
            table.add_row(*map(plain, ("  official code", "", "", "", *_both(split["official"]))))
    return table


def _both(figures: object) -> list[str]:
    """Return top-1 and top-5, and how far they spread where that is told."""
    told = cast("Mapping[str, float]", figures)
    spread = {k: f" ± {_percent(told[f'{k}_std'])}" if f"{k}_std" in told else "" for k in ("top1", "top5")}
    return [_percent(told[k]) + spread[k] for k in spread]


def _differences(report: Object) -> Table | None:
    comparisons = cast("Sequence[Object]", report["comparisons"])
    if not comparisons:
        return None
    table = Table(
        box=box.SIMPLE,
        title=plain(f"against {comparisons[0]['a']}, in points, {compared_on(report)}"),
        title_justify="left",
    )
    for column in ("system", "figure", "difference", "95 % interval", "p", ""):
        table.add_column(column, justify="left" if column in ("system", "figure", "") else "right")
    for one in comparisons:
        low, high, gain = (float(cast(float, one[k])) for k in ("low", "high", "difference"))
        cells = (f"{100 * gain:+.1f}", f"{100 * low:+.1f} to {100 * high:+.1f}", f"{one['p']:.3f}")
        figure = NAMES.get(str(one["metric"]), str(one["metric"]))
        table.add_row(*map(plain, (str(one["b"]), figure, *cells, _winner(one, low, high))))
    return table


def _winner(comparison: Object, low: float, high: float) -> str:
    """Return which system is better, where the interval leaves 0 out and p is small."""
    if low <= 0 <= high or float(cast(float, comparison["p"])) >= SETTLED:
        return ""
    is_gain = (low > 0) != (comparison["metric"] in SMALLER_IS_BETTER)
    return f"real: {comparison['b' if is_gain else 'a']} is better"


def _footer(report: Object) -> str:
    data = cast(Object, report["data"])
    parts = [f"{data['videos']:,} videos", f"{data['classes']:,} classes", f"protocol {report['protocol']}"]
    failed, empty = (cast("Sequence[object]", data[name]) for name in ("failed", "classes_without_videos"))
    parts += [f"{len(failed):,} videos failed"] if failed else []
    parts += [f"{len(empty):,} classes without videos"] if empty else []
    return " · ".join(parts)


def _with_interval(figure: Mapping[str, float | None]) -> tuple[str, str]:
    value, low, high = (figure[name] for name in ("value", "low", "high"))
    if value is None or low is None or high is None:
        return "–", ""
    return f"{100 * value:.1f}", f"{100 * low:.1f}–{100 * high:.1f}"


def _percent(share: float | None) -> str:
    return "" if share is None or not math.isfinite(share) else f"{100 * share:.1f}"
