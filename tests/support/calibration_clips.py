"""Class folders to calibrate with: films of the bundled model's world, some of which show none of the labels."""

from pathlib import Path

import numpy as np
from films import COLOURS, drawn, write_video

LABELS = tuple(sorted(f"{colour} {shape}" for colour in COLOURS for shape in ("circle", "cross")))
UNKNOWN = "red square"  # what clips of `none` show, in other colours too
EACH = 4  # films of a label


def write_calibration_clips(folder: Path, *, each: int = EACH, unknown: int = 3) -> Path:
    """Write `each` films of six labels, and films of `none`; no two are equal."""
    for label in LABELS:
        for i in range(each):
            _write(folder / label.replace(" ", "_") / f"{i}.mp4", label, i)
    for i in range(unknown):
        _write(folder / "none" / f"{i}.mp4", f"{list(COLOURS)[i % 3]} square", i)
    return folder


def _write(file: Path, label: str, i: int) -> None:
    file.parent.mkdir(parents=True, exist_ok=True)
    write_video(file, np.roll(drawn(label, frames=8 + i // 4), (4 * (i % 4) - 8, 5 * (i % 3)), axis=(1, 2)))
