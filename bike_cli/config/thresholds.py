"""The thresholds of temporal overlap (tIoU) at which detections count as correct."""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

from bike_cli.errors import ConfigError

ACTIVITYNET, THUMOS14 = "0.5:0.95:0.05", "0.3:0.7:0.1"  # what the two benchmarks average over
AUTO = "auto"  # both
MOST_THRESHOLDS = 100
_FIX = "write numbers, such as 0.3,0.5, or START:END:STEP, such as 0.5:0.95:0.05"


@dataclass(frozen=True)
class Thresholds:
    """Thresholds of tIoU, and the means over some of them that are reported.

    Args:
        values: by name, such as `0.5`; ascending.
        means: the names of the values of each mean, by its name, such as `0.5:0.95`; the first decides.
    """

    values: dict[str, float]
    means: dict[str, tuple[str, ...]]

    @classmethod
    def parse(cls, text: str) -> Thresholds:
        """Return the thresholds in a text: `auto`, `START:END:STEP`, or numbers separated by commas.

        A range has the values of `numpy.linspace`, as in the official code of ActivityNet; 0.9 may be
        0.8999999999999999 in it.

        Raises:
            ConfigError: something else, or a threshold that is not above 0 and at most 1.
        """
        values: dict[str, float] = {}
        means: dict[str, tuple[str, ...]] = {}
        for part in (ACTIVITYNET, THUMOS14) if text.strip() == AUTO else (text,):
            numbers = list(_numbers(part))
            names = tuple(map(name_of, numbers))
            for name, number in zip(names, numbers, strict=True):
                values.setdefault(name, number)
            if len(names) > 1:
                means[f"{names[0]}:{names[-1]}" if ":" in part else "mean"] = names
        return cls(dict(sorted(values.items(), key=lambda item: item[1])), means)


def name_of(threshold: float) -> str:
    """Return the name of a threshold, with up to six digits: `0.5`."""
    return f"{threshold:.6g}"


def _numbers(text: str) -> Iterator[float]:
    parts = text.split(":")
    if len(parts) not in (1, 3):
        raise ConfigError(f"tiou is {text!r}; {_FIX}")
    numbers = [_number(part, text) for part in (text.split(",") if len(parts) == 1 else parts)]
    if len(parts) == 3:
        numbers = _range(*numbers, text=text)
    _check(numbers, text)
    yield from numbers


def _number(part: str, text: str) -> float:
    try:
        return float(part)
    except ValueError as e:
        raise ConfigError(f"tiou is {text!r}, and {part.strip()!r} is not a number; {_FIX}") from e


def _range(start: float, end: float, step: float, *, text: str) -> list[float]:
    if not (0 < step < math.inf and start <= end < math.inf):
        raise ConfigError(f"tiou is {text!r}; its step must be above 0, and its end not below its start")
    steps = (end - start) / step
    if steps >= MOST_THRESHOLDS:
        raise ConfigError(f"tiou is {text!r}, which has more than {MOST_THRESHOLDS} thresholds; give a larger step")
    whole = round(steps)
    if abs(steps - whole) > 1e-6:
        raise ConfigError(f"tiou is {text!r}; no whole number of steps leads from its start to its end; change one")
    apart = (end - start) / max(whole, 1)
    return [*(i * apart + start for i in range(whole)), end]


def _check(numbers: Sequence[float], text: str) -> None:
    if len(numbers) > MOST_THRESHOLDS:
        raise ConfigError(f"tiou is {text!r}, which has more than {MOST_THRESHOLDS} thresholds; give fewer")
    outside = next((number for number in numbers if not 0 < number <= 1), None)
    if outside is not None:
        raise ConfigError(f"tiou is {text!r}; every threshold must be above 0 and at most 1, and {outside:g} is not")
    names = [name_of(number) for number in numbers]
    repeated = next((name for i, name in enumerate(names) if name in names[:i]), None)
    if repeated is not None:
        raise ConfigError(f"tiou is {text!r}, and names {repeated} twice; remove one")
