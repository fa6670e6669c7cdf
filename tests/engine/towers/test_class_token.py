"""The last block is computed for the class token alone, if nothing else of it is read."""

from collections.abc import Mapping

import pytest
import torch
from open_clip.model import CLIP
from small_models import TOWERS, tiny_config
from torch import Tensor

from bike_cli.engine.models.parts import build_clip
from bike_cli.engine.towers.speedups import answer_for_class_token

OTHERS: Mapping[str, Mapping[str, object]] = {  # towers that read all tokens of the last block, or have no such block
    "mean of patches": {**TOWERS["vit"], "pool_type": "avg"},
    "attention over tokens": {**TOWERS["vit"], "attentional_pool": True, "attn_pooler_heads": 2},
    "blocks of another kind": {**TOWERS["vit"], "scale_fc": True},
    "resnet": TOWERS["resnet"],
    "convnext": TOWERS["convnext"],
}


def small_clip(tower: Mapping[str, object]) -> CLIP:
    torch.manual_seed(3)
    clip = build_clip({**tiny_config("vit"), "vision_cfg": dict(tower)}, "test")
    return clip.eval()


def pixels(clip: CLIP) -> Tensor:
    side = clip.visual.image_size
    return torch.randn(3, 3, *((side, side) if isinstance(side, int) else side), generator=torch.manual_seed(4))


def tokens_in_mlps(clip: CLIP) -> list[int]:
    counts: list[int] = []
    for block in clip.visual.transformer.resblocks:
        block.mlp.register_forward_hook(lambda _, inputs, __: counts.append(inputs[0].shape[1]))
    clip.encode_image(pixels(clip))
    return counts


@torch.no_grad()
def test_features_are_those_of_the_whole_block() -> None:
    clip = small_clip(TOWERS["vit"])
    expected = clip.encode_image(pixels(clip))

    answer_for_class_token(clip.visual)

    assert torch.allclose(clip.encode_image(pixels(clip)), expected, atol=1e-5)


@torch.no_grad()
def test_patches_are_left_out_of_the_last_block() -> None:
    clip = small_clip(TOWERS["vit"])

    answer_for_class_token(clip.visual)

    assert tokens_in_mlps(clip) == [5, 1]  # 2 x 2 patches and the class token, then that alone


def test_weights_keep_their_names_and_gradients() -> None:
    whole, clip = small_clip(TOWERS["vit"]), small_clip(TOWERS["vit"])

    answer_for_class_token(clip.visual)
    answer_for_class_token(clip.visual)  # once more changes nothing
    for one in (whole, clip):
        one.encode_image(pixels(one)).square().sum().backward()

    theirs, ours = dict(whole.visual.named_parameters()), dict(clip.visual.named_parameters())
    assert list(ours) == list(theirs)
    assert all(torch.allclose(ours[name].grad, theirs[name].grad, rtol=1e-3, atol=1e-5) for name in theirs)


@torch.no_grad()
@pytest.mark.parametrize("tower", OTHERS)
def test_other_towers_stay_as_they_are(tower: str) -> None:
    clip = small_clip(OTHERS[tower])
    before, expected = repr(clip.visual), clip.encode_image(pixels(clip))

    answer_for_class_token(clip.visual)

    assert repr(clip.visual) == before
    assert torch.equal(clip.encode_image(pixels(clip)), expected)
