"""The figures of an evaluation as one JSON object: what `bike eval -o` writes, and its page shows."""

from __future__ import annotations

import hashlib
import logging
import math
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass

import numpy as np

from bike_cli.config import TRAINED_ATTRIBUTE_WEIGHT, EvalConfig
from bike_cli.data.labelled.eval_sets import Tested
from bike_cli.errors import UsageError
from bike_cli.tasks.evaluate.figures import Measured, compared, measured
from bike_cli.tasks.evaluate.official import Official, check_attributes, official_figures, official_part, top
from bike_cli.tasks.evaluate.protocols import Part, spread, zeroshot_half
from bike_cli.tasks.evaluate.score_table import ScoreTable

logger = logging.getLogger(__name__)

DIGITS = 9  # more differ from machine to machine
SPREADS = ("zeroshot-half", "k600", "fewshot")  # protocols whose figure is a mean over splits


@dataclass(frozen=True, eq=False)
class Judged:
    """One system's table, and what official figures are made of; None: of predictions there is nothing.

    Args:
        draws: of the protocol fewshot, a table for each, of which `table` is the first.
        made_of: model, prompt and what else answers depend on; None: predictions do not say.
    """

    name: str
    table: ScoreTable
    official: Official | None = None
    draws: tuple[ScoreTable, ...] = ()
    made_of: Mapping[str, object] | None = None


def check_protocol(config: EvalConfig, tested: Tested) -> None:
    """Raise UsageError where videos are not those of a protocol, or official figures of another one are asked for."""
    told = config.attributes
    trusted = TRAINED_ATTRIBUTE_WEIGHT if told.attribute_model is not None else 0.0  # a trained branch is known later
    check_attributes(config, trusted if told.attribute_weight is None else told.attribute_weight)
    if (config.protocol == "multilabel") != tested.multi_label:
        fact = "have one label each" if config.protocol == "multilabel" else "have several labels"
        way = "give --multi-label" if config.protocol == "multilabel" else "give --protocol multilabel"
        raise UsageError(f"protocol {config.protocol}: the videos {fact}; {way}, or check the data")
    if config.protocol == "k600" and len(tested.splits) < 2:
        raise UsageError("protocol k600: is a mean over splits, and one was given; name a list file for each")
    if config.protocol == "zeroshot-half" and len(tested.labels) < 4:
        raise UsageError(f"protocol zeroshot-half: {len(tested.labels)} classes have no halves; give four or more")


def report_of(judged: Sequence[Judged], tested: Tested, kept: Sequence[int], config: EvalConfig) -> dict[str, object]:
    """Return all figures of the systems, and of each against the first; the log tells what is left out.

    Args:
        kept: places among the samples of the videos of the tables.
    """
    systems, splits = [], []
    parts = _parts(tested, kept) if config.protocol == "k600" else []
    for one in judged:
        figures = measured(one.table, seed=config.seed, resamples=config.resamples)
        system = {"name": one.name, **_measured(figures, one.table.labels), "official": None, "made_of": one.made_of}
        try:
            splits += _splits(one, parts, config)
            if one.official is not None:
                system["official"] = official_figures(one.table, one.official, config, parts)
        except UsageError as e:  # which keeps the other figures from nobody
            logger.warning("%s: has no figures of its own (%s)", config.protocol, e)
        systems.append(system)
    comparisons = [row for other in judged[1:] for row in _compared(judged[0], other, config)]
    return _rounded({"systems": systems, "comparisons": comparisons, "splits": splits})  # type: ignore[return-value]


def data_of(
    tested: Tested,
    files: Sequence[str],
    failed: Sequence[Mapping[str, str]],
    videos: int,
    contents: str | None = None,
) -> dict[str, object]:
    """Return what was evaluated on: files, a hash of all names and labels, one of contents, counts, failures.

    Videos that annotations name and that were left out are failures, too.
    """
    digest = hashlib.sha256()
    for label in tested.labels:
        digest.update(_bytes(f"{label}\0"))
    for sample in tested.samples:
        digest.update(_bytes(f"\1{sample.source.id}\0{sample.labels}"))
    used = {label for sample in tested.samples for label in sample.labels}
    return {
        "files": list(files),
        "sha256": digest.hexdigest(),
        "contents": contents,
        "videos": videos,
        "classes": len(tested.labels),
        "failed": [*failed, *({"path": f.path, "type": f.kind, "message": f.message} for f in tested.left_out)],
        "classes_without_videos": [label for i, label in enumerate(tested.labels) if i not in used],
    }


def _bytes(text: str) -> bytes:
    """Return a text's bytes: those of a file's name where it is none, which JSON can write; never raises."""
    try:
        return text.encode("utf-8", "surrogateescape")
    except UnicodeEncodeError:  # half a character, such as "\ud800"
        return text.encode("utf-8", "surrogatepass")


def _measured(figures: Measured, labels: Sequence[str]) -> dict[str, object]:
    own = figures.per_class
    per_class = [
        {"label": label, "videos": int(own.videos[i]), "recall": own.recall[i], "precision": own.precision[i]}
        | {"f1": own.f1[i], "ap": own.average_precision[i]}
        for i, label in enumerate(labels)
    ]
    confusion = None if figures.confusion is None else figures.confusion.tolist()
    return {
        "metrics": {name: asdict(value) for name, value in figures.values.items()},
        "per_class": per_class,
        "confusion": confusion,
    }


def _compared(first: Judged, other: Judged, config: EvalConfig) -> list[dict[str, object]]:
    try:
        found = compared(first.table, other.table, seed=config.seed, resamples=config.resamples)
    except UsageError as e:
        logger.warning("%s: is not compared with %s (%s)", other.name, first.name, e)
        return []
    pair: dict[str, object] = {"a": first.name, "b": other.name}
    counts = {"videos": found.videos, "left_out": found.left_out}
    return [pair | {"metric": name, **_difference(gain), **counts} for name, gain in found.differences.items()]


def _difference(difference: object) -> dict[str, float]:
    values = asdict(difference)  # type: ignore[call-overload]
    return {"difference": values["value"], "low": values["low"], "high": values["high"], "p": values["p"]}


# -- splits ----------------------------------------------------------------------------------------------------------


def _splits(one: Judged, parts: Sequence[Part], config: EvalConfig) -> list[dict[str, object]]:
    if config.protocol == "zeroshot-half":
        halves = zeroshot_half(one.table)
        rows = [_split(one.name, f"half {i}", half.table) for i, half in enumerate(halves.splits)]
    elif config.protocol == "k600":
        rows = [_of_part(one, part) for part in parts]
    elif config.protocol == "fewshot":
        rows = [_split(one.name, f"draw {i + 1}", table) for i, table in enumerate(one.draws)]
    else:
        return []
    mean: dict[str, object] = {"system": one.name, "name": "mean ± std", "classes": None, "videos": None}
    return [*rows, mean | {figures: _mean(rows, figures) for figures in ("metrics", "official") if figures in rows[0]}]


def _of_part(one: Judged, part: Part) -> dict[str, object]:
    row = _split(one.name, part.name, part.of(one.table))
    return row if one.official is None else row | {"official": official_part(one.official.views, one.table, part)}


def _mean(rows: Sequence[Mapping[str, object]], figures: str) -> dict[str, float]:
    """Return the mean over splits of their figures, and the population standard deviation."""
    found: dict[str, float] = {}
    for name in ("top1", "top5"):
        over = spread([row[figures][name] for row in rows])  # type: ignore[index]
        found |= {name: over.mean, f"{name}_std": over.std}
    return found


def _parts(tested: Tested, kept: Sequence[int]) -> list[Part]:
    """Return the splits as rows and classes of the tables, whose videos are at the places `kept`."""
    row_of = {place: row for row, place in enumerate(kept)}
    parts = []
    for i, places in enumerate(tested.splits):
        rows = [row_of[place] for place in places if place in row_of]
        if not rows:
            logger.warning("split %d: none of its %d videos can be evaluated; it is left out", i + 1, len(places))
            continue
        classes = np.array(tested.classes_of(i), dtype=np.int64)
        parts.append(Part(np.array(rows, dtype=np.int64), classes, f"split {i + 1}"))
    return parts


def _split(system: str, name: str, table: ScoreTable) -> dict[str, object]:
    truth = np.asarray(table.truth, dtype=np.int64)
    metrics = top(table.logits, truth)
    counts = {"classes": len(table.labels), "videos": len(table.videos)}
    return {"system": system, "name": name, **counts, "metrics": metrics}


def _rounded(value: object) -> object:
    """Return a value as JSON has it: numbers of so many digits, null for what is none."""
    if isinstance(value, dict):
        return {key: _rounded(one) for key, one in value.items()}
    if isinstance(value, list | tuple):
        return [_rounded(one) for one in value]
    if isinstance(value, float | np.floating):
        return round(float(value), DIGITS) + 0.0 if math.isfinite(value) else None
    return int(value) if isinstance(value, np.integer) else value
