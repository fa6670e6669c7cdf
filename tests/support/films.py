"""Videos of simple shapes that the bundled model recognises; independent of the program that trained it."""

from collections.abc import Mapping
from pathlib import Path

import av
import numpy as np
from numpy.typing import NDArray

FPS = 8
COLOURS: Mapping[str, tuple[int, int, int]] = {"red": (220, 30, 30), "blue": (30, 60, 220), "green": (20, 170, 60)}
SHAPES = {
    "square": lambda x, y: np.maximum(abs(x), abs(y)) < 16,
    "circle": lambda x, y: x**2 + y**2 < 18**2,
    "cross": lambda x, y: (np.maximum(abs(x), abs(y)) < 18) & (np.minimum(abs(x), abs(y)) < 6),
}


def drawn(label: str, *, frames: int = 16) -> NDArray[np.uint8]:
    """Draw a video of the object named by `label`, such as "red square", moving on black: [T, 64, 64, 3]."""
    colour, shape = label.split()
    y, x = np.mgrid[:64, :64]
    film = np.zeros((frames, 64, 64, 3), np.uint8)
    for i, frame in enumerate(film):
        frame[SHAPES[shape](x - 24 - i, y - 32)] = COLOURS[colour]
    return film


def write_video(path: Path, film: NDArray[np.uint8], *, codec: str = "libx264", container: str = "mp4") -> Path:
    """Write frames to a file, at `FPS` frames per second."""
    with av.open(path, "w", format=container) as out:
        stream = out.add_stream(codec, rate=FPS)
        stream.width, stream.height, stream.pix_fmt = film.shape[2], film.shape[1], "yuv420p"
        for frame in film:
            out.mux(stream.encode(av.VideoFrame.from_ndarray(frame, format="rgb24")))
        out.mux(stream.encode())
    return path
