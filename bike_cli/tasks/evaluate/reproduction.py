"""Whether a repeated evaluation has the metrics of the report that it repeats."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator, Set
from typing import Any

from bike_cli.errors import shorten
from bike_cli.tasks.detection.report import DetectionReport
from bike_cli.tasks.evaluate.report import EvaluationReport

# What versions of the report before this one computed differently: deviations over draws, for `fewshot`, were divided
# by n.
SAME_SINCE = 3
RECOMPUTED, DEVIATIONS = {"low", "high", "p"}, {"top1_std", "top5_std"}
TOLERANCE = 1e-6  # another machine may differ in the last digits
SHOWN = 60  # characters of a value in a message


_OF_DETECTIONS = re.compile(r'"protocol"\s*:\s*"detection"')

AnyReport = EvaluationReport | DetectionReport


def any_report_from_json(text: str) -> AnyReport:
    """Return the report that `bike eval -o` wrote with any protocol.

    Raises:
        ValueError: not such a report, or one of a newer version.
    """
    kind = DetectionReport if _OF_DETECTIONS.search(text) else EvaluationReport
    return kind.from_json(text)


def differing_metrics(before: AnyReport, now: AnyReport) -> list[str]:
    """Return where the metrics of two reports differ, in words; what the first one lacks is not compared."""
    then, today = json.loads(before.to_json()), json.loads(now.to_json())
    if isinstance(before, EvaluationReport) and isinstance(now, EvaluationReport):
        dropped = _metrics(now) - _metrics(before)
        if before.version < SAME_SINCE:
            # Each version leaves out some metrics, depending on the numbers of videos and classes.
            dropped |= (
                RECOMPUTED
                | (_metrics(before) - _metrics(now))
                | (DEVIATIONS if before.protocol == "fewshot" else set())
            )
        then, today = _without(then, dropped), _without(today, dropped)
    then, today = _with_cells(then), _with_cells(today)
    compared = [name for name in ("systems", "splits", "comparisons") if name in then]
    return [text for name in compared for text in _differing(then[name], today.get(name), name)]


def _with_cells(document: dict[str, Any]) -> dict[str, Any]:
    """Return a JSON report with confusions as numbers of videos by pair of classes, such as `run as walk`."""
    systems = []
    for system in document.get("systems", []):
        found = system.get("confusion")
        if found is not None:
            labels = [of_class["label"] for of_class in system["per_class"]]
            pairs = zip(found["truth"], found["guess"], found["videos"], strict=True)
            system = {**system, "confusion": {f"{labels[i]} as {labels[j]}": n for i, j, n in pairs}}
        systems.append(system)
    return {**document, "systems": systems}


def _metrics(report: EvaluationReport) -> set[str]:
    return {key for one in report.systems for key in one.metrics} | {k for one in report.splits for k in one.metrics}


def _without(value: Any, dropped: Set[str]) -> Any:  # noqa: ANN401
    """Return a JSON value without some metrics, keys and null values."""
    if isinstance(value, dict):
        return {key: _without(one, dropped) for key, one in value.items() if key not in dropped and one is not None}
    if isinstance(value, list):
        kept = (one for one in value if not (isinstance(one, dict) and one.get("metric") in dropped))
        return [_without(one, dropped) for one in kept]
    return value


def _differing(before: Any, now: Any, where: str) -> Iterator[str]:  # noqa: ANN401
    if isinstance(before, dict) and isinstance(now, dict) and where.endswith(".confusion"):
        for pair in {**before, **now}:
            yield from _differing(before.get(pair, 0), now.get(pair, 0), f"{where}.{pair}")
    elif isinstance(before, dict) and isinstance(now, dict):
        for key in before:
            yield from _differing(before[key], now.get(key), f"{where}.{key}")
    elif isinstance(before, list) and isinstance(now, list) and len(before) == len(now):
        for i, (old, new) in enumerate(zip(before, now, strict=True)):
            yield from _differing(old, new, f"{where}[{i}]")
    elif isinstance(before, int | float) and isinstance(now, int | float):
        if abs(before - now) > TOLERANCE:
            yield f"{where}: {before} before, {now} now"
    elif before != now:
        yield f"{where}: {shorten(repr(before), SHOWN)} before, {shorten(repr(now), SHOWN)} now"
