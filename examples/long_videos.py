"""Render long videos of moving shapes, with the times at which each label is seen.

    python examples/long_videos.py OUT --count 20 --seed 0             labels are objects, such as "red circle"
    python examples/long_videos.py OUT --kind motions --count 10       labels are motions, such as "moving left"

A video is a sequence of blocks, each a scene of `shapes.py`. In videos of objects, a block shows a labelled object,
two of them that overlap in time, an object that is not a label, or nothing; every object moves in any way. In videos of
motions, a block shows an object that moves, one that is still, or nothing. In half of the videos the background
changes with every block. Every eighth video shows no label.

OUT gets `000.mp4`, …, `labels.txt`, and the segments as `truth.json` (the format of ActivityNet) and `truth.csv` (one
row per segment; a video without a segment has one row with empty cells).
"""

from __future__ import annotations

import argparse
import csv
import json
import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Literal, get_args

import torch
from shapes import COLOURS, MOTIONS, SHAPES, Dice, Scenes, draw_scenes, one, render, write_video
from torch import Tensor

Kind = Literal["objects", "motions"]
RATES = (10, 12, 15, 25)  # frames per second
SHORTEST_S, LONGEST_S = 30, 120
WITHOUT_LABEL_EVERY, FIRST_WITHOUT_LABEL = 8, 3
WORDS = 5  # colours, and shapes, of the labels of objects
POOL = 20_000  # scenes to choose from; each pair of colour and shape has about 300, each pair of labels about 5
MARGIN = 0.08  # least distance of a path from the edges of the frame
LONGEST_ABSENCE_S = 0.4  # of an object that blinks
DARK_BESIDE_PALE = 0.6  # the least colour channel of an object that backgrounds are darkened for
# An object that crosses the frame, grows or shrinks for longer starts again, so that it is as fast as in the clips of 1
# to 4 s that the bundled model was trained on.
LONGEST_PASS_S = 2.5
FRAMES_TOGETHER = 32  # that are rendered together
# Kinds of blocks, with how often each comes.
OBJECT_BLOCKS = {"label": 0.45, "overlap": 0.15, "other": 0.2, "nothing": 0.2}
MOTION_BLOCKS = {"label": 0.5, "still": 0.25, "nothing": 0.25}


@dataclass(frozen=True)
class Segment:
    """A time in which a label is seen, in seconds."""

    label: str
    start_s: float
    end_s: float


@dataclass(frozen=True)
class Block:
    """A part of a video: one scene, a number of frames, and the objects that are labels.

    Args:
        seen: label, first frame and the frame after the last, within the block.
        passes: how often the scene is shown.
    """

    scene: Scenes
    frames: int
    seen: tuple[tuple[str, int, int], ...] = ()
    passes: int = 1


@dataclass(frozen=True)
class LongVideo:
    """A video to render."""

    name: str
    fps: int
    seed: int
    blocks: tuple[Block, ...]

    @property
    def duration_s(self) -> float:
        """Its length in seconds."""
        return sum(block.frames for block in self.blocks) / self.fps

    @property
    def segments(self) -> list[Segment]:
        """When each label is seen, in order of time."""
        segments, first = [], 0
        for block in self.blocks:
            segments += [Segment(s, (first + a) / self.fps, (first + b) / self.fps) for s, a, b in block.seen]
            first += block.frames
        return segments

    def frames(self) -> Iterator[Tensor]:
        """Yield the frames, uint8 [T, S, S, 3], a few at a time."""
        dice = _Camera(self.seed)
        for block in self.blocks:
            times = torch.arange(block.frames) * block.passes / block.frames % 1
            for some in torch.split(times, FRAMES_TOGETHER):
                yield render(block.scene, some[None], dice)[0]

    def write(self, folder: Path) -> Path:
        """Write the video as H.264 and return its path."""
        path = folder / self.name
        write_video(path, self.frames(), fps=self.fps)
        return path


class _Camera(Dice):
    """Noise of the camera, new in each frame, before a background that stays the same."""

    def __init__(self, seed: int) -> None:
        super().__init__(seed)
        self._seed = seed

    def uniform(self, low: float | Tensor, high: float | Tensor, *shape: int) -> Tensor:
        """Return the same numbers each time: `render` draws the background with them."""
        return Dice(self._seed).uniform(low, high, *shape)


@dataclass(frozen=True)
class Labels:
    """The labels of a set, and the scenes to show them in."""

    kind: Kind
    names: tuple[str, ...]
    single: Scenes  # of one object each
    pairs: Scenes  # of two objects each, apart from each other

    def of(self, scenes: Scenes, place: int = 0) -> Tensor:
        """Return the label of an object of each scene, int64 [B]; -1: it is not a label."""
        if self.kind == "motions":
            motions = torch.tensor([self.names.index(m) if m in self.names else -1 for m in MOTIONS])
            return motions[scenes.motion[:, place]]
        grid = torch.full((len(COLOURS), len(SHAPES)), -1)
        for i, name in enumerate(self.names):
            colour, shape = name.split()
            grid[COLOURS.index(colour), SHAPES.index(shape)] = i
        return grid[scenes.colour[:, place], scenes.shape[:, place]]


def draw_labels(kind: Kind, dice: Dice) -> Labels:
    """Return the labels of a set: ten pairs of five colours and five shapes, or all motions."""
    single = draw_scenes(dice, POOL, held_out=None)
    pairs = draw_scenes(dice, POOL, "pair", held_out=None)
    if kind == "motions":
        return Labels(kind, tuple(motion for motion in MOTIONS if motion != "still"), single, pairs)
    colours, shapes = (_shuffled(dice, words)[:WORDS] for words in (COLOURS, SHAPES))
    # Each colour with two neighbours on a circle of shapes, so that every word is in two labels.
    names = [f"{colour} {shapes[(i + j) % WORDS]}" for i, colour in enumerate(colours) for j in range(2)]
    return Labels(kind, tuple(names), single, pairs)


def draw_videos(kind: Kind, count: int, seed: int) -> tuple[tuple[str, ...], list[LongVideo]]:
    """Return the labels and the videos of a set."""
    dice = Dice(seed)
    labels = draw_labels(kind, dice)
    return labels.names, [_draw_video(dice, labels, i, seed) for i in range(count)]


def _draw_video(dice: Dice, labels: Labels, i: int, seed: int) -> LongVideo:
    fps = int(dice.one_of(RATES, 1))
    length = int(dice.uniform(SHORTEST_S, LONGEST_S, 1) * fps)
    is_cut = bool(dice.chance(0.5, 1))
    has_labels = i % WITHOUT_LABEL_EVERY != FIRST_WITHOUT_LABEL
    chances = dict(OBJECT_BLOCKS if labels.kind == "objects" else MOTION_BLOCKS)
    if not has_labels:
        chances = {name: share for name, share in chances.items() if name not in ("label", "overlap")}
    # Those of pale objects are dark enough for every colour.
    behind_pale = labels.single.rgb[:, 0].min(dim=-1).values > DARK_BESIDE_PALE
    look = _pick(dice, labels.single, behind_pale)
    blocks: list[Block] = []
    while sum(block.frames for block in blocks) < length:
        previous = {label for label, *_ in blocks[-1].seen} if blocks else set()
        block = _draw_block(dice, labels, _choose(dice, chances), fps, previous)
        blocks.append(replace(block, scene=_before(look, block.scene)))
        look = _with_background(look, _pick(dice, labels.single, behind_pale)) if is_cut else look
    return LongVideo(f"{i:03}.mp4", fps, 1000 * seed + i, tuple(blocks))


def _draw_block(dice: Dice, labels: Labels, what: str, fps: int, previous: set[str]) -> Block:
    """Return a block that shows none of the labels of the previous one, so that their segments do not touch."""
    if what == "nothing":
        scene = labels.single
        frames = _frames(dice, fps, 2, 6)
        return _block(one(replace(scene, present=torch.zeros_like(scene.present)), 0), frames, fps, ())
    if what == "overlap":
        return _draw_overlap(dice, labels, fps, previous)
    ids = labels.of(labels.single)
    if what == "label":
        i = _one_of(dice, [i for i, name in enumerate(labels.names) if name not in previous])
        fits, shortest, longest = ids == i, 2, 10 if labels.kind == "objects" else 5
    elif labels.kind == "motions":
        fits, shortest, longest = ids == -1, 2, 5
    else:
        fits, shortest, longest = _other_objects(labels, shares_word=bool(dice.chance(0.5, 1))), 2, 8
    frames = _frames(dice, fps, shortest, longest)
    scene = _pick(dice, labels.single, fits)
    seen = ((labels.names[i], 0, frames),) if what == "label" else ()
    if labels.kind == "objects":
        return _block(_within_frame(scene), frames, fps, seen)
    scene, ends = _at_full_reach(scene)
    return _block(scene, frames, fps, seen, passes=math.ceil(frames / fps / LONGEST_PASS_S) if ends else 1)


def _draw_overlap(dice: Dice, labels: Labels, fps: int, previous: set[str]) -> Block:
    """Return a block of two labelled objects, of which the second appears before the first goes."""
    first, second = labels.of(labels.pairs, 0), labels.of(labels.pairs, 1)
    fits = (first >= 0) & (second >= 0) & (first != second)
    for i, name in enumerate(labels.names):
        if name in previous:
            fits &= (first != i) & (second != i)
    scene = _pick(dice, labels.pairs, fits)
    alone, both, rest = (_frames(dice, fps, 1, 4) for _ in range(3))
    frames = alone + both + rest
    scene = replace(
        scene,
        # Half a frame early, so that rounding cannot move an end by a frame.
        start=torch.tensor([[0.0, (alone - 0.5) / frames]]),
        stop=torch.tensor([[(alone + both - 0.5) / frames, 1.0]]),
    )
    names = (labels.names[int(labels.of(scene, place))] for place in range(2))
    spans = ((0, alone + both), (alone, frames))
    return _block(
        _within_frame(scene), frames, fps, tuple((name, *span) for name, span in zip(names, spans, strict=True))
    )


def _block(scene: Scenes, frames: int, fps: int, seen: tuple[tuple[str, int, int], ...], *, passes: int = 1) -> Block:
    """Return a block of a scene; an object that blinks is hidden for half of the time at most, and never for long."""
    blinks = scene.motion == MOTIONS.index("blinking")
    style = torch.where(blinks, (1 + scene.style) / 2, scene.style)
    hidden = torch.where(style < 0.8, 0.65 - 0.3 * style, 0.4)  # share of a blink; from 0.8, objects fade
    fast_enough = torch.maximum(scene.rate, hidden / (1.2 * LONGEST_ABSENCE_S))
    scene = replace(
        scene,
        duration_s=torch.tensor([frames / fps / passes]),
        style=style,
        rate=torch.where(blinks, fast_enough, scene.rate),
    )
    return Block(scene, frames, seen, passes)


def _within_frame(scene: Scenes) -> Scenes:
    """Return a scene with paths that stay in the frame, so that a label is seen for the whole of its segment."""
    room = torch.minimum(scene.centre, 1 - scene.centre).min(dim=-1).values - MARGIN
    return replace(scene, reach=torch.minimum(scene.reach, 2 * room))


def _at_full_reach(scene: Scenes) -> tuple[Scenes, bool]:
    """Return the scene of a motion with the longest path, or the largest change of size; and whether it has an end."""
    motion = MOTIONS[int(scene.motion)]
    if motion in ("growing", "shrinking"):
        return replace(scene, style=(1 + scene.style) / 2), True
    if not motion.startswith("moving"):
        return scene, False
    axis = 0 if motion in ("moving left", "moving right") else 1
    centre = scene.centre.clone()
    centre[..., axis] = 0.5
    return replace(scene, centre=centre, reach=torch.full_like(scene.reach, 1 - 2 * MARGIN)), True


def _other_objects(labels: Labels, *, shares_word: bool) -> Tensor:
    """Return which scenes show an object that is not a label, bool [B]: one that shares a word with labels, or none."""
    words = {word for name in labels.names for word in name.split()}
    colours, shapes = (torch.tensor([word in words for word in known]) for known in (COLOURS, SHAPES))
    shares = colours[labels.single.colour[:, 0]] | shapes[labels.single.shape[:, 0]]
    return (labels.of(labels.single) == -1) & (shares == shares_word)


def _before(look: Scenes, scene: Scenes) -> Scenes:
    """Return the scene before the background of a look, seen by its camera."""
    names = ("background", "tones", "grain", "slant", "softness_px", "noise", "gain")
    return replace(scene, **{name: getattr(look, name) for name in names})


def _with_background(look: Scenes, other: Scenes) -> Scenes:
    return replace(look, **{name: getattr(other, name) for name in ("background", "tones", "grain", "slant")})


def _pick(dice: Dice, scenes: Scenes, fits: Tensor) -> Scenes:
    places = fits.nonzero()[:, 0]
    return one(scenes, int(places[dice.below(len(places), 1)]))


def _frames(dice: Dice, fps: int, shortest_s: float, longest_s: float) -> int:
    return round(float(dice.uniform(shortest_s, longest_s, 1)) * fps)


def _choose(dice: Dice, chances: dict[str, float]) -> str:
    weights = torch.tensor(list(chances.values())).cumsum(0)
    return list(chances)[int(torch.searchsorted(weights, dice.uniform(0, float(weights[-1]), 1), right=True))]


def _one_of(dice: Dice, values: Sequence[int]) -> int:
    return values[int(dice.below(len(values), 1))]


def _shuffled(dice: Dice, words: Sequence[str]) -> list[str]:
    return [words[int(i)] for i in dice.uniform(0, 1, len(words)).argsort()]


# -- Truth on disk --------------------------------------------------------------------------------------------------


def write_truth(folder: Path, labels: Sequence[str], videos: Sequence[LongVideo]) -> None:
    """Write `labels.txt`, `truth.json` and `truth.csv`."""
    (folder / "labels.txt").write_text("".join(f"{label}\n" for label in labels), encoding="utf-8")
    database = {
        Path(video.name).stem: {
            "subset": "validation",
            "duration": video.duration_s,
            "annotations": [{"segment": [s.start_s, s.end_s], "label": s.label} for s in video.segments],
        }
        for video in videos
    }
    truth = {"version": "1", "taxonomy": [], "database": database}
    (folder / "truth.json").write_text(json.dumps(truth, indent=1), encoding="utf-8")
    with (folder / "truth.csv").open("w", encoding="utf-8", newline="") as file:
        writer = csv.writer(file)
        writer.writerow(["path", "start_s", "end_s", "label"])
        for video in videos:
            rows = [(f"{s.start_s:.6f}", f"{s.end_s:.6f}", s.label) for s in video.segments]
            writer.writerows((video.name, *row) for row in rows or [("", "", "")])


def main() -> None:
    """Write videos and their truth into a folder."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("folder", type=Path, help="where to write the videos")
    parser.add_argument("--kind", choices=get_args(Kind), default="objects", help="what labels are (default: objects)")
    parser.add_argument("--count", type=int, default=20, help="number of videos (default: %(default)s)")
    parser.add_argument("--seed", type=int, default=0, help="seed of the videos (default: %(default)s)")
    options = parser.parse_args()
    labels, videos = draw_videos(options.kind, options.count, options.seed)
    options.folder.mkdir(parents=True, exist_ok=True)
    for video in videos:
        video.write(options.folder)
        print(f"{video.name}: {video.duration_s:.1f} s, {len(video.segments)} segments", flush=True)
    write_truth(options.folder, labels, videos)


if __name__ == "__main__":
    main()
