"""Compare the selective reader, frame by frame, with a full decode of the file."""

from collections.abc import Mapping
from dataclasses import dataclass
from fractions import Fraction
from pathlib import Path

import av
import numpy as np
import pytest
from scene_films import FILMS, X264, X265, N, write_film

from bike_cli.config import SamplingConfig
from bike_cli.records import Source
from bike_cli.video.decoding import decode
from bike_cli.video.readers.footage import Footage, Request
from bike_cli.video.readers.packets import UnpredictableFileError
from bike_cli.video.readers.selective import read_selected, reads_selectively
from bike_cli.video.readers.video_file import open_video


@dataclass(frozen=True)
class FramesAt(Request):
    """A request for the frames at chosen positions."""

    chosen: tuple[int, ...] = ()

    def positions(self, n_frames: int) -> np.ndarray:
        return np.array([self.chosen])


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
