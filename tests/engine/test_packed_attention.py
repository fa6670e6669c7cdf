"""Attention whose tokens stay in one piece is the attention it was."""

import torch
from torch import nn

from bike_cli.engine.packed_attention import PackedAttention


def test_it_attends_as_before() -> None:
    torch.manual_seed(0)
    plain = nn.MultiheadAttention(48, 6, batch_first=True)
    nn.init.normal_(plain.in_proj_bias)
    x, token = torch.randn(5, 7, 48), torch.randn(5, 1, 48)

    packed = PackedAttention(plain)

    assert packed.state_dict().keys() == plain.state_dict().keys()
    torch.testing.assert_close(packed(x, x, x)[0], plain(x, x, x, need_weights=False)[0], rtol=1e-5, atol=1e-6)
    of_one = plain(token, x, x, need_weights=False)[0]
    torch.testing.assert_close(packed(token, x, x)[0], of_one, rtol=1e-5, atol=1e-6)
