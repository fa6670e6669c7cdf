"""Training of the attribute branch: what a model sees in its videos, as words, learns to tell the classes.

The towers stay as they are, so each video is looked at once, and what learns is a head on two sets of text features.

Source: BIKE (arXiv:2301.00182), attributes branch; official train_attributes.py. There a scale of its own learns, too;
here it is the model's, so that the two branches may be added up.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import ExitStack
from dataclasses import dataclass
from typing import cast

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from bike_cli.config import FinetuneConfig
from bike_cli.data.lexicons import read_lexicon
from bike_cli.engine.attributes import associate, attribute_sentence, encode_lexicon
from bike_cli.engine.engine import Engine
from bike_cli.engine.heads.bike import AttributeHead
from bike_cli.engine.models.parts import new_attribute
from bike_cli.engine.scoring import fuse
from bike_cli.engine.spotting import ClassTexts
from bike_cli.engine.store.store import open_store
from bike_cli.errors import ConfigError, UsageError
from bike_cli.inference.features import Features
from bike_cli.inference.prepare import encode_labels, shelf_of
from bike_cli.inference.processes import Processes
from bike_cli.records import Failure, Sample, Spent
from bike_cli.tasks.finetune.learner import IN_BATCH
from bike_cli.tasks.finetune.loading import plans_of, steps_of
from bike_cli.tasks.finetune.losses import bce_loss, ce_loss, rate_of_step
from bike_cli.tasks.finetune.validation import metrics_of, scores_of
from bike_cli.video.workers.pool import DecodePool

WEIGHTS = tuple(round(0.05 * i, 2) for i in range(21))  # of the attribute branch, that are tried


@dataclass(frozen=True, eq=False)
class Told:
    """Videos as words and as frames.

    Args:
        sentences: [V, D], raw features of the attribute sentences, on the engine's device.
        scores: float64 [V, C], of the video branch.
    """

    samples: tuple[Sample, ...]
    sentences: Tensor
    scores: NDArray[np.float64]
    failures: tuple[Failure, ...]


def lexicon_of(engine: Engine, config: FinetuneConfig) -> str:
    """Return the name of the lexicon that attributes come from.

    Raises:
        ConfigError: attributes are off, or another model's.
        UsageError: there is no such lexicon.
    """
    wanted = config.attributes
    if wanted.attributes == "off" or wanted.attribute_model is not None:
        what = "attributes are off" if wanted.attributes == "off" else "attribute_model is another model"
        raise ConfigError(
            f"branch is {config.learning.branch}, but {what}; a branch learns from what its own model sees: leave that "
            "out, or train the other with --branch attributes and name it to classify with --attribute-model"
        )
    name = engine.recipe.lexicon if wanted.attributes == "auto" else wanted.attributes
    read_lexicon(name)  # a wrong one is found out now, and not when the video branch has learnt for hours
    return name


@torch.no_grad()
def told_of(
    engine: Engine,
    texts: ClassTexts,
    samples: Sequence[Sample],
    config: FinetuneConfig,
    pool: DecodePool,
    by: Processes,
) -> Told:
    """Return what a model sees in videos; its features are kept in the store, as those of `classify` are.

    Raises:
        UsageError: none of the videos can be read.
    """
    own = by.share(list(samples))
    lexicon = encode_lexicon(engine.encoder, read_lexicon(lexicon_of(engine, config)))
    found: list[tuple[str, NDArray[np.float32]] | Failure] = []
    with ExitStack() as stack:
        store = open_store(config.store)
        shelf = None if store is None else shelf_of(stack.enter_context(store), (engine,), config.classifying)
        sources = [sample.source for sample in own]
        for batch in Features(sources, (engine,), config.sampling, pool=pool, shelf=shelf, spent=Spent()):
            for seen in batch:
                if isinstance(seen, Failure):
                    found.append(seen)
                    continue
                frames = seen.features[0].frames.flatten(0, 1).to(lexicon.features.device)
                phrases = associate(frames[None], lexicon, config.attributes.attribute_count)[0]
                sentence = attribute_sentence([attribute.phrase for attribute in phrases])
                found.append((sentence, scores_of(seen, texts)))
    return _told(engine, samples, by.unshare(found))


def _told(
    engine: Engine, samples: Sequence[Sample], found: Sequence[tuple[str, NDArray[np.float32]] | Failure]
) -> Told:
    read = [(sample, one) for sample, one in zip(samples, found, strict=True) if not isinstance(one, Failure)]
    failures = tuple(one for one in found if isinstance(one, Failure))
    if not read:
        raise UsageError(f"attributes: none of {len(samples)} videos can be read ({failures[0].message})")
    sentences = engine.encode_texts([one[0] for _, one in read], positions="eot").classes
    scores = np.stack([one[1] for _, one in read]).astype(np.float64)
    return Told(tuple(sample for sample, _ in read), sentences, scores, failures)


class AttributeTraining:
    """Training of a new attribute head on what videos are told as.

    Args:
        loss: as for the video branch.
    """

    def __init__(
        self, engine: Engine, train: Told, config: FinetuneConfig, labels: Sequence[str], *, loss: str
    ) -> None:
        self.head = new_attribute(engine.encoder.model, seed=config.learning.seed).to(train.sentences.device)
        self.classes = encode_labels(engine, labels, template=config.template, spot="eot").classes
        self._train, self._config, self._loss, self._scale = train, config, loss, engine.logit_scale
        self.bias = torch.zeros((), device=train.sentences.device, requires_grad=True)
        size = config.batches.batch_size
        self._batch_size = min(256 if size == "auto" else size, len(train.samples))
        self.steps = steps_of(len(train.samples), self._batch_size)

    @torch.enable_grad()
    def epoch(self, epoch: int) -> Iterator[tuple[float, float]]:
        """Yield loss and rate of each step of an epoch from 0."""
        learning, batches = self._config.learning, self._config.batches
        if not epoch:
            self._optimizer = torch.optim.AdamW(
                [*self.head.parameters(), self.bias], lr=learning.lr, weight_decay=learning.weight_decay
            )
        labels = [sample.label for sample in self._train.samples]
        plans = plans_of(epoch, labels, batch_size=self._batch_size, seed=learning.seed, balanced=batches.balanced)
        for i, plan in enumerate(plans):
            share = rate_of_step(
                epoch * self.steps + i, steps=self.steps, epochs=learning.epochs, warm_up=learning.warm_up
            )
            for group in self._optimizer.param_groups:
                group["lr"] = share * learning.lr
            loss = self._loss_of(list(plan.places))
            self._optimizer.zero_grad()
            loss.backward()  # type: ignore[no-untyped-call]
            self._optimizer.step()
            yield float(loss.detach()), share * learning.lr

    def _loss_of(self, places: list[int]) -> Tensor:
        samples = [self._train.samples[place] for place in places]
        sentences = self._train.sentences[places]
        labels = torch.tensor([sample.label for sample in samples], device=sentences.device)
        if self._loss in IN_BATCH:
            logits = self._scale * self.head(sentences, self.classes[labels])
            return IN_BATCH[self._loss](logits, labels)
        logits = self._scale * self.head(sentences, self.classes)
        if self._loss == "ce":
            return ce_loss(logits, labels)
        present = torch.zeros(logits.shape, dtype=torch.bool, device=logits.device)
        for row, sample in zip(present, samples, strict=True):
            row[list(sample.labels)] = True
        return bce_loss(logits + self.bias, present)


@torch.no_grad()
def attribute_scores_of(head: AttributeHead, told: Told, classes: Tensor) -> NDArray[np.float64]:
    """Return the score of each class by the attribute branch: [V, C]."""
    scores = cast(Tensor, head(told.sentences, classes))
    return scores.double().cpu().numpy()


def best_weight(told: Told, attributes: NDArray[np.float64], *, multi_label: bool) -> tuple[float, float]:
    """Return the weight of the attribute branch under which videos are told best, and how well; the least of equals."""
    found: list[tuple[float, float]] = []
    for weight in WEIGHTS:
        video, words = torch.from_numpy(told.scores), torch.from_numpy(attributes)
        fused = fuse(video, words, weight=1 - weight).numpy()
        metrics = metrics_of(fused, told.samples, multi_label=multi_label)
        found.append((metrics["map" if multi_label else "top1"], weight))
    value, weight = max(found, key=lambda one: (one[0], -one[1]))
    return weight, value
