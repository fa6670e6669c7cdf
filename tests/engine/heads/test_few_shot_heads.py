"""Few-shot heads, each compared with a slow plain reference, under helpful and misleading texts."""

import math
from collections.abc import Callable, Sequence
from dataclasses import replace
from typing import NamedTuple

import numpy as np
import pytest
import torch
from hypothesis import assume, given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray
from torch import Tensor

from bike_cli.engine.heads.few_shot import (
    FIRM,
    FOLDS,
    HOLDS,
    LOOSE,
    SLACK,
    TIP_ALPHA,
    TIP_ALPHAS,
    TIP_BETA,
    TIP_BETAS,
    TRUST_STEPS,
    Head,
    Views,
    as_views,
    join_logits,
    linear_probe,
    prototypes,
    tip_adapter,
    zero_shot,
)
from bike_cli.engine.scoring import unit
from bike_cli.engine.spotting import ClassTexts, concept_scores, mean_scores, saliency
from bike_cli.engine.voters import Voters

Floats = NDArray[np.float64]
Fit = Callable[[Views, Tensor, Tensor, float], Head]

FITS: dict[str, Fit] = {
    "zero_shot": lambda shots, classes, text, scale: zero_shot(text, scale),
    "prototypes": prototypes,
    "tip_adapter": tip_adapter,
    "linear_probe": linear_probe,
}
SCALE = 20.0
DIM = 8
each_fit = pytest.mark.parametrize("fit", FITS.values(), ids=FITS.keys())
seeds = st.integers(0, 2**31)
few = settings(max_examples=20)
fewer = settings(max_examples=5)


# -- a world of videos -------------------------------------------------------------------------------------------------


class World(NamedTuple):
    """Return shots, test videos and the direction of each class."""

    shots: Views
    classes: Tensor
    tests: Views
    truth: Tensor
    looks: Tensor


def vectors(seed: int, *shape: int) -> Tensor:
    return unit(torch.randn(*shape, generator=torch.Generator().manual_seed(seed), dtype=torch.float64))


def filmed(seed: int, looks: Tensor, classes: Tensor, noise: float) -> Views:
    """Return videos of three frames that look like their class, with random weights."""
    rng = torch.Generator().manual_seed(seed)
    off = torch.randn(len(classes), 3, looks.shape[1], generator=rng, dtype=torch.float64)
    votes = torch.randn(len(classes), len(looks), 3, generator=rng, dtype=torch.float64)
    return Views(unit(looks[classes][:, None] + noise * off), torch.softmax(votes, dim=-1))


def world(seed: int, classes: Sequence[int], noise: float = 0.3) -> World:
    of_shots, truth = torch.tensor(classes), torch.arange(max(classes) + 1).repeat(20)
    looks = vectors(seed, len(set(classes)), DIM)
    return World(
        filmed(seed + 1, looks, of_shots, noise), of_shots, filmed(seed + 2, looks, truth, noise), truth, looks
    )


def half_right(looks: Tensor) -> Tensor:
    """Return a text that separates all classes except the last two, which it confuses."""
    return looks[[*range(len(looks) - 2), -1, -2]]


def single(videos: Views) -> Views:
    return Views(videos.frames.float(), videos.weights.float())


def share_right(head: Head, videos: Views, truth: Tensor) -> float:
    return float((head.logits(videos).argmax(dim=1) == truth).double().mean())


# -- slow plain references ---------------------------------------------------------------------------------------------


def seen_by(videos: Views, v: int, c: int) -> Floats:
    """Return the vector of video v for class c, computed frame by frame."""
    total = np.zeros(videos.frames.shape[2])
    for frame, weight in zip(videos.frames[v].double().numpy(), videos.weights[v, c].double().numpy(), strict=True):
        total += weight * frame
    return total


def all_seen(videos: Views) -> Floats:
    """Return the vector of each video for each class, [V, C, D]."""
    classes = videos.weights.shape[1]
    return np.array([[seen_by(videos, v, c) for c in range(classes)] for v in range(len(videos))])


def length_one(vector: Floats) -> Floats:
    return vector / math.sqrt(sum(float(x) ** 2 for x in vector))


def slow_likelihood(logits: Floats, classes: Sequence[int]) -> float:
    def surprise(row: Floats, c: int) -> float:
        highest = float(max(row))
        return highest + math.log(sum(math.exp(z - highest) for z in row)) - float(row[c])

    return -math.fsum(surprise(row, c) for row, c in zip(logits, classes, strict=True))


def slow_cache(seen: Floats, keys: Sequence[Floats], key_classes: Sequence[int], beta: float) -> Floats:
    """Return what the keys of each class add to its logit, for one video and its vector per class [C, D]."""
    added = np.zeros(len(seen))
    for key, c in zip(keys, key_classes, strict=True):
        added[c] += math.exp(-beta * (1 - float(seen[c] @ key)))
    return added


class Standard(NamedTuple):
    """The vectors of shots for each class, [N, C, D], centred and divided by their spread; their mean and spread."""

    seen: Floats
    centre: Floats
    spread: float


def standard(shots: Views, classes: Tensor) -> Standard:
    own = np.array([seen_by(shots, v, c) for v, c in enumerate(classes.tolist())])
    centre = sum(own) / len(own)
    spread = math.sqrt(sum(float((z - centre) @ (z - centre)) for z in own) / len(own))
    return Standard((all_seen(shots) - centre) / spread, centre, spread)


def slopes(seen: Floats, base: Floats, classes: Sequence[int], hold: float, change: Floats) -> tuple[Floats, Floats]:
    """Return the gradient [C, D] and the curvature [C * D, C * D] of the probe's loss, by hand."""
    count, dim = change.shape
    gradient, curvature = hold * change, hold * np.eye(count * dim)
    for z, told, truth in zip(seen, base, classes, strict=True):
        logits = told + (z * change).sum(axis=1)
        chances = np.exp(logits - logits.max())
        chances /= chances.sum()
        gradient = gradient + (chances - np.eye(count)[truth])[:, None] * z
        between = np.diag(chances) - np.outer(chances, chances)
        curvature += np.einsum("ab,ad,be->adbe", between, z, z).reshape(count * dim, count * dim)
    return gradient, curvature


def slow_change(seen: Floats, base: Floats, classes: Sequence[int], hold: float) -> Floats:
    """Return the change that minimises the probe's loss, by Newton's method."""
    change = np.zeros(seen.shape[1:])
    for _ in range(50):
        gradient, curvature = slopes(seen, base, classes, hold, change)
        step = np.linalg.solve(curvature, gradient.ravel()).reshape(change.shape)
        change = change - min(1.0, 2 / float(np.linalg.norm(step) + 1e-12)) * step
    assert float(np.abs(slopes(seen, base, classes, hold, change)[0]).max()) < 1e-6
    return change


def slow_trust(told: Floats, classes: Sequence[int], most: float, steps: int = TRUST_STEPS) -> float:
    scales = [most * i / (steps - 1) for i in range(steps)]
    found = [slow_likelihood(scale * told, classes) for scale in scales]
    return max(scale for scale, likelihood in zip(scales, found, strict=True) if likelihood >= max(found) - SLACK)


def cosines(videos: Views, text: Tensor) -> Floats:
    told: Floats = (all_seen(videos) * text.double().numpy()).sum(axis=2)
    return told


def slow_validation(shots: Views, classes: Tensor, text: Tensor) -> dict[float, float]:
    """Return the likelihood of shots that were left out of a fit, for each hold."""
    seen, told, truth = standard(shots, classes).seen, cosines(shots, text), classes.tolist()
    folds = min(*(truth.count(c) for c in set(truth)), FOLDS)
    fold = [truth[:i].count(c) % folds for i, c in enumerate(truth)]
    found = dict.fromkeys(HOLDS, 0.0)
    for left_out in range(folds):
        kept, out = ([i for i, f in enumerate(fold) if (f == left_out) == gone] for gone in (False, True))
        kept_truth, out_truth = ([truth[i] for i in places] for places in (kept, out))
        trust = slow_trust(told[kept], kept_truth, SCALE)
        for hold in HOLDS:
            change = slow_change(seen[kept], trust * told[kept], kept_truth, hold)
            found[hold] += slow_likelihood(trust * told[out] + (seen[out] * change).sum(axis=2), out_truth)
    return found


# -- what a head says --------------------------------------------------------------------------------------------------


@few
@given(seed=seeds, keys=st.integers(0, 5))
def test_logits_are_a_line_and_a_cache(seed: int, keys: int) -> None:
    videos = world(seed, (0, 1, 2, 2)).tests[:6]
    key_classes = torch.randint(3, (keys,), generator=torch.Generator().manual_seed(seed))
    head = Head(vectors(seed, 3, DIM), vectors(seed + 1, 3), vectors(seed + 2, keys, DIM), key_classes, 1.7, 4.0)

    logits = head.logits(videos)

    seen = all_seen(videos)
    cached = [slow_cache(z, list(head.keys.numpy()), key_classes.tolist(), 4.0) for z in seen]
    expected = (seen * head.weight.numpy()).sum(axis=2) + head.bias.numpy() + 1.7 * np.array(cached)
    assert np.allclose(logits.numpy(), expected, atol=1e-12)


def test_each_class_weights_the_frames_of_a_video_itself() -> None:
    frames = torch.eye(3)[None].expand(2, 3, 3)
    weights = torch.tensor([[0.2, 0.3, 0.5], [1.0, 0.0, 0.0]])[None].expand(2, 2, 3)

    own = Views(frames, weights).own(torch.tensor([1, 0]))

    assert torch.allclose(own, torch.tensor([[1.0, 0.0, 0.0], [0.2, 0.3, 0.5]]))


def test_some_of_the_videos_are_scored_as_before() -> None:
    videos, directions = world(0, (0, 1, 2)).tests, vectors(9, 3, DIM)
    chosen = torch.tensor([4, 0, 7])

    assert len(videos[chosen]) == 3
    assert torch.allclose(videos[chosen].scores(directions), videos.scores(directions)[chosen])


def test_a_head_moves_with_all_that_it_holds() -> None:
    shots, classes, *_, looks = world(0, (0, 1, 2, 0, 1, 2))
    head = tip_adapter(shots, classes, looks, SCALE)

    moved = head.to(torch.device("meta"))

    assert all(part.is_meta for part in (moved.weight, moved.bias, moved.keys, moved.key_classes))
    assert (moved.alpha, moved.beta, moved.chosen) == (head.alpha, head.beta, head.chosen)
    assert moved.weight.shape == head.weight.shape


# -- a video's views ---------------------------------------------------------------------------------------------------


@few
@given(seed=seeds, views=st.integers(1, 4), length=st.integers(1, 5))
def test_views_in_a_row_score_as_their_mean(seed: int, views: int, length: int) -> None:
    raw, tokens, text = 3 * vectors(seed, views, length, DIM), vectors(seed + 1, 3, 2, DIM), vectors(seed + 2, 3, DIM)

    frames, weights = as_views(raw, ClassTexts(text, Voters.among(tokens, None), 0.1))

    frames_of_views = unit(raw)
    of_views = concept_scores(frames_of_views, saliency(frames_of_views, tokens, 0.1), text)
    assert torch.allclose(Views(frames[None], weights[None]).scores(text)[0], of_views.mean(dim=0))
    assert torch.allclose(weights.sum(dim=1), torch.ones(3, dtype=torch.float64))


@few
@given(seed=seeds, views=st.integers(1, 4))
def test_without_voters_a_view_is_the_mean_of_its_raw_frames(seed: int, views: int) -> None:
    raw = torch.randn(views, 4, DIM, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)
    text = vectors(seed + 1, 3, DIM)

    frames, weights = as_views(raw, ClassTexts(text, None, 0.1))

    assert (frames.shape, weights.shape) == ((views, DIM), (1, views))
    scores = Views(frames[None], weights[None]).scores(text)[0]
    assert torch.allclose(scores, mean_scores(raw, text).mean(dim=0))


@each_fit
@pytest.mark.parametrize("classes", [(0, 1, 2), (0, 1, 2, 0, 1, 2)])
def test_frames_without_weight_change_nothing(fit: Fit, classes: tuple[int, ...]) -> None:
    shots, of_shots, tests, _, looks = world(3, classes)
    text = half_right(looks)

    def padded(videos: Views) -> Views:
        pad = torch.nn.functional.pad
        return Views(pad(videos.frames, (0, 0, 0, 2)), pad(videos.weights, (0, 2)))

    plain = fit(single(shots), of_shots, text.float(), SCALE)
    head = fit(single(padded(shots)), of_shots, text.float(), SCALE)

    assert torch.allclose(head.logits(single(padded(tests))), plain.logits(single(tests)), atol=1e-3)


# -- the fits ----------------------------------------------------------------------------------------------------------


def test_zero_shot_uses_the_text_alone() -> None:
    *_, tests, _, looks = world(0, (0, 1, 2))

    logits = zero_shot(looks, SCALE).logits(tests)

    assert np.allclose(logits.numpy(), SCALE * cosines(tests, looks))


@few
@given(seed=seeds)
def test_prototypes_are_the_directions_of_the_class_means(seed: int) -> None:
    shots, classes, tests, *_ = world(seed, (0, 2, 1, 2, 0, 2))

    head = prototypes(shots, classes, torch.zeros(3, DIM, dtype=torch.float64), SCALE)

    own = [[seen_by(shots, v, c) for v, label in enumerate(classes.tolist()) if label == c] for c in range(3)]
    expected = np.array([SCALE * length_one(np.sum(videos, axis=0)) for videos in own])
    assert np.allclose(head.weight.numpy(), expected)
    assert np.allclose(head.logits(tests).numpy(), (all_seen(tests) * expected).sum(axis=2))


@few
@given(seed=seeds)
def test_tip_adapter_is_the_text_and_a_cache_of_the_shots(seed: int) -> None:
    shots, classes, tests, _, looks = world(seed, (0, 2, 1, 2, 0, 1))
    truth, text = classes.tolist(), half_right(looks)

    head = tip_adapter(shots, classes, text, SCALE)

    keys = [length_one(seen_by(shots, v, c)) for v, c in enumerate(truth)]
    cached = np.array([slow_cache(seen, keys, truth, head.chosen["beta"]) for seen in all_seen(tests)])
    expected = SCALE * cosines(tests, text) + head.chosen["alpha"] * cached
    assert np.allclose(head.logits(tests).numpy(), expected)


@few
@given(seed=seeds, noise=st.sampled_from([0.2, 0.5]))
def test_tip_adapter_chooses_what_makes_left_out_shots_likeliest(seed: int, noise: float) -> None:
    shots, classes, *_, looks = world(seed, (0, 2, 1, 2, 0, 1, 1), noise)
    truth, text = classes.tolist(), half_right(looks)

    chosen = tip_adapter(shots, classes, text, 3.0).chosen

    seen, base = all_seen(shots), 3.0 * cosines(shots, text)
    keys = [length_one(seen_by(shots, v, c)) for v, c in enumerate(truth)]

    def left_out(alpha: float, beta: float) -> float:
        others = [
            slow_cache(seen[v], keys[:v] + keys[v + 1 :], truth[:v] + truth[v + 1 :], beta) for v in range(len(truth))
        ]
        for v, c in enumerate(truth):  # its class has one key fewer than the others
            others[v][c] *= truth.count(c) / (truth.count(c) - 1)
        return slow_likelihood(base + alpha * np.array(others), truth)

    best = max(left_out(alpha, beta) for beta in TIP_BETAS for alpha in TIP_ALPHAS)
    assert left_out(chosen["alpha"], chosen["beta"]) == pytest.approx(best, abs=1e-9)


@pytest.mark.parametrize("classes", [(0, 1, 2), (0, 0, 1, 2, 2)])
def test_tip_adapter_keeps_the_papers_choice_where_a_class_has_one_shot(classes: tuple[int, ...]) -> None:
    shots, of_shots, *_, looks = world(0, classes)

    head = tip_adapter(shots, of_shots, half_right(looks), SCALE)

    assert (head.alpha, head.beta) == (TIP_ALPHA, TIP_BETA) == (1.0, 5.5)
    assert head.chosen == {"alpha": TIP_ALPHA, "beta": TIP_BETA}


# -- the probe ---------------------------------------------------------------------------------------------------------

MUDDLED = (0, 1, 2, 3, 4)


def change_of(head: Head, text: Tensor, spread: float) -> Floats:
    changed: Floats = (head.weight - head.chosen["trust"] * text).double().numpy() * spread
    return changed


def is_text_alone(head: Head) -> bool:
    """Return whether the text classifies the shots so well that nothing is fitted."""
    return "hold" not in head.chosen


@few
@given(seed=seeds)
def test_the_probe_is_at_the_bottom_of_its_loss(seed: int) -> None:
    shots, classes, *_, looks = world(seed, MUDDLED)
    text = half_right(looks)

    head = linear_probe(shots, classes, text, SCALE)

    assume(not is_text_alone(head))
    seen, _, spread = standard(shots, classes)
    base, change = head.chosen["trust"] * cosines(shots, text), change_of(head, text, spread)
    gradient, _ = slopes(seen, base, classes.tolist(), head.chosen["hold"], change)
    assert np.abs(gradient).max() < 1e-3
    assert np.abs(change).max() > 1e-4  # it changed something


@pytest.mark.slow
@fewer
@given(seed=seeds)
def test_the_probe_of_several_shots_is_at_the_bottom_of_its_loss(seed: int) -> None:
    shots, classes, *_, looks = world(seed, MUDDLED * 3)
    text = half_right(looks)

    head = linear_probe(single(shots), classes, text.float(), SCALE)

    assume(not is_text_alone(head))
    seen, _, spread = standard(shots, classes)
    best = slow_change(seen, head.chosen["trust"] * cosines(shots, text), classes.tolist(), head.chosen["hold"])
    assert np.allclose(change_of(head, text.float(), spread), best, atol=2e-2 * np.abs(best).max())


@few
@given(seed=seeds)
def test_the_bias_subtracts_the_mean_of_the_shots_exactly(seed: int) -> None:
    shots, classes, tests, _, looks = world(seed, MUDDLED)
    text = half_right(looks)

    head = linear_probe(shots, classes, text, SCALE)

    _, centre, spread = standard(shots, classes)
    off_centre = (all_seen(tests) - centre) / spread
    expected = head.chosen["trust"] * cosines(tests, text) + (off_centre * change_of(head, text, spread)).sum(axis=2)
    assert np.allclose(head.logits(tests).numpy(), expected, atol=1e-9)


@few
@given(seed=seeds, scale=st.sampled_from([1.0, SCALE, 100.0]), noise=st.sampled_from([0.1, 0.4, 0.8]))
def test_trust_is_the_largest_scale_that_is_consistent_with_the_shots(seed: int, scale: float, noise: float) -> None:
    shots, classes, *_, looks = world(seed, MUDDLED, noise)
    text = unit(looks + 0.5 * vectors(seed + 7, 5, DIM))

    trust = linear_probe(shots, classes, text, scale).chosen["trust"]

    searched = slow_trust(cosines(shots, text), classes.tolist(), scale, steps=4 * TRUST_STEPS)
    assert trust == pytest.approx(searched, abs=1.5 * scale / (TRUST_STEPS - 1))


@pytest.mark.slow
@fewer
@given(seed=seeds, noise=st.sampled_from([0.3, 0.8]))
def test_the_hold_is_the_likeliest_among_shots_that_were_left_out(seed: int, noise: float) -> None:
    shots, classes, *_, looks = world(seed, (1, 0, 2, 0, 1, 2, 0, 2, 1, 0), noise)
    text = looks[[1, 2, 0]]

    head = linear_probe(single(shots), classes, text.float(), SCALE)

    assume(not is_text_alone(head))
    found = slow_validation(shots, classes, text)
    assert found[head.chosen["hold"]] == pytest.approx(max(found.values()), abs=2e-2)


def test_holds_differ_by_more_than_the_tolerance_of_the_test_above() -> None:
    shots, classes, *_, looks = world(5, (1, 0, 2, 0, 1, 2, 0, 2, 1, 0), 0.8)

    found = slow_validation(shots, classes, looks[[1, 2, 0]])

    assert max(found.values()) - sorted(found.values())[-3] > 0.1


@few
@given(seed=seeds, scale=st.sampled_from([1.0, 5.0, SCALE]))
def test_at_one_shot_the_hold_is_the_firmer_the_more_the_text_is_trusted(seed: int, scale: float) -> None:
    shots, classes, *_, looks = world(seed, (*MUDDLED, 0, 0))  # one shot of some classes is enough

    head = linear_probe(shots, classes, half_right(looks), scale)

    assume(not is_text_alone(head))
    chosen = head.chosen
    share = chosen["trust"] / scale
    assert math.log(chosen["hold"]) == pytest.approx(math.log(LOOSE) + share * (math.log(FIRM) - math.log(LOOSE)))


def test_the_hold_at_one_shot_ends_firm_and_loose() -> None:
    shots, classes, *_, looks = world(0, MUDDLED, noise=0.05)

    trusted = linear_probe(shots, classes, half_right(looks), 0.1).chosen
    misled = linear_probe(shots, classes, looks.roll(1, dims=0), 200.0).chosen

    assert trusted == pytest.approx({"trust": 0.1, "hold": 30.0})
    assert misled == pytest.approx({"trust": 0.0, "hold": 0.1})


@pytest.mark.parametrize("seed", range(4))
def test_a_misleading_text_is_hardly_trusted(seed: int) -> None:
    shots, classes, *_, looks = world(100 * seed, MUDDLED * 4, noise=0.4)

    probe = linear_probe(single(shots), classes, looks.roll(1, dims=0).float(), SCALE)

    assert probe.chosen["trust"] < 0.03 * SCALE


@pytest.mark.parametrize("shots_each", [1, 2, pytest.param(8, marks=pytest.mark.slow)])
def test_with_a_misleading_text_the_probe_is_as_good_as_prototypes(shots_each: int) -> None:
    def gain(seed: int) -> float:
        shots, classes, tests, truth, looks = world(seed, MUDDLED * shots_each, noise=0.4)
        misleading = looks.roll(1, dims=0).float()
        fits = (linear_probe, prototypes)
        probe, means = (fit(single(shots), classes, misleading, SCALE) for fit in fits)
        return share_right(probe, single(tests), truth) - share_right(means, single(tests), truth)

    gains = [gain(100 * seed) for seed in range(12)]

    assert sum(gains) / len(gains) > -0.03  # the gain of a single draw varies by about 5 points


@pytest.mark.parametrize("shots_each", [1, 2, 8])
@pytest.mark.parametrize("seed", range(4))
def test_a_correct_text_keeps_its_scale_and_its_answers(seed: int, shots_each: int) -> None:
    shots, classes, tests, _, _ = world(100 * seed, MUDDLED * shots_each, noise=0.1)
    text = torch.stack([shots.own(classes)[classes == c].mean(dim=0) for c in range(5)])
    text = unit(text).float()

    probe = linear_probe(single(shots), classes, text, SCALE)

    told = zero_shot(text, SCALE).logits(single(tests))
    assert probe.chosen["trust"] == SCALE
    assert torch.equal(probe.logits(single(tests)).argmax(dim=1), told.argmax(dim=1))


def test_a_text_that_is_correct_on_nearly_all_shots_keeps_its_answers() -> None:
    # Barely correct on 19 of 20 shots, and as wrong as possible on the last.
    classes = torch.tensor([0, 1] * 10)
    angles = math.pi / 4 + torch.tensor([-0.001, 0.001] * 9 + [-0.001, -math.pi / 4], dtype=torch.float64)
    shots = Views(torch.stack([angles.cos(), angles.sin()], dim=1)[:, None], torch.ones(20, 2, 1, dtype=torch.float64))
    shots, text = single(shots), torch.eye(2)

    probe = linear_probe(shots, classes, text, 100.0)

    assert share_right(zero_shot(text, 100.0), shots, classes) == 0.95
    assert share_right(probe, shots, classes) >= 0.9


# -- what holds for every fit ------------------------------------------------------------------------------------------


@each_fit
@pytest.mark.parametrize("shots_each", [1, 3])
def test_classes_may_stand_in_any_order(fit: Fit, shots_each: int) -> None:
    shots, classes, tests, _, looks = world(11, (0, 1, 2, 3) * shots_each)
    text, order = half_right(looks).float(), torch.tensor([2, 0, 3, 1])

    def renamed(videos: Views) -> Views:
        return single(Views(videos.frames, videos.weights[:, order]))

    head = fit(renamed(shots), order.argsort()[classes], text[order], SCALE)

    plain = fit(single(shots), classes, text, SCALE).logits(single(tests))
    assert torch.allclose(head.logits(renamed(tests)), plain[:, order], atol=2e-2)


@each_fit
@pytest.mark.parametrize("shots_each", [1, 3])
def test_shots_may_come_class_by_class_or_in_turns(fit: Fit, shots_each: int) -> None:
    shots, classes, tests, _, looks = world(12, (0, 1, 2, 3) * shots_each)
    text, grouped = half_right(looks).float(), torch.argsort(classes, stable=True)

    head = fit(single(shots)[grouped], classes[grouped], text, SCALE)

    plain = fit(single(shots), classes, text, SCALE)
    assert torch.allclose(head.logits(single(tests)), plain.logits(single(tests)), atol=2e-2)


@each_fit
@pytest.mark.parametrize("kind", [torch.float32, torch.float64])
def test_a_head_has_the_type_of_the_shots(fit: Fit, kind: torch.dtype) -> None:
    shots, classes, tests, _, looks = world(0, (0, 1, 2))

    def of_kind(videos: Views) -> Views:
        return Views(videos.frames.to(kind), videos.weights.to(kind))

    head = fit(of_kind(shots), classes, half_right(looks).to(kind), SCALE)

    assert {part.dtype for part in (head.weight, head.bias, head.keys, head.logits(of_kind(tests)))} == {kind}
    assert head.key_classes.dtype == torch.int64


def test_a_probe_of_several_shots_has_the_type_of_the_shots() -> None:
    shots, classes, *_, looks = world(0, (0, 1, 2) * 3)

    assert linear_probe(shots, classes, half_right(looks), SCALE).weight.dtype == torch.float64


@each_fit
def test_a_fit_works_without_gradients_and_leaves_none(fit: Fit) -> None:
    shots, classes, *_, looks = world(0, (0, 1, 2) * 2)

    with torch.no_grad():
        head = fit(single(shots), classes, half_right(looks).float(), SCALE)

    assert not head.weight.requires_grad
    assert not head.bias.requires_grad


@each_fit
def test_a_fit_does_not_change_its_arguments(fit: Fit) -> None:
    shots, classes, *_, looks = world(0, (0, 1, 2) * 2)
    given_shots, text = single(shots), half_right(looks).float()
    before = [part.clone() for part in (given_shots.frames, given_shots.weights, classes, text)]

    fit(given_shots, classes, text, SCALE)

    after = (given_shots.frames, given_shots.weights, classes, text)
    assert all(torch.equal(one, other) for one, other in zip(before, after, strict=True))


@each_fit
def test_a_fit_is_reproducible_bit_by_bit(fit: Fit) -> None:
    shots, classes, tests, _, looks = world(0, (0, 1, 2) * 3)
    one, other = (fit(single(shots), classes, half_right(looks).float(), SCALE) for _ in range(2))

    assert torch.equal(one.logits(single(tests)), other.logits(single(tests)))
    assert one.chosen == other.chosen


def alike(classes: Sequence[int], frame: Tensor) -> tuple[Views, Tensor]:
    """Return shots that are all the same single frame."""
    count = len(classes)
    return Views(frame.expand(count, 1, -1).clone(), torch.ones(count, max(classes) + 1, 1)), torch.tensor(classes)


@each_fit
@pytest.mark.parametrize("classes", [(0, 1, 2), (0, 0, 1, 1, 2, 2), (0, 0, 0, 1, 2)])
def test_shots_that_are_all_alike_give_numbers(fit: Fit, classes: tuple[int, ...]) -> None:
    shots, of_shots = alike(classes, torch.eye(DIM)[0])  # their mean is exact, and the spread 0

    head = fit(shots, of_shots, vectors(1, 3, DIM).float(), SCALE)

    tests = Views(vectors(2, 9, 1, DIM).float(), torch.ones(9, 3, 1))
    assert bool(head.logits(tests).isfinite().all())
    assert float(head.logits(tests).abs().max()) < 100


def test_rounding_errors_are_not_a_spread() -> None:
    shots, classes = alike((0, 1, 2), vectors(0, DIM).float())
    tests = Views(vectors(2, 9, 1, DIM).float(), torch.ones(9, 3, 1))

    heads = [linear_probe(shots, classes, vectors(seed, 3, DIM).float(), SCALE) for seed in range(20)]

    assert max(float(head.logits(tests).abs().max()) for head in heads) < 100


# -- classes in addition to the trained ones --------------------------------------------------------------------------


@few
@given(seed=seeds, others=st.integers(1, 3))
def test_other_classes_keep_the_probability_of_the_text_and_trained_ones_share_the_rest(seed: int, others: int) -> None:
    learnt, told = 5 * vectors(seed, 4, 3), 5 * vectors(seed + 1, 4, 3 + others)

    together = join_logits(learnt, told)

    def shares(row: Tensor) -> list[float]:
        powers = [math.exp(z) for z in row.tolist()]
        return [power / sum(powers) for power in powers]

    expected = []
    for head_row, text_row in zip(learnt, told, strict=True):
        text = shares(text_row)
        expected.append([share * sum(text[:3]) for share in shares(head_row)] + text[3:])
    assert torch.allclose(torch.softmax(together, dim=1), torch.tensor(expected, dtype=torch.float64))


@few
@given(seed=seeds)
def test_trained_classes_keep_their_odds_whatever_the_text_says(seed: int) -> None:
    learnt, told = 5 * vectors(seed, 4, 3), 5 * vectors(seed + 1, 4, 5)

    together = join_logits(learnt, told)

    assert torch.allclose(together[:, 1:3] - together[:, :1], learnt[:, 1:] - learnt[:, :1])


def test_without_other_classes_the_trained_logits_stay_as_they_are() -> None:
    learnt = vectors(0, 4, 3)

    assert join_logits(learnt, vectors(1, 4, 3)) is learnt


def test_a_head_that_equals_the_text_changes_nothing() -> None:
    told = vectors(0, 4, 5)

    assert torch.allclose(torch.softmax(join_logits(told[:, :3] + 7, told), dim=1), torch.softmax(told, dim=1))


def test_logits_of_any_size_stay_finite() -> None:
    told = torch.tensor([[1000.0, -1000.0, 900.0], [-1000.0, -1000.0, 1000.0]])

    assert bool(join_logits(torch.tensor([[5000.0, -5000.0], [0.0, 1.0]]), told).isfinite().all())


def test_a_head_with_another_bias_is_another_head() -> None:
    *_, tests, _, looks = world(0, (0, 1, 2))
    head = zero_shot(looks, SCALE)

    raised = replace(head, bias=torch.tensor([0.0, 2.5, 0.0], dtype=torch.float64))

    moved = raised.logits(tests) - head.logits(tests)
    assert torch.allclose(moved, torch.tensor([0.0, 2.5, 0.0], dtype=torch.float64).expand_as(moved))
