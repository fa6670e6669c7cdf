"""How far a video is from the shots: it tells videos of no class from others where the texts of the classes cannot."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from bike_cli.engine.calibration.calibration import Measure
from bike_cli.engine.heads.few_shot import GOOD, Views

SMALLEST = 1e-6  # eigenvalue of the spread, as a share of their mean: of features that never vary


@dataclass(frozen=True, eq=False)
class ShotDistances:
    """The mean shot of each class, and how shots spread around it.

    Args:
        means: float32 [C, D], the mean of z_c over the shots of class c; see `few_shot`.
        whitening: float32 [D, D]; differences from the mean, times this, have about unit variance in each direction.
    """

    means: Tensor
    whitening: Tensor

    def closeness(self, views: Views) -> Tensor:
        """Return minus the Mahalanobis distance of each video to the nearest class, that of z_c to its mean: [V]."""
        centre = self.means.mean(dim=0)  # weights sum to 1, so it can be subtracted from frames; this saves digits
        frames, means = (views.frames - centre) @ self.whitening, (self.means - centre) @ self.whitening
        weights = views.weights
        squares = (weights @ (frames @ frames.transpose(1, 2)) * weights).sum(dim=2)  # [V, C], of z_c
        squares = squares - 2 * Views(frames, weights).scores(means) + (means**2).sum(dim=1)
        return -squares.min(dim=1).values.clamp_min(0).sqrt()

    def to(self, device: torch.device) -> ShotDistances:
        """Return the distances on a device."""
        return ShotDistances(self.means.to(device), self.whitening.to(device))


def fit_distances(shots: Views, classes: Tensor) -> ShotDistances:
    """Return the distances to the classes of shots.

    The covariance within classes is pooled over them, and shrunk towards a multiple of the identity, as there are fewer
    shots than dimensions. With one shot per class, nothing is known about it, and distances are Euclidean.

    Args:
        classes: int64 [N]; every class has a shot.
    Source: Lee et al., A Simple Unified Framework for Detecting Out-of-Distribution Samples (NeurIPS 2018); shrinkage
        of Chen et al., Shrinkage Algorithms for MMSE Covariance Estimation (2010), OAS.
    """
    own = shots.own(classes).double()  # [N, D]
    counts = classes.bincount()
    sums = own.new_zeros(len(counts), own.shape[1]).index_add_(0, classes, own)
    means = sums / counts[:, None]
    around = own - means[classes]
    freedom, width = len(own) - len(counts), own.shape[1]
    covariance = around.T @ around / max(freedom, 1)
    mean_variance = float(covariance.trace()) / width
    if mean_variance == 0:
        return ShotDistances(means.float(), torch.eye(width, device=own.device))
    shrinkage = _shrinkage(covariance, freedom)
    identity = torch.eye(width, dtype=own.dtype, device=own.device)
    variances, directions = torch.linalg.eigh((1 - shrinkage) * covariance + shrinkage * mean_variance * identity)
    whitening = directions / variances.clamp_min(SMALLEST * mean_variance).sqrt()
    return ShotDistances(means.float(), whitening.float())


def knows_classes(shots: Views, classes: Tensor, text: Tensor) -> bool:
    """Return whether the text alone is correct on nearly all shots.

    Then the cosine with the text tells videos of no class better than distances to few shots do, otherwise worse; see
    `benchmarks/rejection_fewshot.py`.

    Args:
        classes: int64 [N].
        text: [C, D], unit vectors.
    """
    hits = int((shots.scores(text).argmax(dim=1) == classes).sum())
    return hits >= GOOD * len(classes)


def fits_of(measure: Measure, views: Views, logits: Tensor, cosines: Tensor, distances: ShotDistances | None) -> Tensor:
    """Return how well the best class fits each video, as a measure tells it: [V].

    Args:
        logits: [V, C], of the head.
        cosines: [V, C], with the texts of the classes.
        distances: are needed if they are the measure.
    """
    if measure == "cosine":
        return cosines.max(dim=1).values
    if distances is not None:
        return distances.closeness(views)
    return logits.max(dim=1).values


def _shrinkage(covariance: Tensor, freedom: int) -> float:
    """Return how much of a covariance [D, D] to replace with its mean variance, 0 to 1."""
    width = len(covariance)
    square, trace = float((covariance**2).sum()), float(covariance.trace())
    excess = (freedom + 1 - 2 / width) * (square - trace**2 / width)
    wanted = (1 - 2 / width) * square + trace**2
    return 1.0 if excess <= wanted else wanted / excess
