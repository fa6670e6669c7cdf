"""How fast training goes: a line up, then half a cosine down."""

from __future__ import annotations

import math


def rate_at(epoch: float, *, epochs: int, warm_up: float) -> float:
    """Return the share of the highest rate at a point of training, in epochs from the start.

    Source: BIKE, official utils/lr_scheduler.py, whose values this has wherever that one moves.
    """
    if epoch < warm_up:
        return epoch / warm_up
    return 0.5 * (1 + math.cos(math.pi * (epoch - warm_up) / (epochs - warm_up)))


def rate_of_step(step: int, *, steps: int, epochs: int, warm_up: float) -> float:
    """Return the share of the highest rate for a step from 0, of `steps` an epoch.

    It is the one at the middle of the step. The official schedule only moves at every tenth step, and is at 0 for the
    first nine, which teach nothing.
    """
    return rate_at((step + 0.5) / steps, epochs=epochs, warm_up=warm_up)
