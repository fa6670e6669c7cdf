"""Training of the attribute branch: a head that classifies a video by the lexicon phrases that the model sees in it.

The towers stay as they are. Each video is encoded once; the head is trained on two sets of text features.

Source: BIKE (arXiv:2301.00182), attributes branch; official train_attributes.py. The official code also trains a scale
for this branch; bike uses the model's, so that the scores of the two branches can be added.
"""

from __future__ import annotations

import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from bike_cli.data.lexicons import read_lexicon
from bike_cli.engine.attributes import associate, attribute_sentence, encode_lexicon
from bike_cli.engine.engine import Engine
from bike_cli.engine.models.parts import new_attribute
from bike_cli.engine.scoring import fuse
from bike_cli.engine.spotting import ClassTexts
from bike_cli.inference.label_texts import encode_labels
from bike_cli.inference.prepare import open_shelf
from bike_cli.inference.processes import ProcessGroup
from bike_cli.records import Failure, Sample, VideoFeatures
from bike_cli.tasks.finetune.loading import multi_hot, plan_batches, steps_per_epoch
from bike_cli.tasks.finetune.losses import IN_BATCH_LOSSES, bce_loss, ce_loss, rate_of_step
from bike_cli.tasks.finetune.plan import RunPlan, choose_lexicon
from bike_cli.tasks.finetune.snapshots import Metrics
from bike_cli.tasks.finetune.validation import Validation, compute_metrics, map_videos, score_video
from bike_cli.tasks.finetune.video_branch import PAPER_BATCH, Step
from bike_cli.video.workers.pool import DecodePool

WEIGHTS = tuple(round(0.05 * i, 2) for i in range(21))  # of the attribute branch; validation chooses one


@dataclass(frozen=True, eq=False)
class DescribedVideos:
    """Videos as sentences of attributes, with their scores in the video branch."""

    samples: tuple[Sample, ...]
    sentences: Tensor  # [V, D], raw text features, on the engine's device
    scores: NDArray[np.float64]  # [V, C], of the video branch
    failures: list[Failure]


@torch.no_grad()
def describe_videos(
    engine: Engine, texts: ClassTexts, samples: Sequence[Sample], plan: RunPlan, pool: DecodePool, group: ProcessGroup
) -> DescribedVideos:
    """Describe videos by their attributes. Their features are stored, as `bike classify` does."""
    config = plan.config
    lexicon = encode_lexicon(engine.encoder, read_lexicon(choose_lexicon(engine, config)))

    def describe(video: VideoFeatures) -> tuple[str, NDArray[np.float32]]:
        frames = video.frames.flatten(0, 1).to(lexicon.features.device)
        attributes = associate(frames[None], lexicon, config.attributes.attribute_count)[0]
        return attribute_sentence([attribute.phrase for attribute in attributes]), score_video(video, texts)

    with open_shelf((engine,), config) as shelf:
        read, failures = map_videos(
            describe, samples, engine, config.sampling, purpose="attributes", pool=pool, group=group, shelf=shelf
        )
    sentences = engine.encode_texts([sentence for _, (sentence, _) in read], positions="eot").classes
    scores = np.stack([scores for _, (_, scores) in read]).astype(np.float64)
    return DescribedVideos(tuple(sample for sample, _ in read), sentences, scores, failures)


class AttributeTraining:
    """Training of a new attribute head, on videos that the engine described with its current weights."""

    def __init__(self, engine: Engine, train: DescribedVideos, val: DescribedVideos, plan: RunPlan) -> None:
        self._train, self._val, self._plan, self._scale = train, val, plan, engine.logit_scale
        learning, size = plan.config.learning, plan.config.batches.batch_size
        device = train.sentences.device
        self.head = new_attribute(engine.encoder.model, seed=learning.seed).to(device)
        template = plan.config.template
        self._classes = encode_labels(engine, plan.labelled.labels, template=template, spot="eot").classes
        self._bias = torch.zeros((), device=device, requires_grad=True)
        self._optimizer = torch.optim.AdamW(
            [*self.head.parameters(), self._bias], lr=learning.lr, weight_decay=learning.weight_decay
        )
        self._batch_size = min(PAPER_BATCH if size == "auto" else size, len(train.samples))
        self._steps = steps_per_epoch(len(train.samples), self._batch_size)
        self._best: tuple[float, dict[str, Tensor]] = (-1.0, {})
        self.since_best = 0  # epochs
        self.best_metrics: Metrics | None = None

    @torch.enable_grad()
    def epoch(self, epoch: int) -> Iterator[Step]:
        """Train for an epoch, numbered from 0; yield its steps."""
        learning, batches = self._plan.config.learning, self._plan.config.batches
        labels = [sample.label for sample in self._train.samples]
        plans = plan_batches(epoch, labels, batch_size=self._batch_size, seed=learning.seed, balanced=batches.balanced)
        last_s = time.monotonic()
        for step, places in enumerate(plans, start=epoch * self._steps):
            share = rate_of_step(step, steps=self._steps, epochs=learning.epochs, warm_up=learning.warm_up)
            rate = share * learning.lr
            for group in self._optimizer.param_groups:
                group["lr"] = rate
            loss = self._loss(places)
            self._optimizer.zero_grad()
            loss.backward()  # type: ignore[no-untyped-call]
            self._optimizer.step()
            now_s = time.monotonic()
            yield Step(
                branch="attributes",
                epoch=epoch + 1,
                step=step + 1,
                steps=self._steps * learning.epochs,
                loss=float(loss.detach()),
                rate=rate,
                seconds=now_s - last_s,
            )
            last_s = now_s

    def validate(self, epoch: int) -> Validation:
        """Validate after an epoch, numbered from 0, and remember the weights of the best one."""
        metrics = self._metrics(self._scores())
        value = metrics[self._plan.metric]
        is_best = value > self._best[0]
        self.since_best = 0 if is_best else self.since_best + 1
        if is_best:
            self._best = value, {name: weight.clone() for name, weight in self.head.state_dict().items()}
            self.best_metrics = metrics
        return self._validation("attributes", epoch + 1, metrics, is_best=is_best)

    def fuse(self) -> tuple[float, Validation]:
        """Restore the best weights; return the weight with which the branch is added, and the resulting metrics.

        The weight is the one with the best metric; the smallest of several equally good ones.
        """
        self.head.load_state_dict(self._best[1])
        video, attributes, metric = torch.from_numpy(self._val.scores), self._scores(), self._plan.metric
        fused = {weight: fuse(video, attributes, weight=1 - weight) for weight in WEIGHTS}
        metrics = {weight: self._metrics(scores) for weight, scores in fused.items()}
        best = max(WEIGHTS, key=lambda weight: (metrics[weight][metric], -weight))
        epochs = self._plan.config.learning.epochs
        return best, self._validation("fused", epochs, metrics[best], is_best=True)

    def _loss(self, places: list[int]) -> Tensor:
        samples, sentences = [self._train.samples[place] for place in places], self._train.sentences[places]
        labels = torch.tensor([sample.label for sample in samples], device=sentences.device)
        loss = self._plan.loss
        if loss in IN_BATCH_LOSSES:
            logits = self._scale * self.head(sentences, self._classes[labels])
            return IN_BATCH_LOSSES[loss](logits, labels)
        logits = self._scale * self.head(sentences, self._classes)
        if loss == "ce":
            return ce_loss(logits, labels)
        return bce_loss(logits + self._bias, multi_hot(samples, logits.shape[1]).to(logits.device))

    @torch.no_grad()
    def _scores(self) -> Tensor:
        scores: Tensor = self.head(self._val.sentences, self._classes)
        return scores.double().cpu()

    def _metrics(self, scores: Tensor) -> Metrics:
        return compute_metrics(scores.numpy(), self._val.samples, multi_label=self._plan.labelled.multi_label)

    def _validation(self, what: str, epoch: int, metrics: Metrics, *, is_best: bool) -> Validation:
        return Validation(what, epoch, metrics, is_best, len(self._val.samples), len(self._val.failures))
