"""Read a folder of images as a video, with Pillow, a dependency of torchvision."""

from __future__ import annotations

import re
from pathlib import Path

import numpy as np

from bike_cli.errors import VideoError
from bike_cli.media import IMAGE_EXTENSIONS, is_frame_name
from bike_cli.records import Timeline
from bike_cli.video.readers.footage import Footage, Request, reason
from bike_cli.video.readers.images import read_images


def read_folder(folder: Path, request: Request) -> Footage:
    """Read a folder with one image per frame, img_2.jpg before img_10.jpg; it has no timestamps.

    Every image is a keyframe, and a draft skips none.

    Raises:
        VideoError: kind `unreadable`, `not_video` or `damaged`.
    """
    images = _frame_files(folder)
    if not images:
        message = f"{folder}: is a folder without frames ({', '.join(sorted(IMAGE_EXTENSIONS))}); give a video"
        raise VideoError(message, kind="not_video")
    positions = request.positions(len(images))  # [K, T]
    wanted, places = np.unique(positions, return_inverse=True)
    pixels = read_images(images[i] for i in wanted)
    for i, image in zip(wanted, pixels, strict=True):
        if image.shape != pixels[0].shape:
            sizes = f"{image.shape[1]}x{image.shape[0]} px, others {pixels[0].shape[1]}x{pixels[0].shape[0]}"
            raise VideoError(f"{images[i]}: is {sizes}; give frames of one size", kind="damaged")
    frames = np.stack(pixels)[places.reshape(positions.shape)]
    return Footage(frames, Timeline(np.full(positions.shape, np.nan), positions), len(images))


def _frame_files(folder: Path) -> list[Path]:
    try:
        files = [f for f in folder.iterdir() if is_frame_name(f.name)]
    except OSError as e:
        raise VideoError(f"{folder}: cannot be listed ({reason(e)}); check its permissions", kind="unreadable") from e
    return sorted(files, key=lambda f: [int(p) if p.isdecimal() else p for p in re.split(r"(\d+)", f.name)])
