"""The scores of labelled videos, from which all metrics are computed."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from functools import cached_property

import numpy as np
from numpy.typing import NDArray

from bike_cli.data.labelled.eval_sets import NONE
from bike_cli.data.predictions.matrices import LEAST
from bike_cli.data.predictions.named_logits import NamedLogits
from bike_cli.errors import UsageError
from bike_cli.records import Sample
from bike_cli.shapes import check_shape
from bike_cli.tasks.evaluate.metrics import best_places, softmax


@dataclass(frozen=True, eq=False)
class ScoreTable:
    """The scores and the true labels of videos.

    Raises:
        UsageError: no videos, a score that is not finite, a prediction without labels.
        ValueError: shapes or indices that do not match, or a label that appears twice.
    """

    labels: tuple[str, ...]  # C distinct labels
    videos: tuple[str, ...] = field(repr=False)  # names of V videos, as given
    # float64 [V, C], the input of the softmax over labels; -inf where a prediction lacks a label. `NamedLogits` hold
    # only the labels that predictions name, so that memory grows with these and not with V * C.
    given: NDArray[np.float64] | NamedLogits
    # int64 [V], index of the true label, or -1 for none of the labels; with several labels per video, bool [V, C].
    truth: NDArray[np.int64] | NDArray[np.bool_]
    # int64 [V], for saved predictions: how many labels each of them has. Their logits are log-probabilities among all
    # labels. None: the logits of a model, which scores all labels.
    named: NDArray[np.int64] | None = field(default=None, repr=False)
    # float64 [V, C], of saved predictions; None: the file has none, or its scores are not of cosines alone.
    cosines: NDArray[np.float64] | None = field(default=None, repr=False)
    # float64 [V], the cosine of each video's best label; None: it is not known.
    best_cosines: NDArray[np.float64] | None = field(default=None, repr=False)
    # bool [V], whether each video was rejected as none of the labels; None: that was not asked for.
    rejected: NDArray[np.bool_] | None = field(default=None, repr=False)
    # float64 [V], the probability that the best label is correct, by a calibration; None: it is not known.
    right: NDArray[np.float64] | None = field(default=None, repr=False)
    # Factor of a calibration on the logits of a model, before the softmax; None: there is no calibration.
    scale: float | None = None

    def __post_init__(self) -> None:
        if not self.videos:
            raise UsageError(
                "predictions: no video has a known label; check that predictions and labels belong together"
            )
        self._check_shapes()
        self._check_scores()

    def _check_shapes(self) -> None:
        shape = (len(self.videos), len(self.labels))
        check_shape("ScoreTable.given", self.given.shape, *shape)
        if self.cosines is not None:
            check_shape("ScoreTable.cosines", self.cosines.shape, *shape)
        if self.best_cosines is not None:
            check_shape("ScoreTable.best_cosines", self.best_cosines.shape, *shape[:1])
        if self.rejected is not None:
            check_shape("ScoreTable.rejected", self.rejected.shape, *shape[:1])
        if self.right is not None:
            check_shape("ScoreTable.right", self.right.shape, *shape[:1])
        check_shape("ScoreTable.truth", self.truth.shape, *(shape if self.multi_label else shape[:1]))
        if len(set(self.labels)) < len(self.labels):
            raise ValueError("ScoreTable.labels has a label twice")
        if self.named is None and isinstance(self.given, NamedLogits):
            raise ValueError("ScoreTable.named is None; expected how many labels each prediction has")
        if self.named is not None and not np.array_equal(self.named, _sizes(self.given)):
            raise ValueError("ScoreTable.named must be the number of logits that are not -inf")
        if not self.multi_label and not ((self.truth >= NONE) & (self.truth < len(self.labels))).all():
            raise ValueError(f"ScoreTable.truth must be within -1..{len(self.labels) - 1}")

    def _check_scores(self) -> None:
        given = self.given
        # NaN where any is
        best = given.best() if isinstance(given, NamedLogits) else given.max(axis=1, initial=-np.inf)
        if np.isfinite(best).all():
            return
        i = int(np.argmin(np.isfinite(best)))
        if best[i] == -np.inf:
            raise UsageError(
                f"{self.videos[i]}: the prediction has none of the {len(self.labels)} labels; save all labels of each "
                f"video (classify -k {len(self.labels)})"
            )
        label = self.labels[int(np.argmax(np.isnan(self.logits[i]) | (self.logits[i] == np.inf)))]
        raise UsageError(f"{self.videos[i]}: the score of {label!r} is {best[i]}; classify the video again")

    @property
    def multi_label(self) -> bool:
        """Whether a video may have several labels."""
        return self.truth.dtype == np.bool_

    @cached_property
    def logits(self) -> NDArray[np.float64]:
        """The logits of all labels, [V, C], of any kind of `given`."""
        return self.given.matrix() if isinstance(self.given, NamedLogits) else self.given

    @cached_property
    def probabilities(self) -> NDArray[np.float64]:
        """The softmax of each video's logits over the labels, [V, C], at the scale of the calibration if there is one.

        For saved predictions, these are their own scores.

        The rest of the probability is spread evenly over the labels that a prediction lacks, but none of them gets more
        than a label it has.
        """
        if self.named is None:
            return softmax(self.logits if self.scale is None else self.scale * self.logits)
        scores, is_named = np.exp(self.logits), self.logits > -np.inf
        others = np.maximum(len(self.labels) - self.named, 1)
        least = np.where(is_named, scores, np.inf).min(axis=1)
        rest = np.minimum(np.maximum(1 - scores.sum(axis=1), 0) / others, least)
        return np.where(is_named, scores, rest[:, None])

    @cached_property
    def confidence(self) -> NDArray[np.float64]:
        """The probability of the best label, [V]."""
        if not isinstance(self.given, NamedLogits):
            return np.asarray(self.probabilities.max(axis=1))
        return np.exp(self.given.best())  # a label that a prediction lacks never gets more

    @property
    def label_scores(self) -> NDArray[np.float64]:
        """What ranks the videos of each label, [V, C].

        With one label per video, these are the probabilities. With several labels, each is judged alone: by its cosine,
        or by the logit, which is the scaled cosine. A probability would fall with the cosines of the other labels.
        """
        if not self.multi_label:
            return self.probabilities
        if self.cosines is not None:
            return self.cosines
        return self.logits if self.named is None else self.probabilities

    @property
    def fewest(self) -> int:
        """The smallest number of labels that a prediction has."""
        return len(self.labels) if self.named is None else int(self.named.min())

    @cached_property
    def present(self) -> NDArray[np.bool_]:
        """Whether each video has each label, [V, C]."""
        if self.multi_label:
            return np.asarray(self.truth, dtype=np.bool_)
        return np.asarray(self.truth[:, None] == np.arange(len(self.labels)))

    @cached_property
    def is_labelled(self) -> NDArray[np.bool_]:
        """Whether each video has a label, [V]."""
        return np.asarray(self.truth.any(axis=1) if self.multi_label else self.truth >= 0)

    @cached_property
    def sizes(self) -> NDArray[np.int64]:
        """The number of videos of each label, [C]."""
        if self.multi_label:
            return np.asarray(self.truth.sum(axis=0), dtype=np.int64)
        return np.bincount(self.truth[self.truth >= 0], minlength=len(self.labels))

    def has(self, labels: NDArray[np.int64]) -> NDArray[np.bool_]:
        """Return whether each video has some labels, [V, k], False for -1: [V, k]."""
        if not self.multi_label:
            return np.asarray((labels == self.truth[:, None]) & (labels >= 0))
        return np.asarray(np.take_along_axis(self.present, np.maximum(labels, 0), axis=1) & (labels >= 0))

    def ranked(self, k: int) -> NDArray[np.int64]:
        """Return the indices of each video's k best labels, -1 where a prediction has fewer: [V, at most k]."""
        return self.given.ranked(k) if isinstance(self.given, NamedLogits) else best_places(self.given, k)

    def restricted(self, classes: Sequence[int] | NDArray[np.int64]) -> ScoreTable:
        """Return the table of some classes, in the given order, and of their videos; the softmax is over these classes.

        Which videos were rejected, whether they are right, and their best cosines, belong to all classes and are left
        out.

        Raises:
            UsageError: these classes have no videos, or a prediction lacks labels.
            ValueError: a class twice.
        """
        self.check_complete()
        chosen = np.asarray(classes, dtype=np.int64)
        present = self.present[:, chosen]
        rows = np.flatnonzero(present.any(axis=1))
        present = present[rows]
        labels = tuple(self.labels[c] for c in chosen)
        truth = present if self.multi_label else present.argmax(axis=1).astype(np.int64)
        videos, cells = tuple(self.videos[i] for i in rows), np.ix_(rows, chosen)
        cosines = None if self.cosines is None else self.cosines[cells]
        return ScoreTable(labels, videos, self.logits[cells], truth, cosines=cosines, scale=self.scale)

    def without(self, classes: Sequence[int] | NDArray[np.int64]) -> ScoreTable:
        """Return the table without some classes, whose videos then have none of the labels; one label per video.

        The softmax is over the other classes. Which videos were rejected, and whether they are right, belong to all
        classes and are left out.

        Raises:
            UsageError: a prediction lacks labels, or has the score 0 for all labels that remain.
        """
        self.check_complete()
        kept = np.setdiff1d(np.arange(len(self.labels)), classes)
        logits = self.logits[:, kept]
        if self.named is not None and not (scored := logits.max(axis=1) > LEAST).all():
            problem = f"the prediction has the score 0 for each of the {len(kept)} labels that remain"
            raise UsageError(f"{self.videos[int(np.argmin(scored))]}: {problem}; save more digits of scores")
        truth = np.full(len(self.labels) + 1, NONE, dtype=np.int64)  # the last entry is for -1
        truth[kept] = np.arange(len(kept))
        cosines = None if self.cosines is None else self.cosines[:, kept]
        best = None if cosines is None else np.take_along_axis(cosines, logits.argmax(axis=1)[:, None], axis=1)[:, 0]
        return ScoreTable(
            *(tuple(self.labels[c] for c in kept), self.videos, logits, truth[self.truth.astype(np.int64)]),
            cosines=cosines,
            best_cosines=best,
            scale=self.scale,
        )

    def check_complete(self) -> None:
        """Raise UsageError if a prediction lacks labels."""
        if self.fewest < len(self.labels):
            raise UsageError(
                f"predictions: have {self.fewest} of {len(self.labels)} labels, but ranking some of the labels needs "
                f"all; classify with -k {len(self.labels)}"
            )

    def of_videos(self, rows: Sequence[int] | NDArray[np.int64]) -> ScoreTable:
        """Return the table of some videos, in the given order."""
        rows = np.asarray(rows, dtype=np.int64)
        videos = tuple(self.videos[i] for i in rows)
        names = ("truth", "named", "cosines", "best_cosines", "rejected", "right")
        arrays = {name: values for name in names if (values := getattr(self, name)) is not None}
        given = self.given.of_videos(rows) if isinstance(self.given, NamedLogits) else self.given[rows]
        return replace(self, videos=videos, given=given, **{name: values[rows] for name, values in arrays.items()})


def _sizes(given: NDArray[np.float64] | NamedLogits) -> NDArray[np.int64]:
    """Return how many labels have a logit, [V]."""
    return given.sizes if isinstance(given, NamedLogits) else (given > -np.inf).sum(axis=1)


def score_samples(
    labels: tuple[str, ...],
    samples: Sequence[Sample],
    logits: NDArray[np.float64] | NamedLogits,
    *,
    multi_label: bool = False,
    named: NDArray[np.int64] | None = None,
    cosines: NDArray[np.float64] | None = None,
    best_cosines: NDArray[np.float64] | None = None,
    rejected: NDArray[np.bool_] | None = None,
    right: NDArray[np.float64] | None = None,
) -> ScoreTable:
    """Return the table of the logits of samples, [V, C]; see `ScoreTable`."""
    names = tuple(sample.source.id for sample in samples)
    if not multi_label:
        truth = np.array([sample.label for sample in samples], dtype=np.int64)
        return ScoreTable(labels, names, logits, truth, named, cosines, best_cosines, rejected, right)
    present = np.zeros(logits.shape, dtype=np.bool_)
    for row, sample in zip(present, samples, strict=True):
        row[[label for label in sample.labels if label != NONE]] = True
    return ScoreTable(labels, names, logits, present, named, cosines)


# -- two tables of the same videos -------------------------------------------------------------------------------


def aligned(first: ScoreTable, second: ScoreTable) -> tuple[ScoreTable, ScoreTable, int]:
    """Return both tables in the first one's order of videos and labels, and how many videos only one of them has.

    Raises:
        UsageError: different labels, a different truth, no video in common, or a video twice in a table.
    """
    a, b = first, _with_labels_of(first, second)
    left_out = 0
    if a.videos != b.videos:
        places = [_place_of(table) for table in (a, b)]
        common = [video for video in a.videos if video in places[1]]
        if not common:
            raise UsageError(f"{a.videos[0]}: the tables have no video in common; compare systems on the same videos")
        a, b = (table.of_videos([place[v] for v in common]) for table, place in zip((a, b), places, strict=True))
        left_out = len(first.videos) + len(second.videos) - 2 * len(common)
    same = (a.present == b.present).all(axis=1) if a.multi_label else a.truth == b.truth
    if not same.all():
        i = int(np.argmin(same))
        labels = " in one table and ".join(_shown(table, i) for table in (a, b))
        raise UsageError(f"{a.videos[i]}: is {labels} in the other; compare systems on the same labels")
    return a, b, left_out


def _with_labels_of(first: ScoreTable, second: ScoreTable) -> ScoreTable:
    if first.multi_label != second.multi_label:
        raise UsageError(
            "truth: one table has several labels per video, the other has one; compare systems on the same labels"
        )
    unshared = sorted(set(first.labels) ^ set(second.labels))
    if unshared:
        raise UsageError(f"label {unshared[0]!r}: is in one table only; compare systems on the same labels")
    if first.labels == second.labels:
        return second
    place = {label: i for i, label in enumerate(second.labels)}
    order = np.array([place[label] for label in first.labels])
    if second.multi_label:
        truth: NDArray[np.int64] | NDArray[np.bool_] = second.present[:, order]
    else:
        renumbered = np.append(np.argsort(order), NONE)  # the last entry is for -1
        truth = renumbered[second.truth.astype(np.int64)]
    cosines = None if second.cosines is None else second.cosines[:, order]
    given = second.given
    given = given.of_labels(order) if isinstance(given, NamedLogits) else given[:, order]
    return replace(second, labels=first.labels, given=given, truth=truth, cosines=cosines)


def _place_of(table: ScoreTable) -> dict[str, int]:
    places: dict[str, int] = {}
    for i, video in enumerate(table.videos):
        if places.setdefault(video, i) != i:
            raise UsageError(f"{video}: is in a table twice; keep one of its rows")
    return places


def _shown(table: ScoreTable, i: int) -> str:
    row = table.truth[i]
    places = np.flatnonzero(row).tolist() if table.multi_label else [int(row)] if row >= 0 else []
    labels = [repr(table.labels[c]) for c in places]
    return ", ".join(labels) or "none of the labels"
