"""Metrics as the official code would print them for the same videos, by the names of its scripts.

They are shares from 0 to 1 (the official code prints per cent). Functions whose name starts with `official` compute a
metric or score that bike itself defines differently; their docstrings say how.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from functools import cached_property

import numpy as np
from numpy.typing import NDArray

from bike_cli.config import EvalConfig
from bike_cli.errors import UsageError, concerning
from bike_cli.tasks.evaluate.json_values import Estimate
from bike_cli.tasks.evaluate.metrics import average_precisions, softmax, top1_and_top5
from bike_cli.tasks.evaluate.protocols import Part, candidates_of_halves, over_splits
from bike_cli.tasks.evaluate.score_table import ScoreTable

OFFICIAL_SCALE = 100.0  # of the cosines of frames and classes, regardless of the trained logit scale
OFFICIAL_VIDEO_WEIGHT = 0.7
OFFICIAL_NAMES = {  # of the metrics that only the official code has
    "running_map": "running mAP",
    "half_top1": "top-1 on halves",
    "half_top5": "top-5 on halves",
    "splits_top1": "top-1 on splits",
    "splits_top5": "top-5 on splits",
    "attributes_top1": "top-1 of attributes",
    "attributes_top5": "top-5 of attributes",
    "fused_top1": "top-1 with attributes",
}


@concerning("official", "protocol", "attribute_weight", "attribute_model")
def check_attributes(config: EvalConfig, weight: float) -> None:
    """Raise UsageError if attributes count, with this weight, but the official code has no metric with attributes."""
    if config.official and weight > 0 and config.protocol != "standard":
        fact = f"the official code has no attributes in the protocol {config.protocol}, but their weight is {weight:g}"
        raise UsageError(f"--official: {fact}; leave it out, or give --attribute-weight 0")


def official_metrics(
    table: ScoreTable, official: OfficialInputs, config: EvalConfig, parts: Sequence[Part] = ()
) -> dict[str, Estimate]:
    """Return the metrics that the official code prints for a protocol, by the names of its scripts.

    Args:
        parts: the splits of `k600`. The official code evaluates one split per run; the mean and the population standard
            deviation over splits are computed as for bike's own metrics.
    """
    if config.protocol == "k600":
        prefix, splits = "splits", [official_part(official.views, table, part) for part in parts]
    elif config.protocol == "zeroshot-half":
        halves = official_zeroshot_half(official.frames, official.classes, table)
        prefix = "half"
        splits = [top1_and_top5(half.logits, np.asarray(half.truth, dtype=np.int64)) for half in halves]
    else:
        return {name: Estimate(value) for name, value in _whole_set_metrics(table, official, config).items()}
    return {f"{prefix}_{name}": over_splits([split[name] for split in splits]) for name in ("top1", "top5")}


def _whole_set_metrics(table: ScoreTable, official: OfficialInputs, config: EvalConfig) -> dict[str, float]:
    if config.protocol == "multilabel":
        return {"running_map": running_map(official.test, table.present, config.official_batch)}
    labels = np.asarray(table.truth, dtype=np.int64)
    known = labels >= 0
    truth = labels[known]
    if config.protocol == "zeroshot-full":
        return top1_and_top5(official_zeroshot_probabilities(official.frames[known], official.classes), truth)
    metrics = top1_and_top5(official.test[known], truth)
    if config.protocol == "anet":
        return metrics | {"map": official_map(official.test[known], truth)}
    if official.attributes is None:
        return metrics
    attributes = official.attributes[known]
    alone = top1_and_top5(softmax(attributes), truth)
    fused = top1_and_top5(official_fusion(official.views[known].astype(np.float64), attributes), truth)
    metrics |= {f"attributes_{name}": value for name, value in alone.items()}
    return metrics | {"fused_top1": fused["top1"]}


def official_part(views: NDArray[np.float32], table: ScoreTable, part: Part) -> dict[str, float]:
    """Return the top-1 and top-5 that the official test script prints for one split, in a separate run.

    The official Kinetics-600 results come from `test.py`, run on each list with the classes of the split. Unlike the
    zero-shot script (see `official_zeroshot_probabilities`), it uses the temporal head and concept spotting.

    Args:
        views: [V, K, C], the cosines of all videos of the table with all classes.
    """
    rows = part.known(table)
    cosines = views[np.ix_(rows, np.arange(views.shape[1]), part.classes)].astype(np.float64)
    truth = np.asarray(part.of(table).truth, dtype=np.int64)
    return top1_and_top5(official_test_probabilities(cosines), truth)


def official_zeroshot_half(
    frames: NDArray[np.float64], classes: NDArray[np.float64], table: ScoreTable
) -> list[ScoreTable]:
    """Return the official table of each half of the classes, from raw frames without temporal head and spotting.

    Args:
        frames: [V, T, D], raw.
        classes: [C, D], unit vectors.
        table: of the same videos and classes; only its truth is used.
    """
    tables = []
    for candidates in candidates_of_halves(table):
        half = table.restricted(candidates)
        rows = np.flatnonzero(table.present[:, candidates].any(axis=1))
        probabilities = official_zeroshot_probabilities(frames[rows], classes[candidates])
        with np.errstate(divide="ignore"):  # a probability that underflowed becomes -inf
            tables.append(replace(half, given=np.log(probabilities)))
    return tables


def official_zeroshot_probabilities(frames: NDArray[np.float64], classes: NDArray[np.float64]) -> NDArray[np.float64]:
    """Return the mean over frames of softmax(100 <frame, class>), [..., C].

    bike normalises frames, pools them, and then scores.

    Args:
        frames: [..., T, D], raw: their length sharpens the softmax. NaN frames are ignored.
        classes: [C, D], unit vectors.
    """
    return np.asarray(np.nanmean(softmax(OFFICIAL_SCALE * (frames @ classes.T)), axis=-2))


def official_test_probabilities(view_cosines: NDArray[np.float64]) -> NDArray[np.float64]:
    """Return softmax(mean over views of softmax) of [V, K, C]: [V, C].

    bike takes one softmax of the scaled mean score. Even with one view, the official code takes two, of cosines that
    are not scaled, so the result is nearly uniform. It ranks the labels of a video as their mean does, but not the
    videos of a class.
    """
    return softmax(softmax(view_cosines).mean(axis=1))


def official_fusion(view_cosines: NDArray[np.float64], attribute_cosines: NDArray[np.float64]) -> NDArray[np.float64]:
    """Return 0.7 softmax(video) + 0.3 softmax(attributes), [V, C].

    bike fuses scores, with a configurable weight. The official code takes one softmax of each here, but two when it
    tests the video branch alone.

    Args:
        view_cosines: [V, K, C]; the official code has one view here. The probabilities of several views are averaged.
        attribute_cosines: [V, C].
    """
    video = softmax(view_cosines).mean(axis=1)
    return np.asarray(
        OFFICIAL_VIDEO_WEIGHT * video + (1 - OFFICIAL_VIDEO_WEIGHT) * softmax(attribute_cosines), dtype=np.float64
    )


def official_average_precisions(probabilities: NDArray[np.float64], present: NDArray[np.bool_]) -> NDArray[np.float64]:
    """Return the average precision of each class, [C]; 0 for a class without videos, which bike leaves out."""
    return np.nan_to_num(average_precisions(probabilities, present), nan=0.0)


def official_map(probabilities: NDArray[np.float64], truth: NDArray[np.int64]) -> float:
    """Return mAP as for ActivityNet: after a further softmax, with 0 for classes without videos. bike does neither.

    Args:
        probabilities: [V, C], of `official_test_probabilities`, so this softmax is the third.
        truth: int64 [V], the class of each video.
    """
    present = truth[:, None] == np.arange(probabilities.shape[1])
    return float(official_average_precisions(softmax(probabilities), present).mean())


def running_maps(
    probabilities: NDArray[np.float64], present: NDArray[np.bool_], batch_size: int
) -> NDArray[np.float64]:
    """Return the mAP of the videos so far after each batch, with 0 for classes without videos."""
    ends = [*range(batch_size, len(probabilities), batch_size), len(probabilities)]
    return np.array([official_average_precisions(probabilities[:n], present[:n]).mean() for n in ends])


def running_map(probabilities: NDArray[np.float64], present: NDArray[np.bool_], batch_size: int) -> float:
    """Return mAP as printed for Charades: the mean of `running_maps`, weighted by batch size.

    bike computes mAP over all videos. The running mean depends on the batch size and on the order of the videos: here
    they are in the order of their paths, but the official DistributedSampler shuffles them.
    """
    maps = running_maps(probabilities, present, batch_size)
    sizes = np.diff([0, *range(batch_size, len(probabilities), batch_size), len(probabilities)])
    return float((maps * sizes).sum() / sizes.sum())


@dataclass(frozen=True, eq=False)
class OfficialInputs:
    """What the official code computes its metrics from, for the same videos."""

    views: NDArray[np.float32]  # [V, K, C], cosines of each view, of the video branch alone
    # float64 [V, T, D], raw, for the zero-shot script; padded with NaN, as videos may have fewer keyframes.
    frames: NDArray[np.float64]
    classes: NDArray[np.float64]  # [C, D], unit vectors
    # float64 [V, C], cosines of the attribute sentences; None if attributes do not count.
    attributes: NDArray[np.float64] | None = None

    @cached_property
    def test(self) -> NDArray[np.float64]:
        """The probabilities of its test script, [V, C]."""
        return official_test_probabilities(self.views.astype(np.float64))
