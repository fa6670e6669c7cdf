"""Films to cut, and an independent look at clips: frames with their times, and sound."""

from fractions import Fraction
from pathlib import Path

import av
import numpy as np
from barcode_films import SIDE, barcode, numbers_of

RATE = 48_000  # samples per second
CLICK_EVERY_S = 0.25


def clicks(seconds: float) -> np.ndarray:
    """Silence with a short click at each quarter of a second: float32 [1, samples]."""
    sound = np.zeros(round(seconds * RATE), np.float32)
    for start in np.arange(0, seconds, CLICK_EVERY_S):
        at = round(start * RATE)
        sound[at : at + 48] = 0.8 * np.sin(np.arange(48) / 3)[: len(sound) - at]
    return sound[None]


def write_with_sound(
    path: Path,
    *,
    codec: str = "libx264",
    sound_codec: str = "aac",
    n_frames: int = 150,
    fps: int = 25,
    gop: int = 40,
    b_frames: int = 2,
) -> Path:
    """Write barcodes with clicks."""
    with av.open(str(path), "w") as out:
        video = out.add_stream(codec, rate=fps)
        video.width = video.height = SIDE
        video.pix_fmt, video.gop_size, video.bit_rate = "yuv420p", gop, 1_000_000
        video.time_base = Fraction(1, fps)
        video.codec_context.max_b_frames = b_frames
        audio = out.add_stream(sound_codec, rate=RATE, layout="mono")
        sound = clicks(n_frames / fps)
        per_frame = RATE // fps
        for i in range(n_frames):
            picture = av.VideoFrame.from_ndarray(barcode(i), format="rgb24").reformat(format="yuv420p")
            picture.pts, picture.time_base = i, Fraction(1, fps)
            out.mux(video.encode(picture))
            part = sound[:, i * per_frame : (i + 1) * per_frame]
            samples = av.AudioFrame.from_ndarray(np.ascontiguousarray(part), format="fltp", layout="mono")
            samples.sample_rate, samples.pts, samples.time_base = RATE, i * per_frame, Fraction(1, RATE)
            out.mux(audio.encode(samples))
        out.mux(video.encode())
        out.mux(audio.encode())
    return path


def pictures_of(file: Path) -> list[tuple[float, np.ndarray]]:
    """The frames that FFmpeg shows of the first video stream: time in seconds and pixels, uint8 [H, W, 3]."""
    with av.open(str(file)) as container:
        stream = container.streams.video[0]
        return [(float(f.pts * f.time_base), f.to_ndarray(format="rgb24")) for f in container.decode(stream)]


def numbered(file: Path) -> list[tuple[float, int]]:
    """The frames that FFmpeg shows: time in seconds and the number that the barcode says."""
    return [(time, int(numbers_of(pixels))) for time, pixels in pictures_of(file)]


def numbers(file: Path) -> list[int]:
    return [number for _, number in numbered(file)]


def click_times(file: Path, *, track: int = 0) -> list[float]:
    """The times of clicks in a sound track, in seconds."""
    with av.open(str(file)) as container:
        stream = container.streams.audio[track]
        resampler = av.AudioResampler(format="fltp", layout="mono", rate=RATE)
        total = np.zeros(60 * RATE, np.float32)
        for frame in container.decode(stream):
            for part in resampler.resample(frame):
                at = round(float(part.pts * part.time_base) * RATE)
                samples = part.to_ndarray()[0]
                kept = samples[max(0, -at) :]
                total[max(0, at) : max(0, at) + len(kept)] = kept
    loud = np.flatnonzero(abs(total) > 0.2)
    starts = loud[np.flatnonzero(np.diff(loud, prepend=-RATE) > RATE * 0.05)]
    return [float(start) / RATE for start in starts]


def duration_of(file: Path, kind: str = "video") -> float:
    """The duration of a stream as the container has it."""
    with av.open(str(file)) as container:
        stream = getattr(container.streams, kind)[0]
        return float(stream.duration * stream.time_base)


def keyframe_times(file: Path) -> list[float]:
    """The times of keyframes, relative to the first frame."""
    with av.open(str(file)) as container:
        packets = [p for p in container.demux(video=0) if p.size]
        base = container.streams.video[0].time_base
        first = min(p.pts for p in packets)
        return sorted(float((p.pts - first) * base) for p in packets if p.is_keyframe)


def similarity(one: np.ndarray, other: np.ndarray) -> float:
    """The peak signal-to-noise ratio of two pictures, in dB."""
    error = np.mean((one.astype(float) - other.astype(float)) ** 2)
    return float(10 * np.log10(255**2 / max(error, 1e-9)))
