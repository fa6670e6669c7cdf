"""Parts of a batch on a CPU: as few as the activations of one video allow."""

import math
import subprocess
import sys
from copy import deepcopy

import pytest
import torch

from bike_cli.engine.engine import Engine
from bike_cli.engine.scoring import unit
from bike_cli.engine.spotting import ClassTexts
from bike_cli.tasks.finetune import rehearsal
from bike_cli.tasks.finetune.learner import Batch, Learner
from bike_cli.tasks.finetune.rehearsal import fitting_parts

FRAMES = 4


def learner_of(engine: Engine) -> Learner:
    classes = unit(engine.encode_texts(["red square", "blue circle"], positions="eot").classes)
    return Learner(deepcopy(engine), ClassTexts(classes, None, 0.01), loss="ce")


def bytes_of_a_video(engine: Engine, monkeypatch: pytest.MonkeyPatch, *, frames: int = FRAMES) -> int:
    """Return the largest budget that still needs a part for each of two videos: a byte less than two of them."""
    learner, low, high = learner_of(engine), 1, 2**40
    while low < high:
        middle = (low + high + 1) // 2
        monkeypatch.setattr(rehearsal, "MOST_ACTIVATIONS", middle)
        low, high = (middle, high) if fitting_parts(learner, engine, frames, videos=2) == 2 else (low, middle - 1)
    return (low + 1) // 2


def test_parts_are_as_few_as_fit(tiny: Engine, monkeypatch: pytest.MonkeyPatch) -> None:
    learner, one = learner_of(tiny), bytes_of_a_video(tiny, monkeypatch)

    for videos, at_once in ((7, 3), (8, 4), (8, 100), (5, 1)):
        monkeypatch.setattr(rehearsal, "MOST_ACTIVATIONS", at_once * one)
        assert fitting_parts(learner, tiny, FRAMES, videos=videos) == math.ceil(videos / at_once)
    monkeypatch.setattr(rehearsal, "MOST_ACTIVATIONS", 1)
    assert fitting_parts(learner, tiny, FRAMES, videos=8) == 8
    assert all(weight.grad is None for weight in learner.branch.parameters())


def test_a_video_of_twice_the_frames_takes_twice_the_memory(tiny: Engine, monkeypatch: pytest.MonkeyPatch) -> None:
    few, many = (bytes_of_a_video(tiny, monkeypatch, frames=frames) for frames in (2, 8))

    assert many / few == pytest.approx(4, rel=0.15)


@pytest.mark.slow
def test_the_measured_memory_is_that_of_the_process() -> None:
    code = f"""if True:
        import sys, torch
        sys.path[:0] = {sys.path!r}
        from bike_cli.engine.engine import load
        engine = load("tiny", device="cpu", precision="fp32")
        side = engine.encoder.recipe.side
        clip = engine.encoder.model.requires_grad_(True)
        kept = clip.encode_image(torch.zeros(int(sys.argv[1]) * 8, 3, side, side))
        import resource
        print(resource.getrusage(resource.RUSAGE_SELF).ru_maxrss)
    """
    few, many = (
        1024 * int(subprocess.run([sys.executable, "-c", code, str(n)], check=True, capture_output=True).stdout)
        for n in (4, 36)
    )
    from bike_cli.engine.engine import load

    with pytest.MonkeyPatch.context() as patch:
        measured = bytes_of_a_video(load("tiny", device="cpu", precision="fp32"), patch, frames=8)

    assert measured == pytest.approx((many - few) / 32, rel=0.3)


def test_gradients_do_not_depend_on_the_parts(tiny: Engine) -> None:
    pixels = torch.randint(0, 256, (6, FRAMES, 3, *[tiny.encoder.recipe.side] * 2), dtype=torch.uint8)
    batch = Batch(torch.tensor([0, 1, 1, 0, 1, 0]), pixels, torch.ones(6, dtype=torch.bool))
    gradients = []
    for parts in (1, 4):
        learner = learner_of(tiny)
        learner.branch.requires_grad_(True)
        learner.parts = parts
        learner.gradients(batch)
        gradients.append(torch.cat([w.grad.flatten() for w in learner.branch.parameters() if w.grad is not None]))

    assert gradients[0].abs().max() > 0
    torch.testing.assert_close(*gradients, atol=1e-5, rtol=1e-3)
