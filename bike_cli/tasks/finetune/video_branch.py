"""Training of the video branch, step by step, from wherever it stood."""

from __future__ import annotations

import logging
import math
import re
import time
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import closing
from dataclasses import dataclass, field

import torch
from torch import Tensor, nn
from torch.distributed.tensor import DTensor
from torch.nn.parallel import DistributedDataParallel

from bike_cli.config import FinetuneConfig
from bike_cli.engine.engine import Engine
from bike_cli.errors import ConfigError, ModelError, UsageError
from bike_cli.inference.processes import Processes
from bike_cli.records import Failure, Sample
from bike_cli.tasks.finetune.learner import Coming, Learner
from bike_cli.tasks.finetune.loading import Loaded, Loader, plans_of, steps_of
from bike_cli.tasks.finetune.losses import rate_of_step
from bike_cli.tasks.finetune.sharding import share_of, whole
from bike_cli.tasks.finetune.snapshots import Snapshot

logger = logging.getLogger(__name__)

_BLOCKS = re.compile(r"image:(\d+)")
MIB = 2**20
PAPER_BATCH = 256
ELSEWHERE_AT_ONCE = 32
MEMORY_SHARE = 0.9  # of a device's memory, that a batch may take


@dataclass(frozen=True)
class Step:
    """One step of training.

    Args:
        step: from 1, over all epochs.
        loss: NaN where none of the batch's videos could be read.
        rate: of the heads.
        videos: in the batch, of all processes.
        failures: videos of it that could not be read, of all processes.
        seconds: since the step before.
        waited_s: of them, for videos.
        memory_mib: most that the device held; 0 where it does not tell.
    """

    branch: str
    epoch: int
    step: int
    steps: int
    loss: float
    rate: float
    videos: int
    failures: int
    seconds: float
    waited_s: float
    memory_mib: int


@dataclass
class Position:
    """Where training stands.

    Args:
        epoch, batch: the next ones, from 0.
    """

    epoch: int = 0
    batch: int = 0
    failures: int = 0
    stop: bool = field(default=False, compare=False)


def freeze(engine: Engine, frozen: str) -> None:
    """Let what is named take no gradient, and everything else of the video branch learn.

    Args:
        frozen: of `text`, `image`, `image:N`, `head`, `scale`, with commas between; `none` frees the text tower, too.
    Raises:
        ConfigError: another name, or more blocks than the image tower has.
    """
    names = {part.strip() for part in frozen.split(",") if part.strip()}
    known = {"text", "image", "head", "scale", "none"}
    strange = next((name for name in sorted(names) if name not in known and not _BLOCKS.fullmatch(name)), None)
    if strange is not None:
        raise ConfigError(
            f"freeze is {frozen!r}: {strange!r} is no part; name text, image, image:6, head, scale or none"
        )
    if {"none", "text"} <= names:
        raise ConfigError(f"freeze is {frozen!r}: none frees the text tower, and text freezes it; name one of them")
    clip = engine.encoder.model
    for name, parameter in clip.named_parameters():
        is_image = name.startswith("visual.")
        learns = "image" not in names if is_image else "none" in names
        parameter.requires_grad_(learns)
    for parameter in () if engine.temporal_head is None else engine.temporal_head.parameters():
        parameter.requires_grad_("head" not in names)
    clip.logit_scale.requires_grad_("scale" not in names)
    blocks = max((int(match[1]) for match in map(_BLOCKS.fullmatch, names) if match), default=0)
    if blocks:
        _freeze_blocks(clip.visual, blocks)


def _freeze_blocks(tower: nn.Module, count: int) -> None:
    blocks = getattr(getattr(tower, "transformer", None), "resblocks", None)
    if blocks is None or count > len(blocks):
        there = "none that can be counted" if blocks is None else str(len(blocks))
        raise ConfigError(f"freeze is image:{count}: the image tower has {there} blocks; name fewer, or image")
    stem = [parameter for name, parameter in tower.named_parameters() if _is_stem(name)]
    for parameter in [*stem, *(p for block in blocks[:count] for p in block.parameters())]:
        parameter.requires_grad_(False)


def _is_stem(name: str) -> bool:
    return name.startswith(("conv1.", "class_embedding", "positional_embedding", "ln_pre."))


class VideoTraining:
    """Training of a model's video branch, in place.

    Args:
        learner: of the engine.
        train: what is learned from.
        batch_size: videos, of all processes.
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
        processes: Processes,
    ) -> None:
        self.engine, self.learner, self.loader, self._processes = engine, learner, loader, processes
        self._train, self._config = train, config
        self.batch_size = min(batch_size, len(train))
        self.steps = steps_of(len(train), self.batch_size)
        self.position = Position()
        self._told: set[str] = set()
        self.learnt = learnt_of(engine, learner)
        if not self.learnt:
            raise UsageError(f"freeze is {config.learning.freeze!r}: nothing is left to learn; name less")
        self.optimizer = self._optimizer()

    def epoch(self) -> Iterator[Step]:
        """Do what is left of an epoch; its last step leaves the position at the next epoch's first one."""
        learning, position = self._config.learning, self.position
        plans = plans_of(
            position.epoch,
            [sample.label for sample in self._train],
            batch_size=self.batch_size,
            seed=learning.seed,
            balanced=self._config.batches.balanced,
            processes=self._processes.count,
        )
        begun_s = time.monotonic()
        with closing(self.loader.batches(plans[position.batch :])) as batches:  # type: ignore[type-var]
            while True:
                waited_s = time.monotonic()
                loaded = next(batches, None)
                if loaded is None:
                    self._check_any_read()
                    return
                waited_s = time.monotonic() - waited_s
                self._tell(loaded.failures)
                loss, rate, videos, failed = self._learn(loaded, sum(p >= 0 for p in plans[position.batch].places))
                now_s = time.monotonic()
                seconds, begun_s = now_s - begun_s, now_s
                yield self._step(loss, rate, videos, failed, seconds, waited_s)

    def _tell(self, failures: Iterable[Failure]) -> None:
        """Name what could not be read, once and not in every epoch."""
        for failure in failures:
            if failure.source.id not in self._told:
                self._told.add(failure.source.id)
                logger.warning("%s", failure.message)

    def _check_any_read(self) -> None:
        """Raise UsageError where an epoch has ended and nothing was ever learned from."""
        if self.position.failures == len(self._train) * (self.position.epoch + 1):
            raise UsageError(
                f"training: none of {len(self._train)} videos can be read, as warnings tell; fix them, and begin again"
            )

    @torch.no_grad()
    def tell(self, engine: Engine) -> None:
        """Give the weights as they are now to an engine that has them whole; all processes must ask at once."""
        for name, own in learnt_of(engine, self.learner).items():
            own.copy_(whole(self.learnt[name]))

    def end_epoch(self) -> None:
        """Go on to the next epoch."""
        self.position.epoch += 1
        self.position.batch = 0

    def _learn(self, loaded: Loaded, planned: int) -> tuple[float, float, int, int]:
        """Return loss, rate, and how many videos were learned from and how many failed."""
        learning, position = self._config.learning, self.position
        done = position.epoch * self.steps + position.batch
        share = rate_of_step(done, steps=self.steps, epochs=learning.epochs, warm_up=learning.warm_up)
        for group in self.optimizer.param_groups:
            group["lr"] = share * group["highest"]
        coming = self.gradients(loaded)
        videos = int(self._processes.gather(loaded.batch.present).sum())
        if videos:
            self.learner.finish_step(self.optimizer)
        # Behind the step, so that the device is told of it in time. What a loss that is none has spoilt is not kept.
        loss = float(coming)
        if videos and not math.isfinite(loss):
            raise UsageError(
                f"loss: is {loss} in epoch {position.epoch + 1}, step {done + 1}; give a lower --lr, and begin "
                "in another folder"
            )
        position.batch += 1
        position.failures += planned - videos
        return loss, share * learning.lr, videos, planned - videos

    def gradients(self, loaded: Loaded) -> Coming:
        """Return the loss of a batch, its gradients taken; in more parts where the device's memory is too small.

        Raises:
            ModelError: not even one video fits, or several processes would have to agree.
        """
        while True:
            try:
                return self.learner.gradients(loaded.batch)
            except torch.OutOfMemoryError as e:
                fact = str(e).split(". ")[0]
            self._into_more_parts(len(loaded.batch.pixels), fact)

    def _into_more_parts(self, videos: int, fact: str) -> None:
        parts = self.learner.parts
        if self._config.batches.accumulate is not None or self._processes.count > 1 or parts >= videos:
            way_out = "give --accumulate more parts" if parts < videos else "choose a smaller model or fewer --frames"
            raise ModelError(
                f"out of memory: {videos} videos in {parts} parts are too much for the device ({fact}); {way_out}"
            )
        self.optimizer.zero_grad()
        torch.cuda.empty_cache()
        self.learner.parts = min(videos, 2 * parts)
        logger.warning("out of memory on the device: going on with batches in %d parts", self.learner.parts)

    def _step(self, loss: float, rate: float, videos: int, failed: int, seconds: float, waited_s: float) -> Step:
        position, device = self.position, self.learner.device
        memory = torch.cuda.max_memory_allocated(device) // MIB if device.type == "cuda" else 0
        done = position.epoch * self.steps + position.batch
        total = self.steps * self._config.learning.epochs
        return Step("video", position.epoch + 1, done, total, loss, rate, videos, failed, seconds, waited_s, memory)

    # -- to and from disk ----------------------------------------------------------------------------------------

    def snapshot(self, settings: Mapping[str, object], told: Mapping[str, object]) -> Snapshot:
        """Return where training stands; `settings` are those that must not change, `told` what else is to be kept.

        Where weights are in shares, all processes must ask, and what others than the first get has no tensors.
        """
        parts = {f"weights.{name}": tensor.detach() for name, tensor in self.learnt.items()}
        names = list(self.learnt)
        for i, state in self.optimizer.state_dict()["state"].items():
            parts |= {f"optimizer.{names[i]}.{key}": torch.as_tensor(value) for key, value in state.items()}
        tensors = {}
        for name, part in parts.items():
            tensor = whole(part)
            if self._processes.is_first:
                tensors[name] = tensor.cpu() if self.learner.is_sharded else tensor
        position = self.position
        state = {
            "epoch": position.epoch,
            "batch": position.batch,
            "failures": position.failures,
            "scaler": self.learner.scaler.state_dict(),
            "settings": dict(settings),
            **told,
        }
        return Snapshot(state, tensors)

    def restore(self, snapshot: Snapshot) -> None:
        """Stand where a snapshot was taken.

        Raises:
            ModelError: it is of other weights.
        """
        names, tensors = list(self.learnt), snapshot.tensors
        wanted = {f"weights.{name}" for name in names}
        if wanted != {name for name in tensors if name.startswith("weights.")}:
            raise ModelError("checkpoint: is of other weights than learn now; start anew in another folder")
        self._check_shapes(tensors)
        with torch.no_grad():
            for name, tensor in self.learnt.items():
                tensor.copy_(share_of(tensors[f"weights.{name}"], tensor))
        state: dict[int, dict[str, Tensor]] = {}
        for i, (name, learnt) in enumerate(self.learnt.items()):
            prefix = f"optimizer.{name}."
            of_one = {key.removeprefix(prefix): value for key, value in tensors.items() if key.startswith(prefix)}
            if of_one:
                state[i] = {k: share_of(v, learnt) if v.shape == learnt.shape else v for k, v in of_one.items()}
        groups = self.optimizer.state_dict()["param_groups"]
        self.optimizer.load_state_dict({"state": state, "param_groups": groups})
        told = snapshot.state
        if told["scaler"]:
            self.learner.scaler.load_state_dict(told["scaler"])  # type: ignore[arg-type]
        self.position = Position(int(told["epoch"]), int(told["batch"]), int(told["failures"]))  # type: ignore[call-overload]

    def _check_shapes(self, tensors: Mapping[str, Tensor]) -> None:
        for name, learnt in self.learnt.items():
            prefix = f"optimizer.{name}."
            related = {key: value for key, value in tensors.items() if key.startswith(prefix)}
            fits = all(value.shape == learnt.shape or value.numel() == 1 for value in related.values())
            if not fits or tensors[f"weights.{name}"].shape != learnt.shape:
                raise ModelError(
                    f"checkpoint: {name} has a different shape than the current model; start over in another folder"
                )

    def _optimizer(self) -> torch.optim.Optimizer:
        learning = self._config.learning
        # In the order of `learnt`, which is that of the optimizer's state.
        groups = [
            {
                "params": [p],
                "lr": 0.0,
                "highest": learning.lr * (1.0 if name.startswith("head.") else learning.clip_ratio),
                "in_shares": isinstance(p, DTensor),  # the optimizer takes no mixture
            }
            for name, p in self.learnt.items()
        ]
        is_fused = self.learner.device.type == "cuda"
        return torch.optim.AdamW(_merged(groups), lr=learning.lr, weight_decay=learning.weight_decay, fused=is_fused)


def fitting_batch(learner: Learner, engine: Engine, frames: int, *, most: int) -> int:
    """Return how many videos fit on the devices at once, doubled from 2 on; 32 where a device does not tell.

    Args:
        most: videos there are; more than the paper's 256 are never taken.
    """
    device, by = learner.device, learner.processes
    most = max(2, min(PAPER_BATCH, most))
    if device.type != "cuda":
        return min(most, ELSEWHERE_AT_ONCE)
    size = 2
    while size * by.count <= most and _fits(learner, engine, frames, size):
        size *= 2
    fitting = int(by.gather(torch.tensor([max(2, size // 2)])).min()) * by.count
    logger.warning("batch_size auto: %d videos", min(fitting, most))
    return min(fitting, most)


def _fits(learner: Learner, engine: Engine, frames: int, videos: int) -> bool:
    side, device = engine.encoder.recipe.side, learner.device
    branch = learner.branch.module if isinstance(learner.branch, DistributedDataParallel) else learner.branch
    learnt = sum(p.numel() * p.element_size() for p in branch.parameters() if p.requires_grad)
    torch.cuda.reset_peak_memory_stats(device)
    try:
        pixels = torch.zeros(videos, frames, 3, side, side, dtype=torch.uint8, device=device)
        # Compiled it needs less, but each size would be compiled.
        with torch.compiler.set_stance("force_eager"):
            branch(pixels)[0].sum().backward()
    except torch.OutOfMemoryError:
        return False
    finally:
        branch.zero_grad()
        torch.cuda.empty_cache()
    # The optimizer will hold two numbers more for each that is learnt.
    needed = torch.cuda.max_memory_reserved(device) + 2 * learnt
    return needed < MEMORY_SHARE * torch.cuda.get_device_properties(device).total_memory


def _merged(groups: list[dict[str, object]]) -> list[dict[str, object]]:
    """Return the groups with neighbours of one kind together; the order of parameters stays."""
    merged: list[dict[str, object]] = []
    for group in groups:
        if merged and all(merged[-1][name] == group[name] for name in ("highest", "in_shares")):
            merged[-1]["params"] = [*merged[-1]["params"], *group["params"]]  # type: ignore[misc]
        else:
            merged.append(group)
    return merged


def learnt_of(engine: Engine, learner: Learner) -> dict[str, nn.Parameter]:
    """Return what learns, by name: `clip.`, then `head.`."""
    found = {f"clip.{name}": p for name, p in engine.encoder.model.named_parameters() if p.requires_grad}
    if learner.scale.requires_grad:
        found["clip.logit_scale"] = learner.scale
    if engine.temporal_head is not None:
        found |= {f"head.{name}": p for name, p in engine.temporal_head.named_parameters() if p.requires_grad}
    if learner.bias is not None:
        found["head.bias"] = learner.bias
    return found
