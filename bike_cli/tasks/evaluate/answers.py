"""What metrics are computed from: the answers for labelled videos, and resamples of these videos."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property

import numpy as np
from numpy.typing import NDArray
from torch import Tensor

from bike_cli.data.labelled.eval_sets import NONE
from bike_cli.errors import UsageError
from bike_cli.tasks.evaluate.metrics import TOP, Ranking, divided, ranking
from bike_cli.tasks.evaluate.score_table import ScoreTable
from bike_cli.tasks.evaluate.statistics.bootstrap import Groups, RankedClasses
from bike_cli.tasks.evaluate.statistics.reliability import ProbabilityQuality

ACCEPTED = 0.95  # share of the known videos, of FPR95
ROUNDING = 1e-9  # of products with `ACCEPTED`


class Answers:
    """The answers of one table, prepared once for all resamples.

    Videos without any of the labels (truth -1) are not among the `known` ones. Arrays over known videos have length n.

    Raises:
        UsageError: no video has a label.
    """

    def __init__(self, table: ScoreTable) -> None:
        self.table = table
        self.labelled = table.is_labelled  # bool [V]
        if not self.labelled.any():
            raise UsageError("truth: no video has one of the labels; check that predictions and labels belong together")
        self.known = np.flatnonzero(self.labelled)  # int64 [n]
        self.names_all = table.fewest == len(table.labels)
        self.names_top = table.fewest >= min(TOP, len(table.labels))
        best = table.ranked(TOP)
        hits = table.has(best)[self.known]
        self.guesses = best[self.known, 0]  # int64 [n]
        self.hits: NDArray[np.bool_] = hits[:, 0]  # [n]
        self.hits5: NDArray[np.bool_] = np.asarray(hits.any(axis=1))  # [n]
        self.confidence = table.confidence  # float64 [V]

    @cached_property
    def truth(self) -> NDArray[np.int64]:
        """The class of each known video, [n]; only with one label per video."""
        return np.asarray(self.table.truth[self.known], dtype=np.int64)

    @cached_property
    def rankings(self) -> list[Ranking]:
        """The videos in the order of their scores, per class; only if `names_all`."""
        # With several labels per video, a video without labels is a negative of every class; else it does not count.
        scores, present = self.table.label_scores[self._ranked], self.table.present[self._ranked]
        return [ranking(of_class, is_of) for of_class, is_of in zip(scores.T, present.T, strict=True)]

    @cached_property
    def ranked_classes(self) -> RankedClasses:
        """The rankings, ready for resamples."""
        return RankedClasses(self.rankings, self._ranked, videos=len(self.table.videos))

    @property
    def _ranked(self) -> NDArray[np.int64]:
        return np.flatnonzero(self.labelled | self.table.multi_label)

    # -- groups of videos whose counts metrics sum

    @cached_property
    def by_hit(self) -> Groups:
        """Two groups: answers that are wrong, and those that are correct."""
        return Groups.of(self.hits.astype(np.int64), groups=2, rows=self.known)

    @cached_property
    def by_hit5(self) -> Groups:
        """Two groups: videos whose class is not among the five best answers, and those whose class is."""
        return Groups.of(self.hits5.astype(np.int64), groups=2, rows=self.known)

    @cached_property
    def by_class(self) -> Groups:
        """A group per class: its videos."""
        return Groups.of(self.truth, groups=len(self.table.labels), rows=self.known)

    @cached_property
    def correct_by_class(self) -> Groups:
        """A group per class: its videos whose answer is correct."""
        return Groups.of(self.truth[self.hits], groups=len(self.table.labels), rows=self.known[self.hits])

    @cached_property
    def by_guess(self) -> Groups:
        """A group per class: the videos classified as it."""
        return Groups.of(self.guesses, groups=len(self.table.labels), rows=self.known)

    # -- how good probabilities are

    @cached_property
    def has_scores(self) -> bool:
        """Whether answers have scores; those without count as certain."""
        return bool((self.confidence < 1).any())

    @cached_property
    def quality(self) -> ProbabilityQuality:
        """How good the probabilities are; only with one label per video."""
        return ProbabilityQuality(self)

    @cached_property
    def squared_errors(self) -> NDArray[np.float64]:
        """The Brier score of each known video, [n]; only if `names_all`."""
        errors = self.table.probabilities[self.known] - self.table.present[self.known]
        return np.asarray((errors**2).sum(axis=1) / 2)

    @cached_property
    def none(self) -> NDArray[np.int64]:
        """The places of videos that have none of the labels, [m]; only with one label per video."""
        return np.flatnonzero(self.table.truth == NONE)

    @property
    def rejected(self) -> NDArray[np.bool_]:
        """Whether each video is rejected, [V]; only if the table has it."""
        assert self.table.rejected is not None
        return self.table.rejected

    @cached_property
    def is_right(self) -> NDArray[np.bool_]:
        """Whether each video is answered correctly, [V]; a rejection is correct for a video that has no label."""
        right = self.rejected & ~self.labelled
        right[self.known] = self.hits & ~self.rejected[self.known]
        return right

    @cached_property
    def doubts_of_scores(self) -> tuple[Groups, Groups]:
        """Known and unknown videos by the doubt of their score; see `_by_doubt`."""
        return self._by_doubt(1 - self.confidence)

    @cached_property
    def doubts_of_cosines(self) -> tuple[Groups, Groups]:
        """Known and unknown videos by how low the cosine of their best label is; see `_by_doubt`."""
        assert self.table.best_cosines is not None
        return self._by_doubt(-self.table.best_cosines)

    def _by_doubt(self, doubt: NDArray[np.float64]) -> tuple[Groups, Groups]:
        """Known videos, grouped by the place of their doubt among the levels of unknown videos; and those, by level.

        The first has a group below the lowest level, one at it, one between it and the second, and so on.
        """
        none = self.none
        levels, level = np.unique(doubt[none], return_inverse=True)
        place = np.searchsorted(levels, doubt[self.known], "left") + np.searchsorted(levels, doubt[self.known], "right")
        by_place = Groups.of(place.astype(np.int64), groups=2 * len(levels) + 1, rows=self.known)
        return by_place, Groups.of(np.asarray(level, dtype=np.int64), groups=len(levels), rows=none)


@dataclass(frozen=True, eq=False)
class Resamples:
    """Resamples of the videos: what a metric is a function of."""

    answers: Answers
    counts: Tensor  # float32 [V, R], how often each of V videos is drawn in each of R resamples

    def share(self, groups: Groups) -> NDArray[np.float64]:
        """Return the share of the second of two groups, [R]."""
        first, second = groups.sums(self.counts)
        return divided(second, first + second)

    def share_of(self, videos: NDArray[np.int64], hits: NDArray[np.bool_]) -> NDArray[np.float64]:
        """Return the share of hits [n] among the videos at some places, [n]: [R]."""
        return self.share(Groups.of(hits.astype(np.int64), groups=2, rows=videos))

    def auroc(self, doubts: tuple[Groups, Groups]) -> NDArray[np.float64]:
        """Return how often an unknown video is more doubtful than a known one; a tie counts half: [R]."""
        known, none = (groups.sums(self.counts) for groups in doubts)
        below = np.cumsum(known, axis=0)
        won = (none * (below[0:-1:2] + known[1::2] / 2)).sum(axis=0)
        return divided(won, none.sum(axis=0) * below[-1])

    def false_acceptance(self, doubts: tuple[Groups, Groups]) -> NDArray[np.float64]:
        """Return the share of unknown videos that the strictest threshold for 95 % of the known ones accepts, [R]."""
        known, none = (groups.sums(self.counts) for groups in doubts)
        up_to = np.cumsum(known, axis=0)  # known videos with at most the doubt of each place
        # The place of the most doubtful known video that is accepted. Odd places are at a level of unknown videos, so
        # these are accepted, too; even places lie between two levels.
        last = (up_to < ACCEPTED * up_to[-1] * (1 - ROUNDING)).sum(axis=0)
        is_accepted = np.arange(len(none))[:, None] < (last + 1) // 2
        return divided((none * is_accepted).sum(axis=0), none.sum(axis=0))

    @cached_property
    def videos(self) -> NDArray[np.float64]:
        """The number of videos per class, [C, R]."""
        return self.answers.by_class.sums(self.counts)

    @cached_property
    def correct(self) -> NDArray[np.float64]:
        """The number of correctly classified videos per class, [C, R]."""
        return self.answers.correct_by_class.sums(self.counts)

    @cached_property
    def guessed(self) -> NDArray[np.float64]:
        """The number of videos classified as each class, [C, R]."""
        return self.answers.by_guess.sums(self.counts)
