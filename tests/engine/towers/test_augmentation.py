"""Clips are augmented as by the official code: once for all frames, by the generator alone."""

import colorsys
import math
import random
from collections import Counter
from itertools import product

import numpy as np
import pytest
import torch
from numpy.typing import NDArray
from PIL import Image
from torch import Tensor

from bike_cli.engine.towers.augmentation import Augmentation, augment
from bike_cli.engine.towers.transforms import ImageRecipe, ResizeMode, views

CPU = torch.device("cpu")
MEAN, STD = (0.48145466, 0.4578275, 0.40821073), (0.26862954, 0.26130258, 0.27577711)
ALL, OFF = Augmentation(), Augmentation(crops=False, flip=False, jitter=False)
CROPS, FLIP, JITTER = (Augmentation(*(i == j for j in range(3))) for i in range(3))
EVERY = [Augmentation(*on) for on in product((False, True), repeat=3)]
CLIPS = 300


def recipe_of(mode: ResizeMode = "shortest", side: int = 32) -> ImageRecipe:
    return ImageRecipe(side, MEAN, STD, resize_mode=mode, resize_side=side * 5 // 4, fill=90)


def noise(width: int, height: int, count: int = 1) -> Tensor:
    rng = np.random.default_rng(width * height)
    return torch.from_numpy(rng.integers(0, 256, (count, height, width, 3), dtype=np.uint8))


def mild(frames: Tensor) -> Tensor:
    """Return frames that no resize overshoots: where one does, it shows whether PIL takes width or height first."""
    return frames // 3 + 85


def plain(*colour: int) -> Tensor:
    return torch.tensor(colour, dtype=torch.uint8).expand(2, 40, 50, 3)


def centre(frames: Tensor, recipe: ImageRecipe) -> Tensor:
    return views(frames.numpy(), recipe, crops=1, device=CPU)


def variations(frames: Tensor, augmentation: Augmentation, clips: int = CLIPS) -> list[Tensor]:
    rng = np.random.default_rng(7)
    return [augment(frames, recipe_of(), augmentation, rng) for _ in range(clips)]


def is_likely(count: int, share: float, clips: int = CLIPS) -> bool:
    """Return whether a count is within four standard deviations of a binomial."""
    return abs(count - share * clips) < 4 * math.sqrt(share * (1 - share) * clips)


# -- crops: the official loop, in PIL -----------------------------------------------------------------------------

Place = tuple[int, int, int, int]  # left, top, width, height


def official_places(width: int, height: int, side: int) -> list[Place]:
    """Return the ten sizes at thirteen places each, as GroupMultiScaleCrop builds its lists."""
    lengths = [int(min(width, height) * scale) for scale in (1, 0.875, 0.75, 0.66)]
    lengths = [side if abs(length - side) < 3 else length for length in lengths]
    sizes = [(w, h) for i, h in enumerate(lengths) for j, w in enumerate(lengths) if abs(i - j) <= 1]
    places = []
    for w, h in sizes:
        x, y = (width - w) // 4, (height - h) // 4
        offsets = [(0, 0), (4 * x, 0), (0, 4 * y), (4 * x, 4 * y), (2 * x, 2 * y)]
        offsets += [(0, 2 * y), (4 * x, 2 * y), (2 * x, 4 * y), (2 * x, 0)]
        offsets += [(x, y), (3 * x, y), (x, 3 * y), (3 * x, 3 * y)]
        places += [(left, top, w, h) for left, top in offsets]
    return places


def whole(frame: NDArray[np.uint8], recipe: ImageRecipe) -> Image.Image:
    """Return the frame that crops are taken from."""
    image, side = Image.fromarray(frame), recipe.side
    if recipe.resize_mode == "squash":
        return image.resize((side, side), Image.Resampling.BICUBIC)
    if recipe.resize_mode == "longest":
        scale = side / max(image.size)
        small = image.resize((round(image.width * scale), round(image.height * scale)), Image.Resampling.BICUBIC)
        square = Image.new("RGB", (side, side), (recipe.fill,) * 3)
        square.paste(small, ((side - small.width) // 2, (side - small.height) // 2))
        return square
    short, target = min(image.size), recipe.resize_side or side
    return image.resize((target * image.width // short, target * image.height // short), Image.Resampling.BICUBIC)


def official_crop(image: Image.Image, place: Place, side: int) -> NDArray[np.uint8]:
    left, top, width, height = place
    part = image.crop((left, top, left + width, top + height))
    return np.asarray(part.resize((side, side), Image.Resampling.BILINEAR)).transpose(2, 0, 1)


def places_seen(frames: Tensor, recipe: ImageRecipe, clips: int) -> Counter[Place]:
    """Count, over many clips, which official crop each one is; any other crop fails."""
    image = whole(frames[0].numpy(), recipe)
    places = sorted(set(official_places(*image.size, recipe.side)))
    crops = np.stack([official_crop(image, place, recipe.side) for place in places]).astype(np.int16)
    rng, seen = np.random.default_rng(3), Counter[Place]()
    for _ in range(clips):
        ours = augment(frames, recipe, CROPS, rng)[0].numpy()
        off = np.abs(crops[:, :, ::5, ::5] - ours[:, ::5, ::5]).mean(axis=(1, 2, 3))
        place = places[int(off.argmin())]
        assert np.abs(crops[int(off.argmin())] - ours).max() <= 2, place
        seen[place] += 1
    return seen


@pytest.mark.parametrize(
    ("mode", "width", "height"),
    [
        ("shortest", 97, 61),
        ("shortest", 40, 56),
        ("shortest", 900, 20),  # a strip, which is not resized as a whole
        ("shortest", 20, 900),
        ("squash", 97, 61),
        ("longest", 97, 61),
        ("longest", 30, 50),
    ],
)
def test_every_crop_is_an_official_one(mode: ResizeMode, width: int, height: int) -> None:
    frames, recipe = mild(noise(width, height)), recipe_of(mode)

    seen = places_seen(frames, recipe, clips=150)

    across, down = whole(frames[0].numpy(), recipe).size
    assert len(seen) > 40
    assert all(left >= 0 and left + w <= across and top >= 0 and top + h <= down for left, top, w, h in seen)


@pytest.mark.slow  # over a second of a core
def test_every_official_crop_is_drawn_about_equally_often() -> None:
    clips, frames = 1500, noise(80, 60)

    seen = places_seen(frames, recipe_of(), clips)

    expected = Counter(official_places(*whole(frames[0].numpy(), recipe_of()).size, 32))
    assert seen.keys() == expected.keys()
    assert all(is_likely(seen[place], times / expected.total(), clips) for place, times in expected.items())


def test_a_crop_at_the_size_of_the_side_keeps_its_pixels() -> None:
    frames = noise(40, 40)

    ours = [augment(frames, recipe_of(), CROPS, np.random.default_rng(seed)) for seed in range(100)]

    pixels = frames[0].permute(2, 0, 1)
    corners = [pixels[:, y : y + 32, x : x + 32] for y in range(9) for x in range(9)]
    assert sum(any(torch.equal(pixel[0], corner) for corner in corners) for pixel in ours) > 3


# -- flips --------------------------------------------------------------------------------------------------------


def test_half_of_the_clips_are_mirrored_and_nothing_else() -> None:
    frames = noise(50, 40, 2)
    straight = centre(frames, recipe_of())

    ours = variations(frames, FLIP)

    mirrored = [torch.equal(clip, straight.flip(-1)) for clip in ours]
    assert all(is_mirror or torch.equal(clip, straight) for clip, is_mirror in zip(ours, mirrored, strict=True))
    assert is_likely(sum(mirrored), 0.5)


# -- colours ------------------------------------------------------------------------------------------------------


Pixels = NDArray[np.float64]  # [H, W, 3] in [0, 1]


def grey_of(pixels: Pixels) -> Pixels:
    return (pixels @ [0.299, 0.587, 0.114])[..., None]


def blended(pixels: Pixels, other: Pixels, factor: float) -> Pixels:
    """Return PIL's ImageEnhance, without its rounding."""
    return np.clip(other + factor * (pixels - other), 0, 1)


def hue_turned(pixels: Pixels, turn: float) -> Pixels:
    hsv = [colorsys.rgb_to_hsv(*pixel) for pixel in pixels.reshape(-1, 3)]
    return np.array([colorsys.hsv_to_rgb((h + turn) % 1, s, v) for h, s, v in hsv]).reshape(pixels.shape)


def coloured(pixels: Pixels, u: Pixels) -> Pixels:
    """Return pixels after ColorJitter and Grayscale by the clip's 13 draws.

    They are: shape and place of the crop, flip, jitter, grey; then a factor for each of the four changes; then a
    key for each, by which they are sorted.
    """
    changes = [
        lambda x: blended(x, np.zeros(1), 0.6 + 0.8 * u[5]),
        lambda x: blended(x, grey_of(x).mean(), 0.6 + 0.8 * u[6]),
        lambda x: blended(x, grey_of(x), 0.8 + 0.4 * u[7]),
        lambda x: hue_turned(x, -0.1 + 0.2 * u[8]),
    ]
    for key in sorted(u[9:13]) if u[3] < 0.8 else []:
        pixels = changes[u[9:13].tolist().index(key)](pixels)
    return grey_of(pixels).repeat(3, axis=2) if u[4] < 0.2 else pixels


@pytest.mark.parametrize("seed", range(24))
def test_colours_change_by_the_formulas_in_the_order_drawn(seed: int) -> None:
    frames = noise(6, 5)
    before = centre(frames, recipe_of())[0].permute(1, 2, 0).numpy() / 255

    ours = augment(frames, recipe_of(), JITTER, np.random.default_rng(seed))[0].permute(1, 2, 0)

    expected = coloured(before, np.random.default_rng(seed).random(13)) * 255
    assert np.abs(ours.numpy() - expected).max() < 0.6  # half a level, and greys' fourth decimal


def test_brightness_is_drawn_between_its_bounds() -> None:
    # The other three changes leave one flat grey as it is.
    ours = [float(clip.float().mean()) for clip in variations(plain(100, 100, 100), JITTER)]

    changed = [shade for shade in ours if shade != 100]
    assert 60 <= min(changed) < 63
    assert 137 < max(changed) <= 140


def test_four_in_five_clips_change_their_colours() -> None:
    frames = plain(180, 90, 40)
    before = centre(frames, recipe_of())

    coloured = [clip for clip in variations(frames, JITTER) if not torch.equal(clip[:, 0], clip[:, 1])]

    assert is_likely(sum(not torch.equal(clip, before) for clip in coloured), 0.8, len(coloured))


def test_one_in_five_clips_is_grey_in_all_its_frames() -> None:
    greys = [[bool((frame == frame[:1]).all()) for frame in clip] for clip in variations(noise(9, 8, 3), JITTER)]

    assert all(len(set(frames)) == 1 for frames in greys)
    assert is_likely(sum(all(frames) for frames in greys), 0.2)


# -- all together -------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("size", [(50, 40), (40, 50), (32, 32), (1, 1), (3, 500), (500, 3)])
@pytest.mark.parametrize("mode", ["shortest", "longest", "squash"])
def test_with_everything_off_the_pixels_are_those_of_classification(mode: ResizeMode, size: tuple[int, int]) -> None:
    frames = noise(*size, 2)

    ours = augment(frames, recipe_of(mode), OFF, np.random.default_rng(0))

    assert torch.equal(ours, centre(frames, recipe_of(mode)))


@pytest.mark.parametrize("size", [(1, 1), (3, 500), (500, 3), (1, 600)])
@pytest.mark.parametrize("mode", ["shortest", "longest", "squash"])
@pytest.mark.parametrize("side", [1, 2, 32])
def test_frames_of_any_shape_fill_the_square(mode: ResizeMode, size: tuple[int, int], side: int) -> None:
    frames = torch.full((2, size[1], size[0], 3), 90, dtype=torch.uint8)
    augmentation, rng = Augmentation(jitter=False), np.random.default_rng(0)

    ours = torch.stack([augment(frames, recipe_of(mode, side), augmentation, rng) for _ in range(20)])

    assert ours.shape == (20, 2, 3, side, side)
    assert ours.dtype is torch.uint8
    assert bool((ours == 90).all())


def test_equal_frames_stay_equal() -> None:
    frames = noise(50, 40).repeat(4, 1, 1, 1)

    ours = variations(frames, ALL, clips=60)

    assert all(torch.equal(clip, clip[:1].expand_as(clip)) for clip in ours)


def test_clips_differ() -> None:
    ours = variations(noise(50, 40), ALL, clips=60)

    assert len({clip.numpy().tobytes() for clip in ours}) == 60


def test_a_generators_state_decides_and_no_global_one() -> None:
    frames = noise(50, 40, 2)

    first = augment(frames, recipe_of(), ALL, np.random.default_rng(5))
    torch.manual_seed(1)
    np.random.seed(1)
    random.seed(1)
    second = augment(frames, recipe_of(), ALL, np.random.default_rng(5))

    assert torch.equal(first, second)


def test_the_frames_passed_in_stay_as_they_are() -> None:
    frames = noise(40, 40, 2)
    before = frames.clone()

    variations(frames, ALL, clips=10)

    assert torch.equal(frames, before)


def test_every_clip_advances_the_generator_equally() -> None:
    states = []
    for augmentation, size in product(EVERY, [(50, 40), (9, 200)]):
        rng = np.random.default_rng(11)
        for _ in range(20):
            augment(noise(*size), recipe_of(), augmentation, rng)
        states.append(rng.bit_generator.state)

    assert all(state == states[0] for state in states)


@pytest.mark.parametrize("seed", range(12))
def test_a_flip_is_the_same_with_or_without_the_others(seed: int) -> None:
    frames, recipe = noise(50, 40), recipe_of()
    with_flip, without = Augmentation(), Augmentation(flip=False)

    alone = augment(frames, recipe, FLIP, np.random.default_rng(seed))
    flipped, straight = (augment(frames, recipe, a, np.random.default_rng(seed)) for a in (with_flip, without))

    is_mirrored = torch.equal(alone, centre(frames, recipe).flip(-1))
    # A mirrored clip sums its contrast in another order.
    off = flipped.int() - (straight.flip(-1) if is_mirrored else straight).int()
    assert int(off.abs().max()) <= 1


def test_colours_are_the_same_with_or_without_the_others() -> None:
    # A flat clip shows nothing but its colours.
    frames = plain(180, 90, 40)

    alone, together = variations(frames, JITTER, clips=60), variations(frames, ALL, clips=60)

    assert all(int((a.int() - b.int()).abs().max()) <= 1 for a, b in zip(alone, together, strict=True))


@pytest.mark.cuda
@pytest.mark.skipif(not torch.cuda.is_available(), reason="there is no CUDA device here")
@pytest.mark.parametrize("size", [(320, 240), (240, 320), (1, 1), (500, 3), (3, 500)])
@pytest.mark.parametrize("mode", ["shortest", "longest", "squash"])
def test_cuda_agrees_with_the_cpu_within_a_few_levels(mode: ResizeMode, size: tuple[int, int]) -> None:
    frames, recipe = mild(noise(*size, 3)), recipe_of(mode, 224)

    for augmentation, seed in product(EVERY, range(4)):
        on_cpu = augment(frames, recipe, augmentation, np.random.default_rng(seed))
        on_cuda = augment(frames.cuda(), recipe, augmentation, np.random.default_rng(seed))

        off = (on_cuda.cpu().int() - on_cpu.int()).abs()
        assert on_cuda.is_cuda
        assert int(off.max()) <= 8
        assert float(off.float().mean()) < 0.6
