"""Compare the selective reader, frame by frame, with a full decode of the file."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from fractions import Fraction
from pathlib import Path

import av
import numpy as np
import pytest

from bike_cli.config import SamplingConfig
from bike_cli.records import Source
from bike_cli.video.decoding import decode
from bike_cli.video.readers.footage import Footage, Request
from bike_cli.video.readers.packets import UnpredictableFileError
from bike_cli.video.readers.selective import read_selected, reads_selectively
from bike_cli.video.readers.video_file import open_video

N, HEIGHT, WIDTH = 50, 48, 64
STEADY = tuple(range(N))


@dataclass(frozen=True)
class FramesAt(Request):
    """A request for the frames at chosen positions."""

    chosen: tuple[int, ...] = ()

    def positions(self, n_frames: int) -> np.ndarray:
        return np.array([self.chosen])


def scene() -> np.ndarray:
    """Return a film in which every frame differs from the others: texture that moves, and a cut in the middle."""
    rng = np.random.default_rng(0)
    texture = rng.integers(0, 256, (2, HEIGHT // 4, WIDTH // 4, 3), np.uint8).repeat(4, 1).repeat(4, 2)
    return np.stack([np.roll(texture[i * 2 // N], (i, 2 * i), (0, 1)) for i in range(N)])


SCENE = scene()


def write_film(
    path: Path,
    codec: str,
    *,
    options: Mapping[str, str] | None = None,
    pixels: str = "yuv420p",
    pts: Sequence[int] = STEADY,
    muxer: Mapping[str, str] | None = None,
) -> Path:
    """Write the scene with a keyframe every 12 frames and B-frames where the codec has them."""
    with av.open(str(path), "w", options=dict(muxer or {})) as container:
        stream = container.add_stream(codec, rate=25, options=dict(options or {}))
        stream.width, stream.height, stream.pix_fmt, stream.gop_size = WIDTH, HEIGHT, pixels, 12
        stream.bit_rate, stream.time_base = 300_000, Fraction(1, 25)
        for i, frame in enumerate(SCENE):
            picture = av.VideoFrame.from_ndarray(frame, format="rgb24").reformat(format=pixels)
            picture.pts, picture.time_base = pts[i], Fraction(1, 25)
            container.mux(stream.encode(picture))
        container.mux(stream.encode())
    return path


def selected(path: Path, request: Request) -> Footage:
    with open_video(Source.at(path)) as file:
        assert reads_selectively(file.header)
        return read_selected(file, request)


def plainly_decoded(path: Path) -> tuple[np.ndarray, np.ndarray]:
    """Return every frame that FFmpeg decodes, [M, H, W, 3], and their times, counted from the first."""
    with av.open(str(path)) as container:
        stream = container.streams.best("video")
        stream.codec_context.thread_count = 1
        pictures = [(p.to_ndarray(format="rgb24", interpolation="BICUBIC"), p.time) for p in container.decode(stream)]
    times_s = np.array([time_s for _, time_s in pictures])
    return np.stack([pixels for pixels, _ in pictures]), times_s - times_s[0]


X264 = {"x264-params": "bframes=3:b-pyramid=normal:b-adapt=0"}
X265 = {"x265-params": "log-level=none:bframes=3:keyint=12:min-keyint=12"}
FILMS: Mapping[str, Callable[[Path], Path]] = {
    "h264.mp4": lambda p: write_film(p, "libx264", options=X264),
    "h264.mkv": lambda p: write_film(p, "libx264", options=X264),
    "no B-frames.mp4": lambda p: write_film(p, "libx264", options={"bf": "0"}),
    "several references.mp4": lambda p: write_film(
        p, "libx264", options={"x264-params": "ref=8:bframes=5:b-pyramid=strict:weightp=2:weightb=1"}
    ),
    "open GOP.mp4": lambda p: write_film(p, "libx264", options={"x264-params": "open-gop=1:bframes=3:b-adapt=0"}),
    "open GOP.mkv": lambda p: write_film(p, "libx264", options={"x264-params": "open-gop=1:bframes=3:b-adapt=0"}),
    "intra refresh.mp4": lambda p: write_film(p, "libx264", options={"x264-params": "intra-refresh=1:keyint=12"}),
    "headers inside.mkv": lambda p: write_film(p, "libx264", options={"x264-params": "repeat-headers=1:bframes=2"}),
    "variable rate.mp4": lambda p: write_film(p, "libx264", options=X264, pts=[i + i * i // 9 for i in range(N)]),
    "variable rate.mkv": lambda p: write_film(p, "libx264", options=X264, pts=[i + i * i // 9 for i in range(N)]),
    "starts late.mp4": lambda p: write_film(p, "libx264", options=X264, pts=range(30, 30 + N)),
    "starts before zero.mp4": lambda p: write_film(
        p, "libx264", options=X264, pts=range(-7, N - 7), muxer={"use_editlist": "0"}
    ),
    "cut by an edit list.mp4": lambda p: write_film(p, "libx264", options=X264, pts=range(-7, N - 7)),
    "fragments.mp4": lambda p: write_film(
        p, "libx264", options=X264, muxer={"movflags": "frag_keyframe+empty_moov+default_base_moof"}
    ),
    "10 bit.mp4": lambda p: write_film(p, "libx264", options=X264, pixels="yuv420p10le"),
    "full colour.mp4": lambda p: write_film(p, "libx264", options=X264, pixels="yuv444p"),
    "interlaced.mp4": lambda p: write_film(p, "libx264", options={"x264-params": "tff=1:bframes=2"}),
    "hevc.mp4": lambda p: write_film(p, "libx265", options=X265),
    "hevc.mkv": lambda p: write_film(p, "libx265", options=X265),
    "hevc, closed GOP.mp4": lambda p: write_film(
        p, "libx265", options={"x265-params": X265["x265-params"] + ":open-gop=0"}
    ),
    "hevc, layers.mp4": lambda p: write_film(
        p, "libx265", options={"x265-params": X265["x265-params"] + ":temporal-layers=3"}
    ),
    "mpeg4.mp4": lambda p: write_film(p, "mpeg4", options={"bf": "2"}),
    "mpeg4.mkv": lambda p: write_film(p, "mpeg4", options={"bf": "2"}),
    "mpeg2.mp4": lambda p: write_film(p, "mpeg2video", options={"bf": "2"}),
    "mpeg2.mkv": lambda p: write_film(p, "mpeg2video", options={"bf": "2"}),
    "vp8.webm": lambda p: write_film(p, "libvpx", options={"auto-alt-ref": "1", "lag-in-frames": "10"}),
    "vp9.webm": lambda p: write_film(p, "libvpx-vp9", options={"auto-alt-ref": "1", "lag-in-frames": "10"}),
    "vp9.mp4": lambda p: write_film(p, "libvpx-vp9", options={"auto-alt-ref": "1", "lag-in-frames": "10"}),
    "mjpeg.mov": lambda p: write_film(p, "mjpeg", pixels="yuvj420p"),
}


@pytest.fixture(scope="module", params=FILMS)
def film(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Path:
    return FILMS[request.param](tmp_path_factory.mktemp("films") / request.param)


def test_each_frame_alone_is_the_one_of_a_full_decode(film: Path) -> None:
    expected, times_s = plainly_decoded(film)

    found = [selected(film, FramesAt(SamplingConfig(), chosen=(i,))) for i in range(len(expected))]

    assert {f.n_frames for f in found} == {len(expected)}
    np.testing.assert_array_equal(np.concatenate([f.frames[0] for f in found]), expected)
    np.testing.assert_allclose(np.concatenate([f.timeline.times_s[0] for f in found]), times_s, atol=1e-9)


def test_frames_together_are_those_of_a_full_decode(film: Path) -> None:
    expected, _ = plainly_decoded(film)
    last = len(expected) - 1
    chosen = [(0, last), (9, 10, 11, 12, 13), (last, 3, 3, 25), tuple(range(0, last, 4)), tuple(range(last + 1))]

    found = [selected(film, FramesAt(SamplingConfig(), chosen=c)).frames[0] for c in chosen]

    for frames, places in zip(found, chosen, strict=True):
        np.testing.assert_array_equal(frames, expected[list(places)])


def test_interlaced_films_of_other_codecs_are_left_to_a_full_decode(tmp_path: Path) -> None:
    film = write_film(tmp_path / "interlaced.mp4", "mpeg2video", options={"flags": "+ildct+ilme", "top": "1"})
    expected, _ = plainly_decoded(film)

    with pytest.raises(UnpredictableFileError):
        selected(film, Request(SamplingConfig()))
    clip = decode(Source.at(film), SamplingConfig(frames=N))

    np.testing.assert_array_equal(clip.frames[0], expected)
    assert clip.warning is None


@pytest.mark.parametrize("container", ["film.ts", "film.avi"])
def test_containers_with_too_little_information_are_left_to_a_full_decode(tmp_path: Path, container: str) -> None:
    film = write_film(tmp_path / container, "libx264", options=X264)

    with open_video(Source.at(film)) as file:
        assert not reads_selectively(file.header)


def test_a_long_film_is_decoded_only_around_the_frames_asked_for(tmp_path: Path) -> None:
    film = write_film(tmp_path / "film.mp4", "libx264", options=X264)
    with av.open(str(film)) as container:
        packets = [(p.pos or 0, p.size) for p in container.demux(video=0) if p.size]
    content = bytearray(film.read_bytes())
    for at, size in packets[12:24] + packets[36:48]:  # two of the groups of pictures become unreadable
        content[at : at + size] = bytes(size)
    expected, _ = plainly_decoded(film)
    film.write_bytes(content)

    found = selected(film, FramesAt(SamplingConfig(), chosen=(5, 30, 49)))

    np.testing.assert_array_equal(found.frames[0], expected[[5, 30, 49]])


@pytest.mark.parametrize("ending", ["mp4", "mkv"])
@pytest.mark.parametrize(("codec", "options"), [("mpeg4", {"bf": "2"}), ("libx264", X264), ("libx265", X265)])
@pytest.mark.parametrize(
    "config",
    [
        SamplingConfig(frames=8),
        SamplingConfig(frames=8, draft=True),
        SamplingConfig(frames=8, sampling="keyframe"),
        SamplingConfig(frames=16),
    ],
)
def test_b_frames_with_times_of_decoding_are_left_to_a_full_decode(
    tmp_path: Path, codec: str, options: Mapping[str, str], ending: str, config: SamplingConfig
) -> None:
    film = write_film(tmp_path / "film.mp4", codec, options=options)
    remuxed = tmp_path / f"remuxed.{ending}"
    with av.open(str(film)) as source, av.open(str(remuxed), "w") as target:
        stream = target.add_stream_from_template(source.streams.video[0])
        for i, packet in enumerate(p for p in source.demux(video=0) if p.size):
            packet.pts = packet.dts = i  # as in files that were remuxed from AVI
            packet.stream, packet.time_base = stream, Fraction(1, 25)
            target.mux(packet)
    expected, _ = plainly_decoded(remuxed)

    clip = decode(Source.at(remuxed), config)

    assert len(expected) == N
    np.testing.assert_array_equal(clip.frames, expected[clip.positions])
    assert (np.diff(clip.times_s) > 0).all()


DRAFT = SamplingConfig(frames=8, draft=True)


def check_draft(film: Path) -> None:
    """Check that a draft stays within one frame of those requested, without the loop filter's pixels."""
    expected, _ = plainly_decoded(film)
    asked = Request(DRAFT).positions(len(expected))

    draft = decode(Source.at(film), DRAFT)

    assert draft.positions is not None
    assert np.abs(draft.positions - asked).max() <= 1
    off = np.abs(draft.frames[0].astype(int)[:, None] - expected[None]).mean(axis=(2, 3, 4))
    assert off.argmin(axis=1).tolist() == draft.positions[0].tolist()


@pytest.mark.parametrize(("codec", "options"), [("mpeg2video", {"bf": "2"}), ("libvpx", {}), ("mpeg4", {"bf": "2"})])
def test_a_draft_of_matroska_that_begins_below_zero_keeps_to_the_frames(
    tmp_path: Path, codec: str, options: Mapping[str, str]
) -> None:
    film = tmp_path / "film.mkv"
    write_film(film, codec, options=options, pts=range(-10, N - 10), muxer={"avoid_negative_ts": "disabled"})

    check_draft(film)


@pytest.mark.parametrize("cut", range(1, 9))
def test_a_draft_of_an_edit_that_begins_in_mid_group_keeps_to_the_frames(tmp_path: Path, cut: int) -> None:
    x264 = {"x264-params": "keyint=infinite:bframes=5:b-adapt=0:b-pyramid=strict"}
    film = write_film(tmp_path / "film.mp4", "libx264", options=x264, pts=range(-cut, N - cut))

    check_draft(film)
