"""Cut clips out of videos."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path


@dataclass(frozen=True)
class Cut:
    """A clip that was cut out of a video.

    Args:
        path: the file.
        start_s: where it begins in the video, in seconds; before the requested time if it begins at a keyframe.
        exact: whether it was encoded again, so that it begins and ends at the requested times.
    """

    path: Path
    start_s: float
    exact: bool
