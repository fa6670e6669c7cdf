"""Small pictures of frames, for reports."""

from __future__ import annotations

import io

import numpy as np
from numpy.typing import NDArray

_JPEG_QUALITY = 80  # lower shows blocks in faces; higher makes a report with fifty pictures too large


def as_jpeg(frame: NDArray[np.uint8], *, side_px: int) -> bytes:
    """Encode a frame as a JPEG whose longer side is at most `side_px`; smaller frames keep their size.

    Args:
        frame: uint8 [H, W, 3], RGB.
        side_px: at least 1.
    Raises:
        ValueError: `frame` has another shape or type, or is empty.
    """
    if frame.ndim != 3 or frame.shape[2] != 3 or not frame.size or frame.dtype != np.uint8:
        raise ValueError(f"frame is {frame.dtype} {list(frame.shape)}; expected uint8 [H, W, 3]")
    from PIL import Image

    image = Image.fromarray(np.ascontiguousarray(frame))
    image.thumbnail((side_px, side_px))
    stream = io.BytesIO()
    image.save(stream, "JPEG", quality=_JPEG_QUALITY, optimize=True)
    return stream.getvalue()
