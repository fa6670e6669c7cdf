"""Zero-shot on half of the classes, and what the official code prints where our own figures are defined otherwise.

Official ones are named so. All figures are shares from 0 to 1; the official code prints percent.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from bike_cli.errors import UsageError
from bike_cli.tasks.evaluate.metrics import average_precisions, hits_among, softmax
from bike_cli.tasks.evaluate.score_table import ScoreTable

HALVES = 10
OFFICIAL_SCALE = 100.0  # of frame vectors times class vectors, whatever logit scale was learnt
OFFICIAL_VIDEO_WEIGHT = 0.7


@dataclass(frozen=True)
class Spread:
    """The mean over splits, and their population standard deviation, as papers print them."""

    mean: float
    std: float


def spread(values: Sequence[float]) -> Spread:
    """Return the mean of at least one split's values with their population standard deviation."""
    return Spread(float(np.mean(values)), float(np.std(values)))


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
    top1: Spread
    top5: Spread


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


def official_part(views: NDArray[np.float32], table: ScoreTable, part: Part) -> dict[str, float]:
    """Return the top-1 and top-5 that the official test script prints of one split, in a run of its own.

    That is how its Kinetics-600 figures come about: `test.py` on each list with the split's own classes, thus with the
    temporal head and concept spotting, other than its zero-shot script (see `official_zeroshot_probabilities`).

    Args:
        views: [V, K, C], the cosines of all videos of the table with all classes.
    """
    rows = part.known(table)
    own = views[np.ix_(rows, np.arange(views.shape[1]), part.classes)].astype(np.float64)
    probabilities = official_test_probabilities(own)
    truth = np.asarray(part.of(table).truth, dtype=np.int64)
    return {f"top{k}": float(hits_among(probabilities, truth, k).mean()) for k in (1, 5)}


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
    return _over_halves(table, splits, table.restricted)


def official_zeroshot_half(
    frames: NDArray[np.float64], classes: NDArray[np.float64], table: ScoreTable, splits: int = HALVES
) -> HalfSplits:
    """Return the official half-class figures: of raw frames, without the temporal head and concept spotting.

    Args:
        frames: [V, T, D], raw.
        classes: [C, D], unit vectors.
        table: of the same videos and classes; only its truth counts.
    """

    def rescored(candidates: NDArray[np.int64]) -> ScoreTable:
        own = table.restricted(candidates)
        rows = np.flatnonzero(table.present[:, candidates].any(axis=1))
        probabilities = official_zeroshot_probabilities(frames[rows], classes[candidates])
        return ScoreTable(own.labels, own.videos, _logarithm(probabilities), own.truth)

    return _over_halves(table, splits, rescored)


def _over_halves(table: ScoreTable, splits: int, scored: Callable[[NDArray[np.int64]], ScoreTable]) -> HalfSplits:
    if table.multi_label:
        raise ValueError("halves of the classes are for one label a video")
    found = []
    for drawn in half_draws(len(table.labels), splits):
        half = scored(candidates_of(drawn, table))
        truth = np.asarray(half.truth, dtype=np.int64)
        top1, top5 = (float(hits_among(half.logits, truth, k).mean()) for k in (1, 5))
        found.append(HalfSplit(drawn, half, top1, top5))
    return HalfSplits(tuple(found), spread([s.top1 for s in found]), spread([s.top5 for s in found]))


def _logarithm(probabilities: NDArray[np.float64]) -> NDArray[np.float64]:
    with np.errstate(divide="ignore"):  # an underflown probability names no label
        return np.asarray(np.log(probabilities))


def official_zeroshot_probabilities(frames: NDArray[np.float64], classes: NDArray[np.float64]) -> NDArray[np.float64]:
    """Return the mean over frames of softmax(100 <frame, class>), [..., C]; ours normalises frames, pools, then scores.

    Args:
        frames: [..., T, D], raw: their length sharpens the softmax. Those of NaN are none.
        classes: [C, D], unit vectors.
    """
    return np.asarray(np.nanmean(softmax(OFFICIAL_SCALE * (frames @ classes.T)), axis=-2))


def official_test_probabilities(view_cosines: NDArray[np.float64]) -> NDArray[np.float64]:
    """Return softmax(mean over views of softmax) of [V, K, C]: [V, C]; ours is one softmax of the scaled mean score.

    Twice softmaxed for one view, too, and nearly uniform, as cosines are not scaled: the order of a video's labels is
    that of its mean, the order of videos within a class is not.
    """
    return softmax(softmax(view_cosines).mean(axis=1))


def official_fusion(view_cosines: NDArray[np.float64], attribute_cosines: NDArray[np.float64]) -> NDArray[np.float64]:
    """Return 0.7 softmax(video) + 0.3 softmax(attributes), [V, C]; ours fuses scores, by a weight one can choose.

    Each is softmaxed once, although the official test of the video branch alone does it twice.

    Args:
        view_cosines: [V, K, C]; the official code has one view here, the probabilities of several are averaged.
        attribute_cosines: [V, C].
    """
    video = softmax(view_cosines).mean(axis=1)
    return np.asarray(
        OFFICIAL_VIDEO_WEIGHT * video + (1 - OFFICIAL_VIDEO_WEIGHT) * softmax(attribute_cosines), dtype=np.float64
    )


def official_average_precisions(probabilities: NDArray[np.float64], present: NDArray[np.bool_]) -> NDArray[np.float64]:
    """Return each class's average precision, [C]; 0 for a class without a video, where ours leaves it out."""
    return np.nan_to_num(average_precisions(probabilities, present), nan=0.0)


def official_map(probabilities: NDArray[np.float64], truth: NDArray[np.int64]) -> float:
    """Return ActivityNet's mAP: of another softmax of [V, C] probabilities, absent classes being 0; ours has neither.

    Args:
        probabilities: of `official_test_probabilities`, so that this softmax is the third.
        truth: int64 [V], the class of each video.
    """
    present = truth[:, None] == np.arange(probabilities.shape[1])
    return float(official_average_precisions(softmax(probabilities), present).mean())


def running_maps(
    probabilities: NDArray[np.float64], present: NDArray[np.bool_], batch_size: int
) -> NDArray[np.float64]:
    """Return the mAP of the videos seen so far after each batch, absent classes being 0; ours is over all videos."""
    seen = [*range(batch_size, len(probabilities), batch_size), len(probabilities)]
    return np.array([official_average_precisions(probabilities[:n], present[:n]).mean() for n in seen])


def running_map(probabilities: NDArray[np.float64], present: NDArray[np.bool_], batch_size: int) -> float:
    """Return Charades' printed mAP: the mean of `running_maps`, each counted with the size of its batch; ours is true.

    It depends on the batch size, and on the order of the videos: ours is that of their paths, the official test's
    DistributedSampler shuffles them.
    """
    maps = running_maps(probabilities, present, batch_size)
    sizes = np.diff([0, *range(batch_size, len(probabilities), batch_size), len(probabilities)])
    return float((maps * sizes).sum() / sizes.sum())
