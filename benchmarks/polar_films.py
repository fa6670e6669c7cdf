"""A renderer of its own for `benchmarks.rejection`: the words of the bundled model, drawn in another way.

Every shape is a radius as a function of the angle, with soft edges from that radius, on smooth clouds of dull colours,
under a lamp that is brighter on one side. Nothing is shared with `examples/shapes.py`, which trained the model.
"""

from __future__ import annotations

import colorsys
import math
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

import av
import numpy as np
from numpy.typing import NDArray

SIDE_PX, FPS = 112, 20
HUES = {"red": 0, "orange": 30, "yellow": 56, "green": 122, "blue": 224, "purple": 282, "pink": 330, "white": 0}
COLOURS = tuple(HUES)
MOTIONS = (
    *("still", "moving left", "moving right", "moving up", "moving down"),
    *("bouncing", "spinning", "growing", "shrinking", "blinking"),
)
DIRECTIONS = {"moving left": (-1, 0), "moving right": (1, 0), "moving up": (0, -1), "moving down": (0, 1)}
ROUND = ("circle", "ring")  # nobody sees them spin

Pixels = NDArray[np.float64]


def _polygon(corners: int) -> Callable[[Pixels], Pixels]:
    """Return the radius of a regular polygon with a corner at angle 0."""
    step = 2 * math.pi / corners
    return lambda angle: math.cos(step / 2) / np.cos(np.mod(angle, step) - step / 2)


def _star(angle: Pixels) -> Pixels:
    """Return the radius of a five-pointed star: straight lines between outer and inner corners."""
    step, inner = math.pi / 5, 0.40
    within = np.abs(np.mod(angle + step, 2 * step) - step)  # 0 at a point, `step` at the notch
    return (
        inner
        * math.sin(step)
        / (np.sin(within) * (1 - inner * math.cos(step)) + np.cos(within) * inner * math.sin(step))
    )


def _heart(angle: Pixels) -> Pixels:
    """Return the radius of a heart that points down; angle 0 is up, at the notch."""
    turned = np.abs(np.mod(angle + math.pi, 2 * math.pi) - math.pi)  # 0 at the notch, pi at the tip
    knots = np.array([0.0, 0.30, 0.62, 0.95, 1.35, 1.9, 2.5, 2.9, math.pi])
    return np.interp(turned, knots, [0.42, 0.78, 0.94, 0.96, 0.86, 0.74, 0.76, 0.90, 1.02])


def _cross(angle: Pixels) -> Pixels:
    """Return the radius of a plus sign: arms half as wide as two thirds of their length."""
    arm, half = 0.98, 0.32
    within = np.abs(np.mod(angle + math.pi / 4, math.pi / 2) - math.pi / 4)
    end, side = arm / np.cos(within), half / np.maximum(np.sin(within), 1e-9)
    return np.where(np.tan(within) * arm <= half, end, side)


RADII: dict[str, Callable[[Pixels], Pixels]] = {
    "circle": lambda angle: np.full_like(angle, 0.92),
    "square": lambda angle: 1.12 * _polygon(4)(angle + math.pi / 4),
    "triangle": lambda angle: 1.1 * _polygon(3)(angle),
    "star": lambda angle: 1.1 * _star(angle),
    "heart": _heart,
    "diamond": lambda angle: 1 / (np.abs(np.cos(angle)) + np.abs(np.sin(angle)) / 0.68),
    "cross": _cross,
    "ring": lambda angle: np.full_like(angle, 0.95),
}
SHAPES = tuple(RADII)
HOLE = 0.58  # of a ring

_Y, _X = np.mgrid[:SIDE_PX, :SIDE_PX].astype(np.float64)


@dataclass(frozen=True)
class Actor:
    """One object: what it is, and when it is there, as shares of the film."""

    shape: str
    colour: str
    motion: str
    start: float = 0.0
    stop: float = 1.0


@dataclass(frozen=True)
class Film:
    """A film to draw; the first actor is the one that it is about."""

    actors: tuple[Actor, ...]
    seed: int

    @property
    def about(self) -> Actor:
        """The object that the labels name."""
        return self.actors[0]

    def write(self, file: Path) -> None:
        """Write the film, MPEG-4 in Matroska; it appears whole."""
        rng = np.random.default_rng(self.seed)
        unfinished = file.with_name(f"unfinished-{file.name}")
        with av.open(str(unfinished), "w", format="matroska") as out:
            stream = out.add_stream("mpeg4", rate=FPS)
            stream.width = stream.height = SIDE_PX
            stream.pix_fmt, stream.bit_rate = "yuv420p", 1_500_000
            for frame in _frames(self.actors, rng):
                out.mux(stream.encode(av.VideoFrame.from_ndarray(frame, format="rgb24")))
            out.mux(stream.encode())
        unfinished.rename(file)


def _frames(actors: tuple[Actor, ...], rng: np.random.Generator) -> Iterator[NDArray[np.uint8]]:
    number = int(rng.integers(28, 64))
    behind, lamp = _clouds(rng), _lamp(rng)
    painters = [_painter(actor, rng) for actor in actors]
    grain = rng.uniform(1, 4)
    for i in range(number):
        picture, share = behind.copy(), (i + 0.5) / number
        for actor, paint in zip(actors, painters, strict=True):
            if actor.start <= share < actor.stop:
                picture = paint(picture, (share - actor.start) / (actor.stop - actor.start), number)
        noisy = picture * lamp + grain * rng.standard_normal(picture.shape)
        yield noisy.round().clip(0, 255).astype(np.uint8)


def _clouds(rng: np.random.Generator) -> Pixels:
    """Return a background: waves of a few directions, between two dull colours."""
    waves = np.zeros_like(_X)
    for _ in range(5):
        angle, length = rng.uniform(0, 2 * math.pi), rng.uniform(25, 120)
        along = (_X * math.cos(angle) + _Y * math.sin(angle)) / length
        waves += rng.uniform(0.3, 1) * np.sin(2 * math.pi * along + rng.uniform(0, 2 * math.pi))
    share = (waves - waves.min()) / (waves.max() - waves.min())
    dark, light = (
        np.array(colorsys.hsv_to_rgb(rng.random(), rng.uniform(0, 0.18), value)) * 255
        for value in (rng.uniform(0.02, 0.2), rng.uniform(0.2, 0.42))
    )
    return np.asarray(dark + share[..., None] * (light - dark))


def _lamp(rng: np.random.Generator) -> Pixels:
    angle, depth = rng.uniform(0, 2 * math.pi), rng.uniform(0, 0.12)
    across = ((_X - SIDE_PX / 2) * math.cos(angle) + (_Y - SIDE_PX / 2) * math.sin(angle)) / SIDE_PX
    return np.asarray(1 + depth * across)[..., None]


def _rgb(colour: str, rng: np.random.Generator) -> Pixels:
    hue = (HUES[colour] + rng.uniform(-5, 5)) % 360 / 360
    saturation, value = rng.uniform(0.82, 1), rng.uniform(0.82, 1)
    if colour == "white":
        saturation, value = rng.uniform(0, 0.03), rng.uniform(0.93, 1)
    elif colour == "pink":
        saturation, value = rng.uniform(0.3, 0.55), rng.uniform(0.95, 1)
    return np.array(colorsys.hsv_to_rgb(hue, saturation, value)) * 255


def _painter(actor: Actor, rng: np.random.Generator) -> Callable[[Pixels, float, int], Pixels]:
    """Return what paints an object over a picture, at a share of its time in a film of so many frames."""
    size = rng.uniform(13, 34)
    room = SIDE_PX / 2 - size
    middle = SIDE_PX / 2 + rng.uniform(-0.8, 0.8, 2) * room
    rgb, tilt, turns = _rgb(actor.colour, rng), rng.uniform(-0.12, 0.12), rng.uniform(0.5, 1.2) * rng.choice((-1, 1))
    speed, phase, blinks = rng.uniform(1.4, 2.4, 2), rng.uniform(0, 1, 2), rng.uniform(3, 6)

    def paint(picture: Pixels, share: float, frames: int) -> Pixels:
        place, scale, angle = middle, 1.0, tilt
        if actor.motion in DIRECTIONS:
            way = np.array(DIRECTIONS[actor.motion])
            place = np.where(way == 0, middle, SIDE_PX / 2 + way * (2 * share - 1) * 0.95 * room)
        elif actor.motion == "bouncing":
            triangle = 2 * np.abs(2 * ((phase + speed * share) % 1) - 1) - 1  # -1 to 1 and back
            place = SIDE_PX / 2 + triangle * room
        elif actor.motion == "spinning":
            angle = tilt + 2 * math.pi * turns * share
        elif actor.motion in ("growing", "shrinking"):
            grown = share if actor.motion == "growing" else 1 - share
            scale = 0.35 + 0.85 * grown
        elif actor.motion == "blinking" and (share * blinks * frames / 40) % 1 >= 0.5:
            return picture
        cover = _cover(actor.shape, place, size * scale, angle)[..., None]
        return picture + cover * (rgb - picture)

    return paint


def _cover(shape: str, place: Pixels, radius: float, turn: float) -> Pixels:
    """Return how much of each pixel a shape covers, 0 to 1; a soft edge of a pixel."""
    across, down = _X - place[0], _Y - place[1]
    distance, angle = np.hypot(across, down), np.arctan2(across, -down) - turn  # 0 is up, clockwise
    cover = np.clip(RADII[shape](angle) * radius - distance + 0.5, 0, 1)
    hole = np.clip(distance - HOLE * radius + 0.5, 0, 1) if shape == "ring" else 1.0
    return np.asarray(cover * hole)


def films_of(kind: str, count: int, seed: int, *, shapes: tuple[str, ...] = SHAPES) -> list[Film]:
    """Return films; every pair of a shape and a colour comes equally often, in a random order.

    Args:
        kind: `plain`: one object; `sparse`: one for 30 to 60 % of the film, and others of the last four shapes, and of
            other colours, in the rest.
        shapes: those of the object.
    """
    rng = np.random.default_rng([seed, len(kind), len(shapes), count])
    pairs = [(shape, colour) for shape in shapes for colour in COLOURS]
    films = []
    for i in range(count):
        if i % len(pairs) == 0:
            rng.shuffle(pairs)
        shape, colour = pairs[i % len(pairs)]
        one = (Actor(shape, colour, _motion(shape, rng)),)
        actors = _sparse(shape, colour, rng) if kind == "sparse" else one
        films.append(Film(actors, int(rng.integers(2**31))))
    return films


def _motion(shape: str, rng: np.random.Generator) -> str:
    motions = [motion for motion in MOTIONS if motion != "spinning" or shape not in ROUND]
    return str(rng.choice(motions))


def _sparse(shape: str, colour: str, rng: np.random.Generator) -> tuple[Actor, ...]:
    long = rng.uniform(0.3, 0.6)
    start = rng.uniform(0, 1 - long)
    actors = [
        Actor(shape, colour, "still" if rng.random() < 0.3 else str(rng.choice(list(DIRECTIONS))), start, start + long)
    ]
    others = [other for other in COLOURS if other != colour]
    for begin, end in ((0.0, start), (start + long, 1.0)):
        if end - begin > 0.05:
            passer = str(rng.choice(SHAPES[4:]))
            actors.append(Actor(passer, str(rng.choice(others)), str(rng.choice(list(DIRECTIONS))), begin, end))
    return tuple(actors)
