"""Weights in shares, one for each process (FSDP2), where they and their optimizer's numbers are too many for each GPU.

The model that learns is a copy whose blocks are in shares; each block is put together where it computes, and taken
apart again. The engine's own weights stay whole beside it: every process validates with them, at its own pace, and the
first writes them.

Source: torch.distributed.fsdp.fully_shard; Zhao et al. 2023, arXiv:2304.11277.
"""

from __future__ import annotations

import copy
from collections.abc import Iterator
from dataclasses import replace

import torch
from torch import Tensor, nn
from torch.distributed.device_mesh import init_device_mesh
from torch.distributed.fsdp import FSDPModule, fully_shard
from torch.distributed.tensor import DTensor, distribute_tensor

from bike_cli.engine.engine import Engine
from bike_cli.errors import UsageError
from bike_cli.inference.processes import Processes


def check_sharding(engine: Engine) -> None:
    """Raise UsageError where weights cannot be in shares."""
    if not hasattr(FSDPModule, "set_force_sum_reduction_for_comms"):
        raise UsageError(f"strategy fsdp: needs torch 2.8, and this is {torch.__version__}; upgrade it, or take ddp")
    if engine.encoder.placement.dtype is torch.float16:
        raise UsageError("strategy fsdp: goes with bf16 and fp32, and this is fp16; give --precision fp32, or take ddp")


def copy_that_learns(engine: Engine) -> Engine:
    """Return an engine whose learning weights are copies, and whose frozen ones are the other's own."""
    model, head = engine.encoder.model, engine.temporal_head
    frozen = [p for module in (model, head) if module is not None for p in module.parameters() if not p.requires_grad]
    model = copy.deepcopy(model, {id(p): p for p in frozen})
    encoder = replace(engine.encoder, model=model, tower=model.encode_image, pads=False)
    return replace(engine, encoder=encoder, temporal_head=copy.deepcopy(head, {id(p): p for p in frozen}))


def shard(module: nn.Module, by: Processes, device: torch.device) -> None:
    """Take a module's learning weights apart, block by block; their gradients become the mean over processes."""
    by.as_first(module)
    mesh = init_device_mesh(device.type, (by.count,))
    frozen = {p for p in module.parameters() if not p.requires_grad}
    for block in learning_blocks(module):
        fully_shard(block, mesh=mesh, ignored_params=frozen)
    fully_shard(module, mesh=mesh, ignored_params=frozen)
    if device.type != "cuda":  # gloo can add up, but takes no mean
        for part in module.modules():
            if isinstance(part, FSDPModule):
                part.set_force_sum_reduction_for_comms(True)


def learning_blocks(module: nn.Module) -> Iterator[nn.Module]:
    """Yield the outermost parts that stand in a row, as a transformer's blocks do, and have something to learn."""
    for child in module.children():
        if not isinstance(child, nn.ModuleList | nn.Sequential):
            yield from learning_blocks(child)
            continue
        for block in child.children():
            if any(p.requires_grad for p in block.parameters()):
                yield block


def whole(tensor: Tensor) -> Tensor:
    """Return a tensor of which each process may have a share; then all of them must ask at once."""
    return tensor.full_tensor() if isinstance(tensor, DTensor) else tensor


def share_of(tensor: Tensor, like: Tensor) -> Tensor:
    """Return this process's share of a whole tensor that all have, taken apart as another is, or the whole."""
    if not isinstance(like, DTensor):
        return tensor
    return distribute_tensor(tensor.to(like.device), like.device_mesh, like.placements)
