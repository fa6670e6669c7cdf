"""The null level: the median cosine of a video's frames with the phrases of a lexicon."""

from __future__ import annotations

from collections.abc import Callable, Iterable

import torch
from torch import Tensor

# The key of a float32 is read in two halves, so the counts of a half fit in memory however many numbers there are.
HALF_BITS = 16
HALF = 2**HALF_BITS


def exact_median(parts: Callable[[], Iterable[Tensor]]) -> float:
    """Return the median of numbers that are never all in memory; the mean of the middle two of an even number.

    The numbers are read twice. The first time, the upper halves of their bit patterns are counted; the second time, the
    lower halves of those that share the median's upper half. So the result is exact and independent of how the numbers
    are divided into parts. A subsample would need less time, but a label's score would depend on which frames it hits.

    Args:
        parts: returns the same numbers on each call: float32 tensors of any shape, on one device.
    Returns:
        NaN without numbers.
    """
    upper = _counts(_keys(part) >> HALF_BITS for part in parts())
    total = int(upper.sum())
    if not total:
        return float("nan")
    ranks = ((total - 1) // 2, total // 2)
    sums = upper.cumsum(0)
    halves = [int(torch.searchsorted(sums, rank, right=True)) for rank in ranks]
    # The middle two nearly always share their upper half.
    lower = {half: _counts(_lower_halves(_keys(part), half) for part in parts()) for half in dict.fromkeys(halves)}
    middle = []
    for rank, half in zip(ranks, halves, strict=True):
        before = int(sums[half] - upper[half])
        low = int(torch.searchsorted(lower[half].cumsum(0), rank - before, right=True))
        middle.append(_value(half * HALF + low))
    return sum(middle) / 2


def _counts(keys: Iterable[Tensor]) -> Tensor:
    """Return how often each number below `HALF` is among the keys: int64 [HALF], on the CPU."""
    counts = torch.zeros(HALF, dtype=torch.int64)
    for some in keys:
        counts += torch.bincount(some, minlength=HALF).cpu()
    return counts


def _lower_halves(keys: Tensor, upper: int) -> Tensor:
    lower: Tensor = keys[keys >> HALF_BITS == upper] & (HALF - 1)
    return lower


def _keys(numbers: Tensor) -> Tensor:
    """Return whole numbers from 0 to 2^32 - 1 in the order of float32 numbers, int64."""
    bits = numbers.flatten().contiguous().view(torch.int32).long()
    # The pattern of a negative number grows with its size.
    keys: Tensor = torch.where(bits < 0, -1 - bits, bits + 2**31)
    return keys


def _value(key: int) -> float:
    bits = key - 2**31 if key >= 2**31 else -1 - key
    return float(torch.tensor(bits, dtype=torch.int32).view(torch.float32))
