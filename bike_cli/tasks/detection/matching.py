"""Match detected segments with true ones, as ActivityNet's evaluation does."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import numpy as np

from bike_cli.tasks.detection.segments import Floats, Ints, Segments

MOST_PAIRS = 2**20  # of a detected and a true segment whose overlap is computed at once


@dataclass(frozen=True, eq=False)
class RankedSegments:
    """The detected segments of all labels, by label and then the most certain first, and what each one found.

    Args:
        detected: N segments.
        true: M segments, by label.
        partners: int64 [T, N], the place of the true segment that each one found at each threshold; -1: none.
    """

    detected: Segments
    true: Segments
    partners: Ints


def match_segments(
    true: Segments, detected: Segments, thresholds: Sequence[float], *, official: bool = False
) -> RankedSegments:
    """Match segments of the same video and label, each with one other at most, at each threshold.

    The detected segments of a label take turns, the most certain first. Each takes the true segment with the largest
    overlap (tIoU) of those that are not taken yet, if it is at least the threshold.

    Of equally certain segments, the one whose video is earlier (videos are sorted by name) is first, then the one that
    starts earlier, then the one that ends earlier. Of true segments with the same overlap, the earlier one is first.

    Args:
        thresholds: ascending.
        official: break ties as the official code does, whose order is that of `argsort()[::-1]`.
    Source: activitynet/ActivityNet, Evaluation/eval_detection.py, `compute_average_precision_detection`.
    """
    detected = detected.at(_official_ranks(detected) if official else _ranks(detected))
    by_time = () if official else (true.ends, true.starts)  # the last key is the first to be sorted by
    true = true.at(np.lexsort((*by_time, true.videos, true.labels)))
    partners = np.full((len(thresholds), len(detected)), -1, dtype=np.int64)
    is_taken = [bytearray(len(true)) for _ in thresholds]
    for place, first, overlaps in _overlaps(true, detected, at_least=thresholds[0]):
        ranked = _by_overlap(overlaps, at_least=thresholds[0], official=official)
        candidates = [(first + i, overlaps[i]) for i in ranked.tolist()]
        for k, threshold in enumerate(thresholds):
            partner = _first_free(candidates, is_taken[k], threshold)
            if partner is not None:
                is_taken[k][partner] = True
                partners[k, place] = partner
    return RankedSegments(detected, true, partners)


def _first_free(candidates: Sequence[tuple[int, float]], is_taken: bytearray, threshold: float) -> int | None:
    for place, overlap in candidates:
        if overlap < threshold:
            return None
        if not is_taken[place]:
            return place
    return None


def _by_overlap(overlaps: Floats, *, at_least: float, official: bool) -> Ints:
    """Return the places of the overlaps that are large enough, the largest first."""
    places = np.flatnonzero(overlaps >= at_least)
    if official and len(set(overlaps[places].tolist())) < len(places):  # the order of ties depends on all overlaps
        places = _official_order(overlaps)[::-1]
        return places[overlaps[places] >= at_least]
    return places[np.argsort(-overlaps[places], kind="stable")]


def _ranks(detected: Segments) -> Ints:
    keys = (detected.ends, detected.starts, detected.videos, -detected.scores, detected.labels)
    return np.asarray(np.lexsort(keys), dtype=np.int64)


def _official_ranks(detected: Segments) -> Ints:
    by_label = np.argsort(detected.labels, kind="stable")
    ends = np.cumsum(np.bincount(detected.labels)) if len(detected) else ()
    parts = np.split(by_label, ends[:-1])
    return np.concatenate([part[_official_order(detected.scores[part])[::-1]] for part in parts])


def _official_order(numbers: Floats) -> Ints:
    # The order of equal numbers is that of NumPy's quicksort, as the official code had it. For float64, NumPy has since
    # taken vector instructions where a processor has them, which order equal numbers in other ways.
    return np.asarray(numbers.astype(np.longdouble).argsort(), dtype=np.int64)


def _overlaps(true: Segments, detected: Segments, *, at_least: float) -> Iterator[tuple[int, int, Floats]]:
    """Yield each detected segment that overlaps enough with a true one of its video and label, in order.

    Yields:
        its place, the place of the first true segment of its video and label, and the tIoU with each of these.
    """
    videos = 1 + max(true.videos.max(initial=0), detected.videos.max(initial=0))
    wanted, known = (some.labels * videos + some.videos for some in (detected, true))
    first = np.searchsorted(known, wanted, side="left")
    counts = np.searchsorted(known, wanted, side="right") - first
    places = np.flatnonzero(counts)
    parts = np.cumsum(counts[places]) // MOST_PAIRS
    for part in np.split(places, np.flatnonzero(np.diff(parts)) + 1):
        if not len(part):
            continue
        sizes = counts[part]
        starts = np.cumsum(sizes) - sizes
        within = np.arange(sizes.sum()) - np.repeat(starts, sizes)
        overlaps = tiou(true.at(np.repeat(first[part], sizes) + within), detected.at(np.repeat(part, sizes)))
        best = np.maximum.reduceat(overlaps, starts)
        for i in np.flatnonzero(best >= at_least).tolist():
            yield int(part[i]), int(first[part[i]]), overlaps[starts[i] : starts[i] + sizes[i]]


def tiou(true: Segments, detected: Segments) -> Floats:
    """Return the length that pairs of segments share, divided by the length of both together: [N], from 0 to 1.

    A segment that does not end after it starts shares nothing. The official code divides 0 by 0 where two lengths add
    up to 0, and counts that as a match; here it is 0.
    """
    shared = (np.minimum(true.ends, detected.ends) - np.maximum(true.starts, detected.starts)).clip(0)
    together = (true.ends - true.starts) + (detected.ends - detected.starts) - shared
    overlaps: Floats = np.divide(shared, together, out=np.zeros(len(shared)), where=shared > 0)
    return overlaps
