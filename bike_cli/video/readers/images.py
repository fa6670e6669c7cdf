"""Read image files as 8-bit RGB with Pillow, a dependency of torchvision."""

from __future__ import annotations

import struct
import zlib
from collections.abc import Iterable
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from bike_cli.errors import VideoError
from bike_cli.media import IMAGE_FORMATS
from bike_cli.video.readers.footage import reason
from bike_cli.video.readers.orientation import Orientation

if TYPE_CHECKING:
    from PIL.Image import Image

# Pillow tries no other formats: some of them start programs, such as Ghostscript for PostScript.
_FORMATS = tuple(IMAGE_FORMATS)

_EXIF_ORIENTATION = 0x0112
_ORIENTATIONS = {
    2: Orientation(flips_columns=True),
    3: Orientation(flips_rows=True, flips_columns=True),
    4: Orientation(flips_rows=True),
    5: Orientation(swaps_axes=True),
    6: Orientation(swaps_axes=True, flips_columns=True),
    7: Orientation(swaps_axes=True, flips_rows=True, flips_columns=True),
    8: Orientation(swaps_axes=True, flips_rows=True),
}
# Errors of Pillow's plugins on broken files, in addition to OSError.
_ERRORS = (
    ArithmeticError,
    AttributeError,
    EOFError,
    LookupError,
    NotImplementedError,
    RuntimeError,
    SyntaxError,
    TypeError,
    ValueError,
    struct.error,
    zlib.error,
)
_16_BIT = 257  # 65535 / 255


def read_images(paths: Iterable[Path]) -> list[NDArray[np.uint8]]:
    """Read the images of one clip: uint8 [H, W, 3] each, rotated as EXIF says, alpha dropped without blending.

    16-bit grey and floats from 0 to 1 are scaled to 8 bits. No file says what 32-bit integers mean: they are read as
    8-bit values if none in the clip is above 255, and as 16-bit values otherwise.

    Raises:
        VideoError: kind `unreadable`, or `damaged` if a file is not an image, is incomplete, or has values outside
            these ranges.
    """
    images = [(path, *_read(path)) for path in paths]
    peak = max((int(pixels.max()) for _, pixels, _ in images if pixels.dtype == np.int32), default=0)
    divisor = _16_BIT if peak > 255 else 1
    return [orientation.apply(_in_colour(path, pixels, divisor)) for path, pixels, orientation in images]


def _read(path: Path) -> tuple[NDArray[np.generic], Orientation]:
    """Return the stored pixels, uint8 [H, W, 3] or [H, W] of uint16, int32 or float32, and their orientation."""
    from PIL import Image, UnidentifiedImageError
    from PIL.Image import DecompressionBombError

    try:
        with Image.open(path, formats=_FORMATS) as image:
            image.load()
            return _pixels(image), _orientation(image)
    except PermissionError as e:
        raise VideoError(f"{path}: cannot be read ({reason(e)}); check its permissions", kind="unreadable") from e
    except UnidentifiedImageError as e:
        formats = ", ".join(_FORMATS)
        raise VideoError(f"{path}: is not an image ({formats}); extract the frames again", kind="damaged") from e
    except (OSError, DecompressionBombError, *_ERRORS) as e:
        raise VideoError(f"{path}: is a broken image ({reason(e)}); extract the frames again", kind="damaged") from e


def _pixels(image: Image) -> NDArray[np.generic]:
    if image.mode.startswith("I;16"):
        return np.asarray(image).astype(np.uint16)
    if image.mode == "I":
        integers = np.asarray(image, np.int32)
        # Only TIFF has 32-bit integers; Pillow reads 16-bit PNG and PGM as such, and scales PGM to 16 bits.
        is_16_bit = image.format != "TIFF" and integers.min() >= 0 and integers.max() < 2**16
        return integers.astype(np.uint16) if is_16_bit else integers
    if image.mode == "F":
        return np.asarray(image, np.float32)
    if image.mode == "LAB":
        from PIL import ImageCms

        lab, rgb = ImageCms.createProfile("LAB"), ImageCms.createProfile("sRGB")
        return np.asarray(ImageCms.applyTransform(image, ImageCms.buildTransform(lab, rgb, "LAB", "RGB")))
    return np.asarray(image.convert("RGB"))


def _orientation(image: Image) -> Orientation:
    try:
        return _ORIENTATIONS.get(image.getexif().get(_EXIF_ORIENTATION, 1), Orientation())
    except (OSError, *_ERRORS):  # broken EXIF data; the picture is still usable
        return Orientation()


def _in_colour(path: Path, pixels: NDArray[np.generic], divisor: int) -> NDArray[np.uint8]:
    if pixels.dtype == np.uint8:
        return pixels.astype(np.uint8, copy=False)
    low, high = float(pixels.min()), float(pixels.max())
    limit = 1.0 if pixels.dtype == np.float32 else 65535.0
    if not (low >= 0 and high <= limit):  # NaN too
        numbers = "floats" if pixels.dtype == np.float32 else "integers"
        message = (
            f"{path}: has {numbers} from {low:g} to {high:g}, expected 0 to {limit:g}; save its frames with 8 bits"
        )
        raise VideoError(message, kind="damaged")
    scale = {np.dtype(np.float32): 255.0, np.dtype(np.uint16): 1 / _16_BIT}.get(pixels.dtype, 1 / divisor)
    grey = np.rint(pixels.astype(np.float64) * scale).astype(np.uint8)
    return np.repeat(grey[..., np.newaxis], 3, axis=2)
