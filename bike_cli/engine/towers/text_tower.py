"""Text towers of open_clip: how token ids become features. Decisions depend on a tower's attributes, not its class."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from functools import cached_property, partial
from typing import Any, TypeAlias

from open_clip import CustomTextCLIP
from open_clip.coca_model import CoCa
from open_clip.model import CLIP
from torch import Tensor, nn

from bike_cli.engine.towers.neighbours import clip_features, reads_neighbours

CAPTIONER = "text_decoder."  # prefix of the weights of CoCa's second text tower, which features do not depend on
_LARGE_PARTS = ("token_embedding", "transformer")  # of a text tower

ImageTextModel: TypeAlias = CLIP | CustomTextCLIP | CoCa


def text_modules(model: ImageTextModel) -> Any:  # noqa: ANN401 - open_clip has no types
    """Return the module that holds the text tower: `model.text`, or the model itself if it is a plain CLIP."""
    return getattr(model, "text", model)


def image_tower(model: ImageTextModel) -> Callable[[Tensor], Tensor]:
    """Return the function from normalised pixels [B, 3, S, S] to raw features [B, D].

    For a tower whose frames attend to their neighbours, it takes clips, [N, T, 3, S, S], and returns [N * T, D].
    """
    # Unlike a closure, it is copied together with its model.
    if reads_neighbours(model.visual):
        return partial(clip_features, model.visual)
    return partial(model.encode_image, normalize=False)  # CoCa normalises by default


def width_of(model: ImageTextModel) -> int:
    """Return D, the size of an embedding."""
    text = text_modules(model)
    if _description(text) is not None:
        return int(text.output_dim)
    projection = text.text_projection
    if projection is None:
        return text_width(model)
    return int(projection.shape[1] if isinstance(projection, Tensor) else projection.out_features)


def text_width(model: ImageTextModel) -> int:
    """Return the width of the text tower's states, before they are projected to D."""
    text = text_modules(model)
    description = _description(text)
    return int(text.ln_final.weight.shape[0] if description is None else description.hidden_size)


def _description(text: Any) -> Any | None:  # noqa: ANN401
    """Return the transformers configuration of a text tower that it runs; None for a tower of open_clip."""
    return getattr(text, "config", None)


def set_grad_checkpointing(model: ImageTextModel, enabled: bool) -> None:
    """Let towers recompute their activations for gradients, which saves memory, or store them.

    A text tower that transformers runs always stores them. It only recomputes them in training mode, which has dropout,
    and open_clip cannot turn the dropout off.
    """
    of_open_clip = _description(text_modules(model)) is None
    (model if of_open_clip else model.visual).set_grad_checkpointing(enabled)


@dataclass(frozen=True, eq=False)
class TextTower:
    """The text tower of a model; it shares the model's weights."""

    model: ImageTextModel

    @property
    def modules(self) -> Any:  # noqa: ANN401
        """The module with the weights of the tower."""
        return text_modules(self.model)

    @property
    def vocabulary(self) -> int:
        """The number of token ids that it has embeddings for."""
        return int(self.modules.vocab_size)

    @property
    def padding(self) -> int | None:
        """The token id that it treats as padding and does not read; None if it reads padding like any other token."""
        description = _description(self.modules)
        return None if description is None else int(description.pad_token_id)

    @cached_property
    def has_token_features(self) -> bool:
        """Whether every position has a feature of its own that was trained like that of the whole text.

        In a causal tower that is read at the end of text, a position's state is that of the text up to there. In others
        a position sees the whole text, and only one state of each text was ever compared with images.
        """
        text = self.modules
        pooling = getattr(text, "text_pool_type", None) or getattr(text, "pool_type", None)
        has_class_token = getattr(text, "cls_emb", None) is not None
        is_causal = getattr(text, "attn_mask", None) is not None
        return is_causal and not has_class_token and pooling in ("argmax", "eos")

    def place_read(self, row: list[int]) -> int:
        """Return the position that becomes the feature of a whole text, in a tower with features of tokens.

        Source: open_clip's `text_global_pool`.
        """
        text = self.modules
        if (getattr(text, "text_pool_type", None) or text.pool_type) == "argmax":
            return row.index(max(row))
        end = getattr(text, "text_eos_id", None)
        end = text.eos_id if end is None else end
        return row.index(end) if end in row else 0

    def features(self, rows: Tensor) -> Tensor:
        """Return the features [b, D] of texts given as token ids, with a gradient if weights train.

        Args:
            rows: [b, context]; [b, l] for the longest text if the tower does not read the padding.
        """
        features: Tensor = self.model.encode_text(rows, normalize=False)
        return features

    def token_features(self, rows: Tensor) -> Tensor:
        """Return the feature of every position [b, l, D], for a tower that has them.

        Args:
            rows: token ids [b, l]; l may be less than the context, because a position sees only those before it.
        """
        text, length = self.modules, rows.shape[1]
        # The same as open_clip's `encode_text`, projected at every position instead of the last.
        x = text.token_embedding(rows)  # [b, l, width]
        x = text.transformer(x + text.positional_embedding[:length], attn_mask=text.attn_mask[:length, :length])
        x = text.ln_final(x)
        projection = text.text_projection
        if projection is not None:
            x = projection(x) if isinstance(projection, nn.Linear) else x @ projection
        features: Tensor = x
        return features

    def known_tokens(self) -> list[bool]:
        """Return for each token id whether its embedding was trained: untrained ones are zero."""
        text = self.modules
        is_own = _description(text) is None
        embedding = text.token_embedding if is_own else text.transformer.get_input_embeddings()
        weight = embedding.weight.detach()
        known: list[bool] = (weight.abs().amax(dim=1) != 0).tolist()  # in a third of the time of any()
        return known

    @property
    def parameters(self) -> int:
        """The approximate number of its parameters: those of its large modules."""
        parts = [getattr(self.modules, name, None) for name in _LARGE_PARTS]
        return sum(p.numel() for part in parts if part is not None for p in part.parameters())

    @property
    def weights(self) -> dict[str, Tensor]:
        """The weights that the features of texts depend on, by name."""
        others = ("visual.", CAPTIONER, "logit_scale", "logit_bias")
        return {name: weight for name, weight in self.model.state_dict().items() if not name.startswith(others)}

    def release(self) -> None:
        """Free the memory of the tower, which can be most of a multilingual model; it cannot read texts afterwards."""
        for name in _LARGE_PARTS:
            if hasattr(self.modules, name):
                getattr(self.modules, name).to("meta")

    def check_present(self) -> None:
        """Raise ValueError if its memory was freed."""
        if next(self.modules.transformer.parameters()).is_meta:
            raise ValueError("the text tower was released to save memory; load the model again")

    def trains(self) -> bool:
        """Return whether a weight of its transformer learns."""
        return any(parameter.requires_grad for parameter in self.modules.transformer.parameters())
