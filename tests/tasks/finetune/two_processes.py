"""A program for torchrun: one training step on several processes, with each strategy.

The first process writes loss and gradients to OUT/ddp and OUT/fsdp.

torchrun --nproc-per-node 2 two_processes.py OUT LOSS LEARN PARTS [DEVICE]
"""

import sys
from pathlib import Path
from typing import get_args

import torch
from safetensors.torch import save_file
from test_training import CASES, LABELS, batch_of, gradients, learner_of, own_copy
from torch.distributed.tensor import DTensor

from bike_cli.config import Strategy
from bike_cli.engine.engine import load
from bike_cli.inference.processes import group_from_env, joined_process_group
from bike_cli.tasks.finetune.learner import Batch

VIDEOS = 5  # the last process has one less


def main(out: str, loss: str, learn: str, parts: str, device: str = "cpu") -> None:
    by, labels = group_from_env(), dict(CASES)[loss]
    device = f"cuda:{by.local_rank}" if device == "cuda" else device
    bundled, frozen = load("tiny", device=device, precision="fp32"), "none" if learn == "learn" else "text"
    whole = batch_of(labels)
    width = -(-VIDEOS // by.count)
    missing = by.count * width - VIDEOS
    pixels = torch.cat([whole.pixels, whole.pixels.new_zeros(missing, *whole.pixels.shape[1:])])
    present = torch.cat([whole.present, torch.zeros(missing, dtype=torch.bool)])
    own = slice(by.rank * width, (by.rank + 1) * width)
    batch = Batch(torch.cat([labels, labels[:missing]]), pixels[own].to(device), present[own].to(device))
    with joined_process_group(by, torch.device(device)):
        for strategy in get_args(Strategy):
            engine = own_copy(bundled, frozen)
            is_trained = learn == "learn"
            learner = learner_of(
                engine, LABELS, "words", learn=is_trained, loss=loss, parts=int(parts), group=by, strategy=strategy
            )
            value = float(learner.gradients(batch))
            taken = gradients(engine, learner)
            trained = [p for p in learner.branch.parameters() if isinstance(p, DTensor)]
            shares = sum(p.to_local().numel() < p.numel() for p in trained)
            if by.is_first:
                Path(out).mkdir(exist_ok=True)
                values = {"loss": torch.tensor(value), "shares": torch.tensor(shares)}
                save_file(values | taken, Path(out, strategy))


if __name__ == "__main__":
    torch.set_num_threads(1)
    main(*sys.argv[1:])
