"""Compare bike's encoding, in frames per second, with the bare image tower: `python -m benchmarks.encode`.

Weights are random, which does not affect speed. bike copies, resizes, normalises and encodes frames of 320x240 pixels
from memory; the tower encodes tensors that are already on the device. Both take turns.
"""

from __future__ import annotations

import argparse
import statistics
import time
from collections.abc import Callable

import numpy as np
import open_clip
import torch

from bike_cli.engine.models.parts import build_clip
from bike_cli.engine.towers.encoder import Encoder, adapt
from bike_cli.engine.towers.placement import place
from bike_cli.engine.towers.tokenizers import OpenAITokenizer
from bike_cli.engine.towers.transforms import ImageRecipe

RUNS = 3


def main() -> None:
    """Print the frames per second of both, and their ratio."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--arch", nargs="+", default=["ViT-B-16-quickgelu", "ViT-L-14-quickgelu"], help="of open_clip")
    parser.add_argument("--frames", type=int, default=1024, help="frames per run (default: %(default)s)")
    parser.add_argument("--batch", type=int, default=128, help="batch size of the bare tower (default: %(default)s)")
    options = parser.parse_args()
    print(f"{'':24}{'bike':>8}{'tower':>8}{'ratio':>8}")
    for arch in options.arch:
        ours, bare = frames_per_second(random_encoder(arch), options.frames, options.batch)
        print(f"{arch:24}{ours:8.0f}{bare:8.0f}{ours / bare:8.2f}")


def random_encoder(arch: str) -> Encoder:
    """Build an encoder with random weights."""
    clip = build_clip(open_clip.get_model_config(arch), arch)
    side = clip.visual.image_size
    recipe = ImageRecipe(side if isinstance(side, int) else side[0], mean=(0.5, 0.5, 0.5), std=(0.5, 0.5, 0.5))
    return adapt(
        clip, tokenizer=OpenAITokenizer(int(clip.context_length)), recipe=recipe, placement=place("auto", "auto")
    )


def frames_per_second(encoder: Encoder, count: int, batch: int) -> tuple[float, float]:
    """Return the median frames per second of bike and of the bare tower."""
    frames = np.random.default_rng(0).integers(0, 256, (count, 240, 320, 3), dtype=np.uint8)
    side, device = encoder.recipe.side, encoder.placement.device
    pixels = torch.randn(batch, 3, side, side, device=device)

    @torch.no_grad()
    def bare() -> None:
        with encoder.placement.autocast():
            for _ in range(count // batch):
                encoder.model.encode_image(pixels)

    def ours() -> None:
        encoder.encode_frames(frames)

    times = [(timed(ours, device), timed(bare, device)) for _ in range(RUNS + 1)][1:]  # the first run is a warm-up
    ours_s, bare_s = (statistics.median(column) for column in zip(*times, strict=True))
    return count / ours_s, count // batch * batch / bare_s


def timed(work: Callable[[], None], device: torch.device) -> float:
    """Return the seconds that some work takes on the device."""
    start = time.perf_counter()
    work()
    if device.type == "cuda":
        torch.cuda.synchronize()
    return time.perf_counter() - start


if __name__ == "__main__":
    main()
