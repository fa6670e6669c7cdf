"""The scores of labelled videos: what every figure of an evaluation is computed from."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from functools import cached_property

import numpy as np
from numpy.typing import NDArray

from bike_cli.errors import UsageError
from bike_cli.tasks.evaluate.metrics import best_places, softmax

NONE = -1  # the truth of a video that is of none of the labels


@dataclass(frozen=True, eq=False)
class ScoreTable:
    """What was said of each video, and what is true.

    Args:
        labels: C of them, each once.
        videos: names of V videos, as given.
        logits: float64 [V, C], what the softmax over labels is taken of; -inf where a prediction does not name a label.
        truth: int64 [V], the place of the label, -1 for none of these; or, with several labels a video, bool [V, C].
        named: int64 [V], how many labels the prediction of each video names, whose `logits` are the logs of their
            probabilities among all labels; None: logits of a model, which says all.
    Raises:
        UsageError: no video, a score that is not a number, a prediction that names no label.
        ValueError: shapes or places that do not fit each other, or a label that appears twice.
    """

    labels: tuple[str, ...]
    videos: tuple[str, ...] = field(repr=False)
    logits: NDArray[np.float64]
    truth: NDArray[np.int64] | NDArray[np.bool_]
    named: NDArray[np.int64] | None = field(default=None, repr=False)

    def __post_init__(self) -> None:
        if not self.videos:
            raise UsageError("predictions: no video is left to evaluate; give some whose labels are known")
        self._check_shapes()
        self._check_scores()

    def _check_shapes(self) -> None:
        shape = (len(self.videos), len(self.labels))
        if self.logits.shape != shape:
            raise ValueError(f"ScoreTable.logits has shape {list(self.logits.shape)}; expected {list(shape)}")
        if len(set(self.labels)) < len(self.labels):
            raise ValueError("ScoreTable.labels has a label twice")
        if self.truth.shape != (shape if self.multi_label else shape[:1]):
            raise ValueError(f"ScoreTable.truth has shape {list(self.truth.shape)} beside logits {list(shape)}")
        if self.named is not None and not np.array_equal(self.named, (self.logits > -np.inf).sum(axis=1)):
            raise ValueError("ScoreTable.named is another number than that of the logits that are not -inf")
        if not self.multi_label and not ((self.truth >= NONE) & (self.truth < len(self.labels))).all():
            raise ValueError(f"ScoreTable.truth has a place outside of -1..{len(self.labels) - 1}")

    def _check_scores(self) -> None:
        best = self.logits.max(axis=1, initial=-np.inf)  # NaN where any is
        if np.isfinite(best).all():
            return
        i = int(np.argmin(np.isfinite(best)))
        if best[i] == -np.inf:
            raise UsageError(
                f"{self.videos[i]}: the prediction names none of the {len(self.labels)} labels; write all labels of "
                f"each video"
            )
        label = self.labels[int(np.argmax(np.isnan(self.logits[i]) | (self.logits[i] == np.inf)))]
        raise UsageError(f"{self.videos[i]}: the score of {label!r} is {best[i]}, no finite number; predict it again")

    @property
    def multi_label(self) -> bool:
        """Whether a video may have several labels."""
        return self.truth.dtype == np.bool_

    @cached_property
    def probabilities(self) -> NDArray[np.float64]:
        """The softmax of each video's logits over the labels, [V, C]; of predictions, what they say.

        What these leave of 1 is spread evenly over the labels that they do not name, none of which gets more than one
        that is named.
        """
        if self.named is None:
            return softmax(self.logits)
        told, is_named = np.exp(self.logits), self.logits > -np.inf
        others = np.maximum(len(self.labels) - self.named, 1)
        least = np.where(is_named, told, np.inf).min(axis=1)
        left = np.minimum(np.maximum(1 - told.sum(axis=1), 0) / others, least)
        return np.where(is_named, told, left[:, None])

    @property
    def fewest(self) -> int:
        """How many labels are named of each video at least."""
        return len(self.labels) if self.named is None else int(self.named.min())

    @cached_property
    def present(self) -> NDArray[np.bool_]:
        """Whether each video has each label, [V, C]."""
        if self.multi_label:
            return np.asarray(self.truth, dtype=np.bool_)
        return np.asarray(self.truth[:, None] == np.arange(len(self.labels)))

    def ranked(self, k: int) -> NDArray[np.int64]:
        """Return the places of each video's k best labels, -1 where a prediction names fewer: [V, at most k]."""
        return best_places(self.logits, k)

    def restricted(self, classes: Sequence[int] | NDArray[np.int64]) -> ScoreTable:
        """Return the table of some classes, numbered in their order: of their videos only, softmax anew.

        Raises:
            UsageError: none of the videos is of them, or a prediction does not name all labels.
            ValueError: a class twice.
        """
        if self.fewest < len(self.labels):
            raise UsageError(
                f"predictions: name {self.fewest} of {len(self.labels)} labels, so which of some is best is not known; "
                f"write all labels of each video"
            )
        chosen = np.asarray(classes, dtype=np.int64)
        present = self.present[:, chosen]
        rows = np.flatnonzero(present.any(axis=1))
        kept = present[rows]
        labels = tuple(self.labels[c] for c in chosen)
        truth = kept if self.multi_label else kept.argmax(axis=1).astype(np.int64)
        return ScoreTable(labels, tuple(self.videos[i] for i in rows), self.logits[np.ix_(rows, chosen)], truth)

    def of_videos(self, rows: Sequence[int] | NDArray[np.int64]) -> ScoreTable:
        """Return the table of the videos at some places, in their order."""
        kept = np.asarray(rows, dtype=np.int64)
        named = None if self.named is None else self.named[kept]
        return ScoreTable(self.labels, tuple(self.videos[i] for i in kept), self.logits[kept], self.truth[kept], named)


# -- the same videos ----------------------------------------------------------------------------------------------


def aligned(first: ScoreTable, second: ScoreTable) -> tuple[ScoreTable, ScoreTable, int]:
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
