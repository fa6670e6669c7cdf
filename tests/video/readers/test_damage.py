"""Files that can only be read in part."""

import shutil
import subprocess
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from barcode_films import numbers_of, packet_places, with_zeros, write_barcodes
from film_kinds import with_edits
from numbered_films import CLIPS, EIGHT, N, failure_of, needs_clips, positions_seen, write_film
from test_shown_frames import shown_numbers

from bike_cli.config import SamplingConfig
from bike_cli.errors import VideoError
from bike_cli.records import Clip, Source
from bike_cli.video.containers.bitstreams import inspector_of
from bike_cli.video.decoding import decode
from bike_cli.video.readers.damage import Survey, choose
from bike_cli.video.readers.footage import Request
from bike_cli.video.readers.video_file import Header
from bike_cli.video.sampling import sample_positions

FILE = Source.at("film.mp4")
X264_B_FRAMES = {"x264-params": "keyint=12:bframes=3:b-adapt=0"}
X265_B_FRAMES = {"x265-params": "log-level=none:keyint=12:min-keyint=12:bframes=3:b-adapt=0:open-gop=0"}


def survey(intact: int, concealed: int = 0, *, packets: int = 300) -> Survey:
    """Return the survey of a video that lost frames at its end; frames with concealed errors come last."""
    n_read = intact + concealed
    return Survey(
        starts=np.arange(n_read) / 25,
        lengths=np.full(n_read, 1 / 25),
        is_intact=np.arange(n_read) < intact,
        is_key=np.arange(n_read) == 0,
        packet_starts=np.arange(packets) / 25,
        n_packets=packets,
        n_announced=packets,
        errors=packets - n_read,
        header=Header("mov,mp4", "h264", "yuv420p", packets, packets / 25),
    )


# -- the rule ---------------------------------------------------------------------------------------------------------


def test_a_clip_is_taken_from_intact_frames_if_there_are_enough() -> None:
    choice = choose(survey(intact=212), Request(EIGHT), source=FILE)

    assert choice.frames.tolist() == sample_positions(212, 8, clips=1).tolist()
    assert choice.notes == ["damaged: 212 of 300 frames can be read; only those are used"]


def test_frames_with_concealed_errors_fill_a_clip_and_are_counted() -> None:
    choice = choose(survey(intact=6, concealed=2), Request(EIGHT), source=FILE)

    assert choice.frames.tolist() == [[0, 1, 2, 3, 4, 5, 6, 7]]
    assert choice.notes == [
        "damaged: 6 of 300 frames are intact",
        "2 of the 8 frames read have concealed errors",
    ]


@pytest.mark.parametrize("clips", [1, 3])
def test_half_a_clip_is_read_once_each(clips: int) -> None:
    choice = choose(survey(intact=5), Request(replace(EIGHT, clips=clips)), source=FILE)

    assert choice.frames.tolist() == [[0, 1, 2, 3, 4]] * clips
    assert choice.notes == ["damaged: 8 frames requested, 5 read"]


@pytest.mark.parametrize("intact", [0, 3])
def test_less_than_half_a_clip_is_a_failure_with_counts(intact: int) -> None:
    with pytest.raises(VideoError, match=f"{intact} of 300 frames can be read, 8 are requested") as caught:
        choose(survey(intact=intact), Request(EIGHT), source=FILE)

    assert caught.value.kind == "damaged"


# -- files ------------------------------------------------------------------------------------------------------------


def read(film: Path, config: SamplingConfig = EIGHT) -> Clip:
    return decode(Source.at(film), config)


def test_frames_around_a_hole_keep_their_places_and_times(tmp_path: Path) -> None:
    film = with_zeros(write_film(tmp_path / "film.mp4", fps=10), packets=range(12, 24))

    clip = read(film)

    assert clip.positions is not None
    assert positions_seen(clip).tolist() == clip.positions.tolist()
    np.testing.assert_allclose(clip.times_s, clip.positions / 10, atol=1e-6)
    assert not set(range(13, 23)) & set(clip.positions[0].tolist())
    assert (clip.warning or "").startswith(f"damaged: {N - 12} of {N} frames can be read")


def test_damage_that_no_requested_frame_depends_on_is_ignored(tmp_path: Path) -> None:
    film = with_zeros(write_film(tmp_path / "film.mp4"), packets=range(25, 36))

    clip = read(film, SamplingConfig(frames=2))  # frames 0 and 20; the third group of pictures is left out

    assert positions_seen(clip).tolist() == [[0, 20]]
    assert clip.warning is None


def test_a_film_cut_off_after_its_index_is_read_as_far_as_possible(tmp_path: Path) -> None:
    film = write_film(tmp_path / "film.mp4", options={"movflags": "+faststart"}, fps=5)
    film.write_bytes(film.read_bytes()[: packet_places(film)[25][0]])

    clip = read(film)

    assert clip.positions is not None
    assert positions_seen(clip).tolist() == clip.positions.tolist()
    assert f"of {N} frames can be read" in (clip.warning or "")
    assert "of 8.0 s: the file may be cut off" in (clip.warning or "")


def test_a_few_lost_bytes_at_the_end_are_reported(tmp_path: Path) -> None:
    film = write_film(tmp_path / "film.mp4", options={"movflags": "+faststart"})
    film.write_bytes(film.read_bytes()[:-10])

    assert "damaged" in (read(film).warning or "")


def test_keyframes_of_a_damaged_film_come_from_what_can_be_read(tmp_path: Path) -> None:
    film = with_zeros(write_film(tmp_path / "film.mp4"), packets=range(12, 24))

    clip = read(film, replace(EIGHT, sampling="keyframe"))

    assert positions_seen(clip).tolist() == [[0, 24, 36]]
    assert "3 read: the video has no more keyframes near them" in (clip.warning or "")


def test_a_film_without_a_readable_frame_is_damaged(tmp_path: Path) -> None:
    film = with_zeros(write_film(tmp_path / "film.mp4"), packets=range(N))

    error = failure_of(film)

    assert error.kind == "damaged"
    assert f"0 of {N} frames can be read" in str(error)


def test_damage_leaves_the_terminal_alone(tmp_path: Path, capfd: pytest.CaptureFixture[str]) -> None:
    film = with_zeros(write_film(tmp_path / "film.mp4"), packets=range(5, 30))
    capfd.readouterr()  # what the encoder printed

    read(film)

    assert capfd.readouterr() == ("", "")


@needs_clips
def test_a_corrupt_file_is_read_except_for_its_broken_frames() -> None:
    clip = read(CLIPS / "corrupted.mp4")

    assert clip.frames.shape == (1, 8, 720, 1280, 3)
    assert clip.warning == "damaged: 48 of 50 frames can be read; only those are used"


@needs_clips
def test_concealed_errors_are_reported(tmp_path: Path) -> None:
    film = tmp_path / "yoga.mp4"
    content = bytearray((CLIPS / "yoga.mp4").read_bytes())
    content[200_000:200_200] = np.random.default_rng(0).bytes(200)
    film.write_bytes(content)

    assert "of 300 frames can be read" in (read(film).warning or "")


def test_gaps_of_an_avi_are_not_damage(tmp_path: Path) -> None:
    film = tmp_path / "film.avi"
    write_barcodes(film, "libx264", options=X264_B_FRAMES, pts=[i + i * i // 20 for i in range(40)])

    clip = decode(Source.at(film), EIGHT)

    assert clip.warning is None
    assert numbers_of(clip.frames)[0].tolist() == [0, 5, 10, 15, 20, 25, 30, 35]


@pytest.mark.parametrize(("codec", "options"), [("libx264", X264_B_FRAMES), ("libx265", X265_B_FRAMES)])
def test_frames_outside_of_two_edits_are_not_damage(tmp_path: Path, codec: str, options: dict[str, str]) -> None:
    film = write_barcodes(tmp_path / "film.mp4", codec, n_frames=75, options=options)
    with_edits(film, [(0.28, 0.12), (0.32, 0.52)])

    for frames in (8, 16):
        clip = decode(Source.at(film), SamplingConfig(frames=frames))

        assert "damaged" not in (clip.warning or "")
        assert clip.frames.shape[1] == frames
        assert numbers_of(clip.frames)[0].tolist() == shown_numbers(film)[clip.positions[0]].tolist()


def test_headers_of_a_chained_ogg_are_not_damage() -> None:
    inspect = inspector_of("theora", b"")
    assert inspect is not None

    headers = [inspect(memoryview(bytes([kind]) + b"theora"), False).frames for kind in (0x80, 0x81, 0x82)]
    frames = [inspect(memoryview(bytes([head, 1, 2])), head == 0).frames for head in (0x00, 0x40)]

    assert (headers, frames) == ([0, 0, 0], [1, 1])


@pytest.mark.skipif(shutil.which("ffmpeg") is None, reason="needs ffmpeg to encode Theora")
def test_a_chained_ogg_is_intact(tmp_path: Path) -> None:
    single, film = tmp_path / "single.ogv", tmp_path / "film.ogv"
    source = "testsrc=size=64x48:rate=25:duration=1"
    command = ["ffmpeg", "-v", "error", "-f", "lavfi", "-i", source, "-c:v", "libtheora", str(single)]
    if subprocess.run(command, check=False).returncode:
        pytest.skip("this ffmpeg has no libtheora")
    film.write_bytes(2 * single.read_bytes())

    clip = decode(Source.at(film), SamplingConfig(frames=50))

    assert np.array(clip.positions)[0].tolist() == [*range(50)]
    assert clip.warning is None
