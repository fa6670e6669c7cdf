"""The losses of training, and the schedule of the learning rate: linear warm-up, then half a cosine."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping

import torch
from torch import Tensor

SHARPNESS = 10.0  # of the targets: e^10 for the correct texts, e^0 for each of the others
DUAL_TEMPERATURE = 1000.0


def nce_loss(logits: Tensor, labels: Tensor) -> Tensor:
    """Return the symmetric multi-positive contrastive loss between the videos and the texts of a batch.

    The targets of a video are softmax(10 * [same label]) over the texts; the loss is the mean over videos of
    KL(targets || softmax(logits)), and the mean of that with the same from texts to videos.

    Args:
        logits: [N, N], video i against the text of video k, scaled.
        labels: int64 [N].
    Returns:
        A scalar; 0 if the softmax equals the targets.
    Source: BIKE, official utils/KLLoss.py and train.py.
    """
    same = (labels[:, None] == labels[None]).to(logits.dtype)
    targets = torch.softmax(SHARPNESS * same, dim=1)  # symmetric, but for the normalisation
    return (_divergence(logits, targets) + _divergence(logits.T, targets)) / 2


def ds_loss(logits: Tensor, labels: Tensor) -> Tensor:
    """Return `nce_loss` of logits that are first weighted by a softmax over the other axis of the batch.

    Source: BIKE, `DS`; official utils/KLLoss.py, after dual softmax (CAMoE, arXiv:2109.04290).
    """
    same = (labels[:, None] == labels[None]).to(logits.dtype)
    targets = torch.softmax(SHARPNESS * same, dim=1)
    return (_divergence(_dual(logits), targets) + _divergence(_dual(logits.T), targets)) / 2


def ce_loss(logits: Tensor, labels: Tensor) -> Tensor:
    """Return the cross-entropy of logits [N, C] over all classes; labels int64 [N]."""
    return torch.nn.functional.cross_entropy(logits, labels)


def bce_loss(logits: Tensor, present: Tensor) -> Tensor:
    """Return the sigmoid loss of logits [N, C] for labels, bool [N, C], summed over classes, mean over videos."""
    total = torch.nn.functional.binary_cross_entropy_with_logits(logits, present.to(logits.dtype), reduction="sum")
    return total / max(1, len(logits))


# These compare the videos with the texts of their own batch, the others with all classes.
IN_BATCH_LOSSES: Mapping[str, Callable[[Tensor, Tensor], Tensor]] = {"nce": nce_loss, "ds": ds_loss}


def _dual(logits: Tensor) -> Tensor:
    return logits * torch.softmax(logits / DUAL_TEMPERATURE, dim=0) * len(logits)


def _divergence(logits: Tensor, targets: Tensor) -> Tensor:
    return torch.nn.functional.kl_div(torch.log_softmax(logits, dim=1), targets, reduction="batchmean")


def rate_at(epoch: float, *, epochs: int, warm_up: float) -> float:
    """Return the learning rate as a share of the highest one, at a point of training in epochs from the start.

    Source: BIKE, official utils/lr_scheduler.py; equal to it at the steps where the official rate changes.
    """
    if epoch < warm_up:
        return epoch / warm_up
    return 0.5 * (1 + math.cos(math.pi * (epoch - warm_up) / (epochs - warm_up)))


def rate_of_step(step: int, *, steps: int, epochs: int, warm_up: float) -> float:
    """Return the learning rate of a step, as a share of the highest one: the rate at the middle of the step.

    The official schedule changes only every tenth step, so its first nine steps run at a rate of 0.

    Args:
        step: from 0, over all epochs.
        steps: per epoch.
    """
    return rate_at((step + 0.5) / steps, epochs=epochs, warm_up=warm_up)
