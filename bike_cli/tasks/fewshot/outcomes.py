"""The results of a few-shot study: per draw, and summarised over draws."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from bike_cli.tasks.evaluate.metrics import Mean, mean_class_accuracy, mean_of, top1


@dataclass(frozen=True, eq=False)
class Outcome:
    """The result of one method on one draw.

    Args:
        counts: confusion matrix, int64 [C, C]; rows are true classes.
        hits: bool [V], whether each test video was classified correctly.
        chosen: constants that the fit chose, by name.
    """

    method: str
    shots: int
    trial: int
    counts: NDArray[np.int64]
    hits: NDArray[np.bool_]
    chosen: Mapping[str, float]

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
    """The results of one method with one number of shots, over all draws.

    Args:
        top1: of a single draw, its error is that over the test videos.
        gain: top-1 minus that of the baseline on the same draws; its interval is paired.
        counts: the sum of the confusion matrices, int64 [C, C].
    """

    top1: Mean
    mean_class: Mean
    gain: Mean
    counts: NDArray[np.int64]


def summarise(outcomes: Sequence[Outcome], baseline: Sequence[Outcome]) -> Summary:
    """Return the summary of a method's outcomes; `baseline` has the outcomes of the baseline on the same draws."""
    counts: NDArray[np.int64] = np.sum([outcome.counts for outcome in outcomes], axis=0)
    mean_class = mean_of([outcome.mean_class for outcome in outcomes])
    if len(outcomes) == 1:
        hits = outcomes[0].hits.astype(np.float64)
        return Summary(mean_of(hits), mean_class, mean_of(hits - baseline[0].hits), counts)
    gains = [outcome.top1 - base.top1 for outcome, base in zip(outcomes, baseline, strict=True)]
    return Summary(mean_of([outcome.top1 for outcome in outcomes]), mean_class, mean_of(gains), counts)
