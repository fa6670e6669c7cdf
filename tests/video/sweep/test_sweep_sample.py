"""The frame promise on one file of each kind, made with PyAV alone; `test_sweep` covers a thousand, made with ffmpeg.

Each frame shows its own number, so no second decoder is needed to tell which frame was returned.
"""

from dataclasses import dataclass, field
from fractions import Fraction
from pathlib import Path

import av
import numpy as np
import pytest
from sweep_cases import MATRICES
from sweep_files import PATCHES, number_in, numbered_frame, turned

from bike_cli.config import SamplingConfig
from bike_cli.records import Source
from bike_cli.video.decoding import decode
from bike_cli.video.sampling import positions_of

N, FPS = 40, 25
UPRIGHT = (1, 0, 0, 1)
READINGS = {
    "uniform": SamplingConfig(frames=8),
    "clips": SamplingConfig(frames=6, clips=2),
    "dense": SamplingConfig(frames=16, sampling="dense"),
    "keyframe": SamplingConfig(frames=8, sampling="keyframe"),
    "draft": SamplingConfig(frames=8, draft=True),
}


@dataclass(frozen=True)
class Film:
    """How a file is made, and the numbers of the frames that a player shows."""

    name: str
    codec: str
    options: dict[str, str] = field(default_factory=dict)
    pixels: str = "yuv420p"
    size: tuple[int, int] = (96, 64)
    b_frames: int = 0
    muxing: dict[str, str] = field(default_factory=dict)
    ticks: tuple[int, ...] = tuple(range(N))
    filters: str = ""
    patch: str = ""
    shown: tuple[int, ...] = tuple(range(N))
    times_repeat: bool = False

    def __str__(self) -> str:
        return f"{self.codec}-{self.patch}-{self.name}".replace("--", "-").replace(" ", "-")


_X264, _X265 = "b-adapt=0:bframes=3:keyint=12:min-keyint=12", "log-level=none:bframes=3:keyint=12:min-keyint=12"
_FRAGMENTS = {"movflags": "frag_keyframe+empty_moov+default_base_moof"}
FILMS = (
    Film("film.mp4", "libx264", {"x264-params": f"{_X264}:b-pyramid=normal"}),
    Film("film.mkv", "libx264", {"x264-params": f"{_X264}:open-gop=1"}),
    Film("refresh.mp4", "libx264", {"x264-params": "keyint=20:intra-refresh=1:bframes=0"}),
    Film("vfr.mp4", "libx264", {"x264-params": _X264}, ticks=tuple(i + i * i // 20 for i in range(N))),
    Film("film.mov", "libx264", {"x264-params": _X264}, patch="clockwise"),
    Film("film.mov", "libx264", {"x264-params": _X264}, patch="antitranspose"),
    Film("film.mov", "libx264", {"x264-params": _X264}, patch="zero"),
    Film("film.mp4", "libx264", {"x264-params": _X264}, patch="two-edits", shown=(*range(3, 10), *range(13, 21)),
         times_repeat=True),  # FFmpeg gives frames of both edits the same times
    Film("film.mp4", "libx264", {"x264-params": "keyint=12:bframes=0"}, muxing=_FRAGMENTS,
         patch="fragments-from-second", shown=tuple(range(12, N))),
    Film("film.ts", "libx264", {"x264-params": _X264}, patch="twice", shown=(*range(N), *range(N))),
    Film("film.mkv", "libx265", {"x265-params": f"{_X265}:open-gop=1"}, "yuv420p10le"),
    Film("film.mp4", "libx265", {"x265-params": f"{_X265}:open-gop=0"}, "yuv422p"),
    Film("film.webm", "libvpx", {"deadline": "realtime", "cpu-used": "8", "g": "20"}, size=(97, 65)),
    Film("hidden.mkv", "libvpx-vp9", {"cpu-used": "8", "auto-alt-ref": "1", "lag-in-frames": "16", "crf": "20"},
         filters="vp9_superframe_split"),
    Film("film.mp4", "libsvtav1", {"preset": "12", "g": "20", "crf": "20"}),
    Film("film.avi", "mpeg4", b_frames=2),
    Film("packed.avi", "mpeg4", b_frames=1, patch="pack B-frames"),
    Film("film.mpg", "mpeg2video", b_frames=2),
    Film("film.flv", "flv"),
    Film("film.mxf", "mpeg2video", pixels="yuv422p", b_frames=2),
    Film("film.mkv", "ffv1", pixels="yuv444p10le", size=(97, 65)),
    Film("film.mov", "prores_ks", pixels="yuva444p10le"),
    Film("film.gif", "gif", pixels="rgb8", size=(97, 65)),
    Film("film.y4m", "wrapped_avframe"),
)  # fmt: skip


def write(film: Film, folder: Path) -> Path:
    path = folder / film.name
    width, height = film.size
    with av.open(str(path), "w", options=film.muxing) as container:
        stream = container.add_stream(film.codec, rate=FPS, options=film.options)
        stream.width, stream.height, stream.pix_fmt, stream.gop_size = width, height, film.pixels, 12
        stream.bit_rate = 0 if "crf" in film.options else 2_000_000
        stream.codec_context.max_b_frames = film.b_frames
        splitter = av.BitStreamFilterContext(film.filters, stream) if film.filters else None
        for i in [*range(N), None]:
            frame = None
            if i is not None:
                frame = av.VideoFrame.from_ndarray(numbered_frame(i, width, height), format="rgb24")
                frame.pts, frame.time_base = film.ticks[i], Fraction(1, FPS)
            for packet in stream.encode(frame):
                container.mux(packet if splitter is None else splitter.filter(packet))
    if film.patch:
        PATCHES[film.patch](path)
    return path


@pytest.fixture(scope="module", params=FILMS, ids=str)
def made(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> tuple[Film, Path]:
    film: Film = request.param
    if film.codec not in av.codecs_available:
        pytest.skip(f"this PyAV cannot encode {film.codec}")
    return film, write(film, tmp_path_factory.mktemp("shown"))


@pytest.mark.parametrize("name", READINGS)
def test_returned_frames_are_those_at_the_positions(made: tuple[Film, Path], name: str) -> None:
    film, path = made
    config = READINGS[name]
    asked = positions_of(config, len(film.shown))

    clip = decode(Source.at(path), config)

    a, b, c, d = MATRICES.get(film.patch, UPRIGHT)
    frames = clip.frames.reshape(-1, *clip.frames.shape[2:])
    seen = [number_in(turned(frame, (a, c, b, d))) for frame in frames]
    assert clip.positions is not None
    assert seen == [film.shown[position] for position in clip.positions.ravel()]
    if name == "draft":
        assert np.abs(clip.positions[..., None] - asked[:, None]).min(axis=-1).max() <= 1
    elif name != "keyframe":
        assert clip.positions.tolist() == asked.tolist()


def test_times_increase(made: tuple[Film, Path]) -> None:
    film, path = made

    clip = decode(Source.at(path), READINGS["uniform"])

    if film.times_repeat:
        assert (np.diff(clip.times_s, axis=1) >= 0).all()
        assert clip.times_s.min() >= 0
        return
    assert clip.warning is None
    assert clip.duration_s is not None
    assert (np.diff(clip.times_s) > 0).all()
    assert clip.times_s.min() == 0
    assert clip.times_s.max() < clip.duration_s
