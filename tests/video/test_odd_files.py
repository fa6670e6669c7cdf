"""Unusual files, compared with the frames that a player would show."""

import io
import re
import struct
from collections.abc import Sequence
from fractions import Fraction
from pathlib import Path

import av
import numpy as np
import pytest
from av.stream import Disposition
from numbered_films import CLIPS, EIGHT, N, failure_of, grey, needs_clips, positions_seen, write_film
from numpy.typing import NDArray
from PIL import Image

from bike_cli.config import SamplingConfig
from bike_cli.records import Source
from bike_cli.video.decoding import decode
from bike_cli.video.sampling import sample_positions


def write(
    path: Path,
    codec: str,
    pictures: NDArray[np.uint8],
    *,
    pixels: str = "yuv420p",
    ticks: Sequence[int] = range(N),
) -> Path:
    """Write pictures, [N, H, W, 3 or 4], ten per second, or each at its own multiple of 0.1 s."""
    _, height, width, channels = pictures.shape
    with av.open(str(path), "w") as container:
        stream = container.add_stream(codec, rate=10)
        stream.width, stream.height, stream.pix_fmt, stream.bit_rate = width, height, pixels, 2_000_000
        for picture, tick in zip(pictures, ticks, strict=True):
            frame = av.VideoFrame.from_ndarray(picture, format="rgb24" if channels == 3 else "rgba")
            frame.pts, frame.time_base = tick, Fraction(1, 10)
            container.mux(stream.encode(frame))
        container.mux(stream.encode())
    return path


def greys(height: int, width: int) -> NDArray[np.uint8]:
    return np.stack([np.full((height, width, 3), grey(i), np.uint8) for i in range(N)])


@pytest.mark.parametrize(("width", "height"), [(63, 47), (1, 1), (2, 500), (17, 64)])
def test_odd_sizes_are_kept(tmp_path: Path, width: int, height: int) -> None:
    film = write(tmp_path / "odd.webm", "libvpx-vp9", greys(height, width))

    clip = decode(Source.at(film), SamplingConfig(frames=4))

    assert clip.frames.shape == (1, 4, height, width, 3)
    assert positions_seen(clip).tolist() == [[0, 10, 20, 30]]


def test_a_change_of_size_keeps_the_first_size(tmp_path: Path) -> None:
    small, large = write_film(tmp_path / "small.h264"), write(tmp_path / "large.h264", "libx264", greys(96, 128))
    both = tmp_path / "both.h264"
    both.write_bytes(small.read_bytes() + large.read_bytes())

    clip = decode(Source.at(both), EIGHT)

    assert clip.frames.shape == (1, 8, 48, 64, 3)
    assert positions_seen(clip).tolist() == (sample_positions(2 * N, 8, clips=1) % N).tolist()
    assert clip.warning == "the file has no timestamps: times and duration are unknown"


def test_a_frame_that_declares_an_absurd_size_is_damage(tmp_path: Path) -> None:
    film = write(tmp_path / "film.avi", "mjpeg", greys(48, 64), pixels="yuvj420p")
    size = re.compile(rb"(?<=\xff\xc0\x00\x11\x08)....", re.DOTALL)  # start of frame: height and width follow
    film.write_bytes(size.sub(b"\xff\xdc\xff\xdc", film.read_bytes()))

    error = failure_of(film)

    assert error.kind == "damaged"
    assert f"0 of {N} frames can be read" in str(error)


@pytest.mark.parametrize("name", ["film.mp4", "film.mkv", "film.avi"])
def test_metadata_that_is_not_utf_8_does_not_matter(tmp_path: Path, name: str) -> None:
    film = tmp_path / name
    with av.open(str(film), "w") as container:
        container.metadata.update(title="caf~ of the file", comment="na~ve")
        container.set_chapters(
            [{"id": 1, "start": 0, "end": 9, "time_base": Fraction(1, 10), "metadata": {"title": "ch~pter"}}]
        )
        stream = container.add_stream("mpeg4", rate=25)
        stream.width, stream.height, stream.bit_rate = 64, 48, 2_000_000
        stream.metadata.update(title="caf~ of the stream", handler_name="h~ndler")
        for i in range(N):
            container.mux(stream.encode(av.VideoFrame.from_ndarray(greys(48, 64)[i], format="rgb24")))
        container.mux(stream.encode())
    texts = [b"caf~ of the file", b"na~ve", b"ch~pter", b"caf~ of the stream", b"h~ndler"]
    written = [text for text in texts if text in film.read_bytes()]
    for text in written:
        film.write_bytes(film.read_bytes().replace(text, text.replace(b"~", b"\xe9")))

    clip = decode(Source.at(film), EIGHT)

    assert len(written) >= 2
    assert positions_seen(clip).tolist() == sample_positions(N, 8, clips=1).tolist()


def test_a_cover_picture_is_not_a_video(tmp_path: Path) -> None:
    cover = io.BytesIO()
    Image.new("RGB", (32, 32)).save(cover, "JPEG")
    song = tmp_path / "song.mp3"
    song.write_bytes(_id3_with(cover.getvalue()) + _silent_mp3())

    assert failure_of(song).kind == "no_picture"


def _id3_with(cover: bytes) -> bytes:
    picture = b"\0image/jpeg\0\3\0" + cover
    frame = b"APIC" + len(picture).to_bytes(4, "big") + b"\0\0" + picture
    length = len(frame)
    return b"ID3\3\0\0" + bytes(length >> shift & 0x7F for shift in (21, 14, 7, 0)) + frame


def _silent_mp3() -> bytes:
    buffer = io.BytesIO()
    with av.open(buffer, "w", format="mp3") as container:
        stream = container.add_stream("mp3", rate=44100, layout="mono")
        for i in range(20):
            sound = av.AudioFrame.from_ndarray(np.zeros((1, 1152), np.int16), format="s16p", layout="mono")
            sound.sample_rate, sound.pts, sound.time_base = 44100, 1152 * i, Fraction(1, 44100)
            container.mux(stream.encode(sound))
        container.mux(stream.encode())
    return buffer.getvalue()


def test_a_device_is_refused() -> None:
    assert failure_of(Path("/dev/zero")).kind == "unreadable"


@pytest.mark.parametrize("name", ["film.mkv", "film.ts", "film.flv"])
def test_a_film_cut_off_is_read_to_where_it_ends(tmp_path: Path, name: str) -> None:
    film = write_film(tmp_path / name, n_frames=36)
    film.write_bytes(film.read_bytes()[: film.stat().st_size * 4 // 5])

    clip = decode(Source.at(film), SamplingConfig(frames=3))

    assert clip.positions is not None
    assert positions_seen(clip).tolist() == clip.positions.tolist()


def test_a_recording_that_begins_in_mid_group_begins_at_its_first_whole_frame(tmp_path: Path) -> None:
    film = write_film(tmp_path / "film.ts")
    content = film.read_bytes()
    film.write_bytes(content[len(content) // 188 // 3 * 188 :])  # packets of MPEG-TS have 188 bytes

    clip = decode(Source.at(film), SamplingConfig(frames=3))

    seen = positions_seen(clip)[0]
    assert seen[0] >= 12
    assert (np.diff(seen) > 0).all()


@pytest.mark.parametrize(("degrees", "corner"), [(90, "top right"), (180, "bottom right"), (270, "bottom left")])
def test_a_picture_is_turned_clockwise_as_its_file_says(tmp_path: Path, degrees: int, corner: str) -> None:
    lit = np.zeros((N, 48, 64, 3), np.uint8)
    lit[:, :16, :16] = 255  # the top left
    film = write(tmp_path / "film.mp4", "libx264", lit)
    film.write_bytes(_turned(film.read_bytes(), degrees))

    frame = decode(Source.at(film), EIGHT).frames[0, 0]

    assert frame.shape == ((48, 64, 3) if degrees == 180 else (64, 48, 3))
    corners = {"top left": (0, 0), "top right": (0, -1), "bottom left": (-1, 0), "bottom right": (-1, -1)}
    assert [name for name, place in corners.items() if frame[place].mean() > 128] == [corner]


def _turned(mp4: bytes, degrees: int) -> bytes:
    """Set the matrix of the only track: x' = a x + c y, y' = b x + d y, with y pointing down (ISO/IEC 14496-12)."""
    cos, sin = {90: (0, 1), 180: (-1, 0), 270: (0, -1)}[degrees]
    at = mp4.index(b"tkhd") + 44
    matrix = struct.pack(">9i", cos << 16, sin << 16, 0, -sin << 16, cos << 16, 0, 0, 0, 1 << 30)
    return mp4[:at] + matrix + mp4[at + len(matrix) :]


@needs_clips
def test_rotation_turns_the_picture_upright() -> None:
    upright, turned = (
        decode(Source.at(CLIPS / name), EIGHT).frames[0, 0] for name in ("rotated_180.mov", "rotated_90.mov")
    )

    assert upright.shape == (320, 568, 3)
    assert turned.shape == (568, 320, 3)


@needs_clips
def test_the_default_one_of_several_video_streams_is_read() -> None:
    clip = decode(Source.at(CLIPS / "two_video_streams.mp4"), EIGHT)

    assert clip.frames.shape == (1, 8, 270, 480, 3)  # the other one is 320x180


def test_the_stream_marked_as_default_is_read_even_if_it_is_the_smaller_one(tmp_path: Path) -> None:
    film = tmp_path / "film.mkv"
    with av.open(str(film), "w") as container:
        large, small = streams = [container.add_stream("libx264", rate=25) for _ in range(2)]
        large.width, large.height, large.disposition = 128, 96, Disposition(0)
        small.width, small.height, small.disposition = 64, 48, Disposition.default
        for i in range(N):
            for stream in streams:
                pixels = np.full((stream.height, stream.width, 3), grey(i), np.uint8)
                container.mux(stream.encode(av.VideoFrame.from_ndarray(pixels, format="rgb24")))
        for stream in streams:
            container.mux(stream.encode())

    clip = decode(Source.at(film), EIGHT)

    assert clip.frames.shape == (1, 8, 48, 64, 3)
    assert positions_seen(clip).tolist() == sample_positions(N, 8, clips=1).tolist()


@pytest.mark.parametrize(("codec", "pixels"), [("png", "rgba"), ("qtrle", "argb")])
def test_alpha_is_dropped_without_blending(tmp_path: Path, codec: str, pixels: str) -> None:
    alpha = np.zeros((N, 48, 64, 1), np.uint8) + np.arange(N, dtype=np.uint8)[:, None, None, None]
    film = write(tmp_path / "film.mov", codec, np.concatenate([greys(48, 64), alpha], axis=3), pixels=pixels)

    clip = decode(Source.at(film), EIGHT)

    assert clip.frames.shape == (1, 8, 48, 64, 3)
    assert positions_seen(clip).tolist() == sample_positions(N, 8, clips=1).tolist()


def test_a_live_recording_without_a_duration_is_as_long_as_its_frames(tmp_path: Path) -> None:
    film = write_film(tmp_path / "film.webm", codec="libvpx-vp9", fps=10, options={"live": "1"})
    with av.open(str(film)) as container:
        assert container.duration is None

    clip = decode(Source.at(film), EIGHT)

    assert positions_seen(clip).tolist() == sample_positions(N, 8, clips=1).tolist()
    assert clip.duration_s == pytest.approx(N / 10)
    assert clip.warning is None


@pytest.mark.parametrize("name", ["film.mp4", "film.mkv", "film.avi"])
def test_a_variable_frame_rate_gives_each_frame_its_own_time(tmp_path: Path, name: str) -> None:
    ticks = np.arange(N) + np.arange(N) ** 2 // 9
    film = write(tmp_path / name, "mpeg4", greys(48, 64), ticks=ticks.tolist())

    clip = decode(Source.at(film), EIGHT)

    assert positions_seen(clip).tolist() == sample_positions(N, 8, clips=1).tolist()
    np.testing.assert_allclose(clip.times_s, ticks[positions_seen(clip)] / 10, atol=0.002)


@pytest.mark.parametrize(
    ("delays", "shown"),  # hundredths of a second; the second as browsers and ffmpeg 5 show them
    [
        ([1] * 12, [10] * 12),
        ([0] * 12, [10] * 12),
        ([2] * 12, [2] * 12),
        ([1, 5, 0, 2, 1, 10], [10, 5, 10, 2, 10, 10]),
    ],
)
def test_short_delays_of_a_gif_are_those_of_browsers(tmp_path: Path, delays: list[int], shown: list[int]) -> None:
    images = [Image.new("RGB", (64, 48), (grey(i),) * 3) for i in range(len(delays))]
    images[0].save(tmp_path / "film.gif", save_all=True, append_images=images[1:], duration=40)
    content, at = bytearray((tmp_path / "film.gif").read_bytes()), 0
    for delay in delays:
        at = content.index(b"\x21\xf9\x04", at) + 4
        content[at : at + 2] = delay.to_bytes(2, "little")
    (tmp_path / "film.gif").write_bytes(content)

    clip = decode(Source.at(tmp_path / "film.gif"), SamplingConfig(frames=len(delays)))

    np.testing.assert_allclose(clip.times_s[0], np.cumsum([0, *shown[:-1]]) / 100, atol=1e-9)
    assert clip.duration_s == pytest.approx(sum(shown) / 100)
    assert clip.warning is None


def test_ten_bits_are_read_as_eight(tmp_path: Path) -> None:
    film = write_film(tmp_path / "film.mp4", pixels="yuv420p10le")

    clip = decode(Source.at(film), EIGHT)

    assert positions_seen(clip).tolist() == sample_positions(N, 8, clips=1).tolist()


@pytest.mark.parametrize("size", [(64, 48), (640, 480)])
@pytest.mark.parametrize("name", ["photo.jpg", "photo.JPEG", "50%.jpg", "photo.jpe", "photo"])
def test_a_jpeg_is_read_whatever_its_size(tmp_path: Path, name: str, size: tuple[int, int]) -> None:
    """FFmpeg takes a JPEG file of more than a few kilobytes for a sequence of images by its name."""
    pixels = np.random.default_rng(0).integers(0, 256, (*size[::-1], 3), np.uint8)
    Image.fromarray(pixels).save(tmp_path / name, format="jpeg", quality=100, subsampling=0)

    clip = decode(Source.at(tmp_path / name), SamplingConfig(frames=2))

    with Image.open(tmp_path / name) as image:
        expected = np.asarray(image).astype(int)
    assert np.abs(clip.frames[0] - expected).mean() < 1
