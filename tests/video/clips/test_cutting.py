"""Clips have the frames, the sound and the times that were asked for; what was there before is never lost."""

import itertools
import shutil
import subprocess
import sys
from fractions import Fraction
from pathlib import Path

import av
import numpy as np
import pytest
from barcode_films import barcode, write_barcodes
from clip_films import (
    click_times,
    duration_of,
    keyframe_times,
    numbered,
    numbers,
    pictures_of,
    similarity,
    write_with_sound,
)
from numbered_films import CLIPS, needs_clips

from bike_cli.errors import VideoError
from bike_cli.records import Source
from bike_cli.video.cutting import Cut, clip_name, clip_suffix, cut, part_of, safe_label

FFMPEG = shutil.which("ffmpeg")
needs_ffmpeg = pytest.mark.skipif(not FFMPEG, reason="ffmpeg is not installed")
N, FPS = 100, 25
KINDS = {  # ending -> codec
    "mp4": "libx264",
    "mov": "libx264",
    "mkv": "libx264",
    "webm": "libvpx-vp9",
    "ts": "libx264",
    "avi": "mpeg4",
    "mpg": "mpeg2video",
}
RANGES = [(0.0, 0.48), (0.5, 1.0), (1.0, 2.5), (0.37, 0.41), (1.0 / 3, 2.0 / 3), (3.2, 4.0), (3.9, 99.0)]


@pytest.fixture(scope="module")
def films(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    """A film of 4 s for each container, with a keyframe at least each second, and B-frames where that is usual."""
    folder = tmp_path_factory.mktemp("films")
    made = {}
    for suffix, codec in KINDS.items():
        b_frames = 2 if codec in ("libx264", "mpeg2video") else 0
        made[suffix] = write_barcodes(folder / f"film.{suffix}", codec, n_frames=N, fps=FPS, gop=25, b_frames=b_frames)
    return made


@pytest.fixture(scope="module")
def loud(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    """A film of 6 s with clicks for each container."""
    folder = tmp_path_factory.mktemp("loud")
    sounds = {"mp4": "aac", "mov": "aac", "mkv": "libopus", "ts": "aac"}
    return {suffix: write_with_sound(folder / f"loud.{suffix}", sound_codec=sounds[suffix]) for suffix in sounds}


def in_range(start_s: float, end_s: float, *, n_frames: int = N, fps: int = FPS) -> list[int]:
    """The frames that begin in a range, up to half a millisecond."""
    return [i for i in range(n_frames) if start_s - 0.0005 <= i / fps < end_s - 0.0005]


# -- exact clips --------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("suffix", KINDS)
@pytest.mark.parametrize(("start_s", "end_s"), RANGES)
def test_an_exact_clip_has_the_frames_of_its_range(
    films: dict[str, Path], tmp_path: Path, suffix: str, start_s: float, end_s: float
) -> None:
    target = tmp_path / "clip.mp4"

    made = cut(Source.at(films[suffix]), start_s, end_s, target, exact=True)

    assert made == Cut(target, start_s, exact=True)
    shown = numbered(target)
    assert [number for _, number in shown] == in_range(start_s, end_s)
    assert shown[0][0] == 0
    for time, number in shown[1:]:
        assert time == pytest.approx(number / FPS - start_s, abs=0.0011)  # Matroska and AVI round times
    assert duration_of(target) == pytest.approx(min(end_s, N / FPS) - start_s, abs=0.0011)


def test_clips_of_neighbouring_ranges_share_no_frame_and_lose_none(films: dict[str, Path], tmp_path: Path) -> None:
    edges = [0, 0.3333, 0.8, 1.01, 2.0, 2.345, 4.0]

    seen = []
    for i, (start_s, end_s) in enumerate(itertools.pairwise(edges)):
        cut(Source.at(films["mp4"]), start_s, end_s, tmp_path / f"{i}.mp4", exact=True)
        seen += numbers(tmp_path / f"{i}.mp4")

    assert seen == list(range(N))


@pytest.mark.slow
@needs_clips
@pytest.mark.parametrize(
    ("name", "start_s", "end_s", "frames"),
    [("yoga.mp4", 4.0, 7.8, 114), ("chaplin.mp4", 2.0, 3.0, 25), ("h265.mp4", 0.2, 0.8, 6), ("av1.mkv", 0.4, 0.8, 10)],
)
def test_the_pictures_of_an_exact_clip_are_those_of_the_video(
    tmp_path: Path, name: str, start_s: float, end_s: float, frames: int
) -> None:
    cut(Source.at(CLIPS / name), start_s, end_s, tmp_path / "clip.mp4", exact=True)

    expected = [pixels for time, pixels in pictures_of(CLIPS / name) if start_s - 0.0005 <= time < end_s - 0.0005]
    shown = [pixels for _, pixels in pictures_of(tmp_path / "clip.mp4")]
    assert len(shown) == len(expected) == frames
    assert duration_of(tmp_path / "clip.mp4") == pytest.approx(end_s - start_s, abs=1e-3)
    assert min(similarity(a, b) for a, b in zip(shown, expected, strict=True)) > 38
    # No neighbour would pass for the frame itself: the pictures move.
    assert all(similarity(a, expected[0]) < 38 for a in shown[frames // 2 :])


@needs_clips
def test_times_that_a_container_swaps_lose_no_frame(tmp_path: Path) -> None:
    cut(Source.at(CLIPS / "mpeg4.avi"), 2.0, 4.0, tmp_path / "clip.mp4", exact=True)

    assert len(pictures_of(tmp_path / "clip.mp4")) == 50


def test_frames_of_a_varying_rate_keep_their_times(tmp_path: Path) -> None:
    pts = [0, 1, 2, 3, 40, 41, 300, 301, 302, 310]  # in 1/25 s: still for 1.5 s, and for 10 s
    film = write_barcodes(tmp_path / "vfr.mkv", "libx264", n_frames=len(pts), pts=pts)

    cut(Source.at(film), 0.08, 12.04, tmp_path / "clip.mp4", exact=True)

    assert numbers(tmp_path / "clip.mp4") == [2, 3, 4, 5, 6]
    times = [time for time, _ in numbered(tmp_path / "clip.mp4")]
    assert times == pytest.approx([0, 0.04, 1.52, 1.56, 11.92], abs=0.0011)
    assert duration_of(tmp_path / "clip.mp4") == pytest.approx(11.96, abs=0.0011)


def test_a_clip_inside_of_one_long_frame_shows_it(tmp_path: Path) -> None:
    film = write_barcodes(tmp_path / "vfr.mkv", "libx264", n_frames=4, pts=[0, 1, 250, 251])

    cut(Source.at(film), 3.0, 5.5, tmp_path / "clip.mp4", exact=True)

    assert numbered(tmp_path / "clip.mp4") == [(0.0, 1)]
    assert duration_of(tmp_path / "clip.mp4") == pytest.approx(2.5, abs=1e-3)


def test_a_long_frame_at_the_start_is_shown_until_the_next(tmp_path: Path) -> None:
    film = write_barcodes(tmp_path / "vfr.mkv", "libx264", n_frames=4, pts=[0, 1, 250, 251])

    cut(Source.at(film), 9.0, 10.04, tmp_path / "clip.mp4", exact=True)

    assert numbered(tmp_path / "clip.mp4") == [(0.0, 1), (pytest.approx(1.0, abs=0.0011), 2)]


def test_a_clip_of_a_clip_counts_from_the_first_shown_frame(films: dict[str, Path], tmp_path: Path) -> None:
    # The copy has hidden frames before its start, which do not count.
    cut(Source.at(films["mp4"]), 1.48, 3.0, tmp_path / "copy.mp4", exact=False)
    assert numbers(tmp_path / "copy.mp4")[0] == 37

    cut(Source.at(tmp_path / "copy.mp4"), 0.4, 0.8, tmp_path / "exact.mp4", exact=True)

    assert numbers(tmp_path / "exact.mp4") == list(range(47, 57))


@pytest.mark.parametrize("pixels", ["yuv422p", "yuv444p", "yuv420p10le", "yuvj420p", "gray"])
def test_every_player_can_show_the_pixels(tmp_path: Path, pixels: str) -> None:
    film, ramp = tmp_path / "film.mkv", np.linspace(0, 255, 128).astype(np.uint8)
    picture = np.stack([np.broadcast_to(c, (96, 128)) for c in (ramp, ramp[::-1], np.full(128, 90, np.uint8))], axis=-1)
    with av.open(str(film), "w") as out:
        stream = out.add_stream("libx264", rate=10, options={"crf": "1"})
        stream.width, stream.height, stream.pix_fmt = 128, 96, pixels
        for i in range(10):
            frame = av.VideoFrame.from_ndarray(picture, format="rgb24").reformat(format=pixels)
            frame.pts, frame.time_base = i, Fraction(1, 10)
            out.mux(stream.encode(frame))
        out.mux(stream.encode())

    cut(Source.at(film), 0.3, 0.6, tmp_path / "clip.mp4", exact=True)

    with av.open(str(tmp_path / "clip.mp4")) as clip:
        expected = "yuvj420p" if pixels == "yuvj420p" else "yuv420p"  # the same, with the full range of values
        assert clip.streams.video[0].codec_context.pix_fmt == expected
    for _, shown in pictures_of(tmp_path / "clip.mp4"):
        assert similarity(shown[:, 4:-4], pictures_of(film)[4][1][:, 4:-4]) > 36


@pytest.mark.parametrize(("width", "height"), [(65, 63), (64, 63), (65, 64), (1, 1)])
def test_odd_sizes_grow_by_one_row_or_column(tmp_path: Path, width: int, height: int) -> None:
    film, rng = tmp_path / "odd.mkv", np.random.default_rng(0)
    small = rng.integers(30, 220, (height // 8 + 1, width // 8 + 1, 3), dtype=np.uint8)
    picture = np.ascontiguousarray(small.repeat(8, 0).repeat(8, 1)[:height, :width])
    with av.open(str(film), "w") as out:
        stream = out.add_stream("libx264", rate=10, options={"crf": "1"})
        stream.width, stream.height, stream.pix_fmt = width, height, "yuv444p"
        for _ in range(5):
            out.mux(stream.encode(av.VideoFrame.from_ndarray(picture, format="rgb24")))
        out.mux(stream.encode())

    cut(Source.at(film), 0.0, 0.3, tmp_path / "clip.mp4", exact=True)

    shown = [pixels for _, pixels in pictures_of(tmp_path / "clip.mp4")]
    assert len(shown) == 3
    assert shown[0].shape == (height + height % 2, width + width % 2, 3)
    expected = np.pad(picture, ((0, height % 2), (0, width % 2), (0, 0)), mode="edge")
    # Blocks of 8 pixels: only their edges suffer from 4:2:0, and the last rows and columns do not.
    assert np.abs(np.median(shown[0].astype(float) - expected, axis=(0, 1))).max() < 4
    assert np.abs(shown[0][-1].astype(float) - shown[0][-2]).mean() < 4 or height == 1
    assert np.abs(shown[0][:, -1].astype(float) - shown[0][:, -2]).mean() < 4 or width == 1


@needs_clips
@needs_ffmpeg
@pytest.mark.parametrize("turn", [90, 180, 270])
def test_a_rotated_video_stays_upright(tmp_path: Path, turn: int) -> None:
    film = CLIPS / f"rotated_{turn}.mov"
    command = [str(FFMPEG), "-v", "error", "-i", film, "-f", "rawvideo", "-pix_fmt", "rgb24", "-"]
    raw = subprocess.run(command, capture_output=True, check=True).stdout  # turned by ffmpeg

    cut(Source.at(film), 0.0, 0.1, tmp_path / "exact.mp4", exact=True)
    cut(Source.at(film), 0.0, 0.1, tmp_path / "copy.mov", exact=False)

    shown = np.stack([pixels for _, pixels in pictures_of(tmp_path / "exact.mp4")])
    expected = np.frombuffer(raw, np.uint8).reshape(-1, *shown.shape[1:])
    assert similarity(shown, expected) > 36
    command[command.index(film)] = tmp_path / "copy.mov"
    assert subprocess.run(command, capture_output=True, check=True).stdout == raw


def test_the_shape_of_pixels_is_kept(tmp_path: Path) -> None:
    film = tmp_path / "wide.mkv"
    with av.open(str(film), "w") as out:
        stream = out.add_stream("libx264", rate=10)
        stream.width, stream.height, stream.pix_fmt = 64, 64, "yuv420p"
        stream.codec_context.sample_aspect_ratio = Fraction(16, 9)
        for i in range(10):
            out.mux(stream.encode(av.VideoFrame.from_ndarray(barcode(i), format="rgb24")))
        out.mux(stream.encode())

    for exact, name in ((True, "exact.mp4"), (False, "copy.mkv")):
        cut(Source.at(film), 0.0, 0.5, tmp_path / name, exact=exact)
        with av.open(str(tmp_path / name)) as clip:
            assert clip.streams.video[0].codec_context.sample_aspect_ratio == Fraction(16, 9)


# -- copies -------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("suffix", KINDS)
@pytest.mark.parametrize(("start_s", "end_s"), RANGES)
def test_a_copy_begins_at_the_keyframe_before_its_range(
    films: dict[str, Path], tmp_path: Path, suffix: str, start_s: float, end_s: float
) -> None:
    source = Source.at(films[suffix])
    target = tmp_path / f"clip{clip_suffix(source, exact=False)}"

    made = cut(source, start_s, end_s, target, exact=False)

    key_s = max(time for time in keyframe_times(films[suffix]) if time <= start_s + 0.001)
    assert made.start_s == pytest.approx(key_s, abs=0.0011)
    assert not made.exact
    shown = numbers(target)
    wanted = in_range(start_s, end_s)
    hides = suffix in ("mp4", "mov")
    assert shown[0] == (wanted[0] if hides else round(key_s * FPS))
    assert shown == list(range(shown[0], shown[-1] + 1))
    assert 0 <= shown[-1] - wanted[-1] <= 3  # pictures that others refer to go along


@pytest.mark.parametrize("suffix", ["mp4", "mkv"])
def test_a_copy_has_the_same_pixels(films: dict[str, Path], tmp_path: Path, suffix: str) -> None:
    target = tmp_path / f"clip.{suffix}"
    cut(Source.at(films[suffix]), 1.48, 2.2, target, exact=False)

    original = [pixels for _, pixels in pictures_of(films[suffix])]
    shown = pictures_of(target)

    first = numbers(target)[0]
    assert all(np.array_equal(pixels, original[first + i]) for i, (_, pixels) in enumerate(shown))
    times = [time for time, _ in shown]
    assert times == pytest.approx([times[0] + i / FPS for i in range(len(times))], abs=0.0011)


@needs_clips
@pytest.mark.parametrize(
    "name",
    [
        *("yoga.mp4", "flipping_pancake.mkv", "two_video_streams.mp4", "av1.mkv", "h265_10bit.mp4", "no_duration.webm"),
        *("alpha_200x200.webm", "mpeg4.avi", "edit_list_74_or_56_frames.mp4", "broken_audio.mp4"),
        "short_vp8_720p.webm",
    ],
)
def test_real_files_can_be_copied(tmp_path: Path, name: str) -> None:
    source = Source.at(CLIPS / name)
    target = tmp_path / f"clip{clip_suffix(source, exact=False)}"

    made = cut(source, 0.4, 0.8, target, exact=False)

    with av.open(str(target)) as clip, av.open(str(source.path)) as original:
        assert clip.streams.video[0].codec_context.codec.canonical_name in {
            stream.codec_context.codec.canonical_name for stream in original.streams.video
        }
        assert len(clip.streams.audio) == len(original.streams.audio)
    seen = pictures_of(target)
    assert made.start_s <= 0.4
    assert len(seen) >= 4


def test_other_containers_become_matroska() -> None:
    kept = {".mp4", ".m4v", ".mov", ".mkv", ".webm"}

    for suffix in (".mp4", ".M4V", ".mov", ".mkv", ".webm", ".avi", ".ts", ".mpg", ".wmv", ".flv", ""):
        source = Source.at(f"a{suffix}")
        expected = suffix.lower() if suffix.lower() in kept else ".mkv"
        assert clip_suffix(source, exact=False) == expected
        assert clip_suffix(source, exact=True) == ".mp4"


# -- sound and subtitles ------------------------------------------------------------------------------------------


@pytest.mark.parametrize("suffix", ["mp4", "mov", "mkv", "ts"])
@pytest.mark.parametrize(("start_s", "end_s"), [(0.0, 1.1), (1.9, 3.3), (2.13, 4.2)])
def test_an_exact_clip_has_the_sound_of_its_range(
    loud: dict[str, Path], tmp_path: Path, suffix: str, start_s: float, end_s: float
) -> None:
    cut(Source.at(loud[suffix]), start_s, end_s, tmp_path / "clip.mp4", exact=True)

    # Where a click lies in the film, as its own decoder finds it, relative to the first frame.
    origin = numbered(loud[suffix])[0][0]
    expected = [time - origin - start_s for time in click_times(loud[suffix]) if start_s <= time - origin < end_s]
    heard = click_times(tmp_path / "clip.mp4")
    assert len(expected) >= 4
    assert heard == pytest.approx(expected, abs=0.002)
    assert duration_of(tmp_path / "clip.mp4", "audio") == pytest.approx(end_s - start_s, abs=0.03)


@pytest.mark.parametrize("suffix", ["mp4", "mov", "mkv"])
def test_the_sound_of_a_copy_is_in_time_with_its_pictures(loud: dict[str, Path], tmp_path: Path, suffix: str) -> None:
    target = tmp_path / f"clip.{suffix}"

    cut(Source.at(loud[suffix]), 2.1, 4.0, target, exact=False)

    # Frame 25 k and every click lie at whole quarters of a second of the film.
    (time, number), *_ = numbered(target)
    film_time = number / 25 - time  # of the clip's zero
    heard = [film_time + click for click in click_times(target)]
    assert len(heard) >= 7
    assert all(abs(moment - round(moment * 4) / 4) < 0.01 for moment in heard)


@needs_clips
def test_all_sound_tracks_go_along(tmp_path: Path) -> None:
    source = Source.at(CLIPS / "two_video_streams.mp4")
    for exact, subtitles in ((True, 0), (False, 2)):
        target = tmp_path / f"{exact}.mp4"
        cut(source, 3.0, 5.0, target, exact=exact)
        with av.open(str(target)) as clip:
            kinds = [len(clip.streams.video), len(clip.streams.audio), len(clip.streams.subtitles)]
            assert kinds == [1, 2, subtitles]
            assert clip.streams[0].type == "video"
            languages = [stream.language for stream in clip.streams.audio]
        with av.open(str(source.path)) as original:
            assert languages == [stream.language for stream in original.streams.audio]


@needs_ffmpeg
@pytest.mark.parametrize(("suffix", "codec"), [("mkv", "subrip"), ("mp4", "mov_text")])
def test_subtitles_move_with_a_copy(films: dict[str, Path], tmp_path: Path, suffix: str, codec: str) -> None:
    subtitles, film = tmp_path / "a.srt", tmp_path / f"film.{suffix}"
    texts = "".join(f"{i + 1}\n00:00:0{i},500 --> 00:00:0{i},900\nnumber {i}\n\n" for i in range(4))
    subtitles.write_text(texts)
    command = [str(FFMPEG), "-v", "error", "-i", films["mp4"], "-i", subtitles, "-c", "copy", "-c:s", codec, film]
    subprocess.run(command, check=True)

    cut(Source.at(film), 1.0, 3.0, tmp_path / f"clip.{suffix}", exact=False)

    with av.open(str(tmp_path / f"clip.{suffix}")) as clip:
        found = [
            (float(packet.pts * packet.time_base), bytes(packet))
            for packet in clip.demux(subtitles=0)
            if packet.size > 2 and packet.pts is not None
        ]
    first_s = numbered(tmp_path / f"clip.{suffix}")[0][1] / FPS  # Matroska also shows what comes before
    expected = [(0.5, 0), (1.5, 1), (2.5, 2)] if first_s < 0.9 else [(1.5, 1), (2.5, 2)]
    assert [text[-8:] for _, text in found] == [f"number {i}".encode() for _, i in expected]
    assert [time for time, _ in found] == pytest.approx([max(0, at_s - first_s) for at_s, _ in expected], abs=0.0011)


# -- what goes wrong ----------------------------------------------------------------------------------------------


def refused(source: Path | str, target: Path, *, start_s: float = 1.0, end_s: float = 2.0, exact: bool) -> VideoError:
    with pytest.raises(VideoError) as caught:
        cut(Source.at(source), start_s, end_s, target, exact=exact)
    assert not part_of(target).exists()
    return caught.value


both = pytest.mark.parametrize("exact", [True, False])


@both
def test_a_file_that_exists_stays(films: dict[str, Path], tmp_path: Path, exact: bool) -> None:
    target = tmp_path / "clip.mp4"
    target.write_bytes(b"mine")

    error = refused(films["mp4"], target, exact=exact)

    assert (error.kind, target.read_bytes()) == ("unwritable", b"mine")
    assert str(error) == f"{target}: exists and is not replaced; remove it, choose another folder, or add --force"


@both
def test_a_file_is_replaced_on_request(films: dict[str, Path], tmp_path: Path, exact: bool) -> None:
    (tmp_path / "clip.mp4").write_bytes(b"mine")

    cut(Source.at(films["mp4"]), 1.0, 2.0, tmp_path / "clip.mp4", exact=exact, overwrite=True)

    assert len(numbers(tmp_path / "clip.mp4")) >= 25


@both
def test_folders_are_created_and_nothing_else_is_left(films: dict[str, Path], tmp_path: Path, exact: bool) -> None:
    cut(Source.at(films["mp4"]), 1.0, 2.0, tmp_path / "new" / "folder" / "clip.mp4", exact=exact)

    assert [f.name for f in tmp_path.rglob("*") if f.is_file()] == ["clip.mp4"]


@both
@pytest.mark.parametrize(
    ("content", "kind"),
    [
        (None, "missing"),
        (b"", "not_video"),
        (b"a text\n" * 20, "not_video"),
        (b"\x00\x00\x00\x18ftypmp42" * 9, "damaged"),
    ],
)
def test_what_is_no_video_is_a_clear_error(tmp_path: Path, content: bytes | None, kind: str, exact: bool) -> None:
    if content is not None:
        (tmp_path / "a.mp4").write_bytes(content)

    assert refused(tmp_path / "a.mp4", tmp_path / "clip.mp4", exact=exact).kind == kind


@both
def test_a_folder_of_frames_has_no_clips(tmp_path: Path, exact: bool) -> None:
    assert "is a folder of frames" in str(refused(tmp_path, tmp_path / "clip.mp4", exact=exact))


def test_a_range_after_the_end_has_no_frame(films: dict[str, Path], tmp_path: Path) -> None:
    error = refused(films["mp4"], tmp_path / "clip.mp4", start_s=50.0, end_s=51.0, exact=True)

    assert error.kind == "damaged"


@both
def test_a_range_must_not_be_empty(films: dict[str, Path], tmp_path: Path, exact: bool) -> None:
    for start_s, end_s in ((1.0, 1.0), (2.0, 1.0), (-1.0, 1.0), (float("nan"), 1.0)):
        with pytest.raises(ValueError, match="expected 0 <= start < end"):
            cut(Source.at(films["mp4"]), start_s, end_s, tmp_path / "clip.mp4", exact=exact)


def test_a_codec_that_a_container_does_not_take_is_a_clear_error(films: dict[str, Path], tmp_path: Path) -> None:
    error = refused(films["mp4"], tmp_path / "clip.webm", exact=False)  # H.264

    assert error.kind == "unwritable"
    assert "cannot be copied into webm" in str(error)
    assert "--cut-exact" in str(error)


def test_a_build_without_the_encoder_is_a_clear_error(
    films: dict[str, Path], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(av, "codecs_available", {"aac"})

    assert "this build of PyAV has no libx264" in str(refused(films["mp4"], tmp_path / "clip.mp4", exact=True))
    cut(Source.at(films["mp4"]), 1.0, 2.0, tmp_path / "clip.mp4", exact=False)


@both
def test_a_place_that_cannot_be_written_is_a_clear_error(films: dict[str, Path], tmp_path: Path, exact: bool) -> None:
    (tmp_path / "file").write_bytes(b"")

    error = refused(films["mp4"], tmp_path / "file" / "clip.mp4", exact=exact)

    assert error.kind == "unwritable"
    assert "cannot be written" in str(error)


@both
@pytest.mark.skipif(sys.platform == "win32", reason="Windows has no limits of file sizes")
@pytest.mark.parametrize("limit", [0, 3000])
def test_a_full_disk_leaves_no_torn_clip(films: dict[str, Path], tmp_path: Path, exact: bool, limit: int) -> None:
    # A limit of the size of files fails like a full disk, without one.
    program = f"""
import resource, signal, sys
from pathlib import Path
from bike_cli.errors import VideoError
from bike_cli.records import Source
from bike_cli.video.cutting import cut
signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
resource.setrlimit(resource.RLIMIT_FSIZE, ({limit}, {limit}))
try:
    cut(Source.at(sys.argv[1]), 0.0, 4.0, Path(sys.argv[2]), exact={exact})
except VideoError as e:
    print(e.kind, e)
"""
    target = tmp_path / "clip.mp4"

    command = [sys.executable, "-c", program, str(films["mp4"]), str(target)]
    done = subprocess.run(command, capture_output=True, text=True, check=True)

    assert done.stdout.startswith(f"unwritable {target}: cannot be written (File too large); free some space")
    assert [*tmp_path.iterdir()] == []


@needs_clips
@both
def test_a_corrupt_file_is_cut_as_far_as_it_can_be_read(tmp_path: Path, exact: bool) -> None:
    cut(Source.at(CLIPS / "corrupted.mp4"), 1.0, 3.0, tmp_path / "clip.mp4", exact=exact)

    assert duration_of(tmp_path / "clip.mp4") >= 2.0


# -- names --------------------------------------------------------------------------------------------------------


def test_a_name_says_which_segment_it_is() -> None:
    assert clip_name(1, "corner kick", 723.25, ".mp4") == "0001_corner-kick_00-12-03.250.mp4"
    assert clip_name(12345, "goal", 36000.0004, ".mkv") == "12345_goal_10-00-00.000.mkv"


@pytest.mark.parametrize(
    ("label", "safe"),
    [
        ("corner kick", "corner-kick"),
        ("a/b\\c", "a-b-c"),
        ("nul\x00in", "nul-in"),
        ("..", "label"),
        ("-rf", "rf"),
        (".hidden", "hidden"),
        ('<>:"|?*', "label"),
        ("what?  now", "what-now"),
        ("line\nend\u2028", "line-end"),
        ("\u202egpj", "gpj"),
        ("caf\udce9", "caf"),
        ("足球 ⚽", "足球-⚽"),
        ("dots...", "dots"),
        ("", "label"),
    ],
)
def test_labels_become_safe(label: str, safe: str) -> None:
    assert safe_label(label) == safe


@pytest.mark.parametrize("letter", ["x", "ü", "足", "⚽", "👩‍👩‍👧"])
def test_long_labels_are_cut_at_whole_characters(letter: str, tmp_path: Path) -> None:
    safe = safe_label(letter * 300)

    assert len(safe.encode()) <= 80
    assert len(safe.encode()) >= 80 - 4
    (tmp_path / clip_name(1, letter * 300, 0, ".mp4")).touch()
