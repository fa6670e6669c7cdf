"""The processes that train or evaluate together, one per GPU. A launcher such as torchrun starts them."""

from __future__ import annotations

import os
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace
from datetime import timedelta
from typing import TypeVar

import torch
import torch.distributed as dist
from torch import Tensor, nn
from torch.nn.parallel import DistributedDataParallel

from bike_cli.config import EngineConfig
from bike_cli.engine.engine import Engine, load
from bike_cli.engine.towers.placement import place
from bike_cli.errors import UsageError, concerning

Item = TypeVar("Item")
TIMEOUT = timedelta(hours=2)  # the others wait while one process validates, encodes texts or writes


@dataclass(frozen=True)
class ProcessGroup:
    """This process's place among the processes that work together."""

    rank: int = 0  # from 0
    count: int = 1  # number of processes
    local_rank: int = 0  # rank on this machine, which is the index of the process's GPU

    @property
    def is_first(self) -> bool:
        """Whether this process writes the files and reports to the user."""
        return self.rank == 0

    def gather(self, rows: Tensor) -> Tensor:
        """Return the rows of all processes by rank, without a gradient; each process passes the same number."""
        if self.count == 1:
            return rows.detach()
        parts = [torch.empty_like(rows) for _ in range(self.count)]
        dist.all_gather(parts, rows.detach().contiguous())
        return torch.cat(parts)

    def gather_objects(self, item: Item) -> list[Item]:
        """Return what each process passes, by rank; items are pickled."""
        if self.count == 1:
            return [item]
        items: list[Item | None] = [None] * self.count
        dist.all_gather_object(items, item)
        return items  # type: ignore[return-value]

    def shard(self, items: Sequence[Item]) -> list[Item]:
        """Return this process's shard of a list: every `count`-th item."""
        return list(items[self.rank :: self.count])

    def merge_shards(self, items: Sequence[Item]) -> list[Item]:
        """Return the whole list, in its order, from the shard that each process passes."""
        shards = self.gather_objects(list(items))
        iterators = [iter(shard) for shard in shards]
        return [next(iterators[i % self.count]) for i in range(sum(map(len, shards)))]

    def any_flags(self, *flags: bool) -> tuple[bool, ...]:
        """Return for each flag whether it is set in any process."""
        if self.count == 1:
            return flags
        return tuple(self.gather(torch.tensor([flags])).any(dim=0).tolist())

    def broadcast(self, item: Item) -> Item:
        """Return what the first process passes; it is pickled."""
        if self.count == 1:
            return item
        items = [item]
        dist.broadcast_object_list(items, src=0)
        return items[0]

    def broadcast_weights(self, module: nn.Module) -> None:
        """Copy a module's weights from the first process to the others."""
        if self.count > 1:
            for tensor in module.state_dict().values():
                dist.broadcast(tensor, src=0)

    def average(self, tensor: Tensor) -> None:
        """Replace a tensor by its mean over processes, in place."""
        if self.count > 1:
            dist.all_reduce(tensor)
            tensor /= self.count

    def wrap(self, module: nn.Module, device: torch.device) -> nn.Module:
        """Return the module; with several processes, its gradients are averaged over them."""
        if self.count == 1:
            return module
        devices = [device.index or 0] if device.type == "cuda" else None
        # The model's buffers are constants.
        return DistributedDataParallel(
            module, device_ids=devices, gradient_as_bucket_view=True, broadcast_buffers=False
        )


def group_from_env(environment: Mapping[str, str] = os.environ) -> ProcessGroup:
    """Return this process's place from the variables that torchrun sets.

    Raises:
        UsageError: the variables are not numbers, or do not fit together.
    """
    if "WORLD_SIZE" not in environment:
        return ProcessGroup()
    try:
        rank, count, local = (int(environment.get(name, "0")) for name in ("RANK", "WORLD_SIZE", "LOCAL_RANK"))
    except ValueError as e:
        raise UsageError(
            f"RANK, WORLD_SIZE, LOCAL_RANK: must be numbers ({e}); start with torchrun, or unset them"
        ) from e
    if not 0 <= rank < count:
        raise UsageError(f"RANK is {rank} of WORLD_SIZE {count}; start with torchrun, or unset them")
    return ProcessGroup(rank, count, local)


def load_on_own_device(config: EngineConfig, group: ProcessGroup) -> Engine:
    """Load the engine of this process, without compiling it; each process of a group uses another GPU."""
    if group.count > 1 and config.device in ("auto", "cuda") and place(config.device, "fp32").device.type == "cuda":
        config = replace(config, device=f"cuda:{group.local_rank}")
    with concerning("model"):
        return load(config.model, config.device, config.precision, offline=config.offline)


@contextmanager
def joined_process_group(group: ProcessGroup, device: torch.device) -> Iterator[None]:
    """Connect the processes of a group during the context; raise UsageError if they cannot reach one another."""
    if group.count == 1:
        yield
        return
    if device.type == "cuda":
        torch.cuda.set_device(device)
    try:
        # Pickled objects and CPU tensors travel over gloo.
        backend = "cpu:gloo,cuda:nccl" if device.type == "cuda" else "gloo"
        dist.init_process_group(backend, rank=group.rank, world_size=group.count, timeout=TIMEOUT)
    except (RuntimeError, ValueError) as e:
        raise UsageError(f"processes: cannot reach one another ({e}); start them with torchrun") from e
    try:
        yield
    finally:
        dist.destroy_process_group()
