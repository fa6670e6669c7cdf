"""When labels are seen in a video: all steps from frame features to runs, in blocks of labels."""

from __future__ import annotations

import math
from collections.abc import Iterator
from dataclasses import dataclass, field, replace

import numpy as np
import torch
from torch import Tensor, nn

from bike_cli.engine.localisation.decoding import Run, RunRule, find_runs, probabilities
from bike_cli.engine.localisation.log_odds import log_odds
from bike_cli.engine.localisation.replay import Replay
from bike_cli.engine.localisation.scores import scorer_of
from bike_cli.engine.spotting import ClassTexts

# Labels are scored and decoded in blocks, so memory grows with the length of a video, but not with the number of
# labels: all numbers of a block are in memory at once. A day at 4 bins per second has blocks of 48 labels.
LABELS_TOGETHER = 256
NUMBERS_TOGETHER = 2**24
MOST_EXCESS = 2**24  # numbers of all blocks that are kept; above, they are computed twice: for the best, and for runs


@dataclass(frozen=True)
class BestBin:
    """The bin and the label with the greatest probability: the first label of several, in its first bin."""

    label: int
    bin: int
    score: float


@dataclass(frozen=True, eq=False)
class Localisation:
    """When labels are seen in one video.

    Args:
        runs: by start, then stop, then the order of the labels.
        best: None if no frame could be read.
        null_level: the median cosine of the video with the lexicon; NaN where there is none.
        chances: float32 [T, C] on the CPU, probabilities, NaN in bins that were not read; None unless requested.
    """

    runs: tuple[Run, ...]
    best: BestBin | None
    null_level: float = math.nan
    chances: Tensor | None = field(default=None, repr=False)


@torch.no_grad()
def localise(
    frames: Tensor,
    is_read: Tensor,
    texts: ClassTexts,
    phrases: Tensor,
    *,
    head: nn.Module | None,
    logit_scale: float,
    rule: RunRule,
    exclusive: bool = False,
    reported: int | None = None,
    keep_chances: bool = False,
) -> Localisation:
    """Return when each label is seen. Labels change each other only as rivals in the same bin.

    The same features give the same result, bit for bit, on one device.

    Args:
        frames: [T, D], raw features of the bins' frames, on the device of the texts; what stands in bins that were not
            read does not matter.
        is_read: bool [T], False in bins whose frame could not be read.
        texts: the labels, and after them texts that are only rivals.
        phrases: [P, D] unit vectors, the lexicon's; P at least 1.
        head: the model's temporal head; None: frames are scored one by one.
        exclusive: whether only one label can be seen at a time.
        reported: number of labels; all further texts are rivals. None: all texts are labels.
        keep_chances: whether to return the probabilities of all bins, T * C numbers.
    Raises:
        ValueError: scores that are NaN or infinite.
    """
    labels = len(texts.classes) if reported is None else reported
    read = is_read.to(frames.device).nonzero()[:, 0]
    if not len(read):
        unknown = frames.new_full((len(frames), labels), math.nan)
        return localise_log_odds(unknown, is_read, rule, keep_chances=keep_chances)
    scorer = scorer_of(frames[read].float(), head, exclusive=exclusive)
    null = scorer.null_level(phrases)
    blocks = texts.split(max(1, min(LABELS_TOGETHER, NUMBERS_TOGETHER // len(read))))
    excesses = Replay(
        lambda: (scorer.excess(block, null) for block in blocks), len(read) * len(texts.classes), most=MOST_EXCESS
    )
    best = torch.full((len(read),), -math.inf, device=frames.device)
    for excess in excesses:
        best = torch.maximum(best, excess.amax(dim=1))
    if not bool(torch.isfinite(best).all()):
        raise ValueError("scores are NaN or infinite")

    def numbers() -> Iterator[Tensor]:
        first = 0
        for excess in excesses:
            if first < labels:
                values = log_odds(excess[:, : labels - first], best, logit_scale, exclusive=exclusive)
                yield frames.new_full((len(frames), values.shape[1]), math.nan).index_copy(0, read, values)
            first += excess.shape[1]

    return _decode(numbers(), is_read, rule, null, keep_chances=keep_chances)


def localise_log_odds(numbers: Tensor, is_read: Tensor, rule: RunRule, *, keep_chances: bool = False) -> Localisation:
    """Return when each label is seen by given log-odds [T, C], such as those of a saved classifier; see `localise`."""
    return _decode(iter([numbers]), is_read, rule, math.nan, keep_chances=keep_chances)


def _decode(
    blocks: Iterator[Tensor], is_read: Tensor, rule: RunRule, null: float, *, keep_chances: bool
) -> Localisation:
    """Return the result for the log-odds of blocks of labels, each [T, C']."""
    runs: list[Run] = []
    chances: list[Tensor] = []
    best: tuple[float, int, int] | None = None  # log-odds, label, bin
    read = is_read.cpu()
    first = 0
    for block in blocks:
        numbers = block.cpu()
        runs += [replace(run, label=first + run.label) for run in find_runs(numbers, read, rule)]
        if bool(read.any()) and numbers.shape[1]:
            peaks, bins = numbers.masked_fill(~read[:, None], -math.inf).max(dim=0)
            label = int(peaks.argmax())
            if best is None or float(peaks[label]) > best[0]:
                best = float(peaks[label]), first + label, int(bins[label])
        if keep_chances:
            known = torch.from_numpy(probabilities(numbers.numpy())).float()
            chances.append(known.masked_fill(~read[:, None], math.nan))
        first += numbers.shape[1]
    return Localisation(
        tuple(sorted(runs, key=lambda run: (run.start, run.stop, run.label))),
        None if best is None else BestBin(best[1], best[2], float(probabilities(np.array(best[0])))),
        null,
        torch.cat(chances, dim=1) if keep_chances else None,
    )
