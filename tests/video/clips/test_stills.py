"""Stills show the frame that is on screen at a time, whatever the order of the times."""

import io
from pathlib import Path

import numpy as np
import pytest
from barcode_films import numbers_of, write_barcodes
from numbered_films import CLIPS, needs_clips
from PIL import Image

from bike_cli.errors import VideoError
from bike_cli.records import Source
from bike_cli.video.clips.stills import stills_at


def pixels(jpeg: bytes | None) -> np.ndarray:
    assert jpeg is not None
    return np.asarray(Image.open(io.BytesIO(jpeg)).convert("RGB"))


def shown_at(source: Source, times_s: list[float]) -> list[int]:
    return [int(numbers_of(pixels(jpeg))) for jpeg in stills_at(source, times_s, side_px=64)]


@pytest.mark.parametrize(
    ("suffix", "codec"), [("mp4", "libx264"), ("mkv", "libx264"), ("ts", "libx264"), ("avi", "mpeg4")]
)
def test_the_frame_on_screen_is_shown(tmp_path: Path, suffix: str, codec: str) -> None:
    b_frames = 2 if codec == "libx264" else 0
    film = Source.at(write_barcodes(tmp_path / f"film.{suffix}", codec, n_frames=120, b_frames=b_frames))
    times_s = [3.02, 0.0, 4.79, 1.0, 1.0, 1.05, 2.999, 0.3]

    assert shown_at(film, times_s) == [75, 0, 119, 25, 25, 26, 74, 7]
    assert shown_at(film, [99.0]) == [119]
    assert stills_at(film, [], side_px=64) == []


def test_a_long_frame_is_shown_all_the_time(tmp_path: Path) -> None:
    film = Source.at(write_barcodes(tmp_path / "vfr.mkv", "libx264", n_frames=4, pts=[0, 1, 250, 251]))

    assert shown_at(film, [0.03, 0.05, 5.0, 9.9, 10.0]) == [0, 1, 1, 1, 2]


@needs_clips
def test_stills_are_upright_and_small() -> None:
    (jpeg,) = stills_at(Source.at(CLIPS / "rotated_90.mov"), [0.0], side_px=100)

    height, width, _ = pixels(jpeg).shape
    assert (height, width) == (100, 56)


def test_a_folder_of_frames_has_none(tmp_path: Path) -> None:
    assert stills_at(Source.at(tmp_path), [1.0, 2.0], side_px=64) == [None, None]


def test_a_missing_file_is_an_error(tmp_path: Path) -> None:
    with pytest.raises(VideoError):
        stills_at(Source.at(tmp_path / "gone.mp4"), [1.0], side_px=64)
