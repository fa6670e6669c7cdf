"""Small models with random weights, one for each kind of image tower."""

from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path

import open_clip
import open_clip.factory
import open_clip.pretrained
import pytest
import torch
from safetensors.torch import save_file

from bike_cli.config import Recipe
from bike_cli.engine.engine import Engine, assemble
from bike_cli.engine.heads.bike import AttributeHead, TemporalTransformer
from bike_cli.engine.models.checkpoints import open_checkpoint
from bike_cli.engine.models.folder import save_folder
from bike_cli.engine.models.parts import Checkpoint, build_clip
from bike_cli.engine.towers.placement import place
from bike_cli.engine.towers.transforms import ImageRecipe

ARCH, TAG = "bike-test-quickgelu", "nobodys"
INCEPTION = {"mean": (0.5, 0.5, 0.5), "std": (0.5, 0.5, 0.5), "interpolation": "bilinear", "resize_mode": "squash"}
TOWERS: Mapping[str, Mapping[str, object]] = {
    "vit": {"image_size": 32, "layers": 2, "width": 64, "head_width": 32, "patch_size": 16},
    "resnet": {"image_size": 64, "layers": [1, 1, 1, 1], "width": 16, "patch_size": None},
    "convnext": {"image_size": 64, "timm_model_name": "convnext_atto", "timm_pool": "", "timm_proj": "linear"},
}


def tiny_config(tower: str = "vit") -> dict[str, object]:
    text = {"context_length": 77, "vocab_size": 49408, "width": 64, "heads": 1, "layers": 2}
    return {"embed_dim": 48, "vision_cfg": dict(TOWERS[tower]), "text_cfg": text, "quick_gelu": tower == "vit"}


def tiny_checkpoint(tower: str = "vit") -> Checkpoint:
    torch.manual_seed(7)
    config = tiny_config(tower)
    clip = build_clip(config, "test").eval()
    with torch.no_grad():
        clip.positional_embedding.normal_(std=0.3)  # so that order matters
    side = open_clip.transform.to_2tuple(clip.visual.image_size)[0]
    image = ImageRecipe(side, (0.4, 0.5, 0.6), (0.2, 0.3, 0.25))
    return Checkpoint(
        name="small one",
        clip=clip,
        clip_config=config,
        image=image,
        recipe=Recipe(spot="words", temperature=0.05),
        temporal_head=TemporalTransformer(48, 4).eval(),
        attribute_head=AttributeHead(48).eval(),
        licence="MIT",
    )


def write_tiny(folder: Path, *, scale: float = 1, name: str = "mine") -> Path:
    """Write a copy of the bundled model to a folder, with a scaled projection of the texts."""
    checkpoint = replace(open_checkpoint("tiny"), name=name)
    checkpoint.clip.text_projection.data *= scale
    save_folder(folder, checkpoint)
    return folder


def assembled(checkpoint: Checkpoint) -> Engine:
    """Return the engine of a checkpoint, on the CPU in fp32."""
    return assemble(checkpoint, place("cpu", "fp32"))


def register(patch: pytest.MonkeyPatch) -> None:
    """Register an architecture and a tag for tests with open_clip."""
    pretrained = {"hf_hub": "nobody/bike-test/", "quick_gelu": True, **INCEPTION}
    patch.setitem(open_clip.factory._MODEL_CONFIGS, ARCH, tiny_config())
    patch.setitem(open_clip.factory._MODEL_CONFIGS, "bike-test", {**tiny_config(), "quick_gelu": False})
    patch.setitem(open_clip.pretrained._PRETRAINED, ARCH, {TAG: pretrained})
    patch.setitem(open_clip.pretrained._PRETRAINED, "bike-test", {TAG: pretrained, "plain": {"hf_hub": "n/p/"}})


def put_in_cache(hub: Path, checkpoint: Checkpoint) -> Path:
    repository = hub / "models--nobody--bike-test"
    file = repository / "snapshots" / "abc" / "open_clip_model.safetensors"
    file.parent.mkdir(parents=True)
    (repository / "refs").mkdir()
    (repository / "refs" / "main").write_text("abc")
    save_file(checkpoint.clip.state_dict(), file)
    return file
