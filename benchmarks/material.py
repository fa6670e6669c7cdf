"""What the benchmarks run on: folders of clips, and models whose weights do not matter."""

from __future__ import annotations

import shutil
import struct
from pathlib import Path

import open_clip
import torch

import bike_cli as bike
from bike_cli.config import Recipe
from bike_cli.data.inputs import find_sources
from bike_cli.engine.engine import assemble
from bike_cli.engine.models.parts import Checkpoint, build_clip
from bike_cli.engine.towers.placement import place, spare_threads
from bike_cli.engine.towers.transforms import ImageRecipe

CLIPS = Path(__file__).parents[2] / "shared" / "clips"
ORDINARY = (  # 9 to 10 s, H.264, 240 to 320 px high
    *("arm_wrestling.mp4", "flipping_pancake.mkv", "hitting_baseball.mp4", "yoga.mp4"),
    *("playing_guitar.mp4", "shooting_basketball.mp4", "face_close_up.mp4"),
)


def copies(folder: Path | None, count: int, into: Path, *, different: bool = False) -> list[str]:
    """Write `count` copies of the videos of a folder, or of seven ordinary clips, and return their paths.

    Args:
        different: a few bytes at the end, which no decoder reads, tell each copy from the others.
    """
    if folder is None:
        videos = [CLIPS / name for name in ORDINARY]
    else:
        videos = [source.path for source in find_sources([folder])]
    missing = [video for video in videos if not video.is_file()]
    if missing:
        raise SystemExit(f"{missing[0]}: no such file; name a folder of videos")
    paths = []
    for i in range(count):
        video = videos[i % len(videos)]
        copy = shutil.copyfile(video, into / f"{i:06d}{video.suffix}")
        if different:
            with copy.open("ab") as file:
                file.write(struct.pack(">I4sI", 12, b"free", i))  # to an MP4, an empty box; to others, waste
        paths.append(str(copy))
    return paths


def engine_of(model: str, *, precision: str = "auto", compiled: bool = False) -> bike.Engine:
    """Return the engine of a model of bike, or of an architecture of open_clip with random weights."""
    config = open_clip.get_model_config(model)
    if config is None:
        engine = bike.load(model, precision=precision, compile=compiled)
        spare_threads(engine.encoder.model)
        return engine
    torch.manual_seed(0)
    clip = build_clip(config, model)
    side = clip.visual.image_size
    recipe = ImageRecipe(side if isinstance(side, int) else side[0], mean=(0.5, 0.5, 0.5), std=(0.5, 0.5, 0.5))
    checkpoint = Checkpoint(model, clip, config, recipe, Recipe())
    return assemble(checkpoint, place("auto", precision), compiled=compiled)
