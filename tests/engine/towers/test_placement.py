"""Devices and precisions that a machine lacks are refused by name."""

import re
from collections.abc import Iterator

import pytest
import torch

from bike_cli.engine.towers.placement import place, spare_threads, why_no_gpu
from bike_cli.errors import UsageError


@pytest.fixture
def _no_accelerator(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    monkeypatch.setattr(torch.backends.mps, "is_available", lambda: False)


@pytest.fixture
def _two_old_gpus(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    monkeypatch.setattr(torch.cuda, "device_count", lambda: 2)
    monkeypatch.setattr(torch.cuda, "is_bf16_supported", lambda: False)


@pytest.mark.usefixtures("_no_accelerator")
def test_auto_is_the_cpu_in_fp32_without_a_gpu() -> None:
    chosen = place("auto", "auto")

    assert (chosen.device.type, chosen.dtype) == ("cpu", torch.float32)


@pytest.mark.usefixtures("_two_old_gpus")
def test_auto_is_the_first_gpu_in_fp16_where_it_lacks_bf16() -> None:
    chosen = place("auto", "auto")

    assert (str(chosen.device), chosen.dtype) == ("cuda:0", torch.float16)


@pytest.mark.usefixtures("_two_old_gpus")
def test_a_gpu_beyond_the_last_is_refused() -> None:
    with pytest.raises(UsageError, match="'cuda:7': is not on this machine; choose auto, cuda:0, cuda:1 or cpu"):
        place("cuda:7", "auto")


@pytest.mark.usefixtures("_no_accelerator")
@pytest.mark.parametrize("device", ["cuda", "cuda:1"])
def test_an_absent_gpu_is_refused_with_the_reason(device: str) -> None:
    reason = re.escape(f"device '{device}': is not on this machine; choose auto or cpu ({why_no_gpu()})")
    with pytest.raises(UsageError, match=reason):
        place(device, "auto")


@pytest.mark.usefixtures("_no_accelerator")
@pytest.mark.parametrize("device", ["gpu", "meta", "", "cuda:", "cuda1"])
def test_a_misspelt_device_is_refused(device: str) -> None:
    with pytest.raises(UsageError, match=f"device '{device}': is not a device; choose auto or cpu"):
        place(device, "auto")


def test_fp16_on_a_cpu_is_refused() -> None:
    with pytest.raises(UsageError, match="precision fp16"):
        place("cpu", "fp16")


@pytest.fixture
def threads() -> Iterator[int]:
    """Let torch compute on two cores during a test."""
    before = torch.get_num_threads()
    torch.set_num_threads(2)
    yield 2
    torch.set_num_threads(before)


@pytest.mark.parametrize(
    ("width", "device", "expected"), [(10, "cpu", 1), (10_000, "cpu", 2), (10_000, "cuda", 1), (10_000, "mps", 1)]
)
def test_large_models_on_a_cpu_alone_use_several_cores(threads: int, width: int, device: str, expected: int) -> None:
    assert torch.get_num_threads() == threads
    with torch.device("meta"):
        model = torch.nn.Linear(width, width)

    spare_threads(model, torch.device(device))

    assert torch.get_num_threads() == expected
