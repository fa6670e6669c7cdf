"""A second renderer of the bundled model's vocabulary, written from its words alone; it took no part in training.

    python tests/examples/other_renderer.py FOLDER --kind passers --count 256

Where `examples/shapes.py` has signed distances on tensors, this one draws polygons with Pillow, four times too large,
and makes them smaller. Colours are the named ones of CSS, with a little leeway.
"""

from __future__ import annotations

import argparse
import colorsys
import csv
import math
import random
from collections.abc import Iterator
from dataclasses import dataclass, replace
from pathlib import Path

import av
import numpy as np
from PIL import Image, ImageColor, ImageDraw

SIDE_PX, OVERSAMPLING = 128, 4
SHAPES = ("circle", "square", "triangle", "star", "heart", "diamond", "cross", "ring")
COLOURS = {
    "red": ("red", "red", "crimson"),
    "green": ("green", "forestgreen", "limegreen", "lime"),
    "blue": ("blue", "mediumblue", "royalblue"),
    "yellow": ("yellow", "yellow", "gold"),
    "orange": ("orange", "darkorange"),
    "purple": ("purple", "darkviolet", "darkorchid"),
    "pink": ("pink", "hotpink", "lightpink"),
    "white": ("white", "white", "snow"),
}
DIRECTIONS = {"left": (-1, 0), "right": (1, 0), "up": (0, -1), "down": (0, 1)}
MOTIONS = (
    "still",
    *(f"moving {side}" for side in DIRECTIONS),
    "bouncing",
    "spinning",
    "growing",
    "shrinking",
    "blinking",
)
BACKGROUNDS = ("black", "grey", "stripes", "checkerboard", "gradient", "noise")
RADII_PX = {"small": (11, 16), "big": (27, 38)}
KINDS = ("plain", "passers")
# What patterns are made of: a dull colour, and the name that it might be taken for.
DULL = (
    *(((level, level, level), "") for level in (28, 52, 80, 112, 140)),
    *((rgb, "blue") for rgb in ((47, 60, 72), (70, 82, 96))),
    *((rgb, "green") for rgb in ((58, 72, 58), (84, 96, 80))),
    *((rgb, "orange") for rgb in ((92, 78, 66), (70, 58, 50))),
    ((74, 62, 80), "purple"),
)
CONTRAST = 165  # the least distance of an object's colour from all behind it

RGB = tuple[int, int, int]


# -- Colours and backgrounds --------------------------------------------------------------------------------------


def draw_rgb(rng: random.Random, colour: str) -> RGB:
    """Return a colour that the word means."""
    red, green, blue = ImageColor.getrgb(rng.choice(COLOURS[colour]))[:3]
    h, s, v = colorsys.rgb_to_hsv(red / 255, green / 255, blue / 255)
    if colour != "white":
        h, s = (h + rng.uniform(-6, 6) / 360) % 1, min(1, s * rng.uniform(0.92, 1.05))
    red, green, blue = (round(255 * c) for c in colorsys.hsv_to_rgb(h, s, min(1, v * rng.uniform(0.93, 1.05))))
    return red, green, blue


def distance(a: RGB, b: RGB) -> float:
    """Return how different two colours look ("redmean")."""
    red = (a[0] + b[0]) / 2
    dr, dg, db = (x - y for x, y in zip(a, b, strict=True))
    return math.sqrt((2 + red / 256) * dr * dr + 4 * dg * dg + (2 + (255 - red) / 256) * db * db)


@dataclass(frozen=True)
class Background:
    """What lies behind: a picture, its colours, and the names they might be taken for."""

    image: Image.Image
    palette: tuple[RGB, ...]
    names: frozenset[str] = frozenset()
    flicker: tuple[float, float] | None = None  # mean and deviation of noise that is new in every frame

    def suits(self, colour: str, rgb: RGB) -> bool:
        """Return whether an object of this colour stands out."""
        return colour not in self.names and min(distance(rgb, other) for other in self.palette) > CONTRAST

    def frame(self, noise: np.random.Generator) -> Image.Image:
        """Return the next frame."""
        return _grain(noise, *self.flicker) if self.flicker else self.image


def _grain(noise: np.random.Generator, mean: float, deviation: float) -> Image.Image:
    pixels = noise.normal(mean, deviation, (SIDE_PX, SIDE_PX, 1)).clip(0, 255)
    return Image.fromarray(pixels.repeat(3, axis=2).astype(np.uint8))


def draw_background(rng: random.Random, name: str) -> Background:
    """Return a background of this name."""
    if name in ("black", "grey"):
        level = 0 if name == "black" else rng.choice((80, 96, 105, 120, 128, 140)) + rng.randint(-5, 5)
        return Background(Image.new("RGB", (SIDE_PX, SIDE_PX), (level,) * 3), ((level,) * 3,))
    if name == "noise":
        mean, deviation = rng.randint(50, 115), rng.randint(14, 28)
        image = _grain(np.random.default_rng(rng.getrandbits(32)), mean, deviation)
        palette = tuple((max(0, int(mean + k * deviation)),) * 3 for k in (-1.3, 0, 1.3))
        return Background(image, palette, flicker=(mean, deviation) if rng.random() < 0.4 else None)
    (a, looks_a), (b, looks_b) = rng.sample(DULL, 2)
    while distance(a, b) < 60:
        (a, looks_a), (b, looks_b) = rng.sample(DULL, 2)
    middle = tuple((x + y) // 2 for x, y in zip(a, b, strict=True))
    palette = (a, b, middle) if name == "gradient" else (a, b)
    return Background(_pattern(rng, name, a, b), palette, frozenset((looks_a, looks_b)))


def _pattern(rng: random.Random, name: str, a: RGB, b: RGB) -> Image.Image:
    x, y = np.meshgrid(np.arange(SIDE_PX), np.arange(SIDE_PX))
    if rng.random() < 0.5:
        x, y = y, x
    cell = rng.choice((8, 10, 12, 16, 20))
    across, down = (x + rng.randrange(2 * cell)) // cell, (y + rng.randrange(2 * cell)) // cell
    share = {"gradient": y / (SIDE_PX - 1), "stripes": across % 2, "checkerboard": (across + down) % 2}[name]
    pixels = np.array(a) * (1 - share[..., None]) + np.array(b) * share[..., None]
    return Image.fromarray(pixels.round().astype(np.uint8))


# -- Objects ------------------------------------------------------------------------------------------------------


def polygon(shape: str) -> list[tuple[float, float]]:
    """Return a shape's corners in about the unit circle, y down."""
    if shape == "square":
        return [(-0.85, -0.85), (0.85, -0.85), (0.85, 0.85), (-0.85, 0.85)]
    if shape == "triangle":
        return [(math.sin(turn), 0.12 - math.cos(turn)) for turn in (0, math.tau / 3, 2 * math.tau / 3)]
    if shape == "diamond":
        return [(0, -1), (0.7, 0), (0, 1), (-0.7, 0)]
    if shape == "star":
        reach = [1.05, 0.42] * 5
        return [(r * math.sin(k * math.pi / 5), -r * math.cos(k * math.pi / 5)) for k, r in enumerate(reach)]
    if shape == "cross":
        near, far = 0.33, 1.0
        arm = [(-near, -far), (near, -far), (near, -near)]
        return [_turned(x, y, quarters * math.pi / 2) for quarters in range(4) for x, y in arm]
    turns = [math.tau * k / 72 for k in range(72)]
    heights = [13 * math.cos(t) - 5 * math.cos(2 * t) - 2 * math.cos(3 * t) - math.cos(4 * t) for t in turns]
    return [(16 * math.sin(t) ** 3 / 16.5, -(y + 2.5) / 16.5) for t, y in zip(turns, heights, strict=True)]


def _turned(x: float, y: float, angle: float) -> tuple[float, float]:
    return x * math.cos(angle) - y * math.sin(angle), x * math.sin(angle) + y * math.cos(angle)


def paint(image: Image.Image, shape: str, rgb: RGB, place: Place) -> Image.Image:
    """Return the image with a shape over it."""
    mask = Image.new("L", (SIDE_PX * OVERSAMPLING,) * 2, 0)
    x, y, radius = (v * OVERSAMPLING for v in (place.x, place.y, place.radius))
    pen = ImageDraw.Draw(mask)
    if shape in ("circle", "ring"):
        outer, inner = 0.95 * radius, 0.57 * radius
        pen.ellipse((x - outer, y - outer, x + outer, y + outer), fill=255)
        if shape == "ring":
            pen.ellipse((x - inner, y - inner, x + inner, y + inner), fill=0)
    else:
        corners = (_turned(u, v, place.angle) for u, v in polygon(shape))
        pen.polygon([(x + radius * u, y + radius * v) for u, v in corners], fill=255)
    painted = image.copy()
    painted.paste(rgb, (0, 0, SIDE_PX, SIDE_PX), mask.reduce(OVERSAMPLING))
    return painted


@dataclass(frozen=True)
class Place:
    """Where an object is: centre and radius in pixels, y down, angle in radians."""

    x: float
    y: float
    radius: float
    angle: float


@dataclass(frozen=True)
class Thing:
    """One object, there from one second to another."""

    shape: str
    colour: str
    rgb: RGB
    size: str
    motion: str
    start_s: float
    stop_s: float
    first: Place
    velocity: tuple[float, float] = (0, 0)  # pixels a second
    turn: float = 0  # radians a second
    scales: tuple[float, float] = (1, 1)  # of the radius, at the start and at the stop
    blinks_hz: float = 0

    def at(self, time_s: float) -> Place | None:
        """Return where the object is; None when it cannot be seen."""
        own_s = time_s - self.start_s
        if not 0 <= own_s < self.stop_s - self.start_s or (own_s * self.blinks_hz) % 1 >= 0.5:
            return None
        x, y = (c + v * own_s for c, v in zip((self.first.x, self.first.y), self.velocity, strict=True))
        radius = self.first.radius
        if self.motion == "bouncing":
            x, y = _folded(x, radius), _folded(y, radius)
        begin, end = self.scales
        scale = begin + (end - begin) * own_s / (self.stop_s - self.start_s)
        return Place(x, y, radius * scale, self.first.angle + self.turn * own_s)


def _folded(path: float, edge: float) -> float:
    room = SIDE_PX - 2 * edge
    way = (path - edge) % (2 * room)
    return edge + min(way, 2 * room - way)


def draw_thing(rng: random.Random, shape: str, colour: str, rgb: RGB, span_s: tuple[float, float]) -> Thing:
    """Return an object of any size and motion; `span_s`: when it is there."""
    long_s = span_s[1] - span_s[0]
    visits = span_s[0] > 0 or long_s < 1
    size, motion = rng.choice(list(RADII_PX)), rng.choice([m for m in MOTIONS if _shows(m, shape, visits=visits)])
    radius = rng.uniform(*RADII_PX[size])
    edge = min(radius * (1.24 if motion in ("growing", "shrinking") else 0.95), 60)
    first = Place(*(rng.uniform(edge, SIDE_PX - edge) for _ in "xy"), radius, math.radians(rng.uniform(-8, 8)))
    common = Thing(shape, colour, rgb, size, motion, *span_s, first)
    if motion.startswith("moving"):
        return _draw_move(rng, common, long_s)
    if motion == "bouncing":
        speed = max(rng.uniform(70, 130), rng.uniform(1.6, 2.4) * (SIDE_PX - 2 * radius) / long_s)
        way = math.radians(rng.uniform(25, 65) + 90 * rng.randrange(4))
        return replace(common, velocity=(speed * math.cos(way), speed * math.sin(way)))
    if motion == "spinning":
        return replace(common, turn=rng.choice((-1, 1)) * math.radians(rng.uniform(120, 300)))
    if motion in ("growing", "shrinking"):
        scales = (rng.uniform(0.35, 0.5), rng.uniform(1.15, 1.3))
        return replace(common, scales=scales if motion == "growing" else scales[::-1])
    return replace(common, blinks_hz=rng.uniform(1.5, 3)) if motion == "blinking" else common


def _shows(motion: str, shape: str, *, visits: bool) -> bool:
    turns_unseen = motion == "spinning" and shape in ("circle", "ring")
    return not turns_unseen and not (motion == "blinking" and visits)


def _draw_move(rng: random.Random, thing: Thing, long_s: float) -> Thing:
    room = SIDE_PX - 1.4 * thing.first.radius
    way_px = min(rng.uniform(40, 100) * long_s, rng.uniform(0.75, 1) * room)
    middle = SIDE_PX / 2 + rng.uniform(-0.5, 0.5) * (room - way_px)
    across, down = DIRECTIONS[thing.motion.removeprefix("moving ")]
    start = {"x": middle - across * way_px / 2} if across else {"y": middle - down * way_px / 2}
    return replace(
        thing, first=replace(thing.first, **start), velocity=(across * way_px / long_s, down * way_px / long_s)
    )


# -- Clips --------------------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Scene:
    """A background and the objects before it, the named one first."""

    background_name: str
    background: Background
    things: tuple[Thing, ...]
    duration_s: float


def draw_scene(rng: random.Random, shape: str, colour: str, kind: str) -> Scene:
    """Return a scene of one object, or (`passers`) of one for a part of the time and others for the rest."""
    duration_s = rng.uniform(1, 4)
    name = rng.choice(BACKGROUNDS)
    background, rgb = draw_background(rng, name), draw_rgb(rng, colour)
    while not background.suits(colour, rgb):
        background, rgb = draw_background(rng, name), draw_rgb(rng, colour)
    if kind == "plain":
        return Scene(name, background, (draw_thing(rng, shape, colour, rgb, (0, duration_s)),), duration_s)
    long_s = rng.uniform(0.22, 0.58) * duration_s
    start_s = rng.uniform(0, duration_s - long_s)
    things = [draw_thing(rng, shape, colour, rgb, (start_s, start_s + long_s))]
    for begin_s, end_s in ((0, start_s), (start_s + long_s, duration_s)):
        visitors = rng.randint(1, max(1, min(3, int(2.5 * (end_s - begin_s)))))
        step_s = (end_s - begin_s) / visitors
        spans = [(begin_s + k * step_s, begin_s + (k + 1) * step_s) for k in range(visitors)]
        things += [_draw_visitor(rng, background, colour, span_s) for span_s in spans]
    return Scene(name, background, tuple(things), duration_s)


def _draw_visitor(rng: random.Random, background: Background, not_colour: str, span_s: tuple[float, float]) -> Thing:
    """Return an object of one of the last four shapes, and of another colour than the named one."""
    while True:
        colour = rng.choice([c for c in COLOURS if c != not_colour])
        rgb = draw_rgb(rng, colour)
        if background.suits(colour, rgb):
            return draw_thing(rng, rng.choice(SHAPES[4:]), colour, rgb, span_s)


def frames_of(scene: Scene, rng: random.Random, fps: int) -> Iterator[np.ndarray]:
    """Yield the frames, uint8 [H, W, 3], with the camera's noise."""
    noise = np.random.default_rng(rng.getrandbits(32))
    deviation = rng.uniform(0.8, 4)
    for i in range(round(scene.duration_s * fps)):
        image = scene.background.frame(noise)
        for thing in scene.things:
            place = thing.at(i / fps)
            if place is not None:
                image = paint(image, thing.shape, thing.rgb, place)
        pixels = np.asarray(image, np.float32) + deviation * noise.standard_normal((SIDE_PX, SIDE_PX, 3), np.float32)
        yield pixels.round().clip(0, 255).astype(np.uint8)


def write_clip(path: Path, shape: str, colour: str, kind: str, rng: random.Random) -> dict[str, str]:
    """Write one clip as H.264 and return the words for its named object."""
    scene, fps = draw_scene(rng, shape, colour, kind), rng.choice((24, 25, 30))
    with av.open(str(path), "w") as container:
        stream = container.add_stream("libx264", rate=fps, options={"crf": str(rng.randint(21, 25))})
        stream.width, stream.height, stream.pix_fmt = SIDE_PX, SIDE_PX, "yuv420p"
        for pixels in frames_of(scene, rng, fps):
            container.mux(stream.encode(av.VideoFrame.from_ndarray(pixels, format="rgb24")))
        container.mux(stream.encode())
    thing = scene.things[0]
    words = {"shape": shape, "colour": colour, "size": thing.size, "motion": thing.motion}
    return {"path": path.name, **words, "background": scene.background_name}


def write_clips(folder: Path, kind: str, count: int, seed: int = 0) -> list[dict[str, str]]:
    """Write clips and `truth.csv`, and return its rows; every pair comes as often, and passers-by leave four shapes."""
    shapes = SHAPES[:4] if kind == "passers" else SHAPES
    pairs = [(shape, colour) for shape in shapes for colour in COLOURS]
    order = random.Random(f"{kind}/{seed}")
    todo = [pair for _ in range(0, count, len(pairs)) for pair in order.sample(pairs, len(pairs))][:count]
    folder.mkdir(parents=True, exist_ok=True)
    rows = [
        write_clip(folder / f"{i:05d}.mp4", shape, colour, kind, random.Random(f"{kind}/{seed}/{i}"))
        for i, (shape, colour) in enumerate(todo)
    ]
    with (folder / "truth.csv").open("w", encoding="utf-8", newline="") as file:
        writer = csv.DictWriter(file, fieldnames=list(rows[0]))
        writer.writeheader()
        writer.writerows(rows)
    return rows


def main() -> None:
    """Write clips and `truth.csv` into a folder."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("folder", type=Path)
    parser.add_argument("--kind", choices=KINDS, default="plain")
    parser.add_argument("--count", type=int, default=64)
    parser.add_argument("--seed", type=int, default=0)
    options = parser.parse_args()
    write_clips(options.folder, options.kind, options.count, options.seed)


if __name__ == "__main__":
    main()
