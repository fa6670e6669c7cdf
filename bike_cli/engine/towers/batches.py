"""Batch sizes that fill a device, and shrink when its memory is too small."""

from __future__ import annotations

import logging
from collections.abc import Callable, Sequence
from typing import TypeVar

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from bike_cli.errors import ModelError
from bike_cli.wording import count

logger = logging.getLogger(__name__)


class FrameList:
    """Frames of several arrays, as one sequence that can be sliced without a copy.

    Args:
        arrays: each [B, ...]; the frames have one shape.
    """

    def __init__(self, arrays: Sequence[NDArray[np.uint8]]) -> None:
        self.arrays = list(arrays)

    def __len__(self) -> int:
        return sum(map(len, self.arrays))

    def __getitem__(self, span: slice) -> FrameList:
        start, stop, _ = span.indices(len(self))
        parts = []
        for array in self.arrays:
            part = array[max(0, start) : max(0, stop)]
            parts += [part] if len(part) else []
            start, stop = start - len(array), stop - len(array)
        return FrameList(parts)


Rows = TypeVar("Rows", Tensor, NDArray[np.uint8], FrameList)


class Batches:
    """A batch size that shrinks when the device runs out of memory, and stays small.

    Args:
        at_once: total cost of the rows of a batch.
    """

    def __init__(self, at_once: int) -> None:
        self.at_once = at_once

    def run(
        self, function: Callable[[Rows], Tensor], rows: Rows, *, cost: int = 1, unit: str = "frame"
    ) -> list[Tensor]:
        """Return the results of `function` on the rows, batch by batch, in order.

        Args:
            cost: of a row.
            unit: what a row is, for messages.
        Raises:
            ModelError: a single row is too much for the memory.
        """
        parts: list[Tensor] = []
        start = 0
        while start < len(rows):
            batch = rows[start : start + max(1, self.at_once // cost)]
            try:
                parts.append(function(batch))
            except torch.OutOfMemoryError as e:
                half = len(batch) // 2
                if not half:
                    problem = f"out of memory: the device cannot hold one {unit}"
                    raise ModelError(f"{problem}; choose a smaller model, or --device cpu") from e
                self.at_once = half * cost
                torch.cuda.empty_cache()
                logger.warning("out of memory on the device: continuing with %s at once", count(half, unit))
            else:
                start += len(batch)
        return parts
