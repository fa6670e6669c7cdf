"""Measure whether the video decoders of a GPU add to those of the CPU: `python -m benchmarks.nvdec`.

Needs PyNvVideoCodec.

    cpu    bike's workers, one per core
    nvdec  PyNvVideoCodec in threads, each with one decoder that is reused for all files
    both   in parallel, each on its share of the files

Creating a decoder per file takes longer than decoding the file, so that is not measured.
"""

from __future__ import annotations

import argparse
import tempfile
import threading
import time
from collections import deque
from collections.abc import Callable, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from pathlib import Path

import PyNvVideoCodec as nvc  # noqa: N813
import torch

from benchmarks.material import add_folder_argument, copies
from bike_cli.config import DecodingConfig, SamplingConfig
from bike_cli.records import Clip, Failure, Source
from bike_cli.video.sampling import sample_positions
from bike_cli.video.workers.pool import DecodePool

FRAMES, LONGEST_SIDE = 8, 1024
_mine = threading.local()


def main() -> None:
    """Print the videos per second of each alone and of both together."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    add_folder_argument(parser)
    parser.add_argument("--videos", type=int, default=420, help="videos, copied as needed (default: %(default)s)")
    parser.add_argument("--threads", type=int, default=8, help="threads for the GPU (default: %(default)s)")
    options = parser.parse_args()
    with (
        tempfile.TemporaryDirectory() as folder,
        DecodePool(SamplingConfig(FRAMES), DecodingConfig()) as pool,
        ThreadPoolExecutor(options.threads) as threads,
    ):
        files = copies(options.folder, options.videos, Path(folder))
        warm = files[: 4 * options.threads]
        on_cpu(pool, warm)
        on_engines(threads, warm)
        cpu = seconds(lambda: on_cpu(pool, files)) / len(files)
        nvdec = seconds(lambda: on_engines(threads, files)) / len(files)
        share = round(len(files) * cpu / (cpu + nvdec))  # so that both finish at about the same time
        both = seconds(lambda: side_by_side(pool, threads, files[share:], files[:share])) / len(files)
    for name, each in (("cpu", cpu), ("nvdec", nvdec), ("both", both)):
        print(f"{name:6} {1 / each:8.1f} videos/s   {cpu / each:.2f} times the CPU alone")


def side_by_side(
    pool: DecodePool, threads: ThreadPoolExecutor, cpu_files: Sequence[str], nvdec_files: Sequence[str]
) -> None:
    """Decode both shares in parallel."""
    with ThreadPoolExecutor(1) as executor:
        engines = executor.submit(on_engines, threads, nvdec_files)
        on_cpu(pool, cpu_files)
        engines.result()


def on_cpu(pool: DecodePool, files: Sequence[str]) -> None:
    """Decode in workers, a few videos ahead, and discard the frames."""
    pending: deque[Future[Clip | Failure]] = deque()
    for file in files:
        pending.append(pool.decode(Source.at(file)))
        if len(pending) > 2 * pool.workers:
            pending.popleft().result()
    for future in pending:
        future.result()


def on_engines(threads: ThreadPoolExecutor, files: Sequence[str]) -> None:
    """Decode on the GPU, to frames in its memory."""
    for _ in threads.map(_read, files):
        pass
    torch.cuda.synchronize()


def _read(file: str) -> list[torch.Tensor]:
    decoder = getattr(_mine, "decoder", None)
    if decoder is None:
        size = {"max_width": LONGEST_SIDE, "max_height": LONGEST_SIDE}
        decoder = _mine.decoder = nvc.SimpleDecoder(file, output_color_type=nvc.OutputColorType.RGB, **size)
    else:
        decoder.reconfigure_decoder(file)
    positions = sample_positions(len(decoder), FRAMES, clips=1)[0].tolist()
    return [torch.from_dlpack(frame).clone() for frame in decoder.get_batch_frames_by_index(positions)]


def seconds(work: Callable[[], None]) -> float:
    """Return how long some work takes."""
    start_s = time.perf_counter()
    work()
    return time.perf_counter() - start_s


if __name__ == "__main__":
    main()
