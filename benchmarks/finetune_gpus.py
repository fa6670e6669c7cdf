"""Compare training on several GPUs with one, in videos per second: `python -m benchmarks.finetune_gpus`.

    one        a step of `bike finetune` on one GPU
    several    the same batch split over several GPUs, with the same gradients
    grown      a batch that is larger by the number of GPUs
    shares     like several, with --strategy fsdp: less memory, more communication

Each is measured in separate processes, one after the other, on a batch that is already on the devices. Weights are
random, which does not affect speed.
"""

from __future__ import annotations

import argparse
import os
import pickle
import socket
import tempfile
from pathlib import Path

import torch
from torch import multiprocessing

from benchmarks.finetune import Measured, add_options, bike_training, measured, print_profile
from bike_cli.config import Strategy
from bike_cli.engine.towers.placement import place
from bike_cli.inference.processes import group_from_env, joined_process_group

TARGET = 1.9  # for two GPUs


def main() -> None:
    """Print the rates and their ratios."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    add_options(parser)
    parser.add_argument("--gpus", type=int, default=2, help="number of GPUs (default: %(default)s)")
    parser.add_argument("--profile", action="store_true", help="also print where the time of the first GPU goes")
    options = parser.parse_args()
    is_cuda = options.device == "cuda"
    where = torch.cuda.get_device_name() if is_cuda else options.device
    print(f"{options.gpus} x {where}, torch {torch.__version__}; {options.arch}, {options.frames} frames")
    print(f"{'':10}{'processes':>10}{'batch':>7}{'videos/s':>10}{'step ms':>9}{'GiB':>7}{'parts':>7}")
    batch: int = options.batch
    setups: dict[str, tuple[int, int, Strategy]] = {
        "one": (1, batch, "ddp"),
        "several": (options.gpus, batch, "ddp"),
        "grown": (options.gpus, options.gpus * batch, "ddp"),
        "shares": (options.gpus, batch, "fsdp"),
    }
    rates = {}
    for name, (count, batch, strategy) in setups.items():
        options.batch = batch
        result = trained(options, count, strategy)
        rates[name] = batch / result.step_s
        print(
            f"{name:10}{count:10}{batch:7}{rates[name]:10.1f}"
            f"{1000 * result.step_s:9.1f}{result.memory:7.1f}{result.parts:7}",
            flush=True,
        )
    ratio, grown, shares = (rates[name] / rates["one"] for name in ("several", "grown", "shares"))
    print(
        f"\n{options.gpus} against 1: {ratio:.2f} x, target for 2: {TARGET}; with a batch grown with them {grown:.2f} x"
    )
    print(f"with weights in shares {shares:.2f} x")


def trained(options: argparse.Namespace, count: int, strategy: Strategy) -> Measured:
    """Train in several processes; return the measurements of the first one."""
    with socket.socket() as free, tempfile.TemporaryDirectory() as folder:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
        free.close()
        out = Path(folder, "measured")
        multiprocessing.spawn(train, (options, count, strategy, port, out), nprocs=count)  # type: ignore[no-untyped-call]
        result: Measured = pickle.loads(out.read_bytes())
        return result


def train(rank: int, options: argparse.Namespace, count: int, strategy: Strategy, port: int, out: Path) -> None:
    """Train as one of `count` processes; the first one writes the measurements."""
    variables = {"RANK": rank, "LOCAL_RANK": rank, "WORLD_SIZE": count, "MASTER_ADDR": "127.0.0.1", "MASTER_PORT": port}
    os.environ |= {name: str(value) for name, value in variables.items()}
    by = group_from_env()
    if options.device == "cuda":
        options.device = f"cuda:{by.local_rank}"
    with joined_process_group(by, place(options.device, options.precision).device):
        training = bike_training(options, compiled=options.compile, processes=by, strategy=strategy)
        steps = (step.seconds for step in training.epoch())
        result = measured("bike", steps, training.learner.device, lambda: training.learner.parts)
        if options.profile:
            print_profile(training, quiet=not by.is_first)
        if by.is_first:
            out.write_bytes(pickle.dumps(result))


if __name__ == "__main__":
    main()
