"""Phrases that many messages share."""

from __future__ import annotations

import difflib
from collections.abc import Iterable


def count(number: int, noun: str) -> str:
    """Return a number with its noun: "1 video", "2 videos"."""
    return f"{number:,} {noun}{'' if number == 1 else 's'}"


def nearest(name: str, known: Iterable[str]) -> str:
    """Return the known name that is spelled most like a name; `known` is not empty."""
    return difflib.get_close_matches(name, sorted(known), n=1, cutoff=0.0)[0]
