"""Protocols that evaluate parts of a table: halves of the classes, splits, and labels without some classes."""

from __future__ import annotations

import logging
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from bike_cli.config import EvalConfig
from bike_cli.data.labelled.eval_sets import NONE, EvalSet
from bike_cli.errors import UsageError
from bike_cli.tasks.evaluate.json_values import Estimate
from bike_cli.tasks.evaluate.score_table import ScoreTable

HALVES = 10
FEWEST_KNOWN = 2  # classes

logger = logging.getLogger(__name__)


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


# -- labels left out ---------------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class UnseenSplit:
    """A draw of classes that are left out of the labels, so that their videos have none of the labels."""

    trial: int  # from 0
    classes: tuple[int, ...]  # those left out, ascending
    unseen: tuple[str, ...]  # their labels
    labels: tuple[str, ...]  # the others

    def of(self, table: ScoreTable) -> ScoreTable:
        """Return the table of the labels that remain, with all its videos; see `ScoreTable.without`."""
        return table.without(self.classes)


def unseen_splits(config: EvalConfig, eval_set: EvalSet) -> list[UnseenSplit]:
    """Return the draws of `unseen_split`, one per trial; none if it is not set.

    A draw depends on the seed, the trial, and the labels that have videos.

    Raises:
        UsageError: the videos or the protocol do not suit it, or fewer than two classes with videos remain.
    """
    if config.unseen_split is None:
        return []
    used = {label for sample in eval_set.samples for label in sample.labels}
    config.check_unseen_split(multi_label=eval_set.multi_label, has_unknown=NONE in used)
    most = len(used) - FEWEST_KNOWN
    if config.unseen_split > most:
        problem = f"leaves fewer than {FEWEST_KNOWN} of the {len(used)} classes with videos"
        way_out = f"give at most {most}" if most > 0 else f"add videos of {FEWEST_KNOWN + 1} classes or more"
        raise UsageError(f"--unseen-split {config.unseen_split}: {problem}; {way_out}", settings=("unseen_split",))
    labels = eval_set.labels
    candidates = sorted(used, key=labels.__getitem__)  # so that the order of the labels does not matter
    splits = []
    for trial in range(config.trials):
        order = np.random.Generator(np.random.PCG64([config.seed, trial])).permutation(len(candidates))
        classes = sorted(candidates[i] for i in order[: config.unseen_split])
        kept = tuple(label for i, label in enumerate(labels) if i not in classes)
        splits.append(UnseenSplit(trial, tuple(classes), tuple(labels[c] for c in classes), kept))
    return splits


def usable_splits(splits: Sequence[UnseenSplit], truths: Sequence[NDArray[np.int64]]) -> tuple[UnseenSplit, ...]:
    """Return the draws that have known and unknown videos in every table; warn of the others.

    Args:
        truths: for each table, the class of each video, [V].
    Raises:
        UsageError: there are draws, but none is usable.
    """
    usable = []
    for split in splits:
        is_unknown = [np.isin(truth, split.classes) for truth in truths]
        if all(unknown.any() and not unknown.all() for unknown in is_unknown):
            usable.append(split)
            continue
        lacks = "other" if all(unknown.any() for unknown in is_unknown) else "unseen"
        logger.warning("draw %d: no video of its %s classes can be evaluated; it is left out", split.trial + 1, lacks)
    if splits and not usable:
        problem = "no draw has both known and unknown videos that can be evaluated"
        raise UsageError(f"--unseen-split: {problem}; check the videos that failed", settings=("unseen_split",))
    return tuple(usable)
