"""Parts that train faster on a GPU compute the same as the parts that they replace."""

import copy

import torch
from torch import Tensor, nn

from bike_cli.engine.engine import Engine
from bike_cli.engine.towers.speedups import PackedAttention, PatchProduct, pack


def test_packed_attention_attends_as_before() -> None:
    torch.manual_seed(0)
    plain = nn.MultiheadAttention(48, 6, batch_first=True)
    nn.init.normal_(plain.in_proj_bias)
    x, token = torch.randn(5, 7, 48), torch.randn(5, 1, 48)

    packed = PackedAttention(plain)

    torch.testing.assert_close(packed(x, x, x)[0], plain(x, x, x, need_weights=False)[0], rtol=1e-5, atol=1e-6)
    of_one = plain(token, x, x, need_weights=False)[0]
    torch.testing.assert_close(packed(token, x, x)[0], of_one, rtol=1e-5, atol=1e-6)


def test_a_product_of_patches_equals_the_convolution() -> None:
    torch.manual_seed(0)
    convolution = nn.Conv2d(3, 24, 8, stride=8, bias=False)
    pixels = torch.randn(2, 3, 40, 40)

    torch.testing.assert_close(PatchProduct(convolution)(pixels), convolution(pixels), rtol=1e-5, atol=1e-5)


def seen_by(tower: nn.Module, pixels: Tensor) -> tuple[Tensor, dict[str, Tensor]]:
    """Return features, and the gradients of their squares."""
    features = tower(pixels)
    features.square().sum().backward()
    return features.detach(), {name: p.grad for name, p in tower.named_parameters() if p.grad is not None}


def test_a_packed_tower_has_the_same_features_gradients_and_weights(tiny: Engine) -> None:
    plain = copy.deepcopy(tiny.encoder.model.visual)
    packed = copy.deepcopy(plain)
    pixels = torch.randn(3, 3, 64, 64, generator=torch.Generator().manual_seed(0))

    pack(packed)

    assert type(packed.conv1) is PatchProduct
    assert all(type(block.attn) is PackedAttention for block in packed.transformer.resblocks)
    assert list(packed.state_dict()) == list(plain.state_dict())
    (features, gradients), (wanted, wanted_gradients) = seen_by(packed, pixels), seen_by(plain, pixels)
    torch.testing.assert_close(features, wanted, rtol=1e-4, atol=1e-5)
    length = torch.cat([g.flatten() for g in wanted_gradients.values()]).norm()
    assert gradients.keys() == wanted_gradients.keys()
    for name, gradient in wanted_gradients.items():
        assert float((gradients[name] - gradient).norm() / length) < 1e-5, name


def test_patches_that_do_not_tile_the_image_stay_a_convolution(tiny: Engine) -> None:
    tower = copy.deepcopy(tiny.encoder.model.visual)
    tower.image_size = (65, 65)

    pack(tower)

    assert type(tower.conv1) is nn.Conv2d
