"""Streams of folders of images: each image is one bin, in order of the numbers in their names."""

from pathlib import Path

import numpy as np
import pytest
from bin_oracle import differing, streamed
from PIL import Image

from bike_cli.config import SamplingConfig
from bike_cli.errors import VideoError
from bike_cli.records import Source
from bike_cli.video.decoding import decode


def write_images(folder: Path, *, n: int = 12, ending: str = "png", mode: str = "RGB") -> Path:
    folder.mkdir()
    for i in range(n):
        pixels = np.full((24, 32, 3), 10 * i, np.uint8)
        image = Image.fromarray(pixels) if mode == "RGB" else Image.fromarray(np.full((24, 32), 20 * i, np.int32))
        image.save(folder / f"img_{i}.{ending}")
    return folder


def check_as_clip(folder: Path, n: int) -> None:
    clip = decode(Source.at(folder), SamplingConfig(frames=n))

    found = streamed(folder, 4)

    assert differing(found.bins(), list(clip.frames[0])) == []
    assert [(row.first_bin, row.end_bin) for row in found.rows] == [(i, i + 1) for i in range(n)]
    assert (found.end.n_bins, found.end.end_s, found.end.duration_s) == (n, n / 4, None)
    assert found.end.warning is None


def test_each_image_is_one_bin(tmp_path: Path) -> None:
    check_as_clip(write_images(tmp_path / "folder"), 12)


def test_integers_of_32_bits_have_one_scale_in_the_whole_folder(tmp_path: Path) -> None:
    folder = write_images(tmp_path / "folder", ending="tif", mode="I")
    Image.fromarray(np.full((24, 32), 40_000, np.int32)).save(folder / "img_11.tif")

    check_as_clip(folder, 12)


@pytest.mark.parametrize(("first", "end"), [(3, None), (0, 5), (4, 9), (12, None), (20, None)])
def test_some_bins_have_the_images_of_the_whole(tmp_path: Path, first: int, end: int | None) -> None:
    folder = write_images(tmp_path / "folder")
    whole = streamed(folder, 4).bins()

    part = streamed(folder, 4, first_bin=first, end_bin=end)

    assert differing(part.bins()[first:], whole[first:end]) == []
    assert len(part.end.missing) == 0


def test_broken_images_are_missing_and_the_first_is_named(tmp_path: Path) -> None:
    folder = write_images(tmp_path / "folder")
    (folder / "img_3.png").write_bytes((folder / "img_3.png").read_bytes()[:40])
    Image.new("RGB", (10, 10)).save(folder / "img_7.png")
    whole = [np.full((24, 32, 3), 10 * i, np.uint8) if i not in {3, 7} else None for i in range(12)]

    found = streamed(folder, 4)

    assert differing(found.bins(), whole) == []
    assert found.end.missing.tolist() == [3, 7]
    warning = found.end.warning or ""
    assert warning.startswith("damaged: 2 of 12 sampled frames cannot be decoded; ")
    assert f"{folder / 'img_3.png'}: is not an image" in warning
    assert streamed(folder, 4, first_bin=8).end.warning is None


def test_an_image_of_another_size_says_the_size_of_the_first(tmp_path: Path) -> None:
    folder = write_images(tmp_path / "folder")
    Image.new("RGB", (10, 12)).save(folder / "img_7.png")

    assert f"{folder / 'img_7.png'}: is 10x12 px, others 32x24 px" in (streamed(folder, 4).end.warning or "")


@pytest.mark.parametrize("content", ["broken", "nothing"])
def test_a_folder_without_a_readable_image_fails_as_in_classify(tmp_path: Path, content: str) -> None:
    folder = tmp_path / "folder"
    folder.mkdir()
    if content == "broken":
        for i in range(3):
            (folder / f"{i}.png").write_bytes(b"no image")
    with pytest.raises(VideoError) as expected:
        decode(Source.at(folder), SamplingConfig(frames=3))

    with pytest.raises(VideoError) as found:
        streamed(folder, 4)

    assert (found.value.kind, str(found.value)) == (expected.value.kind, str(expected.value))
