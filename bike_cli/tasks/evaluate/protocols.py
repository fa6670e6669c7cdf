"""Zero-shot on half of the classes, and splits of a table. All figures are shares from 0 to 1."""

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
    """One half of the classes, and how right its videos are among them.

    Args:
        drawn: int64 [C/2], the classes in the order in which they were drawn.
        table: of those that have a video, ascending.
    """

    drawn: NDArray[np.int64]
    table: ScoreTable
    top1: float
    top5: float


@dataclass(frozen=True, eq=False)
class HalfSplits:
    """All halves, and how far they spread."""

    splits: tuple[HalfSplit, ...]
    top1: Estimate
    top5: Estimate


@dataclass(frozen=True, eq=False)
class Part:
    """One split: some videos of a table, and the classes that they are told apart among.

    Args:
        rows: int64, the places of its videos in the table.
        classes: int64 [C of the split], the places of its classes there, whether or not they have a video.
    """

    rows: NDArray[np.int64]
    classes: NDArray[np.int64]
    name: str = ""

    def of(self, table: ScoreTable) -> ScoreTable:
        """Return the table of the split: of its videos that are of its classes, among these.

        Raises:
            UsageError: none of them is in the table.
        """
        return table.of_videos(self.known(table)).restricted(self.classes)

    def known(self, table: ScoreTable) -> NDArray[np.int64]:
        """Return the rows whose videos are of its classes."""
        return self.rows[table.present[np.ix_(self.rows, self.classes)].any(axis=1)]


def half_draws(classes: int, splits: int = HALVES) -> list[NDArray[np.int64]]:
    """Return the classes of each split in the order drawn, floor(C/2) of them, by NumPy's legacy generator.

    Ours are the official ones: split i is seeded with i.
    """
    return [np.random.RandomState(i).permutation(classes)[: classes // 2].astype(np.int64) for i in range(splits)]


def candidates_of(drawn: NDArray[np.int64], table: ScoreTable) -> NDArray[np.int64]:
    """Return the drawn classes that have a video, ascending; ours are the official ones.

    Raises:
        UsageError: none has one.
    """
    candidates = np.sort(drawn[table.present[:, drawn].any(axis=0)])
    if not len(candidates):
        raise UsageError(f"zeroshot-half: a split of {len(drawn)} classes has no video; add videos")
    return candidates


def zeroshot_half(table: ScoreTable, splits: int = HALVES) -> HalfSplits:
    """Return how right a table is on each half of its classes, softmax anew; for the model's own scores.

    The official figure ignores these: see `official_zeroshot_half`.

    Raises:
        UsageError: a split without a video.
        ValueError: several labels a video.
    """
    return over_halves(table, splits, table.restricted)


def over_halves(table: ScoreTable, splits: int, scored: Callable[[NDArray[np.int64]], ScoreTable]) -> HalfSplits:
    """Return the metrics of each half, whose table `scored` returns for its classes; see `zeroshot_half`."""
    if table.multi_label:
        raise ValueError("halves of the classes are for one label a video")
    found = []
    for drawn in half_draws(len(table.labels), splits):
        half = scored(candidates_of(drawn, table))
        truth = np.asarray(half.truth, dtype=np.int64)
        metrics = top1_and_top5(half.logits, truth)
        found.append(HalfSplit(drawn, half, metrics["top1"], metrics["top5"]))
    return HalfSplits(tuple(found), over_splits([s.top1 for s in found]), over_splits([s.top5 for s in found]))
