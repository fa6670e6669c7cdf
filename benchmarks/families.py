"""Compare families of models on this GPU: `python -m benchmarks.families`.

Weights are random, which affects neither speed nor what precision costs. For each model: how many videos of 8 frames it
encodes per second, also as a ratio to `base` in the same run; and the lowest cosine of features in fp16 and bf16 with
those in fp32.
"""

from __future__ import annotations

import argparse
import copy
import statistics
import time

import numpy as np
import open_clip
import torch
from numpy.typing import NDArray

from bike_cli.engine.models.catalogue import construct
from bike_cli.engine.models.open_clip.preprocessing import image_recipe
from bike_cli.engine.towers.encoder import Encoder, adapt
from bike_cli.engine.towers.placement import Placement, place
from bike_cli.engine.towers.text_tower import ImageTextModel
from bike_cli.engine.towers.tokenizers import OpenAITokenizer

BASE = "ViT-B-16-quickgelu"
MODELS = {
    BASE: "openai",
    "PE-Core-B-16": "meta",
    "ViT-B-16-SigLIP2-256": "webli",
    "MobileCLIP2-S2": "dfndr2b",
    "EVA02-B-16": "merged2b_s8b_b131k",
}
FRAMES = 8  # per video
RUNS = 3
TEXTS = ["riding a bike", "playing the guitar", "tai chi", "a"]


def main() -> None:
    """Print a line for each model."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--videos", type=int, default=256, help="videos per run (default: %(default)s)")
    parser.add_argument("--device", default="auto")
    options = parser.parse_args()
    placement = place(options.device, "auto")
    frames = np.random.default_rng(0).integers(0, 256, (options.videos * FRAMES, 240, 320, 3), dtype=np.uint8)
    models = {arch: random_encoder(arch, tag, placement) for arch, tag in MODELS.items()}
    speeds: dict[str, list[float]] = {arch: [] for arch in models}
    for _ in range(RUNS + 1):  # in turns; the first run is a warm-up
        for arch, encoder in models.items():
            speeds[arch].append(options.videos / seconds(encoder, frames))
    videos_per_s = {arch: statistics.median(runs[1:]) for arch, runs in speeds.items()}
    print(f"{'':24}{'M params':>10}{'videos/s':>10}{'of base':>9}{'fp16':>10}{'bf16':>10}")
    for arch, encoder in models.items():
        image = sum(p.numel() for p in encoder.model.visual.parameters()) / 1e6
        cosines = [lowest_cosine(encoder, dtype) for dtype in (torch.float16, torch.bfloat16)]
        speed, ratio = videos_per_s[arch], videos_per_s[arch] / videos_per_s[BASE]
        print(f"{arch:24}{image:10.1f}{speed:10.1f}{ratio:9.2f}{cosines[0]:10.6f}{cosines[1]:10.6f}")


def random_model(arch: str) -> ImageTextModel:
    """Return a model of an architecture with random weights."""
    torch.manual_seed(0)
    return construct(open_clip.get_model_config(arch)).eval()


def random_encoder(arch: str, tag: str, placement: Placement) -> Encoder:
    """Return an encoder with random weights that prepares frames as for a tag.

    Texts are read with OpenAI's tokenizer, which for speed and precision does not matter.
    """
    model = random_model(arch)
    recipe = image_recipe(open_clip.get_pretrained_cfg(arch, tag), model.visual, arch)
    context = int(model.context_length)
    return adapt(model, tokenizer=OpenAITokenizer(context), recipe=recipe, placement=placement)


def seconds(encoder: Encoder, frames: NDArray[np.uint8]) -> float:
    """Return how long it takes to resize and encode frames."""
    start = time.perf_counter()
    encoder.encode_frames(frames)
    if encoder.placement.device.type == "cuda":
        torch.cuda.synchronize()
    return time.perf_counter() - start


def lowest_cosine(encoder: Encoder, dtype: torch.dtype) -> float:
    """Return the lowest cosine between features of frames and texts in `dtype` and in fp32."""
    frames = np.random.default_rng(1).integers(0, 256, (32, 240, 320, 3), dtype=np.uint8)
    exact, rough = (
        _features(encoder, frames, Placement(encoder.placement.device, kind)) for kind in (torch.float32, dtype)
    )
    return min(float(torch.nn.functional.cosine_similarity(a, b).min()) for a, b in zip(exact, rough, strict=True))


def _features(encoder: Encoder, frames: NDArray[np.uint8], placement: Placement) -> tuple[torch.Tensor, torch.Tensor]:
    copied = adapt(
        copy.deepcopy(encoder.model), tokenizer=encoder.tokenizer, recipe=encoder.recipe, placement=placement
    )
    return copied.encode_frames(frames).cpu(), copied.encode_texts(TEXTS).classes.cpu()


if __name__ == "__main__":
    main()
