"""The results of a few-shot study: per draw, summarised over draws, and as JSON."""

from __future__ import annotations

import json
import math
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass

import numpy as np
from numpy.typing import NDArray

from bike_cli.config import RESULTS, DrawConfig
from bike_cli.data.labelled.draws import Draw
from bike_cli.engine.engine import Engine
from bike_cli.records import Failure, Sample, Timings
from bike_cli.settings import settings_affecting
from bike_cli.tasks.evaluate.metrics import (
    DIFFERENCES,
    SHARES,
    Mean,
    mean_class_accuracy,
    mean_of,
    mean_with_error,
    recalls,
    share_of,
    top1,
)
from bike_cli.tasks.fewshot.methods import BASELINE
from bike_cli.versions import versions


@dataclass(frozen=True, eq=False)
class Outcome:
    """The result of one method on one draw."""

    method: str
    shots: int
    trial: int
    counts: NDArray[np.int64]  # confusion matrix, int64 [C, C]; rows are true classes
    hits: NDArray[np.bool_]  # bool [V], whether each test video was classified correctly
    videos: NDArray[np.int64]  # int64 [V], the test videos; other draws may have others
    chosen: Mapping[str, float]  # constants that the fit chose, by name

    @property
    def top1(self) -> float:
        """The share of test videos that were classified correctly."""
        return top1(self.counts)

    @property
    def mean_class(self) -> float:
        """The mean over classes of the share of their videos that were classified correctly."""
        return mean_class_accuracy(self.counts)


@dataclass(frozen=True, eq=False)
class Summary:
    """The results of one method with one number of shots, over all draws."""

    top1: Mean  # of a single draw, its error is that over the test videos
    mean_class: Mean
    gain: Mean  # top-1 minus that of the baseline on the same videos; its error is that over draws and test videos
    counts: NDArray[np.int64]  # the sum of the confusion matrices, int64 [C, C]


def summarise(outcomes: Sequence[Outcome], baseline: Sequence[Outcome]) -> Summary:
    """Return the summary of a method's outcomes; `baseline` has the outcomes of the baseline on the same draws."""
    counts: NDArray[np.int64] = np.sum([outcome.counts for outcome in outcomes], axis=0)
    top1s = [outcome.top1 for outcome in outcomes]
    accuracy = share_of(outcomes[0].hits) if len(outcomes) == 1 else mean_of(top1s, bounds=SHARES)
    mean_class = mean_of([outcome.mean_class for outcome in outcomes], bounds=SHARES)
    return Summary(accuracy, mean_class, _gain(outcomes, baseline), counts)


def _gain(outcomes: Sequence[Outcome], baseline: Sequence[Outcome]) -> Mean:
    """Return the mean gain. Draws and test videos both vary, so the variances of both add up (Welch-Satterthwaite).

    As for other differences, two videos that speak for either method are added to the variance.
    """
    gains = [outcome.hits.astype(np.float64) - base.hits for outcome, base in zip(outcomes, baseline, strict=True)]
    by_draw = np.array([gain.mean() for gain in gains])
    _, video = np.unique(np.concatenate([outcome.videos for outcome in outcomes]), return_inverse=True)
    by_video = np.bincount(video, np.concatenate(gains)) / np.bincount(video)
    added_variance = 2 / (len(by_video) + 2) ** 2
    sources = [by_draw, by_video]
    return mean_with_error(float(by_draw.mean()), sources, added_variance=added_variance, bounds=DIFFERENCES)


@dataclass(frozen=True, eq=False)
class Report:
    """The results of a few-shot study."""

    labels: tuple[str, ...]  # what the model read for each class
    names: tuple[str, ...]  # the classes, as folders and files name them
    outcomes: tuple[Outcome, ...]  # by method (the baseline first), number of shots and trial
    draws: tuple[Draw, ...]  # one per trial
    samples: tuple[Sample, ...]  # the videos that the places in `draws`, `digests`, `failures` and `left_out` refer to
    digests: Mapping[int, bytes]  # SHA-256 of each video that was opened, by place
    failures: Mapping[int, Failure]  # by place
    left_out: Mapping[int, int]  # the place of each copy, and the place of the video that was used instead
    engine: Engine
    config: DrawConfig
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
            "source": None if self.engine.source is None else asdict(self.engine.source),
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
    return {name: _rounded(getattr(mean, name)) for name in ("value", "error", "margin", "low", "high")}


def _rounded(number: float | None) -> float | None:
    return None if number is None or not math.isfinite(number) else round(number, 6)
