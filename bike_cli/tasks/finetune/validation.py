"""Which videos are held back while a model learns, and how right it is on them."""

from __future__ import annotations

import logging
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray

from bike_cli.config import SamplingConfig
from bike_cli.data.labelled.draws import deal
from bike_cli.data.labelled.train_sets import LabelledSet
from bike_cli.engine.engine import Engine
from bike_cli.engine.spotting import ClassTexts
from bike_cli.errors import UsageError
from bike_cli.inference.features import Features, Seen
from bike_cli.inference.processes import Processes
from bike_cli.records import Failure, Sample, Spent
from bike_cli.tasks.evaluate.metrics import confusion, hits_among, macro, mean_average_precision
from bike_cli.video.workers.pool import DecodePool

logger = logging.getLogger(__name__)


@dataclass(frozen=True, eq=False)
class Sides:
    """What is learned from, and what is validated on: never what a test side holds."""

    train: tuple[Sample, ...]
    val: tuple[Sample, ...]


def sides_of(labelled: LabelledSet, *, fraction: float, seed: int) -> Sides:
    """Return the sides of a set: its own, or with a share of each class's training videos held back by a seed.

    Raises:
        UsageError: so few videos that none is left for one side.
    """
    if labelled.val is not None:
        return Sides(labelled.train, labelled.val)
    counts = np.bincount([sample.label for sample in labelled.train], minlength=len(labelled.labels))
    lone = [labelled.names[i] for i in np.flatnonzero(counts == 1)]
    if lone:
        more = f" and {len(lone) - 1} more" if len(lone) > 1 else ""
        logger.warning("class %r%s: has one video, which is learned from; none is validated on", lone[0], more)
    dealt = deal(labelled.train, labelled.names, seed=seed, trial=0, test_fraction=fraction)
    held = {place for places, count in zip(dealt.held or (), counts, strict=True) if count > 1 for place in places}
    if not held:
        raise UsageError(
            "val_fraction: every class has one video, so none can be validated on; add videos, or give --val"
        )
    train = tuple(sample for place, sample in enumerate(labelled.train) if place not in held)
    return Sides(train, tuple(sample for place, sample in enumerate(labelled.train) if place in held))


@dataclass(frozen=True, eq=False)
class Scored:
    """The scores of the videos that could be read.

    Args:
        scores: float64 [V, C], cosines.
        samples: V of them, in their order.
    """

    scores: NDArray[np.float64]
    samples: tuple[Sample, ...]
    failures: tuple[Failure, ...]


@torch.no_grad()
def scored(
    engine: Engine,
    texts: ClassTexts,
    samples: Sequence[Sample],
    sampling: SamplingConfig,
    pool: DecodePool,
    by: Processes,
) -> Scored:
    """Return the scores of videos, each process having looked at its share of them.

    Raises:
        UsageError: none of them can be read.
    """
    own = by.share(list(samples))
    features = Features([s.source for s in own], (engine,), sampling, pool=pool, shelf=None, spent=Spent())
    found: list[NDArray[np.float32] | Failure] = []
    for batch in features:
        for one in batch:
            found.append(one if isinstance(one, Failure) else scores_of(one, texts))
    all_found = by.unshare(found)
    read = [i for i, one in enumerate(all_found) if not isinstance(one, Failure)]
    failures = tuple(one for one in all_found if isinstance(one, Failure))
    if not read:
        way_out = failures[0].message if failures else "give some"
        raise UsageError(f"validation: none of {len(samples)} videos can be read ({way_out})")
    scores = np.stack([np.asarray(all_found[i], dtype=np.float64) for i in read])
    return Scored(scores, tuple(samples[i] for i in read), failures)


def scores_of(seen: Seen, texts: ClassTexts) -> NDArray[np.float32]:
    """Return the scores of one video that the first engine saw, averaged over its views: [C]."""
    frames = seen.features[0].scored_frames.to(texts.classes.device)
    return texts.scores(frames).mean(dim=0).float().cpu().numpy()


def metrics_of(scores: NDArray[np.float64], samples: Sequence[Sample], *, multi_label: bool) -> Mapping[str, float]:
    """Return how right scores [V, C] are: `top1`, `top5` and `macro`, or `map` with several labels."""
    if multi_label:
        present = np.zeros(scores.shape, dtype=np.bool_)
        for row, sample in zip(present, samples, strict=True):
            row[list(sample.labels)] = True
        return {"map": mean_average_precision(scores, present)}
    truth = np.array([sample.label for sample in samples], dtype=np.int64)
    counts = confusion(truth, scores.argmax(axis=1).astype(np.int64), scores.shape[1])
    return {
        "top1": float(hits_among(scores, truth, 1).mean()),
        "top5": float(hits_among(scores, truth, 5).mean()),
        "macro": macro(counts),
    }


@dataclass(frozen=True)
class Validated:
    """How right a model is on what is validated on.

    Args:
        epoch: after which; 0: before the first.
        metrics: `top1`, `top5`, `macro`, or `map` with several labels.
        what: `video`, `wise_ft`, `attributes` or `fused`.
    """

    what: str
    epoch: int
    metrics: Mapping[str, float]
    is_best: bool
    videos: int
    failures: int
