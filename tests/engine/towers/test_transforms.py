"""Frames are resized, cropped and normalised as each model's own recipe says."""

import copy
import hashlib
from dataclasses import asdict, replace
from pathlib import Path

import numpy as np
import open_clip
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray
from open_clip.transform import PreprocessCfg, image_transform_v2, merge_preprocess_dict
from PIL import Image
from text_configs import random_model, small_config

from bike_cli.engine.models.open_clip.preprocessing import image_recipe
from bike_cli.engine.towers import transforms
from bike_cli.engine.towers.encoder import adapt
from bike_cli.engine.towers.placement import place
from bike_cli.engine.towers.tokenizers import OpenAITokenizer
from bike_cli.engine.towers.transforms import ImageRecipe, ResizeMode, Resizer, normalise, views
from bike_cli.errors import UsageError

CPU = torch.device("cpu")
RESIZERS: tuple[Resizer, ...] = ("pil", "torch")
MEAN, STD = (0.48145466, 0.4578275, 0.40821073), (0.26862954, 0.26130258, 0.27577711)
OFFICIAL = [(frame, 224) for frame in ("W340_H256", "W256_H340", "W640_H480", "W224_H224", "W100_H80", "W403_H300")]
OFFICIAL += [("W340_H256", 336), ("W100_H80", 336)]
SIZES = [(340, 256), (90, 160), (224, 224), (37, 41), (1, 1), (300, 40)]


def noise(width: int, height: int, count: int = 1) -> NDArray[np.uint8]:
    return np.random.default_rng(width * height).integers(0, 256, (count, height, width, 3), dtype=np.uint8)


def bike_recipe(side: int) -> ImageRecipe:
    return ImageRecipe(side, MEAN, STD, resize_side=256 if side == 224 else None)


def sha256(pixels: torch.Tensor) -> str:
    return hashlib.sha256(pixels.numpy().tobytes()).hexdigest()


@pytest.mark.parametrize(("kind", "crops"), [("eval", 1), ("crop3", 3)])
@pytest.mark.parametrize(("frame", "side"), OFFICIAL)
def test_official_pixels_are_equal_bit_by_bit(golden: Path, frame: str, side: int, kind: str, crops: int) -> None:
    with np.load(golden / "golden_transforms.npz") as file:
        pixels, expected = file[f"{frame}_frame_u8"], str(file[f"{frame}_{kind}_{side}_u8_sha256"])

    ours = views(pixels[None], bike_recipe(side), crops=crops, device=CPU)

    assert sha256(ours) == expected


@pytest.mark.parametrize(("kind", "crops"), [("eval", 1), ("crop3", 3)])
def test_official_order_of_several_frames_and_crops(golden: Path, kind: str, crops: int) -> None:
    with np.load(golden / "golden_transforms.npz") as file:
        pixels, expected = file["group3_frames_u8"], str(file[f"group3_{kind}_224_u8_sha256"])

    assert sha256(views(pixels, bike_recipe(224), crops=crops, device=CPU)) == expected


@pytest.mark.parametrize(("frame", "side"), OFFICIAL)
def test_official_values_after_normalisation(golden: Path, frame: str, side: int) -> None:
    with np.load(golden / "golden_transforms.npz") as file:
        pixels, key = file[f"{frame}_frame_u8"], f"{frame}_eval_{side}"
        index, expected = file[f"{key}_index"], file[f"{key}_value"]

    ours = normalise(views(pixels[None], bike_recipe(side), crops=1, device=CPU), bike_recipe(side))

    assert np.abs(ours.flatten().numpy()[index] - expected).max() < 1e-6


@pytest.mark.parametrize("size", [*SIZES, (1920, 1080), (3, 700)])
@pytest.mark.parametrize("crops", [1, 3])
def test_torch_resizes_as_pil_to_within_rounding(size: tuple[int, int], crops: int) -> None:
    frames = noise(*size, count=2)

    by_pil, by_torch = (
        views(frames, bike_recipe(32), crops=crops, device=CPU, resizer=resizer).int() for resizer in RESIZERS
    )

    assert (by_pil - by_torch).abs().max() <= 2
    assert (by_pil - by_torch).abs().float().mean() < 0.05


@pytest.mark.parametrize("mode", ["longest", "squash"])
def test_torch_pads_and_squashes_as_pil(mode: ResizeMode) -> None:
    recipe = ImageRecipe(32, MEAN, STD, interpolation="bilinear", resize_mode=mode, fill=7)

    by_pil, by_torch = (
        views(noise(90, 160), recipe, crops=1, device=CPU, resizer=resizer).int() for resizer in RESIZERS
    )

    assert (by_pil - by_torch).abs().max() <= 2


def test_frames_stay_in_order_within_each_crop() -> None:
    frames = np.stack([np.full((80, 100, 3), shade, dtype=np.uint8) for shade in (10, 20, 30)])

    ours = views(frames, bike_recipe(32), crops=3, device=CPU)

    assert ours[:, 0, 0, 0].tolist() == [10, 20, 30] * 3


def tag_preprocessing(arch: str, tag: str) -> PreprocessCfg:
    size = open_clip.get_model_config(arch)["vision_cfg"]["image_size"]
    tagged = {**open_clip.get_pretrained_cfg(arch, tag), "size": size}
    return PreprocessCfg(**merge_preprocess_dict(PreprocessCfg(), tagged))


def different_tags() -> list[tuple[str, str]]:
    """Return a tag for each way to prepare frames that any weights of open_clip have."""
    by_recipe = {}
    for arch, tag in open_clip.list_pretrained():
        known = open_clip.get_pretrained_cfg(arch, tag)
        by_recipe.setdefault(tuple(known[key] for key in ("mean", "std", "interpolation", "resize_mode")), (arch, tag))
    return list(by_recipe.values())


TAGS = different_tags()


def test_open_clip_has_eight_ways_to_prepare_frames() -> None:
    assert len(TAGS) == 8


@pytest.mark.parametrize("size", SIZES)
@pytest.mark.parametrize(("arch", "tag"), TAGS)
def test_the_transform_of_a_tag(arch: str, tag: str, size: tuple[int, int]) -> None:
    preprocess, frames = tag_preprocessing(arch, tag), noise(*size)
    recipe = ImageRecipe.from_open_clip(asdict(preprocess))

    ours = normalise(views(frames, recipe, crops=1, device=CPU), recipe)

    expected = image_transform_v2(preprocess, is_train=False)(Image.fromarray(frames[0]))
    assert torch.allclose(ours[0], expected, atol=1e-6)


@torch.no_grad()
@pytest.mark.parametrize(("arch", "tag"), [*TAGS, ("coca_ViT-B-32", "laion2b_s13b_b90k")])
def test_features_of_a_tag_are_those_of_open_clip(arch: str, tag: str) -> None:
    config, frames = small_config(arch), noise(160, 120, count=2)
    config["text_cfg"]["vocab_size"] = 49_408  # that of the tokenizer, which frames do not need
    model = random_model(config)
    recipe = image_recipe(open_clip.get_pretrained_cfg(arch, tag), model.visual, arch)
    tokenizer = OpenAITokenizer(model.context_length)
    encoder = adapt(copy.deepcopy(model), tokenizer=tokenizer, recipe=recipe, placement=place("cpu", "fp32"))

    ours = encoder.encode_frames(frames)

    transform = image_transform_v2(replace(tag_preprocessing(arch, tag), size=recipe.side), is_train=False)
    pixels = torch.stack([transform(Image.fromarray(frame)) for frame in frames])
    assert torch.allclose(ours, model.encode_image(pixels, normalize=False), atol=1e-6, rtol=1e-5)
    assert not torch.allclose(ours.norm(dim=-1), torch.ones(2), atol=0.01)  # raw: not of unit length


@pytest.mark.parametrize("size", SIZES)
def test_longest_pads_as_open_clip(size: tuple[int, int]) -> None:
    preprocess, frames = PreprocessCfg(size=64, resize_mode="longest", fill_color=90), noise(*size)
    recipe = ImageRecipe.from_open_clip(asdict(preprocess))

    ours = normalise(views(frames, recipe, crops=1, device=CPU), recipe)

    expected = image_transform_v2(preprocess, is_train=False)(Image.fromarray(frames[0]))
    assert torch.allclose(ours[0], expected, atol=1e-6)


@pytest.mark.parametrize("size", [(1, 1), (1, 4000), (4000, 1), (3000, 2)])
@pytest.mark.parametrize("mode", ["shortest", "longest", "squash"])
def test_frames_of_any_shape_fill_the_square(size: tuple[int, int], mode: str) -> None:
    frames = np.full((2, size[1], size[0], 3), 77, dtype=np.uint8)
    recipe = ImageRecipe(224, MEAN, STD, resize_mode=mode, fill=77)  # type: ignore[arg-type]

    ours = views(frames, recipe, crops=1, device=CPU)

    assert ours.shape == (2, 3, 224, 224)
    assert bool((ours == 77).all())


def test_only_the_visible_part_of_a_strip_is_resized_with_the_same_pixels() -> None:
    frames, recipe = noise(900, 20), ImageRecipe(24, MEAN, STD)  # 1080 pixels wide when resized: more than 16 sides

    ours = views(frames, recipe, crops=3, device=CPU)

    whole = np.asarray(Image.fromarray(frames[0]).resize((1080, 24), Image.Resampling.BICUBIC)).astype(int)
    expected = [whole[:, x : x + 24].transpose(2, 0, 1) for x in (0, 1056, 528)]
    assert np.abs(ours.numpy() - np.stack(expected)).max() <= 1


@pytest.mark.parametrize("mode", ["longest", "squash"])
def test_three_crops_of_a_model_that_sees_whole_frames_are_refused(mode: str) -> None:
    recipe = ImageRecipe(16, MEAN, STD, resize_mode=mode)  # type: ignore[arg-type]

    with pytest.raises(UsageError, match="crops is 3"):
        views(noise(30, 20), recipe, crops=3, device=CPU)


@settings(max_examples=30)
@given(width=st.integers(1, 90), height=st.integers(1, 90), crops=st.sampled_from([1, 3]))
def test_no_frame_size_breaks_the_crop(width: int, height: int, crops: int) -> None:
    ours = views(noise(width, height), ImageRecipe(16, MEAN, STD, resize_side=18), crops=crops, device=CPU)

    assert ours.shape == (crops, 3, 16, 16)


def test_tensors_agree_with_pil_within_a_rounding_error() -> None:
    # The code path of CUDA, run on the CPU.
    from bike_cli.engine.towers.transforms import _on_cuda, crop_corners, size_after_resize

    frames, recipe = noise(340, 200, 2), bike_recipe(224)
    size = size_after_resize(340, 200, recipe)

    ours = _on_cuda(torch.from_numpy(frames), size, crop_corners(size, recipe, 3), recipe)

    expected = views(frames, recipe, crops=3, device=CPU)
    difference = (ours.int() - expected.int()).abs()
    assert float(difference.float().mean()) < 0.01
    assert int(difference.max()) <= 2


@pytest.mark.parametrize(
    "wrong", [{"side": 0}, {"std": (1.0, 0.0, 1.0)}, {"resize_mode": "stretch"}, {"resize_side": 8}, {"mean": (0.5,)}]
)
def test_an_impossible_recipe_is_refused(wrong: dict[str, object]) -> None:
    with pytest.raises(ValueError, match=rf"^{next(iter(wrong))} is "):
        ImageRecipe(**{"side": 16, "mean": MEAN, "std": STD, **wrong})  # type: ignore[arg-type]


def test_an_input_that_is_not_square_is_refused() -> None:
    with pytest.raises(ValueError, match="not square"):
        ImageRecipe.from_open_clip({**asdict(PreprocessCfg()), "size": (224, 112)})


@pytest.mark.parametrize("lengths", [[3], [1, 0, 4], [5] * 9])
def test_arrays_are_copied_one_after_the_other_by_several_threads(lengths: list[int]) -> None:
    parts = [np.random.default_rng(i).integers(0, 256, (n, 6, 8, 3), np.uint8) for i, n in enumerate(lengths)]
    target = np.zeros((sum(lengths), 6, 8, 3), np.uint8)

    transforms._fill(target, parts)

    assert np.array_equal(target, np.concatenate(parts))
