"""Random draws of training and test videos, which depend on a seed only."""

from __future__ import annotations

import hashlib
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from bike_cli.errors import UsageError
from bike_cli.records import Sample
from bike_cli.wording import count


@dataclass(frozen=True)
class Deal:
    """The order in which one trial draws its training videos.

    Args:
        order: for each class, places among the samples.
        held: for each class, places that are held back for testing; None: the videos that are not drawn are tested on.
    """

    order: tuple[tuple[int, ...], ...]
    held: tuple[frozenset[int], ...] | None


@dataclass(frozen=True)
class Draw:
    """The training and test videos of one trial.

    Args:
        shots: for each class, as many places as the largest number of shots; the first K are the draw of K shots.
        test: places, ascending.
    """

    shots: tuple[tuple[int, ...], ...]
    test: tuple[int, ...]


def deal(
    samples: Sequence[Sample], names: Sequence[str], *, seed: int, trial: int, test_fraction: float | None = None
) -> Deal:
    """Return the order of one trial's draw.

    The order of a class depends on the seed, the trial, its name and its number of videos only, not on other classes,
    workers, devices or the file system.

    Args:
        samples: in a stable order.
        names: of the classes.
        test_fraction: the share of each class that is held back for testing; None: what is not drawn is tested on.
    """
    order: list[tuple[int, ...]] = []
    held: list[frozenset[int]] = []
    for i, name in enumerate(names):
        places = [place for place, sample in enumerate(samples) if sample.label == i]
        shuffled = [places[j] for j in _dice(seed, trial, name).permutation(len(places))]
        kept = 0 if test_fraction is None else max(1, round(test_fraction * len(places)))
        held.append(frozenset(shuffled[:kept]))
        order.append(tuple(shuffled[kept:]))
    return Deal(tuple(order), None if test_fraction is None else tuple(held))


def draw(
    dealt: Deal,
    names: Sequence[str],
    *,
    most: int,
    unusable: Collection[int],
    test: Sequence[int] | None = None,
    reasons: Mapping[int, str] | None = None,
) -> Draw:
    """Return a trial's draw: the first `most` usable videos of each class, and the test videos.

    Args:
        unusable: places that cannot be read, or are left out; the next ones in the order replace them.
        test: places of a separate test side; None: what is held back, or not drawn.
        reasons: why places are unusable, for the error.
    Raises:
        UsageError: a class with fewer than `most` usable videos, or without a test video.
    """
    usable = [[place for place in order if place not in unusable] for order in dealt.order]
    tests_on_the_rest = test is None and dealt.held is None
    smallest = min(range(len(names)), key=lambda i: len(usable[i]))
    if len(usable[smallest]) < most + tests_on_the_rest:
        lost = sorted(set(dealt.order[smallest]) & set(unusable))
        reason = next((reasons[place] for place in lost if place in reasons), None) if reasons else None
        is_held = dealt.held is not None
        raise _shortage(
            f"class {names[smallest]!r}: has {count(len(usable[smallest]), 'video')}{' not held back' * is_held}"
            f"{_lost(len(lost), reason)}",
            most,
            possible=len(usable[smallest]) - tests_on_the_rest,
            tests_on_the_rest=tests_on_the_rest,
        )
    tested = [place for places in usable for place in places[most:]] if tests_on_the_rest else []
    for name, held in zip(names, dealt.held or (), strict=dealt.held is not None):
        readable = [place for place in held if place not in unusable]
        if not readable:
            raise UsageError(
                f"class {name!r}: none of the {count(len(held), 'video')} held back can be read; fix or add some"
            )
        tested += readable
    shots = tuple(tuple(places[:most]) for places in usable)
    return Draw(shots, tuple(sorted(tested) if test is None else (p for p in test if p not in unusable)))


def _shortage(found: str, shots: int, *, possible: int, tests_on_the_rest: bool) -> UsageError:
    """Return the error for a class that has too few videos for a number of shots.

    Args:
        found: the class, and how many videos it has.
        possible: the largest number of shots that it has videos for.
    """
    needed = f"{count(shots, 'shot needs', 'shots need')} {shots} to learn from"
    fixes = ["add videos"]
    if tests_on_the_rest:
        needed, fixes = f"{needed} and 1 to test on", [*fixes, "name others to test on with --test"]
    if possible > 0:
        fixes.insert(0, "give --shots 1" if possible == 1 else f"give --shots {possible} or fewer")
    *others, last = fixes
    return UsageError(
        f"{found}, but {needed}; {', '.join(others)}{', or ' if others else ''}{last}", settings=("shots",)
    )


def _lost(unusable: int, reason: str | None) -> str:
    first = "" if reason is None else f"; the first: {reason}"
    return f" ({unusable} more cannot be used{first})" if unusable else ""


def _dice(seed: int, trial: int, name: str) -> np.random.Generator:
    of_name = int.from_bytes(hashlib.sha256(name.encode("utf-8", "surrogatepass")).digest()[:8], "big")
    return np.random.Generator(np.random.PCG64([seed, trial, of_name]))
