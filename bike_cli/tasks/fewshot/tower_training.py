"""BIKE's own few-shot training of the video branch, on clips that are in memory."""

from __future__ import annotations

import copy
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from bike_cli.engine.engine import Engine
from bike_cli.engine.spotting import ClassTexts
from bike_cli.engine.towers.augmentation import Augmentation, augment
from bike_cli.engine.towers.text_tower import image_tower
from bike_cli.tasks.finetune.learner import Batch, Learner
from bike_cli.tasks.finetune.loading import PIXELS, plan_batches, steps_per_epoch
from bike_cli.tasks.finetune.losses import rate_of_step
from bike_cli.tasks.finetune.video_branch import freeze

CROPS_ONLY = Augmentation(crops=True, flip=False, jitter=False)  # colours and directions may tell classes apart


@dataclass(frozen=True)
class Recipe:
    """The hyper-parameters of the training.

    Source: BIKE, official few-shot configurations and utils/solver.py.
    """

    epochs: int = 20
    batch: int = 32  # videos per step; the official 256 are 32 on each of eight GPUs
    rate: float = 5e-6  # the highest learning rate of CLIP's weights; official 5e-5 / 10
    head_rate: float = 5e-5  # the highest learning rate of the temporal head, if the model has one
    weight_decay: float = 0.2
    warm_up: int = 5  # epochs of linear warm-up; a cosine follows


class ShotTraining:
    """Trains a copy of an engine's image tower on a few clips; iterate to train.

    The paper's few-shot models have no temporal head. If the model has one, it is trained too, because the tower's
    frames depend on it.

    Args:
        clips: N clips, each uint8 [T, H, W, 3].
        labels: int64 [N].
        seed: for the order and the crops.
    """

    def __init__(
        self,
        engine: Engine,
        clips: Sequence[NDArray[np.uint8]],
        labels: Tensor,
        texts: ClassTexts,
        *,
        recipe: Recipe | None = None,
        seed: int = 0,
    ) -> None:
        self._recipe, self._seed = recipe or Recipe(), seed
        model = copy.deepcopy(engine.encoder.model)
        encoder = replace(engine.encoder, model=model, tower=image_tower(model), pads=False)
        self.engine = replace(engine, encoder=encoder, temporal_head=copy.deepcopy(engine.temporal_head))
        freeze(self.engine, "text,scale")
        self._learner = Learner(self.engine, texts, scale_learns=False)
        self._clips, self._labels = clips, labels

    def __iter__(self) -> Iterator[float]:
        """Yield the loss after each step."""
        recipe, learner = self._recipe, self._learner
        groups = [{"params": list(self.engine.encoder.model.visual.parameters()), "highest": recipe.rate}]
        if self.engine.temporal_head is not None:
            groups.append({"params": list(self.engine.temporal_head.parameters()), "highest": recipe.head_rate})
        optimizer = torch.optim.AdamW(groups, lr=recipe.rate, weight_decay=recipe.weight_decay)
        steps = steps_per_epoch(len(self._clips), recipe.batch)
        for epoch in range(recipe.epochs):
            plans = plan_batches(epoch, self._labels.tolist(), batch_size=recipe.batch, seed=self._seed, balanced=False)
            for i, places in enumerate(plans):
                share = rate_of_step(epoch * steps + i, steps=steps, epochs=recipe.epochs, warm_up=recipe.warm_up)
                for group in optimizer.param_groups:
                    group["lr"] = share * group["highest"]
                pixels = torch.stack([self._augmented(epoch, place) for place in places])
                present = torch.ones(len(places), dtype=torch.bool)
                loss = learner.gradients(Batch(self._labels[places], pixels, present))
                learner.finish_step(optimizer)
                yield float(loss)

    def _augmented(self, epoch: int, place: int) -> Tensor:
        encoder = self.engine.encoder
        dice = np.random.Generator(np.random.PCG64([self._seed, epoch, place, PIXELS]))
        frames = torch.from_numpy(self._clips[place]).to(encoder.placement.device)
        return augment(frames, encoder.recipe, CROPS_ONLY, dice)
