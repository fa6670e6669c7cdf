"""Protocols that evaluate parts of a table: zero-shot on halves of the classes, and splits."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from bike_cli.errors import UsageError
from bike_cli.tasks.evaluate.metrics import top1_and_top5
from bike_cli.tasks.evaluate.report import Estimate
from bike_cli.tasks.evaluate.score_table import ScoreTable

HALVES = 10


def over_splits(values: Sequence[float]) -> Estimate:
    """Return the mean of the values of splits with their population standard deviation, as papers print them."""
    return Estimate(float(np.mean(values)), float(np.std(values)))


@dataclass(frozen=True, eq=False)
class HalfSplit:
    """One half of the classes with its metrics.

    Args:
        drawn: int64 [C/2], the classes in the order in which they were drawn.
        table: scores among the drawn classes that have videos, in ascending order.
    """

    drawn: NDArray[np.int64]
    table: ScoreTable
    top1: float
    top5: float


@dataclass(frozen=True, eq=False)
class HalfSplits:
    """All halves with their mean metrics."""

    splits: tuple[HalfSplit, ...]
    top1: Estimate
    top5: Estimate


@dataclass(frozen=True, eq=False)
class Part:
    """One split: some videos of a table, and the candidate classes.

    Args:
        rows: int64, its rows of the table.
        classes: int64 [C of the split], indices of its classes in the table; they need not have videos.
    """

    rows: NDArray[np.int64]
    classes: NDArray[np.int64]
    name: str = ""

    def of(self, table: ScoreTable) -> ScoreTable:
        """Return the table of the split: its classes, and its videos that belong to one of them.

        Raises:
            UsageError: there is no such video.
        """
        return table.of_videos(self.known(table)).restricted(self.classes)

    def known(self, table: ScoreTable) -> NDArray[np.int64]:
        """Return the rows whose videos belong to one of its classes."""
        return self.rows[table.present[np.ix_(self.rows, self.classes)].any(axis=1)]


def half_draws(classes: int, splits: int = HALVES) -> list[NDArray[np.int64]]:
    """Return the classes of each split, floor(C/2) of them, in the order drawn.

    They are those of the official code: NumPy's legacy generator, seeded with the number of the split.
    """
    return [np.random.RandomState(i).permutation(classes)[: classes // 2].astype(np.int64) for i in range(splits)]


def candidates_of(drawn: NDArray[np.int64], table: ScoreTable) -> NDArray[np.int64]:
    """Return the drawn classes that have videos, in ascending order, as the official code does.

    Raises:
        UsageError: none of them has videos.
    """
    candidates = np.sort(drawn[table.present[:, drawn].any(axis=0)])
    if not len(candidates):
        raise UsageError(f"zeroshot-half: none of the {len(drawn)} classes of a split has videos; add videos")
    return candidates


def zeroshot_half(table: ScoreTable, splits: int = HALVES) -> HalfSplits:
    """Return the metrics on each half of the classes, with a softmax over the half.

    The official code uses other scores: see `official_zeroshot_half`.

    Raises:
        UsageError: a half without videos.
        ValueError: several labels per video.
    """
    return over_halves(table, splits, table.restricted)


def over_halves(table: ScoreTable, splits: int, scored: Callable[[NDArray[np.int64]], ScoreTable]) -> HalfSplits:
    """Return the metrics of each half, whose table `scored` returns for its classes; see `zeroshot_half`."""
    if table.multi_label:
        raise ValueError("halves of the classes need one label per video")
    found = []
    for drawn in half_draws(len(table.labels), splits):
        half = scored(candidates_of(drawn, table))
        truth = np.asarray(half.truth, dtype=np.int64)
        metrics = top1_and_top5(half.logits, truth)
        found.append(HalfSplit(drawn, half, metrics["top1"], metrics["top5"]))
    return HalfSplits(tuple(found), over_splits([s.top1 for s in found]), over_splits([s.top5 for s in found]))
