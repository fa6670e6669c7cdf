"""Times of day in a video, in whole milliseconds, so that neighbours never overlap or run backwards."""

from __future__ import annotations


def to_ms(seconds: float) -> int:
    """Return a time in whole milliseconds; never negative."""
    return max(0, round(seconds * 1000))


def clock(seconds: float, *, digits: int = 2) -> str:
    """Return a time as `00:12:03.25`, with up to three digits after the point."""
    step = 10 ** (3 - digits)
    fractions = round(to_ms(seconds) / step)
    whole, fraction = divmod(fractions, 10**digits)
    point = f".{fraction:0{digits}d}" if digits else ""
    return f"{whole // 3600:02d}:{whole // 60 % 60:02d}:{whole % 60:02d}{point}"


def timestamp(milliseconds: int, *, point: str = ".") -> str:
    """Return a time as `00:12:03.250`."""
    seconds, fraction = divmod(milliseconds, 1000)
    return f"{seconds // 3600:02d}:{seconds // 60 % 60:02d}:{seconds % 60:02d}{point}{fraction:03d}"
