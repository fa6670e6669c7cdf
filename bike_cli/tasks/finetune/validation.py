"""How well a model classifies the videos that are held back from its training."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import ClassVar

import numpy as np
import torch
from numpy.typing import NDArray

from bike_cli.config import SamplingConfig
from bike_cli.engine.engine import Engine
from bike_cli.engine.spotting import ClassTexts
from bike_cli.errors import UsageError
from bike_cli.inference.features import EncodedVideo, Features
from bike_cli.inference.processes import ProcessGroup
from bike_cli.records import Failure, Sample, Timings
from bike_cli.tasks.evaluate.metrics import confusion, hits_among, mean_average_precision, mean_class_accuracy
from bike_cli.tasks.finetune.loading import multi_hot, warn_once
from bike_cli.tasks.finetune.plan import RunPlan
from bike_cli.tasks.finetune.snapshots import Metrics
from bike_cli.video.workers.pool import DecodePool


@dataclass(frozen=True)
class Validation:
    """The result of a validation.

    Args:
        what: `video`, `wise_ft`, `attributes` or `fused`.
        epoch: completed epochs.
        metrics: `top1`, `top5` and `macro`; `map` with several labels per video.
        videos, failures: how many videos could be read, and how many could not.
    """

    what: str
    epoch: int
    metrics: Metrics
    is_best: bool
    videos: int
    failures: int

    kind: ClassVar[str] = "validated"  # in the log


@dataclass(frozen=True, eq=False)
class VideoScores:
    """The scores of the videos that could be read.

    Args:
        scores: float64 [V, C], cosines.
        samples: V of them, in the same order.
    """

    scores: NDArray[np.float64]
    samples: tuple[Sample, ...]
    failures: tuple[Failure, ...]


class Validator:
    """Validates the current weights of a plan's engine.

    Args:
        reported: ids of the unreadable videos that were reported; it is added to.
    """

    def __init__(self, plan: RunPlan, pool: DecodePool, group: ProcessGroup, reported: set[str]) -> None:
        self._plan, self._pool, self._group, self._reported = plan, pool, group, reported
        self.unread: set[str] = set()

    def validate(self, what: str, epoch: int, *, best: float | None) -> Validation:
        """Return how well the current weights classify.

        Args:
            best: deciding metric of the best weights so far; None: these are the first ones.
        Raises:
            UsageError: none of the videos can be read.
        """
        plan = self._plan
        texts, sampling = plan.current_texts(), plan.config.sampling
        result = score_videos(plan.engine, texts, plan.sides.val, sampling, self._pool, self._group)
        self.report(result.failures)
        metrics = compute_metrics(result.scores, result.samples, multi_label=plan.labelled.multi_label)
        is_best = best is None or metrics[plan.metric] > best
        return Validation(what, epoch, metrics, is_best, len(result.samples), len(result.failures))

    def report(self, failures: Iterable[Failure]) -> None:
        """Count videos that cannot be read, and log each of them once, in the first process."""
        failures = list(failures)
        self.unread |= {failure.source.id for failure in failures}
        if self._group.is_first:
            warn_once(failures, self._reported)


@torch.no_grad()
def score_videos(
    engine: Engine,
    texts: ClassTexts,
    samples: Sequence[Sample],
    sampling: SamplingConfig,
    pool: DecodePool,
    group: ProcessGroup,
) -> VideoScores:
    """Return the scores of videos; each process scores its shard, and all get the whole result.

    Raises:
        UsageError: none of the videos can be read.
    """
    sources = [sample.source for sample in group.shard(samples)]
    outcomes: list[NDArray[np.float32] | Failure] = []
    for batch in Features(sources, (engine,), sampling, pool=pool, shelf=None, spent=Timings()):
        outcomes += [video if isinstance(video, Failure) else score_video(video, texts) for video in batch]
    outcomes = group.merge_shards(outcomes)
    scores = [outcome.astype(np.float64) for outcome in outcomes if not isinstance(outcome, Failure)]
    failures = tuple(outcome for outcome in outcomes if isinstance(outcome, Failure))
    if not scores:
        reason = failures[0].message if failures else "the validation side is empty"
        raise UsageError(f"validation: none of {len(samples)} videos can be read ({reason})")
    read = [s for s, outcome in zip(samples, outcomes, strict=True) if not isinstance(outcome, Failure)]
    return VideoScores(np.stack(scores), tuple(read), failures)


def score_video(video: EncodedVideo, texts: ClassTexts) -> NDArray[np.float32]:
    """Return the scores of one video, from the features of the first engine, averaged over views: [C]."""
    frames = video[0].scored_frames.to(texts.classes.device)
    return texts.scores(frames).mean(dim=0).float().cpu().numpy()


def compute_metrics(scores: NDArray[np.float64], samples: Sequence[Sample], *, multi_label: bool) -> Metrics:
    """Return the metrics of scores [V, C]: `top1`, `top5` and `macro`, or `map` with several labels per video."""
    if multi_label:
        return {"map": mean_average_precision(scores, multi_hot(samples, scores.shape[1]).numpy())}
    truth = np.array([sample.label for sample in samples], dtype=np.int64)
    counts = confusion(truth, scores.argmax(axis=1).astype(np.int64), scores.shape[1])
    return {
        "top1": float(hits_among(scores, truth, 1).mean()),
        "top5": float(hits_among(scores, truth, 5).mean()),
        "macro": mean_class_accuracy(counts),  # mean class accuracy; the name in files of version 0.1
    }
