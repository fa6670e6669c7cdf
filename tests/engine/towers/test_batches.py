"""Batches that shrink when memory runs out: no row is lost, duplicated or out of order."""

import logging

import numpy as np
import pytest
import torch
from torch import Tensor

from bike_cli.engine.towers.batches import Batches, FrameList
from bike_cli.errors import ModelError

AT_ONCE = 32


class Device:
    """A device whose memory holds so many rows at once."""

    def __init__(self, holds: int) -> None:
        self.holds = holds
        self.asked: list[int] = []

    def double(self, rows: Tensor) -> Tensor:
        self.asked.append(len(rows))
        if len(rows) > self.holds:
            raise torch.OutOfMemoryError("CUDA out of memory")
        return 2 * rows


@pytest.mark.parametrize("holds", [1, 2, 3, 5, 31, 32, 1000])
@pytest.mark.parametrize("count", [0, 1, 31, 32, 33, 100])
def test_every_row_is_returned_once_and_in_order(holds: int, count: int) -> None:
    rows = torch.arange(count)

    parts = Batches(AT_ONCE).run(Device(holds).double, rows)

    assert torch.cat([rows[:0], *parts]).tolist() == [2 * i for i in range(count)]


def test_a_size_that_was_too_large_is_not_tried_again(caplog: pytest.LogCaptureFixture) -> None:
    batches, device = Batches(AT_ONCE), Device(holds=10)

    with caplog.at_level(logging.WARNING):
        batches.run(device.double, torch.arange(100))
        batches.run(device.double, torch.arange(100))

    assert [size for size in device.asked if size > device.holds] == [AT_ONCE, AT_ONCE // 2]
    assert caplog.messages == [
        "out of memory on the device: continuing with 16 frames at once",
        "out of memory on the device: continuing with 8 frames at once",
    ]


def test_one_row_too_many_is_an_error_with_a_way_out() -> None:
    with pytest.raises(ModelError, match="choose a smaller model, or --device cpu"):
        Batches(AT_ONCE).run(Device(holds=0).double, torch.arange(3))


def test_other_errors_are_not_mistaken_for_memory() -> None:
    def broken(rows: Tensor) -> Tensor:
        raise RuntimeError("shapes do not fit")

    with pytest.raises(RuntimeError, match="do not fit"):
        Batches(AT_ONCE).run(broken, torch.arange(3))


def test_expensive_rows_are_in_smaller_batches() -> None:
    device = Device(holds=1000)

    Batches(100).run(device.double, torch.arange(9), cost=30)
    Batches(100).run(device.double, torch.arange(2), cost=1000)

    assert device.asked == [3, 3, 3, 1, 1]


@pytest.mark.parametrize("at_once", [1, 2, 3, 7, 100])
@pytest.mark.parametrize("lengths", [[], [5], [0, 3, 0], [1, 1, 1], [4, 2, 6]])
def test_frames_of_several_arrays_are_rows_like_those_of_one(at_once: int, lengths: list[int]) -> None:
    arrays = [np.random.default_rng(i).integers(0, 256, (n, 2, 2, 3), np.uint8) for i, n in enumerate(lengths)]
    together = np.concatenate([np.zeros((0, 2, 2, 3), np.uint8), *arrays])

    parts = Batches(at_once).run(lambda part: torch.from_numpy(np.concatenate(part.arrays)), FrameList(arrays))

    assert [len(part) for part in parts] == [len(part) for part in Batches(at_once).run(torch.from_numpy, together)]
    assert np.array_equal(torch.cat([torch.from_numpy(together[:0]), *parts]).numpy(), together)
