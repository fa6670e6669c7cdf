"""The trained modules that BIKE adds to CLIP; parameter names are those of official checkpoints."""

from __future__ import annotations

from collections import OrderedDict

import torch
from torch import Tensor, nn

from bike_cli.engine.scoring import unit

TEMPORAL_LAYERS = 6  # BIKE's, whatever the depth of the CLIP below
MAX_FRAMES = 77  # the official position table has CLIP's context length
LAYER_NORM_EPS = 1e-12  # not CLIP's 1e-5; the difference shows on features of small norm


class QuickGELU(nn.Module):
    """x * sigmoid(1.702 x), the activation that OpenAI's CLIP was trained with."""

    def forward(self, x: Tensor) -> Tensor:
        """Return the activation, of the shape of `x`."""
        return x * torch.sigmoid(1.702 * x)


class ResidualAttentionBlock(nn.Module):
    """One pre-LN transformer block, non-causal over frames."""

    def __init__(self, width: int, heads: int) -> None:
        super().__init__()
        self.attn = nn.MultiheadAttention(width, heads, batch_first=True)
        self.ln_1 = nn.LayerNorm(width, eps=LAYER_NORM_EPS)
        self.mlp = nn.Sequential(
            OrderedDict(c_fc=nn.Linear(width, 4 * width), gelu=QuickGELU(), c_proj=nn.Linear(4 * width, width))
        )
        self.ln_2 = nn.LayerNorm(width, eps=LAYER_NORM_EPS)

    def forward(self, x: Tensor) -> Tensor:
        """Return x: [V, T, D] after attention and MLP, each with its skip."""
        y = self.ln_1(x)
        x = x + self.attn(y, y, y, need_weights=False)[0]
        return x + self.mlp(self.ln_2(x))  # type: ignore[no-any-return]


class Transformer(nn.Module):
    """A stack of blocks, under the name that official checkpoints use."""

    def __init__(self, width: int, layers: int, heads: int) -> None:
        super().__init__()
        self.resblocks = nn.Sequential(*(ResidualAttentionBlock(width, heads) for _ in range(layers)))

    def forward(self, x: Tensor) -> Tensor:
        """Return x: [V, T, D] after every block."""
        return self.resblocks(x)  # type: ignore[no-any-return]


class TemporalTransformer(nn.Module):
    """Relate the frames of a video to one another: F + Blocks(F + positions).

    Args:
        width: embedding size D.
        heads: attention heads; the official code takes the text tower's width / 64.
    Source: BIKE, the `Transf` head of official modules/video_clip.py.
    """

    def __init__(self, width: int, heads: int) -> None:
        super().__init__()
        self.heads = heads
        self.frame_position_embeddings = nn.Embedding(MAX_FRAMES, width)
        self.transformer = Transformer(width, TEMPORAL_LAYERS, heads)
        self.apply(_initialise)

    def forward(self, frames: Tensor) -> Tensor:
        """Return raw features [V, T, D] after attention over the frames; same shape.

        Raises:
            ValueError: more frames than positions.
        """
        count = frames.shape[1]
        if count > MAX_FRAMES:
            raise ValueError(f"{count} frames; the temporal head has positions for {MAX_FRAMES}: ask for fewer frames")
        positions = self.frame_position_embeddings.weight[:count]  # [T, D]
        return frames + self.transformer(frames + positions)  # type: ignore[no-any-return]


class AttributeHead(nn.Module):
    """A trained map of attribute sentences and class texts into a common space.

    Source: BIKE, attributes branch; official `query_fc` (class side) and `sentence_fc` (sentence side).
    """

    def __init__(self, width: int) -> None:
        super().__init__()
        self.query_fc = _two_layers(width)
        self.sentence_fc = _two_layers(width)
        self.apply(_initialise)

    def forward(self, sentences: Tensor, classes: Tensor) -> Tensor:
        """Return cosines [V, C] of raw sentences [V, D] and raw classes [C, D]."""
        sentences = unit(self.sentence_fc(unit(sentences)))  # [V, D]
        classes = unit(self.query_fc(unit(classes)))  # [C, D]
        return sentences @ classes.T


def _two_layers(width: int) -> nn.Sequential:
    return nn.Sequential(nn.Linear(width, width), nn.ReLU(), nn.Linear(width, width))


def _initialise(module: nn.Module) -> None:
    # As the official code: the fused qkv matrix is not a Linear and keeps PyTorch's Xavier values.
    if isinstance(module, (nn.Linear, nn.Embedding)):
        nn.init.normal_(module.weight, std=0.02)
    if isinstance(module, nn.Linear):
        nn.init.zeros_(module.bias)
