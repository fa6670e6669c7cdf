"""Preprocessing of video frames as the image tower was trained with: resize, crop, normalise."""

from __future__ import annotations

import functools
from collections.abc import Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from itertools import accumulate
from typing import Literal, get_args

import numpy as np
import torch
from numpy.typing import NDArray
from PIL import Image
from torch import Tensor
from torchvision.transforms import InterpolationMode
from torchvision.transforms.v2 import functional as F

from bike_cli.errors import UsageError, shorten
from bike_cli.wording import either

Interpolation = Literal["bicubic", "bilinear"]
ResizeMode = Literal["shortest", "longest", "squash"]
Triple = tuple[float, float, float]
Resizer = Literal["pil", "torch"]
Box = tuple[int, int]  # left, top: a corner of a crop in the resized frame

# Resizing a whole strip that is longer than this many sides would fill memory, and nearly all of it is cut away.
WIDEST = 16
COPIERS = 4  # threads that copy frames to where a GPU reads them
MAX_SIDE = 2048  # pixels; 32 frames of it take 1.6 GB in a tower
SMALLEST_STD = 0.001  # of values in [0, 1]; models that see 0 to 255 divide by 1/255

_PIL = {"bicubic": Image.Resampling.BICUBIC, "bilinear": Image.Resampling.BILINEAR}
_TORCH = {"bicubic": InterpolationMode.BICUBIC, "bilinear": InterpolationMode.BILINEAR}


@dataclass(frozen=True)
class ImageRecipe:
    """How a model's frames are prepared; all values come with its weights.

    Args:
        side: S, pixels of the square that the tower takes.
        mean: subtracted per channel, of values in [0, 1].
        std: divided by per channel.
        resize_mode: `shortest` fits the short side and crops · `longest` fits the long side and pads ·
            `squash` fits both sides.
        resize_side: pixels that `shortest` fits the short side to before the crop; None: `side`.
        fill: 0 to 255, the padding of `longest`.
    Raises:
        ValueError: a value out of range.
    """

    side: int
    mean: Triple
    std: Triple
    interpolation: Interpolation = "bicubic"
    resize_mode: ResizeMode = "shortest"
    resize_side: int | None = None
    fill: int = 0

    def __post_init__(self) -> None:
        _check_whole("side", self.side, 1, MAX_SIDE)
        if self.resize_side is not None:
            _check_whole("resize_side", self.resize_side, self.side, 2 * MAX_SIDE)
        _check_whole("fill", self.fill, 0, 255)
        _check_choice("interpolation", self.interpolation, get_args(Interpolation))
        _check_choice("resize_mode", self.resize_mode, get_args(ResizeMode))
        _check_triple("mean", self.mean, 0, 1)
        _check_triple("std", self.std, SMALLEST_STD, 1)

    @classmethod
    def from_open_clip(cls, preprocess: Mapping[str, object]) -> ImageRecipe:
        """Return the recipe of an open_clip `PreprocessCfg`, given as its mapping.

        Raises:
            ValueError: an input that is not square; a value of another type or out of range.
        """
        width, height = as_pair(preprocess["size"])
        interpolation = preprocess["interpolation"]
        _check_choice("interpolation", interpolation, ("random", *get_args(Interpolation)))
        if width != height:
            raise ValueError(f"its input is {width}x{height}, not square")
        return cls(
            side=width,
            mean=_triple(preprocess["mean"]),
            std=_triple(preprocess["std"]),
            # open_clip's `random` is a training choice; it evaluates with bicubic.
            interpolation="bilinear" if interpolation == "bilinear" else "bicubic",
            resize_mode=preprocess["resize_mode"],  # type: ignore[arg-type]
            fill=preprocess["fill_color"],  # type: ignore[arg-type]
        )


def views(
    frames: NDArray[np.uint8], recipe: ImageRecipe, *, crops: int, device: torch.device, resizer: Resizer = "pil"
) -> Tensor:
    """Return the pixels of each crop, before normalisation.

    Args:
        frames: uint8 [B, H, W, 3].
        crops: 1, the centre, or 3, in BIKE's order: left, right, centre.
        device: of the result. CUDA resizes on the device, to within rounding of PIL.
        resizer: on other devices. `pil` has the pixels of the official code; `torch` needs a tenth of the time for
            1080p, and its pixels are those of PIL to within rounding, at most 2 of 255.
    Returns:
        uint8 [crops * B, 3, S, S]: all frames of crop 0, then all of crop 1.
    Raises:
        UsageError: three crops of a model that reads whole frames.
    """
    height, width = frames.shape[1:3]
    size = size_after_resize(width, height, recipe)
    corners = crop_corners(size, recipe, crops)
    if _is_strip(size, recipe):
        return cut_squares(frames, size, corners, recipe).to(device)
    if device.type == "cuda":
        return cut_squares(to_cuda([frames], device), size, corners, recipe)
    if resizer == "torch":
        return _by_torch(torch.from_numpy(np.ascontiguousarray(frames)), size, corners, recipe).to(device)
    return cut_squares(frames, size, corners, recipe).to(device)


def views_on_cuda(
    videos: Sequence[NDArray[np.uint8]], recipe: ImageRecipe, *, crops: int, device: torch.device
) -> Tensor:
    """Return what `views` would return for all frames of some videos of one size, resized together on a GPU.

    Args:
        videos: each uint8 [B, H, W, 3]; at least one.
    """
    size = size_after_resize(videos[0].shape[2], videos[0].shape[1], recipe)
    return cut_squares(to_cuda(videos, device), size, crop_corners(size, recipe, crops), recipe)


def can_resize_together(frames: NDArray[np.uint8], recipe: ImageRecipe) -> bool:
    """Return whether a GPU can resize frames of this size; strips would fill its memory."""
    return not _is_strip(size_after_resize(frames.shape[2], frames.shape[1], recipe), recipe)


def cut_squares(
    frames: NDArray[np.uint8] | Tensor, size: tuple[int, int], corners: list[Box], recipe: ImageRecipe
) -> Tensor:
    """Return squares of the resized frames: uint8 [corners * B, 3, S, S], on the frames' device.

    Args:
        frames: uint8 [B, H, W, 3].
        size: width and height that frames are resized to.
    """
    if isinstance(frames, Tensor) and frames.is_cuda and not _is_strip(size, recipe):
        return _on_cuda(frames, size, corners, recipe)
    device = frames.device if isinstance(frames, Tensor) else None
    cut = _windows if _is_strip(size, recipe) else _crops
    arrays = frames.cpu().numpy() if isinstance(frames, Tensor) else frames
    squares = np.stack([cut(frame, size, corners, recipe) for frame in arrays], axis=1)
    return torch.from_numpy(squares).flatten(0, 1).permute(0, 3, 1, 2).contiguous().to(device)


def _is_strip(size: tuple[int, int], recipe: ImageRecipe) -> bool:
    return max(size) > WIDEST * recipe.side


def normalise(pixels: Tensor, recipe: ImageRecipe) -> Tensor:
    """Return float32 [B, 3, S, S], (pixels / 255 - mean) / std, of uint8 pixels of that shape."""
    # If the device made them, they would wait for all work that is queued on it.
    mean, std = (
        torch.tensor(of_each)[:, None, None].to(pixels.device, non_blocking=True)
        for of_each in (recipe.mean, recipe.std)
    )
    return (pixels.float() / 255 - mean) / std


def size_after_resize(width: int, height: int, recipe: ImageRecipe) -> tuple[int, int]:
    """Return the width and height that frames of a size are resized to before they are cropped."""
    side = recipe.side
    if recipe.resize_mode == "squash":
        return side, side
    if recipe.resize_mode == "longest":
        longest = max(width, height)
        # open_clip rounds a thin strip to 0 pixels, which is not a valid size.
        return max(1, round(width * side / longest)), max(1, round(height * side / longest))
    short, target = min(width, height), recipe.resize_side or side
    return int(target * width / short), int(target * height / short)


def crop_corners(size: tuple[int, int], recipe: ImageRecipe, crops: int) -> list[Box]:
    """Return the corner of each crop of frames of a size; negative corners pad.

    Raises:
        UsageError: three crops of a model that reads whole frames.
    """
    across, down = size[0] - recipe.side, size[1] - recipe.side
    if crops == 1 and recipe.resize_mode == "longest":
        return [(-(-across // 2), -(-down // 2))]
    if crops == 1:
        return [(round(across / 2), round(down / 2))]  # half to even, as torchvision
    if recipe.resize_mode != "shortest":
        problem = f"crops is {crops}, but this model reads whole frames ({recipe.resize_mode})"
        raise UsageError(f"{problem}; leave --crops out", settings=("crops",))
    # Steps of a quarter margin, rounded down: the right crop may miss the border by 3 pixels, as in the official code.
    step_x, step_y = across // 4, down // 4
    return [(0, 2 * step_y), (4 * step_x, 2 * step_y), (2 * step_x, 2 * step_y)]


def _crops(
    frame: NDArray[np.uint8], size: tuple[int, int], corners: list[Box], recipe: ImageRecipe
) -> NDArray[np.uint8]:
    whole = np.asarray(Image.fromarray(frame).resize(size, _PIL[recipe.interpolation]))
    return np.stack([_cut(whole, corner, recipe) for corner in corners])


def _windows(
    frame: NDArray[np.uint8], size: tuple[int, int], corners: list[Box], recipe: ImageRecipe
) -> NDArray[np.uint8]:
    # The same resize, computed only inside each crop; equal up to rounding of its corners to float.
    scale_x, scale_y, side = frame.shape[1] / size[0], frame.shape[0] / size[1], recipe.side
    image = Image.fromarray(frame)
    boxes = [(x * scale_x, y * scale_y, (x + side) * scale_x, (y + side) * scale_y) for x, y in corners]
    return np.stack([np.asarray(image.resize((side, side), _PIL[recipe.interpolation], box=box)) for box in boxes])


def _cut(whole: NDArray[np.uint8], corner: Box, recipe: ImageRecipe) -> NDArray[np.uint8]:
    (x, y), side = corner, recipe.side
    if x >= 0 and y >= 0:
        return whole[y : y + side, x : x + side]
    height, width = whole.shape[:2]
    canvas = np.full((side, side, 3), recipe.fill, dtype=np.uint8)
    canvas[-y : height - y, -x : width - x] = whole
    return canvas


def _fill(target: NDArray[np.uint8], parts: Sequence[NDArray[np.uint8]]) -> None:
    """Copy arrays one after the other, several at once: one core copies 5 GB/s."""
    ends = list(accumulate(map(len, parts)))
    places = [target[end - len(part) : end] for end, part in zip(ends, parts, strict=True)]
    for _ in _copiers().map(np.copyto, places, parts):
        pass


@functools.cache
def _copiers() -> ThreadPoolExecutor:
    return ThreadPoolExecutor(COPIERS, thread_name_prefix="bike-copy")


@functools.cache
def _copies(device: torch.device) -> torch.cuda.Stream:
    return torch.cuda.Stream(device)  # type: ignore[no-untyped-call]


def to_cuda(parts: Sequence[NDArray[np.uint8]], device: torch.device) -> Tensor:
    """Return arrays as one tensor on a CUDA device, along their first axis, copied in parallel with its work."""
    # From pinned memory and on its own stream, the copy runs while the tower computes earlier frames.
    shape = (sum(map(len, parts)), *parts[0].shape[1:])
    pinned = torch.empty(shape, dtype=torch.uint8, pin_memory=True)
    _fill(pinned.numpy(), parts)
    copies = _copies(device)
    compute = torch.cuda.current_stream(device)
    with torch.cuda.stream(copies):
        moved = pinned.to(device, non_blocking=True)
    compute.wait_stream(copies)
    moved.record_stream(compute)
    return moved


def _on_cuda(frames: Tensor, size: tuple[int, int], corners: list[Box], recipe: ImageRecipe) -> Tensor:
    mode = _TORCH[recipe.interpolation]
    pixels = frames.permute(0, 3, 1, 2)  # [B, 3, H, W]
    # PIL resizes along the width, rounds to uint8, then along the height, so overshoots are clipped twice.
    for height, width in ((pixels.shape[2], size[0]), (size[1], size[0])):
        pixels = F.resize(pixels.float(), [height, width], mode, antialias=True).round().clamp(0, 255)
    return _cut_padded(pixels.to(torch.uint8), size, corners, recipe)


def _by_torch(frames: Tensor, size: tuple[int, int], corners: list[Box], recipe: ImageRecipe) -> Tensor:
    # In whole numbers: torch rounds weights to 16 bits, PIL to 22.
    mode = _TORCH[recipe.interpolation]
    pixels = F.resize(frames.permute(0, 3, 1, 2), [size[1], size[0]], mode, antialias=True)
    return _cut_padded(pixels, size, corners, recipe)


def _cut_padded(pixels: Tensor, size: tuple[int, int], corners: list[Box], recipe: ImageRecipe) -> Tensor:
    """Return squares of pixels [B, 3, H, W] of a size: [corners * B, 3, S, S]."""
    side, cuts = recipe.side, []
    for x, y in corners:
        left, top = max(0, -x), max(0, -y)
        padded = F.pad(
            pixels, [left, top, max(0, side - size[0] - left), max(0, side - size[1] - top)], fill=recipe.fill
        )
        cuts.append(padded[:, :, max(0, y) : max(0, y) + side, max(0, x) : max(0, x) + side])
    return torch.cat(cuts).contiguous()


def as_pair(size: object) -> tuple[int, int]:
    """Return a width and a height; a single number is both."""
    return (size, size) if isinstance(size, int) else (int(size[0]), int(size[1]))  # type: ignore[index]


def _triple(values: object) -> Triple:
    """Return a value per channel; a single number applies to all three."""
    if _is_number(values):
        values = (values, values, values)
    return tuple(values) if isinstance(values, list) else values  # type: ignore[return-value]


def _check_whole(name: str, value: object, lowest: int, highest: int) -> None:
    if type(value) is not int or not lowest <= value <= highest:
        raise ValueError(f"{name} is {_shown(value)}, not a whole number from {lowest} to {highest}")


def _check_choice(name: str, value: object, choices: tuple[str, ...]) -> None:
    if not isinstance(value, str) or value not in choices:
        raise ValueError(f"{name} is {_shown(value)}, not {either(choices)}")


def _check_triple(name: str, values: object, lowest: float, highest: float) -> None:
    is_triple = isinstance(values, tuple) and len(values) == 3
    if not is_triple or not all(_is_number(v) and lowest <= v <= highest for v in values):  # type: ignore[attr-defined]
        raise ValueError(f"{name} is {_shown(values)}, not three numbers from {lowest} to {highest}")


def _is_number(value: object) -> bool:
    return isinstance(value, (int, float)) and not isinstance(value, bool)


def _shown(value: object) -> str:
    return shorten(repr(value), 60)
