"""Temporal concept spotting: a label's words find the frames that matter, without learned parameters.

Source: BIKE (arXiv:2301.00182), Video Concept Spotting; official modules/video_clip.py, `get_logits`.
"""

from __future__ import annotations

from dataclasses import dataclass, replace

from torch import Tensor

from bike_cli.engine.scoring import unit
from bike_cli.engine.voters import Voters, spotted


@dataclass(frozen=True, eq=False)
class ClassTexts:
    """The text features that videos are scored against.

    Args:
        classes: [C, D] unit vectors.
        voters: unit vectors of the tokens that weight the frames; None: every frame counts the same.
        temperature: of the spotting; not used without voters.
        averages_scores: without voters, whether the scores of frames are averaged, instead of their features.
    """

    classes: Tensor
    voters: Voters | None
    temperature: float
    averages_scores: bool = False

    def split(self, size: int) -> list[ClassTexts]:
        """Return the texts in blocks of at most `size` classes, in order."""
        count = len(self.classes)
        if count <= size:
            return [self]
        spans = [(start, min(start + size, count)) for start in range(0, count, size)]
        return [
            replace(
                self,
                classes=self.classes[start:stop],
                voters=None if self.voters is None else self.voters.some(start, stop),
            )
            for start, stop in spans
        ]

    def scores(self, frames: Tensor) -> Tensor:
        """Return the cosine of each view with each class, for raw frames [K, T, D]: [K, C]."""
        if self.voters is None:
            if self.averages_scores:
                return unit(frames).mean(dim=1) @ self.classes.T  # the mean of each frame's cosines
            return mean_scores(frames, self.classes)
        frames = unit(frames)
        return concept_scores(frames, spotted(frames, self.voters, self.temperature), self.classes)


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


def concept_scores(frames: Tensor, weights: Tensor, classes: Tensor) -> Tensor:
    """Return the score of each class: the saliency-weighted mean of its cosine with the frames.

    This equals the product of BIKE's weighted video vector and the class, without a vector per video and class.

    Args:
        frames: [V, T, D] unit vectors.
        weights: [V, C, T] saliency.
        classes: [C, D] unit vectors.
    Returns:
        [V, C], in [-1, 1].
    """
    return (weights.transpose(1, 2) * (frames @ classes.T)).sum(dim=1)


def mean_scores(frames: Tensor, classes: Tensor) -> Tensor:
    """Return the scores of mean pooling, unit(mean of the frames) . class, for raw frames [V, T, D]: [V, C]."""
    return unit(frames.mean(dim=1)) @ classes.T
