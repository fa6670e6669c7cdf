"""Windows: scores are those of the definition, whatever the batches."""

import math

import numpy as np
import pytest
import torch
from torch import Tensor, nn

from bike_cli.engine.heads.bike import TemporalTransformer
from bike_cli.engine.localisation.scores import FrameScorer
from bike_cli.engine.localisation.windows import WindowScorer, middle_halves
from bike_cli.engine.scoring import unit
from bike_cli.engine.spotting import ClassTexts
from bike_cli.engine.voters import Voters

DIM, CLASSES, WORDS = 8, 3, 4


def numbers(seed: int, *shape: int) -> Tensor:
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)


def texts(pool: str = "words") -> ClassTexts:
    classes, tokens = unit(numbers(1, CLASSES, DIM)), unit(numbers(2, CLASSES, WORDS, DIM))
    mask = torch.tensor([[True, True, False, False], [True, False, False, False], [True, True, True, True]])
    voters = Voters.among(tokens, mask) if pool == "words" else None
    return ClassTexts(classes, voters, 0.2, averages_scores=pool == "scores")


@pytest.fixture(scope="module")
def head() -> nn.Module:
    torch.manual_seed(0)
    return TemporalTransformer(DIM, 2).double().eval().requires_grad_(False)


def dot(a: Tensor, b: Tensor) -> float:
    return sum(x * y for x, y in zip(a.tolist(), b.tolist(), strict=True))


def slow_saliency(window: Tensor, tokens: Tensor, temperature: float) -> list[float]:
    ballots = []
    for token in tokens:
        powers = [math.exp(dot(token, frame) / temperature) for frame in window]
        ballots.append([p / sum(powers) for p in powers])
    return [sum(column) / len(ballots) for column in zip(*ballots, strict=True)]


def slow_excess(
    frames: Tensor, head: nn.Module, some: ClassTexts, null: float, *, exclusive: bool
) -> list[list[float]]:
    """For each frame, the mean over the windows with it of (score - null) * gate; one window after another."""
    length = len(frames)
    width = min(8, length)
    result = [[0.0] * len(some.classes) for _ in range(length)]
    for c, vector in enumerate(some.classes):
        votes: list[list[float]] = [[] for _ in range(length)]
        for start in range(length - width + 1):
            raw = head(frames[start : start + width][None])[0]
            window = unit(raw)
            cosines = [dot(frame, vector) for frame in window]
            if some.voters is not None:
                weights = slow_saliency(window, some.voters.of_class(c), some.temperature)
                score = sum(w * x for w, x in zip(weights, cosines, strict=True))
            else:
                weights = [1 / width] * width
                score = sum(cosines) / width if some.averages_scores else dot(unit(raw.mean(dim=0)), vector)
            for j in range(width):
                gate = 1.0 if exclusive else min(1.0, 1.5 * width * weights[j])
                first, last = start == 0, start + width == length
                if exclusive and not (2 <= j < 6 or (first and j < 2) or (last and j >= 6) or width < 8):
                    continue
                votes[start + j].append((score - null) * gate)
        for t in range(length):
            result[t][c] = sum(votes[t]) / len(votes[t])
    return result


@pytest.mark.parametrize("exclusive", [False, True])
@pytest.mark.parametrize("pool", ["words", "mean", "scores"])
@pytest.mark.parametrize("length", [1, 5, 8, 9, 21])
def test_scores_are_those_of_a_slow_loop(head: nn.Module, length: int, pool: str, exclusive: bool) -> None:
    frames, some = numbers(3, length, DIM), texts(pool)

    ours = WindowScorer(frames, head, exclusive=exclusive).excess(some, 0.05)

    expected = slow_excess(frames, head, some, 0.05, exclusive=exclusive)
    assert torch.allclose(ours, torch.tensor(expected, dtype=torch.float64), atol=1e-12)


@pytest.mark.parametrize("length", [1, 8, 40])
def test_the_null_level_is_the_median_over_windows_frames_and_phrases(head: nn.Module, length: int) -> None:
    frames, phrases = numbers(3, length, DIM).float(), unit(numbers(4, 5, DIM)).float()
    width = min(8, length)

    ours = WindowScorer(frames, head.float(), exclusive=False).null_level(phrases)

    windows = [unit(head(frames[i : i + width][None])[0]) @ phrases.T for i in range(length - width + 1)]
    head.double()
    assert ours == pytest.approx(float(np.median(torch.cat(windows).numpy())), abs=1e-6)


@pytest.mark.parametrize("together", [1, 7, 64])
def test_batches_do_not_change_scores(monkeypatch: pytest.MonkeyPatch, head: nn.Module, together: int) -> None:
    frames, some = numbers(3, 50, DIM), texts()
    before = WindowScorer(frames, head, exclusive=False).excess(some, 0.05)

    monkeypatch.setattr("bike_cli.engine.localisation.windows.WINDOWS_TOGETHER_ELSEWHERE", together)

    assert torch.allclose(WindowScorer(frames, head, exclusive=False).excess(some, 0.05), before, atol=1e-14)


def test_frames_do_not_depend_on_those_far_after_them_to_the_bit(head: nn.Module) -> None:
    frames, some, head = numbers(3, 200, DIM).float(), texts(), TemporalTransformer(DIM, 2).eval().requires_grad_(False)
    some = ClassTexts(some.classes.float(), Voters.among(some.classes.float()[:, None], None), 0.2)

    whole, part = (WindowScorer(some_, head, exclusive=False).excess(some, 0.05) for some_ in (frames, frames[:101]))
    alone, cut = (FrameScorer(some_).excess(some, 0.05) for some_ in (frames, frames[:101]))

    assert torch.equal(part[:94], whole[:94])
    assert torch.equal(cut, alone[:101])


def test_windows_that_do_not_fit_in_memory_are_computed_again(monkeypatch: pytest.MonkeyPatch, head: nn.Module) -> None:
    frames, some = numbers(3, 50, DIM), texts()
    kept = WindowScorer(frames, head, exclusive=False).excess(some, 0.05)

    monkeypatch.setattr("bike_cli.engine.localisation.replay.MOST_NUMBERS", 0)

    assert torch.equal(WindowScorer(frames, head, exclusive=False).excess(some, 0.05), kept)


def test_equal_frames_have_even_saliency_and_open_gates() -> None:
    frames, some = numbers(3, 1, DIM).expand(20, DIM), texts()

    excess = WindowScorer(frames, nn.Identity(), exclusive=False).excess(some, 0.05)

    expected = unit(frames) @ some.classes.T - 0.05
    assert torch.allclose(excess, expected, atol=1e-12)


@pytest.mark.parametrize(("count", "width"), [(1, 8), (2, 8), (5, 8), (1, 3), (4, 1)])
def test_every_frame_has_a_window_that_speaks_for_it(count: int, width: int) -> None:
    speaks = middle_halves(count, width)

    frames = torch.zeros(count + width - 1, dtype=torch.int64)
    for i in range(count):
        frames[i : i + width] += speaks[i]
    assert bool((frames > 0).all())
    assert bool(speaks[:, width // 4 : width - width // 4].all())


def test_frames_alone_have_their_cosines() -> None:
    frames, some = numbers(3, 300, DIM), texts()

    excess = FrameScorer(frames).excess(some, 0.05)

    assert torch.allclose(excess, unit(frames) @ some.classes.T - 0.05, atol=1e-14)
