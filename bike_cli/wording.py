"""Phrases that many messages share."""

from __future__ import annotations

import difflib
from collections.abc import Iterable

METRIC_NAMES = {"top1": "top-1", "top5": "top-5", "macro": "mean class", "map": "mAP"}  # of the keys of training runs


def count(number: int, noun: str, plural: str | None = None) -> str:
    """Return a number with its noun: "1 video", "2 videos", "2 classes"."""
    return f"{number:,} {noun if number == 1 else plural or noun + 's'}"


def outcome(ok: int, failed: int) -> str:
    """Return how many videos succeeded and failed: "3 videos: 2 ok, 1 failed"."""
    failures = f", {failed:,} failed" if failed else ""
    return f"{count(ok + failed, 'video')}: {ok:,} ok{failures}"


def either(choices: Iterable[object]) -> str:
    """Return choices as a phrase: "a", "a or b", "a, b or c"."""
    *others, last = map(str, choices)
    return f"{', '.join(others)} or {last}" if others else last


def all_of(parts: Iterable[object]) -> str:
    """Return parts as a phrase: "a", "a and b", "a, b and c"."""
    *others, last = map(str, parts)
    return f"{', '.join(others)} and {last}" if others else last


FEW_VIDEOS = 20  # with fewer, a 95 % interval of an accuracy of 50 % reaches more than 22 points to either side


def caution(videos: int, kind: str, way_out: str) -> str | None:
    """Return what limits an accuracy on this number of videos of a kind; None where there are enough."""
    if videos >= FEW_VIDEOS:
        return None
    tell = "tells" if videos == 1 else "tell"
    return f"{count(videos, f'{kind} video'.strip())} {tell} little about accuracy; {way_out}"


def points(share: float) -> float:
    """Return a share in percentage points, to one decimal; never -0.0."""
    return round(100 * share, 1) + 0.0


def percent(share: float, digits: int = 1) -> str:
    """Return a share in percent; only all is "100.0 %", and only nothing is "0.0 %"."""
    shown, step = f"{100 * share:.{digits}f}", 10.0**-digits
    if shown == f"{100:.{digits}f}" and share < 1:
        return f">{100 - step:.{digits}f} %"
    return f"<{step:.{digits}f} %" if shown == f"{0:.{digits}f}" and share > 0 else f"{shown} %"


def nearest(name: str, known: Iterable[str]) -> str:
    """Return the known name that is spelled most like a name; `known` is not empty."""
    return difflib.get_close_matches(name, sorted(known), n=1, cutoff=0.0)[0]
