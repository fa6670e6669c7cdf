"""Measure how long bike takes to start: `python -m benchmarks.startup`.

bike and each baseline take turns, so that other load on the machine affects both. Times are medians.
"""

from __future__ import annotations

import argparse
import os
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Sequence
from pathlib import Path

import av
import numpy as np

RUNS = 5
HELP_TARGET = 4.0  # relative to the import of typer and rich
RECORD_TARGET_S = 1.5  # in addition to the import of torch and open_clip
BIKE = [sys.executable, "-m", "bike_cli"]
IMPORT_BOTH = "import torch, open_clip; print('imported', flush=True)"


def main() -> None:
    """Print both times next to their targets."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--runs", type=int, default=RUNS, help="runs of each command (default: %(default)s)")
    runs = parser.parse_args().runs
    print(f"{os.cpu_count()} cores, load {os.getloadavg()[0]:.1f}, medians of {runs} runs in turns")

    help_s, libraries_s = in_turns(
        [lambda: whole_run(*BIKE, "--help"), lambda: whole_run(sys.executable, "-c", "import typer, rich")], runs
    )
    print(f"bike --help          {help_s:6.3f} s")
    print(f"import typer, rich   {libraries_s:6.3f} s")
    print(f"ratio                {help_s / libraries_s:6.2f}     target: at most {HELP_TARGET:g}")

    with tempfile.TemporaryDirectory() as folder:
        clip = write_clip(Path(folder) / "clip.mp4")
        classify = (*BIKE, "classify", str(clip), "-m", "tiny", "-L", "red square, blue circle")
        first_s, torch_s = in_turns(
            [lambda: first_line(*classify), lambda: first_line(sys.executable, "-c", IMPORT_BOTH)], runs
        )
    print(f"first record         {first_s:6.3f} s")
    print(f"import of both       {torch_s:6.3f} s   torch and open_clip")
    print(f"difference           {first_s - torch_s:6.3f} s   target: at most {RECORD_TARGET_S:g}")


def in_turns(measures: Sequence[Callable[[], float]], runs: int) -> list[float]:
    """Return the median of each measure in seconds, not counting a first round that fills the disk cache."""
    rounds = [[measure() for measure in measures] for _ in range(runs + 1)]
    return [statistics.median(column) for column in zip(*rounds[1:], strict=True)]


def whole_run(*command: str) -> float:
    """Return the run time of a command in seconds."""
    start_s = time.perf_counter()
    subprocess.run(command, stdout=subprocess.DEVNULL, check=True)
    return time.perf_counter() - start_s


def first_line(*command: str) -> float:
    """Return the seconds from the start of a command to the first line it prints."""
    start_s = time.perf_counter()
    with subprocess.Popen(command, stdout=subprocess.PIPE) as process:
        assert process.stdout is not None
        line = process.stdout.readline()
        taken_s = time.perf_counter() - start_s
    if not line or process.returncode:
        raise SystemExit(f"{' '.join(command)}: printed nothing (exit code {process.returncode})")
    return taken_s


def write_clip(path: Path) -> Path:
    """Write a clip of a drifting red square, 2 s long."""
    with av.open(path, "w") as container:
        stream = container.add_stream("libx264", rate=8)
        stream.width, stream.height, stream.pix_fmt = 128, 128, "yuv420p"
        for i in range(16):
            picture = np.zeros((128, 128, 3), np.uint8)
            picture[40:80, 20 + 2 * i : 60 + 2 * i] = (220, 30, 30)
            container.mux(stream.encode(av.VideoFrame.from_ndarray(picture, format="rgb24")))
        container.mux(stream.encode())
    return path


if __name__ == "__main__":
    main()
