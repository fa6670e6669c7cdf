"""Which weights are sharded, and which are not. For training with them see `test_processes.py`."""

from dataclasses import replace

import pytest
import torch
from test_training import own_copy
from torch import nn

from bike_cli.engine.engine import Engine
from bike_cli.errors import UsageError
from bike_cli.tasks.finetune.sharding import (
    check_sharding,
    copy_trained_weights,
    distribute_like,
    full_tensor,
    trained_blocks,
)

# -- what is sharded ----------------------------------------------------------------------------------------------


def test_trained_weights_are_copied_and_frozen_ones_are_shared(tiny: Engine) -> None:
    engine = own_copy(tiny, "text,image:1")

    copied = copy_trained_weights(engine)

    for module, other in ((engine.encoder.model, copied.encoder.model), (engine.temporal_head, copied.temporal_head)):
        assert isinstance(module, nn.Module)
        assert isinstance(other, nn.Module)
        pairs = list(zip(module.named_parameters(), other.parameters(), strict=True))
        assert {(p is q) for (_, p), q in pairs if not p.requires_grad} <= {True}
        assert {(p is q) for (_, p), q in pairs if p.requires_grad} == {False}
        assert all(torch.equal(p, q) and p.requires_grad == q.requires_grad for (_, p), q in pairs)
    pixels = torch.rand(1, 3, engine.encoder.recipe.side, engine.encoder.recipe.side)
    before = engine.encoder.tower(pixels)
    with torch.no_grad():
        copied.encoder.model.visual.proj.zero_()
    assert not bool(copied.encoder.tower(pixels).any())  # the function belongs to the copy
    assert torch.equal(engine.encoder.tower(pixels), before)


@pytest.mark.parametrize(("frozen", "left_out"), [("text", 0), ("text,image:2", 2)])
def test_trained_blocks_are_those_of_the_tower(tiny: Engine, frozen: str, left_out: int) -> None:
    engine = own_copy(tiny, frozen)
    blocks = list(engine.encoder.model.visual.transformer.resblocks)

    assert list(trained_blocks(engine.encoder.model)) == blocks[left_out:]


def test_a_trained_text_tower_is_sharded_too(tiny: Engine) -> None:
    model = own_copy(tiny, "none").encoder.model

    assert list(trained_blocks(model)) == [*model.visual.transformer.resblocks, *model.transformer.resblocks]


def test_a_tensor_that_is_not_sharded_is_whole() -> None:
    tensor = torch.ones(3)

    assert full_tensor(tensor) is tensor
    assert distribute_like(tensor, torch.zeros(3)) is tensor


# -- what cannot be combined --------------------------------------------------------------------------------------


def test_fp16_cannot_be_sharded(tiny: Engine) -> None:
    placement = replace(tiny.encoder.placement, dtype=torch.float16)
    halved = replace(tiny, encoder=replace(tiny.encoder, placement=placement))

    check_sharding(tiny)
    with pytest.raises(UsageError, match="strategy fsdp: needs bf16 or fp32, and this is fp16; give --precision"):
        check_sharding(halved)
