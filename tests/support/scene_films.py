"""A film in which every frame differs from the others, in the containers and codecs that the selective reader takes."""

from collections.abc import Callable, Mapping, Sequence
from fractions import Fraction
from pathlib import Path

import av
import numpy as np

N, HEIGHT, WIDTH = 50, 48, 64
STEADY = tuple(range(N))


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
