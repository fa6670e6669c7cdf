"""Sizes of open_clip's architectures, without torch. Building them all to measure them would take half a minute.

`sizes.csv` lists the architectures with weights that bike runs. `catalogue.sizes_of` builds the others.
"""

from __future__ import annotations

import csv
from dataclasses import dataclass
from functools import cache
from importlib import resources


@dataclass(frozen=True)
class Sizes:
    """The sizes of an architecture.

    Args:
        image_parameters: of the image tower.
        text_parameters: of the rest: the text tower, and the scale and bias of the scores.
        input_px: side of the frames it takes, in pixels.
    """

    image_parameters: int
    text_parameters: int
    input_px: int

    @property
    def parameters(self) -> int:
        """The number of all parameters."""
        return self.image_parameters + self.text_parameters


@cache
def recorded_sizes() -> dict[str, Sizes]:
    """Return the sizes of architectures by name."""
    text = resources.files(__package__).joinpath("sizes.csv").read_text(encoding="utf-8")
    return {
        row["arch"]: Sizes(int(row["image_parameters"]), int(row["text_parameters"]), int(row["input_px"]))
        for row in csv.DictReader(text.splitlines())
    }
