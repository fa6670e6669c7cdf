"""Trying steps without training: the largest batch that fits, and the dry run."""

from __future__ import annotations

import logging
import math
import time
from dataclasses import dataclass

import torch
from torch import Tensor

from bike_cli.engine.engine import Engine
from bike_cli.tasks.finetune.learner import Learner
from bike_cli.tasks.finetune.loading import plan_batches
from bike_cli.tasks.finetune.plan import RunPlan
from bike_cli.tasks.finetune.video_branch import MIB, PAPER_BATCH, VideoTraining

logger = logging.getLogger(__name__)

BATCH_WITHOUT_GPU = 32
MOST_ACTIVATIONS = 2 * 2**30  # bytes of a part of a batch on a CPU
MEMORY_SHARE = 0.9  # of a device's memory that a batch may take


@dataclass(frozen=True)
class Rehearsal:
    """The result of a dry run."""

    train: int  # training videos
    val: int  # validation videos
    batch_size: int
    parts: int  # parts that each batch is split into
    steps: int  # of the whole run
    step_s: float  # seconds per step, without loading
    load_s: float  # seconds to decode and augment a batch
    hours: float  # for all epochs, without validation
    memory_mib: int  # peak memory of the device; 0 if unknown
    disk_mib: int  # disk space that the run needs
    failures: int  # videos of the batch that could not be read


def rehearse(plan: RunPlan, video: VideoTraining, *, disk_bytes: int) -> Rehearsal:
    """Decode a batch and take its gradients twice, without a step of the optimizer; the second time is measured."""
    learning, train, group = plan.config.learning, plan.train, video.learner.group
    labels = [sample.label for sample in train]
    first, *_ = plan_batches(
        0, labels, batch_size=video.batch_size, seed=learning.seed, balanced=False, processes=group.count
    )
    start_s = time.monotonic()
    batch = next(video.loader.batches(0, [first]))
    load_s = time.monotonic() - start_s
    for failure in batch.failures:
        logger.warning("%s", failure.message)
    device, step_s = video.learner.device, 0.0
    for _ in range(2):
        start_s = time.monotonic()
        video.learner.gradients(batch)
        if device.type == "cuda":
            torch.cuda.synchronize(device)
        step_s = time.monotonic() - start_s
    video.optimizer.zero_grad()
    steps = video.steps * learning.epochs
    return Rehearsal(
        train=len(train),
        val=len(plan.val),
        batch_size=video.batch_size,
        parts=video.learner.parts,
        steps=steps,
        step_s=step_s,
        load_s=load_s,
        hours=steps * max(step_s, load_s) / 3600,
        memory_mib=torch.cuda.max_memory_allocated(device) // MIB if device.type == "cuda" else 0,
        disk_mib=disk_bytes // MIB,
        failures=len(batch.failures),
    )


def fitting_batch(learner: Learner, engine: Engine, frames: int, *, most: int) -> int:
    """Return how many videos fit on the devices at once, found by doubling from 2; at most 32 without a GPU.

    Args:
        most: number of training videos. The result is at most this, and at most the 256 of the paper.
    """
    device, group = learner.device, learner.group
    most = max(2, min(PAPER_BATCH, most))
    if device.type != "cuda":
        return min(most, BATCH_WITHOUT_GPU)
    size = 2
    while size * group.count <= most and _fits(learner, engine, frames, size):
        size *= 2
    fitting = int(group.gather(torch.tensor([max(2, size // 2)])).min()) * group.count
    logger.warning("batch_size auto: %d videos", min(fitting, most))
    return min(fitting, most)


def fitting_parts(learner: Learner, engine: Engine, frames: int, *, videos: int) -> int:
    """Return the fewest parts of a batch on a CPU that each have at most `MOST_ACTIVATIONS` bytes to back-propagate.

    A CPU has no memory error that could halve a part: the system swaps, or ends the process. So the activations of one
    video are measured.

    Args:
        frames: of a video.
        videos: of a batch.
    """
    activations: dict[int, int] = {}  # bytes by address; the graph keeps them, so that addresses differ

    def note(tensor: Tensor) -> Tensor:
        storage = tensor.untyped_storage()
        activations[storage.data_ptr()] = storage.nbytes()
        return tensor.detach()

    side, branch = engine.encoder.recipe.side, learner.module
    pixels = torch.zeros(1, frames, 3, side, side, dtype=torch.uint8, device=learner.device)
    with torch.enable_grad(), torch.autograd.graph.saved_tensors_hooks(note, lambda tensor: tensor):
        encoded = branch(pixels)
    for weight in branch.parameters():
        activations.pop(weight.untyped_storage().data_ptr(), None)
    del encoded
    of_a_video = max(1, sum(activations.values()))
    parts = min(videos, math.ceil(videos / max(1, MOST_ACTIVATIONS // of_a_video)))
    logger.info("batches of %d videos in %d parts: %.0f MB to back-propagate a video", videos, parts, of_a_video / 1e6)
    return parts


def _fits(learner: Learner, engine: Engine, frames: int, videos: int) -> bool:
    side, device = engine.encoder.recipe.side, learner.device
    branch = learner.module
    trained = sum(p.numel() * p.element_size() for p in branch.parameters() if p.requires_grad)
    torch.cuda.reset_peak_memory_stats(device)
    try:
        pixels = torch.zeros(videos, frames, 3, side, side, dtype=torch.uint8, device=device)
        # A compiled model would need less memory, but each size would be compiled.
        with torch.compiler.set_stance("force_eager"):
            branch(pixels)[0].sum().backward()
    except torch.OutOfMemoryError:
        return False
    finally:
        branch.zero_grad()
        torch.cuda.empty_cache()
    # The optimizer will hold two more numbers for each trained one.
    needed = torch.cuda.max_memory_reserved(device) + 2 * trained
    return needed < MEMORY_SHARE * torch.cuda.get_device_properties(device).total_memory
