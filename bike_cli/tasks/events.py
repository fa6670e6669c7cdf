"""What TensorBoard reads; it is an extra."""

from __future__ import annotations

import math
from pathlib import Path


class Events:
    """The events of a training in a folder."""

    def __init__(self, folder: Path) -> None:
        from torch.utils.tensorboard import SummaryWriter

        self._writer = SummaryWriter(str(folder))

    def tell(self, tag: str, value: float, step: int) -> None:
        """Add a number; what is none is left out."""
        if math.isfinite(value):
            self._writer.add_scalar(tag, value, step)

    def close(self) -> None:
        """Write what is left."""
        self._writer.close()
