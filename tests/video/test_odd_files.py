"""Files as they come, each with the frames a player would show."""

import io
import re
from fractions import Fraction
from pathlib import Path

import av
import numpy as np
import pytest
from numbered_films import CLIPS, EIGHT, N, failure_of, grey, needs_clips, positions_seen, write_film
from PIL import Image

from bike_cli.config import SamplingConfig
from bike_cli.records import Source
from bike_cli.video.decoding import decode
from bike_cli.video.sampling import sample_positions


@pytest.mark.parametrize(("width", "height"), [(63, 47), (1, 1), (2, 500), (17, 64)])
def test_odd_sizes_are_kept(tmp_path: Path, width: int, height: int) -> None:
    film = tmp_path / "odd.webm"
    with av.open(str(film), "w") as container:
        stream = container.add_stream("libvpx-vp9", rate=10)
        stream.width, stream.height, stream.pix_fmt = width, height, "yuv420p"
        for i in range(12):
            pixels = np.full((height, width, 3), grey(i), np.uint8)
            container.mux(stream.encode(av.VideoFrame.from_ndarray(pixels, format="rgb24")))
        container.mux(stream.encode())

    clip = decode(Source.at(film), SamplingConfig(frames=4))

    assert clip.frames.shape == (1, 4, height, width, 3)
    assert positions_seen(clip).tolist() == [[0, 3, 6, 9]]


def test_a_change_of_size_keeps_the_first_size(tmp_path: Path) -> None:
    small, large = write_film(tmp_path / "small.h264"), tmp_path / "large.h264"
    with av.open(str(large), "w") as container:
        stream = container.add_stream("libx264", rate=25)
        stream.width, stream.height, stream.pix_fmt = 128, 96, "yuv420p"
        for i in range(N):
            pixels = np.full((96, 128, 3), grey(i), np.uint8)
            container.mux(stream.encode(av.VideoFrame.from_ndarray(pixels, format="rgb24")))
        container.mux(stream.encode())
    both = tmp_path / "both.h264"
    both.write_bytes(small.read_bytes() + large.read_bytes())

    clip = decode(Source.at(both), EIGHT)

    assert clip.frames.shape == (1, 8, 48, 64, 3)
    assert positions_seen(clip).tolist() == (sample_positions(2 * N, 8, clips=1) % N).tolist()
    assert clip.warning is None


def test_a_frame_that_declares_an_absurd_size_is_damage(tmp_path: Path) -> None:
    film = tmp_path / "film.avi"
    with av.open(str(film), "w") as container:
        stream = container.add_stream("mjpeg", rate=25)
        stream.width, stream.height, stream.pix_fmt = 64, 48, "yuvj420p"
        for i in range(N):
            pixels = np.full((48, 64, 3), grey(i), np.uint8)
            container.mux(stream.encode(av.VideoFrame.from_ndarray(pixels, format="rgb24")))
        container.mux(stream.encode())
    size = re.compile(rb"(?<=\xff\xc0\x00\x11\x08)....", re.DOTALL)  # start of frame: height and width follow
    film.write_bytes(size.sub(b"\xff\xdc\xff\xdc", film.read_bytes()))

    error = failure_of(film)

    assert error.kind == "damaged"
    assert f"0 of {N} frames can be read" in str(error)


def test_a_cover_picture_is_no_video(tmp_path: Path) -> None:
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


def test_ten_bits_are_read_as_eight(tmp_path: Path) -> None:
    film = write_film(tmp_path / "film.mp4", pixels="yuv420p10le")

    clip = decode(Source.at(film), EIGHT)

    assert positions_seen(clip).tolist() == sample_positions(N, 8, clips=1).tolist()
