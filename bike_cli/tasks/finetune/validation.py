"""How well a model classifies the videos that are held back from its training."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, field
from typing import ClassVar, TypeVar

import numpy as np
import torch
from numpy.typing import NDArray

from bike_cli.config import SamplingConfig
from bike_cli.engine.engine import Engine
from bike_cli.engine.spotting import ClassTexts
from bike_cli.errors import UsageError
from bike_cli.inference.features import Features, Shelf
from bike_cli.inference.processes import ProcessGroup
from bike_cli.records import Failure, Sample, VideoFeatures
from bike_cli.tasks.evaluate.metrics import confusion, mean_average_precision, mean_class_accuracy, top_shares
from bike_cli.tasks.finetune.loading import multi_hot, warn_once
from bike_cli.tasks.finetune.plan import RunPlan
from bike_cli.tasks.finetune.snapshots import Metrics
from bike_cli.video.workers.pool import DecodePool

Result = TypeVar("Result")


@dataclass(frozen=True)
class Validation:
    """The result of a validation."""

    what: str  # `video`, `wise_ft`, `attributes` or `fused`
    epoch: int  # completed epochs
    metrics: Metrics  # `top1`, `top5` of more than five classes, and `macro`; `map` with several labels per video
    is_best: bool
    videos: int  # videos that could be read
    failures: int  # videos that could not be read

    kind: ClassVar[str] = "validated"  # in the log


@dataclass(frozen=True, eq=False)
class Validator:
    """Validates the current weights of a plan's engine."""

    plan: RunPlan
    pool: DecodePool
    group: ProcessGroup
    reported: set[str]  # ids of unreadable videos that were reported; `report` adds to it
    unread: set[str] = field(default_factory=set)  # ids of all unreadable videos

    def validate(self, what: str, epoch: int, *, best: float | None) -> Validation:
        """Return how well the current weights classify.

        Args:
            best: deciding metric of the best weights so far; None: these are the first ones.
        Raises:
            UsageError: none of the videos can be read.
        """
        plan, texts = self.plan, self.plan.current_texts()
        read, failures = map_videos(
            lambda video: score_video(video, texts),
            plan.val,
            plan.engine,
            plan.config.sampling,
            purpose="validation",
            pool=self.pool,
            group=self.group,
        )
        self.report(failures)
        scores = np.stack([scores for _, scores in read]).astype(np.float64)
        metrics = compute_metrics(scores, [sample for sample, _ in read], multi_label=plan.labelled.multi_label)
        is_best = best is None or metrics[plan.metric] > best
        return Validation(what, epoch, metrics, is_best, len(read), len(failures))

    def report(self, failures: Iterable[Failure]) -> None:
        """Count videos that cannot be read, and log each of them once, in the first process."""
        failures = list(failures)
        self.unread.update(failure.source.id for failure in failures)
        if self.group.is_first:
            warn_once(failures, self.reported)


@torch.no_grad()
def map_videos(
    function: Callable[[VideoFeatures], Result],
    samples: Sequence[Sample],
    engine: Engine,
    sampling: SamplingConfig,
    *,
    purpose: str,
    pool: DecodePool,
    group: ProcessGroup,
    shelf: Shelf | None = None,
) -> tuple[list[tuple[Sample, Result]], list[Failure]]:
    """Return the samples that can be read, each with what a function returns for its features, and the failures.

    Each process calls the function for its shard, and all get the whole result.

    Args:
        purpose: of reading the videos, for the error.
    Raises:
        UsageError: none of the videos can be read.
    """
    sources = [sample.source for sample in group.shard(samples)]
    outcomes: list[Result | Failure] = []
    for batch in Features(sources, (engine,), sampling, pool=pool, shelf=shelf):
        outcomes += [video if isinstance(video, Failure) else function(video[0]) for video in batch]
    outcomes = group.merge_shards(outcomes)
    read = [(sample, out) for sample, out in zip(samples, outcomes, strict=True) if not isinstance(out, Failure)]
    failures = [outcome for outcome in outcomes if isinstance(outcome, Failure)]
    if not read:
        reason = failures[0].message if failures else "no videos"
        raise UsageError(f"{purpose}: none of {len(samples)} videos can be read ({reason})")
    return read, failures


def score_video(video: VideoFeatures, texts: ClassTexts) -> NDArray[np.float32]:
    """Return the scores of one video, averaged over views: [C]."""
    frames = video.scored_frames.to(texts.classes.device)
    return texts.scores(frames).mean(dim=0).float().cpu().numpy()


def compute_metrics(scores: NDArray[np.float64], samples: Sequence[Sample], *, multi_label: bool) -> Metrics:
    """Return the metrics of scores [V, C]: `top_shares` and `macro`, or `map` with several labels per video."""
    if multi_label:
        return {"map": mean_average_precision(scores, multi_hot(samples, scores.shape[1]).numpy())}
    truth = np.array([sample.label for sample in samples], dtype=np.int64)
    counts = confusion(truth, scores.argmax(axis=1).astype(np.int64), scores.shape[1])
    # Mean class accuracy is `macro`, as in files of version 0.1.
    return {**top_shares(scores, truth), "macro": mean_class_accuracy(counts)}
