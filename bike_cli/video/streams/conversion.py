"""Convert the pictures of a stream; one that cannot be converted is a frame that cannot be read."""

from __future__ import annotations

import av
import numpy as np
from numpy.typing import NDArray

from bike_cli.video.readers.video_file import FrameConverter


class StreamConverter:
    """Converts pictures to RGB as they are shown, in the size of the first one.

    Args:
        short_side: see `StreamRequest`.
    Attributes:
        error: why a picture could not be converted.
    """

    def __init__(self, short_side: int | None = None) -> None:
        self.error: Exception | None = None
        self._converter = FrameConverter(short_side)
        self._has_size = False

    def adopt(self, picture: av.VideoFrame) -> None:
        """Take the size and the display matrix of the first picture; further ones change nothing."""
        if not self._has_size:
            self._converter.adopt(picture)
            self._has_size = True

    def convert(self, picture: av.VideoFrame) -> NDArray[np.uint8] | None:
        """Return the pixels of a picture, uint8 [H, W, 3]; None if they cannot be converted."""
        try:
            return self._converter.convert(picture)
        except MemoryError:
            raise
        except (av.error.FFmpegError, ValueError) as e:
            self.error = e
            return None
