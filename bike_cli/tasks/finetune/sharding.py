"""Sharded training (FSDP2), for models whose weights and optimizer state do not fit on each GPU.

A copy of the model is trained, and its blocks are sharded over the processes. Each block is gathered for its
computation and then freed. The engine itself keeps whole weights. Every process validates with these at its own pace,
and the first one writes them.

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
from bike_cli.engine.towers.text_tower import image_tower
from bike_cli.errors import UsageError, concerning
from bike_cli.inference.processes import ProcessGroup


@concerning("strategy", "precision")
def check_sharding(engine: Engine) -> None:
    """Raise UsageError if this engine's weights cannot be sharded."""
    if not hasattr(FSDPModule, "set_force_sum_reduction_for_comms"):
        raise UsageError(f"strategy fsdp: needs torch 2.8, and this is {torch.__version__}; upgrade it, or use ddp")
    if engine.encoder.placement.dtype is torch.float16:
        raise UsageError("strategy fsdp: needs bf16 or fp32, and this is fp16; give --precision fp32, or use ddp")


def copy_trained_weights(engine: Engine) -> Engine:
    """Return an engine with copies of the trained weights; it shares the frozen ones."""
    model, head = engine.encoder.model, engine.temporal_head
    frozen = [p for module in (model, head) if module is not None for p in module.parameters() if not p.requires_grad]
    model = copy.deepcopy(model, {id(p): p for p in frozen})
    encoder = replace(engine.encoder, model=model, tower=image_tower(model), pads=False)
    return replace(engine, encoder=encoder, temporal_head=copy.deepcopy(head, {id(p): p for p in frozen}))


def shard_module(module: nn.Module, group: ProcessGroup, device: torch.device) -> None:
    """Shard a module's trained weights, block by block; gradients become the mean over processes."""
    group.broadcast_weights(module)
    mesh = init_device_mesh(device.type, (group.count,))
    frozen = {p for p in module.parameters() if not p.requires_grad}
    for block in trained_blocks(module):
        fully_shard(block, mesh=mesh, ignored_params=frozen)
    fully_shard(module, mesh=mesh, ignored_params=frozen)
    if device.type != "cuda":  # gloo can sum, but not average
        for part in module.modules():
            if isinstance(part, FSDPModule):
                part.set_force_sum_reduction_for_comms(True)


def trained_blocks(module: nn.Module) -> Iterator[nn.Module]:
    """Yield the items of the outermost lists of modules, such as a transformer's blocks, that have trained weights."""
    for child in module.children():
        if not isinstance(child, nn.ModuleList | nn.Sequential):
            yield from trained_blocks(child)
            continue
        for block in child.children():
            if any(p.requires_grad for p in block.parameters()):
                yield block


def full_tensor(tensor: Tensor) -> Tensor:
    """Return a tensor whole; if it is sharded, every process must call this at the same time."""
    return tensor.full_tensor() if isinstance(tensor, DTensor) else tensor


def distribute_like(tensor: Tensor, like: Tensor) -> Tensor:
    """Return a whole tensor, sharded in the same way as `like`."""
    if not isinstance(like, DTensor):
        return tensor
    return distribute_tensor(tensor.to(like.device), like.device_mesh, like.placements)
