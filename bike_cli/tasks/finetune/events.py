"""What TensorBoard reads; it is an extra."""

from __future__ import annotations

import math
from pathlib import Path


class Events:
    """The events of a training in a folder.

    Args:
        done: steps; what the folder says of later ones, of a run that was lost behind its checkpoint, is told anew.
    """

    def __init__(self, folder: Path, *, done: int = 0) -> None:
        from torch.utils.tensorboard import SummaryWriter

        self._writer = SummaryWriter(str(folder), purge_step=done + 1)

    def tell(self, tag: str, value: float, step: int) -> None:
        """Add a number; what is none is left out."""
        if math.isfinite(value):
            self._writer.add_scalar(tag, value, step)

    def close(self) -> None:
        """Write what is left."""
        self._writer.close()
