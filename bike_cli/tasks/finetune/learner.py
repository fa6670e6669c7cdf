"""One training step of the video branch: videos and the texts of their labels in, gradients out.

A contrastive loss compares each video of a batch with the texts of the whole batch, so it needs the features of the
whole batch at once, while the batch may be split into parts, to save memory, and over processes. `Learner` therefore
takes gradients in four steps (GradCache, Gao et al. 2021, arXiv:2101.06983):

1. Encode. Each part goes through the model. Only the first part keeps its graph; the others run without one, so that
   the activations of a single part are in memory.
2. Gather. The features of all parts and processes are joined, cut off from the model, as the leaves of a new graph.
3. Compare. Every process computes the same loss of the whole batch. Its backward pass gives the gradient of the loss
   with respect to each feature.
4. Back-propagate. The gradients of the features go back through the model, part by part. The first part still has its
   graph; the others go through the model again to get one.

The result is the gradient of the whole batch in one process and one part, up to rounding. (On W processes, the
official code's encoder gets 1/W of that gradient.)

Letters: N videos of a batch, n of them in this process, T frames, C classes, M texts, L token positions, D embedding.
"""

from __future__ import annotations

import logging
import math
from collections.abc import Sequence
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass, replace

import torch
from torch import Tensor, nn
from torch.nn.parallel import DistributedDataParallel

from bike_cli.config import Spot, Strategy
from bike_cli.engine.engine import Engine
from bike_cli.engine.scoring import unit
from bike_cli.engine.spotting import ClassTexts
from bike_cli.engine.towers.speedups import pack
from bike_cli.engine.towers.transforms import normalise
from bike_cli.engine.voters import Voters
from bike_cli.errors import ModelError
from bike_cli.inference.processes import ProcessGroup
from bike_cli.records import Failure, Prompt
from bike_cli.tasks.finetune.losses import IN_BATCH_LOSSES, bce_loss, ce_loss
from bike_cli.tasks.finetune.sharding import shard_module, trained_blocks

logger = logging.getLogger(__name__)

PADDING_LIMIT = 7 / 8  # of a compiled size; a smaller batch is compiled in its own size
INITIAL_LOSS_SCALE = 2.0**12
HIGHEST_SCALE = math.log(100.0)  # CLIP's own limit; the official code has none


@dataclass(frozen=True, eq=False)
class TextTraining:
    """The prompts of a text tower that is trained; they are encoded again in each step."""

    prompts: tuple[Prompt, ...]  # one per class
    positions: Spot  # which token positions are kept
    mask: Tensor | None  # bool [C, L], the tokens that vote; None: all of them
    length: int  # L, number of positions that are kept


@dataclass(frozen=True, eq=False)
class Batch:
    """A batch of training videos."""

    labels: Tensor  # int64 [N], of the videos of all processes, by rank; bool [N, C] with several labels per video
    pixels: Tensor  # uint8 [n, T, 3, S, S], of this process
    present: Tensor  # bool [n]; False: the video could not be read, and its pixels are zero
    failures: tuple[Failure, ...] = ()  # of the videos that this process could not read
    ready: torch.cuda.Event | None = None  # event after which the device has the pixels; None: it already has them


@dataclass(frozen=True, eq=False)
class DeferredScalar:
    """A number that is being copied from the device. `float` waits for the copy, but not for work queued after it."""

    value: Tensor
    copied: torch.cuda.Event | None = None

    @classmethod
    def start(cls, number: Tensor) -> DeferredScalar:
        """Start copying a scalar to the host without blocking."""
        if not number.is_cuda:
            return cls(number.detach().clone())
        on_host = torch.empty_like(number, device="cpu", pin_memory=True)
        on_host.copy_(number.detach(), non_blocking=True)
        copied = torch.cuda.Event(blocking=True)  # type: ignore[no-untyped-call]
        copied.record(torch.cuda.current_stream(number.device))
        return cls(on_host, copied)

    def __float__(self) -> float:
        if self.copied is not None:
            self.copied.synchronize()
        return float(self.value)


class VideoBranch(nn.Module):
    """The trained modules of a model: image tower, temporal head, and the text tower if it is trained.

    Args:
        compile_blocks: compile each block instead of the tower, because sharded weights are gathered between blocks.
    """

    def __init__(
        self,
        engine: Engine,
        text_training: TextTraining | None,
        *,
        compiled: bool = False,
        compile_blocks: bool = False,
    ) -> None:
        super().__init__()
        self.clip, self.head = engine.encoder.model, engine.temporal_head
        self._encoder, self._text_training = engine.encoder, text_training
        if engine.encoder.placement.device.type == "cuda":  # results on a CPU stay bit-identical
            pack(self.clip.visual)
        # A fixed size: torch 2.11 fails with an assertion on CUDA when it compiles for any size.
        compiles_tower = compiled and not compile_blocks
        self._encode = torch.compile(self._features, dynamic=False) if compiles_tower else self._features
        for block in trained_blocks(self.clip.visual) if compiled and compile_blocks else ():
            block.forward = torch.compile(block.forward, dynamic=False)
        self._compiled_rows: int | None = 0 if compiled else None

    def forward(self, pixels: Tensor, texts: Sequence[int] = ()) -> tuple[Tensor, Tensor, Tensor]:
        """Return the raw features of videos and texts.

        Args:
            pixels: uint8 [n, T, 3, S, S].
            texts: the classes to encode, M of them; only with a text tower that is trained.
        Returns:
            frames [n, T, D], classes [M, D] and tokens [M, L, D].
        """
        encoder, training = self._encoder, self._text_training
        flat = pixels.flatten(0, 1)
        with encoder.placement.autocast():
            padding = (*[0] * 7, self._compiled_size(len(flat)) - len(flat))  # with black frames
            features = self._encode(nn.functional.pad(flat, padding) if padding[-1] else flat)[: len(flat)]
        frames = features.float().reshape(*pixels.shape[:2], features.shape[1])
        if self.head is not None:
            frames = self.head(frames)
        if not texts:
            return frames, frames.new_zeros(0, frames.shape[2]), frames.new_zeros(0, 1, frames.shape[2])
        assert training is not None
        text = encoder.read_texts([training.prompts[i] for i in texts], positions=training.positions)
        if training.positions == "eot":
            return frames, text.classes, text.classes[:, None]
        missing = training.length - text.tokens.shape[1]
        return frames, text.classes, nn.functional.pad(text.tokens, (0, 0, 0, missing))

    def _features(self, pixels: Tensor) -> Tensor:
        features: Tensor = self.clip.encode_image(normalise(pixels, self._encoder.recipe), normalize=False)
        return features

    def _compiled_size(self, rows: int) -> int:
        """Return the number of rows to run the tower with: `rows`, or a compiled size that is slightly larger."""
        size = self._compiled_rows
        if size is None:
            return rows
        # The sizes of batches and parts differ by a video or two; to compile for a size takes half a minute.
        if not PADDING_LIMIT * size <= rows <= size:
            size = self._compiled_rows = rows
        return size


class Learner:
    """Takes the gradients of batches.

    Args:
        texts: what videos are compared with. If the text tower is trained, only its temperature and pooling are used.
        text_training: the texts to encode in each step; None: the text tower is frozen.
        loss: nce, ds, ce or bce.
        parts: number of parts that a batch is split into; None: one, and more if the device runs out of memory.
        strategy: with `fsdp` and several processes, the trained weights of the engine are sharded from now on.
    """

    def __init__(
        self,
        engine: Engine,
        texts: ClassTexts,
        *,
        text_training: TextTraining | None = None,
        loss: str = "nce",
        parts: int | None = None,
        group: ProcessGroup | None = None,
        scale_learns: bool = True,
        compiled: bool = False,
        strategy: Strategy = "ddp",
    ) -> None:
        placement = engine.encoder.placement
        self.group, self.loss, self.parts = group or ProcessGroup(), loss, parts or 1
        self._may_split = parts is None and self.group.count == 1
        self.device = placement.device
        self.is_sharded = strategy == "fsdp" and self.group.count > 1
        self._texts, self._text_training = texts, text_training
        branch = VideoBranch(engine, text_training, compiled=compiled, compile_blocks=self.is_sharded)
        # Not part of the branch: every process computes its whole gradient, not a share of it.
        self.scale = nn.Parameter(branch.clip.logit_scale.detach().clone(), requires_grad=scale_learns)
        self._highest_scale = max(HIGHEST_SCALE, float(self.scale.detach()))  # SigLIP was trained without a limit
        branch.clip.logit_scale.requires_grad_(False)
        self.bias: nn.Parameter | None = None
        self._bias_is_unchecked = True
        if loss == "bce":
            own = getattr(branch.clip, "logit_bias", None)
            # NaN: to be initialised from the first batch.
            start = torch.tensor(math.nan) if own is None else own.detach().clone().reshape(())
            self.bias = nn.Parameter(start.to(self.device))
        self.branch = branch if self.is_sharded else self.group.wrap(branch, self.device)
        if self.is_sharded:
            shard_module(branch, self.group, self.device)
        is_half = placement.dtype is torch.float16
        # With torch's default of 2^16, the first steps overflow and are lost.
        self.scaler = torch.amp.GradScaler(self.device.type, init_scale=INITIAL_LOSS_SCALE, enabled=is_half)

    @torch.enable_grad()
    def gradients(self, batch: Batch) -> DeferredScalar:
        """Add the gradients of a batch to those of the parameters, and return the loss; NaN without any video.

        The device may not have computed it yet. Read it after the next work is queued, so that the device never idles.
        If the device runs out of memory, earlier gradients are dropped, and this and later batches have more parts.

        Raises:
            ModelError: a single video does not fit, the number of parts is given, or there are several processes.
        """
        present = self.group.gather(batch.present)
        while bool(present.any()):
            try:
                return self._gradients(batch, present)
            except torch.OutOfMemoryError as e:
                reason = str(e).split(". ")[0]
            self._use_more_parts(len(batch.pixels), reason)  # here, the tensors of the failed attempt are freed
        return DeferredScalar(torch.tensor(math.nan))

    def finish_step(self, optimizer: torch.optim.Optimizer) -> None:
        """Let the optimizer apply the gradients, and reset them."""
        self.scaler.step(optimizer)
        self.scaler.update()
        optimizer.zero_grad()
        if self.scale.requires_grad:
            with torch.no_grad():
                self.scale.clamp_(max=self._highest_scale)

    def _gradients(self, batch: Batch, present: Tensor) -> DeferredScalar:
        """Take the four steps that are explained at the top of this file."""
        labels, texts = self._select_texts(batch.labels)
        first, *others = torch.tensor_split(batch.pixels, min(self.parts, len(batch.pixels)))
        texts_of = [*([] for _ in others), texts]  # of each part; the texts go through the model with the last one
        # Encode.
        with torch.no_grad():
            encoded = [self.module(part, some) for part, some in zip(others, texts_of[1:], strict=True)]
        with self._without_sync() if others else nullcontext():
            features = self.branch(first, texts_of[0])
        if others:
            features = (torch.cat([features[0], *(frames for frames, _, _ in encoded)]), *encoded[-1][1:])
        # Gather and compare.
        leaves = [feature.detach().requires_grad_() for feature in features]
        loss = self._loss(*(self._gather(leaf) for leaf in leaves), labels=labels, present=present)
        deferred = DeferredScalar.start(loss)
        self.scaler.scale(loss).backward()  # type: ignore[no-untyped-call]
        # Back-propagate. Processes average the gradients of weights, but the gradient of the loss is their sum.
        of_frames, *of_texts = (None if leaf.grad is None else leaf.grad * self.group.count for leaf in leaves)
        with self._without_sync() if others else nullcontext():
            _backward(features, [of_frames, *of_texts])
        for i, part in enumerate(others, start=1):
            is_last = i == len(others)
            with nullcontext() if is_last else self._without_sync():
                of_part = None if of_frames is None else torch.tensor_split(of_frames, len(others) + 1)[i]
                _backward(self.branch(part, texts_of[i]), [of_part, *(of_texts if is_last else [None, None])])
        for parameter in (self.scale, self.bias):
            if parameter is not None and parameter.grad is not None:
                self.group.average(parameter.grad)
        return deferred

    def _use_more_parts(self, videos: int, reason: str) -> None:
        if not self._may_split or self.parts >= videos:
            fix = "give --accumulate more parts" if self.parts < videos else "choose a smaller model or fewer --frames"
            raise ModelError(
                f"out of memory: a batch of {videos} videos in {self.parts} parts does not fit on the device "
                f"({reason}); {fix}",
                settings=("accumulate", "batch_size"),
            )
        for parameter in (*self.branch.parameters(), self.scale, self.bias):
            if parameter is not None:
                parameter.grad = None
        torch.cuda.empty_cache()
        self.parts = min(videos, 2 * self.parts)
        logger.warning("out of memory on the device: splitting batches into %d parts", self.parts)

    # -- texts ---------------------------------------------------------------------------------------------------

    def _select_texts(self, labels: Tensor) -> tuple[Tensor, list[int]]:
        """Return the labels on the device, and the texts that this process encodes: its share of those needed."""
        labels = labels.to(self.device, non_blocking=True)
        training = self._text_training
        if training is None:
            return labels, []
        rank, count = self.group.rank, self.group.count
        if self.loss in IN_BATCH_LOSSES:
            share = len(labels) // count
            return labels, labels[rank * share : (rank + 1) * share].tolist()
        share = math.ceil(len(training.prompts) / count)
        # All processes need equally many texts. The last ones may encode the last text again; it is dropped later.
        last = len(training.prompts) - 1
        return labels, [min(i, last) for i in range(rank * share, (rank + 1) * share)]

    # -- compare -------------------------------------------------------------------------------------------------

    def _loss(self, frames: Tensor, classes: Tensor, tokens: Tensor, *, labels: Tensor, present: Tensor) -> Tensor:
        in_batch = self.loss in IN_BATCH_LOSSES  # every other loss compares the videos with the texts of all classes
        if self._text_training is None:
            logits = self.scale.exp() * self._texts.scores(frames)
            logits = logits[:, labels] if in_batch else logits
        else:
            texts = self._encoded_texts(self._text_training, classes, tokens, labels if in_batch else None)
            logits = self.scale.exp() * texts.scores(frames)
        if not bool(present.all()):
            logits, labels = logits[present], labels[present]
            logits = logits[:, present] if in_batch else logits
        if in_batch:
            return IN_BATCH_LOSSES[self.loss](logits, labels)
        if self.loss == "ce":
            return ce_loss(logits, labels)
        return bce_loss(logits + self._initialised_bias(logits, labels), labels)

    def _encoded_texts(
        self, training: TextTraining, classes: Tensor, tokens: Tensor, labels: Tensor | None
    ) -> ClassTexts:
        """Return the texts of `labels`, or of all classes if it is None, from their raw features."""
        rows = torch.arange(len(training.prompts), device=self.device) if labels is None else labels
        classes, tokens = classes[: len(rows)], tokens[: len(rows)]
        voters = None
        if self._texts.voters is not None:
            voters = Voters.among(unit(tokens), None if training.mask is None else training.mask[rows])
        return replace(self._texts, classes=unit(classes), voters=voters)

    def _initialised_bias(self, logits: Tensor, present: Tensor) -> Tensor:
        """Return what is added to all logits; it starts where labels are as probable as they are frequent."""
        assert self.bias is not None
        if self._bias_is_unchecked and bool(self.bias.isnan()):
            frequency = present.float().mean().clamp(1e-4, 0.5)
            with torch.no_grad():
                self.bias.copy_(torch.logit(frequency) - logits.detach().mean())
        self._bias_is_unchecked = False  # checking again would force a device sync
        return self.bias

    # -- several processes ---------------------------------------------------------------------------------------

    @property
    def module(self) -> nn.Module:
        """The branch without the wrapper that averages gradients over processes."""
        return self.branch.module if isinstance(self.branch, DistributedDataParallel) else self.branch

    def _gather(self, rows: Tensor) -> Tensor:
        """Return the rows of all processes; gradients go back to those of this process."""
        if self.group.count == 1:
            return rows
        gathered, start = self.group.gather(rows), self.group.rank * len(rows)
        return torch.cat([gathered[:start], rows, gathered[start + len(rows) :]])

    def _without_sync(self) -> AbstractContextManager[None]:
        """Return a context in which gradients are not averaged yet; those of sharded weights always are."""
        return self.branch.no_sync() if isinstance(self.branch, DistributedDataParallel) else nullcontext()


def _backward(tensors: Sequence[Tensor], gradients: Sequence[Tensor | None]) -> None:
    pairs = [(t, g) for t, g in zip(tensors, gradients, strict=True) if g is not None and t.requires_grad]
    if pairs:
        torch.autograd.backward([t for t, _ in pairs], [g for _, g in pairs])
