"""The mistakes of a system: misclassified videos."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

import numpy as np

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from bike_cli.records import Clip, Prediction
    from bike_cli.tasks.evaluate.score_table import ScoreTable

    Explain = Callable[[Sequence[int]], list[tuple[Clip, Prediction]]]

MISTAKES_SHOWN, FRAMES_SHOWN = 24, 4


@dataclass(frozen=True)
class Mistake:
    """A misclassified video."""

    path: str
    label: str  # its true label
    guess: str  # the label it was given
    score: float  # the probability of that label
    # [H, W, 3] each, those with the largest weights.
    frames: Sequence[NDArray[np.uint8]] = field(default=(), repr=False)
    times_s: Sequence[float] = ()  # the time of each frame; NaN where the video has no clock
    weights: Sequence[float] = ()  # the share of each frame in the saliency of the video
    attributes: Sequence[str] = ()


@dataclass(frozen=True)
class Mistakes:
    """The most confident mistakes of one system."""

    videos: Sequence[Mistake] = ()
    system: str = ""  # its name; empty if it is the only one


def find_mistakes(table: ScoreTable, explain: Explain) -> list[Mistake]:
    """Return a system's most confident mistakes, with the frames that spotting gave the largest weights.

    Args:
        explain: returns the frames and explained answers for rows of the table; it may leave some out.
    """
    best = table.logits.argmax(axis=1)
    wrong = ~np.take_along_axis(table.present, best[:, None], axis=1)[:, 0]
    if table.rejected is not None:  # a rejected video has no answer to be confident of
        wrong &= ~table.rejected
    scores = np.where(wrong, np.take_along_axis(table.probabilities, best[:, None], axis=1)[:, 0], -1.0)
    rows = [row for row in np.argsort(-scores, kind="stable")[:MISTAKES_SHOWN].tolist() if wrong[row]]
    mistakes = []
    explained = {clip.source.id: (clip, answer) for clip, answer in explain(rows)}
    for row in rows:
        if table.videos[row] not in explained:
            continue
        clip, answer = explained[table.videos[row]]
        weights = np.zeros(0) if answer.saliency is None else answer.saliency
        frames = clip.frames.reshape(-1, *clip.frames.shape[2:])
        order = clip.timeline.order
        chosen = sorted(np.argsort(-weights, kind="stable")[:FRAMES_SHOWN].tolist())
        truth = [label for label, there in zip(table.labels, table.present[row], strict=True) if there]
        mistakes.append(
            Mistake(
                path=table.videos[row],
                label=", ".join(truth) or "none of these",
                guess=table.labels[int(best[row])],
                score=float(scores[row]),
                frames=[frames[order[i]] for i in chosen],
                times_s=[float(answer.times_s[i]) for i in chosen],
                weights=[float(weights[i]) for i in chosen],
                attributes=[attribute.phrase for attribute in answer.attributes],
            )
        )
    return mistakes
