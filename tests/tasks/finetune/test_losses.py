"""BIKE's losses equal the values of the official code and of plain loops."""

import math
from pathlib import Path

import numpy as np
import pytest
import torch
from torch import Tensor

from bike_cli.tasks.finetune.losses import bce_loss, ce_loss, ds_loss, nce_loss

GOLDEN = Path(__file__).parents[4] / "shared" / "golden" / "golden_losses.npz"
needs_golden = pytest.mark.skipif(not GOLDEN.exists(), reason="the official code's values are missing")


@pytest.fixture(scope="module")
def golden() -> dict[str, Tensor]:
    with np.load(GOLDEN, allow_pickle=False) as file:
        return {
            name: torch.from_numpy(file[name])
            for name in ("labels8", *file.files)
            if "8" in name or "nce" in name or "dual" in name
        }


@needs_golden
@pytest.mark.parametrize("scale", ["cos", "x14", "x100"])
def test_the_loss_and_its_gradient_are_the_official_ones(golden: dict[str, Tensor], scale: str) -> None:
    logits = golden[f"logits8_{scale}"].clone().requires_grad_()

    loss = nce_loss(logits, golden["labels8"])
    loss.backward()  # type: ignore[no-untyped-call]

    assert loss.item() == pytest.approx(golden[f"nce_{scale}_sym"].item(), rel=1e-5)
    assert logits.grad is not None
    assert torch.allclose(logits.grad, golden[f"nce_{scale}_sym_grad"], atol=1e-6)


@needs_golden
@pytest.mark.parametrize("scale", ["cos", "x14", "x100"])
def test_the_dual_loss_and_its_gradient_are_the_official_ones(golden: dict[str, Tensor], scale: str) -> None:
    logits = golden[f"logits8_{scale}"].clone().requires_grad_()

    loss = ds_loss(logits, golden["labels8"])
    loss.backward()  # type: ignore[no-untyped-call]

    assert loss.item() == pytest.approx(golden[f"dual_{scale}_sym"].item(), rel=1e-5)
    assert logits.grad is not None
    assert torch.allclose(logits.grad, golden[f"dual_{scale}_sym_grad"], rtol=1e-5, atol=1e-6)


def slow_loss(logits: list[list[float]], labels: list[int]) -> float:
    def one_way(rows: list[list[float]]) -> float:
        total = 0.0
        for i, row in enumerate(rows):
            targets = [math.exp(10.0 * (labels[i] == labels[k])) for k in range(len(row))]
            targets = [t / sum(targets) for t in targets]
            log_sum = math.log(sum(math.exp(z) for z in row))
            total += sum(q * (math.log(q) - (z - log_sum)) for q, z in zip(targets, row, strict=True))
        return total / len(rows)

    return (one_way(logits) + one_way([list(column) for column in zip(*logits, strict=True)])) / 2


@pytest.mark.parametrize("labels", [[0], [0, 1, 2], [3, 3, 1, 3], [2, 2, 2]])
def test_the_loss_is_that_of_a_plain_loop(labels: list[int]) -> None:
    count = len(labels)
    logits = torch.randn(count, count, generator=torch.Generator().manual_seed(count), dtype=torch.float64) * 5

    assert nce_loss(logits, torch.tensor(labels)).item() == pytest.approx(slow_loss(logits.tolist(), labels))


def test_the_loss_is_zero_at_the_targets() -> None:
    labels = torch.tensor([0, 1, 0])

    assert nce_loss(10.0 * (labels[:, None] == labels).double(), labels).item() == pytest.approx(0, abs=1e-12)


def test_cross_entropy_is_that_of_a_plain_loop() -> None:
    logits = [[1.0, 2.0, -1.0], [0.5, 0.0, 3.0]]

    wrong = [math.log(sum(map(math.exp, row))) - row[label] for row, label in zip(logits, (1, 0), strict=True)]

    assert ce_loss(torch.tensor(logits), torch.tensor([1, 0])).item() == pytest.approx(sum(wrong) / 2, rel=1e-6)


def test_the_sigmoid_loss_is_that_of_a_plain_loop() -> None:
    logits, present = [[1.0, 2.0, -1.0], [0.5, 0.0, 3.0]], [[True, False, False], [True, True, False]]

    wrong = 0.0
    for row, truth in zip(logits, present, strict=True):
        for z, is_there in zip(row, truth, strict=True):
            chance = 1 / (1 + math.exp(-z))
            wrong -= math.log(chance if is_there else 1 - chance)

    assert bce_loss(torch.tensor(logits), torch.tensor(present)).item() == pytest.approx(wrong / 2, rel=1e-6)
