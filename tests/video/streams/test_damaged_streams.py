"""Streams of damaged videos: bins whose frame cannot be decoded are missing, and all others are right."""

import random
from collections.abc import Callable
from fractions import Fraction
from pathlib import Path

import av
import numpy as np
import pytest
from barcode_films import packet_places, with_empty_packets, with_zeros, write_barcodes
from bin_oracle import Film, Shown, Streamed, differing, plain_film, streamed
from numbered_films import CLIPS, N, needs_clips, write_film
from scene_films import FILMS

from bike_cli.config import SamplingConfig
from bike_cli.errors import VideoError
from bike_cli.records import Source
from bike_cli.video.decoding import decode
from bike_cli.video.readers.video_file import FrameConverter

FAULTS = CLIPS.parent / "faults"
needs_faults = pytest.mark.skipif(not FAULTS.is_dir(), reason=f"{FAULTS}: the faulty files are not here")
RATES = (2, 7.3, 60)
KINDS = ("h264.mp4", "h264.mkv", "hevc.mp4", "vp9.webm", "mpeg2.mkv", "open GOP.mkv", "fragments.mp4")


def damaged_film(path: Path) -> Film:
    """Decode what can be decoded; frames of packets without an intact picture are None."""
    with av.open(str(path)) as container:
        stream = container.streams.best("video")
        stream.codec_context.thread_count = 1
        tick, pictures, announced, length = stream.time_base, {}, {}, 0
        for packet in container.demux(stream):
            if packet.size and packet.pts is not None:
                announced[packet.pts] = packet.duration or 0
            packet.is_corrupt = False
            try:
                frames = stream.codec_context.decode(packet if packet.size else None)
            except av.error.FFmpegError:
                continue
            for frame in frames:
                pixels = frame.to_ndarray(format="rgb24", interpolation="BICUBIC")
                pictures[frame.pts] = None if frame.is_corrupt else pixels
                length = frame.duration or length
    is_indexed = path.suffix != ".ts"  # there, what follows the last picture is not counted
    last = max(announced) if is_indexed else max(pictures)
    times = [pts for pts in sorted(announced.keys() | pictures.keys()) if min(pictures) <= pts <= last]
    frames = [Shown(pts * tick, pictures.get(pts)) for pts in times]
    return Film(frames, (last + (announced[last] or length)) * tick)


def check(path: Path, *, rates: tuple[float, ...] = RATES) -> Streamed:
    """Compare a damaged file with the plain decode, as a whole and from the middle; return the last stream."""
    film = damaged_film(path)
    for fps in rates:
        expected = film.bins(fps)
        missing = [i for i, pixels in enumerate(expected) if pixels is None]

        found = streamed(path, fps)

        assert differing(found.bins(), expected) == [], f"{path.name} at {fps}: {found.end}"
        assert found.end.missing.tolist() == missing
        first = len(expected) // 2
        part = streamed(path, fps, first_bin=first)
        assert differing(part.bins()[first:], expected[first:]) == [], f"{path.name} at {fps} from {first}"
        assert part.end.missing.tolist() == [i for i in missing if i >= first]
    return found


@pytest.mark.parametrize("name", KINDS)
def test_a_hole_leaves_bins_missing_and_all_others_right(tmp_path: Path, name: str) -> None:
    film = with_empty_packets(FILMS[name](tmp_path / name), packets=range(17, 26))

    found = check(film)

    if name == "mpeg2.mkv":  # its decoder shows the frame before, and reports nothing
        return
    n_missing, n_bins = len(found.end.missing), found.end.n_bins
    assert n_missing > 0
    assert f"damaged: {n_missing} of {n_bins} sampled frames cannot be decoded" in (found.end.warning or "")


def test_a_hole_in_a_transport_stream_leaves_bins_missing(tmp_path: Path) -> None:
    film = FILMS["h264.mp4"](tmp_path / "film.ts")
    content, places = bytearray(film.read_bytes()), packet_places(film)
    for at in range(places[14][0], places[30][0], 188):
        is_start, pid = content[at + 1] >> 6 & 1, (content[at + 1] & 31) << 8 | content[at + 2]
        if pid == 256 and not is_start:  # packets that begin a frame stay, with its time
            content[at + 8 : at + 188] = bytes(180)
    film.write_bytes(content)

    found = check(film)

    assert len(found.end.missing)


@pytest.mark.parametrize("name", ["h264.mkv", "vp9.webm", "open GOP.mkv"])
def test_blocks_that_vanish_from_matroska_leave_the_others_right(tmp_path: Path, name: str) -> None:
    check(with_zeros(FILMS[name](tmp_path / name), packets=range(17, 26)))


def damage(film: Path, dice: random.Random) -> Path:
    """Change some bytes of some packets."""
    content = bytearray(film.read_bytes())
    for at, size in dice.sample(packet_places(film), 3):
        for _ in range(dice.choice([1, 5, 50])):
            content[at + dice.randrange(size)] = dice.randrange(256)
    film.write_bytes(content)
    return film


@pytest.mark.parametrize("name", KINDS)
@pytest.mark.parametrize("seed", range(2))
def test_changed_bytes_leave_bins_missing_and_all_others_right(tmp_path: Path, name: str, seed: int) -> None:
    film = damage(FILMS[name](tmp_path / name), random.Random(f"{name} {seed}"))

    check(film, rates=(7.3, 60))


@pytest.mark.parametrize(("name", "end_of_stream"), [("h264.mp4", 11), ("hevc.mp4", 37 << 1)])
@pytest.mark.parametrize("number", [2, 20])
def test_a_packet_that_no_longer_seems_to_contain_a_frame_leaves_bins_missing(
    tmp_path: Path, name: str, end_of_stream: int, number: int
) -> None:
    film = FILMS[name](tmp_path / name)
    content, (at, _) = bytearray(film.read_bytes()), packet_places(film)[number]
    content[at : at + 5] = *b"\xff\xff\xff\xff", end_of_stream  # length and type of its first part
    film.write_bytes(content)

    found = check(film, rates=(25, 60))

    assert len(found.end.missing) > 0


@pytest.mark.slow
@pytest.mark.parametrize("name", KINDS)
def test_many_changed_bytes_leave_nearly_all_frames_as_a_plain_decode_has_them(tmp_path: Path, name: str) -> None:
    n_frames = n_others = 0
    for seed in range(40):
        film = damage(FILMS[name](tmp_path / name), random.Random(seed))
        expected, found = damaged_film(film).bins(60), streamed(film, 60).bins()
        if len(found) != len(expected):  # the damage is in the times of Matroska
            continue
        n_frames += len(found)
        # A frame whose packet no longer looks like one is not missed; where a decoder notices no error, it may show
        # whatever its memory contains.
        n_others += len(differing(found, expected))

    assert n_frames > 30 * 110
    assert n_others < 0.01 * n_frames


@pytest.mark.parametrize("name", ["h264.mp4", "h264.mkv", "vp8.webm"])
def test_a_draft_does_not_replace_lost_frames(tmp_path: Path, name: str) -> None:
    film = FILMS[name](tmp_path / name)
    intact = np.stack([frame.pixels for frame in plain_film(film).frames]).astype(int)
    lost = [
        i
        for i, frame in enumerate(damaged_film(with_empty_packets(film, packets=range(13, 24))).frames)
        if frame.pixels is None
    ]

    found = streamed(film, 25, draft=True)

    assert set(lost) <= set(found.end.missing.tolist())
    for number, pixels in enumerate(found.bins()):
        if pixels is not None and not 8 <= number <= 30:  # frames that refer to lost ones look like others
            nearest = int(np.abs(intact - pixels).mean(axis=(1, 2, 3)).argmin())
            assert abs(nearest - number) <= 1


# -- ends ------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("name", ["film.mp4", "film.mkv", "film.ts"])
def test_a_film_that_is_cut_off_has_bins_up_to_its_end_and_a_warning_with_the_time(tmp_path: Path, name: str) -> None:
    options = {"movflags": "+faststart"} if name == "film.mp4" else {}
    film = write_film(tmp_path / name, options=options, fps=5)
    expected = plain_film(film).bins(5)
    film.write_bytes(film.read_bytes()[: packet_places(film)[25][0]])

    found = streamed(film, 5)

    n_bins = found.end.n_bins
    assert 20 <= n_bins <= 26
    assert all(pixels is None or np.array_equal(pixels, expected[i]) for i, pixels in enumerate(found.bins()))
    assert len(found.end.missing) <= 2
    if name != "film.ts":  # nothing in it says how long it was
        assert f"the picture ends at {found.end.duration_s:.1f} s of 8.0 s: the file may be cut off" in (
            found.end.warning or ""
        )


def test_some_bytes_that_are_lost_at_the_end_are_reported(tmp_path: Path) -> None:
    film = write_film(tmp_path / "film.mp4", options={"movflags": "+faststart"})
    film.write_bytes(film.read_bytes()[:-10])

    found = streamed(film, 25)

    assert len(found.end.missing) == 1


def test_a_recording_that_begins_between_keyframes_begins_at_its_first_frame(tmp_path: Path) -> None:
    source, film = write_barcodes(tmp_path / "source.mkv", "libx264", gop=12), tmp_path / "film.mkv"
    with av.open(str(source)) as given, av.open(str(film), "w") as target:
        stream = target.add_stream_from_template(given.streams.video[0])
        for i, packet in enumerate(p for p in given.demux(video=0) if p.size):
            if i >= 5:
                packet.stream = stream
                target.mux(packet)

    found = streamed(film, 25)

    lost = 35 - len(plain_film(film).frames)
    assert found.end.n_bins == 35 - lost
    assert len(found.end.missing) == 0
    assert found.end.warning == f"the first {lost} of 35 frames cannot be decoded"
    assert differing(found.bins(), plain_film(film).bins(25)) == []


# -- without an intact frame -----------------------------------------------------------------------------------------


@pytest.mark.parametrize("name", ["film.mp4", "film.mkv", "film.flv"])
def test_a_film_without_a_readable_frame_is_damaged(tmp_path: Path, name: str) -> None:
    film = write_film(tmp_path / name, options={"movflags": "+faststart"} if name == "film.mp4" else {})
    with_empty_packets(film, packets=range(N))

    with pytest.raises(VideoError) as caught:
        streamed(film, 2)

    with pytest.raises(VideoError) as of_clip:
        decode(Source.at(film), SamplingConfig(frames=8))
    assert caught.value.kind == of_clip.value.kind == "damaged"
    assert str(caught.value) == f"{film}: is damaged (0 of {N} frames can be read); repair or replace the file"


@needs_faults
def test_frames_with_concealed_errors_are_used_if_no_other_is_left() -> None:
    film = FAULTS / "peers" / "late_stream.ts"

    found = streamed(film, 25)

    assert found.end.warning == "damaged: 0 of 25 frames are intact; the frames read have concealed errors"
    clip = decode(Source.at(film), SamplingConfig(frames=25))
    assert differing(found.bins(), list(clip.frames[0])) == []


@pytest.mark.slow
@needs_faults
def test_frames_that_the_decoder_leaves_out_are_missing() -> None:
    found = streamed(FAULTS / "peers" / "two_frames_lost.mp4", 24)

    assert found.end.missing.tolist() == [1, 2]


@needs_clips
def test_a_corrupt_clip_misses_its_broken_frames() -> None:
    found = check(CLIPS / "corrupted.mp4", rates=(10,))

    assert len(found.end.missing) == 2


def test_frames_that_cannot_be_converted_are_missing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    film = write_barcodes(tmp_path / "film.mp4", "libx264")
    convert = FrameConverter.convert

    def fail(is_broken: Callable[[av.VideoFrame], bool]) -> Callable[[FrameConverter, av.VideoFrame], np.ndarray]:
        def converted(self: FrameConverter, picture: av.VideoFrame) -> np.ndarray:
            if is_broken(picture):
                raise av.error.ArgumentError(22, "Invalid argument")
            return convert(self, picture)

        return converted

    monkeypatch.setattr(FrameConverter, "convert", fail(lambda picture: Fraction(picture.time) > 1))
    assert streamed(film, 2).end.missing.tolist() == [2]

    monkeypatch.setattr(FrameConverter, "convert", fail(lambda _: True))
    with pytest.raises(VideoError, match=r"its pixels cannot be converted \(Invalid argument\); convert the file"):
        streamed(film, 2)


# -- what is no video ------------------------------------------------------------------------------------------------


def write_sound(path: Path) -> Path:
    with av.open(str(path), "w") as container:
        stream = container.add_stream("pcm_s16le", rate=8000)
        frame = av.AudioFrame.from_ndarray(np.zeros((1, 800), np.int16), format="s16", layout="mono")
        frame.sample_rate = 8000
        container.mux(stream.encode(frame))
        container.mux(stream.encode())
    return path


def write_bytes(path: Path, content: bytes) -> Path:
    path.write_bytes(content)
    return path


NOT_VIDEOS: dict[str, Callable[[Path], Path]] = {
    "missing.mp4": lambda p: p,
    "empty.mp4": lambda p: write_bytes(p, b""),
    "text.mp4": lambda p: write_bytes(p, b"#EXTM3U\nother.mp4\n"),
    "sound.wav": write_sound,
    "noise.mp4": lambda p: write_bytes(p, bytes(range(256)) * 20),
    "cut.mp4": lambda p: write_bytes(p, write_barcodes(p, "libx264").read_bytes()[:800]),
}


@pytest.mark.parametrize("name", NOT_VIDEOS)
def test_what_is_no_video_fails_as_in_classify(tmp_path: Path, name: str) -> None:
    path = NOT_VIDEOS[name](tmp_path / name)
    with pytest.raises(VideoError) as expected:
        decode(Source.at(path), SamplingConfig(frames=8))

    with pytest.raises(VideoError) as found:
        streamed(path, 2)

    assert (found.value.kind, str(found.value)) == (expected.value.kind, str(expected.value))
