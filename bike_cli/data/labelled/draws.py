"""Which videos are learned from and which are tested on: a seed decides, and nothing else."""

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
    """The training videos of one trial in the order in which they are drawn.

    Args:
        order: for each class, places among the samples.
        held: for each class, places that are tested on, whatever is drawn; None: those that are not drawn.
    """

    order: tuple[tuple[int, ...], ...]
    held: tuple[frozenset[int], ...] | None

    @property
    def held_back(self) -> frozenset[int] | None:
        """All places that are tested on, whatever is drawn."""
        return None if self.held is None else frozenset().union(*self.held)


@dataclass(frozen=True)
class Draw:
    """What one trial learns from and is tested on.

    Args:
        shots: for each class, as many places as the largest number of shots; the first K of them are K shots.
        test: places, in order.
    """

    shots: tuple[tuple[int, ...], ...]
    test: tuple[int, ...]


def deal(
    samples: Sequence[Sample], names: Sequence[str], *, seed: int, trial: int, test_fraction: float | None = None
) -> Deal:
    """Return the order of one trial's draw.

    A class's order depends on the seed, the trial, its name and how many videos it has: other classes, workers, devices
    and the file system have no say.

    Args:
        samples: in a stable order.
        names: of the classes.
        test_fraction: of each class's videos that are held back for testing; None: what is not drawn is tested on.
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
    """Return a trial's draw: of each class the first `most` that can be used, and what is tested on.

    Args:
        unusable: places that cannot be read, or are left out; the next in the order takes their turn.
        test: places of a test side of its own; None: what is held back, or not drawn.
        reasons: why unusable places are so, for the error.
    Raises:
        UsageError: a class with fewer than `most` usable videos, or with none left to test on.
    """
    shots: list[tuple[int, ...]] = []
    tested: list[int] = []
    for name, order in zip(names, dealt.order, strict=True):
        usable = [place for place in order if place not in unusable]
        if len(usable) < most:
            lost = sorted(set(order) - set(usable))
            reason = next((reasons[place] for place in lost if place in reasons), None) if reasons else None
            raise _too_few(name, len(usable), len(lost), most, reason)
        shots.append(tuple(usable[:most]))
        if test is None and dealt.held is None:
            if len(usable) == most:
                raise UsageError(
                    f"class {name!r}: has {count(most, 'video')} to draw from, and {most} shots leave none to test on; "
                    f"add videos, give --test, or ask for fewer --shots"
                )
            tested += usable[most:]
    for name, held in zip(names, dealt.held or (), strict=dealt.held is not None):
        usable = [place for place in held if place not in unusable]
        if not usable:
            raise UsageError(
                f"class {name!r}: none of the {count(len(held), 'video')} held back can be read; fix or add some"
            )
        tested += usable
    return Draw(tuple(shots), tuple(sorted(tested) if test is None else (p for p in test if p not in unusable)))


def _too_few(name: str, usable: int, unusable: int, most: int, reason: str | None) -> UsageError:
    first = "" if reason is None else f"; the first: {reason}"
    lost = f" ({unusable} more cannot be used{first})" if unusable else ""
    return UsageError(
        f"class {name!r}: has {count(usable, 'video')} to draw from{lost}, and {most} shots need {most}; add videos, "
        f"or ask for fewer --shots"
    )


def _dice(seed: int, trial: int, name: str) -> np.random.Generator:
    of_name = int.from_bytes(hashlib.sha256(name.encode("utf-8", "surrogatepass")).digest()[:8], "big")
    return np.random.Generator(np.random.PCG64([seed, trial, of_name]))
