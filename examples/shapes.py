"""Render clips of moving shapes: random scenes from a seed, as frames or H.264 files.

    python examples/shapes.py OUT --kind single --count 12 --seed 0     clips and truth.csv
    python examples/shapes.py examples/clips --gallery                  the clips in examples/clips
    python examples/shapes.py examples/motions --motions                the clips in examples/motions

A scene is one or more objects on a background. Every object has a shape, a colour, a size, a motion and a time window
in which it is visible. Everything is a tensor over a batch of scenes, so the same code renders one clip on a
laptop and a hundred thousand frames a second on a GPU.

Letters: B scenes, O objects, T frames, S side of a frame in pixels. Lengths are fractions of the side, y points down,
angles are in radians, time runs from 0 to 1 over a clip.
"""

from __future__ import annotations

import argparse
import csv
import math
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from fractions import Fraction
from pathlib import Path

import torch
from torch import Tensor

SHAPES = ("circle", "square", "triangle", "star", "heart", "diamond", "cross", "ring")
COLOURS = ("red", "green", "blue", "yellow", "orange", "purple", "pink", "white")
SIZES = ("small", "big")
BACKGROUNDS = ("black", "grey", "stripes", "checkerboard", "gradient", "noise")
MOTIONS = (
    "still",
    "moving left",
    "moving right",
    "moving up",
    "moving down",
    "bouncing",
    "spinning",
    "growing",
    "shrinking",
    "blinking",
)
# Motions that no caption of the bundled model names: it has seen them never, and has no words for them.
NEW_MOTIONS = ("orbiting", "zigzagging", "swinging", "pulsing", "jumping", "shaking")
EVERY_MOTION = (*MOTIONS, *NEW_MOTIONS)
# Kinds of scenes, and their objects at most. One object all the time · two side by side · one for 20 to 60 % of the
# time and an empty rest · the same with others in the rest · one all the time while another flashes up.
KINDS = {"single": 1, "pair": 2, "sparse": 1, "passers": 4, "flash": 2}
UNNAMED = -1  # an attribute without a word: a medium size, a grey, a colour between two names

SIDE_PX = 128
FPS = 24

# Thirteen of the 64 pairs, about a fifth: each shape loses one or two colours, each colour one or two shapes.
HELD_OUT = frozenset(
    [(shape, 3 * shape % 8) for shape in range(8)] + [(shape, (3 * shape + 4) % 8) for shape in range(5)]
)

# Ways a person may mean a colour's name: ranges of hue (degrees), saturation and value.
HUES: dict[str, tuple[tuple[tuple[float, float], tuple[float, float], tuple[float, float]], ...]] = {
    "red": (((-12, 9), (0.72, 1.0), (0.6, 1.0)), ((-6, 6), (0.8, 1.0), (0.5, 1.0))),
    "green": (((88, 155), (0.4, 1.0), (0.35, 1.0)), ((105, 140), (0.6, 1.0), (0.4, 1.0))),
    "blue": (((203, 250), (0.55, 1.0), (0.45, 1.0)), ((205, 225), (0.5, 0.9), (0.7, 1.0))),
    "yellow": (((47, 66), (0.55, 1.0), (0.75, 1.0)), ((54, 62), (0.8, 1.0), (0.85, 1.0))),
    "orange": (((19, 39), (0.7, 1.0), (0.8, 1.0)), ((26, 36), (0.85, 1.0), (0.9, 1.0))),
    "purple": (((262, 302), (0.45, 1.0), (0.4, 0.95)), ((290, 302), (0.7, 1.0), (0.4, 0.65))),
    "pink": (((318, 350), (0.32, 0.75), (0.85, 1.0)), ((335, 358), (0.2, 0.42), (0.92, 1.0))),
    "white": (((0, 360), (0.0, 0.07), (0.86, 1.0)), ((0, 360), (0.0, 0.02), (0.95, 1.0))),
}
# Greys, and what lies between the names: brown, olive, lime, teal, cyan, navy, indigo, magenta.
NAMELESS = (
    ((0, 360), (0.0, 0.12), (0.2, 0.62)),
    ((15, 42), (0.4, 0.9), (0.25, 0.55)),
    ((50, 75), (0.4, 1.0), (0.25, 0.6)),
    ((70, 84), (0.5, 1.0), (0.6, 1.0)),
    ((162, 196), (0.4, 1.0), (0.35, 1.0)),
    ((162, 196), (0.4, 1.0), (0.6, 1.0)),
    ((225, 258), (0.3, 0.9), (0.2, 0.4)),
    ((304, 316), (0.7, 1.0), (0.6, 1.0)),
)


class Dice:
    """Random numbers of one seed, on one device."""

    def __init__(self, seed: int, device: str | torch.device = "cpu") -> None:
        self.device = torch.device(device)
        self._generator = torch.Generator(self.device).manual_seed(seed)

    def uniform(self, low: float | Tensor, high: float | Tensor, *shape: int) -> Tensor:
        """Return numbers between low and high."""
        return low + (high - low) * torch.rand(*shape, generator=self._generator, device=self.device)

    def normal(self, *shape: int) -> Tensor:
        """Return numbers of mean 0 and deviation 1."""
        return torch.randn(*shape, generator=self._generator, device=self.device)

    def below(self, count: int, *shape: int) -> Tensor:
        """Return whole numbers from 0 to count - 1."""
        return torch.randint(count, shape, generator=self._generator, device=self.device)

    def chance(self, share: float, *shape: int) -> Tensor:
        """Return True in about this share of places."""
        return torch.rand(*shape, generator=self._generator, device=self.device) < share

    def one_of(self, values: Sequence[float], *shape: int) -> Tensor:
        """Return one of the values, each as likely."""
        return torch.tensor(values, device=self.device)[self.below(len(values), *shape)]


@dataclass(frozen=True)
class Scenes:
    """B scenes; words as indices into the vocabularies above, UNNAMED where there is no word."""

    shape: Tensor  # int64 [B, O]; the named object comes first
    colour: Tensor  # int64 [B, O]
    size: Tensor  # int64 [B, O]
    motion: Tensor  # int64 [B, O], of EVERY_MOTION
    present: Tensor  # bool [B, O]
    start: Tensor  # [B, O], time at which the object appears
    stop: Tensor  # [B, O], and disappears
    background: Tensor  # int64 [B]
    duration_s: Tensor  # [B]
    rgb: Tensor  # [B, O, 3]
    radius: Tensor  # [B, O]
    centre: Tensor  # [B, O, 2]
    reach: Tensor  # [B, O], how far a moving object goes
    heading: Tensor  # [B, O], angle off the straight path
    rate: Tensor  # [B, O], turns, bounces or blinks a second
    phase: Tensor  # [B, O], 0 to 1
    style: Tensor  # [B, O], 0 to 1: one of several ways to bounce, blink or ease
    angle: Tensor  # [B, O], of the object at rest
    build: Tensor  # [B, O], 0 to 1: proportions, from slim to stout
    rounding: Tensor  # [B, O], of corners, in radii
    shading: Tensor  # [B, O], brightness across the object
    mark: Tensor  # [B, O], darkness of a wedge that shows how the object is turned
    outline: Tensor  # [B, O], width in radii; below 0: none
    outline_value: Tensor  # [B, O], brightness of the outline
    tones: Tensor  # [B, 2, 3], the two colours of the background
    grain: Tensor  # [B], period of stripes and squares, size of noise blocks
    slant: Tensor  # [B], angle of the background
    softness_px: Tensor  # [B], width of an edge on a frame of SIDE_PX
    noise: Tensor  # [B], deviation of the camera's noise
    gain: Tensor  # [B, 1, 1, 1, 3], the camera's colour balance

    def __len__(self) -> int:
        return len(self.background)


# -- Drawing scenes by chance ------------------------------------------------------------------------------------


def draw_scenes(
    dice: Dice,
    count: int,
    kind: str = "single",
    *,
    held_out: bool | None = False,
    apart: bool = False,
    nameless: float = 0.0,
    new_motions: bool = False,
) -> Scenes:
    """Return `count` scenes of a kind.

    Args:
        held_out: False: no object is of a held-out pair; True: the named object is; None: any pair.
        apart: the named object has one of the first four shapes, every other object one of the last four.
        nameless: share of objects of a colour that no name fits, and share of objects of a shape without one.
        new_motions: objects move as NEW_MOTIONS say instead of MOTIONS.
    """
    objects = KINDS[kind]
    shape, colour = _draw_pairs(dice, count, objects, held_out=held_out, apart=apart)
    present, start, stop = _draw_windows(dice, count, kind)
    if new_motions:
        motion = len(MOTIONS) + dice.below(len(NEW_MOTIONS), count, objects)
    else:
        motion = dice.below(len(MOTIONS), count, objects)
    size, radius = _draw_sizes(dice, motion, crowded=kind == "pair")
    background = dice.below(len(BACKGROUNDS), count)
    colour = torch.where(dice.chance(nameless, count, objects), UNNAMED, colour)
    shape = torch.where(dice.chance(nameless / 2, count, objects), UNNAMED, shape)
    rgb = _draw_rgb(dice, colour)
    is_marked = _draw_marked(dice, shape, motion)
    centre, reach = _draw_places(dice, count, kind)
    return Scenes(
        shape=shape,
        colour=colour,
        size=size,
        motion=motion,
        present=present,
        start=start,
        stop=stop,
        background=background,
        duration_s=dice.uniform(1.0, 4.0, count),
        rgb=rgb,
        radius=radius,
        centre=centre,
        reach=reach,
        heading=dice.uniform(-0.22, 0.22, count, objects) * dice.chance(0.6, count, objects),
        rate=dice.uniform(0.35, 1.6, count, objects),
        phase=dice.uniform(0, 1, count, objects),
        style=dice.uniform(0, 1, count, objects),
        angle=_draw_angles(dice, shape),
        build=dice.uniform(0, 1, count, objects),
        rounding=dice.uniform(0, 0.18, count, objects) * dice.chance(0.4, count, objects),
        shading=dice.uniform(-0.3, 0.3, count, objects) * dice.chance(0.4, count, objects),
        mark=dice.uniform(0.35, 0.9, count, objects) * is_marked,
        outline=_draw_outlines(dice, shape),
        outline_value=dice.one_of((0.0, 0.1, 0.9, 1.0), count, objects),
        tones=_draw_tones(dice, background, rgb[:, 0]),
        grain=dice.uniform(0.03, 0.2, count),
        slant=dice.one_of((0, 0.25, 0.5, 0.75), count) * math.pi + dice.uniform(-0.2, 0.2, count),
        softness_px=dice.uniform(0.8, 3.0, count),
        noise=dice.uniform(0, 0.05, count) * dice.chance(0.8, count),
        gain=dice.uniform(0.88, 1.08, count, 1, 1, 1, 1) + 0.02 * dice.normal(count, 1, 1, 1, 3),
    )


def _draw_pairs(dice: Dice, count: int, objects: int, *, held_out: bool | None, apart: bool) -> tuple[Tensor, Tensor]:
    """Return shapes and colours, each [B, O]."""
    every = [(s, c) for s in range(len(SHAPES)) for c in range(len(COLOURS))]
    seen = [pair for pair in every if held_out is None or pair not in HELD_OUT]
    named = [pair for pair in every if pair in HELD_OUT] if held_out else seen
    if apart:
        named = [pair for pair in named if pair[0] < 4]
        seen = [pair for pair in seen if pair[0] >= 4]
    first = torch.tensor(named, device=dice.device)[dice.below(len(named), count, 1)]
    rest = torch.tensor(seen, device=dice.device)[dice.below(len(seen), count, objects - 1)]
    pairs = torch.cat([first, rest], dim=1)  # [B, O, 2]
    return pairs[..., 0], pairs[..., 1]


def _draw_windows(dice: Dice, count: int, kind: str) -> tuple[Tensor, Tensor, Tensor]:
    """Return presence, start and stop, each [B, O]."""
    always = torch.zeros(count, 1, device=dice.device)
    if kind == "single":
        return always == 0, always, always + 1
    if kind == "pair":
        both = always.repeat(1, 2)
        return both == 0, both, both + 1
    if kind == "flash":
        length = dice.uniform(0.1, 0.2, count, 1)
        start = torch.cat([always, dice.uniform(0, 1 - length, count, 1)], dim=1)
        return start >= 0, start, start + torch.cat([always + 1, length], dim=1)
    share = dice.uniform(0.2, 0.6, count, 1)
    start = dice.uniform(0, 1 - share, count, 1)
    if kind == "sparse":
        return start >= 0, start, start + share
    return _draw_passers(dice, start, start + share)


def _draw_passers(dice: Dice, start: Tensor, stop: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    """Return presence, start and stop of the named object [B, 1] and of up to three others that fill the rest."""
    begin, end = torch.zeros_like(start), torch.ones_like(stop)
    # One other before and one after; the third shares the time before with the first, or that after with the last.
    shares_before = dice.chance(0.5, *start.shape)
    before = start * dice.uniform(0.3, 0.7, *start.shape)
    after = stop + (1 - stop) * dice.uniform(0.3, 0.7, *stop.shape)
    second = torch.where(shares_before, before, stop)
    third = torch.where(shares_before, stop, after)
    starts = torch.cat([start, begin, second, third], dim=1)
    stops = torch.cat(
        [stop, torch.where(shares_before, before, start), torch.where(shares_before, start, after), end], 1
    )
    return stops - starts > 0.02, starts, stops


def _draw_sizes(dice: Dice, motion: Tensor, *, crowded: bool) -> tuple[Tensor, Tensor]:
    """Return the size's word and the radius; an object that grows or shrinks has no size."""
    kind = dice.below(3, *motion.shape)
    small, big = dice.uniform(0.08, 0.15, *motion.shape), dice.uniform(0.21, 0.36, *motion.shape)
    radius = torch.where(kind == 0, small, torch.where(kind == 1, big, dice.uniform(0.15, 0.21, *motion.shape)))
    changes = (motion == MOTIONS.index("growing")) | (motion == MOTIONS.index("shrinking"))
    word = torch.where((kind == 2) | changes, UNNAMED, kind)
    return word, radius.clamp(max=0.24) if crowded else radius


def _draw_places(dice: Dice, count: int, kind: str) -> tuple[Tensor, Tensor]:
    """Return the middle of each object's path [B, O, 2] and its length [B, O]."""
    if kind == "pair":
        near, far = dice.uniform(0.2, 0.32, count), dice.uniform(0.68, 0.8, count)
        swap, upright = dice.chance(0.5, count), dice.chance(0.5, count)
        along = torch.stack([torch.where(swap, far, near), torch.where(swap, near, far)], dim=1)  # [B, 2]
        across = dice.uniform(0.3, 0.7, count, 2)
        upright = upright[:, None, None]
        place = torch.where(upright, torch.stack([across, along], -1), torch.stack([along, across], -1))
        return place, dice.uniform(0.3, 0.5, count, 2)
    objects = KINDS[kind]
    return dice.uniform(0.28, 0.72, count, objects, 2), dice.uniform(0.4, 1.1, count, objects)


def _draw_marked(dice: Dice, shape: Tensor, motion: Tensor) -> Tensor:
    # What is round needs a mark to show that it spins.
    is_round = (shape == SHAPES.index("circle")) | (shape == SHAPES.index("ring"))
    return (is_round & (motion == MOTIONS.index("spinning"))) | dice.chance(0.12, *shape.shape)


def _draw_angles(dice: Dice, shape: Tensor) -> Tensor:
    lean = dice.uniform(-0.3, 0.3, *shape.shape) * dice.chance(0.5, *shape.shape)
    turned = (shape == SHAPES.index("cross")) & dice.chance(0.25, *shape.shape)  # an X is a cross, too
    upside_down = (shape == SHAPES.index("triangle")) & dice.chance(0.15, *shape.shape)
    return lean + turned * math.pi / 4 + upside_down * math.pi


def _draw_outlines(dice: Dice, shape: Tensor) -> Tensor:
    width = dice.uniform(0.04, 0.16, *shape.shape)
    width = torch.where(shape == SHAPES.index("ring"), width * 0.4, width)  # or nothing of its colour is left
    return torch.where(dice.chance(0.2, *shape.shape), width, -1.0)


def _draw_rgb(dice: Dice, colour: Tensor) -> Tensor:
    """Return a colour that the word means: [B, O, 3]."""
    # UNNAMED is -1, so it picks the last entry.
    named = [HUES[name] * (len(NAMELESS) // 2) for name in COLOURS]
    ranges = torch.tensor([*named, NAMELESS], device=dice.device)  # [C + 1, ways, 3, 2]
    chosen = ranges[colour, dice.below(ranges.shape[1], *colour.shape)]  # [B, O, 3, 2]
    hue, saturation, value = dice.uniform(chosen[..., 0], chosen[..., 1], *colour.shape, 3).unbind(-1)
    return hsv_to_rgb(hue, saturation, value)


def _draw_tones(dice: Dice, background: Tensor, named_rgb: Tensor) -> Tensor:
    """Return two muted colours for each background: [B, 2, 3]; darker behind a pale object."""
    count = len(background)
    brightness = dice.uniform(0.08, 0.85, count, 2)
    too_near = (brightness[:, :1] - brightness[:, 1:]).abs() < 0.18
    darker = brightness[:, 0] * 0.55
    brightness = torch.where(too_near, torch.stack([darker, darker + 0.3], dim=1), brightness)
    is_pale = named_rgb.min(dim=-1).values > 0.6
    brightness = torch.where(is_pale[:, None], brightness * 0.65, brightness)
    tint = dice.uniform(0.0, 0.35, count, 2) * dice.chance(0.5, count, 2)
    tones = hsv_to_rgb(dice.uniform(0, 360, count, 2), tint, brightness)
    black = dice.uniform(0, 0.05, count, 1, 1).expand_as(tones)
    grey = dice.uniform(0.28, 0.68, count, 1, 1).expand_as(tones)
    tones = torch.where((background == BACKGROUNDS.index("black"))[:, None, None], black, tones)
    return torch.where((background == BACKGROUNDS.index("grey"))[:, None, None], grey, tones)


def hsv_to_rgb(hue: Tensor, saturation: Tensor, value: Tensor) -> Tensor:
    """Return RGB [..., 3] of hue in degrees, saturation and value in 0 to 1."""
    offsets = torch.tensor([5.0, 3.0, 1.0], device=hue.device)
    k = (offsets + hue[..., None] / 60) % 6
    ramp = torch.minimum(k, 4 - k).clamp(0, 1)
    return value[..., None] * (1 - saturation[..., None] * ramp)


# -- Motion: where an object is at a time -------------------------------------------------------------------------


@dataclass(frozen=True)
class Pose:
    """Where objects are at T times; each [B, O, T] but `centre`: [B, O, T, 2]."""

    centre: Tensor
    radius: Tensor
    angle: Tensor
    opacity: Tensor


def pose(scenes: Scenes, times: Tensor) -> Pose:
    """Return where every object is at times [B, T] (0 to 1 over the clip)."""
    start, stop = scenes.start[..., None], scenes.stop[..., None]
    time = times[:, None]  # [B, 1, T]
    own = ((time - start) / (stop - start).clamp(min=1e-3)).clamp(0, 1)  # time in the object's own window
    seconds = (time - start).clamp(min=0) * scenes.duration_s[:, None, None]
    moves = {name: (scenes.motion == i)[..., None] for i, name in enumerate(EVERY_MOTION)}
    radius, angle = scenes.radius[..., None], scenes.angle[..., None].expand_as(seconds)
    rate, phase, style = scenes.rate[..., None], scenes.phase[..., None], scenes.style[..., None]

    ease = torch.where(style < 0.2, own * own * (3 - 2 * own), own)
    centre = scenes.centre[:, :, None] + _shift(scenes, moves, ease)
    centre = torch.where(moves["bouncing"][..., None], _bounce(scenes, seconds, radius), centre)
    for name, path in NEW_PATHS.items():
        if bool(moves[name].any()):
            centre = torch.where(moves[name][..., None], path(scenes, ease, seconds), centre)

    turn = 2 * math.pi * (rate * seconds * torch.where(phase < 0.5, 1, -1) + phase)
    angle = torch.where(moves["spinning"], angle + turn, angle)
    angle = torch.where(moves["swinging"], angle - _swing_angle(scenes, seconds), angle)

    growth, decline = _grow(phase, style, ease)
    radius = torch.where(moves["growing"], growth, torch.where(moves["shrinking"], decline, radius.expand_as(own)))
    radius = torch.where(moves["pulsing"], radius * _pulse(scenes, seconds), radius)

    lit = torch.where(moves["blinking"], _blink(rate, phase, style, seconds), torch.ones_like(own))
    there = (time >= start) & (time < stop) & scenes.present[..., None]
    return Pose(centre, radius, angle, lit * there)


def _shift(scenes: Scenes, moves: dict[str, Tensor], ease: Tensor) -> Tensor:
    """Return how far from the middle of its path a moving object is: [B, O, T, 2]."""
    directions = {"moving left": math.pi, "moving right": 0.0, "moving up": -math.pi / 2, "moving down": math.pi / 2}
    is_moving = sum(moves[name].float() for name in directions)
    heading = scenes.heading[..., None] + sum(moves[name] * way for name, way in directions.items())
    distance = scenes.reach[..., None] * (ease - 0.5) * is_moving
    return torch.stack([heading.cos() * distance, heading.sin() * distance], dim=-1)


def _bounce(scenes: Scenes, seconds: Tensor, radius: Tensor) -> Tensor:
    """Return the centre of a bouncing object, [B, O, T, 2]: off all walls, or like a ball on the floor."""
    is_ball = scenes.style >= 0.5
    ball = _hop(scenes, seconds, radius)
    return torch.where(is_ball[..., None, None], ball, _rebound(scenes, seconds, radius))


def _rebound(scenes: Scenes, seconds: Tensor, radius: Tensor) -> Tensor:
    """Return a straight path, folded back at the edges: [B, O, T, 2]."""
    way = 2 * math.pi * scenes.phase[..., None]
    direction = torch.stack([way.cos(), way.sin()], -1)
    path = scenes.centre[:, :, None] + direction * (0.7 + 0.7 * scenes.rate[..., None, None]) * seconds[..., None]
    edge = radius[..., None].clamp(max=0.4)
    room = 1 - 2 * edge
    return edge + ((path - edge) % (2 * room) - room).abs()


def _hop(scenes: Scenes, seconds: Tensor, radius: Tensor) -> Tensor:
    """Return parabolas over one place of the floor: [B, O, T, 2]."""
    hop = (scenes.rate[..., None] * 1.1 * seconds + scenes.phase[..., None]) % 1
    height = 4 * hop * (1 - hop) * (0.3 + 0.35 * scenes.phase[..., None])
    return torch.stack([scenes.centre[..., 0, None].expand_as(height), 0.98 - radius.clamp(max=0.3) - height], -1)


def _grow(phase: Tensor, style: Tensor, ease: Tensor) -> tuple[Tensor, Tensor]:
    """Return the radius of an object that grows, evenly or by the same factor all the time, and of one that shrinks."""
    ratio = 1.8 + 2.2 * style
    larger = 0.2 + 0.24 * phase
    smaller = larger / ratio
    growth = torch.where(phase < 0.5, larger * ratio ** (ease - 1), smaller + (larger - smaller) * ease)
    return growth, larger * ratio**-ease


def _blink(rate: Tensor, phase: Tensor, style: Tensor, seconds: Tensor) -> Tensor:
    """Return the opacity of a blinking object: on and off, or fading in and out."""
    wave = (rate * 1.2 * seconds + phase) % 1
    hard = (wave < 0.35 + 0.3 * style).float()
    return torch.where(style < 0.8, hard, 0.5 - 0.5 * torch.cos(2 * math.pi * wave))


# -- Motions without words ------------------------------------------------------------------------------------------


def _orbit(scenes: Scenes, ease: Tensor, seconds: Tensor) -> Tensor:
    """Return a circle around the middle of the path, either way: [B, O, T, 2]."""
    way = torch.where(scenes.style < 0.5, 1.0, -1.0)[..., None]
    turn = 2 * math.pi * (way * (0.3 + 0.5 * scenes.rate[..., None]) * seconds + scenes.phase[..., None])
    distance = 0.1 + 0.18 * scenes.reach[..., None]
    return _around(scenes, turn.cos() * distance, turn.sin() * distance)


def _zigzag(scenes: Scenes, ease: Tensor, seconds: Tensor) -> Tensor:
    """Return a path that runs any way and turns sharply from side to side: [B, O, T, 2]."""
    way = 2 * math.pi * scenes.phase[..., None]
    turns = 2 + (3 * scenes.style[..., None]).round()
    wave = 4 * ((turns * ease / 2) % 1 - 0.5).abs() - 1  # a triangle, -1 to 1
    along, across = (0.4 + 0.4 * scenes.reach[..., None]) * (ease - 0.5), 0.16 * wave
    return _around(scenes, way.cos() * along - way.sin() * across, way.sin() * along + way.cos() * across)


def _swing_angle(scenes: Scenes, seconds: Tensor) -> Tensor:
    """Return how far a pendulum is off the plumb line: [B, O, T]."""
    widest = 0.5 + 0.5 * scenes.style[..., None]
    return widest * torch.sin(2 * math.pi * (0.7 * scenes.rate[..., None] * seconds + scenes.phase[..., None]))


def _swing(scenes: Scenes, ease: Tensor, seconds: Tensor) -> Tensor:
    """Return the arc of a pendulum that hangs above the middle of the path: [B, O, T, 2]."""
    angle = _swing_angle(scenes, seconds)
    length = 0.25 + 0.2 * scenes.reach[..., None]
    return _around(scenes, angle.sin() * length, (angle.cos() - 1) * length)


def _jump(scenes: Scenes, ease: Tensor, seconds: Tensor) -> Tensor:
    """Return leaps off the ground with a rest after each, on the spot or sideways: [B, O, T, 2]."""
    tempo = 0.5 + 0.5 * scenes.rate[..., None]
    beat = tempo * seconds + scenes.phase[..., None]
    flight = ((beat % 1) / 0.55).clamp(max=1)  # the rest of the beat stands still
    height = 4 * flight * (1 - flight) * (0.2 + 0.15 * scenes.style[..., None])
    side = torch.where(scenes.heading == 0, 0.0, scenes.heading.sign())[..., None] * 0.15
    halfway = tempo * (scenes.stop - scenes.start)[..., None] * scenes.duration_s[:, None, None] / 2
    done = beat.floor() + flight - scenes.phase[..., None] - halfway
    return _around(scenes, side * done, 0.12 - height)


def _shake(scenes: Scenes, ease: Tensor, seconds: Tensor) -> Tensor:
    """Return a fast tremble to and fro: [B, O, T, 2]."""
    way = 2 * math.pi * scenes.phase[..., None]
    offset = (0.02 + 0.03 * scenes.style[..., None]) * torch.sin(
        2 * math.pi * (4 + 3 * scenes.rate[..., None]) * seconds
    )
    return _around(scenes, way.cos() * offset, way.sin() * offset)


def _pulse(scenes: Scenes, seconds: Tensor) -> Tensor:
    """Return the factor by which a pulsing object is larger: [B, O, T]."""
    depth = 0.25 + 0.25 * scenes.style[..., None]
    return 1 + depth * torch.sin(
        2 * math.pi * ((0.3 + 0.7 * scenes.rate[..., None]) * seconds + scenes.phase[..., None])
    )


def _around(scenes: Scenes, x: Tensor, y: Tensor) -> Tensor:
    return scenes.centre[:, :, None] + torch.stack([x, y], dim=-1)


NEW_PATHS: dict[str, Callable[[Scenes, Tensor, Tensor], Tensor]] = {
    "orbiting": _orbit,
    "zigzagging": _zigzag,
    "swinging": _swing,
    "jumping": _jump,
    "shaking": _shake,
}


# -- Rendering ----------------------------------------------------------------------------------------------------


def render(scenes: Scenes, times: Tensor, dice: Dice, side_px: int = SIDE_PX) -> Tensor:
    """Return frames of B scenes at times [B, T]: uint8 [B, T, S, S, 3].

    `dice` makes the camera's noise alone; what the scenes show does not depend on it.
    """
    axis = (torch.arange(side_px, device=times.device) + 0.5) / side_px
    grid = torch.stack(torch.meshgrid(axis, axis, indexing="xy"), dim=-1)  # [S, S, 2]
    picture = _background(scenes, grid, dice)[:, None].expand(-1, times.shape[1], -1, -1, -1)
    posed = pose(scenes, times)
    for i in reversed(range(scenes.shape.shape[1])):  # the named object is painted last, on top
        picture = _paint(picture, scenes, posed, i, grid)
    noise = scenes.noise.view(-1, 1, 1, 1, 1)
    picture = picture * scenes.gain + noise * dice.normal(*picture.shape)
    return (picture.clamp(0, 1) * 255).round().to(torch.uint8)


def _background(scenes: Scenes, grid: Tensor, dice: Dice) -> Tensor:
    """Return what lies behind the objects: [B, S, S, 3]."""
    slant, grain = scenes.slant.view(-1, 1, 1), scenes.grain.view(-1, 1, 1)
    x = grid[..., 0] * slant.cos() + grid[..., 1] * slant.sin()  # [B, S, S]
    y = grid[..., 1] * slant.cos() - grid[..., 0] * slant.sin()
    stripes = torch.sin(math.pi * x / grain)
    checks = stripes * torch.sin(math.pi * y / grain)
    sharp = 0.5 / (scenes.softness_px / SIDE_PX / grain.flatten() * math.pi).view(-1, 1, 1)
    span = x.amax((1, 2), True) - x.amin((1, 2), True)
    radial = (grid - 0.5).norm(dim=-1) * 1.4
    mixes = {
        "stripes": (0.5 + stripes * sharp).clamp(0, 1),
        "checkerboard": (0.5 + checks * sharp).clamp(0, 1),
        "gradient": torch.where(grain < 0.07, radial, (x - x.amin((1, 2), True)) / span),
        "noise": _noise(scenes, grid, dice),
    }
    kind, mix = scenes.background.view(-1, 1, 1), torch.zeros_like(x)
    for name, share in mixes.items():
        mix = torch.where(kind == BACKGROUNDS.index(name), share, mix)
    mix = mix[..., None]
    first, second = scenes.tones[:, None, None, 0], scenes.tones[:, None, None, 1]
    return first * (1 - mix) + second * mix


def _noise(scenes: Scenes, grid: Tensor, dice: Dice) -> Tensor:
    """Return noise of one grain a scene, fine to blocky: [B, S, S]."""
    side = grid.shape[0]
    cells = dice.uniform(0, 1, len(scenes), 64, 64)
    blocks = (scenes.grain / 0.05).clamp(1, 4).view(-1, 1, 1)  # cells of 2 to 8 pixels on 128
    column = (grid[..., 0] * 64 / blocks).long().clamp(max=63)
    row = (grid[..., 1] * 64 / blocks).long().clamp(max=63)
    batch = torch.arange(len(scenes), device=grid.device).view(-1, 1, 1)
    return cells[batch, row, column].view(-1, side, side)


def _paint(picture: Tensor, scenes: Scenes, posed: Pose, i: int, grid: Tensor) -> Tensor:
    """Return the picture with object i over it: [B, T, S, S, 3]."""
    side = grid.shape[0]
    radius, angle = posed.radius[:, i, :, None, None], posed.angle[:, i, :, None, None]
    offset = (grid - posed.centre[:, i, :, None, None]) / radius[..., None]  # [B, T, S, S, 2], in radii
    x = offset[..., 0] * angle.cos() + offset[..., 1] * angle.sin()
    y = offset[..., 1] * angle.cos() - offset[..., 0] * angle.sin()
    shape, build, rounding = (v[:, i].view(-1, 1, 1, 1) for v in (scenes.shape, scenes.build, scenes.rounding))
    distance = signed_distance(shape, x, y, build) - rounding * 0.5
    soft = scenes.softness_px.view(-1, 1, 1, 1) * side / SIDE_PX
    to_pixels = radius * side
    cover = (0.5 - distance * to_pixels / soft).clamp(0, 1)
    outline, outline_value = (v[:, i].view(-1, 1, 1, 1) for v in (scenes.outline, scenes.outline_value))
    rim = ((distance + outline) * to_pixels / soft + 0.5).clamp(0, 1) * (outline > 0)
    body = scenes.rgb[:, i].view(-1, 1, 1, 1, 3) * _light(scenes, i, x, y)[..., None]
    body = body * (1 - rim[..., None]) + (outline_value * rim)[..., None]
    alpha = (cover * posed.opacity[:, i, :, None, None])[..., None]
    return picture * (1 - alpha) + body.clamp(0, 1) * alpha


def _light(scenes: Scenes, i: int, x: Tensor, y: Tensor) -> Tensor:
    """Return the brightness of object i, 1 where it is neither shaded nor marked: [B, T, S, S]."""
    shading, mark = (v[:, i].view(-1, 1, 1, 1) for v in (scenes.shading, scenes.mark))
    light = 1 + shading * (0.6 * x - 0.8 * y)
    wedge = (torch.atan2(x, -y).abs() < 0.5).float()
    return light * (1 - mark * wedge)


def signed_distance(shape: Tensor, x: Tensor, y: Tensor, build: Tensor) -> Tensor:
    """Return how far outside a shape of radius 1 a point is (below 0: inside).

    Formulas after Inigo Quilez, "2D distance functions"; corners are approximate outside.
    """
    if len(shape) == 1:  # a single scene on a laptop: one shape of nine to compute
        return _distance_to(int(shape), x, y, build)
    result = _distance_to(UNNAMED, x, y, build)
    for i in range(len(SHAPES)):
        result = torch.where(shape == i, _distance_to(i, x, y, build), result)
    return result


def _distance_to(shape: int, x: Tensor, y: Tensor, build: Tensor) -> Tensor:
    ax, ay = x.abs(), y.abs()
    match SHAPES[shape] if shape != UNNAMED else None:
        case "circle":
            return torch.hypot(x, y) - 0.95
        case "square":
            return torch.maximum(ax, ay) - 0.82
        case "triangle":
            return _triangle(ax, y, 0.78 + 0.3 * build)
        case "star":
            return _star(x, y, 0.36 + 0.16 * build)
        case "heart":
            return _heart(ax, y, 0.95 + 0.25 * build)
        case "diamond":
            return _diamond(ax, ay, 0.55 + 0.45 * build)
        case "cross":
            arm = 0.2 + 0.22 * build
            return torch.minimum(torch.maximum(ax - 0.97, ay - arm), torch.maximum(ay - 0.97, ax - arm))
        case "ring":
            thick = 0.2 + 0.35 * build
            return (torch.hypot(x, y) - (1 - thick / 2)).abs() - thick / 2
        case _:  # without a name: a half disc, or an L
            half_disc = torch.maximum(torch.hypot(x, y) - 1, y + 0.1)
            corner = torch.maximum(torch.maximum(ax, ay) - 0.85, torch.minimum(x + 0.3, 0.3 - y))
            return torch.where(build < 0.5, half_disc, corner)


def _triangle(ax: Tensor, y: Tensor, half_width: Tensor) -> Tensor:
    slope = (ax * 1.65 - (y + 1) * half_width) / torch.sqrt(1.65**2 + half_width**2)
    return torch.maximum(slope, y - 0.65)


def _star(x: Tensor, y: Tensor, inner: Tensor) -> Tensor:
    sector = math.pi / 5
    folded = ((torch.atan2(x, -y) + sector) % (2 * sector) - sector).abs()
    along, across = inner * math.cos(sector) - 1, inner * math.sin(sector)
    reach = torch.hypot(x, y)
    u, v = reach * folded.cos(), reach * folded.sin()
    return ((u - 1) * across - v * along) / torch.sqrt(along**2 + across**2)


def _heart(ax: Tensor, y: Tensor, stretch: Tensor) -> Tensor:
    x, y = ax * 0.62 / stretch, 0.52 - 0.6 * y
    lobe = torch.hypot(x - 0.25, y - 0.75) - math.sqrt(2) / 4
    diagonal = 0.5 * (x + y).clamp(min=0)
    edge = torch.minimum(torch.hypot(x, y - 1), torch.hypot(x - diagonal, y - diagonal))
    return torch.where(x + y > 1, lobe, edge * torch.sign(x - y)) / 0.6


def _diamond(ax: Tensor, ay: Tensor, half_width: Tensor) -> Tensor:
    return (ax + half_width * ay - half_width) / torch.sqrt(1 + half_width**2)


# -- Clips on disk ------------------------------------------------------------------------------------------------


def frame_times(scenes: Scenes, i: int) -> Tensor:
    """Return the times of every frame of scene i at FPS: [1, T]."""
    count = max(1, round(float(scenes.duration_s[i]) * FPS))
    return (torch.arange(count, device=scenes.shape.device) / count)[None]


def describe(scenes: Scenes, i: int, j: int = 0) -> dict[str, str]:
    """Return the words for object j of scene i."""

    def word(vocabulary: Sequence[str], index: Tensor) -> str:
        return "" if int(index) == UNNAMED else vocabulary[int(index)]

    return {
        "shape": word(SHAPES, scenes.shape[i, j]),
        "colour": word(COLOURS, scenes.colour[i, j]),
        "size": word(SIZES, scenes.size[i, j]),
        "motion": word(EVERY_MOTION, scenes.motion[i, j]),
        "background": word(BACKGROUNDS, scenes.background[i]),
        "visible": f"{float(scenes.start[i, j]):.3f}:{float(scenes.stop[i, j]):.3f}",
    }


def one(scenes: Scenes, i: int) -> Scenes:
    """Return scene i as a batch of one."""
    return Scenes(**{name: value[i : i + 1] for name, value in vars(scenes).items()})


def write_clip(path: Path, frames: Tensor, *, crf: int = 23) -> None:
    """Write frames uint8 [T, S, S, 3] as H.264."""
    write_video(path, [frames], fps=FPS, crf=crf)


def write_video(path: Path, parts: Iterable[Tensor], *, fps: int, crf: int = 23) -> None:
    """Write the frames of all parts, each uint8 [T, S, S, 3], as H.264."""
    import av

    with av.open(str(path), "w") as container:
        stream = container.add_stream("libx264", rate=fps, options={"crf": str(crf)})
        stream.pix_fmt, stream.time_base = "yuv420p", Fraction(1, fps)
        for frames in parts:
            if not stream.codec_context.is_open:
                stream.height, stream.width = frames.shape[1:3]
            for pixels in frames.cpu().numpy():
                container.mux(stream.encode(av.VideoFrame.from_ndarray(pixels, format="rgb24")))
        container.mux(stream.encode())


def write_clip_of(scenes: Scenes, i: int, path: Path, *, seed: int, crf: int = 23) -> Path:
    """Write scene i as H.264 and return its path; `seed` makes the camera's noise."""
    write_clip(path, render(one(scenes, i), frame_times(scenes, i), Dice(seed))[0], crf=crf)
    return path


def write_clips(folder: Path, scenes: Scenes, seed: int) -> None:
    """Write each scene as `folder/00000.mp4`, …, and the words for its named object into `folder/truth.csv`."""
    folder.mkdir(parents=True, exist_ok=True)
    with (folder / "truth.csv").open("w", encoding="utf-8", newline="") as file:
        writer = csv.DictWriter(file, fieldnames=["path", *describe(scenes, 0)])
        writer.writeheader()
        for i in range(len(scenes)):
            path = write_clip_of(scenes, i, folder / f"{i:05d}.mp4", seed=seed + i)
            writer.writerow({"path": path.name, **describe(scenes, i)})


# -- The clips next to this file ----------------------------------------------------------------------------------

GALLERY = (  # kind, colour, shape, motion, background
    ("single", "red", "circle", "moving left", "black"),
    ("single", "blue", "star", "spinning", "grey"),
    ("single", "green", "square", "bouncing", "stripes"),
    ("single", "yellow", "triangle", "moving up", "gradient"),
    ("single", "pink", "heart", "growing", "checkerboard"),
    ("single", "orange", "ring", "blinking", "black"),
    ("single", "white", "diamond", "still", "noise"),
    ("single", "purple", "cross", "moving right", "gradient"),
    ("single", "red", "heart", "shrinking", "stripes"),
    ("single", "green", "star", "moving down", "noise"),
    ("passers", "blue", "circle", "bouncing", "gradient"),
    ("passers", "yellow", "square", "moving right", "grey"),
)


def write_gallery(folder: Path) -> None:
    """Write the example clips, named after what they show."""
    for seed, (kind, colour, shape, motion, background) in enumerate(GALLERY):
        scenes = draw_scenes(Dice(seed), 50_000, kind, held_out=None, apart=kind == "passers")
        fits = (
            (scenes.colour[:, 0] == COLOURS.index(colour))
            & (scenes.shape[:, 0] == SHAPES.index(shape))
            & (scenes.motion[:, 0] == MOTIONS.index(motion))
            & (scenes.background == BACKGROUNDS.index(background))
            & (scenes.mark[:, 0] == 0)
        )
        # Noise does not compress, and these clips are part of the repository.
        calmest = int(scenes.noise.masked_fill(~fits, torch.inf).argmin())
        what = "among others" if kind == "passers" else motion
        write_clip_of(scenes, calmest, folder / f"{colour}_{shape}_{what}.mp4".replace(" ", "_"), seed=seed)


LEARNED_MOTIONS = ("pulsing", "shaking", "swinging")
SIDES = {"train": 12, "test": 8}  # clips of each motion


def write_motions(folder: Path) -> None:
    """Write class folders of motions that the bundled model has no words for, as `train/pulsing/00.mp4`, …"""
    scenes = draw_scenes(Dice(7), 20_000, held_out=None, new_motions=True)
    # Noise does not compress, and these clips are part of the repository.
    is_calm = (scenes.noise == 0) & (scenes.background != BACKGROUNDS.index("noise")) & (scenes.mark[:, 0] == 0)
    for motion in LEARNED_MOTIONS:
        fits = is_calm & (scenes.motion[:, 0] == EVERY_MOTION.index(motion))
        places = iter(fits.nonzero().flatten().tolist())
        for side, count in SIDES.items():
            (folder / side / motion).mkdir(parents=True, exist_ok=True)
            for number in range(count):
                i = next(places)
                write_clip_of(scenes, i, folder / side / motion / f"{number:02}.mp4", seed=i, crf=28)


def main() -> None:
    """Write clips and `truth.csv` into a folder."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("folder", type=Path, help="where to write the clips")
    parser.add_argument("--kind", choices=KINDS, default="single", help="kind of scenes (default: %(default)s)")
    parser.add_argument("--count", type=int, default=12, help="number of clips (default: %(default)s)")
    parser.add_argument("--seed", type=int, default=0, help="seed of the scenes (default: %(default)s)")
    parser.add_argument("--gallery", action="store_true", help="write the example clips, named after what they show")
    parser.add_argument("--motions", action="store_true", help="write the example clips to learn motions from")
    options = parser.parse_args()
    if options.gallery:
        write_gallery(options.folder)
    elif options.motions:
        write_motions(options.folder)
    else:
        scenes = draw_scenes(Dice(options.seed), options.count, options.kind, held_out=None)
        write_clips(options.folder, scenes, options.seed)


if __name__ == "__main__":
    main()
