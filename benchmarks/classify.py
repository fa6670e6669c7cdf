"""Videos a second through `bike classify`, against its two ceilings: `python -m benchmarks.classify`.

    bare decode   processes that only call decord, at the positions that bike reads
    bare encode   the image tower, on frames that lie on its device already
    bike          all of it: decoding in workers, copying, resizing, encoding, scoring; nothing is kept or looked up

They run in turns, in one process and on copies of the same files, so that a busy moment of the machine meets all. On a
CPU the two ceilings need the same cores; what these can do of both together is printed, too. Weights of an architecture
are random: speed does not depend on them. With --peers, two others do the same work.
"""

from __future__ import annotations

import argparse
import statistics
import tempfile
import time
from collections.abc import Callable
from pathlib import Path

import torch

import bike_cli as bike
from benchmarks.bare_decode import BareDecode
from benchmarks.material import copies, engine_of
from benchmarks.peers import PEERS
from bike_cli.config import ClassifyConfig, DecodingConfig, SamplingConfig, StoreConfig
from bike_cli.records import Spent
from bike_cli.video.workers.machine import cores
from bike_cli.video.workers.pool import DecodePool

LABELS = ["arm wrestling", "flipping a pancake", "hitting a baseball", "yoga", "playing the guitar", "basketball"]
TARGET, PEER_TARGET = 0.9, 10.0


def main() -> None:
    """Print the three rates, their ratio, and the peers'."""
    options = _options()
    engine = engine_of(options.model, precision=options.precision, compiled=options.compile)
    print(f"{options.model}, {engine.encoder.placement}, {cores()} cores, {options.videos} videos, {options.runs} runs")
    with tempfile.TemporaryDirectory() as folder:
        files = copies(options.folder, options.videos, Path(folder))
        sampling = SamplingConfig(frames=options.frames, sampling=options.sampling, draft=options.draft)
        config = ClassifyConfig(sampling=sampling, decoding=DecodingConfig(), store=StoreConfig(cache=False))
        decode = BareDecode(cores(), options.frames)
        spent = Spent()
        with DecodePool(config.sampling, config.decoding) as pool:
            pipeline_s(engine, files[: 2 * pool.workers], config, pool, Spent())  # all processes have started
            rounds = [
                (
                    options.videos / decode.seconds(files),
                    bare_encode(engine, options.frames),
                    options.videos / pipeline_s(engine, files, config, pool, spent),
                )
                for _ in range(options.runs)
            ]
        decode.close()
        bare, encode, ours = (statistics.median(column) for column in zip(*rounds, strict=True))
        ratio = ours / min(bare, encode)
        print(f"bare decode  {bare:8.1f} videos/s")
        print(f"bare encode  {encode:8.1f} videos/s")
        print(f"bike         {ours:8.1f} videos/s   {ratio:.2f} of the lower one; target: at least {TARGET}")
        if engine.encoder.placement.device.type == "cpu":
            both = shared_ceiling(bare, encode)
            print(f"both bare    {both:8.1f} videos/s   on the same cores; bike is at {ours / both:.2f} of that")
        each = options.videos * options.runs / 1000
        spent_ms = f"decode {spent.decode_s / each:.0f} ms of a worker, encode {spent.encode_s / each:.0f} ms"
        print(f"             a video: {spent_ms}, wait {spent.wait_s / each:.0f} ms")
        for name, peer in PEERS.items() if options.peers else ():
            theirs = rate(peer(engine, LABELS, options.frames), files[: options.peer_videos])
            print(
                f"{name:12} {theirs:8.1f} videos/s   bike is {ours / theirs:.1f} x as fast; target: {PEER_TARGET:g} x"
            )


def _options() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("folder", type=Path, nargs="?", help="of videos (default: seven ordinary clips)")
    parser.add_argument("-m", "--model", default="tiny", help="of bike, or ViT-B-16, ViT-L-14, … (default: tiny)")
    parser.add_argument("--precision", default="auto")
    parser.add_argument("--compile", action="store_true")
    parser.add_argument("--videos", type=int, default=140, help="copies (default: %(default)s)")
    parser.add_argument("--frames", type=int, default=8)
    parser.add_argument("--sampling", choices=["uniform", "keyframe"], default="uniform")
    parser.add_argument("--draft", action="store_true")
    parser.add_argument("--runs", type=int, default=3)
    parser.add_argument("--peers", action="store_true", help="also run what others do")
    parser.add_argument("--peer-videos", type=int, default=42)
    return parser.parse_args()


def pipeline_s(engine: bike.Engine, files: list[str], config: ClassifyConfig, pool: DecodePool, spent: Spent) -> float:
    """Return how long bike takes for all files, the reading of labels aside, which does not grow with the files."""
    answers = bike.classify(engine, files, LABELS, config, pool=pool, spent=spent)
    start_s = time.perf_counter()
    for answer in answers:
        assert isinstance(answer, bike.Prediction), answer
    return time.perf_counter() - start_s


@torch.no_grad()
def bare_encode(engine: bike.Engine, frames: int, seconds: float = 3.0) -> float:
    """Return the videos a second that the image tower makes of frames on its device."""
    encoder = engine.encoder
    device, side = encoder.placement.device, encoder.recipe.side
    pixels = torch.randn(encoder.batches.at_once, 3, side, side, device=device)
    done, start_s = -1, 0.0  # the first warms up
    with encoder.placement.autocast():
        while done < 1 or time.perf_counter() - start_s < seconds:
            encoder.tower(pixels)
            if device.type == "cuda":
                torch.cuda.synchronize()
            done += 1
            start_s = start_s or time.perf_counter()
    return done * len(pixels) / frames / (time.perf_counter() - start_s)


def shared_ceiling(decode: float, encode: float) -> float:
    """Return the videos a second of bare decode and bare encode, one behind the other, on the same cores."""
    core_s = cores() / decode + torch.get_num_threads() / encode  # of one video
    return cores() / core_s


def rate(answer: Callable[[str], object], files: list[str]) -> float:
    """Return the videos a second of a peer; its first answer warms it up."""
    answer(files[0])
    start_s = time.perf_counter()
    for file in files:
        answer(file)
    return len(files) / (time.perf_counter() - start_s)


if __name__ == "__main__":
    main()
