"""The device and the precision that a model runs with."""

from __future__ import annotations

import functools
import re
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass

import torch
from torch import nn

from bike_cli.config import Device, Precision
from bike_cli.errors import UsageError
from bike_cli.wording import either

SMALL = 20_000_000  # parameters

_DTYPES: dict[Precision, torch.dtype] = {"fp32": torch.float32, "fp16": torch.float16, "bf16": torch.bfloat16}


@dataclass(frozen=True)
class Placement:
    """A device, and the data type of its matrix products; weights and features stay float32."""

    device: torch.device
    dtype: torch.dtype

    @property
    def precision(self) -> Precision:
        """The precision by the name of its setting."""
        return next(name for name, dtype in _DTYPES.items() if dtype is self.dtype)

    def autocast(self) -> AbstractContextManager[object]:
        """Return the context in which the towers run."""
        return nullcontext() if self.dtype is torch.float32 else torch.autocast(self.device.type, self.dtype)

    def mark(self) -> torch.cuda.Event | None:
        """Return an event that completes when the device has done all queued work; None: it has none."""
        if self.device.type != "cuda":
            return None
        # Blocking: a spinning thread would take a core from the decoders, 7 % fewer videos on 16 cores.
        event = torch.cuda.Event(blocking=True)  # type: ignore[no-untyped-call]
        event.record(torch.cuda.current_stream(self.device))
        return event

    def side_stream(self) -> AbstractContextManager[object]:
        """Return a context in which work runs in parallel with what is queued on the device, not after it."""
        if self.device.type != "cuda":
            return nullcontext()
        return torch.cuda.stream(_side_stream(self.device))


@functools.cache  # a new stream each time would hold more memory
def _side_stream(device: torch.device) -> torch.cuda.Stream:
    return torch.cuda.Stream(device)  # type: ignore[no-untyped-call]


def place(device: Device, precision: Precision) -> Placement:
    """Return the placement for a device and a precision on this machine.

    Raises:
        UsageError: an unknown or missing device; fp16 on a CPU.
    """
    chosen = _device(device)
    if precision == "auto" and chosen.type == "cuda":
        return Placement(chosen, torch.bfloat16 if torch.cuda.is_bf16_supported() else torch.float16)
    if precision == "auto":
        return Placement(chosen, torch.float32)
    if precision == "fp16" and chosen.type == "cpu":
        problem = "precision fp16: a CPU computes it slower than fp32"
        raise UsageError(f"{problem}; ask for fp32 or bf16", settings=("precision",))
    return Placement(chosen, _DTYPES[precision])


def explain(placement: Placement, device: Device, precision: Precision) -> str:
    """Return why `place` chose this placement."""
    if device != "auto":
        why_device = f"--device {device}"
    elif placement.device.type == "cpu":
        why_device = f"auto: {why_no_gpu()}"
    else:
        why_device = "auto: the first GPU"
    name = str(placement.dtype).removeprefix("torch.")
    why_precision = "auto" if precision == "auto" else f"--precision {precision}"
    return f"device {placement.device} ({why_device}), precision {name} ({why_precision})"


def why_no_gpu() -> str:
    """Return in a few words why torch cannot use a GPU.

    A build of torch for CUDA reports itself what is missing: a driver, a newer driver, a visible GPU.
    """
    if torch.version.cuda is None and getattr(torch.version, "hip", None) is None:
        return "torch is built without CUDA"
    try:
        torch.cuda.init()  # type: ignore[no-untyped-call]
    except (RuntimeError, AssertionError) as e:
        return first_sentence(str(e))
    return "CUDA is installed, but torch reports it as unavailable"


def first_sentence(text: str) -> str:
    """Return the first sentence of a library's message, without a full stop."""
    line = next((line.strip() for line in text.splitlines() if line.strip()), "")
    return line.split(". ")[0].removesuffix(".")


def spare_threads(model: nn.Module, device: torch.device) -> None:
    """Let torch compute on one core if more cores would only wait for one another, or take cores from the decoders.

    That is so for small models, and on GPUs, where little is left for the cores. This affects the whole process, so it
    is the program's decision; `bike` does it. On two cores, one of them busy, a clip took `tiny` 0.04 s instead of
    0.6 s.
    """
    if device.type != "cpu" or sum(parameter.numel() for parameter in model.parameters()) < SMALL:
        torch.set_num_threads(1)


def _available() -> list[str]:
    cuda = [f"cuda:{i}" for i in range(torch.cuda.device_count())] if torch.cuda.is_available() else []
    mps = ["mps"] if torch.backends.mps.is_available() else []
    return [*cuda, *mps, "cpu"]


def _device(name: Device) -> torch.device:
    available = _available()
    if name == "auto":
        return torch.device(available[0])
    if name in available or (name == "cuda" and "cuda:0" in available):
        return torch.device(name)
    way_out = f"choose {either(['auto', *available])}"
    if re.fullmatch(r"cuda(:\d+)?|mps|cpu", name) is None:
        raise UsageError(f"device {name!r}: is not a device; {way_out}", settings=("device",))
    reason = f" ({why_no_gpu()})" if name.startswith("cuda") and not torch.cuda.is_available() else ""
    raise UsageError(f"device {name!r}: is not on this machine; {way_out}{reason}", settings=("device",))
