import os
import wave
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import pytest
import torch  # noqa: F401 - decord loaded before torch crashes the process (dmlc/decord#293)
from numbered_films import CLIPS, EIGHT, N, failure_of, grey, needs_clips, positions_seen, write_film
from PIL import Image

from bike_cli.config import SamplingConfig
from bike_cli.data.search import is_frame_folder
from bike_cli.errors import VideoError
from bike_cli.media import IMAGE_EXTENSIONS, IMAGE_FORMATS
from bike_cli.records import Source
from bike_cli.video.decoding import clip_from_array, decode
from bike_cli.video.sampling import sample_positions


def write_frames(folder: Path, names: Sequence[str], *, size: tuple[int, int] = (20, 10)) -> Path:
    folder.mkdir()
    for i, name in enumerate(names):
        Image.new("RGB", size, (grey(i),) * 3).save(folder / name)
    return folder


# -- exact positions and times, on films that show their own frame numbers --------------------------------------------


@pytest.mark.parametrize(
    ("name", "codec"),
    [
        ("h264.mp4", "libx264"),
        ("h264.mkv", "libx264"),
        ("h264.ts", "libx264"),  # decord alone is 12 frames off here
        ("h264.flv", "libx264"),
        ("h265.mp4", "libx265"),  # some frames off, as in the next three
        ("mpeg4.avi", "mpeg4"),
        ("mpeg2.mpg", "mpeg2video"),
        ("vp9.webm", "libvpx-vp9"),
        ("vp8.webm", "libvpx"),
    ],
)
def test_every_format_gives_exactly_the_requested_frames(tmp_path: Path, name: str, codec: str) -> None:
    film = write_film(tmp_path / name, codec=codec)

    clip = decode(Source.at(film), SamplingConfig(frames=8, clips=3))

    assert positions_seen(clip).tolist() == sample_positions(N, 8, clips=3).tolist()


def test_a_film_starting_late_still_starts_at_0_seconds(tmp_path: Path) -> None:
    film = write_film(tmp_path / "late.ts", fps=10)  # MPEG-TS starts its clock at 1.4 s or so

    clip = decode(Source.at(film), SamplingConfig(frames=4))

    np.testing.assert_allclose(clip.times_s, [[0.0, 1.0, 2.0, 3.0]], atol=1e-6)
    assert clip.duration_s == pytest.approx(4.0)


@pytest.mark.parametrize("name", ["film.mp4", "film.ts"])
def test_times_are_those_of_the_frames_read(tmp_path: Path, name: str) -> None:
    film = write_film(tmp_path / name, fps=10)

    clip = decode(Source.at(film), SamplingConfig(frames=7, clips=2))

    np.testing.assert_allclose(clip.times_s, sample_positions(N, 7, clips=2) / 10, atol=1e-6)


def test_a_raw_stream_has_no_times(tmp_path: Path) -> None:
    film = write_film(tmp_path / "raw.h264")

    clip = decode(Source.at(film), EIGHT)

    assert np.isnan(clip.times_s).all()
    assert clip.duration_s is None
    assert positions_seen(clip).tolist() == sample_positions(N, 8, clips=1).tolist()


def test_training_reads_the_frames_its_generator_draws(tmp_path: Path) -> None:
    film = write_film(tmp_path / "film.mp4")

    clip = decode(Source.at(film), EIGHT, rng=np.random.default_rng(3))

    expected = sample_positions(N, 8, clips=1, rng=np.random.default_rng(3))
    assert positions_seen(clip).tolist() == expected.tolist()


def test_too_few_frames_are_repeated_with_a_warning(tmp_path: Path) -> None:
    film = write_film(tmp_path / "short.mp4", n_frames=3)

    clip = decode(Source.at(film), EIGHT)

    assert positions_seen(clip).tolist() == [[0, 0, 0, 1, 1, 1, 2, 2]]
    assert clip.warning == "the video has 3 frames, 8 are requested: some are repeated"


def test_a_name_can_contain_anything(tmp_path: Path) -> None:
    odd = tmp_path / os.fsdecode(b"-50%d a:b \xff\n.mp4")
    write_film(tmp_path / "film.mp4").rename(odd)

    clip = decode(Source.at(odd), EIGHT)

    assert clip.source.id == str(odd)
    assert positions_seen(clip).tolist() == sample_positions(N, 8, clips=1).tolist()


# -- files that are not videos ----------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("content", "kind"),
    [
        (b"", "not_video"),
        (b"running\njumping\n", "not_video"),
        (b"running and jumping\n" * 2000, "not_video"),  # FFmpeg would draw a text of this length
        (b"#EXTM3U\n#EXTINF:5,\nhttp://127.0.0.1:9/a.ts\n", "not_video"),
        (b"ffconcat version 1.0\nfile 'film.mp4'\n", "not_video"),
        (bytes(range(256)) * 40, "not_video"),
        (b"1\n00:00:00,000 --> 00:00:02,000\nhello\n", "no_picture"),
    ],
)
def test_a_file_that_is_not_a_video_is_reported(tmp_path: Path, content: bytes, kind: str) -> None:
    file = tmp_path / "labels.txt"
    file.write_bytes(content)

    error = failure_of(file)

    assert error.kind == kind
    assert str(error).startswith(str(file))


def test_a_sound_file_has_no_picture(tmp_path: Path) -> None:
    sound = tmp_path / "sound.wav"
    with wave.open(str(sound), "wb") as file:
        file.setparams((1, 2, 8000, 0, "NONE", ""))
        file.writeframes(bytes(16000))

    error = failure_of(sound)

    assert error.kind == "no_picture"
    assert str(error) == f"{sound}: has no video stream; give a file with a picture"


@pytest.mark.parametrize("name", ["nowhere.mp4", "nowhere/film.mp4"])
def test_a_missing_file_is_missing(tmp_path: Path, name: str) -> None:
    assert failure_of(tmp_path / name).kind == "missing"


def test_a_pipe_is_refused_rather_than_waited_for(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "pipe.mp4")

    assert failure_of(tmp_path / "pipe.mp4").kind == "unreadable"


def test_a_name_too_long_for_the_system_is_unreadable(tmp_path: Path) -> None:
    assert failure_of(tmp_path / ("x" * 300)).kind == "unreadable"


def test_a_file_without_its_index_is_damaged(tmp_path: Path) -> None:
    film = write_film(tmp_path / "film.mp4")
    film.write_bytes(film.read_bytes()[:-500])  # the index stands at the end

    assert failure_of(film).kind == "damaged"


def test_a_film_that_ends_early_has_a_warning(tmp_path: Path) -> None:
    film = write_film(tmp_path / "film.mkv", fps=5)
    content = film.read_bytes()
    film.write_bytes(content[: content.rindex(b"\x1f\x43\xb6\x75")])  # without its last cluster

    clip = decode(Source.at(film), EIGHT)

    assert "of 8.0 s: the file may be cut off" in (clip.warning or "")


# -- frame folders and arrays -----------------------------------------------------------------------------------------


def test_a_frame_folder_is_read_in_the_order_of_its_numbers(tmp_path: Path) -> None:
    folder = write_frames(tmp_path / "frames", [f"img_{i}.png" for i in range(1, 17)])

    clip = decode(Source.at(folder), EIGHT)

    assert clip.frames.shape == (1, 8, 10, 20, 3)
    assert positions_seen(clip).tolist() == [[0, 2, 4, 6, 8, 10, 12, 14]]


def test_a_frame_folder_has_no_times(tmp_path: Path) -> None:
    folder = write_frames(tmp_path / "frames", ["1.jpg", "2.jpg"])

    clip = decode(Source.at(folder), SamplingConfig(frames=2))

    assert np.isnan(clip.times_s).all()
    assert clip.duration_s is None


def test_frames_of_two_sizes_are_refused(tmp_path: Path) -> None:
    folder = write_frames(tmp_path / "frames", ["1.png", "2.png"])
    Image.new("RGB", (5, 5)).save(folder / "2.png")

    error = failure_of(folder)

    assert error.kind == "damaged"
    assert "2.png: is 5x5 px, others 20x10" in str(error)


def test_a_broken_frame_is_never_replaced(tmp_path: Path) -> None:
    folder = write_frames(tmp_path / "frames", ["1.png", "2.png"])
    (folder / "1.png").write_bytes((folder / "1.png").read_bytes()[:40])

    assert failure_of(folder).kind == "damaged"


def test_a_folder_without_frames_is_not_a_video(tmp_path: Path) -> None:
    assert failure_of(tmp_path).kind == "not_video"


@pytest.mark.parametrize("extension", sorted(IMAGE_EXTENSIONS))
def test_every_kind_of_image_that_a_search_finds_is_read(tmp_path: Path, extension: str) -> None:
    frames = [np.full((16, 24, 3), (level, 255 - level, 40), np.uint8) for level in (30, 130, 230)]
    (tmp_path / "clip").mkdir()
    for i, frame in enumerate(frames):
        image = Image.fromarray(frame)
        format_ = next(name for name, extensions in IMAGE_FORMATS.items() if extension in extensions)
        mode = {".pgm": "L", ".pbm": "1"}.get(extension, "RGB")
        lossless = {"lossless": True} if format_ == "WEBP" else {}
        image.convert(mode).save(tmp_path / f"clip/{i}{extension}", format=format_, **lossless)  # type: ignore[arg-type]

    assert is_frame_folder(tmp_path / "clip")
    clip = decode(Source.at(tmp_path / "clip"), SamplingConfig(frames=3))

    assert clip.frames.shape[1] == 3
    if mode == "RGB":
        assert np.abs(clip.frames[0].astype(int) - np.stack(frames)).max() <= 3  # JPEG is not exact


def test_an_array_is_sampled_as_a_video_of_its_frames() -> None:
    film = np.zeros((N, 4, 6, 3), np.uint8) + np.arange(N, dtype=np.uint8)[:, None, None, None]

    clip = clip_from_array(film, SamplingConfig(frames=8, clips=2), name="camera")

    assert clip.frames[..., 0, 0, 0].tolist() == sample_positions(N, 8, clips=2).tolist()
    assert np.isnan(clip.times_s).all()
    assert clip.source.id == "camera"


@pytest.mark.parametrize(
    "film",
    [
        np.zeros((8, 4, 6, 3)),
        np.zeros((4, 6, 3), np.uint8),
        np.zeros((8, 3, 4, 6), np.uint8),
        np.zeros((0, 4, 6, 3), "u1"),
    ],
    ids=["float", "one image", "channels first", "no frame"],
)
def test_an_array_of_another_shape_or_type_is_refused(film: np.ndarray) -> None:
    with pytest.raises(ValueError, match="give uint8"):
        clip_from_array(film, EIGHT, name="camera")


# -- real files -------------------------------------------------------------------------------------------------------

REAL = {  # file -> height, width, duration in seconds, as ffprobe reports them
    "-one-pixel.mp4": (1, 1, 5.0),
    "alpha_200x200.webm": (200, 200, 5.0),
    "arm_wrestling.mp4": (256, 340, 10.0),
    "av1.mkv": (360, 640, 5.0),
    "broken_audio.mp4": (360, 640, 11.2),
    "carphone_176x144.mp4": (144, 176, 4.004),
    "chaplin.mp4": (360, 640, 9.64),
    "edit_list_74_or_56_frames.mp4": (360, 640, 2.24),
    "face_close_up.mp4": (426, 320, 10.0),
    "flipping_pancake.mkv": (240, 426, 10.333),
    "four_frames_unordered.mov": (50, 50, 0.125),
    "h265.mp4": (128, 128, 1.0),
    "h265_10bit.mp4": (200, 200, 1.0),
    "hitting_baseball.mp4": (320, 426, 10.0),
    "mpeg4.avi": (240, 320, 6.56),
    "no_duration.webm": (720, 1280, 4.938),
    "playing_guitar.mp4": (320, 470, 10.0),
    "rotated_90.mov": (568, 320, 0.1),
    "rotated_180.mov": (320, 568, 0.1),
    "rotated_270.mov": (568, 320, 0.1),
    "shooting_basketball.mp4": (240, 426, 10.01),
    "short_vp8_720p.webm": (720, 1280, 1.0),
    "traffic.mp4": (272, 640, 10.0),
    "two_video_streams.mp4": (270, 480, 13.013),
    "yoga.mp4": (320, 568, 10.0),
}


@needs_clips
@pytest.mark.parametrize("name", REAL)
def test_a_real_file_is_read(name: str) -> None:
    height, width, duration_s = REAL[name]

    clip = decode(Source.at(CLIPS / name), EIGHT)

    assert clip.frames.shape == (1, 8, height, width, 3)
    assert clip.times_s[0, 0] == 0
    assert (np.diff(clip.times_s) >= 0).all()
    assert clip.times_s.max() < duration_s
    assert clip.duration_s == pytest.approx(duration_s, abs=0.002)


@needs_clips
def test_only_frames_that_a_player_shows_count() -> None:
    film = Source.at(CLIPS / "edit_list_74_or_56_frames.mp4")

    clip = decode(film, SamplingConfig(frames=56))

    assert clip.warning is None
    np.testing.assert_allclose(clip.times_s[0], np.arange(56) / 25, atol=1e-3)


@needs_clips
@pytest.mark.parametrize(
    "name",
    [
        "yoga.mp4",
        "traffic.mp4",
        "flipping_pancake.mkv",
        "short_vp8_720p.webm",
        "alpha_200x200.webm",
        "four_frames_unordered.mov",
        "rotated_90.mov",
        "rotated_180.mov",
        "rotated_270.mov",
    ],
)
def test_decord_and_pyav_read_the_same_frames(name: str) -> None:
    by_decord = decode(Source.at(CLIPS / name), EIGHT, decoder="decord")
    by_av = decode(Source.at(CLIPS / name), EIGHT, decoder="av")

    assert by_decord.positions is not None
    assert by_av.positions is not None
    assert by_decord.positions.tolist() == by_av.positions.tolist()
    assert by_decord.frames.shape == by_av.frames.shape
    assert np.abs(by_decord.frames.astype(int) - by_av.frames).mean() < 0.5
    np.testing.assert_allclose(by_decord.times_s, by_av.times_s, atol=0.002)


@needs_clips
def test_decord_is_refused_where_it_may_choose_another_stream() -> None:
    with pytest.raises(VideoError, match=r"two_video_streams.mp4: decord cannot read it reliably"):
        decode(Source.at(CLIPS / "two_video_streams.mp4"), EIGHT, decoder="decord")
