"""Load tensors from untrusted files; nothing in them is ever executed."""

from __future__ import annotations

import hashlib
import math
import os
import pickle
import struct
import warnings
from collections import OrderedDict
from collections.abc import Callable, Iterable, Mapping
from contextlib import ExitStack
from pathlib import Path
from typing import NamedTuple

import torch
from safetensors import SafetensorError
from safetensors.torch import load_file, save_file
from torch import Tensor, nn

from bike_cli.engine.models.json_files import WAY_OUT
from bike_cli.engine.models.weight_files import check_pytorch, check_regular, read_start
from bike_cli.errors import ModelError, first_line, shorten

ZIP_START, PICKLE_START = b"PK\x03\x04", b"\x80"
SAFETENSORS_START = b"\0\0\0\0{"  # from byte 4: the upper half of a length, then a JSON object

# What torch's unpickler raises on damaged files, with weights_only=True.
UNREADABLE = (
    *(RuntimeError, ValueError, TypeError, LookupError, AttributeError, EOFError, OSError, ImportError),
    *(ArithmeticError, AssertionError, MemoryError, struct.error, pickle.UnpicklingError, SafetensorError),
)

# Settings of a training that ViFi-CLIP saves next to the weights: a dictionary, read as one without its code.
INERT: list[Callable[..., object] | tuple[Callable[..., object], str]] = [(OrderedDict, "yacs.config.CfgNode")]

UNWRITABLE = (OSError, SafetensorError)  # what writing weights raises
MAX_EXPANSION = 2**30  # bytes of tensors that the file does not hold
MAX_NAME = 80  # characters of a tensor's name in a message
SAMPLE = 2**14  # numbers of a tensor that stand for all of them


class State(NamedTuple):
    """The tensors of a weights file.

    Args:
        clip: tensors of the CLIP.
        head: tensors of BIKE's head; empty without a head. None: the file is not a BIKE checkpoint.
    """

    clip: dict[str, Tensor]
    head: dict[str, Tensor] | None


def read_state(path: Path) -> State:
    """Return the tensors of a weights file: official BIKE, OpenAI or open_clip, as pickle or safetensors.

    Raises:
        ModelError: a file that is missing, damaged, of another kind, or that would run code.
    """
    return state_in(read_content(path), path)


def read_content(path: Path) -> dict[str, object]:
    """Return what a weights file holds: tensors by name, in dictionaries of any depth, and plain values.

    Raises:
        ModelError: a file that is missing, damaged, of another kind, or that would run code.
    """
    start = read_start(path, 9, WAY_OUT)
    content = read_tensors(path) if start[4:] == SAFETENSORS_START else _unpickled(path, start)
    if not isinstance(content, dict):
        raise ModelError(f"{path}: contains a {type(content).__name__}, not a state dict; {WAY_OUT}")
    return content


def is_official(content: Mapping[str, object]) -> bool:
    """Return whether the content of a file has the layout of official BIKE."""
    return {"model_state_dict", "fusion_model_state_dict"} <= content.keys()


def state_in(content: Mapping[str, object], path: Path) -> State:
    """Return the tensors in the content of a weights file; see `read_state`."""
    if is_official(content):
        state = State(_state(content["model_state_dict"], path), _state(content["fusion_model_state_dict"], path))
    else:
        state = State(_state(content.get("state_dict", content), path), None)
    _check_extent([*state.clip.items(), *(state.head or {}).items()], path)
    return state


def tensors_in(state: object, path: Path) -> dict[str, Tensor]:
    """Return the tensors of a state dict in a file, by their names without `module.`.

    Raises:
        ModelError: something else than dense tensors, or tensors far larger than the file.
    """
    tensors = _state(state, path)
    _check_extent(tensors.items(), path)
    return tensors


def read_tensors(path: Path) -> dict[str, Tensor]:
    """Return the tensors of a safetensors file.

    Raises:
        ModelError: a file that is missing, damaged or of another kind.
    """
    check_regular(path, "download it again")
    try:
        return load_file(path)  # refuses a header that is larger than the file, or than 100 MB
    except UNREADABLE as e:
        raise ModelError(f"{path}: is not a complete safetensors file ({first_line(e)}); download it again") from e


def save_tensors(tensors: Mapping[str, Tensor], path: Path) -> None:
    """Write tensors of any device as safetensors, in a file with the usual permissions."""
    save_file({name: tensor.detach().cpu().contiguous().clone() for name, tensor in tensors.items()}, path)
    mask = os.umask(0)
    os.umask(mask)
    path.chmod(0o666 & ~mask)  # safetensors makes it readable by the owner alone


def fill(module: nn.Module, state: Mapping[str, Tensor], *, origin: str) -> None:
    """Copy every tensor of `state` into `module`, converted to the module's types; errors begin with `origin`.

    Raises:
        ModelError: a tensor that is missing, unexpected, has another shape or type, or holds NaN or infinity.
    """
    check_fit(module, state, origin=origin)
    wanted = module.state_dict()
    module.load_state_dict({name: _like(tensor, wanted[name]) for name, tensor in state.items()})
    # Afterwards: a float64 or bfloat16 number may only overflow when it is converted.
    check_finite(module.state_dict(), origin=origin)


def check_fit(module: nn.Module, state: Mapping[str, Tensor], *, origin: str) -> None:
    """Raise ModelError if `fill` would find a tensor that is missing, unexpected, or has another shape or type.

    Args:
        module: may be on the `meta` device, which takes no memory.
    """
    wanted = module.state_dict()
    given = {name: _like(tensor, wanted.get(name)) for name, tensor in state.items()}
    both = given.keys() & wanted.keys()
    faults = [
        _fault("missing", sorted(wanted.keys() - given.keys())),
        _fault("unexpected", sorted(given.keys() - wanted.keys())),
        _fault("with a different shape", sorted(n for n in both if given[n].shape != wanted[n].shape)),
        _fault("with a different type", sorted(n for n in both if _kind(given[n]) != _kind(wanted[n]))),
    ]
    if any(faults):
        raise ModelError(f"{origin}: does not fit its architecture ({'; '.join(filter(None, faults))}); {WAY_OUT}")


def check_finite(tensors: Mapping[str, Tensor], *, origin: str) -> None:
    """Raise ModelError if a tensor holds NaN or infinity; the message begins with `origin` and names the tensor.

    This takes 0.1 s for the 150 million numbers of a ViT-B/16.
    """
    broken = sorted(name for name, tensor in tensors.items() if not _is_finite(tensor))
    if broken:
        count = f"{len(broken):,} of its tensors contain" if len(broken) > 1 else "a tensor contains"
        raise ModelError(f"{origin}: {count} NaN or infinity ({_listed(broken)}); download it again, or train it again")


def check_range(tensors: Mapping[str, Tensor], dtype: torch.dtype, *, origin: str) -> None:
    """Raise ModelError if a tensor holds a number that would be infinite in `dtype`; see `check_finite`."""
    highest = torch.finfo(dtype).max
    floats = {n: t.detach() for n, t in tensors.items() if t.is_floating_point() and t.numel()}
    beyond = sorted(n for n, t in floats.items() if max(map(abs, map(float, torch.aminmax(t)))) > highest)
    if beyond:
        kind = str(dtype).removeprefix("torch.")
        raise ModelError(
            f"{origin}: has weights beyond {highest:g}, the range of {kind} ({_listed(beyond)}); use --precision fp32"
        )


def _is_finite(tensor: Tensor) -> bool:
    if not tensor.is_floating_point():
        return True
    tensor = tensor.detach()
    # A sum is five times faster than `isfinite`. A finite sum means finite numbers; an infinite one may be an overflow.
    return math.isfinite(tensor.sum()) or bool(torch.isfinite(tensor).all())


def _kind(tensor: Tensor) -> str:
    return "complex" if tensor.is_complex() else "float" if tensor.is_floating_point() else "integer"


def _unpickled(path: Path, start: bytes) -> object:
    if not start.startswith((ZIP_START, PICKLE_START)):
        raise ModelError(f"{path}: contains no weights; {WAY_OUT}")
    zipped = start.startswith(ZIP_START)
    check_pytorch(path, WAY_OUT, zipped=zipped)
    try:
        with ExitStack() as stack, warnings.catch_warnings():
            warnings.simplefilter("ignore")  # about how the file was pickled
            stack.enter_context(torch.serialization.safe_globals(INERT))
            return torch.load(path, map_location="cpu", weights_only=True, mmap=zipped)
    except pickle.UnpicklingError as e:
        raise ModelError(
            f"{path}: contains Python objects other than tensors, which bike never loads, or is damaged "
            f"({first_line(e)}); save only its state dict, preferably as safetensors"
        ) from e
    except UNREADABLE as e:
        raise ModelError(f"{path}: is damaged or is not a PyTorch file ({first_line(e)}); download it again") from e


# Sizes that OpenAI's state dicts hold next to the weights.
OPENAI_SIZES = ("input_resolution", "context_length", "vocab_size")


def _state(content: object, path: Path) -> dict[str, Tensor]:
    if not isinstance(content, dict):
        raise ModelError(f"{path}: contains a {type(content).__name__}, not a state dict; {WAY_OUT}")
    state = {}
    for key, value in content.items():
        if not isinstance(key, str):
            raise ModelError(f"{path}: a name in its state dict is a {type(key).__name__}, not a string; {WAY_OUT}")
        name = shorten(repr(key), MAX_NAME)
        if isinstance(value, Tensor):
            if not _is_dense(value):
                raise ModelError(
                    f"{path}: {name} is not a dense tensor in memory; save it as one, preferably as safetensors"
                )
        elif key not in OPENAI_SIZES:
            raise ModelError(f"{path}: {name} is a {type(value).__name__}, not a tensor; {WAY_OUT}")
        state[key.removeprefix("module.")] = value
    return state


def _is_dense(tensor: Tensor) -> bool:
    is_plain = type(tensor) in (Tensor, nn.Parameter) and tensor.layout is torch.strided
    return is_plain and tensor.device.type == "cpu" and not tensor.is_quantized and not tensor.is_nested


def _check_extent(tensors: Iterable[tuple[str, object]], path: Path) -> None:
    """Raise ModelError if tensors are far larger than the file: a stride of 0, many views of one storage.

    Some files use this to be small on disk, so tensors may take twice the file's size plus `MAX_EXPANSION`.
    """
    size = path.stat().st_size
    most, total = 2 * size + MAX_EXPANSION, 0
    for name, tensor in tensors:
        if isinstance(tensor, Tensor):
            total += tensor.numel() * tensor.element_size()
            if total > most:
                raise ModelError(
                    f"{path}: its tensors are far larger than the file ({total:,} bytes up to "
                    f"{shorten(name, MAX_NAME)}, of {size:,}); save them again, each with its own storage"
                )


def _like(tensor: Tensor, wanted: Tensor | None) -> Tensor:
    # open_clip has written logit_scale as a number and as a list of one.
    return tensor.reshape(wanted.shape) if wanted is not None and wanted.numel() == tensor.numel() == 1 else tensor


def _fault(what: str, names: list[str]) -> str:
    return f"{len(names):,} {what}: {_listed(names)}" if names else ""


def _listed(names: list[str]) -> str:
    return ", ".join([*(shorten(name, MAX_NAME) for name in names[:3]), *(["…"] if len(names) > 3 else [])])


def digest_of_weights(weights: Mapping[str, Tensor]) -> str:
    """Return the SHA-256 of tensors and their names in hexadecimal; it does not depend on their device."""
    digest = hashlib.sha256()
    for name, tensor in sorted(weights.items()):
        digest.update(f"{name} {tensor.dtype} {list(tensor.shape)}".encode())
        digest.update(tensor.detach().cpu().contiguous().flatten().view(torch.uint8).numpy().data)
    return digest.hexdigest()


def sample_of_weights(weights: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """Return at most `SAMPLE` numbers of each tensor, evenly spaced, the first one included."""
    flat = {name: tensor.detach().flatten() for name, tensor in weights.items()}
    return {name: tensor[:: max(1, -(-tensor.numel() // SAMPLE))] for name, tensor in flat.items()}
