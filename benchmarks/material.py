"""Videos and models for the benchmarks."""

from __future__ import annotations

import argparse
import shutil
import struct
from collections.abc import Sequence
from fractions import Fraction
from pathlib import Path

import av
import numpy as np
import open_clip
import torch

import bike_cli as bike
from bike_cli.config import Device, Precision, Recipe
from bike_cli.data.inputs import find_sources
from bike_cli.engine.engine import assemble
from bike_cli.engine.models.parts import Checkpoint, build_clip
from bike_cli.engine.towers.placement import place, spare_threads
from bike_cli.engine.towers.transforms import ImageRecipe

CLIPS, CLIP_S, FPS, HEIGHT, WIDTH = 7, 10, 30, 240, 320  # of the generated videos


def add_folder_argument(parser: argparse.ArgumentParser) -> None:
    """Add the argument for a folder of videos."""
    help_text = f"folder of videos (default: {CLIPS} generated clips of {CLIP_S} s)"
    parser.add_argument("folder", type=Path, nargs="?", help=help_text)


def find_videos(folder: Path | None, into: Path) -> list[Path]:
    """Return the videos in a folder; None: generate clips, and write them to `into`."""
    if folder is not None:
        return [source.path for source in find_sources([folder])]
    return [write_clip(into / f"generated_{seed}.mp4", seed) for seed in range(CLIPS)]


def write_clip(path: Path, seed: int) -> Path:
    """Write 10 s of H.264 that take about as long to decode as a real video: moving textures with a little noise."""
    rng = np.random.default_rng(seed)
    layers = [rng.normal(size=(HEIGHT * 2 // cell, WIDTH * 2 // cell)) for cell in (80, 16, 4)]
    texture = sum(np.kron(layer, np.ones((cell, cell))) for layer, cell in zip(layers, (80, 16, 4), strict=True))
    noise = rng.normal(scale=2, size=(8, HEIGHT, WIDTH))
    with av.open(str(path), "w") as container:
        stream = container.add_stream("libx264", rate=Fraction(FPS))
        stream.width, stream.height, stream.pix_fmt = WIDTH, HEIGHT, "yuv420p"
        for i in range(CLIP_S * FPS):
            y, x = (HEIGHT * 0.5 * (1 + np.sin([i / 40 + seed, i / 60]))).astype(int)
            grey = np.clip(128 + 35 * texture[y : y + HEIGHT, x : x + WIDTH] + noise[i % 8], 0, 255).astype(np.uint8)
            frame = av.VideoFrame.from_ndarray(grey, format="gray")
            container.mux(stream.encode(frame.reformat(format="yuv420p")))
        container.mux(stream.encode())
    return path


def add_model_argument(parser: argparse.ArgumentParser) -> None:
    """Add the option for a model."""
    help_text = "model of bike, or an architecture of open_clip such as ViT-B-16 (default: %(default)s)"
    parser.add_argument("-m", "--model", default="tiny", help=help_text)


def copies(folder: Path | None, count: int, into: Path, *, different: bool = False) -> list[str]:
    """Write `count` copies of the videos in a folder, or of generated clips, and return their paths.

    Args:
        different: append some bytes that no decoder reads, so that the content of all copies differs.
    """
    return copies_of(find_videos(folder, into), count, into, different=different)


def copies_of(videos: Sequence[Path], count: int, into: Path, *, different: bool = False) -> list[str]:
    """Write `count` copies of some videos; see `copies`."""
    paths = []
    for i in range(count):
        video = videos[i % len(videos)]
        copy = shutil.copyfile(video, into / f"{i:06d}{video.suffix}")
        if different:
            with copy.open("ab") as file:
                file.write(struct.pack(">I4sI", 12, b"free", i))  # an empty box in an MP4, junk in other formats
        paths.append(str(copy))
    return paths


def engine_of(
    model: str, *, device: Device = "auto", precision: Precision = "auto", compiled: bool = False
) -> bike.Engine:
    """Load a model of bike, or build an architecture of open_clip with random weights."""
    config = open_clip.get_model_config(model)
    if config is None:
        return _spared(bike.load(model, device, precision, compile=compiled))
    torch.manual_seed(0)
    clip = build_clip(config, model)
    side = clip.visual.image_size
    recipe = ImageRecipe(side if isinstance(side, int) else side[0], mean=(0.5, 0.5, 0.5), std=(0.5, 0.5, 0.5))
    checkpoint = Checkpoint(model, clip, config, recipe, Recipe())
    return _spared(assemble(checkpoint, place(device, precision), compiled=compiled))


def _spared(engine: bike.Engine) -> bike.Engine:
    spare_threads(engine.encoder.model, engine.encoder.placement.device)
    return engine
