"""Cosines of a video's frames with texts, above the null level."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Protocol

import torch
from torch import Tensor, nn

from bike_cli.engine.localisation.null_level import exact_median
from bike_cli.engine.localisation.windows import WindowScorer
from bike_cli.engine.scoring import unit
from bike_cli.engine.spotting import ClassTexts

# Frames are scored in batches of a fixed size, padded with zeros, for the same reason as windows are.
FRAMES_TOGETHER = 256


class Scorer(Protocol):
    """Compares the R frames of a video with texts."""

    def null_level(self, phrases: Tensor) -> float:
        """Return the median cosine of the video with phrases [P, D], unit vectors: the level of a typical phrase."""

    def excess(self, texts: ClassTexts, null: float) -> Tensor:
        """Return the cosine of each frame with each class, minus the null level: [R, C]."""


class FrameScorer:
    """Scores each frame by itself.

    Args:
        frames: [R, D], raw.
    """

    def __init__(self, frames: Tensor) -> None:
        self._frames = unit(frames)

    def null_level(self, phrases: Tensor) -> float:
        """Return the median cosine of all frames with phrases [P, D], unit vectors."""
        return exact_median(lambda: self._cosines(phrases))

    def excess(self, texts: ClassTexts, null: float) -> Tensor:
        """Return cosines above the null level, [R, C]."""
        empty = self._frames.new_zeros(0, len(texts.classes))
        return torch.cat([empty, *self._cosines(texts.classes)]) - null

    def _cosines(self, texts: Tensor) -> Iterator[Tensor]:
        for some in torch.split(self._frames, FRAMES_TOGETHER):
            padded = some.new_zeros(FRAMES_TOGETHER, some.shape[1])
            padded[: len(some)] = some
            yield (padded @ texts.T)[: len(some)]


def scorer_of(frames: Tensor, head: nn.Module | None, *, exclusive: bool) -> Scorer:
    """Return what scores raw frames [R, D]: windows through the temporal head, or frames where the model has none."""
    if head is None:
        return FrameScorer(frames)
    return WindowScorer(frames, head, exclusive=exclusive)
