"""The learning rate equals that of the official schedule."""

import json
import math
from pathlib import Path

import pytest

from bike_cli.tasks.finetune.losses import rate_at, rate_of_step

GOLDEN = Path(__file__).parents[4] / "shared" / "golden" / "golden_lr.json"
EPOCHS, WARM_UP, HEAD, CLIP = 30, 5, 5e-5, 5e-6


@pytest.mark.skipif(not GOLDEN.exists(), reason="the official code's values are missing")
@pytest.mark.parametrize("steps", [20, 7, 33])
def test_the_rate_is_the_official_one_where_the_official_rate_changes(steps: int) -> None:
    official = json.loads(GOLDEN.read_text())[f"iters_{steps}"]
    moves = [(e, i) for e in range(EPOCHS) for i in range(steps) if i == 0 or (i + 1) % 10 == 0]

    for epoch, i in moves:
        rate = rate_at(epoch + i / steps, epochs=EPOCHS, warm_up=WARM_UP)
        assert HEAD * rate == pytest.approx(official["lr_head"][epoch * steps + i], rel=1e-12, abs=1e-18)
        assert CLIP * rate == pytest.approx(official["lr_clip"][epoch * steps + i], rel=1e-12, abs=1e-18)


def test_no_step_is_at_rate_0_and_the_highest_is_reached() -> None:
    rates = [rate_of_step(step, steps=4, epochs=20, warm_up=5) for step in range(80)]

    assert rates[:3] == pytest.approx([0.025, 0.075, 0.125])
    assert rates[20:] == pytest.approx([0.5 + 0.5 * math.cos(math.pi * (i + 0.5) / 60) for i in range(60)])
    assert min(rates) > 0
    assert 0.99 < max(rates) <= 1


def test_training_without_warm_up_begins_at_the_highest_rate() -> None:
    assert rate_at(0.0, epochs=3, warm_up=0.0) == 1.0
