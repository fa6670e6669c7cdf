"""The input and output of all readers: a request for frames, and footage."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from bike_cli.config import SamplingConfig
from bike_cli.errors import VideoError
from bike_cli.records import FrameTimes, Source
from bike_cli.video.sampling import positions_of


@dataclass(frozen=True)
class Request:
    """The frames to read; `rng` is the jitter for training, None reads the same frames each time."""

    config: SamplingConfig
    rng: np.random.Generator | None = None

    def positions(self, n_frames: int) -> NDArray[np.int64]:
        """Return the positions of the requested frames in a video of `n_frames` frames: [K, T]."""
        return positions_of(self.config, n_frames, self.rng)


@dataclass(frozen=True)
class Footage:
    """What a reader returns.

    Args:
        frames: uint8 [K, T, H, W, 3].
        timeline: of the frames, [K, T]; positions are known, and the duration is the end of the last frame.
        n_frames: frames in the whole video.
        notes: what differs from the request; becomes the timeline's warning.
        ends_at_s: end of the last frame on the file's own clock; None if it is unknown or was corrected.
        details: how the file was read, for the log of `-v`: the reader, ignored video streams.
    """

    frames: NDArray[np.uint8]
    timeline: FrameTimes
    n_frames: int
    notes: Sequence[str] = ()
    details: Sequence[str] = ()
    ends_at_s: float | None = None


def reason(error: Exception) -> str:
    """Return the text of a decoder's or the system's error, for use in a message."""
    return getattr(error, "strerror", None) or str(error) or type(error).__name__


def unexpected_error(source: Source, error: Exception) -> VideoError:
    """Return the error of a file that makes PyAV fail in an unexpected way."""
    message = f"{source.id}: cannot be read ({type(error).__name__}: {reason(error)}); convert the file"
    return VideoError(message, kind="damaged")
