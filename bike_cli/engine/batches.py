"""How many pictures go through a tower at once: as many as fill the device, fewer once its memory was too small."""

from __future__ import annotations

import logging
from collections.abc import Callable

import torch
from torch import Tensor

from bike_cli.errors import ModelError

logger = logging.getLogger(__name__)

AT_ONCE = {"cuda": 128}
AT_ONCE_ELSEWHERE = 32


class Batches:
    """A size that shrinks when the device runs out of memory, and stays so.

    Attributes:
        at_once: rows of a batch.
    """

    def __init__(self, device: torch.device) -> None:
        self.at_once = AT_ONCE.get(device.type, AT_ONCE_ELSEWHERE)

    def run(self, function: Callable[[Tensor], Tensor], rows: Tensor) -> list[Tensor]:
        """Return what `function` makes of the rows, batch by batch, in order.

        Raises:
            ModelError: a single row is too much for the memory.
        """
        parts: list[Tensor] = []
        start = 0
        while start < len(rows):
            batch = rows[start : start + self.at_once]
            try:
                parts.append(function(batch))
            except torch.OutOfMemoryError as e:
                self._halve(len(batch), e)
                continue
            start += len(batch)
        return parts

    def _halve(self, rows: int, error: torch.OutOfMemoryError) -> None:
        if rows <= 1:
            message = "out of memory: the device cannot hold one frame; choose a smaller model, or --device cpu"
            raise ModelError(message) from error
        self.at_once = rows // 2
        torch.cuda.empty_cache()
        logger.warning("out of memory on the device: going on with %d frames at once", self.at_once)
