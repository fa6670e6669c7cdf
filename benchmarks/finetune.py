"""Compare training steps, in videos per second, with the matrix rate of the device: `python -m benchmarks.finetune`.

    matrix rate   a product of large square matrices, in bf16
    bike          a step of `bike finetune`: gradients of a batch and the optimizer's step; eager and compiled
    peer          the official code's loop: fp16 with a scaler, nothing compiled or fused, concept spotting as einsums

All run on one device, in one run. Frames are decoded and on the device, and weights are random; neither affects speed.
The FLOPs of a video are three forward passes of bike's image tower by torch's counter: recomputation, the head, texts,
loss and optimizer do not count. If a batch does not fit into memory, bike computes it in parts with the same gradients.
The peer, like the official code, then uses the loss of each part, which is less work and gives another gradient.
"""

from __future__ import annotations

import argparse
import gc
import statistics
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass

import open_clip
import torch
from open_clip.model import CLIP
from torch import Tensor
from torch.nn import functional as F
from torch.nn.attention import SDPBackend, sdpa_kernel
from torch.utils.flop_counter import FlopCounterMode

import bike_cli as bike
from bike_cli.config import BatchConfig, FinetuneConfig, LearningConfig, Recipe, Strategy
from bike_cli.data.lexicons import read_lexicon
from bike_cli.engine.engine import assemble
from bike_cli.engine.heads.bike import TemporalTransformer
from bike_cli.engine.models.parts import Checkpoint, build_clip, new_temporal
from bike_cli.engine.scoring import unit
from bike_cli.engine.spotting import ClassTexts
from bike_cli.engine.towers.placement import place
from bike_cli.engine.towers.transforms import ImageRecipe, normalise
from bike_cli.engine.voters import Voters
from bike_cli.inference.processes import ProcessGroup
from bike_cli.records import Prompt, Sample, Source
from bike_cli.tasks.finetune.learner import Batch, Learner
from bike_cli.tasks.finetune.sharding import copy_trained_weights
from bike_cli.tasks.finetune.video_branch import VideoTraining, freeze

CLASSES, PREFIX = 400, "This is a video about "
SHARE_TARGET, PEER_TARGET = 0.45, 2.0
WARM_UP, MATRIX_SIDE, MATRIX_RUNS, GIB = 3, 8192, 30, 2**30
PROFILED_STEPS, PROFILED_ROWS = 2, 25
RECIPE = ImageRecipe(224, mean=(0.5, 0.5, 0.5), std=(0.5, 0.5, 0.5))


@dataclass(frozen=True)
class Measured:
    """Measurements of training.

    Args:
        first_s: seconds to the end of the first step.
        step_s: median seconds per step after a warm-up.
        memory: peak in GiB.
        parts: number of parts into which a batch was split.
    """

    name: str
    first_s: float
    step_s: float
    memory: float
    parts: int


class OnDevice:
    """A loader that yields the same batch, already on the device, again and again."""

    def __init__(self, batch: Batch) -> None:
        self._batch = batch

    def batches(self, epoch: int, batches: Sequence[list[int]]) -> Iterator[Batch]:
        """Yield a batch for each planned one."""
        yield from (self._batch for _ in batches)


def main() -> None:
    """Print the rates, their share of the matrix rate, and the ratio to the peer."""
    options = _options()
    device = place(options.device, options.precision).device
    rate = matrix_rate(device, options.matrix_side)
    flops = options.frames * 3 * forward_flops(options.arch)
    where = torch.cuda.get_device_name(device) if device.type == "cuda" else device.type
    print(f"{where}, torch {torch.__version__}; {options.arch}, {options.batch} videos of {options.frames} frames")
    print(f"matrix rate {rate / 1e12:.1f} TFLOP/s in bf16; a video is {flops / 1e12:.3f} TFLOP\n")
    print(f"{'':22}{'videos/s':>9}{'step ms':>9}{'first s':>9}{'TFLOP/s':>9}{'share':>7}{'GiB':>7}{'parts':>7}")

    def report(measured: Measured) -> float:
        videos: float = options.batch / measured.step_s
        print(
            f"{measured.name:22}{videos:9.1f}{1000 * measured.step_s:9.1f}{measured.first_s:9.1f}"
            f"{videos * flops / 1e12:9.1f}{videos * flops / rate:7.2f}{measured.memory:7.1f}{measured.parts:7}",
            flush=True,
        )
        _let_go()
        return videos

    modes = [False, True] if options.compile else [False]
    ours = max(report(bike_trained(options, compiled=compiled)) for compiled in modes)
    ratio = ""
    if options.peer:
        theirs = report(peer_trained(options))
        ratio = f"; {ours / theirs:.2f} times the peer, target: {PEER_TARGET:g} times"
    print(f"\nbike: {ours * flops / rate:.2f} of the matrix rate, target: {SHARE_TARGET}{ratio}")


def _options() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    add_options(parser)
    parser.add_argument("--peer", action=argparse.BooleanOptionalAction, default=True, help="also measure the peer")
    parser.add_argument("--profile", action="store_true", help="also print where bike's time goes")
    parser.add_argument("--matrix-side", type=int, default=MATRIX_SIDE, help="their size (default: %(default)s)")
    return parser.parse_args()


def add_options(parser: argparse.ArgumentParser) -> None:
    """Add the options for the model and the batches."""
    parser.add_argument("--arch", default="ViT-B-16-quickgelu", help="architecture of open_clip (default: %(default)s)")
    parser.add_argument("--frames", type=int, default=8, help="frames per video (default: %(default)s)")
    parser.add_argument("--batch", type=int, default=256, help="videos per batch (default: %(default)s)")
    parser.add_argument("--steps", type=int, default=10, help="steps after the warm-up (default: %(default)s)")
    parser.add_argument("--accumulate", type=int, help="parts per batch (default: as few as fit into memory)")
    parser.add_argument("--grad-checkpointing", action="store_true", help="as in bike finetune")
    parser.add_argument("--compile", action=argparse.BooleanOptionalAction, default=True, help="also measure compiled")
    parser.add_argument("--precision", default="bf16", help="fp32, fp16 or bf16 (default: %(default)s)")
    parser.add_argument("--device", default="cuda", help="(default: %(default)s)")


# -- the device, the model, the videos ----------------------------------------------------------------------------


def matrix_rate(device: torch.device, side: int) -> float:
    """Return the FLOP/s of the fastest of several products of square bf16 matrices."""
    a, b = (torch.randn(side, side, device=device).to(torch.bfloat16) for _ in range(2))
    seconds: float = min(timed(lambda: a @ b, device) for _ in range(MATRIX_RUNS))
    rate: float = 2 * side**3 / seconds
    return rate


def timed(work: Callable[[], object], device: torch.device) -> float:
    """Return the seconds that some work takes on the device."""
    if device.type == "cuda":
        torch.cuda.synchronize(device)
    start_s = time.perf_counter()
    work()
    if device.type == "cuda":
        torch.cuda.synchronize(device)
    return time.perf_counter() - start_s


def random_engine(options: argparse.Namespace) -> bike.Engine:
    """Return an engine of this architecture with random weights and a new temporal head."""
    clip, config = random_clip(options.arch), open_clip.get_model_config(options.arch)
    head = new_temporal(clip, seed=0)
    checkpoint = Checkpoint(options.arch, clip, config, RECIPE, Recipe(spot="all"), temporal_head=head)
    return assemble(checkpoint, place(options.device, options.precision))


def random_clip(arch: str) -> CLIP:
    """Return the CLIP of this architecture with random weights."""
    torch.manual_seed(0)
    clip = build_clip(open_clip.get_model_config(arch), arch)
    if clip.visual.image_size not in (RECIPE.side, (RECIPE.side, RECIPE.side)):
        raise SystemExit(f"--arch {arch}: sees {clip.visual.image_size} pixels; name one of {RECIPE.side}")
    return clip


def forward_flops(arch: str) -> int:
    """Return the FLOPs of bike's image tower per frame; attention counts as its matrix products."""
    clip = random_clip(arch)
    engine = assemble(Checkpoint(arch, clip, {}, RECIPE, Recipe()), place("cpu", "fp32"))
    with FlopCounterMode(display=False) as counter, sdpa_kernel(SDPBackend.MATH):
        engine.encoder.model.encode_image(torch.zeros(1, 3, RECIPE.side, RECIPE.side))
    return int(counter.get_total_flops())


def random_batch(options: argparse.Namespace, device: torch.device, *, processes: int = 1) -> Batch:
    """Return this process's part of a batch of noise with random labels."""
    torch.manual_seed(0)
    videos = options.batch // processes
    shape = (videos, options.frames, 3, RECIPE.side, RECIPE.side)
    pixels = torch.randint(256, shape, dtype=torch.uint8, device=device)
    return Batch(torch.randint(CLASSES, (options.batch,)), pixels, torch.ones(videos, dtype=torch.bool))


def prompts() -> list[Prompt]:
    """Return the texts of Kinetics-400's classes."""
    return [Prompt(PREFIX + label, len(PREFIX), len(PREFIX + label)) for label in read_lexicon("kinetics400")]


def measured(name: str, steps: Iterator[float], device: torch.device, parts: Callable[[], int]) -> Measured:
    """Return what came of steps, each given by its seconds."""
    first_s, *_ = [next(steps) for _ in range(WARM_UP)]
    if device.type == "cuda":
        torch.cuda.reset_peak_memory_stats(device)
    step_s = statistics.median(steps)
    memory = torch.cuda.max_memory_allocated(device) / GIB if device.type == "cuda" else 0.0
    return Measured(name, first_s, step_s, memory, parts())


def _let_go() -> None:
    gc.collect()
    if torch.cuda.is_available():
        torch.cuda.empty_cache()


# -- bike ---------------------------------------------------------------------------------------------------------


def bike_trained(options: argparse.Namespace, *, compiled: bool) -> Measured:
    """Return how `bike finetune` trains."""
    training = bike_training(options, compiled=compiled)
    learner = training.learner
    steps = (step.seconds for step in training.epoch())
    found = measured(f"bike{' compiled' * compiled}", steps, learner.device, lambda: learner.parts)
    if options.profile:
        print_profile(training)
    return found


def bike_training(
    options: argparse.Namespace, *, compiled: bool, processes: ProcessGroup | None = None, strategy: Strategy = "ddp"
) -> VideoTraining:
    """Return the training of a batch, again and again, in one epoch."""
    by = processes or ProcessGroup()
    engine = random_engine(options)
    engine.encoder.model.set_grad_checkpointing(options.grad_checkpointing)
    freeze(engine, "text")
    text = engine.encode_texts(prompts(), positions="all")
    texts = ClassTexts(unit(text.classes), Voters.among(unit(text.tokens), None), engine.recipe.temperature)
    if strategy == "fsdp":
        engine = copy_trained_weights(engine)
    learner = Learner(engine, texts, parts=options.accumulate, group=by, compiled=compiled, strategy=strategy)
    config = FinetuneConfig(
        learning=LearningConfig(epochs=1),
        batches=BatchConfig(options.batch, options.accumulate, checkpointing=options.grad_checkpointing),
    )
    loader = OnDevice(random_batch(options, learner.device, processes=by.count))
    samples = [Sample(Source.at("noise"), 0)] * (options.batch * (WARM_UP + options.steps))
    return VideoTraining(
        engine,
        learner,
        loader,  # type: ignore[arg-type]
        samples,
        config,
        batch_size=options.batch,
    )


def print_profile(training: VideoTraining, *, quiet: bool = False) -> None:
    """Print what takes the device's time in two more steps; all of several processes do these steps."""
    training.position.batch = 0
    steps = training.epoch()
    next(steps)
    activities = [torch.profiler.ProfilerActivity.CPU, torch.profiler.ProfilerActivity.CUDA]
    with torch.profiler.profile(activities=activities) as profile:
        for _ in range(PROFILED_STEPS):
            next(steps)
    if quiet:
        return
    kernels = [e for e in profile.key_averages() if e.self_device_time_total and e.device_type.name != "CPU"]
    kernels.sort(key=lambda e: -e.self_device_time_total)
    total = sum(e.self_device_time_total for e in kernels)
    print(f"    busy {total / 1000 / PROFILED_STEPS:.1f} ms a step")
    for e in kernels[:PROFILED_ROWS]:
        spent_ms = e.self_device_time_total / 1000 / PROFILED_STEPS
        print(f"    {spent_ms:8.2f} ms {e.count // PROFILED_STEPS:5} x  {e.key[:100]}")


# -- the peer -----------------------------------------------------------------------------------------------------


class PlainTraining:
    """What the official code does with a batch, or with one part of it after the other.

    Source: BIKE, official train.py, `train`, and modules/video_clip.py, `get_logits`.
    """

    def __init__(self, options: argparse.Namespace, device: torch.device) -> None:
        self.device, self.parts = device, options.accumulate or 1
        self.clip = random_clip(options.arch).to(device)
        self.head: TemporalTransformer = new_temporal(self.clip, seed=0).to(device).train()
        self.clip.train().set_grad_checkpointing(options.grad_checkpointing)
        for name, parameter in self.clip.named_parameters():
            parameter.requires_grad_(name.startswith("visual.") or name == "logit_scale")
        self.tokens = open_clip.SimpleTokenizer()([prompt.text for prompt in prompts()]).to(device)
        trained = [p for p in self.clip.parameters() if p.requires_grad]
        groups = [{"params": trained, "lr": 5e-6}, {"params": list(self.head.parameters()), "lr": 5e-5}]
        self.optimizer = torch.optim.AdamW(groups, weight_decay=0.2)
        self.scaler = torch.amp.GradScaler(device.type)

    def step(self, batch: Batch) -> None:
        """Learn from a batch."""
        parts, labels = (torch.tensor_split(t, self.parts) for t in (batch.pixels, batch.labels.to(self.device)))
        for pixels, own in zip(parts, labels, strict=True):
            with torch.autocast(self.device.type, torch.float16):
                loss = self.loss(pixels, own) / self.parts
            self.scaler.scale(loss).backward()  # type: ignore[no-untyped-call]
            loss.item()
        self.scaler.step(self.optimizer)
        self.scaler.update()
        self.optimizer.zero_grad()

    def loss(self, pixels: Tensor, labels: Tensor) -> Tensor:
        """Return the symmetric loss of videos [b, T, 3, S, S] and the texts of their labels."""
        frames = self.clip.encode_image(normalise(pixels.flatten(0, 1), RECIPE)).unflatten(0, pixels.shape[:2])
        classes, words = self.read(self.tokens[labels])
        logits = self.clip.logit_scale.exp() * self.scores(self.head(frames), classes, words)
        same = (labels[:, None] == labels[None]).to(logits.dtype)
        targets = F.softmax(same * 10, dim=1)
        kinds = (F.kl_div(F.log_softmax(z, dim=1), targets, reduction="batchmean") for z in (logits, logits.T))
        return sum(kinds, torch.zeros((), device=self.device)) / 2

    def read(self, tokens: Tensor) -> tuple[Tensor, Tensor]:
        """Return the end-of-text feature [b, D] and all positions [b, 77, D] of token ids."""
        clip = self.clip
        x = clip.token_embedding(tokens) + clip.positional_embedding
        x = clip.ln_final(clip.transformer(x, attn_mask=clip.attn_mask)) @ clip.text_projection
        return x[torch.arange(len(x)), tokens.argmax(dim=-1)], x

    def scores(self, frames: Tensor, classes: Tensor, words: Tensor) -> Tensor:
        """Return concept spotting's scores [videos, texts]."""
        frames, classes, words = (x / x.norm(dim=-1, keepdim=True) for x in (frames, classes, words))
        sims = torch.einsum("awd,btd->abwt", words, frames)
        weights = F.softmax(sims / 0.01, dim=-1).mean(dim=-2)
        videos = torch.einsum("abt,btd->abd", weights, frames)
        return torch.einsum("abd,ad->ab", videos, classes).T


def peer_trained(options: argparse.Namespace) -> Measured:
    """Return how the plain loop trains, in as few parts as fit."""
    device = place(options.device, options.precision).device
    training, batch = PlainTraining(options, device), random_batch(options, device)

    def steps() -> Iterator[float]:
        for _ in range(WARM_UP + options.steps):
            yield timed(lambda: _in_parts(training, batch), device)

    return measured("peer", steps(), device, lambda: training.parts)


def _in_parts(training: PlainTraining, batch: Batch) -> None:
    while True:
        try:
            return training.step(batch)
        except torch.OutOfMemoryError:
            if training.parts >= len(batch.pixels):
                raise
        training.parts *= 2
        training.optimizer.zero_grad()
        _let_go()


if __name__ == "__main__":
    main()
