"""Log-odds per bin become segments: evidence, a two-state Viterbi per label, and runs of bins."""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from torch import Tensor

# Share of the frames of a segment in which its label is visible. So a bin without the label costs at most 1 nat: a
# blinking object, or an action seen from behind for a moment, stays one segment.
VISIBLE_SHARE = 1 - 1 / math.e
LEAST_EVIDENCE = -1.0  # nats, ln(1 - VISIBLE_SHARE)
# Nats. With less, objects that blink are lost; with more, single wrong frames of a noisy model become segments.
MOST_EVIDENCE = 2.0
# Probability above which a label counts as visible in a bin. The score of a run averages over these bins only, because
# a run may bridge bins in which its object is hidden for a moment.
VISIBLE = 0.5


@dataclass(frozen=True)
class RunRule:
    """What makes a run of bins.

    Args:
        fps: bins per second.
        min_duration_s: shorter segments need more evidence than a bin can give, and shorter gaps are bridged.
        threshold: probability above which a bin speaks for its label, between 0 and 1.
    Raises:
        ValueError: a number outside its range.
    """

    fps: float
    min_duration_s: float
    threshold: float

    def __post_init__(self) -> None:
        if not (0 < self.fps < math.inf and 0 <= self.min_duration_s < math.inf and 0 < self.threshold < 1):
            raise ValueError(f"{self}: fps is above 0, min_duration_s at least 0, and threshold between 0 and 1")

    @property
    def switch_cost(self) -> float:
        """Nats that a change between "there" and "not there" costs.

        A run changes twice. A bin without the label costs at most 1 nat, so gaps below `min_duration_s` are bridged.
        """
        return self.min_duration_s * self.fps / 2


@dataclass(frozen=True)
class Run:
    """Neighbouring bins in which a label is there.

    Args:
        label: index of the label.
        start, stop: the first bin, and the bin after the last one.
        score: mean probability of the bins in which it is above `VISIBLE`; of all bins that were read if it never is.
        peak: the bin with the greatest probability, the first of several.
    """

    label: int
    start: int
    stop: int
    score: float
    peak: int


def find_runs(log_odds: Tensor, is_read: Tensor, rule: RunRule) -> list[Run]:
    """Return the runs of each label, sorted by label, then start; each label's runs depend on its own column alone.

    Args:
        log_odds: [T, C], on any device; what stands in bins that were not read does not matter.
        is_read: bool [T], False in bins whose frame could not be read: they speak neither for nor against a label, and
            a run may bridge them, but never begins or ends with one.
    """
    # NumPy's functions of a number do not depend on its place or on the number of threads; torch's do, in the last bit.
    read = is_read.cpu().numpy()
    numbers = np.where(read[:, None], log_odds.cpu().numpy(), 0)
    support = evidence(numbers, rule.threshold)
    support[~read] = 0
    states = most_likely_states(support, rule.switch_cost)
    # Within a video, states change where they gain something. At its ends, changing would cost and gain nothing.
    known = np.flatnonzero(read)
    states[: known[0] if len(known) else len(states)] = False
    states[known[-1] + 1 if len(known) else 0 :] = False
    found = np.flatnonzero(states.any(axis=0))
    order = np.where(read[:, None], numbers[:, found], -np.inf)
    chances = np.where(read[:, None], probabilities(numbers[:, found]), np.nan)
    edges = np.diff(states[:, found].astype(np.int8), axis=0, prepend=0, append=0).T
    places, starts = (edges == 1).nonzero()
    stops = (edges == -1).nonzero()[1]
    return [
        Run(
            label=int(found[place]),
            start=int(start),
            stop=int(stop),
            score=_score(chances[start:stop, place]),
            peak=int(start + order[start:stop, place].argmax()),
        )
        for place, start, stop in zip(places, starts, stops, strict=True)
    ]


def evidence(log_odds: NDArray[np.floating], threshold: float) -> NDArray[np.floating]:
    """Return the evidence of log-odds z: ln(v exp(z - logit(threshold)) + 1 - v), v `VISIBLE_SHARE`; -1 to 2 nats."""
    number = log_odds.dtype.type
    visible = log_odds + number(math.log(VISIBLE_SHARE) - math.log(threshold / (1 - threshold)))
    support: NDArray[np.floating] = np.minimum(np.logaddexp(visible, number(LEAST_EVIDENCE)), number(MOST_EVIDENCE))
    return support


def probabilities(log_odds: NDArray[np.floating]) -> NDArray[np.float64]:
    """Return the probability of each log-odds, float64."""
    small = np.exp(-np.abs(log_odds.astype(np.float64)))  # never too large for a number
    chances: NDArray[np.float64] = np.where(log_odds >= 0, 1, small) / (1 + small)
    return chances


def most_likely_states(support: NDArray[np.floating], switch_cost: float) -> NDArray[np.bool_]:
    """Return in which bins each label is there: bool [T, C], for evidence [T, C] in nats.

    Of all sequences of states, each label gets the one with the largest sum of the evidence in its bins minus
    `switch_cost` for each change of state; of several, the one that is there least. Beginning or ending in either state
    costs nothing.
    """
    # A two-state Viterbi needs one number per label: by how much the best sequence that ends in "there" exceeds the
    # best that ends in "not there". A switch limits it to the switch cost on either side.
    excess = np.empty_like(support)
    carried = np.zeros_like(support[:1])
    for bin_support, row in zip(support, excess, strict=True):
        np.add(carried[0], bin_support, out=row)
        np.minimum(np.maximum(row, -switch_cost, out=carried[0]), switch_cost, out=carried[0])
    states = excess > switch_cost
    # Between the limits, a bin keeps the state of the bin after it. At a limit, both are as likely: not there.
    follows = (excess > -switch_cost) & ~states
    if len(support):
        states[-1] = excess[-1] > 0
    for t in range(len(support) - 2, -1, -1):
        np.copyto(states[t], states[t + 1], where=follows[t])
    return states


def _score(chances: NDArray[np.float64]) -> float:
    visible = chances[chances > VISIBLE]
    return float(visible.mean() if len(visible) else np.nanmean(chances))
