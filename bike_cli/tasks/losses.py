"""What training minimises."""

from __future__ import annotations

import torch
from torch import Tensor

SHARPNESS = 10.0  # of the targets: e^10 for the right texts against e^0 for each of the others


def nce_loss(logits: Tensor, labels: Tensor) -> Tensor:
    """Return the symmetric multi-positive contrastive loss between the videos and the texts of a batch.

    The targets of a video are softmax(10 * [same label]) over the texts; the loss is the mean over videos of
    KL(targets || softmax(logits)), and the mean of that with the same from texts to videos.

    Args:
        logits: [N, N], video i against the text of video k, scaled.
        labels: int64 [N].
    Returns:
        a scalar, 0 where the softmax is the targets.
    Source: BIKE, official utils/KLLoss.py and train.py.
    """
    same = (labels[:, None] == labels[None]).to(logits.dtype)
    targets = torch.softmax(SHARPNESS * same, dim=1)  # symmetric, but for the normalisation
    return (_divergence(logits, targets) + _divergence(logits.T, targets)) / 2


def _divergence(logits: Tensor, targets: Tensor) -> Tensor:
    return torch.nn.functional.kl_div(torch.log_softmax(logits, dim=1), targets, reduction="batchmean")
