"""Tensors out of files that nobody vouches for: nothing in them is ever executed."""

from __future__ import annotations

import hashlib
import json
import os
import pickle
import struct
import warnings
import zipfile
from collections.abc import Mapping
from pathlib import Path
from typing import NamedTuple

import torch
from safetensors import SafetensorError
from safetensors.torch import load_file, save_file
from torch import Tensor, nn

from bike_cli.errors import ModelError

ZIP_START, PICKLE_START = b"PK\x03\x04", b"\x80"
SAFETENSORS_START = b"\0\0\0\0{"  # from byte 4: the upper half of a length, then a JSON object
WAY_OUT = "give open_clip or BIKE weights, or a folder written by bike"

# What torch's unpickler has been seen to raise on damaged files, with weights_only=True.
UNREADABLE = (
    *(RuntimeError, ValueError, TypeError, LookupError, AttributeError, EOFError, OSError, ImportError),
    *(ArithmeticError, AssertionError, struct.error, pickle.UnpicklingError, SafetensorError),
)

UNWRITABLE = (OSError, SafetensorError)  # what writing weights raises


class State(NamedTuple):
    """What a weights file holds.

    Args:
        clip: the CLIP's tensors.
        head: the tensors of BIKE's head; empty where it has none. None: the file is not BIKE's.
    """

    clip: dict[str, Tensor]
    head: dict[str, Tensor] | None


def read_state(path: Path) -> State:
    """Return the tensors of a weights file: official BIKE, OpenAI or open_clip, as pickle or safetensors.

    Raises:
        ModelError: a file that is missing, damaged, of another kind, or that would run code.
    """
    content = read_tensors(path) if _is_safetensors(path) else _unpickled(path)
    if not isinstance(content, dict):
        raise ModelError(f"{path}: holds a {type(content).__name__}, not a state dict; {WAY_OUT}")
    if {"model_state_dict", "fusion_model_state_dict"} <= content.keys():
        return State(_state(content["model_state_dict"], path), _state(content["fusion_model_state_dict"], path))
    return State(_state(content.get("state_dict", content), path), None)


def read_tensors(path: Path) -> dict[str, Tensor]:
    """Return the tensors of a safetensors file.

    Raises:
        ModelError: a file that is missing, damaged or of another kind.
    """
    _start(path)
    try:
        return load_file(path)
    except UNREADABLE as e:
        raise ModelError(f"{path}: is no whole safetensors file ({first_line(e)}); fetch it again") from e


def save_tensors(tensors: Mapping[str, Tensor], path: Path) -> None:
    """Write tensors, wherever they lie, as safetensors, in a file as readable as others of the user's."""
    save_file({name: tensor.detach().cpu().contiguous().clone() for name, tensor in tensors.items()}, path)
    path.chmod(0o666 & ~umask())  # safetensors writes for the owner alone


def umask() -> int:
    """Return the bits that new files of this process do not get."""
    mask = os.umask(0)
    os.umask(mask)
    return mask


def fill(module: nn.Module, state: Mapping[str, Tensor], *, origin: str) -> None:
    """Copy every tensor of `state` into its place in `module`, in the module's own types.

    Raises:
        ModelError: a tensor that is missing, has no place or another shape; `origin` begins the message.
    """
    wanted = module.state_dict()
    given = {name: _like(tensor, wanted.get(name)) for name, tensor in state.items()}
    faults = [
        _fault("missing", sorted(wanted.keys() - given.keys())),
        _fault("without a place", sorted(given.keys() - wanted.keys())),
        _fault("of another shape", [n for n, t in given.items() if n in wanted and t.shape != wanted[n].shape]),
    ]
    if any(faults):
        raise ModelError(f"{origin}: does not fit its architecture ({'; '.join(filter(None, faults))}); {WAY_OUT}")
    module.load_state_dict(given)


def read_json(path: Path) -> dict[str, object]:
    """Return the object in a JSON file.

    Raises:
        ModelError: a file that is missing or no JSON object.
    """
    try:
        content = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError) as e:
        raise ModelError(f"{path}: cannot be read as JSON ({first_line(e)}); {WAY_OUT}") from e
    if not isinstance(content, dict):
        raise ModelError(f"{path}: holds a {type(content).__name__}, not an object; {WAY_OUT}")
    return content


def first_line(error: BaseException) -> str:
    """Return what an error says first, for a message of ours."""
    return (str(error) or type(error).__name__).strip().split("\n")[0][:200].rstrip(".")


def _start(path: Path) -> bytes:
    try:
        with path.open("rb") as file:
            return file.read(9)
    except OSError as e:
        raise ModelError(f"{path}: cannot be read ({e.strerror}); {WAY_OUT}") from e


def _is_safetensors(path: Path) -> bool:
    return _start(path)[4:] == SAFETENSORS_START


def _unpickled(path: Path) -> object:
    start = _start(path)
    if not start.startswith((ZIP_START, PICKLE_START)):
        raise ModelError(f"{path}: holds no weights; {WAY_OUT}")
    zipped = start.startswith(ZIP_START)
    if zipped and _is_torchscript(path):
        raise ModelError(
            f"{path}: is a TorchScript program, which bike never runs; use --model ViT-B-16-quickgelu,openai or its "
            "like, or save its state_dict() with torch.save where you trust it"
        )
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # about how the file was pickled; whether it can be read is what counts
            return torch.load(path, map_location="cpu", weights_only=True, mmap=zipped)
    except pickle.UnpicklingError as e:
        raise ModelError(
            f"{path}: holds Python objects beside tensors, which bike never runs, or is damaged "
            f"({first_line(e)}); save its state dict alone, best as safetensors"
        ) from e
    except UNREADABLE as e:
        raise ModelError(f"{path}: is damaged or no PyTorch file ({first_line(e)}); fetch it again") from e


def _is_torchscript(path: Path) -> bool:
    try:
        with zipfile.ZipFile(path) as archive:
            return any(name.endswith("/constants.pkl") for name in archive.namelist())
    except (zipfile.BadZipFile, OSError) as e:
        raise ModelError(f"{path}: is cut short or damaged ({first_line(e)}); fetch it again") from e


# Sizes that OpenAI's state dicts carry beside the weights.
OPENAI_SIZES = ("input_resolution", "context_length", "vocab_size")


def _state(content: object, path: Path) -> dict[str, Tensor]:
    if not isinstance(content, dict):
        raise ModelError(f"{path}: holds a {type(content).__name__} for a state dict; {WAY_OUT}")
    state = {str(name).removeprefix("module."): value for name, value in content.items()}
    for name, value in state.items():
        if not isinstance(value, Tensor) and name not in OPENAI_SIZES:
            raise ModelError(f"{path}: {name!r} is a {type(value).__name__}, not a tensor; {WAY_OUT}")
    return state


def _like(tensor: Tensor, wanted: Tensor | None) -> Tensor:
    # open_clip has written logit_scale as a number and as a list of one.
    return tensor.reshape(wanted.shape) if wanted is not None and wanted.numel() == tensor.numel() == 1 else tensor


def _fault(what: str, names: list[str]) -> str:
    more = ", …" if len(names) > 3 else ""
    return f"{len(names)} {what}: {', '.join(names[:3])}{more}" if names else ""


def digest_of_weights(weights: Mapping[str, Tensor]) -> str:
    """Return the SHA-256 of tensors and their names, in hexadecimal digits; it does not depend on where they lie."""
    digest = hashlib.sha256()
    for name, tensor in sorted(weights.items()):
        digest.update(f"{name} {tensor.dtype} {list(tensor.shape)}".encode())
        digest.update(tensor.detach().cpu().contiguous().flatten().view(torch.uint8).numpy().data)
    return digest.hexdigest()
