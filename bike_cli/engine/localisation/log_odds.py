"""Log-odds that a label is seen in a bin, from cosines or from the probabilities of a saved classifier."""

from __future__ import annotations

import math

import torch
from torch import Tensor

from bike_cli.engine.localisation.windows import middle_halves

# A label competes with this many phrases at the null level. Measured with the bundled model, 300 is within 2 points of
# frame F1 of the best choice with clean features, and among the best with noisy ones; 30 finds labels everywhere.
TYPICAL_PHRASES = 300
# Nats by which a label may be less likely than the best text of its bin: another label can be seen at the same time,
# but of labels that share words with what is seen, most are further behind.
RIVAL_LEAD = math.log(TYPICAL_PHRASES)
EXCLUSIVE_LEAD = 1.0  # the same where only one label can be seen at a time


def log_odds(excess: Tensor, best: Tensor, logit_scale: float, *, exclusive: bool) -> Tensor:
    """Return the log-odds of each label against `TYPICAL_PHRASES` phrases, limited by the best text of the bin.

    Args:
        excess: [R, C], cosines above the null level.
        best: [R], the largest excess of each bin over all texts, reported or not.
        exclusive: whether only one label can be seen at a time.
    Returns:
        [R, C]; at most the lead that rivals may have, also for the best label.
    """
    lead = EXCLUSIVE_LEAD if exclusive else RIVAL_LEAD
    against_phrases = logit_scale * excess - math.log(TYPICAL_PHRASES)
    against_rivals = lead - logit_scale * (best[:, None] - excess)
    return torch.minimum(against_phrases, against_rivals)


def window_log_odds(chances: Tensor, windows: Tensor, bins: int) -> Tensor:
    """Return log-odds per bin from a classifier's probabilities in windows: ln(p / (1 - p)) + ln(C - 1).

    They are those of p minus those of an even share, 1 / C: a class that a window says nothing about has log-odds 0.

    A classifier was trained on whole clips, so its windows have as many frames as its clips had. The probability p of a
    bin is the mean over the windows whose middle half contains the bin. The first and the last window also speak for
    their outer quarters, so the first and the last bins have the probability of a window that lies beside them. A
    video with fewer bins than a window has one window, of which every frame speaks.

    Args:
        chances: [W, C], probabilities of all classes, a `none` class included; C classes are as likely beforehand.
        windows: int64 [W, w], the bins of the frames of each window: in order, the windows one frame apart.
        bins: T.
    Returns:
        float64 [T, C], finite; NaN in bins that no window speaks for, such as those that could not be read.
    """
    count, width = windows.shape
    speaks = middle_halves(count, width).to(chances.device)  # [W, w]
    sums = chances.new_zeros(bins, chances.shape[1], dtype=torch.float64)
    voices = chances.new_zeros(bins, 1, dtype=torch.float64)
    for j in range(width - 1, -1, -1):  # the bins of one column differ, and each bin adds its windows in order
        weights = speaks[:, j, None].double()
        sums[windows[:, j]] += weights * chances
        voices[windows[:, j]] += weights
    limits = torch.finfo(torch.float64)
    means = (sums / voices).clamp(limits.tiny, 1 - limits.eps / 2)
    return torch.logit(means) + math.log(max(1, chances.shape[1] - 1))
