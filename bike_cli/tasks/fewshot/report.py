"""The report of a few-shot study as JSON."""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Mapping
from typing import TYPE_CHECKING

import numpy as np

from bike_cli.config import PRIVATE
from bike_cli.settings import flatten
from bike_cli.tasks.evaluate.metrics import Mean, recalls
from bike_cli.tasks.fewshot.methods import BASELINE
from bike_cli.tasks.fewshot.outcomes import Report, gain, over_trials
from bike_cli.versions import versions

if TYPE_CHECKING:
    from bike_cli.records import Failure


def _summed(report: Report, method: str, shots: int) -> np.ndarray:
    total: np.ndarray = np.sum([outcome.counts for outcome in report.of(method, shots)], axis=0)
    return total


def as_object(report: Report, *, data: Mapping[str, str | None]) -> dict[str, object]:
    """Return the report as a JSON object.

    Args:
        data: what was named, by argument: `data`, `test`, `labels`, `root`.
    """
    placement = report.engine.encoder.placement
    config = {name: value for name, value in flatten(report.config).items() if name not in PRIVATE}
    return {
        "command": "fewshot",
        **data,
        "model": report.engine.name,
        "fingerprint": report.engine.fingerprint,
        "device": placement.device.type,
        "dtype": str(placement.dtype).removeprefix("torch."),
        "classes": [{"name": n, "label": label} for n, label in zip(report.names, report.labels, strict=True)],
        "settings": config,
        "results": [_result(report, method, shots) for method in report.methods for shots in report.shots],
        "draws": [_drawn(report, trial) for trial in range(len(report.draws))],
        "failures": [_failure(report, place) for place in sorted(report.failures)],
        "left_out": [
            {"path": report.samples[place].source.id, "same_as": report.samples[first].source.id}
            for place, first in sorted(report.left_out.items())
        ],
        "versions": versions(),
        "seconds": round(report.seconds, 3),
    }


def _result(report: Report, method: str, shots: int) -> dict[str, object]:
    outcomes, told = report.of(method, shots), report.of(BASELINE, shots)
    counts = _summed(report, method, shots)
    better = gain(outcomes, told)
    return {
        "method": method,
        "shots": shots,
        "top1": _mean(over_trials(outcomes, "top1")),
        "macro": _mean(over_trials(outcomes, "macro")),
        "gain": _mean(better),
        "trials": [
            {
                "top1": _rounded(outcome.top1),
                "macro": _rounded(outcome.macro),
                "videos": int(outcome.counts.sum()),
                "chosen": {name: _rounded(value) for name, value in outcome.chosen.items()},
            }
            for outcome in outcomes
        ],
        "per_class": [_rounded(share) for share in recalls(counts).tolist()],
        "confusion": counts.tolist(),
    }


def _drawn(report: Report, trial: int) -> dict[str, object]:
    drawn = report.draws[trial]
    return {
        "trial": trial,
        "shots": [[_video(report, place) for place in places] for places in drawn.shots],
        "test": [_video(report, place) for place in drawn.test],
    }


def _video(report: Report, place: int) -> dict[str, object]:
    digest = report.digests.get(place)
    return {"path": report.samples[place].source.id, "sha256": None if digest is None else digest.hex()}


def _failure(report: Report, place: int) -> dict[str, object]:
    failure: Failure = report.failures[place]
    return {"path": failure.source.id, "type": failure.kind, "message": failure.message}


def _mean(mean: Mean) -> dict[str, float | None]:
    return {name: _rounded(value) for name, value in dataclasses.asdict(mean).items()}


def _rounded(number: float | None) -> float | None:
    return None if number is None or not math.isfinite(number) else round(number, 6)
