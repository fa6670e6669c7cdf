"""Tensors that are needed several times: kept if they fit in memory, computed again if not."""

from __future__ import annotations

from collections.abc import Callable, Iterator

from torch import Tensor

MOST_NUMBERS = 2**26  # that are kept, 256 MiB of fp32: the windows of 6 hours of `tiny`, at 4 bins per second


class Replay:
    """Tensors that can be read several times, with the same values each time.

    Args:
        make: computes them, one after another.
        numbers: in all of them together.
        most: numbers that may be kept; None: `MOST_NUMBERS`.
    """

    def __init__(self, make: Callable[[], Iterator[Tensor]], numbers: int, *, most: int | None = None) -> None:
        self._make = make
        self._is_small = numbers <= (MOST_NUMBERS if most is None else most)
        self._kept: list[Tensor] | None = None

    def __iter__(self) -> Iterator[Tensor]:
        if not self._is_small:
            return self._make()
        if self._kept is None:
            self._kept = list(self._make())
        return iter(self._kept)
