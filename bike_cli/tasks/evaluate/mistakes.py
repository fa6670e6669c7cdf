"""The mistakes of a system: videos that were taken for something else."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

import numpy as np

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from bike_cli.records import Clip, Prediction
    from bike_cli.tasks.evaluate.score_table import ScoreTable

    Look = Callable[[Sequence[int]], list[tuple[Clip, Prediction]]]

MISTAKES_SHOWN, FRAMES_SHOWN = 24, 4


@dataclass(frozen=True)
class Mistake:
    """A video that was taken for something else.

    Args:
        label: what it is.
        guess: what it was taken for, with `score` of 1.
        frames: uint8 [H, W, 3] each, those that spotting weighed most.
        times_s: beside `frames`; NaN where the video has no clock.
        weights: beside `frames`; shares of the whole video's saliency.
    Raises:
        ValueError: frames, times and weights of different numbers.
    """

    path: str
    label: str
    guess: str
    score: float
    frames: Sequence[NDArray[np.uint8]] = field(default=(), repr=False)
    times_s: Sequence[float] = ()
    weights: Sequence[float] = ()
    attributes: Sequence[str] = ()

    def __post_init__(self) -> None:
        if not len(self.frames) == len(self.times_s) == len(self.weights):
            counts = f"{len(self.frames)} frames, {len(self.times_s)} times and {len(self.weights)} weights"
            raise ValueError(f"{self.path}: has {counts}; give as many of each")


@dataclass(frozen=True)
class Mistakes:
    """Mistakes of one system.

    Args:
        system: its name; empty where there is no other.
    """

    found: Sequence[Mistake] = ()
    system: str = ""


def mistakes_of(table: ScoreTable, look: Look, *, most: int = MISTAKES_SHOWN) -> list[Mistake]:
    """Return a system's most confident mistakes, with the frames that spotting weighed most.

    Args:
        look: returns the frames and answers of some rows of the table.
    """
    best = table.logits.argmax(axis=1)
    wrong = ~np.take_along_axis(table.present, best[:, None], axis=1)[:, 0]
    scores = np.where(wrong, np.take_along_axis(table.probabilities, best[:, None], axis=1)[:, 0], -1.0)
    rows = [row for row in np.argsort(-scores, kind="stable")[:most].tolist() if wrong[row]]
    found = []
    looked = {clip.source.id: (clip, told) for clip, told in look(rows)}
    for row in rows:
        if table.videos[row] not in looked:
            continue
        clip, told = looked[table.videos[row]]
        weights = np.zeros(0) if told.saliency is None else told.saliency
        frames = clip.frames.reshape(-1, *clip.frames.shape[2:])
        order = np.argsort(clip.times_s.ravel() if clip.positions is None else clip.positions.ravel(), kind="stable")
        chosen = sorted(np.argsort(-weights, kind="stable")[:FRAMES_SHOWN].tolist())
        truth = [label for label, there in zip(table.labels, table.present[row], strict=True) if there]
        found.append(
            Mistake(
                path=table.videos[row],
                label=", ".join(truth) or "none of these",
                guess=table.labels[int(best[row])],
                score=float(scores[row]),
                frames=[frames[order[i]] for i in chosen],
                times_s=[float(told.times_s[i]) for i in chosen],
                weights=[float(weights[i]) for i in chosen],
                attributes=[attribute.phrase for attribute in told.attributes],
            )
        )
    return found
