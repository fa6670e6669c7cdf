"""Protocols that evaluate parts of a table: zero-shot on halves of the classes, and splits."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from bike_cli.errors import UsageError
from bike_cli.tasks.evaluate.json_values import Estimate
from bike_cli.tasks.evaluate.score_table import ScoreTable

HALVES = 10


def over_splits(values: Sequence[float]) -> Estimate:
    """Return the mean of the values of splits with their population standard deviation, as papers print them."""
    return Estimate(float(np.mean(values)), float(np.std(values)))


def over_draws(values: Sequence[float]) -> Estimate:
    """Return the mean of the values of random draws with their sample standard deviation; of one draw, it has none."""
    return Estimate(float(np.mean(values)), float(np.std(values, ddof=1)) if len(values) > 1 else None)


@dataclass(frozen=True, eq=False)
class Part:
    """One split: some videos of a table, and the candidate classes."""

    rows: NDArray[np.int64]  # int64, its rows of the table
    classes: NDArray[np.int64]  # [C of the split], indices of its classes in the table; they need not have videos
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


def half_draws(classes: int) -> list[NDArray[np.int64]]:
    """Return the classes of each half, floor(C/2) of them, in the order drawn.

    They are those of the official code: NumPy's legacy generator, seeded with the number of the half.
    """
    return [np.random.RandomState(i).permutation(classes)[: classes // 2].astype(np.int64) for i in range(HALVES)]


def candidates_of_halves(table: ScoreTable) -> list[NDArray[np.int64]]:
    """Return the classes of each half that have videos, in ascending order, as the official code does.

    Raises:
        UsageError: none of the classes of a half has videos.
    """
    candidates = [np.sort(drawn[table.present[:, drawn].any(axis=0)]) for drawn in half_draws(len(table.labels))]
    if not all(map(len, candidates)):
        count = len(table.labels) // 2
        problem = f"zeroshot-half: none of the {count} classes of a split has videos"
        raise UsageError(f"{problem}; add videos", settings=("protocol",))
    return candidates


def zeroshot_half(table: ScoreTable) -> list[ScoreTable]:
    """Return the table of each half of the classes, with a softmax over the half.

    The official code uses other scores: see `official_zeroshot_half`.
    """
    return [table.restricted(candidates) for candidates in candidates_of_halves(table)]
