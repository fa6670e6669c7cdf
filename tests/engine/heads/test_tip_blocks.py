"""Tip-Adapter in blocks of videos: the same head and logits as by plain loops, and without a matrix of all pairs."""

import math

import pytest
import torch
from torch import Tensor

from bike_cli.engine.heads import few_shot
from bike_cli.engine.heads.few_shot import TIP_ALPHAS, TIP_BETAS, Views, tip_adapter

SCALE = 20.0


def unit(x: Tensor) -> Tensor:
    return x / x.norm(dim=-1, keepdim=True)


def made(counts: list[int], *, frames: int, dim: int = 12, seed: int = 0) -> tuple[Views, Tensor, Tensor]:
    """Return shots of classes with these numbers of shots, in a mixed order, and the texts."""
    rng = torch.Generator().manual_seed(seed)
    classes = torch.arange(len(counts)).repeat_interleave(torch.tensor(counts))
    classes = classes[torch.randperm(len(classes), generator=rng)]
    text = unit(torch.randn(len(counts), dim, generator=rng))
    seen = unit(0.5 * text[classes][:, None] + torch.randn(len(classes), frames, dim, generator=rng) / dim**0.5)
    weights = torch.softmax(torch.randn(len(classes), len(counts), frames, generator=rng), dim=2)
    return Views(seen, weights), classes, text


def logits_by_loops(
    video: int, views: Views, keys: list[Tensor], classes: list[int], text: Tensor, alpha: float, beta: float
) -> list[float]:
    """Return the logits of one video; a key that is None is left out, and the others of its class make up for it."""
    result = []
    for c in range(len(text)):
        z = views.weights[video, c].double() @ views.frames[video].double()
        near = [math.exp(-beta * (1 - float(z @ key))) for key, of in zip(keys, classes, strict=True) if of == c]
        result.append(SCALE * float(z @ text[c].double()) + alpha * sum(near))
    return result


@pytest.mark.parametrize("at_once", [1, 150, 2**22])
@pytest.mark.parametrize(("counts", "frames"), [([3, 3, 3, 3], 4), ([2, 9, 2, 3, 2], 3), ([4, 2, 2], 1)])
def test_the_head_is_that_of_plain_loops(
    counts: list[int], frames: int, at_once: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(few_shot, "NUMBERS_AT_ONCE", at_once)
    shots, classes, text = made(counts, frames=frames)
    own = [shots.weights[i, c].double() @ shots.frames[i].double() for i, c in enumerate(classes.tolist())]
    keys = [unit(z) for z in own]

    head = tip_adapter(shots, classes, text, SCALE)

    best = (-math.inf, 0.0, 0.0)
    for beta in TIP_BETAS:
        for alpha in TIP_ALPHAS:
            total = 0.0
            for i, c in enumerate(classes.tolist()):
                others = [j for j in range(len(keys)) if j != i]
                rest = [keys[j] for j in others], [int(classes[j]) for j in others]
                logits = logits_by_loops(i, shots, *rest, text, alpha, beta)
                text_alone = logits_by_loops(i, shots, [], [], text, alpha, beta)[c]
                logits[c] = text_alone + (logits[c] - text_alone) * counts[c] / (counts[c] - 1)
                total += logits[c] - math.log(sum(map(math.exp, logits)))
            if total > best[0] + 1e-9:
                best = (total, alpha, beta)
    assert (head.alpha, head.beta) == best[1:]
    videos = made(counts, frames=frames, seed=1)[0]
    expected = [
        logits_by_loops(i, videos, keys, classes.tolist(), text, head.alpha, head.beta) for i in range(len(videos))
    ]
    torch.testing.assert_close(head.logits(videos), torch.tensor(expected), atol=2e-5, rtol=1e-5)


def test_no_tensor_has_a_number_for_each_pair_of_shots(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(few_shot, "NUMBERS_AT_ONCE", 2**14)
    shots, classes, text = made([8] * 60, frames=3)
    sizes: list[int] = []
    real = few_shot._Cache.affinities

    def watched(self: few_shot._Cache, views: Views) -> Tensor:
        found = real(self, views)
        sizes.append(found.numel())
        return found

    monkeypatch.setattr(few_shot._Cache, "affinities", watched)
    tip_adapter(shots, classes, text, SCALE).logits(shots)

    assert max(sizes) <= 2**14
    assert sum(sizes) == 2 * 480 * 480
