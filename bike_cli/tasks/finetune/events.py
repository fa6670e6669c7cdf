"""Event files for TensorBoard, which is an optional dependency."""

from __future__ import annotations

import math
from pathlib import Path


class TensorBoardLog:
    """The event files of a training run.

    Args:
        done: completed steps; events of later steps, written by a run that was killed, are discarded.
    """

    def __init__(self, folder: Path, *, done: int = 0) -> None:
        from torch.utils.tensorboard import SummaryWriter

        self._writer = SummaryWriter(str(folder), purge_step=done + 1)

    def add_scalar(self, tag: str, value: float, step: int) -> None:
        """Log a scalar; non-finite values are skipped."""
        if math.isfinite(value):
            self._writer.add_scalar(tag, value, step)

    def close(self) -> None:
        """Flush and close the files."""
        self._writer.close()
