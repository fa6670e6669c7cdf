"""Compare training from raw video, in videos per second, with its limits: `python -m benchmarks.finetune_video`.

    bare decode   processes that only call decord, for as many frames as bike reads
    bare load     bike's batches, decoded and augmented, without training on them
    bare learn    bike's training steps, on one batch that is already on the device
    bike          everything

They take turns in one process, on copies of the same files. On a CPU, all of them share the cores. The weights of
architectures are random, which does not affect speed.
"""

from __future__ import annotations

import argparse
import statistics
import tempfile
import time
from contextlib import closing
from dataclasses import replace
from pathlib import Path

import torch

import bike_cli as bike
from benchmarks.bare_decode import BareDecode
from benchmarks.material import add_folder_argument, add_model_argument, copies, engine_of
from bike_cli.config import BatchConfig, FinetuneConfig, LearningConfig, StoreConfig
from bike_cli.data.labelled.train_sets import TrainSet
from bike_cli.records import Sample, Source
from bike_cli.tasks.finetune.run import Finetuning
from bike_cli.tasks.finetune.video_branch import Step
from bike_cli.video.workers.machine import cores
from bike_cli.video.workers.pool import DecodePool

LABELS = ("arm wrestling", "flipping a pancake", "hitting a baseball", "yoga", "playing the guitar", "basketball")
TARGET = 0.9


def main() -> None:
    """Print the four rates, and the ratio to the lowest limit."""
    options = _options()
    engine = engine_of(options.model, precision=options.precision)
    config = FinetuneConfig(
        sampling=bike.SamplingConfig(frames=options.frames),
        store=StoreConfig(cache=False),
        learning=LearningConfig(epochs=options.epochs + 1, head="transf"),
        batches=BatchConfig(batch_size=options.batch),
    )
    config = replace(config, engine=replace(config.engine, compile=options.compile))
    print(
        f"{options.model}, {engine.encoder.placement}, {cores()} cores, {options.videos} videos, batch {options.batch}"
    )
    with tempfile.TemporaryDirectory() as folder, DecodePool(config.sampling, config.decoding) as pool:
        files = copies(options.folder, options.videos, Path(folder))
        samples = tuple(Sample(Source.at(file), i % len(LABELS)) for i, file in enumerate(files))
        labelled = TrainSet(LABELS, LABELS, samples, None, val=samples[: len(LABELS)])
        run = Finetuning(engine, labelled, config, pool, Path(folder, "run"))
        decode = BareDecode(cores(), options.frames)
        rates = [measured(run, decode, files, options.batch) for _ in range(options.epochs + 1)][1:]
        decode.close()
        run.folder.close()
    bare, load, learn, ours = (statistics.median(column) for column in zip(*rates, strict=True))
    lowest = min(bare, load, learn)
    print(f"bare decode  {bare:8.1f} videos/s")
    print(f"bare load    {load:8.1f} videos/s")
    print(f"bare learn   {learn:8.1f} videos/s")
    print(f"bike         {ours:8.1f} videos/s   {ours / lowest:.2f} of the lowest limit; target: at least {TARGET}")


def measured(run: Finetuning, decode: BareDecode, files: list[str], batch: int) -> tuple[float, ...]:
    """Return the rates of one round, an epoch of each."""
    assert run.video is not None
    decode_s = decode.seconds(files)
    places = list(range(len(files)))
    planned = [places[i : i + batch] for i in range(0, len(files), batch)]
    start_s = time.perf_counter()
    with closing(run.video.loader.batches(0, planned)) as batches:  # type: ignore[type-var]
        loaded, *_ = batches
    _synchronise()
    load_s = time.perf_counter() - start_s
    start_s = time.perf_counter()
    steps = 0
    while steps < 2 or time.perf_counter() - start_s < 3:
        run.video.learner.gradients(loaded)
        run.video.optimizer.zero_grad()
        steps += 1
    _synchronise()
    learn_s = (time.perf_counter() - start_s) / steps
    start_s = time.perf_counter()
    videos = sum(step.videos for step in run.video.epoch() if isinstance(step, Step))
    _synchronise()
    ours_s = time.perf_counter() - start_s
    run.video.end_epoch()
    return len(files) / decode_s, len(files) / load_s, len(loaded.pixels) / learn_s, videos / ours_s


def _synchronise() -> None:
    if torch.cuda.is_available():
        torch.cuda.synchronize()


def _options() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    add_folder_argument(parser)
    add_model_argument(parser)
    parser.add_argument("--precision", default="auto", help="auto, fp32, fp16 or bf16 (default: auto)")
    parser.add_argument("--compile", action="store_true", help="compile the training step")
    parser.add_argument("--videos", type=int, default=56, help="videos, copied as needed (default: %(default)s)")
    parser.add_argument("--batch", type=int, default=14, help="videos per step (default: %(default)s)")
    parser.add_argument("--frames", type=int, default=8, help="frames per video (default: %(default)s)")
    parser.add_argument("--epochs", type=int, default=3, help="(default: %(default)s)")
    return parser.parse_args()


if __name__ == "__main__":
    main()
