"""Compare the CPU time of bike's readers with bare decord: `python -m benchmarks.decode`.

All readers take turns to read the same 8 frames of each video in one thread. "decord" only opens the file and reads the
frames; so does TorchCodec with --torchcodec. "Shift" is the distance of a frame read from the requested one,
"difference" that of its pixels from the exact ones.
"""

from __future__ import annotations

import argparse
import importlib
import statistics
import tempfile
import time
from collections.abc import Callable, Mapping
from pathlib import Path

# decord loaded before torch crashes the process (dmlc/decord#293).
import torch  # noqa: F401  # isort: skip
import decord
import numpy as np
from numpy.typing import NDArray

from benchmarks.material import add_folder_argument, find_videos
from bike_cli.config import SamplingConfig
from bike_cli.records import Clip, Source
from bike_cli.video.decoding import decode
from bike_cli.video.sampling import sample_positions

FRAMES = 8
MODES: Mapping[str, SamplingConfig] = {
    "exact": SamplingConfig(frames=FRAMES),
    "draft": SamplingConfig(frames=FRAMES, draft=True),
    "keyframe": SamplingConfig(frames=FRAMES, sampling="keyframe"),
}


def main() -> None:
    """Print the CPU time of each reader per video, the ratio to bare decord, and the shift of the frames."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    add_folder_argument(parser)
    parser.add_argument("--runs", type=int, default=9, help="runs of each reader per video (default: %(default)s)")
    parser.add_argument("--torchcodec", action="store_true", help="also measure TorchCodec, which must be installed")
    options = parser.parse_args()
    others = {"torchcodec": torchcodec_reader()} if options.torchcodec else {}
    decord.logging.set_level(decord.logging.QUIET)
    with tempfile.TemporaryDirectory() as scratch:
        report(find_videos(options.folder, Path(scratch)), options.runs, others)


def report(videos: list[Path], runs: int, others: Mapping[str, Callable[[Path], object]]) -> None:
    """Measure and print everything."""
    print(f"{'CPU ms':28}{'decord':>8}" + "".join(f"{name:>11}{'ratio':>7}" for name in (*MODES, *others)))
    ratios = [row(video, runs, others) for video in videos]
    means = "".join(f"{statistics.mean(column):18.2f}" for column in zip(*ratios, strict=True))
    print(f"{'mean ratio':36}{means}")
    for mode in ("draft", "keyframe"):
        print(mode, "shift in frames: mean {:.2f}, max {:d}; frames per clip {:.1f}".format(*shifts(videos, mode)))
    print(f"draft, difference of pixels in the same frames: mean {difference(videos):.2f} of 255")


def row(video: Path, runs: int, others: Mapping[str, Callable[[Path], object]]) -> list[float]:
    """Print the row of a video; return the ratios of all modes and other readers to bare decord."""
    work: dict[str, Callable[[], object]] = {"decord": lambda: read_bare(video)}
    for mode in MODES:
        work[mode] = lambda mode=mode: read(video, mode)  # type: ignore[misc]
    for name, reader in others.items():
        work[name] = lambda reader=reader: reader(video)  # type: ignore[misc]
    turns = [{name: cpu_ms(task) for name, task in work.items()} for _ in range(runs + 1)][1:]  # the first warms up
    medians = {name: statistics.median(turn[name] for turn in turns) for name in work}
    compared = [*MODES, *others]
    ratios = [medians[name] / medians["decord"] for name in compared]
    cells = "".join(f"{medians[name]:11.1f}{ratio:7.2f}" for name, ratio in zip(compared, ratios, strict=True))
    print(f"{video.name:28}{medians['decord']:8.1f}{cells}", flush=True)
    return ratios


def cpu_ms(work: Callable[[], object]) -> float:
    """Return the CPU time of some work in milliseconds, over all threads."""
    start = time.process_time()
    work()
    return (time.process_time() - start) * 1e3


def read_bare(video: Path) -> NDArray[np.uint8]:
    """Read the frames with decord alone."""
    reader = decord.VideoReader(str(video), num_threads=1)
    frames: NDArray[np.uint8] = reader.get_batch(sample_positions(len(reader), FRAMES, clips=1)[0].tolist()).asnumpy()
    return frames


def torchcodec_reader() -> Callable[[Path], object]:
    """Return a function that reads the frames of a video with TorchCodec alone."""
    decoders = importlib.import_module("torchcodec.decoders")

    def reader(video: Path) -> object:
        decoder = decoders.VideoDecoder(str(video), num_ffmpeg_threads=1, seek_mode="approximate")
        positions = sample_positions(decoder.metadata.num_frames, FRAMES, clips=1)[0].tolist()
        return decoder.get_frames_at(positions)

    return reader


def read(video: Path, mode: str) -> Clip:
    """Read a clip with bike."""
    return decode(Source.at(video), MODES[mode])


def shifts(videos: list[Path], mode: str) -> tuple[float, int, float]:
    """Return the mean and largest distance of a requested frame to the nearest one read, and the frames per clip."""
    distances: list[int] = []
    frames: list[int] = []
    for video in videos:
        asked, given = positions(read(video, "exact")), positions(read(video, mode))
        distances += np.abs(asked[:, None] - given[None]).min(axis=1).tolist()
        frames.append(len(given))
    return statistics.mean(distances), max(distances), statistics.mean(frames)


def positions(clip: Clip) -> NDArray[np.int64]:
    """Return the positions of the frames in the first view of a clip."""
    assert clip.positions is not None
    return clip.positions[0]


def difference(videos: list[Path]) -> float:
    """Return the mean difference between the pixels of a draft and of the exact frames."""
    means: list[float] = []
    for video in videos:
        exact, draft = read(video, "exact"), read(video, "draft")
        _, i, j = np.intersect1d(positions(exact), positions(draft), return_indices=True)
        means.append(float(np.abs(exact.frames[0, i].astype(int) - draft.frames[0, j]).mean()))
    return statistics.mean(means)


if __name__ == "__main__":
    main()
