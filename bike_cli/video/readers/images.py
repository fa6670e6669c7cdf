"""Read a folder of images as a video: 8-bit RGB, with Pillow, a dependency of torchvision."""

from __future__ import annotations

import re
import struct
import zlib
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import suppress
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from bike_cli.errors import VideoError
from bike_cli.media import IMAGE_EXTENSIONS, IMAGE_FORMATS, is_frame_name
from bike_cli.records import FrameTimes
from bike_cli.video.readers.footage import Footage, Request, reason

if TYPE_CHECKING:
    from PIL.Image import Image

# Pillow tries no other formats: some of them start programs, such as Ghostscript for PostScript.
_FORMATS = tuple(IMAGE_FORMATS)

# Errors of Pillow's plugins on broken files, in addition to OSError.
_ERRORS = (
    *(ArithmeticError, AttributeError, EOFError, LookupError, RuntimeError, SyntaxError, TypeError, ValueError),
    *(struct.error, zlib.error),
)
_16_BIT = 257  # 65535 / 255


def read_folder(folder: Path, request: Request) -> Footage:
    """Read a folder with one image per frame, img_2.jpg before img_10.jpg; it has no timestamps.

    Every image is a keyframe, and a draft skips none.

    Raises:
        VideoError: kind `unreadable`, `not_video` or `damaged`.
    """
    images = frame_files(folder)
    positions = request.positions(len(images))  # [K, T]
    wanted, places = np.unique(positions, return_inverse=True)
    pixels = read_images(images[i] for i in wanted)
    for i, image in zip(wanted, pixels, strict=True):
        if image.shape != pixels[0].shape:
            sizes = f"{image.shape[1]}x{image.shape[0]} px, others {pixels[0].shape[1]}x{pixels[0].shape[0]}"
            raise VideoError(f"{images[i]}: is {sizes}; give frames of one size", kind="damaged")
    frames = np.stack(pixels)[places.reshape(positions.shape)]
    return Footage(frames, FrameTimes(np.full(positions.shape, np.nan), positions), len(images))


def frame_files(folder: Path) -> list[Path]:
    """Return the images of a folder in order, img_2.jpg before img_10.jpg; at least one.

    Raises:
        VideoError: kind `unreadable`, or `not_video` if there is none.
    """
    try:
        files = [f for f in folder.iterdir() if is_frame_name(f.name)]
    except OSError as e:
        raise VideoError(f"{folder}: cannot be listed ({reason(e)}); check its permissions", kind="unreadable") from e
    if not files:
        message = f"{folder}: is a folder without frames ({', '.join(sorted(IMAGE_EXTENSIONS))}); give a video"
        raise VideoError(message, kind="not_video")
    return sorted(files, key=lambda f: [int(p) if p.isdecimal() else p for p in re.split(r"(\d+)", f.name)])


def read_images(paths: Iterable[Path]) -> list[NDArray[np.uint8]]:
    """Read the images of one clip: uint8 [H, W, 3] each, rotated as EXIF says, alpha dropped without blending.

    16-bit grey and floats from 0 to 1 are scaled to 8 bits. No file says what 32-bit integers mean: they are read as
    8-bit values if none in the clip is above 255, and as 16-bit values otherwise.

    Raises:
        VideoError: kind `unreadable`, or `damaged` if a file is not an image, is incomplete, or has values outside
            these ranges.
    """
    images = [(path, _read(path)) for path in paths]
    divisor = _divisor(pixels for _, pixels in images)
    return [_in_colour(path, pixels, divisor) for path, pixels in images]


class ImageReader:
    """Reads the images of one clip one after another, as `read_images` reads them together.

    Args:
        step: called before each image is read.
    """

    def __init__(self, paths: Sequence[Path], *, step: Callable[[], None] | None = None) -> None:
        self._paths, self._step = paths, step
        self._divisor: int | None = None

    def read(self, path: Path) -> NDArray[np.uint8]:
        """Read one of the images: uint8 [H, W, 3].

        Raises:
            VideoError: kind `unreadable` or `damaged`.
        """
        pixels = self._pixels(path)
        if pixels.dtype == np.int32 and self._divisor is None:
            self._divisor = _divisor(self._readable())
        return _in_colour(path, pixels, self._divisor or 1)

    def _readable(self) -> Iterator[NDArray[np.generic]]:
        for path in self._paths:
            with suppress(VideoError):
                yield self._pixels(path)

    def _pixels(self, path: Path) -> NDArray[np.generic]:
        if self._step is not None:
            self._step()
        return _read(path)


def _divisor(images: Iterable[NDArray[np.generic]]) -> int:
    """Return what turns 32-bit integers of these images into 8-bit values."""
    peak = max((int(pixels.max()) for pixels in images if pixels.dtype == np.int32), default=0)
    return _16_BIT if peak > 255 else 1


def _read(path: Path) -> NDArray[np.generic]:
    """Return the pixels, rotated: uint8 [H, W, 3] or [H, W] of uint16, int32 or float32."""
    from PIL import Image, ImageOps, UnidentifiedImageError
    from PIL.Image import DecompressionBombError

    try:
        with Image.open(path, formats=_FORMATS) as image:
            image.load()
            with suppress(OSError, *_ERRORS):  # broken EXIF data; the picture is still usable
                ImageOps.exif_transpose(image, in_place=True)
            return _pixels(image)
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
