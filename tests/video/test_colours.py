"""Pixels match those of ffmpeg, even where chroma is interpolated."""

import shutil
import subprocess
from fractions import Fraction
from pathlib import Path

import av
import numpy as np
import pytest

from bike_cli.config import SamplingConfig
from bike_cli.records import Source
from bike_cli.video.decoding import decode

N = 4
FORMATS = [
    ("yuv420p", 64, 48),
    ("yuv420p", 33, 17),
    ("yuv420p10le", 64, 48),
    ("yuv420p10le", 33, 17),
    ("yuv422p", 64, 48),
    ("yuv422p10le", 64, 48),
    ("yuv444p", 64, 48),
]


def write_texture(path: Path, pixels: str, width: int, height: int) -> Path:
    """Write frames of coloured squares without loss."""
    rng = np.random.default_rng(0)
    with av.open(str(path), "w") as container:
        stream = container.add_stream("ffv1", rate=25)
        stream.width, stream.height, stream.pix_fmt = width, height, pixels
        for i in range(N):
            squares = rng.integers(0, 256, (-(-height // 4), -(-width // 4), 3), np.uint8)
            frame = av.VideoFrame.from_ndarray(
                np.ascontiguousarray(squares.repeat(4, 0).repeat(4, 1)[:height, :width]), format="rgb24"
            ).reformat(format=pixels)
            frame.pts, frame.time_base = i, Fraction(1, 25)
            container.mux(stream.encode(frame))
        container.mux(stream.encode())
    return path


@pytest.mark.parametrize(("pixels", "width", "height"), FORMATS)
def test_chroma_is_interpolated_with_bicubic_splines(tmp_path: Path, pixels: str, width: int, height: int) -> None:
    film = write_texture(tmp_path / "film.mkv", pixels, width, height)
    with av.open(str(film)) as container:
        expected = [
            frame.reformat(format="rgb24", interpolation="BICUBIC").to_ndarray() for frame in container.decode(video=0)
        ]

    clip = decode(Source.at(film), SamplingConfig(frames=N))

    np.testing.assert_array_equal(clip.frames[0], np.stack(expected))


@pytest.mark.parametrize(("width", "height"), [(64, 48), (98, 66)])
def test_8_bit_420_is_not_interpolated(tmp_path: Path, width: int, height: int) -> None:
    film = write_texture(tmp_path / "film.mkv", "yuv420p", width, height)
    with av.open(str(film)) as container:
        expected = [frame.to_ndarray(format="rgb24") for frame in container.decode(video=0)]

    clip = decode(Source.at(film), SamplingConfig(frames=N))

    np.testing.assert_array_equal(clip.frames[0], np.stack(expected))


@pytest.mark.skipif(shutil.which("ffmpeg") is None, reason="needs ffmpeg to decode the expected frames")
@pytest.mark.parametrize(("pixels", "width", "height"), FORMATS)
def test_pixels_are_those_of_ffmpeg(tmp_path: Path, pixels: str, width: int, height: int) -> None:
    film = write_texture(tmp_path / "film.mkv", pixels, width, height)
    command = ["ffmpeg", "-v", "error", "-i", str(film), "-f", "rawvideo", "-pix_fmt", "rgb24", "-"]
    shown = subprocess.run(command, check=True, capture_output=True).stdout
    expected = np.frombuffer(shown, np.uint8).reshape(N, height, width, 3)

    clip = decode(Source.at(film), SamplingConfig(frames=N))

    # Versions of FFmpeg round differently; linear interpolation differs by 3.
    assert np.abs(clip.frames[0].astype(int) - expected).mean() < 0.5
