"""Compare `bike classify` in videos per second with its two limits: `python -m benchmarks.classify`.

    bare decode   processes that only call decord, at the positions that bike reads, or at their nearest keyframes
    bare encode   the image tower, on frames that are already on its device
    bike          everything: decoding in workers, copying, resizing, encoding and scoring, without the cache

They take turns on copies of the same files, so that other load on the machine affects all of them. On a CPU, decoding
and encoding share the cores, so their combined limit is printed as well. The weights of architectures are random, which
does not affect speed. With --peers, an open_clip loop and X-CLIP do the same work.
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
from benchmarks.material import HEIGHT, WIDTH, add_folder_argument, add_model_argument, copies, engine_of, find_videos
from benchmarks.peers import PEERS
from benchmarks.spot_reading import write_scaled
from bike_cli.config import ClassifyConfig, DecodingConfig, SamplingConfig, StoreConfig
from bike_cli.records import Timings
from bike_cli.video.workers.machine import cores
from bike_cli.video.workers.pool import DecodePool

LABELS = ["arm wrestling", "flipping a pancake", "hitting a baseball", "yoga", "playing the guitar", "basketball"]
TARGET, FAST_TARGET, PEER_TARGET = 0.9, 0.6, 10.0  # FAST_TARGET: where decoding takes little
SHORT_S = 2


def main() -> None:
    """Print the three rates, their ratio, and the rates of the peers."""
    options = _options()
    engine = engine_of(options.model, precision=options.precision, compiled=options.compile)
    print(f"{options.model}, {engine.encoder.placement}, {cores()} cores, {options.videos} videos, {options.runs} runs")
    with tempfile.TemporaryDirectory() as folder:
        videos = shortened(options.folder, Path(folder)) if options.short else options.folder
        files = copies(videos, options.videos, Path(folder))
        sampling = SamplingConfig(frames=options.frames, sampling=options.sampling, draft=options.draft)
        config = ClassifyConfig(sampling=sampling, decoding=DecodingConfig(), store=StoreConfig(cache=False))
        decode = BareDecode(cores(), options.frames, keyframes=options.sampling == "keyframe")
        spent = Timings()
        with DecodePool(config.sampling, config.decoding) as pool:
            pipeline_s(engine, files[: 2 * pool.workers], config, pool, Timings())  # wait for all processes to start
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
        target = FAST_TARGET if options.short or options.sampling == "keyframe" else TARGET
        print(f"bike         {ours:8.1f} videos/s   {ratio:.2f} of the lower limit; target: at least {target}")
        if engine.encoder.placement.device.type == "cpu":
            both = shared_ceiling(bare, encode)
            print(f"both bare    {both:8.1f} videos/s   on the same cores; bike reaches {ours / both:.2f} of that")
        each = options.videos * options.runs / 1000
        spent_ms = f"decode {spent.decode_s / each:.0f} ms in a worker, encode {spent.encode_s / each:.0f} ms"
        print(f"             per video: {spent_ms}, wait {spent.wait_s / each:.0f} ms")
        for name, peer in PEERS.items() if options.peers else ():
            theirs = rate(peer(engine, LABELS, options.frames), files[: options.peer_videos])
            ratio = ours / theirs
            print(
                f"{name:12} {theirs:8.1f} videos/s   bike is {ratio:.1f} times as fast; target: {PEER_TARGET:g} times"
            )


def _options() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    add_folder_argument(parser)
    add_model_argument(parser)
    parser.add_argument("--precision", default="auto", help="auto, fp32, fp16 or bf16 (default: auto)")
    parser.add_argument("--compile", action="store_true", help="compile the image tower")
    parser.add_argument("--videos", type=int, default=140, help="videos, copied as needed (default: %(default)s)")
    parser.add_argument("--frames", type=int, default=8, help="frames per video (default: %(default)s)")
    parser.add_argument("--sampling", choices=["uniform", "keyframe"], default="uniform", help="as in bike classify")
    parser.add_argument("--short", action="store_true", help=f"use the first {SHORT_S} s of videos, at 320x240")
    parser.add_argument("--draft", action="store_true", help="as in bike classify")
    parser.add_argument("--runs", type=int, default=3, help="(default: %(default)s)")
    parser.add_argument("--peers", action="store_true", help="also measure an open_clip loop and X-CLIP")
    parser.add_argument("--peer-videos", type=int, default=42, help="videos for the peers (default: %(default)s)")
    return parser.parse_args()


def shortened(videos: Path | None, into: Path) -> Path:
    """Write a short, small version of each video; return their folder."""
    folder = into / "short"
    folder.mkdir()
    for i, video in enumerate(find_videos(videos, into)):
        write_scaled(folder / f"{i}.mp4", video, width=WIDTH, height=HEIGHT, seconds=SHORT_S)
    return folder


def pipeline_s(
    engine: bike.Engine, files: list[str], config: ClassifyConfig, pool: DecodePool, spent: Timings
) -> float:
    """Return the seconds bike takes for all files, without encoding the labels, which is done once."""
    answers = bike.classify(engine, files, LABELS, config, pool=pool, spent=spent)
    start_s = time.perf_counter()
    for answer in answers:
        assert isinstance(answer, bike.Prediction), answer
    return time.perf_counter() - start_s


@torch.no_grad()
def bare_encode(engine: bike.Engine, frames: int, seconds: float = 3.0) -> float:
    """Return the videos per second that the image tower encodes from frames on its device."""
    encoder = engine.encoder
    device, side = encoder.placement.device, encoder.recipe.side
    pixels = torch.randn(encoder.batches.at_once, 3, side, side, device=device)
    done, start_s = -1, 0.0  # the first run is a warm-up
    with encoder.placement.autocast():
        while done < 1 or time.perf_counter() - start_s < seconds:
            encoder.tower(pixels)
            if device.type == "cuda":
                torch.cuda.synchronize()
            done += 1
            start_s = start_s or time.perf_counter()
    return done * len(pixels) / frames / (time.perf_counter() - start_s)


def shared_ceiling(decode: float, encode: float) -> float:
    """Return the videos per second of bare decode and bare encode together on the same cores."""
    core_s = cores() / decode + torch.get_num_threads() / encode  # per video
    return cores() / core_s


def rate(answer: Callable[[str], object], files: list[str]) -> float:
    """Return the videos per second of a peer; its first answer is a warm-up."""
    answer(files[0])
    start_s = time.perf_counter()
    for file in files:
        answer(file)
    return len(files) / (time.perf_counter() - start_s)


if __name__ == "__main__":
    main()
