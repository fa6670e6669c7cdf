"""Folders of frames in all pixel formats of Pillow."""

import io
import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import PIL
import pytest
from numbered_films import failure_of
from numpy.typing import NDArray
from PIL import Image, ImageCms

from bike_cli.config import SamplingConfig
from bike_cli.errors import VideoError
from bike_cli.records import Source
from bike_cli.video.decoding import decode
from bike_cli.video.readers.images import read_images

FAULTS = Path(__file__).parents[4] / "shared" / "faults"
needs_faults = pytest.mark.skipif(not FAULTS.is_dir(), reason=f"{FAULTS}: not here")
RAMP = np.arange(0, 256, dtype=np.uint8).reshape(8, 32)  # grey, every level


def in_colour(grey: NDArray[np.uint8]) -> NDArray[np.uint8]:
    return np.repeat(grey[..., None], 3, axis=2)


def read_back(image: Image.Image, path: Path, **settings: object) -> NDArray[np.uint8]:
    image.save(path, **settings)
    return read_images([path])[0]


@pytest.mark.parametrize(
    ("dtype", "name"),
    [("<u2", "frame.png"), ("<u2", "frame.tif"), (">u2", "frame.tif"), ("<u2", "frame.jp2")],
)
def test_16_bit_grey_is_scaled(tmp_path: Path, dtype: str, name: str) -> None:
    image = Image.fromarray((RAMP.astype(np.uint16) * 257).astype(dtype))

    np.testing.assert_array_equal(read_back(image, tmp_path / name), in_colour(RAMP))


def test_16_bit_grey_that_is_dark_stays_dark(tmp_path: Path) -> None:
    dark = Image.fromarray(np.full((8, 8), 200, np.uint16))

    assert read_back(dark, tmp_path / "frame.png").max() == 1


@pytest.mark.parametrize(("peak", "tolerance"), [(65535, 0), (1023, 1), (4095, 1)])
def test_pgm_of_any_depth_is_scaled(tmp_path: Path, peak: int, tolerance: int) -> None:
    values = np.rint(RAMP / 255 * peak).astype(">u2")
    (tmp_path / "frame.pgm").write_bytes(b"P5 32 8 %d\n" % peak + values.tobytes())

    frame = read_images([tmp_path / "frame.pgm"])[0]

    assert np.abs(frame.astype(int) - in_colour(RAMP)).max() <= tolerance


def test_floats_from_0_to_1_are_scaled(tmp_path: Path) -> None:
    image = Image.fromarray((RAMP / 255).astype(np.float32))

    np.testing.assert_array_equal(read_back(image, tmp_path / "frame.tif"), in_colour(RAMP))


@pytest.mark.parametrize("value", [np.nan, np.inf, -0.1, 1.5, 255.0])
def test_other_floats_are_refused(tmp_path: Path, value: float) -> None:
    pixels = (RAMP / 255).astype(np.float32)
    pixels[3, 4] = value
    (tmp_path / "clip").mkdir()
    Image.fromarray(pixels).save(tmp_path / "clip" / "frame.tif")

    error = failure_of(tmp_path / "clip")

    assert error.kind == "damaged"
    assert "frame.tif: has floats from" in str(error)
    assert "expected 0 to 1; save its frames with 8 bits" in str(error)


def test_integers_mean_the_same_in_all_frames_of_a_clip(tmp_path: Path) -> None:
    bright, dark = RAMP.astype(np.int32) * 257, np.full(RAMP.shape, 200, np.int32)
    Image.fromarray(bright).save(tmp_path / "bright.tif")
    Image.fromarray(dark).save(tmp_path / "dark.tif")

    frames = read_images([tmp_path / "dark.tif", tmp_path / "bright.tif"])

    assert frames[0].max() == 1
    np.testing.assert_array_equal(frames[1], in_colour(RAMP))
    assert read_images([tmp_path / "dark.tif"])[0].max() == 200


@pytest.mark.parametrize("value", [-1, 70_000])
def test_integers_beyond_16_bits_are_refused(tmp_path: Path, value: int) -> None:
    (tmp_path / "clip").mkdir()
    Image.fromarray(np.full((8, 8), value, np.int32)).save(tmp_path / "clip" / "frame.tif")

    assert "has integers from" in str(failure_of(tmp_path / "clip"))


def test_16_bit_colour_is_read_as_8(tmp_path: Path) -> None:
    values = in_colour(RAMP).astype(">u2") * 257
    (tmp_path / "frame.ppm").write_bytes(b"P6 32 8 65535\n" + values.tobytes())

    assert np.abs(read_images([tmp_path / "frame.ppm"])[0].astype(int) - in_colour(RAMP)).max() <= 1


READS_YCBCR = pytest.mark.skipif(
    int(PIL.__version__.partition(".")[0]) < 13, reason="Pillow below 13 cannot read YCbCr from a TIFF file"
)


@pytest.mark.parametrize(
    ("mode", "name"),
    [
        ("L", "frame.png"),
        ("LA", "frame.png"),
        ("P", "frame.png"),
        ("PA", "frame.tif"),
        ("RGBA", "frame.png"),
        ("RGBA", "frame.webp"),
        ("RGBX", "frame.tif"),
        ("CMYK", "frame.tif"),
        pytest.param("YCbCr", "frame.tif", marks=READS_YCBCR),
    ],
)
def test_every_mode_gives_the_colours(tmp_path: Path, mode: str, name: str) -> None:
    colour = np.broadcast_to(np.uint8([200, 200, 200] if mode in ("L", "LA") else [200, 100, 40]), (8, 16, 3)).copy()
    image = Image.fromarray(colour)
    if mode in ("P", "PA"):
        image = image.quantize()
    if mode in ("LA", "PA", "RGBA"):
        image = image.convert(mode)
        image.putalpha(7)  # nearly transparent, which must not matter
    image = image.convert(mode)

    frame = read_back(image, tmp_path / name, **({"lossless": True, "exact": True} if name.endswith("webp") else {}))

    assert np.abs(frame.astype(int) - colour).max() <= 2


def test_transparency_of_a_palette_is_dropped(tmp_path: Path) -> None:
    image = Image.new("P", (16, 8), 1)
    image.putpalette([0, 0, 0, 200, 100, 40])

    frame = read_back(image, tmp_path / "frame.png", transparency=1)

    assert (frame == [200, 100, 40]).all()


def test_black_and_white_is_0_and_255(tmp_path: Path) -> None:
    assert (read_back(Image.new("1", (16, 8), 1), tmp_path / "frame.png") == 255).all()


def test_lab_is_converted(tmp_path: Path) -> None:
    rgb = Image.new("RGB", (16, 8), (200, 100, 40))
    lab = ImageCms.applyTransform(
        rgb,
        ImageCms.buildTransform(ImageCms.createProfile("sRGB"), ImageCms.createProfile("LAB"), "RGB", "LAB"),
    )
    assert lab is not None

    assert np.abs(read_back(lab, tmp_path / "frame.tif").astype(int) - [200, 100, 40]).max() <= 3


# -- orientation --------------------------------------------------------------------------------------------------

UPRIGHT = np.zeros((32, 48, 3), np.uint8)
UPRIGHT[:16, :24], UPRIGHT[:16, 24:], UPRIGHT[16:, :24], UPRIGHT[16:, 24:] = (
    (255, 0, 0),
    (0, 255, 0),
    (0, 0, 255),
    (255, 255, 255),
)
STORED = {  # by EXIF orientation: how a camera stores the upright picture (Exif 2.3, table 6)
    1: UPRIGHT,
    2: UPRIGHT[:, ::-1],
    3: UPRIGHT[::-1, ::-1],
    4: UPRIGHT[::-1],
    5: UPRIGHT.swapaxes(0, 1),
    6: np.rot90(UPRIGHT, 1),
    7: np.rot90(UPRIGHT, 2).swapaxes(0, 1),
    8: np.rot90(UPRIGHT, -1),
}


@pytest.mark.parametrize("suffix", ["jpg", "png", "webp", "tif"])
@pytest.mark.parametrize("tag", STORED)
def test_frames_are_upright_as_a_single_image_is(tmp_path: Path, tag: int, suffix: str) -> None:
    image = Image.fromarray(np.ascontiguousarray(STORED[tag]))
    exif = image.getexif()
    exif[0x0112] = tag
    (tmp_path / "clip").mkdir()
    file = tmp_path / "clip" / f"frame.{suffix}"
    image.save(file, exif=exif, **({"quality": 95, "subsampling": 0} if suffix == "jpg" else {}))

    for source in (tmp_path / "clip", file):
        frame = decode(Source.at(source), SamplingConfig(frames=1)).frames[0, 0]
        np.testing.assert_array_equal(frame > 128, UPRIGHT > 128)


@pytest.mark.filterwarnings("ignore:Corrupt EXIF data")
def test_broken_exif_is_ignored(tmp_path: Path) -> None:
    Image.fromarray(UPRIGHT).save(tmp_path / "frame.jpg", exif=b"Exif\0\0II*\0\xff\xff\xff\xff")

    assert read_images([tmp_path / "frame.jpg"])[0].shape == UPRIGHT.shape


# -- files that are not images ----------------------------------------------------------------------------------------

FOREIGN = {
    "PostScript": b"%!PS-Adobe-3.0 EPSF-3.0\n%%BoundingBox: 0 0 96 96\n%%EndComments\nshowpage\n%%EOF\n",
    "PDF": b"%PDF-1.4\n1 0 obj\n<< /Type /Catalog >>\nendobj\n%%EOF\n",
    "WMF": b"\xd7\xcd\xc6\x9a\0\0" + bytes(8) + b"\xa0\x05" + bytes(6) + b"\1\0\x09\0\0\3" + bytes(60),
    "FITS": b"SIMPLE  =                    T".ljust(80)
    + b"BITPIX  =                    8".ljust(80)
    + b"END".ljust(80),
    "text": b"running\njumping\n",
}


@pytest.mark.parametrize("suffix", ["jpg", "tif"])
@pytest.mark.parametrize("kind", FOREIGN)
def test_other_formats_are_damage_and_start_no_program(tmp_path: Path, kind: str, suffix: str) -> None:
    (tmp_path / "clip").mkdir()
    (tmp_path / "clip" / f"frame.{suffix}").write_bytes(FOREIGN[kind])
    started = tmp_path / "started"
    (tmp_path / "gs").write_text(f"#!/bin/sh\ntouch '{started}'\n")
    (tmp_path / "gs").chmod(0o755)
    program = (
        "import sys; from pathlib import Path; from bike_cli.video.readers.images import read_images\n"
        "from PIL import Image\n"
        "Image.init()\n"
        "read_images(sorted(Path(sys.argv[1]).iterdir()))"
    )
    environment = {**os.environ, "PATH": f"{tmp_path}{os.pathsep}{os.environ['PATH']}"}

    ran = subprocess.run(
        [sys.executable, "-c", program, str(tmp_path / "clip")], env=environment, capture_output=True, text=True
    )

    assert "is not a" in ran.stderr
    assert "image" in ran.stderr
    assert not started.exists()
    with pytest.raises(VideoError) as caught:
        read_images((tmp_path / "clip").iterdir())
    assert caught.value.kind == "damaged"


@pytest.mark.parametrize("suffix", ["psd", "gif", "ico", "pcx"])
def test_formats_that_bike_does_not_promise_are_refused_by_content(tmp_path: Path, suffix: str) -> None:
    (tmp_path / "clip").mkdir()
    if suffix == "psd":
        content = b"8BPS\0\1" + bytes(6) + b"\0\3\0\0\0\x08\0\0\0\x10\0\x08\0\3" + bytes(400)
    else:
        stream = io.BytesIO()
        Image.new("P", (16, 16)).save(stream, suffix)
        content = stream.getvalue()
    (tmp_path / "clip" / "frame.png").write_bytes(content)

    assert failure_of(tmp_path / "clip").kind == "damaged"


@pytest.mark.parametrize("name", ["frame.jpg", "frame.png", "frame.tif", "frame.webp", "frame.bmp"])
def test_an_image_cut_off_is_damage(tmp_path: Path, name: str) -> None:
    (tmp_path / "clip").mkdir()
    noise = np.random.default_rng(0).integers(0, 256, (64, 64, 3), np.uint8)
    file = tmp_path / "clip" / name
    Image.fromarray(noise).save(file)
    file.write_bytes(file.read_bytes()[: file.stat().st_size // 2])

    assert failure_of(tmp_path / "clip").kind == "damaged"


def test_an_image_of_too_many_pixels_is_damage(tmp_path: Path) -> None:
    (tmp_path / "clip").mkdir()
    (tmp_path / "clip" / "frame.png").write_bytes(b"P5 60000 60000 255\n" + bytes(100))

    assert failure_of(tmp_path / "clip").kind == "damaged"


def test_the_first_of_several_pictures_in_a_file_is_read(tmp_path: Path) -> None:
    first, second = Image.new("RGB", (16, 8), (10, 20, 30)), Image.new("RGB", (16, 8), (200, 0, 0))
    first.save(tmp_path / "frame.tif", save_all=True, append_images=[second])

    assert (read_images([tmp_path / "frame.tif"])[0] == [10, 20, 30]).all()


# -- real folders -------------------------------------------------------------------------------------------------


@needs_faults
@pytest.mark.parametrize("name", ["frames_gray16", "frames_float"])
def test_real_frames_of_more_than_8_bits_are_scaled(name: str) -> None:
    frames = decode(Source.at(FAULTS / name), SamplingConfig(frames=12)).frames

    assert (frames.min(), frames.max()) == (30, 220)


@needs_faults
def test_real_frames_are_upright() -> None:
    assert decode(Source.at(FAULTS / "frames_exif6"), SamplingConfig(frames=8)).frames.shape == (1, 8, 128, 96, 3)


@needs_faults
def test_real_postscript_is_damage() -> None:
    assert failure_of(FAULTS / "eps_frames").kind == "damaged"
