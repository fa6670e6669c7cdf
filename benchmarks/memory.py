"""Check that memory does not grow with the number or the length of videos: `python -m benchmarks.memory`.

Each run is a separate process; the kernel reports the peak resident memory of it and of its workers. The long video
repeats the packets of a short one.
"""

from __future__ import annotations

import argparse
import subprocess
import sys
import tempfile
import threading
import time
from pathlib import Path

import av

from benchmarks.material import add_folder_argument, add_model_argument, copies

MIB = 2**20
GROWTH_TARGET = 1.1


def main() -> None:
    """Print peaks and their ratios."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    add_folder_argument(parser)
    add_model_argument(parser)
    parser.add_argument(
        "--counts", type=int, nargs=2, default=[200, 2000], help="numbers of videos (default: 200 2000)"
    )
    parser.add_argument("--hours", type=float, default=2.0, help="length of the long video (default: %(default)s)")
    options = parser.parse_args()
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        peaks = []
        for count in options.counts:
            files = copies(options.folder, count, _made(folder / str(count)))
            peaks.append(peak(files, options.model))
            print(f"{count:5} videos      {_shown(peaks[-1])}")
        growth = [later / earlier for earlier, later in zip(*peaks, strict=True)]
        print(f"growth            bike {growth[0]:.2f}, workers {growth[1]:.2f}; target: at most {GROWTH_TARGET}")
        short = big_picture(folder / "short.mp4", seconds=10)
        long = repeated(short, folder / "long.mp4", times=round(options.hours * 360))
        print(f"10 s of 1080p     {_shown(peak([str(short)], options.model))}")
        print(f"{options.hours:g} h of 1080p      {_shown(peak([str(long)], options.model))}")


def peak(files: list[str], model: str) -> tuple[int, int]:
    """Return the peak resident memory of bike, and of the sum of its workers, in bytes."""
    listed = "\0".join(files).encode()
    command = [sys.executable, "-m", "bike_cli", "classify", "-0", "-", "-m", model, "-L", "a red square,b", "-q"]
    ours = workers = 0
    with subprocess.Popen(
        [*command, "--no-cache", "--decode-timeout", "600"], stdin=subprocess.PIPE, stdout=subprocess.DEVNULL
    ) as process:
        assert process.stdin is not None
        feeder = threading.Thread(target=_feed, args=(process, listed))
        feeder.start()
        while process.poll() is None:
            tree = _resident(process.pid)
            ours, workers = max(ours, tree.pop(process.pid, 0)), max(workers, sum(tree.values()))
            time.sleep(0.05)
        feeder.join()
    if process.returncode:
        raise SystemExit(f"bike: ended with exit code {process.returncode}")
    return ours, workers


def _feed(process: subprocess.Popen[bytes], listed: bytes) -> None:
    assert process.stdin is not None
    process.stdin.write(listed)
    process.stdin.close()


def _resident(root: int) -> dict[int, int]:
    """Return the resident memory of a process and of its descendants, these without shared memory, in bytes."""
    parents = {}
    for entry in Path("/proc").iterdir():
        if entry.name.isdecimal():
            try:
                parents[int(entry.name)] = int((entry / "stat").read_text().rsplit(")", 1)[1].split()[1])
            except OSError:
                continue
    tree, memory = {root}, {}
    while children := {pid for pid, parent in parents.items() if parent in tree} - tree:
        tree |= children
    for pid in tree:
        try:
            _, resident, shared = (Path("/proc") / str(pid) / "statm").read_text().split()[:3]
        except OSError:
            continue
        memory[pid] = 4096 * (int(resident) if pid == root else int(resident) - int(shared))
    return memory


def big_picture(path: Path, *, seconds: int, fps: int = 25) -> Path:
    """Write a 1080p video of moving noise bands, with a keyframe every 50 frames."""
    import numpy as np

    rng = np.random.default_rng(0)
    wide = rng.integers(0, 256, (1080, 2400, 3), dtype=np.uint8)
    with av.open(path, "w") as container:
        stream = container.add_stream("libx264", rate=fps, options={"preset": "ultrafast", "g": "50", "crf": "35"})
        stream.width, stream.height, stream.pix_fmt = 1920, 1080, "yuv420p"
        for i in range(fps * seconds):
            picture = np.ascontiguousarray(wide[:, i : i + 1920])
            container.mux(stream.encode(av.VideoFrame.from_ndarray(picture, format="rgb24")))
        container.mux(stream.encode())
    return path


def repeated(clip: Path, path: Path, *, times: int) -> Path:
    """Write a video that repeats a clip; packets are copied without decoding."""
    with av.open(path, "w") as out, av.open(clip) as source:
        stream = source.streams.video[0]
        copy = out.add_stream_from_template(stream)
        packets = [packet for packet in source.demux(stream) if packet.pts is not None and packet.dts is not None]
        assert stream.time_base is not None
        assert stream.average_rate is not None
        length = round(len(packets) / stream.average_rate / stream.time_base)
        starts = [(packet.pts or 0, packet.dts or 0) for packet in packets]
        for i in range(times):
            for packet, (pts, dts) in zip(packets, starts, strict=True):
                packet.pts, packet.dts, packet.stream = pts + i * length, dts + i * length, copy
                packet.time_base = stream.time_base
                out.mux(packet)
    return path


def _made(folder: Path) -> Path:
    folder.mkdir()
    return folder


def _shown(memory: tuple[int, int]) -> str:
    return f"bike {memory[0] / MIB:6.0f} MiB, workers {memory[1] / MIB:6.0f} MiB"


if __name__ == "__main__":
    main()
