"""The trained modules that BIKE adds to CLIP; parameter names are those of official checkpoints."""

from __future__ import annotations

from functools import partial

from open_clip.transformer import QuickGELU, Transformer
from torch import Tensor, nn

from bike_cli.engine.scoring import unit

TEMPORAL_LAYERS = 6  # BIKE's, whatever the depth of the CLIP below
MAX_FRAMES = 77  # the official position table has CLIP's context length
LAYER_NORM_EPS = 1e-12  # not CLIP's 1e-5; the difference shows on features of small norm


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
        norm = partial(nn.LayerNorm, eps=LAYER_NORM_EPS)
        self.transformer = Transformer(width, TEMPORAL_LAYERS, heads, act_layer=QuickGELU, norm_layer=norm)
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
