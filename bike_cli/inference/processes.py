"""The processes that train or test together, one a GPU; a launcher starts them, one process needs none."""

from __future__ import annotations

import os
from collections.abc import Iterator
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
from bike_cli.errors import UsageError

Thing = TypeVar("Thing")
PATIENCE = timedelta(hours=2)  # the others wait while one of them tests, reads texts or writes


@dataclass(frozen=True)
class Processes:
    """Who this process is among those that work together.

    Args:
        local: its number on its machine, which is that of its GPU.
    """

    rank: int = 0
    count: int = 1
    local: int = 0

    @property
    def is_first(self) -> bool:
        """Whether this is the one that writes files and talks."""
        return self.rank == 0

    def gather(self, own: Tensor) -> Tensor:
        """Return the rows of all processes in their order; each gives as many, without a gradient."""
        if self.count == 1:
            return own.detach()
        parts = [torch.empty_like(own) for _ in range(self.count)]
        dist.all_gather(parts, own.detach().contiguous())
        return torch.cat(parts)

    def gather_things(self, own: Thing) -> list[Thing]:
        """Return what each process gives, in their order: anything that can be pickled."""
        if self.count == 1:
            return [own]
        things: list[Thing | None] = [None] * self.count
        dist.all_gather_object(things, own)
        return things  # type: ignore[return-value]

    def share(self, things: list[Thing]) -> list[Thing]:
        """Return this process's part of a list: every count-th."""
        return things[self.rank :: self.count]

    def unshare(self, own: list[Thing]) -> list[Thing]:
        """Return the whole list of which each process has its `share`."""
        parts = [iter(part) for part in self.gather_things(own)]
        total = sum(self.gather_things(len(own)))
        return [next(parts[i % self.count]) for i in range(total)]

    def from_first(self, thing: Thing) -> Thing:
        """Return what the first process has."""
        if self.count == 1:
            return thing
        things = [thing]
        dist.broadcast_object_list(things, src=0)
        return things[0]

    def as_first(self, module: nn.Module) -> None:
        """Give a module the weights that it has in the first process."""
        if self.count > 1:
            for tensor in module.state_dict().values():
                dist.broadcast(tensor, src=0)

    def average(self, tensor: Tensor) -> None:
        """Make a tensor the mean over processes, in place."""
        if self.count > 1:
            dist.all_reduce(tensor)
            tensor /= self.count

    def wait(self) -> None:
        """Wait until all are here."""
        if self.count > 1:
            dist.barrier()

    def wrap(self, module: nn.Module, device: torch.device) -> nn.Module:
        """Return a module whose gradients become the mean over processes."""
        if self.count == 1:
            return module
        where = [device.index or 0] if device.type == "cuda" else None
        # Buffers are constants here.
        return DistributedDataParallel(module, device_ids=where, gradient_as_bucket_view=True, broadcast_buffers=False)


def found(environment: dict[str, str] | os._Environ[str] = os.environ) -> Processes:
    """Return who this process is by the variables that torchrun sets.

    Raises:
        UsageError: variables that are no numbers, or only some of them.
    """
    if "WORLD_SIZE" not in environment:
        return Processes()
    try:
        rank, count, local = (int(environment.get(name, "0")) for name in ("RANK", "WORLD_SIZE", "LOCAL_RANK"))
    except ValueError as e:
        raise UsageError(
            f"RANK, WORLD_SIZE, LOCAL_RANK: are no numbers ({e}); start with torchrun, or unset them"
        ) from e
    if not 0 <= rank < count:
        raise UsageError(f"RANK is {rank} of WORLD_SIZE {count}; start with torchrun, or unset them")
    return Processes(rank, count, local)


def load_among(wanted: EngineConfig, by: Processes) -> Engine:
    """Return an engine of one of several processes: each has a GPU of its own. It is not compiled."""
    if by.count > 1 and wanted.device in ("auto", "cuda") and place(wanted.device, "fp32").device.type == "cuda":
        wanted = replace(wanted, device=f"cuda:{by.local}")
    return load(wanted.model, wanted.device, wanted.precision, offline=wanted.offline)


@contextmanager
def together(processes: Processes, device: torch.device) -> Iterator[None]:
    """Join the processes, and part when all is done.

    Raises:
        UsageError: the others cannot be reached.
    """
    if processes.count == 1:
        yield
        return
    if device.type == "cuda":
        torch.cuda.set_device(device)
    try:
        # Things that are no tensors of the device go the other way.
        backend = "cpu:gloo,cuda:nccl" if device.type == "cuda" else "gloo"
        dist.init_process_group(backend, rank=processes.rank, world_size=processes.count, timeout=PATIENCE)
    except (RuntimeError, ValueError) as e:
        raise UsageError(f"processes: cannot reach one another ({e}); start them with torchrun") from e
    try:
        yield
    finally:
        dist.destroy_process_group()
