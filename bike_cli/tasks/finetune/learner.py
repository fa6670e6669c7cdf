"""One step of training: videos and the texts of their labels in, gradients out.

The loss is contrastive, so it needs the whole batch at once, and the batch may be in parts and on many processes. The
features of all are gathered, the loss is computed on them everywhere, and its gradient goes back through each part; all
but the first are computed a second time for that (GradCache, Gao et al. 2021, arXiv:2101.06983). So neither parts nor
processes change a gradient. The official code's encoder gets 1/W of the true gradient on W processes.

Letters: N videos of a batch, n of them in this process, T frames, C classes, M texts, L token positions, D embedding.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass

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
from bike_cli.inference.processes import Processes
from bike_cli.records import Prompt
from bike_cli.tasks.finetune.losses import bce_loss, ce_loss, ds_loss, nce_loss
from bike_cli.tasks.finetune.sharding import learning_blocks, shard

Match = Callable[[Tensor, Tensor], Tensor]
IN_BATCH: Mapping[str, Match] = {"nce": nce_loss, "ds": ds_loss}  # videos against the texts of the batch
WORTH_FILLING = 7 / 8  # of a compiled size; a smaller batch gets a size of its own
FIRST_SCALE = 2.0**12
HIGHEST_SCALE = math.log(100.0)  # CLIP's own limit; the official code lets it grow


@dataclass(frozen=True, eq=False)
class Learning:
    """Texts that are read anew for each batch.

    Args:
        positions: whose tokens are kept.
        mask: bool [C, L], those that vote; None: all of L.
        length: L.
    """

    prompts: tuple[Prompt, ...]
    positions: Spot
    mask: Tensor | None
    length: int


@dataclass(frozen=True, eq=False)
class Batch:
    """Videos to learn from.

    Args:
        labels: int64 [N], of all processes' videos, in the order of the processes; or bool [N, C] with several labels.
        pixels: uint8 [n, T, 3, S, S], of this process.
        present: bool [n]; where False the video could not be read, and its pixels are nothing.
    """

    labels: Tensor
    pixels: Tensor
    present: Tensor


@dataclass(frozen=True, eq=False)
class Coming:
    """A number on its way out of a device: `float` waits for it, but not for what the device was asked for later."""

    value: Tensor
    ready: torch.cuda.Event | None = None

    @classmethod
    def of(cls, number: Tensor) -> Coming:
        """Return what is to be of a number as the device has it when it comes to it."""
        if not number.is_cuda:
            return cls(number.detach().clone())
        there = torch.empty_like(number, device="cpu", pin_memory=True)
        there.copy_(number.detach(), non_blocking=True)
        ready = torch.cuda.Event(blocking=True)  # type: ignore[no-untyped-call]
        ready.record(torch.cuda.current_stream(number.device))
        return cls(there, ready)

    def __float__(self) -> float:
        if self.ready is not None:
            self.ready.synchronize()
        return float(self.value)


class Branch(nn.Module):
    """What learns of a model: image tower and temporal head, and the text tower where it does.

    Args:
        learning: its prompts are what `forward` reads.
        by_block: compile blocks and not the whole tower: between them, weights are put together.
    """

    def __init__(
        self, engine: Engine, learning: Learning | None, *, compiled: bool = False, by_block: bool = False
    ) -> None:
        super().__init__()
        self.clip, self.head = engine.encoder.model, engine.temporal_head
        self._encoder, self._learning = engine.encoder, learning
        if engine.encoder.placement.device.type == "cuda":  # a CPU's numbers stay as they are, to the last bit
            pack(self.clip.visual)
        # One size: for any size, as torch would compile at the second, torch 2.11 fails on CUDA (an assertion).
        self._see = torch.compile(self._features, dynamic=False) if compiled and not by_block else self._features
        for block in learning_blocks(self.clip.visual) if compiled and by_block else ():
            block.forward = torch.compile(block.forward, dynamic=False)
        self._compiled_rows: int | None = 0 if compiled else None

    def forward(self, pixels: Tensor, read: Sequence[int] = ()) -> tuple[Tensor, Tensor, Tensor]:
        """Return what is seen and read.

        Args:
            pixels: uint8 [n, T, 3, S, S].
            read: places of labels.
        Returns:
            frames [n, T, D], classes [M, D] and tokens [M, L, D], raw; M is 0 where nothing is read.
        """
        encoder, learning = self._encoder, self._learning
        flat = pixels.flatten(0, 1)
        with encoder.placement.autocast():
            features = self._see(self._filled(flat))[: len(flat)]
        frames = features.float().reshape(*pixels.shape[:2], features.shape[1])
        if self.head is not None:
            frames = self.head(frames)
        if not read:
            return frames, frames.new_zeros(0, frames.shape[2]), frames.new_zeros(0, 1, frames.shape[2])
        assert learning is not None
        text = encoder.read_texts([learning.prompts[i] for i in read], positions=learning.positions)
        if learning.positions == "eot":
            return frames, text.classes, text.classes[:, None]
        missing = learning.length - text.tokens.shape[1]
        return frames, text.classes, nn.functional.pad(text.tokens, (0, 0, 0, missing))

    def _features(self, pixels: Tensor) -> Tensor:
        features: Tensor = self.clip.encode_image(normalise(pixels, self._encoder.recipe))
        return features

    def _filled(self, pixels: Tensor) -> Tensor:
        """Return pixels with black frames behind them, up to a size that the tower is compiled for."""
        size = self._compiled_rows
        if size is None:
            return pixels
        # Batches and parts differ by a video, or by those that cannot be read; a size takes half a minute to compile.
        if not WORTH_FILLING * size <= len(pixels) <= size:
            size = self._compiled_rows = len(pixels)
        return nn.functional.pad(pixels, (*[0] * 7, size - len(pixels))) if size > len(pixels) else pixels


class Learner:
    """What is needed to learn from batches.

    Args:
        learning: texts to read again for each batch; None: the text tower stays as it is, and `texts` is what counts.
        loss: nce, ds, ce or bce.
        parts: that a batch goes through the model in.
        strategy: with `fsdp` and several processes, the engine's learning weights are in shares from now on.
    """

    def __init__(
        self,
        engine: Engine,
        texts: ClassTexts,
        *,
        learning: Learning | None = None,
        loss: str = "nce",
        parts: int = 1,
        processes: Processes | None = None,
        scale_learns: bool = True,
        compiled: bool = False,
        strategy: Strategy = "ddp",
    ) -> None:
        placement = engine.encoder.placement
        self.processes, self.loss, self.parts = processes or Processes(), loss, parts
        self.texts, self._learning = texts, learning
        self.device = placement.device
        self.is_sharded = strategy == "fsdp" and self.processes.count > 1
        branch = Branch(engine, learning, compiled=compiled, by_block=self.is_sharded)
        # Beside the branch: its gradient is the same on all processes, not a part of one.
        self.scale = nn.Parameter(branch.clip.logit_scale.detach().clone(), requires_grad=scale_learns)
        branch.clip.logit_scale.requires_grad_(False)
        self.bias: nn.Parameter | None = None
        self._bias_is_fresh = True
        if loss == "bce":
            self.bias = nn.Parameter(torch.full((), math.nan, device=self.device))
        self.branch = branch if self.is_sharded else self.processes.wrap(branch, self.device)
        if self.is_sharded:
            shard(branch, self.processes, self.device)
        is_half = placement.dtype is torch.float16
        # From torch's own 2^16, steps are lost until it has come down to what these gradients bear.
        self.scaler = torch.amp.GradScaler(self.device.type, init_scale=FIRST_SCALE, enabled=is_half)

    @torch.enable_grad()
    def gradients(self, batch: Batch) -> Coming:
        """Add the gradients of a batch to those of the parameters, and return the loss; NaN of no video at all.

        The device may not have come to them yet: who waits for it leaves it idle until it is told what comes next.
        """
        present = self.processes.gather(batch.present)
        if not bool(present.any()):
            return Coming(torch.tensor(math.nan))
        labels, read = self._to_read(batch.labels)
        parts = list(torch.tensor_split(batch.pixels, min(self.parts, len(batch.pixels))))
        seen = self._seen(parts, read)
        leaves = [part.detach().requires_grad_() for part in seen]
        loss = self._loss(*(self._whole(leaf) for leaf in leaves), labels=labels, present=present)
        told = Coming.of(loss)
        self.scaler.scale(loss).backward()  # type: ignore[no-untyped-call]
        self._back(parts, read, seen, leaves)
        for own in (self.scale, self.bias):
            if own is not None and own.grad is not None:
                self.processes.average(own.grad)
        return told

    def finish_step(self, optimizer: torch.optim.Optimizer) -> None:
        """Let the optimizer use the gradients, and forget them."""
        self.scaler.step(optimizer)
        self.scaler.update()
        optimizer.zero_grad()
        if self.scale.requires_grad:
            with torch.no_grad():
                self.scale.clamp_(max=HIGHEST_SCALE)

    def logits(self, frames: Tensor, texts: ClassTexts) -> Tensor:
        """Return the scaled scores of raw frames [N, T, D] with M texts: [N, M]."""
        return self.scale.exp() * texts.scores(frames)

    # -- forward -------------------------------------------------------------------------------------------------

    def _to_read(self, labels: Tensor) -> tuple[Tensor, list[int]]:
        """Return the labels on the device, and which texts this process reads: a share of those that are needed."""
        labels = labels.to(self.device, non_blocking=True)
        learning = self._learning
        if learning is None:
            return labels, []
        rank, count = self.processes.rank, self.processes.count
        if self.loss in IN_BATCH:
            own = len(labels) // count
            return labels, labels[rank * own : (rank + 1) * own].tolist()
        own = math.ceil(len(learning.prompts) / count)
        # The last processes may read some twice; `_loss` leaves them out.
        last = len(learning.prompts) - 1
        return labels, [min(i, last) for i in range(rank * own, (rank + 1) * own)]

    def _seen(self, parts: list[Tensor], read: list[int]) -> tuple[Tensor, ...]:
        """Return frames, classes and tokens of this process; of several parts, only the first one's have a graph."""
        if len(parts) == 1:
            return self.branch(parts[0], read)  # type: ignore[no-any-return]
        branch = self.branch.module if isinstance(self.branch, DistributedDataParallel) else self.branch
        with torch.no_grad():
            between = [branch(part)[0] for part in parts[1:-1]]
            last, classes, tokens = branch(parts[-1], read)
        with self._alone():
            first = self.branch(parts[0])[0]
        return torch.cat([first, *between, last]), classes, tokens

    def _whole(self, own: Tensor) -> Tensor:
        """Return the rows of all processes; a gradient goes back to one's own."""
        if self.processes.count == 1:
            return own
        rows, before = self.processes.gather(own), self.processes.rank * len(own)
        return torch.cat([rows[:before], own, rows[before + len(own) :]])

    def _loss(self, frames: Tensor, classes: Tensor, tokens: Tensor, *, labels: Tensor, present: Tensor) -> Tensor:
        in_batch = self.loss in IN_BATCH
        learning = self._learning
        if learning is not None:
            logits = self._against_learning(frames, classes, tokens, learning, labels if in_batch else None)
        else:
            logits = self.logits(frames, self.texts)
            logits = logits[:, labels] if in_batch else logits
        if not bool(present.all()):
            logits, labels = logits[present], labels[present]
            logits = logits[:, present] if in_batch else logits
        if in_batch:
            return IN_BATCH[self.loss](logits, labels)
        return ce_loss(logits, labels) if self.loss == "ce" else bce_loss(logits + self._bias(logits, labels), labels)

    def _against_learning(
        self, frames: Tensor, classes: Tensor, tokens: Tensor, learning: Learning, labels: Tensor | None
    ) -> Tensor:
        rows = torch.arange(len(learning.prompts), device=self.device) if labels is None else labels
        classes, tokens = classes[: len(rows)], tokens[: len(rows)]
        voters = None
        if self.texts.voters is not None:
            voters = Voters.among(unit(tokens), None if learning.mask is None else learning.mask[rows])
        return self.logits(frames, ClassTexts(unit(classes), voters, self.texts.temperature))

    def _bias(self, logits: Tensor, present: Tensor) -> Tensor:
        """Return what is added to all logits; at first so much that labels are as likely as they are frequent."""
        assert self.bias is not None
        if self._bias_is_fresh and bool(self.bias.isnan()):
            share = present.float().mean().clamp(1e-4, 0.5)
            with torch.no_grad():
                self.bias.copy_(torch.logit(share) - logits.detach().mean())
        self._bias_is_fresh = False  # to look at it again would be to wait for the device
        return self.bias

    # -- backward ------------------------------------------------------------------------------------------------

    def _back(self, parts: list[Tensor], read: list[int], seen: Sequence[Tensor], leaves: Sequence[Tensor]) -> None:
        # The mean over processes is taken of what is to be their sum.
        gradients = [None if leaf.grad is None else leaf.grad * self.processes.count for leaf in leaves]
        with nullcontext() if len(parts) == 1 else self._alone():
            _backward(seen, gradients)
        frames = [None] * len(parts) if gradients[0] is None else list(torch.tensor_split(gradients[0], len(parts)))
        for i, part in enumerate(parts[1:], start=1):
            is_last = i == len(parts) - 1
            with nullcontext() if is_last else self._alone():
                again = self.branch(part, read if is_last else [])
                _backward(again, [frames[i], *(gradients[1:] if is_last else [None, None])])

    def _alone(self) -> AbstractContextManager[None]:
        """Return the context in which gradients are not shared yet; those of weights in shares always are."""
        return self.branch.no_sync() if isinstance(self.branch, DistributedDataParallel) else nullcontext()


def _backward(tensors: Sequence[Tensor], gradients: Sequence[Tensor | None]) -> None:
    pairs = [(t, g) for t, g in zip(tensors, gradients, strict=True) if g is not None and t.requires_grad]
    if pairs:
        torch.autograd.backward([t for t, _ in pairs], [g for _, g in pairs])
