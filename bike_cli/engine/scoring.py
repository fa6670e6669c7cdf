"""Unit vectors, fusion, probabilities and ranking, on tensors alone."""

from __future__ import annotations

import torch
from torch import Tensor


def unit(x: Tensor) -> Tensor:
    """Return `x` scaled to length 1 over its last axis; a zero vector stays zero."""
    # Only an exact zero is guarded: an epsilon would distort the raw features of small norm that BIKE's heads give.
    length = x.norm(dim=-1, keepdim=True)
    directions: Tensor = x / length.masked_fill(length == 0, 1)
    return directions


def normalise_in_place(x: Tensor) -> Tensor:
    """Scale the vectors of `x` [N, ..., D] to length 1 in place, and return it: tokens are too large to copy."""
    for i in range(0, len(x), 1024):
        x[i : i + 1024] = unit(x[i : i + 1024])
    return x


def match_spread(scores: Tensor, like: Tensor) -> Tensor:
    """Return `scores` [V, C] moved and scaled, per video, to the mean and spread over classes of `like` [V, C].

    Text-text cosines vary far more than image-text ones: without this, they would dominate the fusion.
    """
    if scores.shape[-1] < 2:
        return like.clone()
    centred = scores - scores.mean(dim=-1, keepdim=True)
    spread = centred.std(dim=-1, keepdim=True)
    scale = torch.where(spread == 0, torch.zeros_like(spread), like.std(dim=-1, keepdim=True) / spread)
    return like.mean(dim=-1, keepdim=True) + centred * scale


def fuse(video: Tensor, attributes: Tensor, weight: float) -> Tensor:
    """Return weight * video + (1 - weight) * attributes; both [V, C] and on one scale.

    Source: BIKE, fusion of the two branches; official weight 0.7.
    """
    return weight * video + (1 - weight) * attributes


def probabilities(scores: Tensor, logit_scale: float) -> Tensor:
    """Return the softmax over classes of logit_scale * cosine: [V, C] -> [V, C]."""
    return torch.softmax(logit_scale * scores, dim=-1)


def matches(cosines: Tensor, logit_scale: float, logit_bias: float) -> Tensor:
    """Return the sigmoid of logit_scale * cosine + logit_bias, float64 of the shape of `cosines`, never exactly 0 or 1.

    Average cosines first: the sigmoid is so curved where SigLIP works that a mean of sigmoids is another number.

    Source: SigLIP, arXiv:2303.15343.
    """
    limits = torch.finfo(torch.float64)
    chances = torch.sigmoid(logit_scale * cosines.double() + logit_bias)
    return chances.clamp(limits.tiny, 1 - limits.eps / 2)


def rank(scores: Tensor, k: int) -> Tensor:
    """Return the indices of the k best classes of scores [V, C], best first, ties in list order: int64 [V, min(k, C)].

    A NaN ranks last.
    """
    clean = torch.nan_to_num(scores, nan=float("-inf"))
    return torch.sort(clean, dim=-1, descending=True, stable=True).indices[:, :k]
