"""Training of the video branch, step by step, from any checkpoint."""

from __future__ import annotations

import logging
import math
import re
import time
from collections.abc import Iterator, Sequence
from contextlib import closing
from dataclasses import dataclass
from itertools import groupby
from typing import ClassVar

import torch
from torch import Tensor, nn
from torch.distributed.tensor import DTensor

from bike_cli.config import FinetuneConfig
from bike_cli.engine.engine import Engine
from bike_cli.engine.towers.text_tower import CAPTIONER
from bike_cli.errors import ConfigError, ModelError, UsageError, concerning
from bike_cli.records import Sample
from bike_cli.tasks.finetune.learner import Learner
from bike_cli.tasks.finetune.loading import NO_VIDEO, Loader, plan_batches, steps_per_epoch, warn_once
from bike_cli.tasks.finetune.losses import rate_of_step
from bike_cli.tasks.finetune.sharding import distribute_like, full_tensor
from bike_cli.tasks.finetune.snapshots import RunResults, RunSettings, Snapshot, TrainingState

logger = logging.getLogger(__name__)

_BLOCKS = re.compile(r"image:(\d+)")
_STEM = ("conv1.", "class_embedding", "positional_embedding", "ln_pre.")  # of an image tower, before its blocks
MIB = 2**20
PAPER_BATCH = 256


@dataclass(frozen=True)
class Step:
    """One training step."""

    branch: str  # `video` or `attributes`
    epoch: int  # from 1
    step: int  # from 1, over all epochs
    steps: int  # of the whole run
    loss: float  # NaN if none of the videos could be read
    rate: float  # learning rate of the heads
    videos: int = 0  # videos of the batch that could be read, in all processes
    failures: int = 0  # videos of the batch that could not be read
    seconds: float = 0.0  # since the previous step
    waited_s: float = 0.0  # seconds of these spent waiting for videos
    memory_mib: int = 0  # peak memory of the device; 0 if unknown

    kind: ClassVar[str] = "step"  # in the log


@dataclass
class Position:
    """How far training is."""

    epoch: int = 0  # the next epoch, from 0
    batch: int = 0  # the next batch, from 0
    failures: int = 0  # how many times a video could not be read


@concerning("freeze")
def freeze(engine: Engine, frozen: str) -> None:
    """Let the named parts take no gradient, and train everything else of the video branch.

    Args:
        frozen: of `text`, `image`, `image:N`, `head`, `scale`, separated by commas. The text tower is always frozen,
            unless this is `none`.
    Raises:
        ConfigError: an unknown name, or more blocks than the image tower has.
    """
    names = {part.strip() for part in frozen.split(",") if part.strip()}
    known = {"text", "image", "head", "scale", "none"}
    unknown = next((name for name in sorted(names) if name not in known and not _BLOCKS.fullmatch(name)), None)
    if unknown is not None:
        raise ConfigError(
            f"freeze is {frozen!r}: unknown part {unknown!r}; choose from text, image, image:6, head, scale and none"
        )
    if {"none", "text"} <= names:
        raise ConfigError(f"freeze is {frozen!r}: none trains the text tower, text freezes it; give one of the two")
    clip = engine.encoder.model
    for name, parameter in clip.named_parameters():
        is_image, is_read = name.startswith("visual."), not name.startswith(CAPTIONER)
        parameter.requires_grad_("image" not in names if is_image else "none" in names and is_read)
    for parameter in () if engine.temporal_head is None else engine.temporal_head.parameters():
        parameter.requires_grad_("head" not in names)
    clip.logit_scale.requires_grad_("scale" not in names)
    bias = _bias_of(engine)
    if bias is not None:  # only a sigmoid loss trains it; see `Learner`
        bias.requires_grad_(False)
    blocks = max((int(match[1]) for match in map(_BLOCKS.fullmatch, names) if match), default=0)
    if blocks:
        _freeze_blocks(clip.visual, blocks)


def _freeze_blocks(tower: nn.Module, count: int) -> None:
    blocks = getattr(getattr(tower, "transformer", None), "resblocks", None)
    if blocks is None:
        raise ConfigError(f"freeze is image:{count}: this image tower is not a list of blocks; give image")
    if count > len(blocks):
        raise ConfigError(f"freeze is image:{count}: the image tower has {len(blocks)} blocks; give fewer, or image")
    stem = [parameter for name, parameter in tower.named_parameters() if name.startswith(_STEM)]
    for parameter in [*stem, *(p for block in blocks[:count] for p in block.parameters())]:
        parameter.requires_grad_(False)


class VideoTraining:
    """Training of a model's video branch, in place.

    Args:
        learner: of the engine.
        train: the samples that the loader loads.
        batch_size: videos per step, over all processes.
        reported: ids of the unreadable videos that were reported; it is added to.
    """

    def __init__(
        self,
        engine: Engine,
        learner: Learner,
        loader: Loader,
        train: Sequence[Sample],
        config: FinetuneConfig,
        *,
        batch_size: int,
        reported: set[str] | None = None,
    ) -> None:
        self.engine, self.learner, self.loader, self._group = engine, learner, loader, learner.group
        self._train, self._config = train, config
        self.batch_size = min(batch_size, len(train))
        self.steps = steps_per_epoch(len(train), self.batch_size)
        self.position = Position()
        self._reported: set[str] = set() if reported is None else reported
        self.trained = trained_parameters(engine, learner)
        if not self.trained:
            problem = f"freeze is {config.learning.freeze!r}: nothing is left to train"
            raise UsageError(f"{problem}; freeze less", settings=("freeze",))
        self.optimizer = self._optimizer()

    @property
    def done(self) -> int:
        """Completed steps, over all epochs."""
        return self.position.epoch * self.steps + self.position.batch

    def epoch(self) -> Iterator[Step]:
        """Train for the rest of an epoch; yield its steps. Call `end_epoch` afterwards."""
        learning, position = self._config.learning, self.position
        plans = plan_batches(
            position.epoch,
            [sample.label for sample in self._train],
            batch_size=self.batch_size,
            seed=learning.seed,
            balanced=self._config.batches.balanced,
            processes=self._group.count,
        )
        last_s = time.monotonic()
        with closing(self.loader.batches(position.epoch, plans[position.batch :])) as batches:  # type: ignore[type-var]
            while True:
                waited_s = time.monotonic()
                batch = next(batches, None)
                if batch is None:
                    self._check_any_read()
                    return
                waited_s = time.monotonic() - waited_s
                warn_once(batch.failures, self._reported)
                rate = self._set_rate()
                deferred = self.learner.gradients(batch)
                videos = int(self._group.gather(batch.present).sum())
                if videos:
                    self.learner.finish_step(self.optimizer)
                # Read after the optimizer's step is queued, so that the device never idles.
                loss = float(deferred)
                if videos:
                    self._check_loss(loss)  # a NaN step is never checkpointed
                failures = sum(place != NO_VIDEO for place in plans[position.batch]) - videos
                position.batch += 1
                position.failures += failures
                now_s = time.monotonic()
                seconds, last_s = now_s - last_s, now_s
                device = self.learner.device
                yield Step(
                    branch="video",
                    epoch=position.epoch + 1,
                    step=self.done,
                    steps=self.steps * learning.epochs,
                    loss=loss,
                    rate=rate,
                    videos=videos,
                    failures=failures,
                    seconds=seconds,
                    waited_s=waited_s,
                    memory_mib=torch.cuda.max_memory_allocated(device) // MIB if device.type == "cuda" else 0,
                )

    def end_epoch(self) -> None:
        """Move the position to the next epoch."""
        self.position.epoch += 1
        self.position.batch = 0

    @torch.no_grad()
    def copy_to(self, engine: Engine) -> None:
        """Copy the current weights to the engine that holds them whole; every process must call this at once."""
        model = engine.encoder.model
        model.logit_scale.copy_(self.learner.scale)
        own_bias = _bias_of(engine)
        if self.learner.bias is not None and own_bias is not None:
            own_bias.copy_(self.learner.bias)
        if self.learner.is_sharded:
            for name, parameter in trained_parameters(engine, self.learner).items():
                parameter.copy_(full_tensor(self.trained[name]))

    def _set_rate(self) -> float:
        """Set the learning rates of the next step, and return that of the heads."""
        learning = self._config.learning
        share = rate_of_step(self.done, steps=self.steps, epochs=learning.epochs, warm_up=learning.warm_up)
        for group in self.optimizer.param_groups:
            group["lr"] = share * group["highest"]
        return share * learning.lr

    def _check_loss(self, loss: float) -> None:
        """Raise UsageError if the loss of the current step is not finite."""
        if not math.isfinite(loss):
            raise UsageError(
                f"loss: is {loss} in epoch {self.position.epoch + 1}, step {self.done + 1}; lower --lr, and start over "
                "in another folder",
                settings=("lr",),
            )

    def _check_any_read(self) -> None:
        """Raise UsageError if an epoch is over and no video could ever be read."""
        if self.position.failures == len(self._train) * (self.position.epoch + 1):
            raise UsageError(
                f"training: none of {len(self._train)} videos can be read (see the warnings above); fix them, and "
                "start over"
            )

    # -- checkpoints ---------------------------------------------------------------------------------------------

    def snapshot(self, settings: RunSettings, best: RunResults, since_best: int) -> Snapshot:
        """Return a checkpoint; with sharded weights, every process must call this, and the first gets the tensors."""
        parts = {f"weights.{name}": tensor.detach() for name, tensor in self.trained.items()}
        names = list(self.trained)
        for i, state in self.optimizer.state_dict()["state"].items():
            parts |= {f"optimizer.{names[i]}.{key}": torch.as_tensor(value) for key, value in state.items()}
        tensors = {}
        for name, part in parts.items():
            tensor = full_tensor(part)
            if self._group.is_first:
                tensors[name] = tensor.cpu() if self.learner.is_sharded else tensor
        position, scaler = self.position, self.learner.scaler.state_dict()
        counts = position.epoch, position.batch, position.failures
        return Snapshot(TrainingState(*counts, scaler, settings, best, since_best), tensors)

    def restore(self, snapshot: Snapshot) -> None:
        """Continue from a checkpoint; raise ModelError if it has other weights."""
        state, tensors = snapshot.state, snapshot.tensors
        if {f"weights.{name}" for name in self.trained} != {name for name in tensors if name.startswith("weights.")}:
            raise ModelError("checkpoint: has other weights than those that are trained; start over in another folder")
        moments: dict[int, dict[str, Tensor]] = {}
        for i, (name, parameter) in enumerate(self.trained.items()):
            weight, shape, prefix = tensors[f"weights.{name}"], parameter.shape, f"optimizer.{name}."
            values = {key.removeprefix(prefix): value for key, value in tensors.items() if key.startswith(prefix)}
            if weight.shape != shape or any(value.shape != shape and value.numel() != 1 for value in values.values()):
                raise ModelError(
                    f"checkpoint: {name} has a different shape than the current model; start over in another folder"
                )
            with torch.no_grad():
                parameter.copy_(distribute_like(weight, parameter))
            if values:
                moments[i] = {k: distribute_like(v, parameter) if v.shape == shape else v for k, v in values.items()}
        groups = self.optimizer.state_dict()["param_groups"]
        self.optimizer.load_state_dict({"state": moments, "param_groups": groups})
        if state.scaler:
            self.learner.scaler.load_state_dict(dict(state.scaler))
        self.position = Position(state.epoch, state.batch, state.failures)

    def _optimizer(self) -> torch.optim.Optimizer:
        learning = self._config.learning

        def kind(name: str) -> tuple[float, bool]:
            rate = learning.lr * (1.0 if name.startswith("head.") else learning.clip_ratio)
            # The optimizer cannot mix sharded parameters with others.
            return rate, isinstance(self.trained[name], DTensor)

        # One group per run of equal neighbours: the optimizer numbers its state in the order of `trained`.
        groups = [
            {"params": [self.trained[name] for name in names], "lr": 0.0, "highest": rate}
            for (rate, _), names in groupby(self.trained, kind)
        ]
        is_fused = self.learner.device.type == "cuda"
        return torch.optim.AdamW(groups, lr=learning.lr, weight_decay=learning.weight_decay, fused=is_fused)


def trained_parameters(engine: Engine, learner: Learner) -> dict[str, nn.Parameter]:
    """Return the trained parameters by name: `clip.*`, then `head.*`."""
    parameters = {f"clip.{name}": p for name, p in engine.encoder.model.named_parameters() if p.requires_grad}
    if learner.scale.requires_grad:
        parameters["clip.logit_scale"] = learner.scale
    if learner.bias is not None and _bias_of(engine) is not None:
        parameters["clip.logit_bias"] = learner.bias
    if engine.temporal_head is not None:
        parameters |= {f"head.{name}": p for name, p in engine.temporal_head.named_parameters() if p.requires_grad}
    if learner.bias is not None and _bias_of(engine) is None:
        parameters["head.bias"] = learner.bias
    return parameters


def _bias_of(engine: Engine) -> nn.Parameter | None:
    return getattr(engine.encoder.model, "logit_bias", None)
