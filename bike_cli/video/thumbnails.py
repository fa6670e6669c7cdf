"""A frame as a small picture, for a page or a message."""

from __future__ import annotations

import io

import numpy as np
from numpy.typing import NDArray

JPEG_QUALITY = 80  # below, blocks show in faces; above, a page of fifty mistakes weighs too much


def as_jpeg(frame: NDArray[np.uint8], *, side_px: int) -> bytes:
    """Return a frame as a JPEG whose longer side is at most `side_px`; smaller frames keep their size.

    Args:
        frame: uint8 [H, W, 3], RGB.
        side_px: at least 1.
    Raises:
        ValueError: no such frame.
    """
    if frame.ndim != 3 or frame.shape[2] != 3 or not frame.size or frame.dtype != np.uint8:
        raise ValueError(f"a frame is {frame.dtype}{list(frame.shape)}; expected uint8 [H, W, 3]")
    from PIL import Image

    image = Image.fromarray(np.ascontiguousarray(frame))
    image.thumbnail((side_px, side_px))
    stream = io.BytesIO()
    image.save(stream, "JPEG", quality=JPEG_QUALITY, optimize=True)
    return stream.getvalue()
