"""Videos that show their frame numbers as grey levels, and the location of the real clips."""

from fractions import Fraction
from importlib.util import find_spec
from pathlib import Path

import av
import numpy as np
import pytest

from bike_cli.config import SamplingConfig
from bike_cli.errors import VideoError
from bike_cli.records import Clip, Source
from bike_cli.video.decoding import decode

EIGHT = SamplingConfig(frames=8)
CLIPS = Path(__file__).parents[3] / "shared" / "clips"
needs_clips = pytest.mark.skipif(not CLIPS.is_dir(), reason=f"{CLIPS}: the real clips are not here")
needs_decord = pytest.mark.skipif(find_spec("decord") is None, reason="decord is not installed")
N, STEP = 40, 6  # frames of a generated film, and grey levels from one to the next


def grey(i: int) -> int:
    return 16 + STEP * i


def write_film(
    path: Path,
    *,
    codec: str = "libx264",
    n_frames: int = N,
    fps: int = 25,
    pixels: str = "yuv420p",
    options: dict[str, str] | None = None,
) -> Path:
    """Write a video in which frame i is grey with level 16 + 6 i, with a keyframe every 12 frames."""
    with av.open(str(path), "w", options=options or {}) as container:
        stream = container.add_stream(codec, rate=fps, options={"x265-params": "log-level=none"})
        stream.width, stream.height, stream.pix_fmt, stream.gop_size = 64, 48, pixels, 12
        stream.bit_rate, stream.codec_context.max_b_frames = 2_000_000, 2
        for i in range(n_frames):
            picture = av.VideoFrame.from_ndarray(np.full((48, 64, 3), grey(i), np.uint8), format="rgb24")
            picture.pts, picture.time_base = i, Fraction(1, fps)
            container.mux(stream.encode(picture))
        container.mux(stream.encode())
    return path


def positions_seen(clip: Clip) -> np.ndarray:
    """Return the frame numbers of a generated video, read from the grey levels."""
    return np.rint((clip.frames.mean(axis=(2, 3, 4)) - 16) / STEP).astype(int)


def failure_of(path: Path) -> VideoError:
    with pytest.raises(VideoError) as caught:
        decode(Source.at(path), EIGHT)
    return caught.value
