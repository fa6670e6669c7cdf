"""Temporal concept spotting: a label's words find the frames that matter, without a parameter.

Source: BIKE (arXiv:2301.00182), Video Concept Spotting; official modules/video_clip.py, `get_logits`.
"""

from __future__ import annotations

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
    if not temperature > 0:
        raise ValueError(f"temperature is {temperature}; spotting needs one above 0")
    if mask is not None and not bool(mask.any(dim=1).all()):
        raise ValueError("a class has no position that votes; mask at least one in each")
    (videos, length), positions = frames.shape[:2], tokens.shape[1]
    step = max(1, CHUNK_NUMBERS // max(1, videos * positions * length))
    parts = [
        _saliency(frames, tokens[i : i + step], temperature, None if mask is None else mask[i : i + step])
        for i in range(0, len(tokens), step)
    ]
    if len(parts) == 1:
        return parts[0]
    return torch.cat(parts, dim=1) if parts else frames.new_zeros(videos, 0, length)


def _saliency(frames: Tensor, tokens: Tensor, temperature: float, mask: Tensor | None) -> Tensor:
    # Frames stay in front of labels until the end: a softmax over the last few numbers of a row is four times slower.
    similarities = frames @ tokens.flatten(0, 1).T  # [V, T, C * L]
    # Over frames, per token: each word votes on when it is visible, then the votes are averaged.
    votes = torch.softmax(similarities.div_(temperature), dim=1)
    votes = votes.reshape(*frames.shape[:2], *tokens.shape[:2])  # [V, T, C, L]
    if mask is None:
        return votes.mean(dim=3).transpose(1, 2)
    shares = mask.to(votes.dtype)
    shares = shares / shares.sum(dim=1, keepdim=True)  # [C, L]
    return votes.mul_(shares).sum(dim=3).transpose(1, 2)


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
