"""Timestamps that restart, jump, run backwards or start anywhere, and warnings about early ends."""

from collections.abc import Sequence
from pathlib import Path

import av
import numpy as np
import pytest
from barcode_films import numbers_of, packet_places, write_barcodes
from numbered_films import CLIPS

from bike_cli.config import SamplingConfig
from bike_cli.records import Clip, Source
from bike_cli.video.containers.clocks import Clock, clock_of
from bike_cli.video.decoding import decode
from bike_cli.video.readers import sequential as sequential_reader
from bike_cli.video.readers.video_file import VideoFile

FAULTS = CLIPS.parent / "faults"
needs_faults = pytest.mark.skipif(not FAULTS.is_dir(), reason=f"{FAULTS}: the faulty files are not here")
EIGHT = SamplingConfig(frames=8)


def read(film: Path) -> Clip:
    return decode(Source.at(film), EIGHT)


# -- arithmetic ------------------------------------------------------------------------------------------------------


def clock(starts: Sequence[float | None], *, keys: Sequence[int] = (0,), may_jump: bool = False) -> Clock:
    """Return the clock of frames of 1 s."""
    times = np.array([np.nan if s is None else s for s in starts], float)
    is_key = np.isin(np.arange(len(starts)), keys)
    return clock_of(times, np.ones(len(starts)), is_key, may_jump=may_jump)


@pytest.mark.parametrize(
    ("starts", "keys", "may_jump", "expected"),
    [
        ([5, 6, 7], [0], False, [0, 1, 2]),
        ([-3, -2, -1], [0], False, [0, 1, 2]),
        ([0, 1, 90, 91], [0], False, [0, 1, 90, 91]),  # a still picture
        ([0, 1, 90, 91], [0], True, [0, 1, 2, 3]),  # a jump of a clock that may jump
        ([0, 1, 5, 6], [0], True, [0, 1, 5, 6]),
        ([*range(20), *range(20)], [0, 20], False, [*range(40)]),  # a restart
        ([7, 8, 0, 1], [0, 2], True, [0, 1, 2, 3]),
        ([0, 3, 1, 2, 4, 6, 5], [0], False, [0, 1, 2, 3, 4, 5, 6]),  # out of order, but complete
        ([None, None, 2, 3], [0], False, [0, 1, 2, 3]),
        ([0, None, 2, 3, None], [0], False, [0, 1, 2, 3, 4]),
        ([4, 4, 5, 6], [0], False, [0, 0.5, 1, 2]),  # two frames with one time
    ],
)
def test_times_rise(starts: list[float | None], keys: list[int], may_jump: bool, expected: list[float]) -> None:
    found = clock(starts, keys=keys, may_jump=may_jump)

    assert (np.diff(found.starts_s) > 0).all()
    if starts[0] != starts[1]:
        np.testing.assert_allclose(found.starts_s, expected)
        assert found.duration_s == pytest.approx(expected[-1] + 1)
    assert found.note is None


def test_timestamps_in_random_order_are_not_used() -> None:
    found = clock([*range(30), *range(29, -1, -1)])

    assert np.isnan(found.starts_s).all()
    assert found.duration_s is None
    assert found.note == "the file's timestamps run backwards: times and duration are unknown"


def test_missing_times_are_reported() -> None:
    found = clock([None, None])

    assert (found.duration_s, found.note) == (None, "the file has no timestamps: times and duration are unknown")


@pytest.mark.parametrize("keys", [(0,), range(40)])
def test_frames_share_a_time_where_the_clock_is_coarser_than_the_frame_rate(keys: Sequence[int]) -> None:
    found = clock([i // 2 for i in range(40)], keys=keys)

    assert found.starts_s.tolist() == [i // 2 for i in range(40)]
    assert (found.duration_s, found.note) == (20, None)


def test_timestamps_that_never_advance_are_not_used() -> None:
    assert np.isnan(clock([3] * 12).starts_s).all()


@pytest.mark.parametrize("keys", [(0,), (0, 1, 2, 3)])
def test_times_swapped_by_a_rounding_error_are_sorted(keys: Sequence[int]) -> None:
    found = clock([0, -0.00001, 1, 2], keys=keys)

    np.testing.assert_allclose(found.starts_s, [0, 0, 1, 2], atol=1e-4)
    assert (np.diff(found.starts_s) > 0).all()


@pytest.mark.parametrize(("name", "codec"), [("film.h264", "libx264"), ("film.hevc", "libx265")])
def test_raw_streams_have_no_times_and_a_warning(tmp_path: Path, name: str, codec: str) -> None:
    options = {"x265-params": "log-level=none"} if codec == "libx265" else {}
    clip = read(write_barcodes(tmp_path / name, codec, options=options))

    assert np.isnan(clip.times_s).all()
    assert clip.duration_s is None
    assert "the file has no timestamps: times and duration are unknown" in (clip.warning or "")
    assert numbers_of(clip.frames)[0].tolist() == [0, 5, 10, 15, 20, 25, 30, 35]


def test_the_estimated_duration_of_a_live_recording_does_not_count(tmp_path: Path) -> None:
    film = tmp_path / "film.mkv"
    with av.open(str(film), "w", options={"live": "1"}) as container:
        audio, picture = container.add_stream("pcm_s16le", rate=8000), container.add_stream("ffv1", rate=25)
        audio.layout = "mono"
        picture.width, picture.height, picture.pix_fmt = 64, 48, "gray"
        for _ in range(15):
            container.mux(picture.encode(av.VideoFrame(64, 48, "gray")))
        for _ in range(40):
            sound = av.AudioFrame("s16", "mono", 800)
            sound.rate = 8000
            container.mux(audio.encode(sound))
        container.mux([*picture.encode(), *audio.encode()])

    with av.open(str(film)) as container:
        assert container.duration > 2_000_000  # FFmpeg's guess, of 0.6 s of picture
    assert read(film).warning is None


# -- files -----------------------------------------------------------------------------------------------------------


def test_a_film_appended_to_another_continues_where_that_ended(tmp_path: Path) -> None:
    film = write_barcodes(tmp_path / "film.ts", "libx264", fps=10, b_frames=2)
    film.write_bytes(film.read_bytes() * 2)

    clip = read(film)

    assert numbers_of(clip.frames).tolist() == [[0, 10, 20, 30, 0, 10, 20, 30]]
    np.testing.assert_allclose(clip.times_s, [[0, 1, 2, 3, 4, 5, 6, 7]], atol=1e-6)
    assert clip.duration_s == pytest.approx(8)
    assert clip.warning is None


@pytest.mark.parametrize("restart", [20, 35, 39])
def test_a_clock_that_steps_back_in_matroska_still_rises(tmp_path: Path, restart: int) -> None:
    first = write_barcodes(tmp_path / "first.mkv", "libx264", fps=10)
    second = write_barcodes(tmp_path / "second.mkv", "libx264", fps=10, pts=range(restart, restart + 40))
    film = tmp_path / "film.mkv"
    film.write_bytes(first.read_bytes() + second.read_bytes())

    clip = read(film)

    assert numbers_of(clip.frames).tolist() == [[0, 10, 20, 30, 0, 10, 20, 30]]
    assert (np.diff(clip.times_s) > 0).all()
    assert clip.duration_s == pytest.approx(8, abs=0.01)


@needs_faults
@pytest.mark.parametrize(
    ("name", "duration_s"),
    [
        ("t_cat.ts", 8.0),
        ("t_forward.ts", 8.0),
        ("catmkv.mkv", 9.6),
        ("catmpg.mpg", 3.84),
        ("cut_neg.mkv", 4.0),
        ("start100.mkv", 4.0),
        ("late.mkv", 4.0),
        ("longaudio.mkv", 4.0),
        ("peers/fragments_from_10s.mp4", 7.133),
        ("peers/fragments_from_10s_b.mp4", 7.591),
        ("peers/fragments_from_hour.mp4", 8.0),
        ("peers/from_1s.flv", 4.5),
        ("peers/subtitles_longer.mkv", 0.049),
    ],
)
def test_a_sound_file_has_the_duration_of_its_frames_and_no_warning(name: str, duration_s: float) -> None:
    clip = read(FAULTS / name)

    assert (np.diff(clip.times_s) > 0).all()
    assert clip.times_s[0, 0] == 0
    assert clip.duration_s == pytest.approx(duration_s, abs=0.002)
    assert clip.warning is None


@needs_faults
def test_times_of_a_raw_stream_rise_although_its_frames_are_out_of_order() -> None:
    clip = read(FAULTS / "peers" / "raw_order.m4v")

    assert (np.diff(np.unique(clip.times_s)) > 0).all()
    assert (np.diff(clip.times_s) >= 0).all()


def test_marks_of_a_transport_stream_are_not_damage(tmp_path: Path) -> None:
    film = write_barcodes(tmp_path / "film.ts", "libx264", fps=10)
    content = bytearray(film.read_bytes())
    for at in range(0, len(content), 188):
        if content[at + 1] & 0x1F == 1 and content[at + 2] == 0 and at > len(content) // 2:
            content[at + 3] = content[at + 3] & 0xF0 | (content[at + 3] + 1) & 0x0F  # a continuity counter that jumps
    film.write_bytes(content)
    with av.open(str(film)) as container:
        assert any(packet.is_corrupt for packet in container.demux(video=0))

    assert read(film).warning is None


# -- where files end -------------------------------------------------------------------------------------------------


def test_a_matroska_film_that_begins_late_and_is_cut_is_reported(tmp_path: Path) -> None:
    film = write_barcodes(
        tmp_path / "film.mkv", "libx264", fps=5, pts=range(100, 140), muxer={"cluster_time_limit": "1000"}
    )
    assert read(film).warning is None
    content = film.read_bytes()
    film.write_bytes(content[: packet_places(film)[20][0]])

    assert "of 8.0 s: the file may be cut off" in (read(film).warning or "")


def test_a_longer_sound_track_does_not_count_as_a_lost_picture(tmp_path: Path) -> None:
    film = tmp_path / "film.mkv"
    with av.open(str(film), "w") as container:
        picture = container.add_stream("libx264", rate=10)
        picture.width = picture.height = 64
        sound = container.add_stream("aac", rate=8000, layout="mono")
        for _ in range(40):
            container.mux(picture.encode(av.VideoFrame.from_ndarray(np.zeros((64, 64, 3), np.uint8), format="rgb24")))
        container.mux(picture.encode())
        for i in range(60):
            frame = av.AudioFrame.from_ndarray(np.zeros((1, 1024), np.float32), format="fltp", layout="mono")
            frame.sample_rate, frame.pts = 8000, 1024 * i
            container.mux(sound.encode(frame))
        container.mux(sound.encode())

    clip = read(film)

    assert clip.duration_s == pytest.approx(4)
    assert clip.warning is None


def test_a_fragmented_film_that_is_cut_is_reported(tmp_path: Path) -> None:
    film = write_barcodes(tmp_path / "film.mp4", "libx264", fps=5, muxer={"movflags": "frag_keyframe+delay_moov"})
    content = bytearray(film.read_bytes())
    at = content.index(b"mvhd") + 16  # version 0: time scale 1000, then the duration of the whole presentation
    content[at : at + 4] = (60_000).to_bytes(4)
    film.write_bytes(content)
    assert read(film).warning is None  # one part of a presentation
    film.write_bytes(content[: packet_places(film)[30][0] + 5])

    assert (read(film).warning or "") != ""


# -- beginnings that cannot be decoded -------------------------------------------------------------------------------


@pytest.mark.parametrize(("name", "codec"), [("film.ts", "libx264"), ("film.ts", "mpeg2video"), ("film.ts", "libx265")])
def test_a_recording_that_begins_between_keyframes_says_how_much_is_lost(tmp_path: Path, name: str, codec: str) -> None:
    options = (
        {"x265-params": "log-level=none:keyint=12:min-keyint=12:bframes=0"}
        if codec == "libx265"
        else {"sc_threshold": "0"}
    )
    film = write_barcodes(tmp_path / name, codec, gop=12, options=options)
    begin = packet_places(film)[5][0]
    film.write_bytes(film.read_bytes()[begin // 188 * 188 :])

    clip = read(film)

    first = int(numbers_of(clip.frames)[0, 0])
    assert first == 12
    assert clip.warning == f"the first {12 - 5} of {40 - 5} frames cannot be decoded"
    assert np.array(clip.positions)[0].tolist() == [28 * i // 8 for i in range(8)]
    assert numbers_of(clip.frames)[0].tolist() == [12 + 28 * i // 8 for i in range(8)]


def test_a_raw_stream_without_its_first_keyframe_says_how_much_is_lost(tmp_path: Path) -> None:
    options = {"x264-params": "repeat-headers=1:scenecut=0"}
    film = write_barcodes(tmp_path / "film.h264", "libx264", gop=12, options=options)
    with av.open(str(film)) as container:
        packets = [bytes(p) for p in container.demux(video=0) if p.size]
    head = packets[0][: packets[0].index(b"\0\0\1\x65")]  # parameter sets; the IDR picture is gone
    film.write_bytes(head + b"".join(packets[1:]))

    clip = read(film)

    assert numbers_of(clip.frames)[0, 0] == 12
    no_times = "the file has no timestamps: times and duration are unknown"
    assert clip.warning == f"{no_times}; the first 11 of 39 frames cannot be decoded"


@pytest.mark.slow
@needs_faults
def test_frames_that_the_decoder_leaves_out_are_reported() -> None:
    clip = read(FAULTS / "peers" / "two_frames_lost.mp4")

    assert clip.warning == "2 of 1,199 frames cannot be decoded"


# -- readers ---------------------------------------------------------------------------------------------------------


@needs_faults
def test_a_stream_that_appears_in_mid_file_is_not_an_error() -> None:
    clip = read(FAULTS / "peers" / "late_stream.ts")

    assert np.array(clip.positions).tolist() == [[0, 3, 6, 9, 12, 15, 18, 21]]


def test_an_error_of_the_library_falls_back_to_the_full_reader(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    film = write_barcodes(tmp_path / "film.mp4", "libx264")

    def fail(file: VideoFile, request: object) -> None:
        raise KeyError("stream 7")

    monkeypatch.setattr("bike_cli.video.decoding.read_selected", fail)
    clip = read(film)

    assert numbers_of(clip.frames).tolist() == [[0, 5, 10, 15, 20, 25, 30, 35]]
    assert clip.details == ("read with PyAV, decoded in full once ('stream 7')",)


def test_an_error_of_the_library_is_not_a_crash(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    from bike_cli.errors import VideoError

    film = write_barcodes(tmp_path / "film.ts", "libx264")

    def fail(*_: object) -> None:
        raise IndexError("list index out of range")

    monkeypatch.setattr(sequential_reader, "list_packets", fail)
    with pytest.raises(VideoError, match=r"cannot be read \(IndexError: list index out of range\); convert") as caught:
        read(film)

    assert caught.value.kind == "damaged"


@pytest.mark.parametrize(("name", "codec"), [("film.ts", "libx264"), ("film.avi", "mpeg4"), ("film.flv", "libx264")])
@pytest.mark.parametrize("sampling", ["uniform", "dense", "keyframe"])
def test_a_sound_file_is_decoded_once(tmp_path: Path, name: str, codec: str, sampling: str) -> None:
    film = write_barcodes(tmp_path / name, codec)

    clip = decode(Source.at(film), SamplingConfig(frames=8, sampling=sampling))  # type: ignore[arg-type]

    assert clip.details[0].startswith("read with PyAV, decoded in full once (")
