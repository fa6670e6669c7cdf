"""Attention of a Vision Transformer for training: a frame's tokens stay side by side in memory."""

from __future__ import annotations

from open_clip.transformer import VisionTransformer
from torch import Tensor, nn
from torch.nn import functional as F


class PackedAttention(nn.Module):
    """What `attention` computes, with its weights under their names, without moving what it computes with.

    `nn.MultiheadAttention` puts the tokens of all frames in a row first, then copies queries, keys and values apart. A
    large batch's are gigabytes, and each head's tokens then lie megabytes apart.
    """

    def __init__(self, attention: nn.MultiheadAttention) -> None:
        super().__init__()
        self.width, self.heads = attention.embed_dim, attention.num_heads
        self.in_proj_weight, self.in_proj_bias = attention.in_proj_weight, attention.in_proj_bias
        self.out_proj = attention.out_proj

    def forward(
        self, query: Tensor, key: Tensor, value: Tensor, *, need_weights: bool = False, attn_mask: Tensor | None = None
    ) -> tuple[Tensor, None]:
        """Return [B, L, width] for query [B, L, width]; key and value, [B, M, width], are the same."""
        weight, bias = self.in_proj_weight, self.in_proj_bias
        if query is key:
            q, k, v = self._by_head(F.linear(query, weight, bias), 3)
        else:
            (q,) = self._by_head(F.linear(query, weight[: self.width], bias[: self.width]), 1)
            k, v = self._by_head(F.linear(key, weight[self.width :], bias[self.width :]), 2)
        seen = F.scaled_dot_product_attention(q, k, v, attn_mask)  # [B, heads, L, width / heads]
        return F.linear(seen.transpose(1, 2).flatten(2), self.out_proj.weight, self.out_proj.bias), None

    def _by_head(self, projected: Tensor, count: int) -> tuple[Tensor, ...]:
        """Return views [B, heads, L, width / heads] of what lies in one piece: [B, L, count * width]."""
        rows, length, width = projected.shape
        apart = projected.view(rows, length, count, self.heads, width // count // self.heads)
        return apart.permute(2, 0, 3, 1, 4).unbind()


def pack_attention(tower: nn.Module) -> None:
    """Let the blocks of a tower attend that way, where they are of the usual kind; features stay the same."""
    if not isinstance(tower, VisionTransformer):
        return
    for block in tower.transformer.resblocks:
        attention = getattr(block, "attn", None)
        if type(attention) is nn.MultiheadAttention and attention.batch_first:
            block.attn = PackedAttention(attention)
