"""How often answers of a confidence are correct: bins of confidence."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property
from typing import TYPE_CHECKING

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from bike_cli.engine.calibration.quality import log_loss
from bike_cli.tasks.evaluate.metrics import softmax
from bike_cli.tasks.evaluate.report import ReliabilityBin
from bike_cli.tasks.evaluate.statistics.bootstrap import Groups
from bike_cli.tasks.evaluate.statistics.intervals import proportion_interval

if TYPE_CHECKING:
    from bike_cli.tasks.evaluate.answers import Answers

BINS = 15  # of equal width; each has its upper edge


@dataclass(frozen=True, eq=False)
class Confidences:
    """The confidence of some answers, and whether they are correct.

    Args:
        values: float64 [n], from 0 to 1.
        correct: bool [n].
        rows: int64 [n], the places of their videos.
    """

    values: NDArray[np.float64]
    correct: NDArray[np.bool_]
    rows: NDArray[np.int64]

    @classmethod
    def together(cls, *parts: Confidences) -> Confidences:
        """Return all answers of several parts."""
        names = ("values", "correct", "rows")
        return cls(*(np.concatenate([getattr(part, name) for part in parts]) for name in names))

    @cached_property
    def bins(self) -> NDArray[np.int64]:
        """The bin of each answer, [n]."""
        return np.asarray(np.clip(np.ceil(self.values * BINS).astype(np.int64) - 1, 0, BINS - 1))

    @cached_property
    def excess(self) -> NDArray[np.float64]:
        """Correctness minus confidence of each answer, [n]."""
        return self.correct - self.values

    @cached_property
    def by_bin(self) -> tuple[Groups, Tensor]:
        """A group per bin, and the excess of each answer in the order of the groups."""
        order = np.argsort(self.bins, kind="stable")
        groups = Groups.in_order(self.rows[order], np.bincount(self.bins, minlength=BINS))
        return groups, torch.from_numpy(self.excess[order])

    def mean_excess(self, counts: Tensor) -> NDArray[np.float64]:
        """Return the sum of the excess of each bin by the number of answers, in resamples of [V, R]: [15, R]."""
        groups, excess = self.by_bin
        sums, answers = groups.weighted_sums(counts, excess), groups.sums(counts).sum(axis=0)
        return np.asarray(np.divide(sums, answers, out=np.full(sums.shape, np.nan), where=answers > 0))

    def diagram(self) -> tuple[ReliabilityBin, ...]:
        """Return the bins that have an answer, the lowest first."""
        return tuple(
            _bin(int(place), self.values[self.bins == place], self.correct[self.bins == place])
            for place in np.unique(self.bins)
        )


def _bin(place: int, values: NDArray[np.float64], correct: NDArray[np.bool_]) -> ReliabilityBin:
    accuracy = proportion_interval(int(correct.sum()), len(correct))
    return ReliabilityBin(place / BINS, (place + 1) / BINS, len(values), float(values.mean()), accuracy)


@dataclass(frozen=True, eq=False)
class LogLosses:
    """The negative logarithm of probabilities.

    Args:
        values: float64 [n], of the class of each video.
        of_mistakes: float64 [n], of the second most probable class: what each video would cost if that was its class.
    """

    values: NDArray[np.float64]
    of_mistakes: NDArray[np.float64]


@dataclass(frozen=True, eq=False)
class ProbabilityQuality:
    """What the metrics of probabilities are computed from; only with one label per video."""

    answers: Answers

    @cached_property
    def confidences(self) -> Confidences:
        """The scores of the answers for known videos."""
        return Confidences(self.answers.confidence[self.answers.known], self.answers.hits, self.answers.known)

    @cached_property
    def confidences_before(self) -> Confidences:
        """The same without the scale of the calibration."""
        before = softmax(self.answers.table.logits[self.answers.known]).max(axis=1)
        return Confidences(before, self.answers.hits, self.answers.known)

    @cached_property
    def confidences_of_none(self) -> Confidences:
        """The scores of the answers for unknown videos, which are all wrong."""
        return Confidences(
            self.answers.confidence[self.answers.none],
            np.zeros(len(self.answers.none), dtype=np.bool_),
            self.answers.none,
        )

    @cached_property
    def chances(self) -> tuple[Confidences, Confidences]:
        """How probable it is that an answer is right, by the calibration: for known and for unknown videos."""
        assert self.answers.table.right is not None
        none = Confidences(
            self.answers.table.right[self.answers.none], self.confidences_of_none.correct, self.answers.none
        )
        return Confidences(self.answers.table.right[self.answers.known], self.answers.hits, self.answers.known), none

    @cached_property
    def log_losses(self) -> LogLosses:
        """The log loss of each known video; only if `names_all`."""
        return self._log_losses(1.0 if self.answers.table.scale is None else self.answers.table.scale)

    @cached_property
    def log_losses_before(self) -> LogLosses:
        """The same without the scale of the calibration."""
        return self._log_losses(1.0)

    def _log_losses(self, scale: float) -> LogLosses:
        logits = scale * self.answers.table.logits[self.answers.known]
        likeliest = np.argpartition(logits, -2, axis=1)[:, -2] if logits.shape[1] > 1 else self.answers.truth
        return LogLosses(log_loss(logits, self.answers.truth), log_loss(logits, likeliest))
