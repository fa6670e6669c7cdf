"""Image towers whose frames also attend to the frames before and after them.

In every block, the keys and values of frames t + 1, t - 1 and t of a clip are joined. Where a clip has no such frame,
they are zeros, which take part in the softmax like any others. A single frame therefore gives another result than a
plain CLIP. This adds no parameters, so the weights have the names and shapes of a plain CLIP.

Source: Open-VCLIP (arXiv:2302.00624); FROSTER (arXiv:2402.03241) has the same tower.
"""

from __future__ import annotations

import torch
from open_clip.transformer import ResidualAttentionBlock, VisionTransformer
from torch import Tensor, nn
from torch.nn import functional as F

from bike_cli.engine.towers.speedups import PackedAttention
from bike_cli.errors import UsageError


class NeighbourAttention(PackedAttention):
    """Attention to the tokens of a frame and of its neighbours, with the parameters of `attention`.

    It takes whole clips. Single frames are an error, so that no code can compute a plain CLIP by mistake.
    """

    def forward(
        self, query: Tensor, key: Tensor, value: Tensor, *, need_weights: bool = False, attn_mask: Tensor | None = None
    ) -> tuple[Tensor, None]:
        """Return [N, T, L, width] for N clips; query, key and value are the same."""
        if query.ndim != 4 or query is not key or query is not value or attn_mask is not None:
            raise ValueError(f"tokens are {list(query.shape)}; this tower takes whole clips, [N, T, L, width]")
        q, k, v = F.linear(query, self.in_proj_weight, self.in_proj_bias).chunk(3, dim=-1)
        seen = F.scaled_dot_product_attention(self._frames(q), self._around(k), self._around(v))
        return F.linear(seen.transpose(1, 2).reshape(query.shape), self.out_proj.weight, self.out_proj.bias), None

    def _around(self, tokens: Tensor) -> Tensor:
        """Return the tokens of each frame's neighbourhood: [N * T, heads, 3 * L, width / heads]."""
        padded = F.pad(tokens, (0, 0, 0, 0, 1, 1))  # [N, T + 2, L, width]; the projection's bias is not added to zeros
        return self._frames(torch.cat([padded[:, 2:], padded[:, :-2], tokens], dim=2))

    def _frames(self, tokens: Tensor) -> Tensor:
        """Return [N * T, heads, L, width / heads] for tokens [N, T, L, width]."""
        (frames,) = self._by_head(tokens.flatten(0, 1), 1)
        return frames


def reads_neighbours(tower: nn.Module) -> bool:
    """Return whether the frames of an image tower attend to their neighbours."""
    return isinstance(tower, VisionTransformer) and isinstance(tower.transformer.resblocks[0].attn, NeighbourAttention)


def can_read_neighbours(tower: nn.Module) -> bool:
    """Return whether an image tower is a plain Vision Transformer, as OpenAI's CLIP has it."""
    if not isinstance(tower, VisionTransformer) or tower.attn_pool is not None or tower.pool_type != "tok":
        return False
    blocks = tower.transformer.resblocks
    is_plain = all(type(b) is ResidualAttentionBlock and isinstance(b.ls_1, nn.Identity) for b in blocks)
    return is_plain and len(blocks) > 0 and tower.transformer.batch_first and not tower.final_ln_after_pool


def read_neighbours(tower: VisionTransformer) -> None:
    """Let frames attend to their neighbours, in place; see `can_read_neighbours`. Names of weights stay the same."""
    for block in tower.transformer.resblocks:
        block.attn = NeighbourAttention(block.attn)


def clip_features(tower: VisionTransformer, pixels: Tensor) -> Tensor:
    """Return the raw features [N * T, D] of the frames of clips, normalised pixels [N, T, 3, S, S]."""
    x = tower.conv1(pixels.flatten(0, 1)).flatten(2).transpose(1, 2)  # [N * T, patches, width]
    x = torch.cat([tower.class_embedding.to(x.dtype).expand(len(x), 1, -1), x], dim=1)
    x = tower.ln_pre(x + tower.positional_embedding.to(x.dtype))
    x = x.reshape(*pixels.shape[:2], *x.shape[1:])
    for block in tower.transformer.resblocks:
        x = block(x)  # [N, T, 1 + patches, width]
    features: Tensor = tower.ln_post(x[:, :, 0].flatten(0, 1)) @ tower.proj
    return features


def check_trainable(tower: nn.Module, model: str) -> None:
    """Raise UsageError if the video branch of a model cannot be trained, because it trains frame by frame."""
    if reads_neighbours(tower):
        raise UsageError(
            f"{model}: its frames attend to their neighbours, but bike only trains image towers that read each frame "
            "alone; use bike fewshot --method probe, which learns from frozen features, or train another model"
        )
