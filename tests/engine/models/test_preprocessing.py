"""Frames of weights in a file are prepared as for other weights of their architecture."""

import logging
import re
from pathlib import Path
from types import SimpleNamespace

import open_clip
import pytest
import timm
import torch

from bike_cli.engine.models.catalogue import construct
from bike_cli.engine.models.open_clip.preprocessing import image_recipe, input_size, preprocessing_for_file


@pytest.mark.parametrize("arch", sorted({arch for arch, _ in open_clip.list_pretrained()}))
def test_a_file_is_prepared_like_every_tag_of_its_architecture(
    arch: str, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    tower = SimpleNamespace(image_size=224)
    tags = [open_clip.get_pretrained_cfg(arch, tag) for tag in open_clip.list_pretrained_tags_by_model(arch)]
    expected = {image_recipe(tag, tower, arch) for tag in tags}  # type: ignore[arg-type]

    ours = image_recipe(preprocessing_for_file(arch, tmp_path / "model.pt"), tower, arch)  # type: ignore[arg-type]

    openais = image_recipe({}, tower, arch)  # type: ignore[arg-type]
    assert ours == (expected.pop() if len(expected) == 1 else openais)
    assert bool(caplog.records) == (ours != openais or bool(expected))


def test_weights_of_three_architectures_do_not_agree(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    for arch in {arch for arch, _ in open_clip.list_pretrained()}:
        preprocessing_for_file(arch, tmp_path / "model.pt")

    warned = re.findall(r"OpenAI's models, but weights of (\S+) differ", caplog.text)
    assert sorted(warned) == ["ViT-H-14", "ViT-H-14-quickgelu", "ViT-L-14"]


def test_the_line_says_which_preprocessing_and_why(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    with caplog.at_level(logging.WARNING):
        preprocessing_for_file("PE-Core-B-16", tmp_path / "pe.pt")
        preprocessing_for_file("ViT-H-14", tmp_path / "h.pt")

    of_pe, of_h = (record.getMessage() for record in caplog.records)
    assert "uses the preprocessing of other weights of PE-Core-B-16 (mean (0.5, 0.5, 0.5), " in of_pe
    assert "interpolation bilinear, resize_mode squash); to change that, put the open_clip_config.json" in of_pe
    assert "uses the preprocessing of OpenAI's models, but weights of ViT-H-14 differ" in of_h


def test_the_input_of_a_tower_is_that_of_timm_where_it_takes_one_size_only() -> None:
    sizes = {}
    for arch in open_clip.list_models():
        vision = open_clip.get_model_config(arch)["vision_cfg"]
        if "timm_model_name" in vision:
            described = timm.models.get_pretrained_cfg(vision["timm_model_name"])
            trunk = SimpleNamespace(pretrained_cfg={} if described is None else described.to_dict())
            tower = SimpleNamespace(trunk=trunk, image_size=vision.get("image_size", 224))
            sizes[arch] = (input_size(tower), tower.image_size)  # type: ignore[arg-type]

    differing = {arch: found for arch, (found, size) in sizes.items() if found != (size, size)}
    assert differing == {"ViTamin-XL-384": (384, 384)}  # open_clip 3.3 has 256


def test_vitamin_xl_takes_384_pixels() -> None:
    config = open_clip.get_model_config("ViTamin-XL-384")
    config["text_cfg"] = {"width": 32, "heads": 2, "layers": 1}
    with torch.device("meta"):
        tower = construct(config).visual

    assert image_recipe({}, tower, "ViTamin-XL-384").side == 384
