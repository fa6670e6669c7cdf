"""What a dry run of training finds."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True)
class Rehearsal:
    """What a dry run found.

    Args:
        batch_size, parts: what would be trained with.
        step_s: of one step, its videos ready.
        load_s: that a batch takes to be decoded and varied.
        hours: of all epochs, validation left out.
        memory_mib: most that the device held; 0 where it does not tell.
    """

    train: int
    val: int
    batch_size: int
    parts: int
    steps: int
    step_s: float
    load_s: float
    hours: float
    memory_mib: int
    disk_mib: int
    failures: int
