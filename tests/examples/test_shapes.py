import colorsys
import csv
import math
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from shapes import (
    BACKGROUNDS,
    COLOURS,
    EVERY_MOTION,
    FPS,
    HELD_OUT,
    KINDS,
    MOTIONS,
    NEW_MOTIONS,
    SHAPES,
    Dice,
    Scenes,
    draw_scenes,
    frame_times,
    hsv_to_rgb,
    one,
    pose,
    render,
    signed_distance,
    write_clip_of,
    write_clips,
)
from torch import Tensor

from bike_cli.config import SamplingConfig
from bike_cli.records import Source
from bike_cli.video.decoding import decode

MANY = 4096


def kept(scenes: Scenes, wanted: Tensor) -> Scenes:
    return Scenes(**{name: value[wanted] for name, value in vars(scenes).items()})


def on_black(motion: str) -> Scenes:
    """Return a dozen noiseless scenes of one object with this motion before black."""
    scenes = draw_scenes(Dice(0), MANY)
    fits = (scenes.motion[:, 0] == MOTIONS.index(motion)) & (scenes.background == BACKGROUNDS.index("black"))
    scenes = kept(scenes, fits.nonzero().flatten()[:12])
    return replace(scenes, noise=torch.zeros(12), mark=torch.zeros(12, 1), outline=torch.full((12, 1), -1.0))


def coverage(scenes: Scenes, *times: float) -> Tensor:
    """Return how far each pixel stands out of the black, [B, T, S, S]."""
    frames = render(scenes, torch.tensor(times).expand(len(scenes), -1), Dice(0)).float()
    return (frames.amax(-1) - 40).clamp(min=0)


def centroid(lit: Tensor) -> Tensor:
    """Return the middle (x, y) of what is lit in [..., S, S]."""
    axis = torch.arange(lit.shape[-1], dtype=torch.float32)
    total = lit.sum((-2, -1))
    return torch.stack([(lit.sum(-2) * axis).sum(-1) / total, (lit.sum(-1) * axis).sum(-1) / total], -1)


# -- Drawing ------------------------------------------------------------------------------------------------------


def test_a_fifth_of_all_pairs_is_held_out_and_every_word_is_still_seen() -> None:
    seen = {(s, c) for s in range(len(SHAPES)) for c in range(len(COLOURS))} - HELD_OUT

    assert len(HELD_OUT) / 64 == pytest.approx(0.2, abs=0.01)
    assert {s for s, _ in seen} == set(range(len(SHAPES)))
    assert {c for _, c in seen} == set(range(len(COLOURS)))


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("apart", [False, True])
def test_no_object_is_of_a_held_out_pair(kind: str, apart: bool) -> None:
    scenes = draw_scenes(Dice(1), MANY, kind, held_out=False, apart=apart)

    drawn = set(zip(scenes.shape.flatten().tolist(), scenes.colour.flatten().tolist(), strict=True))

    assert not drawn & HELD_OUT


def test_the_named_object_is_of_a_held_out_pair_when_asked_for() -> None:
    scenes = draw_scenes(Dice(1), MANY, "pair", held_out=True)

    named = set(zip(scenes.shape[:, 0].tolist(), scenes.colour[:, 0].tolist(), strict=True))

    assert named == HELD_OUT


def test_apart_keeps_the_shapes_of_passers_by_from_the_named_ones() -> None:
    scenes = draw_scenes(Dice(2), MANY, "passers", held_out=None, apart=True)

    assert set(scenes.shape[:, 0].tolist()) == {0, 1, 2, 3}
    assert set(scenes.shape[:, 1:].flatten().tolist()) == {4, 5, 6, 7}


@pytest.mark.parametrize("kind", ["sparse", "passers"])
def test_a_sparse_object_is_there_for_a_fifth_to_three_fifths(kind: str) -> None:
    scenes = draw_scenes(Dice(3), MANY, kind)

    shares = scenes.stop[:, 0] - scenes.start[:, 0]

    assert 0.199 < float(shares.min()) < 0.21
    assert 0.59 < float(shares.max()) < 0.601


def test_passers_by_take_turns_and_leave_no_gap() -> None:
    scenes = draw_scenes(Dice(4), MANY, "passers")
    times = torch.linspace(0, 0.999, 97)

    in_turn = ((scenes.start[..., None] <= times) & (times < scenes.stop[..., None])).sum(1)  # [B, T]

    # Where one ends as the other begins, a rounding may fall between.
    assert float((in_turn == 1).float().mean()) > 0.999


def test_the_same_seed_draws_and_renders_the_same_bytes() -> None:
    def rendered(seed: int) -> Tensor:
        dice = Dice(seed)
        scenes = draw_scenes(dice, 4, "passers", nameless=0.3)
        return render(scenes, torch.rand(4, 3, generator=torch.Generator().manual_seed(0)), dice, 64)

    assert torch.equal(rendered(5), rendered(5))
    assert not torch.equal(rendered(5), rendered(6))


# -- Motion, measured from pixels ---------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("motion", "axis", "sign"),
    [("moving left", 0, -1), ("moving right", 0, 1), ("moving up", 1, -1), ("moving down", 1, 1)],
)
def test_an_object_moves_the_way_its_motion_says(motion: str, axis: int, sign: int) -> None:
    early, late = centroid(coverage(on_black(motion), 0.3, 0.7)).unbind(1)

    assert bool((sign * (late - early)[:, axis] > 3).all())


def test_a_still_object_is_the_same_at_all_times() -> None:
    first, *others = coverage(on_black("still"), 0.0, 0.4, 0.99).unbind(1)

    assert all(torch.equal(first, other) for other in others)


@pytest.mark.parametrize(("motion", "sign"), [("growing", 1), ("shrinking", -1)])
def test_an_object_that_changes_size_covers_more_or_fewer_pixels(motion: str, sign: int) -> None:
    early, late = (coverage(on_black(motion), 0.1, 0.9) > 0).sum((-2, -1)).unbind(1)

    assert bool((sign * (late - early) > 0).all())


def test_a_spinning_object_changes_in_place() -> None:
    lit = coverage(on_black("spinning"), 0.0, 0.1)

    moved = (centroid(lit)[:, 1] - centroid(lit)[:, 0]).norm(dim=-1)
    changed = (lit[:, 1] - lit[:, 0]).abs().amax((-2, -1))

    assert float(moved.median()) < 2
    assert float(changed.median()) > 30


def test_a_blinking_object_comes_and_goes() -> None:
    scenes = on_black("blinking")

    is_lit = pose(scenes, torch.linspace(0, 0.99, 200).expand(12, -1)).opacity[:, 0] > 0.5

    assert bool((is_lit.any(1) & ~is_lit.all(1)).all())


def posed(motion: str) -> tuple[Scenes, Tensor, Tensor]:
    """Return scenes of a motion without words, and where their objects are and how large at 400 times."""
    scenes = draw_scenes(Dice(0), 400, new_motions=True)
    scenes = kept(scenes, (scenes.motion[:, 0] == EVERY_MOTION.index(motion)).nonzero().flatten()[:24])
    where = pose(scenes, torch.linspace(0, 1, 401)[:-1].expand(len(scenes), -1))
    return scenes, where.centre[:, 0] - scenes.centre, where.radius[:, 0]


def test_motions_without_words_are_all_drawn_and_no_others() -> None:
    scenes = draw_scenes(Dice(1), 400, "pair", new_motions=True)

    assert {EVERY_MOTION[i] for i in scenes.motion.flatten().tolist()} == set(NEW_MOTIONS)


def test_motions_without_words_are_only_drawn_when_asked_for() -> None:
    assert int(draw_scenes(Dice(0), 400, "passers", nameless=0.3).motion.max()) < len(MOTIONS)


def test_an_orbit_keeps_its_distance() -> None:
    _, offset, _ = posed("orbiting")

    distance = offset.norm(dim=-1)

    assert torch.allclose(distance, distance[:, :1].expand_as(distance), atol=1e-5)
    assert float(distance.min()) > 0.1


def test_a_zigzag_turns_sharply_from_side_to_side_and_gets_on() -> None:
    _, offset, _ = posed("zigzagging")

    step = offset[:, 1:] - offset[:, :-1]
    turns = torch.nn.functional.cosine_similarity(step[:, 1:], step[:, :-1], dim=-1) < 0.9

    assert bool((turns.sum(dim=1) >= 1).all())
    assert float((offset[:, -1] - offset[:, 0]).norm(dim=-1).min()) > 0.3


def test_a_swing_hangs_from_one_point_above() -> None:
    scenes, offset, _ = posed("swinging")

    length = 0.25 + 0.2 * scenes.reach  # the pivot's height above the middle of the path
    pivot = torch.stack([torch.zeros_like(length), -length], dim=-1)

    reach = (offset - pivot).norm(dim=-1)
    assert torch.allclose(reach, length.expand_as(reach), atol=1e-5)
    assert bool((offset[..., 0].amax(1) - offset[..., 0].amin(1) > 0.1).all())


def test_what_pulses_stays_and_changes_its_size_to_and_fro() -> None:
    scenes, offset, radius = posed("pulsing")

    assert float(offset.abs().max()) == 0
    assert bool((radius.amax(1) > 1.1 * radius.amin(1)).all())
    assert bool(((radius - scenes.radius).abs() <= 0.5 * scenes.radius + 1e-6).all())


def test_what_jumps_leaves_the_ground_and_rests_on_it() -> None:
    _, offset, _ = posed("jumping")

    ground = offset[..., 1].amax(dim=1, keepdim=True)  # y points down
    rests = (offset[..., 1] - ground).abs() < 1e-4

    assert torch.allclose(ground, torch.full_like(ground, 0.12), atol=1e-4)
    assert bool((rests.float().mean(dim=1) > 0.2).all())
    assert bool((offset[..., 1].amin(dim=1) < 0).all())


def test_where_a_jump_is_does_not_depend_on_when_else_it_is_looked_at() -> None:
    scenes, _, _ = posed("jumping")

    alone = pose(scenes, torch.full((len(scenes), 1), 0.7)).centre
    among = pose(scenes, torch.tensor([0.1, 0.7, 0.9]).expand(len(scenes), -1)).centre

    assert torch.equal(alone[:, :, 0], among[:, :, 1])


def test_what_shakes_trembles_fast_about_its_place() -> None:
    scenes, offset, _ = posed("shaking")

    assert float(offset.norm(dim=-1).max()) <= 0.05
    crossings = ((offset[:, 1:] * offset[:, :-1]).sum(-1) < 0).sum(dim=1)
    assert bool((crossings >= 2 * 4 * scenes.duration_s).all())


def test_outside_its_window_an_object_leaves_no_trace() -> None:
    scenes = replace(on_black("still"), start=torch.full((12, 1), 0.5))

    before, after = coverage(scenes, 0.4, 0.6).amax((-2, -1)).unbind(1)

    assert bool((before == 0).all())
    assert bool((after > 0).all())


# -- Geometry and colour ------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("shape", "area"),
    [("circle", math.pi * 0.95**2), ("square", 1.64**2), ("diamond", 2 * 0.775), ("ring", math.pi * (1 - 0.625**2))],
)
def test_a_shape_covers_the_area_that_geometry_says(shape: str, area: float) -> None:
    axis = torch.linspace(-1.5, 1.5, 601)
    x, y = torch.meshgrid(axis, axis, indexing="xy")

    inside = signed_distance(torch.tensor([SHAPES.index(shape)]), x, y, torch.tensor(0.5)) < 0

    assert float(inside.sum()) * 0.005**2 == pytest.approx(area, rel=0.01)


def test_one_scene_has_the_same_distances_as_among_others() -> None:
    x, y = torch.randn(2, 8, 50, generator=torch.Generator().manual_seed(0))
    shapes, build = torch.arange(8)[:, None], torch.full((8, 1), 0.3)

    together = signed_distance(shapes, x, y, build)

    alone = [signed_distance(shapes[i : i + 1], x[i : i + 1], y[i : i + 1], build[i : i + 1]) for i in range(8)]
    torch.testing.assert_close(together, torch.cat(alone))


def test_hues_become_the_rgb_of_the_standard_library() -> None:
    hsv = np.random.default_rng(0).uniform(0, 1, (20, 3))

    ours = hsv_to_rgb(*(torch.from_numpy(c) for c in (360 * hsv[:, 0], hsv[:, 1], hsv[:, 2])))

    np.testing.assert_allclose(ours, [colorsys.hsv_to_rgb(*row) for row in hsv], atol=1e-6)


# -- Files --------------------------------------------------------------------------------------------------------


@pytest.mark.slow  # over a second of a core
def test_a_file_holds_the_frames_that_were_rendered(tmp_path: Path) -> None:
    scenes = draw_scenes(Dice(6), 1)
    rendered = render(one(scenes, 0), frame_times(scenes, 0), Dice(7))[0]

    path = write_clip_of(scenes, 0, tmp_path / "clip.mp4", seed=7)

    clip = decode(Source.at(path), SamplingConfig(frames=len(rendered)))
    assert clip.duration_s == pytest.approx(len(rendered) / FPS, abs=1e-3)
    assert np.abs(clip.frames[0].astype(float) - rendered.numpy()).mean() < 8


@pytest.mark.slow
def test_truth_tells_every_clip_beside_it(tmp_path: Path) -> None:
    scenes = draw_scenes(Dice(8), 3)

    write_clips(tmp_path, scenes, seed=0)

    with (tmp_path / "truth.csv").open(newline="") as file:
        rows = list(csv.DictReader(file))
    assert [row["path"] for row in rows] == sorted(path.name for path in tmp_path.glob("*.mp4"))
    assert [SHAPES.index(row["shape"]) for row in rows] == scenes.shape[:, 0].tolist()
    assert [MOTIONS.index(row["motion"]) for row in rows] == scenes.motion[:, 0].tolist()
