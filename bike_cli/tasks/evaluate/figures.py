"""Every figure of an evaluation with its 95 % interval, and whether one is really better than another.

A figure is a function of how often each video counts: once for its value, as drawn for its interval. Videos of none of
the labels (truth -1) count for `auroc_none` alone, which needs them.

    top1, top5    share of videos whose label is (one of theirs is) the best, or among the five best
    mean_class    mean over classes of the share of their videos that are right
    macro_f1      mean over classes of F1, precision and recall of the best label
    ece           expected calibration error: |share right - mean probability| of the best label, in 15 equal bins
    auroc_none    how well a low best probability tells videos of none of the labels from others
    map           mean over classes of average precision, over all videos

Means over classes are over those that have a video, in each resample: a class without one costs nothing. What cannot
be known is left out: top5 where a prediction names fewer than five labels, map where it does not name all.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from bike_cli.errors import UsageError
from bike_cli.tasks.evaluate.bootstrap import (
    BLOCK,
    Difference,
    Groups,
    Interval,
    RankedClasses,
    difference,
    divided,
    each_once,
    interval,
    resamples_of,
    sign_test,
)
from bike_cli.tasks.evaluate.metrics import average_precision, confusion, ranking
from bike_cli.tasks.evaluate.score_table import NONE, ScoreTable

BINS = 15
TOP = 5
RESAMPLES = 1000

MOST_LOOKUPS = 10**10  # what the interval of `map` may cost
FEWEST_BLOCKS = 4

Drawn = dict[str, NDArray[np.float64]]  # name -> the figure in each resample, [R]
FiguresOf = Callable[[Tensor], Drawn]  # of counts [V, R]


@dataclass(frozen=True, eq=False)
class PerClass:
    """What is known of each class, [C]; NaN where there is nothing to divide by.

    Args:
        videos: int64, how many it has.
        precision: share of the videos taken for it that are of it; NaN, like recall and f1, with several labels a
            video, where the best label is no whole answer.
        recall: share of its videos that are taken for it.
        f1: NaN for a class without a video.
        average_precision: without interpolation; ties earn nothing. NaN where predictions do not name all labels.
    """

    videos: NDArray[np.int64]
    precision: NDArray[np.float64]
    recall: NDArray[np.float64]
    f1: NDArray[np.float64]
    average_precision: NDArray[np.float64]


@dataclass(frozen=True, eq=False)
class Measured:
    """The figures of one table, all of them shares from 0 to 1.

    Args:
        values: by name, in the order in which they are shown: `top1`, `top5`, `mean_class`, `macro_f1`, `ece`,
            `auroc_none` if there are videos of none of the labels, `map`; with several labels a video `map`, `top1`,
            `top5`. `top5` and `map` are not there where predictions name too few labels for them.
        confusion: int64 [C, C], how many videos of each class (row) were taken for each (column); None with several
            labels a video.
    """

    values: Mapping[str, Interval]
    per_class: PerClass
    confusion: NDArray[np.int64] | None


@dataclass(frozen=True)
class Compared:
    """What a second table gains over a first one.

    Args:
        differences: by name, second minus first, of the figures that both have; a smaller `ece` is the better one.
        videos: how many both have.
        left_out: how many only one of them has.
    """

    differences: Mapping[str, Difference]
    videos: int
    left_out: int


def measured(table: ScoreTable, *, seed: int = 0, resamples: int = RESAMPLES) -> Measured:
    """Return every figure of a table, with a percentile bootstrap interval over videos.

    The same table, seed and number of resamples give the same digits. For `map`, of very many videos and classes, the
    first resamples do: 256 of 100,000 videos and 400 classes.

    Raises:
        UsageError: no video has a label.
    """
    facts = _Facts(table)
    values, drawn = _bootstrapped(facts, seed=seed, resamples=resamples)
    intervals = {name: interval(value, drawn[name]) for name, value in values.items()}
    return Measured(intervals, facts.per_class(), facts.confusion())


def compared(first: ScoreTable, second: ScoreTable, *, seed: int = 0, resamples: int = RESAMPLES) -> Compared:
    """Return what the second table gains over the first, by a paired bootstrap: both are drawn the same videos.

    Videos and labels may be in another order; videos that only one has are left out.

    Raises:
        UsageError: other labels, another truth, no video in common, or a video twice so that it is not clear which.
    """
    a, b, left_out = _aligned(first, second)
    facts = (_Facts(a), _Facts(b))
    (values, drawn), (others, others_drawn) = (_bootstrapped(one, seed=seed, resamples=resamples) for one in facts)
    least = _sign_tests(*facts)
    gains = {
        name: difference(others[name] - values[name], others_drawn[name] - drawn[name], least_p=least[name])
        for name in values
        if name in others
    }
    return Compared(gains, len(a.videos), left_out)


def _sign_tests(a: _Facts, b: _Facts) -> dict[str, float]:
    """Return the sign test's p of each figure; where the two are alike, a video is no sign.

    Only a hit is a sign for one of them. Of other figures it is not known whom a video speaks for, so all of them may.
    """
    wins = {"top1": (a.hits, b.hits), "top5": (a.hits5, b.hits5)}
    found = {name: sign_test(int((y & ~x).sum()), int((x & ~y).sum())) for name, (x, y) in wins.items()}
    guesses = sign_test(int((a.guesses != b.guesses).sum()), 0)
    scores = sign_test(int((a.table.logits != b.table.logits).any(axis=1).sum()), 0)
    return (
        found | dict.fromkeys(("mean_class", "macro_f1"), guesses) | dict.fromkeys(("ece", "auroc_none", "map"), scores)
    )


def _bootstrapped(facts: _Facts, *, seed: int, resamples: int) -> tuple[dict[str, float], Drawn]:
    """Return each figure, and what it is in each resample."""
    videos, figures = facts.videos, facts.figures()
    values = {name: float(value[0]) for one in figures for name, value in one.of(each_once(videos)).items()}
    blocks: dict[str, list[NDArray[np.float64]]] = {name: [np.empty(0)] for name in values}
    for i, counts in enumerate(resamples_of(videos, seed=seed, resamples=resamples)):
        for one in figures:
            if i < one.most_blocks:
                for name, drawn in one.of(counts).items():
                    blocks[name].append(drawn)
    return values, {name: np.concatenate(drawn) for name, drawn in blocks.items()}


# -- figures ------------------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class _Figures:
    """Figures that are computed together, in the first so many blocks of resamples."""

    of: FiguresOf
    most_blocks: float = math.inf


class _Facts:
    """What figures of one table need, computed once."""

    def __init__(self, table: ScoreTable) -> None:
        self.videos = len(table.videos)
        self.table = table
        self._labelled = table.present.any(axis=1)
        if not self._labelled.any():
            raise UsageError("truth: no video has one of the labels; check that both are of the same data")
        # Videos of several labels or none are negatives of the other classes; those of none of the labels are not.
        self._rows = np.flatnonzero(self._labelled | table.multi_label)
        probabilities = table.probabilities[self._rows]
        present = table.present[self._rows]
        self._has_all, self._has_top = table.fewest == len(table.labels), table.fewest >= min(TOP, len(table.labels))
        columns = zip(probabilities.T, present.T, strict=True) if self._has_all else ()
        self._rankings = [ranking(s, p) for s, p in columns]
        self._known = np.flatnonzero(self._labelled)
        best = table.ranked(TOP)[self._known]
        self.guesses = best[:, 0]
        named = best >= 0
        hits = np.take_along_axis(table.present[self._known], np.maximum(best, 0), axis=1) & named
        self.hits, self.hits5 = hits[:, 0], hits.any(axis=1)
        self._confidence = table.probabilities.max(axis=1)

    def figures(self) -> list[_Figures]:
        """Return the functions from counts to figures, in the order in which they are shown."""
        blocks = MOST_LOOKUPS // (self.table.logits.size * BLOCK)
        mean = [_Figures(self._mean_average_precision(), max(FEWEST_BLOCKS, blocks))] if self._has_all else []
        if self.table.multi_label:
            return [*mean, _Figures(self._top())]
        some = [self._top(), self._by_class(), self._calibration()]
        some += [] if self._labelled.all() else [self._none_apart()]
        return [*map(_Figures, some), *mean]

    def per_class(self) -> PerClass:
        """Return each class's own figures."""
        videos = self.table.present.sum(axis=0).astype(np.int64)
        unknown = np.full(len(videos), np.nan)
        precisions = np.array([average_precision(r) for r in self._rankings]) if self._has_all else unknown
        counts = self.confusion()
        if counts is None:
            return PerClass(videos, unknown, unknown, unknown, precisions)
        right, guessed = np.diag(counts).astype(np.float64), counts.sum(axis=0)
        f1 = divided(np.where(videos > 0, 2 * right, np.nan), videos + guessed)
        return PerClass(videos, divided(right, guessed), divided(right, videos), f1, precisions)

    def confusion(self) -> NDArray[np.int64] | None:
        """Return the confusion matrix, if each video has one label."""
        if self.table.multi_label:
            return None
        return confusion(self._truth(), self.guesses, len(self.table.labels))

    def _truth(self) -> NDArray[np.int64]:
        return np.asarray(self.table.truth[self._known], dtype=np.int64)

    def _top(self) -> FiguresOf:
        by_hit = [Groups.of(np.where(h, 1, 0), groups=2, rows=self._known) for h in (self.hits, self.hits5)]

        def figures(counts: Tensor) -> Drawn:
            (wrong, right), (wrong5, right5) = (groups.sums(counts) for groups in by_hit)
            top5 = {"top5": divided(right5, wrong5 + right5)} if self._has_top else {}
            return {"top1": divided(right, wrong + right), **top5}

        return figures

    def _by_class(self) -> FiguresOf:
        classes, truth = len(self.table.labels), self._truth()
        of_class = Groups.of(truth, groups=classes, rows=self._known)
        right_of = Groups.of(truth[self.hits], groups=classes, rows=self._known[self.hits])
        taken_for = Groups.of(self.guesses, groups=classes, rows=self._known)

        def figures(counts: Tensor) -> Drawn:
            videos, right, guessed = of_class.sums(counts), right_of.sums(counts), taken_for.sums(counts)
            f1 = np.where(videos > 0, divided(2 * right, videos + guessed), np.nan)
            return {"mean_class": _mean_over_classes(divided(right, videos)), "macro_f1": _mean_over_classes(f1)}

        return figures

    def _calibration(self) -> FiguresOf:
        confidence = self._confidence[self._known]
        bins = np.clip(np.ceil(confidence * BINS).astype(np.int64) - 1, 0, BINS - 1)  # each with its upper edge
        order = np.argsort(bins, kind="stable")
        by_bin = Groups.in_order(self._known[order], np.bincount(bins, minlength=BINS))
        excess = torch.from_numpy((self.hits - confidence)[order])

        def figures(counts: Tensor) -> Drawn:
            excesses = np.abs(by_bin.weighted_sums(counts, excess))
            return {"ece": divided(excesses.sum(axis=0), by_bin.sums(counts).sum(axis=0))}

        return figures

    def _none_apart(self) -> FiguresOf:
        doubt = 1 - self._confidence
        none = np.flatnonzero(self.table.truth == NONE)
        known = self._known
        levels, level = np.unique(doubt[none], return_inverse=True)
        # Below the first level, at it, between it and the second, at that, ..., above the last.
        place = np.searchsorted(levels, doubt[known], "left") + np.searchsorted(levels, doubt[known], "right")
        by_place = Groups.of(place.astype(np.int64), groups=2 * len(levels) + 1, rows=known)
        by_level = Groups.of(np.asarray(level, dtype=np.int64), groups=len(levels), rows=none)

        def figures(counts: Tensor) -> Drawn:
            at, drawn = by_place.sums(counts), by_level.sums(counts)
            below = np.cumsum(at, axis=0)
            won = (drawn * (below[0:-1:2] + at[1::2] / 2)).sum(axis=0)
            return {"auroc_none": divided(won, drawn.sum(axis=0) * below[-1])}

        return figures

    def _mean_average_precision(self) -> FiguresOf:
        ranked = RankedClasses(self._rankings, self._rows, videos=self.videos)
        return lambda counts: {"map": _mean_over_classes(ranked.average_precisions(counts))}


def _mean_over_classes(shares: NDArray[np.float64]) -> NDArray[np.float64]:
    """Return the mean of shares [C, R] over those that are there (not NaN): [R]."""
    return divided(np.nansum(shares, axis=0), (~np.isnan(shares)).sum(axis=0))


# -- the same videos ----------------------------------------------------------------------------------------------


def _aligned(first: ScoreTable, second: ScoreTable) -> tuple[ScoreTable, ScoreTable, int]:
    """Return both tables with the first one's order of videos and labels, and how many videos only one has."""
    a, b = first, _with_labels_of(first, second)
    left_out = 0
    if a.videos != b.videos:
        places = [_place_of(table) for table in (a, b)]
        common = [video for video in a.videos if video in places[1]]
        if not common:
            raise UsageError(f"{a.videos[0]}: is in the first table only, as are all its videos; compare the same ones")
        a, b = (table.of_videos([place[v] for v in common]) for table, place in zip((a, b), places, strict=True))
        left_out = len(first.videos) + len(second.videos) - 2 * len(common)
    same = (a.present == b.present).all(axis=1)
    if not same.all():
        i = int(np.argmin(same))
        told = " but ".join(_shown(table, i) for table in (a, b))
        raise UsageError(f"{a.videos[i]}: is {told} in the other table; compare with the same truth")
    return a, b, left_out


def _with_labels_of(first: ScoreTable, second: ScoreTable) -> ScoreTable:
    if first.multi_label != second.multi_label:
        raise UsageError("truth: one table has several labels a video, the other one; compare with the same truth")
    lone = sorted(set(first.labels) ^ set(second.labels))
    if lone:
        raise UsageError(f"label {lone[0]!r}: is in one of the tables only; compare predictions of the same labels")
    if first.labels == second.labels:
        return second
    place = {label: i for i, label in enumerate(second.labels)}
    order = np.array([place[label] for label in first.labels])
    if second.multi_label:
        truth: NDArray[np.int64] | NDArray[np.bool_] = second.present[:, order]
    else:
        renumbered = np.append(np.argsort(order), NONE)  # the last one is that of -1
        truth = renumbered[second.truth.astype(np.int64)]
    return ScoreTable(first.labels, second.videos, second.logits[:, order], truth, second.named)


def _place_of(table: ScoreTable) -> dict[str, int]:
    places: dict[str, int] = {}
    for i, video in enumerate(table.videos):
        if places.setdefault(video, i) != i:
            raise UsageError(f"{video}: is in a table twice, so it is not clear which to compare; keep one")
    return places


def _shown(table: ScoreTable, i: int) -> str:
    own = [repr(table.labels[c]) for c in np.flatnonzero(table.present[i])]
    return ", ".join(own) or "none of the labels"
