"""Process groups: rank and size, sharded lists, and gradients equal to those of one process."""

from pathlib import Path
from typing import get_args

import pytest
import torch
from launching import on_two
from safetensors.torch import load_file
from test_training import CASES, assert_alike, batch_of, own_copy, step_of

from bike_cli.config import Strategy
from bike_cli.engine.engine import Engine
from bike_cli.errors import UsageError
from bike_cli.inference.processes import ProcessGroup, group_from_env


@pytest.mark.slow
@pytest.mark.parametrize(("loss", "learn", "parts"), [("nce", "learn", 2)])
def test_two_processes_find_the_gradients_of_one(
    tiny: Engine, tmp_path: Path, loss: str, learn: str, parts: int
) -> None:
    engine = own_copy(tiny, "none" if learn == "learn" else "text")
    value, wanted = step_of(engine, batch_of(dict(CASES)[loss]), loss=loss, learn=learn == "learn")

    on_two("two_processes.py", tmp_path / "found", loss, learn, parts)

    for strategy in get_args(Strategy):
        two = load_file(tmp_path / "found" / strategy)
        assert bool(two.pop("shares")) == (strategy == "fsdp")
        assert two.pop("loss").item() == pytest.approx(value, rel=1e-6)
        assert_alike(two, wanted, within=2e-6)  # in float32, the parts of one process differ by 1e-6 as well


@pytest.mark.slow
@pytest.mark.parametrize("parts", [1, 2])
@pytest.mark.parametrize("learn", ["fixed", "learn"])
@pytest.mark.parametrize("loss", [loss for loss, _ in CASES])
def test_two_processes_find_the_gradients_of_one_with_every_loss(
    tiny: Engine, tmp_path: Path, loss: str, learn: str, parts: int
) -> None:
    test_two_processes_find_the_gradients_of_one(tiny, tmp_path, loss, learn, parts)


def test_without_a_launcher_the_group_has_one_process() -> None:
    assert group_from_env({}) == ProcessGroup(rank=0, count=1, local_rank=0)


def test_a_launcher_sets_rank_and_count() -> None:
    assert group_from_env({"RANK": "5", "WORLD_SIZE": "8", "LOCAL_RANK": "1"}) == ProcessGroup(
        rank=5, count=8, local_rank=1
    )


@pytest.mark.parametrize("rank", ["x", "8", "-1"])
def test_bad_variables_of_a_launcher_are_a_usage_error(rank: str) -> None:
    with pytest.raises(UsageError, match="start with torchrun"):
        group_from_env({"RANK": rank, "WORLD_SIZE": "8"})


@pytest.mark.parametrize("count", [1, 2, 3])
def test_shards_cover_a_list_without_overlap(count: int) -> None:
    things = list(range(7))

    shares = [ProcessGroup(rank, count).shard(things) for rank in range(count)]

    assert sorted(thing for share in shares for thing in share) == things
    assert max(map(len, shares)) - min(map(len, shares)) <= 1


def test_a_single_process_gathers_its_own_items() -> None:
    alone, rows = ProcessGroup(), torch.arange(3.0, requires_grad=True)

    assert torch.equal(alone.gather(rows), rows.detach())
    assert alone.gather_objects("a") == ["a"]
    assert alone.merge_shards([1, 2]) == [1, 2]
    assert alone.broadcast(3) == 3
