"""What the official code would print of the same videos, by the names of its scripts."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from bike_cli.config import EvalConfig
from bike_cli.errors import UsageError
from bike_cli.tasks.evaluate.evaluation import Official
from bike_cli.tasks.evaluate.metrics import hits_among, softmax
from bike_cli.tasks.evaluate.protocols import (
    HalfSplits,
    Part,
    official_fusion,
    official_map,
    official_part,
    official_zeroshot_half,
    official_zeroshot_probabilities,
    running_map,
    spread,
)
from bike_cli.tasks.evaluate.score_table import ScoreTable


def check_attributes(config: EvalConfig, weight: float) -> None:
    """Raise UsageError where attributes count, and the official code has no figure that they count in.

    Args:
        weight: of the attributes in the answer.
    """
    if config.official and weight > 0 and config.protocol != "standard":
        fact = f"the official code has no attributes in the protocol {config.protocol}, and here they count"
        raise UsageError(f"--official: {fact} ({weight:g}); leave it out, or give --attribute-weight 0")


def official_figures(
    table: ScoreTable, official: Official, config: EvalConfig, parts: Sequence[Part] = ()
) -> dict[str, float]:
    """Return the figures of the official code of a protocol, by the names of its scripts.

    Those of `standard` are of the video branch (`top1`, `top5`); where attributes count, of the attribute branch
    (`attributes_top1`, `attributes_top5`) and of both in the official shares (`fused_top1`), too.

    Args:
        parts: the splits of `k600`, whose mean and population standard deviation are told, as of ours; the official
            code does one split a run, and leaves both to the reader.
    """
    if config.protocol == "multilabel":
        return {"running_map": running_map(official.test, table.present, config.official_batch)}
    if config.protocol == "k600":
        return _spread_of_parts([official_part(official.views, table, part) for part in parts])
    if config.protocol == "zeroshot-half":
        return _spread(official_zeroshot_half(official.frames, official.classes, table))
    places = np.asarray(table.truth, dtype=np.int64)
    known = places >= 0
    truth = places[known]
    if config.protocol == "zeroshot-full":
        return top(official_zeroshot_probabilities(official.frames[known], official.classes), truth)
    found = top(official.test[known], truth)
    if config.protocol == "anet":
        return found | {"map": official_map(official.test[known], truth)}
    if official.attributes is not None:
        found |= _with_attributes(official.views[known].astype(np.float64), official.attributes[known], truth)
    return found


def top(probabilities: NDArray[np.float64], truth: NDArray[np.int64]) -> dict[str, float]:
    """Return top-1 and top-5."""
    return {f"top{k}": float(hits_among(probabilities, truth, k).mean()) for k in (1, 5)}


def _with_attributes(
    views: NDArray[np.float64], attributes: NDArray[np.float64], truth: NDArray[np.int64]
) -> dict[str, float]:
    alone = {f"attributes_{name}": value for name, value in top(softmax(attributes), truth).items()}
    return alone | {"fused_top1": top(official_fusion(views, attributes), truth)["top1"]}


def _spread_of_parts(figures: Sequence[dict[str, float]]) -> dict[str, float]:
    found: dict[str, float] = {}
    for name in ("top1", "top5"):
        over = spread([one[name] for one in figures])
        found |= {f"splits_{name}": over.mean, f"splits_{name}_std": over.std}
    return found


def _spread(halves: HalfSplits) -> dict[str, float]:
    return {
        "half_top1": halves.top1.mean,
        "half_top1_std": halves.top1.std,
        "half_top5": halves.top5.mean,
        "half_top5_std": halves.top5.std,
    }
