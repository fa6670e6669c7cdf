"""What a few-shot run found out."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from bike_cli.config import FewshotConfig
from bike_cli.data.labelled.draws import Draw
from bike_cli.engine.engine import Engine
from bike_cli.records import Failure, Sample, Spent
from bike_cli.tasks.evaluate.metrics import Mean, macro, mean_of, top1


@dataclass(frozen=True, eq=False)
class Outcome:
    """What one method came to on one draw.

    Args:
        counts: confusion matrix, int64 [C, C], a row a true class.
        hits: bool [n], a video of the test set each, in its order.
        chosen: what the fit chose by itself.
    """

    method: str
    shots: int
    trial: int
    counts: NDArray[np.int64]
    hits: NDArray[np.bool_]
    chosen: Mapping[str, float]

    @property
    def top1(self) -> float:
        """Share of the videos that are right."""
        return top1(self.counts)

    @property
    def macro(self) -> float:
        """Mean of the classes' own shares."""
        return macro(self.counts)


@dataclass(frozen=True, eq=False)
class Report:
    """All that a few-shot run found out.

    Args:
        outcomes: by method in the order asked for, shots and trial.
        draws: one a trial.
        samples: what places of draws mean.
        digests: SHA-256 of each sample that was read, by place.
        failures: by place.
        left_out: place of a video that is another one's copy -> place of that one.
        learnt: the first trial's classifier of the last method with the most shots; None where none was asked for.
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
    spent: Spent
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
        """Return the outcomes of a method with so many shots, by trial."""
        return [o for o in self.outcomes if (o.method, o.shots) == (method, shots)]


def over_trials(outcomes: Sequence[Outcome], figure: str) -> Mean:
    """Return the mean of `top1` or `macro` over trials; of one trial's top-1 the error is that over its videos."""
    if len(outcomes) == 1 and figure == "top1":
        return mean_of(outcomes[0].hits.astype(np.float64))
    return mean_of([getattr(outcome, figure) for outcome in outcomes])


def gain(outcomes: Sequence[Outcome], baseline: Sequence[Outcome]) -> Mean:
    """Return by how much outcomes are better than the baseline's on the same draws, in top-1.

    Its interval is paired: over trials, or over the videos of a single one.
    """
    if len(outcomes) == 1:
        return mean_of(outcomes[0].hits.astype(np.float64) - baseline[0].hits)
    return mean_of([o.top1 - b.top1 for o, b in zip(outcomes, baseline, strict=True)])
