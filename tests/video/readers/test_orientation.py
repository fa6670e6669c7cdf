"""All readers give pictures the same orientation as ffmpeg."""

import io
import math
import shutil
import struct
import subprocess
from collections.abc import Callable, Sequence
from fractions import Fraction
from pathlib import Path

import av
import numpy as np
import pytest
import torch  # noqa: F401 - decord loaded before torch crashes the process (dmlc/decord#293)
from av.bitstream import BitStreamFilterContext
from numbered_films import failure_of, needs_decord
from numpy.typing import NDArray
from PIL import Image

from bike_cli.config import SamplingConfig
from bike_cli.errors import VideoError
from bike_cli.records import Source
from bike_cli.video.decoding import decode
from bike_cli.video.readers.footage import Request
from bike_cli.video.readers.sequential import read_through

FAULTS = Path(__file__).parents[4] / "shared" / "faults"
HEIGHT, WIDTH, N = 96, 128, 24
COLOURS = {"R": (255, 0, 0), "G": (0, 255, 0), "B": (0, 0, 255), "W": (255, 255, 255)}

# name: (a, b, c, d) with x' = a x + c y and y' = b x + d y, y downwards; the colours at top left, top right, bottom
# left and bottom right of a picture stored as R G B W
EIGHT = {
    "identity": ((1, 0, 0, 1), "RGBW"),
    "hflip": ((-1, 0, 0, 1), "GRWB"),
    "rotate 180": ((-1, 0, 0, -1), "WBGR"),
    "vflip": ((1, 0, 0, -1), "BWRG"),
    "transpose": ((0, 1, 1, 0), "RBGW"),
    "rotate 90": ((0, 1, -1, 0), "BRWG"),
    "antitranspose": ((0, -1, -1, 0), "WGBR"),
    "rotate 270": ((0, -1, 1, 0), "GWRB"),
}


def turn(degrees: float) -> tuple[float, float, float, float]:
    cos, sin = math.cos(math.radians(degrees)), math.sin(math.radians(degrees))
    return (cos, sin, -sin, cos)


NEVER_TURNED = {
    "all zero": (0, 0, 0, 0),
    "only a": (1, 0, 0, 0),
    "only -a": (-1, 0, 0, 0),
    "only b": (0, 1, 0, 0),
    "only d": (0, 0, 0, 1),
    "only -d": (0, 0, 0, -1),
    "two equal columns": (0, 1, 0, 1),
    "all one": (1, 1, 1, 1),
    "smallest numbers": (-32768, -32768, -32768, -32768),
    "by 45 degrees": turn(45),
    "by 135 degrees": turn(135),
    "by 30 degrees": turn(30),
    "by 87 degrees": turn(87),
    "by 183 degrees": turn(183),
    "sheared": (1, 0.3, 0, 1),
}
STILL_TURNED = {
    "by 89.6 degrees": (turn(89.6), "BRWG"),
    "by 180.4 degrees": (turn(180.4), "WBGR"),
    "by 359.6 degrees": (turn(359.6), "RGBW"),
    "by 90 degrees, stretched": ((0, 2, -0.5, 0), "BRWG"),
    "hflip, enlarged": ((-3, 0, 0, 2), "GRWB"),
}


def quadrants() -> NDArray[np.uint8]:
    picture = np.zeros((HEIGHT, WIDTH, 3), np.uint8)
    for i, colour in enumerate("RGBW"):
        y, x = divmod(i, 2)
        picture[y * HEIGHT // 2 :, x * WIDTH // 2 :] = COLOURS[colour]
    return picture


def write_film(path: Path, *, codec: str = "libx264", filters: Sequence[str | None] = (None,)) -> Path:
    """Write the four quadrants N times; each of the bitstream filters rewrites an equal part of the packets."""
    with av.open(str(path), "w") as container:
        stream = container.add_stream(codec, rate=10, options={"x265-params": "log-level=none"})
        stream.width, stream.height, stream.pix_fmt, stream.gop_size = WIDTH, HEIGHT, "yuv420p", 4
        stream.codec_context.max_b_frames = 0
        stream.bit_rate = 2_000_000
        container.start_encoding()
        rewrites = [None if name is None else BitStreamFilterContext(name, stream) for name in filters]
        packets = []
        for i in range(N):
            frame = av.VideoFrame.from_ndarray(quadrants(), format="rgb24")
            frame.pts, frame.time_base = i, Fraction(1, 10)
            packets += stream.encode(frame)
        packets += stream.encode()
        for i, packet in enumerate(packets):
            rewrite = rewrites[i * len(rewrites) // len(packets)]
            container.mux(packet if rewrite is None else rewrite.filter(packet))
    return path


def with_matrix(film: Path, matrix: Sequence[float], *, shift: tuple[int, int] = (0, 0), w: int = 1 << 30) -> Path:
    """Set the matrix of the only track of an MP4 (ISO/IEC 14496-12, 8.3.2)."""
    content = film.read_bytes()
    at = content.index(b"tkhd") + 44
    a, b, c, d = (round(number * 65536) for number in matrix)
    numbers = struct.pack(">9i", a, b, 0, c, d, 0, shift[0] << 16, shift[1] << 16, w)
    film.write_bytes(content[:at] + numbers + content[at + len(numbers) :])
    return film


def seen(frame: NDArray[np.uint8]) -> str:
    """Return the colours at top left, top right, bottom left and bottom right."""
    height, width, _ = frame.shape
    names = {colour: name for name, colour in COLOURS.items()}
    places = [(height // 4, width // 4), (height // 4, width * 3 // 4)]
    places += [(height * 3 // 4, width // 4), (height * 3 // 4, width * 3 // 4)]
    return "".join(names[tuple(int(n) for n in np.where(frame[place] > 128, 255, 0))] for place in places)


def shape_of(sight: str) -> tuple[int, int, int]:
    """Return the shape of the picture as shown: the letter next to R shows whether the axes are swapped."""
    is_upright = abs(sight.index("R") - sight.index("G")) == 1
    return (HEIGHT, WIDTH, 3) if is_upright else (WIDTH, HEIGHT, 3)


def by_sequential_reader(path: Path) -> NDArray[np.uint8]:
    return read_through(Source.at(path), Request(SamplingConfig(frames=4))).frames


def by_config(**settings: object) -> Callable[[Path], NDArray[np.uint8]]:
    return lambda path: decode(Source.at(path), SamplingConfig(frames=4, **settings)).frames


READERS: dict[str, Callable[[Path], NDArray[np.uint8]]] = {
    "selective": by_config(),
    "sequential": by_sequential_reader,
    "keyframe": by_config(sampling="keyframe"),
    "draft": by_config(draft=True),
    "dense": by_config(sampling="dense"),
}


def check(path: Path, sight: str, reader: Callable[[Path], NDArray[np.uint8]] = READERS["selective"]) -> None:
    for frame in reader(path)[0]:
        assert seen(frame) == sight
        assert frame.shape == shape_of(sight)


@pytest.mark.parametrize("reader", READERS)
@pytest.mark.parametrize("name", EIGHT)
def test_all_eight_orientations_are_shown(tmp_path: Path, name: str, reader: str) -> None:
    matrix, sight = EIGHT[name]

    check(with_matrix(write_film(tmp_path / "film.mp4"), matrix), sight, READERS[reader])


@pytest.mark.skipif(shutil.which("ffmpeg") is None, reason="ffmpeg is not installed")
@pytest.mark.parametrize("name", EIGHT)
def test_ffmpeg_shows_the_same(tmp_path: Path, name: str) -> None:
    film = with_matrix(write_film(tmp_path / "film.mov", codec="mpeg4"), EIGHT[name][0], shift=(WIDTH, -7))
    command = ["ffmpeg", "-v", "error", "-i", str(film), "-frames:v", "1", "-f", "image2pipe", "-c:v", "ppm", "-"]
    by_ffmpeg = Image.open(io.BytesIO(subprocess.run(command, capture_output=True, check=True).stdout))

    frame = by_config()(film)[0, 0]

    assert np.abs(frame.astype(int) - np.asarray(by_ffmpeg)).mean() < 2


@pytest.mark.parametrize("name", STILL_TURNED)
def test_scale_and_rounding_do_not_matter(tmp_path: Path, name: str) -> None:
    matrix, sight = STILL_TURNED[name]

    check(with_matrix(write_film(tmp_path / "film.mp4"), matrix, shift=(300, -20)), sight)


@pytest.mark.parametrize("w", [0, 1 << 30])
@pytest.mark.parametrize("name", NEVER_TURNED)
def test_a_matrix_that_is_not_a_quarter_turn_leaves_the_picture_as_stored(tmp_path: Path, name: str, w: int) -> None:
    check(with_matrix(write_film(tmp_path / "film.mp4"), NEVER_TURNED[name], w=w), "RGBW")


SEI = {"rotate=90": "GWRB", "rotate=180": "WBGR", "flip=horizontal": "GRWB", "flip=vertical": "BWRG"}


@pytest.mark.parametrize("reader", ["selective", "sequential"])
@pytest.mark.parametrize("name", ["film.mp4", "film.mkv", "film.ts"])
@pytest.mark.parametrize("setting", SEI)
def test_the_orientation_inside_h264_counts(tmp_path: Path, setting: str, name: str, reader: str) -> None:
    film = write_film(tmp_path / name, filters=[f"h264_metadata=display_orientation=insert:{setting}"])

    check(film, SEI[setting], READERS[reader] if name != "film.ts" else by_sequential_reader)


@pytest.mark.parametrize("reader", READERS)
def test_pictures_that_turn_in_mid_film_are_fitted_to_the_first(tmp_path: Path, reader: str) -> None:
    filters = [f"h264_metadata=display_orientation=insert:rotate={angle}" for angle in (180, 90)]
    film = write_film(tmp_path / "film.mp4", filters=filters)

    frames = READERS[reader](film)[0]

    assert frames.shape[1:] == (HEIGHT, WIDTH, 3)
    assert seen(frames[0]) == "WBGR"
    assert all(seen(frame) in ("WBGR", "GWRB") for frame in frames)


@pytest.mark.parametrize("suffix", ["jpg", "png", "webp", "tif"])
@pytest.mark.parametrize(("tag", "name"), [*enumerate(EIGHT, 1)])
def test_an_image_file_is_shown_as_its_exif_says(tmp_path: Path, tag: int, name: str, suffix: str) -> None:
    image = Image.fromarray(quadrants())
    exif = image.getexif()
    exif[0x0112] = tag
    image.save(tmp_path / f"still.{suffix}", exif=exif)

    check(tmp_path / f"still.{suffix}", EIGHT[name][1])


def decord_frames(path: Path) -> NDArray[np.uint8]:
    return decode(Source.at(path), SamplingConfig(frames=2), decoder="decord").frames


@needs_decord
@pytest.mark.parametrize("matrix", [(1, 0, 0, 1), (-1, 0, 0, -1), *NEVER_TURNED.values()])
def test_decord_reads_what_it_shows_upright(tmp_path: Path, matrix: tuple[float, ...]) -> None:
    film = with_matrix(write_film(tmp_path / "film.mp4"), matrix)

    np.testing.assert_array_equal(decord_frames(film)[0, 0] > 128, by_config()(film)[0, 0] > 128)


@needs_decord
@pytest.mark.parametrize("matrix", [EIGHT[name][0] for name in ("hflip", "vflip", "transpose")] + [turn(179.6)])
def test_decord_never_shows_a_picture_the_wrong_way_up(tmp_path: Path, matrix: tuple[float, ...]) -> None:
    film = with_matrix(write_film(tmp_path / "film.mp4"), matrix)

    with pytest.raises(VideoError, match="use --decoder auto") as caught:
        decord_frames(film)

    assert caught.value.kind == "not_video"


@pytest.mark.skipif(not FAULTS.is_dir(), reason=f"{FAULTS}: not here")
@pytest.mark.parametrize(
    ("name", "sight"),
    [("quadrants_hflip.mp4", "GRWB"), ("quadrants_transpose.mp4", "RBGW"), ("quadrants_zero.mp4", "RGBW")],
)
def test_real_files_are_shown_upright(name: str, sight: str) -> None:
    for reader in READERS.values():
        assert seen(reader(FAULTS / name)[0, 0]) == sight


def test_an_empty_film_with_a_matrix_has_no_picture(tmp_path: Path) -> None:
    film = with_matrix(write_film(tmp_path / "film.mp4"), EIGHT["rotate 90"][0])
    film.write_bytes(film.read_bytes().replace(b"avc1", b"xxxx"))

    assert failure_of(film).kind in ("not_video", "damaged")
