"""Temporal concept spotting: a label's words find the frames that matter, without a parameter.

Source: BIKE (arXiv:2301.00182), Video Concept Spotting; official modules/video_clip.py, `get_logits`.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from bike_cli.config import Spot
from bike_cli.engine.scoring import unit
from bike_cli.records import TextFeatures

# Numbers held at once for token-frame similarities: 64 MiB of fp32.
CHUNK_NUMBERS = 2**24


def saliency(frames: Tensor, tokens: Tensor, temperature: float, mask: Tensor | None = None) -> Tensor:
    """Return each class's temporal saliency.

    For class c and frame t: the mean over words l of softmax over t of <tokens[c,l], frames[v,t]> / temperature.

    Args:
        frames: [V, T, D] unit vectors, in time order.
        tokens: [C, L, D] unit vectors, one per token position.
        temperature: > 0; smaller is sharper. BIKE uses 0.01.
        mask: bool [C, L], the positions that vote; None: all of them, as BIKE does, padding too.
    Returns:
        [V, C, T], non-negative, summing to 1 over T.
    Raises:
        ValueError: a class without a voting position; a temperature that is not positive.
    Source: BIKE (arXiv:2301.00182), Video Concept Spotting; official modules/video_clip.py, `get_logits`.
    """
    return spotted(frames, Voters.among(tokens, mask), temperature)


@dataclass(frozen=True)
class Voters:
    """The tokens that vote on frames, without those that do not.

    Args:
        blocks: each [C', W, D]: classes that have W voting tokens.
        places: int64 [C], where each class stands among the classes of all blocks, one block behind the other.
    """

    blocks: tuple[Tensor, ...]
    places: Tensor

    @classmethod
    def among(cls, tokens: Tensor, mask: Tensor | None) -> Voters:
        """Return the voters among tokens [C, L, D]; mask: bool [C, L], those that vote; None: all do, and are shared.

        Raises:
            ValueError: a class without a voting token.
        """
        if mask is None:
            return cls((tokens,), torch.arange(len(tokens), device=tokens.device))
        counts = mask.sum(dim=1)  # [C]
        if not bool(counts.all()):
            raise ValueError("a class has no position that votes; mask at least one in each")
        members = [(counts == width).nonzero().flatten() for width in sorted(set(counts.tolist()))]
        blocks = [tokens[of_width][mask[of_width]].reshape(len(of_width), -1, tokens.shape[2]) for of_width in members]
        return cls(tuple(blocks), torch.cat([counts.new_zeros(0), *members]).argsort())

    def of_class(self, i: int) -> Tensor:
        """Return the voters [W, D] of one class."""
        place = int(self.places[i])
        for block in self.blocks:
            if place < len(block):
                return block[place]
            place -= len(block)
        raise IndexError(f"there is no class {i}")


def spotted(frames: Tensor, voters: Voters, temperature: float) -> Tensor:
    """Return each class's temporal saliency [V, C, T]; see `saliency`."""
    if not temperature > 0:
        raise ValueError(f"temperature is {temperature}; spotting needs one above 0")
    views = frames.shape[0] * frames.shape[1]
    parts = [
        _votes(frames, block[i : i + step], temperature)
        for block in voters.blocks
        for step in [max(1, CHUNK_NUMBERS // max(1, views * block.shape[1]))]
        for i in range(0, len(block), step)
    ]
    if not parts:
        return frames.new_zeros(frames.shape[0], 0, frames.shape[1])
    votes = parts[0] if len(parts) == 1 else torch.cat(parts, dim=2)  # [V, T, C]
    return (votes if len(voters.blocks) == 1 else votes[:, :, voters.places]).transpose(1, 2)


def _votes(frames: Tensor, tokens: Tensor, temperature: float) -> Tensor:
    """Return the weight of each frame for each class, [V, T, C], by tokens [C, W, D]."""
    # Frames stay in front of labels: a softmax over the last few numbers of a row is four times slower.
    similarities = frames @ tokens.flatten(0, 1).T  # [V, T, C * W]
    # Over frames, per token: each word votes on when it is visible, then the votes are averaged.
    votes: Tensor = torch.softmax(similarities.div_(temperature), dim=1)
    if tokens.shape[1] == 1:
        return votes
    return votes.reshape(*frames.shape[:2], *tokens.shape[:2]).mean(dim=3)


def concept_scores(frames: Tensor, weights: Tensor, classes: Tensor) -> Tensor:
    """Return the score of each class: the saliency-weighted mean of its cosine with the frames.

    The same number as BIKE's weighted video vector times the class, without a vector for each video and class.

    Args:
        frames: [V, T, D] unit vectors.
        weights: [V, C, T] saliency.
        classes: [C, D] unit vectors.
    Returns:
        [V, C], in [-1, 1].
    """
    return (weights.transpose(1, 2) * (frames @ classes.T)).sum(dim=1)


def mean_scores(frames: Tensor, classes: Tensor) -> Tensor:
    """Return the baseline's scores, unit(mean of the frames) . class, for raw frames [V, T, D]: [V, C]."""
    return unit(frames.mean(dim=1)) @ classes.T


def voters(text: TextFeatures, spot: Spot) -> tuple[Tensor, Tensor | None]:
    """Return the token features [C, L, D] and the mask [C, L] that vote under `spot`.

    `words`: the label's own words. `eot`: the end-of-text feature alone. `all`: every position, as official BIKE.
    """
    if spot == "eot":
        return text.classes[:, None], None
    return text.tokens, text.token_mask if spot == "words" else None
