"""The report of a few-shot study, and its JSON."""

from __future__ import annotations

import json
import math
from collections.abc import Mapping
from dataclasses import asdict, dataclass

from bike_cli.config import RESULTS, FewshotConfig
from bike_cli.data.labelled.draws import Draw
from bike_cli.engine.engine import Engine
from bike_cli.records import Failure, Sample, Timings
from bike_cli.settings import settings_affecting
from bike_cli.tasks.evaluate.metrics import Mean, recalls
from bike_cli.tasks.fewshot.methods import BASELINE
from bike_cli.tasks.fewshot.outcomes import Outcome, Summary, summarise
from bike_cli.versions import versions


@dataclass(frozen=True, eq=False)
class Report:
    """The results of a few-shot study.

    Args:
        labels: what the model read for each class.
        names: the classes, as folders and files name them.
        outcomes: by method (the baseline first), number of shots and trial.
        draws: one per trial.
        samples: the videos that the places in `draws`, `digests`, `failures` and `left_out` refer to.
        digests: SHA-256 of each video that was opened, by place.
        failures: by place.
        left_out: the place of each copy, and the place of the video that was used instead.
    """

    labels: tuple[str, ...]
    names: tuple[str, ...]
    outcomes: tuple[Outcome, ...]
    draws: tuple[Draw, ...]
    samples: tuple[Sample, ...]
    digests: Mapping[int, bytes]
    failures: Mapping[int, Failure]
    left_out: Mapping[int, int]
    engine: Engine
    config: FewshotConfig
    spent: Timings
    seconds: float

    @property
    def shots(self) -> tuple[int, ...]:
        """The numbers of shots, ascending."""
        return tuple(sorted({outcome.shots for outcome in self.outcomes}))

    @property
    def methods(self) -> tuple[str, ...]:
        """The methods, the baseline first."""
        return tuple(dict.fromkeys(outcome.method for outcome in self.outcomes))

    def of(self, method: str, shots: int) -> list[Outcome]:
        """Return the outcomes of a method with a number of shots, by trial."""
        return [o for o in self.outcomes if (o.method, o.shots) == (method, shots)]

    def summary(self, method: str, shots: int) -> Summary:
        """Return the results of a method with a number of shots, over all trials."""
        return summarise(self.of(method, shots), self.of(BASELINE, shots))

    def to_json(self, data: Mapping[str, str | None]) -> str:
        """Return the report as one line of JSON.

        Args:
            data: the arguments `data`, `test`, `labels` and `root` of the command.
        """
        placement = self.engine.encoder.placement
        document = {
            "command": "fewshot",
            **data,
            "model": self.engine.name,
            "fingerprint": self.engine.fingerprint,
            "device": placement.device.type,
            "dtype": str(placement.dtype).removeprefix("torch."),
            "classes": [{"name": n, "label": label} for n, label in zip(self.names, self.labels, strict=True)],
            "settings": settings_affecting(self.config, *RESULTS),
            "results": [self._result(method, shots) for method in self.methods for shots in self.shots],
            "draws": [self._draw(trial, drawn) for trial, drawn in enumerate(self.draws)],
            "failures": [self.failures[place].to_json() for place in sorted(self.failures)],
            "left_out": [
                {"path": self.samples[place].source.id, "same_as": self.samples[original].source.id}
                for place, original in sorted(self.left_out.items())
            ],
            "versions": versions(),
            "seconds": round(self.seconds, 3),
        }
        return json.dumps(document, ensure_ascii=False, allow_nan=False)

    def _result(self, method: str, shots: int) -> dict[str, object]:
        summary = self.summary(method, shots)
        return {
            "method": method,
            "shots": shots,
            "top1": _mean(summary.top1),
            "macro": _mean(summary.mean_class),  # the name in files of version 0.1
            "gain": _mean(summary.gain),
            "trials": [
                {
                    "top1": _rounded(outcome.top1),
                    "macro": _rounded(outcome.mean_class),
                    "videos": int(outcome.counts.sum()),
                    "chosen": {name: _rounded(value) for name, value in outcome.chosen.items()},
                }
                for outcome in self.of(method, shots)
            ],
            "per_class": [_rounded(share) for share in recalls(summary.counts).tolist()],
            "confusion": summary.counts.tolist(),
        }

    def _draw(self, trial: int, drawn: Draw) -> dict[str, object]:
        return {
            "trial": trial,
            "shots": [[self._video(place) for place in places] for places in drawn.shots],
            "test": [self._video(place) for place in drawn.test],
        }

    def _video(self, place: int) -> dict[str, str | None]:
        digest = self.digests.get(place)
        return {"path": self.samples[place].source.id, "sha256": None if digest is None else digest.hex()}


def _mean(mean: Mean) -> dict[str, float | None]:
    return {name: _rounded(value) for name, value in asdict(mean).items()}


def _rounded(number: float | None) -> float | None:
    return None if number is None or not math.isfinite(number) else round(number, 6)
