"""Windows of neighbouring frames: a temporal head relates their frames, and saliency says which ones a score is of."""

from __future__ import annotations

from collections.abc import Iterator
from functools import cached_property

import torch
from torch import Tensor, nn

from bike_cli.engine.localisation.null_level import exact_median
from bike_cli.engine.localisation.replay import Replay
from bike_cli.engine.scoring import unit
from bike_cli.engine.spotting import ClassTexts, concept_scores
from bike_cli.engine.voters import spotted

FRAMES = 8  # of a window; BIKE trains its temporal heads on clips of 8 frames
# A frame takes a window's whole score if its saliency is at least 1 / GATE of an even share. Without a gate, a label
# reaches half a window beyond its ends; at 1.0, motions are found less well.
GATE = 1.5
# Windows go through the head in batches of a fixed size, padded with zeros: the last bits of a matrix product depend on
# its size, and a bin must not depend on how many others there are.
WINDOWS_TOGETHER = {"cuda": 512}
WINDOWS_TOGETHER_ELSEWHERE = 32


def middle_halves(count: int, width: int) -> Tensor:
    """Return for which of its frames each window speaks where each speaks for its middle half only: bool [W, w].

    The first and the last window also speak for their outer quarters, so that every frame has a window.
    """
    quarter = width // 4
    speaks = torch.zeros(count, width, dtype=torch.bool)
    speaks[:, quarter : width - quarter] = True
    speaks[:1, :quarter] = True
    speaks[-1:, width - quarter :] = True
    return speaks


class WindowScorer:
    """Scores frames by the windows around them.

    Args:
        frames: [R, D], raw, R at least 1, in time order; frames that could not be read are left out, so a window may
            reach over them.
        head: the temporal head, a map of [V, w, D] to the same shape.
        exclusive: whether a window speaks for its middle half, instead of for the frames that its saliency finds.
    """

    def __init__(self, frames: Tensor, head: nn.Module, *, exclusive: bool) -> None:
        self._frames, self._head, self._exclusive = frames, head, exclusive
        self._width = min(FRAMES, len(frames))
        self._count = len(frames) - self._width + 1
        self._informed = Replay(self._through_head, self._count * self._width * frames.shape[1])

    def null_level(self, phrases: Tensor) -> float:
        """Return the median cosine of all frames of all windows with phrases [P, D], unit vectors."""
        return exact_median(lambda: (unit(informed) @ phrases.T for informed in self._informed))

    def excess(self, texts: ClassTexts, null: float) -> Tensor:
        """Return cosines above the null level, [R, C]: the mean of the windows with a frame, each times its gate.

        A window's score of a class is its concept score, as for a clip of these frames. Its gate for a frame is the
        class's saliency there, relative to an even share, times `GATE`, at most 1. Where voters are missing, all frames
        of a window count the same, and gates are 1.
        """
        sums = self._frames.new_zeros(len(self._frames), len(texts.classes))
        start = 0
        for informed, speaks in zip(self._informed, self._speaks, strict=True):
            scores, gates = self._scores(informed, texts)  # [n, C], [n, w, C]
            parts = (scores - null)[:, None] * gates * speaks[:, :, None]
            # From the last column to the first, every frame adds its windows in order, wherever batches end.
            for j in range(self._width - 1, -1, -1):
                sums[start + j : start + j + len(parts)] += parts[:, j]
            start += len(parts)
        return sums / self._voices

    def _scores(self, informed: Tensor, texts: ClassTexts) -> tuple[Tensor, Tensor]:
        if texts.voters is None:
            return texts.scores(informed), informed.new_ones(*informed.shape[:2], 1)
        frames = unit(informed)
        weights = spotted(frames, texts.voters, texts.temperature)  # [n, C, w]
        scores = concept_scores(frames, weights, texts.classes)
        if self._exclusive:
            return scores, informed.new_ones(*informed.shape[:2], 1)
        return scores, (GATE * self._width * weights.transpose(1, 2)).clamp(max=1)

    @cached_property
    def _speaks(self) -> tuple[Tensor, ...]:
        """For which of its frames each window speaks, [n, w] per batch."""
        speaks = torch.ones(self._count, self._width, dtype=torch.bool)
        if self._exclusive:
            speaks = middle_halves(self._count, self._width)
        return torch.split(speaks.to(self._frames.device), self._together)

    @cached_property
    def _voices(self) -> Tensor:
        """How many windows speak for each frame, [R, 1]."""
        voices = self._frames.new_zeros(len(self._frames), 1)
        for j, column in enumerate(torch.cat(self._speaks).unbind(1)):
            voices[j : j + self._count, 0] += column
        return voices

    @property
    def _together(self) -> int:
        return WINDOWS_TOGETHER.get(self._frames.device.type, WINDOWS_TOGETHER_ELSEWHERE)

    def _through_head(self) -> Iterator[Tensor]:
        """Yield the head's output for all windows in order, [n, w, D] per batch."""
        for start in range(0, self._count, self._together):
            some = self._frames[start : start + self._together + self._width - 1]
            windows = some.unfold(0, self._width, 1).transpose(1, 2)  # [n, w, D]
            padded = some.new_zeros(self._together, *windows.shape[1:])
            padded[: len(windows)] = windows
            yield self._head(padded)[: len(windows)]
