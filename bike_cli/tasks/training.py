"""BIKE's own few-shot training of the video branch: the image tower learns, the text tower stays as it is."""

from __future__ import annotations

import copy
import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from bike_cli.engine.engine import Engine
from bike_cli.engine.scoring import unit
from bike_cli.engine.spotting import Voters, concept_scores, mean_scores, spotted
from bike_cli.engine.transforms import normalise
from bike_cli.tasks.losses import nce_loss

CROPS = (1.0, 0.875, 0.75, 0.66)  # of a side; the official scales


@dataclass(frozen=True)
class Recipe:
    """How the tower is trained.

    Args:
        batch: videos; the official 256 are 32 on each of eight GPUs.
        rate: of CLIP's weights, at its highest; official 5e-5 / 10.
        head_rate: of the temporal head's, where there is one.
        warm_up: epochs of linear warm-up; a cosine follows.
    Source: BIKE, official few-shot configurations and utils/solver.py.
    """

    epochs: int = 20
    batch: int = 32
    rate: float = 5e-6
    head_rate: float = 5e-5
    weight_decay: float = 0.2
    warm_up: int = 5


@dataclass(frozen=True)
class Step:
    """One step of training."""

    epoch: int
    step: int
    loss: float
    rate: float


@dataclass(frozen=True, eq=False)
class Texts:
    """What videos are compared with: classes [C, D] and voters that spot, unit vectors; no voters: mean pooling."""

    classes: Tensor
    voters: Voters | None
    temperature: float


class Training:
    """Few-shot training of a copy of an engine's image tower; iterate to train.

    The paper's few-shot models have no temporal head. A model that has one keeps it, and it learns, too: its frames
    mean little without.

    Args:
        clips: each uint8 [T, H, W, 3].
        labels: int64 [N].
        seed: of the order and the crops.
    """

    def __init__(
        self,
        engine: Engine,
        clips: Sequence[NDArray[np.uint8]],
        labels: Tensor,
        texts: Texts,
        *,
        recipe: Recipe | None = None,
        seed: int = 0,
    ) -> None:
        self._recipe = recipe or Recipe()
        model = copy.deepcopy(engine.encoder.model)
        encoder = replace(engine.encoder, model=model, tower=model.encode_image, pads=False)
        self.engine = replace(engine, encoder=encoder, temporal_head=copy.deepcopy(engine.temporal_head))
        self._pixels = [encoder.pixels(clip) for clip in clips]  # each [T, 3, S, S]
        self._labels = labels.to(encoder.placement.device)
        self._texts, self._seed = texts, seed

    @torch.enable_grad()
    def __iter__(self) -> Iterator[Step]:
        """Yield the steps as they are done."""
        recipe, model = self._recipe, self.engine.encoder.model
        head = self.engine.temporal_head
        dice = torch.Generator().manual_seed(self._seed)
        groups = [{"params": list(model.visual.parameters()), "highest": recipe.rate}]
        if head is not None:
            groups.append({"params": list(head.parameters()), "highest": recipe.head_rate})
        optimizer = torch.optim.AdamW(groups, lr=recipe.rate, weight_decay=recipe.weight_decay)
        scaler = torch.amp.GradScaler(enabled=self.engine.encoder.placement.dtype is torch.float16)
        each = math.ceil(len(self._labels) / recipe.batch)
        step = 0
        for epoch in range(recipe.epochs):
            for batch in torch.split(torch.randperm(len(self._labels), generator=dice), recipe.batch):
                share = warmed(step, warm_up=recipe.warm_up * each, total=recipe.epochs * each)
                for group in optimizer.param_groups:
                    group["lr"] = share * group["highest"]
                loss = nce_loss(self._logits(batch.tolist(), dice), self._labels[batch.to(self._labels.device)])
                optimizer.zero_grad()
                scaler.scale(loss).backward()  # type: ignore[no-untyped-call]
                scaler.step(optimizer)
                scaler.update()
                step += 1
                yield Step(epoch, step, float(loss.detach()), share * recipe.rate)

    def _logits(self, batch: list[int], dice: torch.Generator) -> Tensor:
        """Return the scaled scores [N, N] of videos against the texts of their classes."""
        encoder, texts = self.engine.encoder, self._texts
        pixels = torch.cat([cropped(self._pixels[i], dice) for i in batch])
        with encoder.placement.autocast():
            features = encoder.model.encode_image(normalise(pixels, encoder.recipe))
        frames = features.float().reshape(len(batch), -1, features.shape[-1])  # [N, T, D]
        if self.engine.temporal_head is not None:
            frames = self.engine.temporal_head(frames)
        if texts.voters is None:
            scores = mean_scores(frames, texts.classes)
        else:
            seen = unit(frames)
            scores = concept_scores(seen, spotted(seen, texts.voters, texts.temperature), texts.classes)
        return self.engine.logit_scale * scores[:, self._labels[batch]]


def warmed(step: int, *, warm_up: int, total: int) -> float:
    """Return the share of the highest rate at a step from 0: a line up to 1, then a cosine down to 0."""
    if step < warm_up:
        return (step + 1) / warm_up
    return 0.5 + 0.5 * math.cos(math.pi * (step - warm_up) / max(1, total - warm_up))


def cropped(pixels: Tensor, dice: torch.Generator) -> Tensor:
    """Return one random crop of all frames, at their size: uint8 [T, 3, S, S].

    Nothing is flipped: that would teach that left is right.
    """
    side = pixels.shape[-1]
    scale = CROPS[int(torch.randint(len(CROPS), (), generator=dice))]
    crop = max(1, round(scale * side))
    if crop == side:
        return pixels
    top, left = (int(torch.randint(side - crop + 1, (), generator=dice)) for _ in range(2))
    part = pixels[..., top : top + crop, left : left + crop].float()
    larger = torch.nn.functional.interpolate(part, size=(side, side), mode="bicubic", align_corners=False)
    return larger.round().clamp(0, 255).to(torch.uint8)
