"""Streams of intact videos: each bin has the frame that a plain decode shows at its middle, pixel for pixel."""

from fractions import Fraction
from itertools import pairwise
from pathlib import Path

import av
import numpy as np
import pytest
from barcode_films import numbers_of, write_barcodes
from bin_oracle import Film, Streamed, differing, plain_film, streamed
from film_kinds import KINDS, clocks_for, with_edits, write_kind
from numbered_films import CLIPS, needs_clips
from PIL import Image
from scene_films import FILMS, X264, N, write_film
from speed import slow_but

from bike_cli.config import SamplingConfig
from bike_cli.records import Source
from bike_cli.video.decoding import decode
from bike_cli.video.readers.footage import Request
from bike_cli.video.readers.packets import PacketTable, UnpredictableFileError
from bike_cli.video.readers.sequential import read_through

RATES = (2, 7.3, 60)
DRAWN = Path(__file__).parents[3] / "examples/long/shapes.mp4"


def check(film: Path, expected: Film, *, rates: tuple[float, ...] = RATES) -> None:
    for fps in rates:
        found = streamed(film, fps)
        wanted = expected.bins(fps)

        assert differing(found.bins(), wanted) == [], f"{film.name} at {fps}"
        assert found.end.n_bins == len(wanted)
        assert found.end.end_s == pytest.approx(float(expected.end - expected.frames[0].start), abs=1e-6)
        assert len(found.end.missing) == 0
        check_sent_once(found)
        check_resumed(film, found, fps)


def check_sent_once(found: Streamed) -> None:
    """Check that neighbouring rows have different frames."""
    rows = found.rows
    assert all(row.pixels is not other.pixels for row, other in pairwise(rows))
    assert [row.first_bin for row in rows[1:]] == [row.end_bin for row in rows[:-1]]


def check_resumed(film: Path, whole: Streamed, fps: float, *, draft: bool = False) -> None:
    """Check that a stream of some bins has the same frames as one of all bins."""
    n_bins = whole.end.n_bins
    for first, end in ((n_bins // 3, None), (n_bins - 1, None), (n_bins // 4, n_bins // 2 + 1), (0, 1)):
        part = streamed(film, fps, first_bin=first, end_bin=end, draft=draft)

        frames = whole.bins()
        frames[:first] = [None] * first
        assert part.end.n_bins == (end or n_bins)
        assert differing(part.bins(), frames[:end]) == [], f"{film.name} from {first} to {end}"
        missing = whole.end.missing
        missing = missing[(missing >= first) & (missing < (end or n_bins))]
        assert part.end.missing.tolist() == missing.tolist()


@pytest.mark.parametrize("name", slow_but(list(FILMS)[::2], FILMS))
def test_scenes_have_the_frames_of_a_plain_decode(tmp_path: Path, name: str) -> None:
    film = FILMS[name](tmp_path / name)

    check(film, plain_film(film))


@pytest.mark.parametrize("kind", slow_but(list(KINDS)[::2], KINDS))
def test_every_codec_and_container_has_the_frames_of_a_plain_decode(tmp_path: Path, kind: str) -> None:
    clocks = clocks_for(kind)
    film = write_kind(tmp_path, kind, clock=clocks[KINDS.index(kind) % len(clocks)], gop=12, b_frames=2)

    check(film, plain_film(film))


@pytest.mark.slow
@pytest.mark.parametrize("kind", KINDS)
def test_every_clock_and_group_of_pictures_has_the_frames_of_a_plain_decode(tmp_path: Path, kind: str) -> None:
    for clock in clocks_for(kind):
        for gop in (1, 12, 100):
            for b_frames in (0, 3):
                film = write_kind(tmp_path, kind, clock=clock, gop=gop, b_frames=b_frames, n_frames=60)
                check(film, plain_film(film))


@pytest.mark.parametrize("name", ["film.mp4", "film.ts"])
def test_both_readers_take_part(tmp_path: Path, name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    film = write_film(tmp_path / name, "libx264", options=X264)
    reader = "selective" if name.endswith("mp4") else "decoded in full once"

    assert streamed(film, 2).end.details[0] == f"read with PyAV, {reader}"


@pytest.mark.parametrize("name", ["film.mp4", "film.ts"])
def test_there_is_nothing_after_the_last_bin(tmp_path: Path, name: str) -> None:
    film = write_film(tmp_path / name, "libx264", options=X264)

    for first in (10, 50):
        found = streamed(film, 5, first_bin=first)

        assert (found.rows, found.end.n_bins, found.end.missing.tolist()) == ([], 10, [])
        assert found.end.warning is None


def test_a_screen_recording_fills_all_bins_of_a_long_frame_with_it(tmp_path: Path) -> None:
    pts = [0, 1, 2, 250, 251, 1000]  # 1/25 s
    film = write_barcodes(tmp_path / "film.mp4", "libx264", n_frames=6, pts=pts)

    found = streamed(film, 2)

    assert [(int(numbers_of(r.pixels)), r.first_bin, r.end_bin) for r in found.rows] == [(2, 0, 20), (4, 20, 80)]
    assert (found.end.n_bins, found.end.end_s) == (80, pytest.approx(40.04))
    assert found.end.warning is None


def test_a_still_for_an_hour_is_one_frame(tmp_path: Path) -> None:
    film = write_barcodes(tmp_path / "film.mkv", "libx264", n_frames=2, pts=[0, 90_000])

    found = streamed(film, 2)

    assert [(row.first_bin, row.end_bin) for row in found.rows] == [(0, 7200)]
    assert found.end.n_bins == 7200
    assert float(found.end.duration_s or 0) >= 3600


def test_more_bins_than_frames_are_a_warning(tmp_path: Path) -> None:
    film = write_barcodes(tmp_path / "film.mp4", "libx264", fps=10)

    assert len(streamed(film, 30).rows) == 40
    assert streamed(film, 30).end.warning == (
        "30 frames per second are requested, the video has 10: each frame is read once"
    )
    assert streamed(film, 10).end.warning is None


def test_an_image_is_one_bin(tmp_path: Path) -> None:
    film = tmp_path / "image.png"
    with av.open(str(film), "w", format="image2", options={"update": "1"}) as container:
        stream = container.add_stream("png")
        stream.width, stream.height, stream.pix_fmt = 64, 48, "rgb24"
        container.mux(stream.encode(av.VideoFrame.from_ndarray(np.full((48, 64, 3), 7, np.uint8), format="rgb24")))
        container.mux(stream.encode())

    found = streamed(film, 2)

    assert [(r.first_bin, r.end_bin, r.pixels.shape, int(r.pixels.max())) for r in found.rows] == [
        (0, 1, (48, 64, 3), 7)
    ]
    assert found.end.warning is None


@pytest.mark.parametrize(
    "edits", [[(2.0, 0.0)], [(2.0, 5.3)], [(3.0, None), (2.0, 0.0)], [(2.0, 0.0), (2.0, 8.0)]], ids=str
)
def test_an_edit_list_decides_which_frames_there_are(tmp_path: Path, edits: list[tuple[float, float | None]]) -> None:
    film = write_barcodes(tmp_path / "film.mp4", "libx264", n_frames=200, fps=10, gop=20, b_frames=2)
    with_edits(film, edits)

    check(film, plain_film(film))


# -- clocks ----------------------------------------------------------------------------------------------------------


def check_as_clip(film: Path, *, rates: tuple[float, ...] = RATES) -> None:
    """Check that bins have the frames, at the times, that a clip of all frames has."""
    n_frames = read_through(Source.at(film), Request(SamplingConfig(frames=1))).n_frames
    whole = decode(Source.at(film), SamplingConfig(frames=n_frames))
    times_s, duration_s = whole.times_s[0], whole.duration_s
    assert duration_s is not None
    for fps in rates:
        middles_s = np.arange(0.5 / fps, duration_s, 1 / fps)
        middles_s = middles_s[middles_s < duration_s - 1e-9] if len(middles_s) else np.array([duration_s / 2])
        expected = [whole.frames[0, np.flatnonzero(times_s <= m + 1e-9)[-1]] for m in middles_s]

        found = streamed(film, fps)

        assert differing(found.bins(), expected) == [], f"{film.name} at {fps}"
        assert found.end.end_s == pytest.approx(duration_s)
        check_resumed(film, found, fps)


def write_gif(path: Path, delays: list[int]) -> Path:
    """Write a GIF with these delays in hundredths of a second."""
    from PIL import Image

    images = [Image.fromarray(np.full((32, 32, 3), 10 * i, np.uint8)) for i in range(len(delays))]
    images[0].save(path, save_all=True, append_images=images[1:], duration=[10 * d for d in delays], loop=0)
    return path


def test_a_gif_has_the_clock_of_browsers(tmp_path: Path) -> None:
    check_as_clip(write_gif(tmp_path / "film.gif", [1, 10, 0, 50, 5, 1, 1, 100]))


def test_a_film_appended_to_another_continues_where_that_ended(tmp_path: Path) -> None:
    single = write_film(tmp_path / "single.ts", "libx264", options=X264)
    film = tmp_path / "film.ts"
    film.write_bytes(2 * single.read_bytes())

    check_as_clip(film)
    assert streamed(film, 2).end.n_bins == round(2 * 2 * N / 25)


def test_b_frames_with_times_of_decoding_are_sorted(tmp_path: Path) -> None:
    film, remuxed = write_film(tmp_path / "film.mp4", "mpeg4", options={"bf": "2"}), tmp_path / "remuxed.mkv"
    with av.open(str(film)) as source, av.open(str(remuxed), "w") as target:
        stream = target.add_stream_from_template(source.streams.video[0])
        for i, packet in enumerate(p for p in source.demux(video=0) if p.size):
            packet.pts = packet.dts = i  # as in files that were remuxed from AVI
            packet.stream, packet.time_base = stream, Fraction(1, 25)
            target.mux(packet)

    check_as_clip(remuxed)


@pytest.mark.parametrize(("name", "codec"), [("film.h264", "libx264"), ("film.hevc", "libx265")])
def test_a_raw_stream_has_the_rate_that_it_says(tmp_path: Path, name: str, codec: str) -> None:
    options = {"x265-params": "log-level=none"} if codec == "libx265" else X264
    film = write_film(tmp_path / name, codec, options=options)

    found = streamed(film, 5)

    assert (found.end.n_bins, found.end.end_s, found.end.duration_s) == (10, pytest.approx(2.0), None)
    assert found.end.warning == "the file has no timestamps: times assume 25 frames per second"
    whole = decode(Source.at(film), SamplingConfig(frames=N)).frames[0]
    # The middle of a bin is that of its third frame of five.
    assert differing(found.bins(), [whole[5 * i + 2] for i in range(10)]) == []


def write_of_two_sizes(path: Path, codec: str, options: dict[str, str]) -> Path:
    """Write a film whose second half has another size."""
    halves = []
    for side in (48, 80):
        half = path.with_name(f"{side}.mkv")
        with av.open(str(half), "w") as container:
            stream = container.add_stream(codec, rate=25, options=options)
            stream.width, stream.height, stream.pix_fmt, stream.gop_size = 64, side, "yuv420p", 10
            for i in range(20):
                texture = np.random.default_rng(i).integers(0, 256, (side // 8, 8, 3), np.uint8)
                picture = av.VideoFrame.from_ndarray(texture.repeat(8, 0).repeat(8, 1), format="rgb24")
                container.mux(stream.encode(picture))
            container.mux(stream.encode())
        halves.append(half)
    with av.open(str(halves[0])) as first, av.open(str(halves[1])) as second, av.open(str(path), "w") as target:
        stream = target.add_stream_from_template(first.streams.video[0])
        for i, half in enumerate((first, second)):
            for packet in half.demux(video=0):
                if packet.size:
                    packet.pts, packet.dts = packet.pts + 800 * i, packet.dts + 800 * i
                    packet.stream = stream
                    target.mux(packet)
    return path


@pytest.mark.parametrize(
    ("codec", "options"),
    [("libx264", {"x264-params": "repeat-headers=1:bframes=0"}), ("libvpx-vp9", {"lag-in-frames": "0"})],
)
def test_all_frames_have_the_size_of_the_first(tmp_path: Path, codec: str, options: dict[str, str]) -> None:
    film = write_of_two_sizes(tmp_path / "film.mkv", codec, options)

    check_as_clip(film)
    assert {row.pixels.shape for row in streamed(film, 25, first_bin=30).rows} == {(48, 64, 3)}
    assert streamed(film, 25).end.details == ("read with PyAV, selective",)


def test_timestamps_that_run_backwards_are_replaced_by_the_rate_of_the_file(tmp_path: Path) -> None:
    film = tmp_path / "film.mkv"
    source = write_barcodes(tmp_path / "source.mkv", "libvpx", gop=100)
    order = np.random.default_rng(0).permutation(40)
    with av.open(str(source)) as given, av.open(str(film), "w") as target:
        stream = target.add_stream_from_template(given.streams.video[0])
        packets = (p for p in given.demux(video=0) if p.size)
        for i, (packet, place) in enumerate(zip(packets, order.tolist(), strict=True)):
            packet.pts, packet.dts = place, i - 100
            packet.stream, packet.time_base = stream, Fraction(1, 25)
            target.mux(packet)

    found = streamed(film, 5)

    assert (found.end.duration_s, found.end.n_bins) == (None, 8)
    assert found.end.warning == "the file's timestamps run backwards: times assume 25 frames per second"
    assert [int(numbers_of(row.pixels)) for row in found.rows] == [2, 7, 12, 17, 22, 27, 32, 37]


def test_a_clock_that_first_fails_in_the_middle_is_corrected_from_there(tmp_path: Path) -> None:
    single = write_film(tmp_path / "single.ts", "libx264", options=X264)
    film = tmp_path / "film.ts"
    film.write_bytes(3 * single.read_bytes())  # longer than the look at the beginning

    check_as_clip(film, rates=(5,))


def test_a_file_that_contradicts_its_packets_is_continued_by_a_full_decode(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    film = write_film(tmp_path / "film.mp4", "libx264", options=X264)
    expected = plain_film(film).bins(7.3)
    position_of = PacketTable.position_of

    def fail_late(self: PacketTable, pts: int) -> int:
        if position_of(self, pts) > 30:
            raise UnpredictableFileError("a frame that no packet announced")
        return position_of(self, pts)

    monkeypatch.setattr(PacketTable, "position_of", fail_late)
    found = streamed(film, 7.3)

    assert differing(found.bins(), expected) == []
    assert found.end.details[0] == "read with PyAV, decoded in full once"
    assert found.end.details[-1] == "a frame that no packet announced"


# -- drafts ----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "name", ["h264.mp4", "h264.mkv", "several references.mp4", "vp8.webm", "mpeg2.mp4", "hevc.mp4"]
)
def test_a_draft_has_frames_next_to_those_of_the_bins(tmp_path: Path, name: str) -> None:
    film = FILMS[name](tmp_path / name)
    frames = np.stack([frame.pixels for frame in plain_film(film).frames]).astype(int)
    for fps in RATES:
        exact, draft = streamed(film, fps), streamed(film, fps, draft=True)

        assert draft.end.n_bins == exact.end.n_bins
        for a, b in zip(exact.bins(), draft.bins(), strict=True):
            assert a is not None
            assert b is not None
            wanted, taken = (int(np.abs(frames - pixels).mean(axis=(1, 2, 3)).argmin()) for pixels in (a, b))
            assert abs(wanted - taken) <= 1
        check_resumed(film, draft, fps, draft=True)


def test_a_draft_decodes_fewer_frames(tmp_path: Path) -> None:
    film = write_film(tmp_path / "film.mp4", "libx264", options=X264)

    assert len(streamed(film, 25, draft=True).rows) < len(streamed(film, 25).rows)


def test_frames_are_shrunk_to_a_short_side() -> None:
    """Compare with PIL, which filters a little differently."""
    whole, small = (streamed(DRAWN, 1, end_bin=8, short_side=side) for side in (None, 32))

    assert [(row.first_bin, row.end_bin) for row in small.rows] == [(row.first_bin, row.end_bin) for row in whole.rows]
    for full, shrunk in zip(whole.rows, small.rows, strict=True):
        height, width = full.pixels.shape[:2]
        size = (32 * width // min(height, width), 32 * height // min(height, width))
        expected = np.asarray(Image.fromarray(full.pixels).resize(size, Image.Resampling.BICUBIC))
        assert shrunk.pixels.shape == expected.shape
        assert np.abs(shrunk.pixels.astype(int) - expected).mean() < 4


def test_frames_are_not_enlarged(tmp_path: Path) -> None:
    film = FILMS["h264.mp4"](tmp_path / "film.mp4")

    assert differing(streamed(film, 2, short_side=4096).bins(), streamed(film, 2).bins()) == []


# -- real files ------------------------------------------------------------------------------------------------------

TURNS = {"rotated_90.mov": 3, "rotated_180.mov": 2, "rotated_270.mov": 1}
STREAMS = {"two_video_streams.mp4": 3}
OWN_TESTS = {"mpeg4.avi", "corrupted.mp4", "two_frames_lost.mp4", "late_stream.ts"}


def real_clips() -> list[str]:
    return (
        sorted({f.name for f in CLIPS.iterdir() if f.suffix not in {".md", ""}} - OWN_TESTS) if CLIPS.is_dir() else []
    )


@needs_clips
@pytest.mark.parametrize("name", slow_but(real_clips()[::3], real_clips()))
def test_real_clips_have_the_frames_of_a_plain_decode(name: str) -> None:
    film = plain_film(CLIPS / name, turns=TURNS.get(name, 0), stream=STREAMS.get(name))
    for fps in (2, 40):
        found = streamed(CLIPS / name, fps)

        assert differing(found.bins(), film.bins(fps)) == []
        assert len(found.end.missing) == 0


FAULTS = CLIPS.parent / "faults"


def faulty_films() -> list[str]:
    suffixes = {".mp4", ".mkv", ".mpg", ".ts", ".webm", ".avif", ".flv", ".m4v"}
    found = [f for f in FAULTS.rglob("*") if f.suffix in suffixes and f.is_file() and f.name not in OWN_TESTS]
    return sorted(str(f.relative_to(FAULTS)) for f in found)


@pytest.mark.skipif(not FAULTS.is_dir(), reason=f"{FAULTS}: the faulty files are not here")
@pytest.mark.parametrize("name", slow_but(faulty_films()[::3], faulty_films()) if FAULTS.is_dir() else [])
def test_faulty_files_have_the_frames_and_times_of_clips(name: str) -> None:
    check_as_clip(FAULTS / name, rates=(2, 40))


@needs_clips
def test_an_avi_with_packed_b_frames_has_the_frames_and_times_of_clips() -> None:
    check_as_clip(CLIPS / "mpeg4.avi", rates=(2, 40))
