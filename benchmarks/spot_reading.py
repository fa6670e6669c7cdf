"""Measure the CPU time and the memory of streaming frames for `bike spot`: `python -m benchmarks.spot_reading`.

CPU time counts the worker, its start, and this process. "Bare" is a sequential decode with PyAV alone, in one thread,
that converts nothing; all ways take turns. Each memory is the peak of a separate run; that of this process includes its
two batches in shared memory. The long video repeats the packets of a short one. This needs Linux.
"""

from __future__ import annotations

import argparse
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from fractions import Fraction
from pathlib import Path

import av
import numpy as np

from benchmarks.material import write_clip
from benchmarks.memory import big_picture, repeated
from benchmarks.processes import cpu_s
from bike_cli.config import DecodingConfig
from bike_cli.records import Source
from bike_cli.video.streams.values import StreamEnd, StreamRequest
from bike_cli.video.workers.frame_stream import FrameStream

RATES = (1, 2, 4)
SIZES = ((568, 320, 240), (1920, 1080, 40))  # width, height, seconds
EXACT_TARGET, DRAFT_TARGET, GROWTH_TARGET_MIB = 1.25, 0.7, 100
MIB = 2**20


def main() -> None:
    """Print the CPU time of each way to read, as a ratio to the bare decode, and the peaks of memory."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("video", type=Path, nargs="?", help="video to scale and repeat (default: moving textures)")
    parser.add_argument("--runs", type=int, default=5, help="runs of each way per video (default: %(default)s)")
    parser.add_argument("--hours", type=float, default=2.0, help="length of the long video; 0: no memory is measured")
    options = parser.parse_args()
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        for width, height, seconds in SIZES:
            film = write_scaled(folder / f"{height}.mp4", options.video, width=width, height=height, seconds=seconds)
            report_cpu(film, f"{width}x{height}, {seconds} s", options.runs)
        if options.hours:
            report_memory(folder, options.hours)


# -- CPU time --------------------------------------------------------------------------------------------------------


def report_cpu(film: Path, title: str, runs: int) -> None:
    """Print the CPU time of all ways to read a film."""
    ways: dict[str, Callable[[], object]] = {"bare": lambda: decode_bare(film)}
    for fps in RATES:
        ways[f"{fps} fps"] = lambda fps=fps: stream(film, StreamRequest(fps))  # type: ignore[misc]
        ways[f"{fps} fps, draft"] = lambda fps=fps: stream(film, StreamRequest(fps, draft=True))  # type: ignore[misc]
    turns = [{name: cpu_s(way) for name, way in ways.items()} for _ in range(runs + 1)][1:]  # the first warms up
    best = {name: min(turn[name] for turn in turns) for name in ways}
    median = {name: statistics.median(turn[name] / turn["bare"] for turn in turns) for name in ways}
    print(f"{title}: targets {EXACT_TARGET}, draft {DRAFT_TARGET}")
    for name in ways:
        print(f"  {name:14}{best[name]:8.3f} s{median[name]:7.2f}", flush=True)


def decode_bare(film: Path) -> int:
    """Decode all frames with PyAV alone."""
    with av.open(str(film)) as container:
        video = container.streams.video[0]
        video.codec_context.thread_count = 1
        return sum(1 for _ in container.decode(video))


def stream(film: Path, request: StreamRequest) -> StreamEnd:
    """Stream the frames of a film, and discard them."""
    with FrameStream(Source.at(film), request, DecodingConfig(decode_timeout=600)) as frames:
        for event in frames:
            end = event  # the frames of the event before are freed, as after encoding
    if not isinstance(end, StreamEnd) or len(end.missing):
        raise SystemExit(f"{film}: {end}")
    return end


def write_scaled(path: Path, video: Path | None, *, width: int, height: int, seconds: int) -> Path:
    """Write a video at another size, repeated: H.264, preset veryfast, a keyframe at least every 250 frames."""
    source = video or write_clip(path.with_name("textures.mp4"), seed=0)
    with av.open(str(source)) as given:
        rate = given.streams.video[0].average_rate or Fraction(30)
        frames = [frame.reformat(width, height, format="yuv420p") for frame in given.decode(video=0)]
    with av.open(str(path), "w") as container:
        stream = container.add_stream("libx264", rate=rate, options={"preset": "veryfast", "g": "250"})
        stream.width, stream.height, stream.pix_fmt = width, height, "yuv420p"
        for i in range(round(seconds * rate)):
            frame = frames[i % len(frames)]
            frame.pts, frame.time_base = i, 1 / rate
            container.mux(stream.encode(frame))
        container.mux(stream.encode())
    return path


# -- memory ----------------------------------------------------------------------------------------------------------


def report_memory(folder: Path, hours: float) -> None:
    """Print the peaks of memory of a short and of a long video of 1080p at 2 frames per second."""
    short = big_picture(folder / "short.mp4", seconds=10)
    long = repeated(short, folder / "long.mp4", times=round(hours * 360))
    peaks = []
    for title, film in (("10 s", short), (f"{hours:g} h", long)):
        start_s = time.monotonic()
        command = [sys.executable, "-m", "benchmarks.stream_peak", str(film)]
        done = subprocess.run(command, capture_output=True, text=True, check=True)
        peaks.append(np.array([int(number) / MIB for number in done.stdout.split()]))
        ours, worker = peaks[-1]
        shown = f"this process {ours:6.1f} MiB, worker {worker:6.1f} MiB"
        print(f"{title:>6} of 1080p: {shown}, {time.monotonic() - start_s:.0f} s", flush=True)
    growth = (peaks[1] - peaks[0]).sum()
    print(f"growth of both: {growth:.1f} MiB; target: at most {GROWTH_TARGET_MIB} MiB")


if __name__ == "__main__":
    main()
