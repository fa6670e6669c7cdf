"""Augmentation of training clips: a crop, a mirror image, other colours, grey."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import NamedTuple

import numpy as np
import torch
from torch import Tensor
from torchvision.transforms import InterpolationMode
from torchvision.transforms.v2 import functional as F

from bike_cli.engine.towers.transforms import Box, ImageRecipe, crop_corners, cut_squares, size_after_resize

SCALES = (1.0, 0.875, 0.75, 0.66)  # of the short side
MAX_DISTORT = 1  # steps between the scales of width and height
FLIPS, JITTERS, GREYS = 0.5, 0.8, 0.2  # shares of the clips

_SHAPES = [(w, h) for h in range(len(SCALES)) for w in range(len(SCALES)) if abs(w - h) <= MAX_DISTORT]
# In quarters of the margin, (across, down): the corners, the middle, the middles of the edges, the quarters.
_PLACES = [(0, 0), (4, 0), (0, 4), (4, 4), (2, 2), (0, 2), (4, 2), (2, 4), (2, 0), (1, 1), (3, 1), (1, 3), (3, 3)]

_Change = Callable[[Tensor, float], Tensor]
_COLOURS: list[tuple[_Change, float, float]] = [  # how, lowest and highest factor
    (F.adjust_brightness, 0.6, 1.4),
    (F.adjust_contrast, 0.6, 1.4),
    (F.adjust_saturation, 0.8, 1.2),
    (F.adjust_hue, -0.1, 0.1),
]


@dataclass(frozen=True)
class Augmentation:
    """Which augmentations are applied to clips.

    Args:
        crops: a part of the frame, at one of four scales, stretched by up to a sixth; otherwise the centre.
        flip: mirror half of the clips. Turn it off if classes differ in left and right.
        jitter: change the colours of four in five clips, make one in five grey.
    """

    crops: bool = True
    flip: bool = True
    jitter: bool = True


class _Crop(NamedTuple):
    left: int
    top: int
    width: int
    height: int


@dataclass(frozen=True)
class _Draws:
    """The random choices for one clip; colour changes are in the order to apply them."""

    shape: tuple[int, int]
    place: tuple[int, int]
    flips: bool
    colours: list[tuple[_Change, float]]
    greys: bool


def augment(frames: Tensor, recipe: ImageRecipe, augmentation: Augmentation, rng: np.random.Generator) -> Tensor:
    """Return the pixels of one augmentation of a clip, before normalisation.

    Frames are resized as for classification (`shortest` to its resize_side, `longest` to the padded square, `squash` to
    the square); then a crop is resized to the square that the tower takes. With everything off, the result is the
    centre crop of `transforms.views`.

    Args:
        frames: uint8 [T, H, W, 3]; computed on their device if it is CUDA, otherwise on the CPU.
        rng: advances by the same number of draws each time, so that the augmentations that are on do not depend on
            those that are off.
    Returns:
        uint8 [T, 3, S, S], on the frames' device.
    Source: ActionCLIP (arXiv:2109.08472), official utils/Augmentation.py, `get_augmentation`, and
        datasets/transforms_ss.py, which are also in BIKE's datasets/transforms.py. ActionCLIP crops the frame
        at its own size; the resize before is BIKE's. BIKE itself trains on GroupRandomSizedCrop, flip and grey, with
        no jitter (its utils/Augmentation.py).
    """
    # Drawn once per clip. The official code draws new colours for every frame, but flickering frames teach nothing.
    draws = _draw(rng)
    here = frames if frames.is_cuda else frames.cpu()
    pixels = _cropped(here, recipe, draws) if augmentation.crops else _centre(here, recipe)
    if augmentation.flip and draws.flips:
        pixels = pixels.flip(-1)
    if augmentation.jitter:
        pixels = _recoloured(pixels, draws)
    return (pixels * 255).round().to(torch.uint8).contiguous().to(frames.device)


def _draw(rng: np.random.Generator) -> _Draws:
    # Uniform numbers only: `integers` sometimes draws twice, so the generator's next state would vary.
    shape, place, flip, jitter, grey, *rest = rng.random(5 + 2 * len(_COLOURS)).tolist()
    shares, order = rest[: len(_COLOURS)], np.argsort(rest[len(_COLOURS) :])
    changes = [(change, low + u * (high - low)) for (change, low, high), u in zip(_COLOURS, shares, strict=True)]
    return _Draws(
        shape=_SHAPES[int(shape * len(_SHAPES))],
        place=_PLACES[int(place * len(_PLACES))],
        flips=flip < FLIPS,
        colours=[changes[i] for i in order] if jitter < JITTERS else [],
        greys=grey < GREYS,
    )


def _centre(frames: Tensor, recipe: ImageRecipe) -> Tensor:
    resized = size_after_resize(frames.shape[2], frames.shape[1], recipe)
    return _square(frames, resized, crop_corners(resized, recipe, 1)[0], recipe)


def _cropped(frames: Tensor, recipe: ImageRecipe, draws: _Draws) -> Tensor:
    resized = size_after_resize(frames.shape[2], frames.shape[1], recipe)
    if recipe.resize_mode == "shortest":
        crop, short = _crop(resized, recipe.side, draws), min(resized)
        # Of a long strip, only the square around the crop is resized.
        corner = min(crop.left, resized[0] - short), min(crop.top, resized[1] - short)
        inside = crop._replace(left=crop.left - corner[0], top=crop.top - corner[1])
    else:
        inside, short = _crop((recipe.side, recipe.side), recipe.side, draws), recipe.side
        corner = crop_corners(resized, recipe, 1)[0]
    square = _square(frames, resized, corner, replace(recipe, side=short, resize_side=None))
    left, top, width, height = inside
    part = square[:, :, top : top + height, left : left + width]
    pixels: Tensor = F.resize(part, [recipe.side, recipe.side], InterpolationMode.BILINEAR, antialias=True)
    return pixels


def _crop(size: tuple[int, int], side: int, draws: _Draws) -> _Crop:
    """Return the drawn crop of frames of a size (width, height).

    Source: official datasets/transforms_ss.py, `GroupMultiScaleCrop` with fix_crop and more_fix_crop.
    """
    lengths = [int(min(size) * scale) for scale in SCALES]
    # A length within two pixels of the side becomes the side, which needs no resize.
    width, height = (side if abs(lengths[i] - side) < 3 else lengths[i] for i in draws.shape)
    across, down = draws.place
    return _Crop(across * ((size[0] - width) // 4), down * ((size[1] - height) // 4), width, height)


def _square(frames: Tensor, resized: tuple[int, int], corner: Box, recipe: ImageRecipe) -> Tensor:
    """Return a square of `recipe.side` of the resized frames, as `views` cuts it: float32 [T, 3, S, S] in [0, 1]."""
    return cut_squares(frames, resized, [corner], recipe) / 255


def _recoloured(pixels: Tensor, draws: _Draws) -> Tensor:
    """Return pixels in [0, 1] in the drawn colours.

    Source: official datasets/transforms_ss.py, `GroupRandomColorJitter`, `GroupRandomGrayscale`; torchvision's
        ColorJitter, which has a random order too.
    """
    for change, factor in draws.colours:
        pixels = change(pixels, factor)
    grey: Tensor = F.rgb_to_grayscale(pixels, num_output_channels=3) if draws.greys else pixels
    return grey
