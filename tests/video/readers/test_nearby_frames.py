"""Keyframes and drafts: cheaper frames near the requested ones, with their actual positions and times."""

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch  # noqa: F401 - decord loaded before torch crashes the process (dmlc/decord#293)
from numbered_films import CLIPS, EIGHT, needs_clips, positions_seen, write_film
from PIL import Image

from bike_cli.config import Decoder, SamplingConfig
from bike_cli.errors import VideoError
from bike_cli.records import Clip, Source
from bike_cli.video.decoding import decode
from bike_cli.video.readers.nearby_frames import nearest, without_repeats

KEYFRAMES = replace(EIGHT, sampling="keyframe")
DRAFT = replace(EIGHT, draft=True)
FORMATS = [("h264.mp4", "libx264"), ("h265.mkv", "libx265"), ("mpeg4.mp4", "mpeg4"), ("vp8.webm", "libvpx")]


def read(film: Path, config: SamplingConfig, decoder: Decoder = "auto") -> Clip:
    clip = decode(Source.at(film), config, decoder=decoder)
    assert clip.positions is not None
    return clip


# -- keyframes --------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("decoder", ["auto", "av", "decord"])
def test_the_keyframes_nearest_to_the_even_positions_are_read(tmp_path: Path, decoder: Decoder) -> None:
    film = write_film(tmp_path / "film.mp4", fps=10)  # keyframes at 0, 12, 24 and 36

    clip = read(film, SamplingConfig(frames=2, sampling="keyframe"), decoder)  # asked: 0 and 20

    assert positions_seen(clip).tolist() == [[0, 24]]
    assert clip.positions is not None
    assert clip.positions.tolist() == [[0, 24]]
    np.testing.assert_allclose(clip.times_s, [[0.0, 2.4]], atol=1e-6)
    assert clip.warning is None


@pytest.mark.parametrize(
    ("name", "codec"),
    [("h264.mp4", "libx264"), ("h265.mkv", "libx265"), ("vp8.webm", "libvpx"), ("h264.ts", "libx264")],
)
def test_a_keyframe_is_read_once(tmp_path: Path, name: str, codec: str) -> None:
    film = write_film(tmp_path / name, codec=codec)

    clip = read(film, KEYFRAMES)

    t = clip.frames.shape[1]
    assert t < 8
    assert positions_seen(clip).tolist() == np.array(clip.positions).tolist()
    assert clip.warning == f"8 frames requested, {t} read: the video has no more keyframes near them"


def test_clips_of_keyframes_have_the_same_number_of_frames(tmp_path: Path) -> None:
    film = write_film(tmp_path / "film.mp4")

    clip = read(film, replace(KEYFRAMES, clips=3))

    assert clip.frames.shape[:2] == (3, len(np.unique(clip.positions[0])))  # type: ignore[index]
    assert positions_seen(clip).tolist() == np.array(clip.positions).tolist()


def test_every_image_of_a_folder_is_a_keyframe(tmp_path: Path) -> None:
    folder = tmp_path / "frames"
    folder.mkdir()
    for i in range(16):
        Image.new("RGB", (20, 10), (i, i, i)).save(folder / f"{i}.png")

    clip = read(folder, KEYFRAMES)

    assert np.array(clip.positions).tolist() == [[0, 2, 4, 6, 8, 10, 12, 14]]
    assert clip.warning is None


@needs_clips
@pytest.mark.parametrize("name", ["traffic.mp4", "flipping_pancake.mkv", "h265.mp4", "edit_list_74_or_56_frames.mp4"])
def test_a_keyframe_decoded_alone_is_the_exact_frame(name: str) -> None:
    keyframes = read(CLIPS / name, KEYFRAMES)
    positions = np.array(keyframes.positions)[0]

    every = read(CLIPS / name, SamplingConfig(frames=int(positions[-1]) + 1 if len(positions) > 1 else 56))

    places = [np.array(every.positions)[0].tolist().index(p) for p in positions if p in np.array(every.positions)[0]]
    np.testing.assert_array_equal(keyframes.frames[0, : len(places)], every.frames[0, places])


# -- drafts -----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(("name", "codec"), FORMATS)
def test_a_draft_reports_which_frames_it_read(tmp_path: Path, name: str, codec: str) -> None:
    film = write_film(tmp_path / name, codec=codec)

    clip = read(film, DRAFT)

    assert positions_seen(clip).tolist() == np.array(clip.positions).tolist()
    np.testing.assert_allclose(clip.times_s, np.array(clip.positions) / 25, atol=1e-3)


def test_a_draft_stays_near_the_frames_asked_for(tmp_path: Path) -> None:
    film = write_film(tmp_path / "film.mp4")  # two B-frames at most between the others

    exact, draft = read(film, EIGHT), read(film, DRAFT)

    shift = np.abs(np.array(draft.positions) - np.array(exact.positions))
    assert 0 < shift.max() <= 2


def test_a_draft_is_exact_where_nothing_can_be_left_out(tmp_path: Path) -> None:
    film = write_film(tmp_path / "film.ts")

    exact, draft = read(film, EIGHT), read(film, DRAFT)

    np.testing.assert_array_equal(exact.frames, draft.frames)


def test_a_draft_from_decord_is_refused(tmp_path: Path) -> None:
    film = write_film(tmp_path / "film.mp4")

    with pytest.raises(VideoError, match="--draft does not work with decord"):
        read(film, DRAFT, "decord")


# -- decoders by name -------------------------------------------------------------------------------------------------


def test_all_decoders_read_the_same_frames(tmp_path: Path) -> None:
    film = write_film(tmp_path / "film.mp4")

    auto, av, decord = (read(film, EIGHT, decoder).frames for decoder in ("auto", "av", "decord"))

    np.testing.assert_array_equal(auto, av)
    np.testing.assert_array_equal(auto, decord)


def test_what_decord_cannot_read_has_a_message_that_says_what_to_do(tmp_path: Path) -> None:
    film = write_film(tmp_path / "film.mp4", options={"movflags": "+faststart"})
    film.write_bytes(film.read_bytes()[:-100])

    with pytest.raises(VideoError, match="--decoder auto"):
        read(film, EIGHT, "decord")


def test_files_that_decord_misreads_carry_a_warning(tmp_path: Path) -> None:
    film = write_film(tmp_path / "film.mp4", codec="libx265")

    assert "decord may be off by some frames" in (read(film, EIGHT, "decord").warning or "")


def test_decord_never_gets_a_text_file(tmp_path: Path) -> None:
    text = tmp_path / "labels.txt"
    text.write_text("running and jumping\n" * 2000)

    with pytest.raises(VideoError, match="is not a video"):
        read(text, EIGHT, "decord")


def test_auto_leaves_decord_unloaded(tmp_path: Path) -> None:
    import subprocess
    import sys

    film = write_film(tmp_path / "film.webm", codec="libvpx")
    program = (
        "import sys; from bike_cli.config import SamplingConfig; from bike_cli.records import Source;"
        "from bike_cli.video.decoding import decode; decode(Source.at(sys.argv[1]), SamplingConfig());"
        "sys.exit('decord' in sys.modules)"
    )

    assert subprocess.run([sys.executable, "-c", program, str(film)], check=False).returncode == 0


# -- index arithmetic --------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("position", "expected"),
    [(0, 3), (3, 3), (6, 3), (7, 10), (9, 10), (99, 20), (15, 10)],  # 15 is as near to 10 as to 20
)
def test_the_nearest_candidate_is_chosen_or_the_earlier_of_two(position: int, expected: int) -> None:
    assert nearest(np.array([position]), np.array([3, 10, 20])).tolist() == [expected]


def test_coinciding_positions_are_read_once() -> None:
    found = without_repeats(np.array([[0, 0, 5, 5]]), np.array([[0, 2, 4, 6]]))

    assert found.tolist() == [[0, 5]]


def test_all_clips_have_as_many_frames_as_the_shortest() -> None:
    moved = np.array([[0, 5, 9, 9], [3, 3, 9, 9]])

    found = without_repeats(moved, np.arange(8).reshape(2, 4))

    assert found.tolist() == [[0, 5], [3, 9]]


def test_requested_repeats_stay() -> None:
    moved = asked = np.array([[0, 0, 1, 1]])

    assert without_repeats(moved, asked).tolist() == [[0, 0, 1, 1]]
