"""What the official code would print of the same videos, by the names of its scripts."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from bike_cli.config import EvalConfig
from bike_cli.tasks.evaluate import Official
from bike_cli.tasks.metrics import hits_among
from bike_cli.tasks.protocols import (
    HalfSplits,
    official_average_precisions,
    official_map,
    official_zeroshot_half,
    official_zeroshot_probabilities,
    running_map,
)
from bike_cli.tasks.score_table import ScoreTable


def official_figures(table: ScoreTable, official: Official, config: EvalConfig) -> dict[str, float]:
    """Return the figures of the official code of a protocol, by the names of its scripts."""
    if config.protocol == "multilabel":
        present = table.present
        true = float(official_average_precisions(official.test, present).mean())
        return {"running_map": running_map(official.test, present, config.official_batch), "map": true}
    places = np.asarray(table.truth, dtype=np.int64)
    known = places >= 0
    truth = places[known]
    if config.protocol == "zeroshot-half":
        halves = official_zeroshot_half(official.frames, official.classes, table)
        return _spread(halves)
    if config.protocol == "zeroshot-full":
        probabilities = official_zeroshot_probabilities(official.frames[known], official.classes)
        return top(probabilities, truth)
    found = top(official.test[known], truth)
    return found | ({"map": official_map(official.test[known], truth)} if config.protocol == "anet" else {})


def top(probabilities: NDArray[np.float64], truth: NDArray[np.int64]) -> dict[str, float]:
    """Return top-1 and top-5."""
    return {f"top{k}": float(hits_among(probabilities, truth, k).mean()) for k in (1, 5)}


def _spread(halves: HalfSplits) -> dict[str, float]:
    return {
        "half_top1": halves.top1.mean,
        "half_top1_std": halves.top1.std,
        "half_top5": halves.top5.mean,
        "half_top5_std": halves.top5.std,
    }
