"""Small checkpoints of other video models, and what their own code computes with them.

`golden/*.npz` hold the names and shapes of the tensors in files of their code, and the scores that it gives for the
videos and labels below; see `golden/README.md`. Weights and videos are drawn from seeds that both sides know.
"""

import functools
import zlib
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from bike_cli.records import Clip, FrameTimes, Source

GOLDEN = Path(__file__).parents[1] / "engine" / "models" / "golden"
LABELS = ("riding a bike", "juggling balls", "playing violin", "running")
LENGTHS = (1, 2, 8)  # frames per clip
SIDE, WIDTH, DIM = 32, 64, 32
BASE, VIFI, ACTIONCLIP, HEAD, OPEN_VCLIP = range(5)  # seeds of weights
TRAINING = {"optimizer": {"state": {0: torch.ones(2)}}, "epoch": 9}

State = dict[str, torch.Tensor]
Content = dict[str, Any]


def golden(model: str) -> Mapping[str, Any]:
    with np.load(GOLDEN / f"{model}.npz") as arrays:
        return dict(arrays)


def weights(names: NDArray[np.str_], shapes: NDArray[np.str_], seed: int) -> State:
    """Return tensors of these names and shapes; each depends on its name and the seed alone. Do not change them."""
    sizes = [tuple(int(n) for n in text.split(",") if n) for text in shapes.tolist()]
    return {name: _drawn(name, size, seed) for name, size in zip(names.tolist(), sizes, strict=True)}


@functools.cache
def _drawn(name: str, shape: tuple[int, ...], seed: int) -> torch.Tensor:
    if name.endswith("logit_scale"):
        return torch.tensor(1.5)
    numbers = np.random.RandomState(zlib.crc32(f"{seed} {name}".encode())).standard_normal(shape)
    scale = 0.2 if len(shape) == 1 else 1.5 / np.sqrt(np.prod(shape[1:]) if "conv1" in name else shape[-1])
    if "embedding" in name:
        scale = 0.5
    if name.endswith(("proj", "projection")):
        scale = 1 / np.sqrt(shape[0])
    mean = 1.0 if len(shape) == 1 and name.endswith("weight") else 0.0
    return torch.from_numpy((mean + scale * numbers).astype(np.float16).astype(np.float32))


def base_file(file: Path) -> Path:
    """Write the CLIP that all checkpoints were trained from, as OpenAI's state dicts are."""
    arrays = golden("actionclip")
    state = weights(arrays["names"], arrays["shapes"], BASE)
    torch.save({**state, "input_resolution": torch.tensor(SIDE)}, file)
    return file


def vifi_content() -> Content:
    arrays = golden("vifi")
    state = weights(arrays["names"], arrays["shapes"], VIFI)
    return {"model": {f"module.{name}": t for name, t in state.items()}, **TRAINING}


def actionclip_content(head: str) -> Content:
    arrays = golden("actionclip")
    return {
        "model_state_dict": weights(arrays["names"], arrays["shapes"], ACTIONCLIP),
        "fusion_model_state_dict": weights(arrays[f"{head}_names"], arrays[f"{head}_shapes"], HEAD),
        "optimizer_state_dict": {},
        "epoch": 9,
    }


def open_vclip_content(model: str = "openvclip") -> Content:
    arrays = golden(model)
    return {"model_state": weights(arrays["names"], arrays["shapes"], OPEN_VCLIP), "optimizer_state": {}, "epoch": 9}


def videos(length: int) -> NDArray[np.uint8]:
    """Return two clips, [2, T, H, W, 3], of the size that the models read."""
    return np.random.RandomState(5).randint(0, 256, (2, length, SIDE, SIDE, 3)).astype(np.uint8)


def clip_of(frames: NDArray[np.uint8]) -> Clip:
    """Return the clips [K, T, H, W, 3] of a video."""
    times = np.arange(frames.shape[0] * frames.shape[1], dtype=np.float64).reshape(frames.shape[:2])
    return Clip(Source.at("array"), frames, FrameTimes(times, times.astype(np.int64)))
