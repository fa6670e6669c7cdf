"""Summarize the scores of systems in a report."""

from __future__ import annotations

import hashlib
import logging
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace

import numpy as np

from bike_cli.config import RESULTS, TRAINED_ATTRIBUTE_WEIGHT, EvalConfig
from bike_cli.data.labelled.eval_sets import EvalSet
from bike_cli.engine.engine import Engine
from bike_cli.errors import UsageError, concerning
from bike_cli.records import Failure
from bike_cli.settings import settings_affecting
from bike_cli.tasks.evaluate.answers import Answers
from bike_cli.tasks.evaluate.json_values import Estimate
from bike_cli.tasks.evaluate.measurement import compare, mark_significant, measure, values_of
from bike_cli.tasks.evaluate.metric_table import OPEN_SET, metrics_of
from bike_cli.tasks.evaluate.metrics import top_shares
from bike_cli.tasks.evaluate.official import OfficialInputs, check_attributes, official_metrics, official_part
from bike_cli.tasks.evaluate.protocols import (
    Part,
    UnseenSplit,
    over_draws,
    over_splits,
    unseen_splits,
    zeroshot_half,
)
from bike_cli.tasks.evaluate.report import (
    Comparison,
    EvalData,
    EvaluationReport,
    FailedVideo,
    Manifest,
    Provenance,
    SplitResult,
    SystemResult,
    Value,
)
from bike_cli.tasks.evaluate.score_table import ScoreTable
from bike_cli.versions import versions

logger = logging.getLogger(__name__)


@dataclass(frozen=True, eq=False)
class SystemScores:
    """The scores of one system."""

    name: str
    table: ScoreTable
    official: OfficialInputs | None = None  # what official metrics are computed from; None for saved predictions
    draws: tuple[ScoreTable, ...] = ()  # tables of random draws, if there are any; the first is `table`
    provenance: Provenance | None = None  # what its answers depend on; None for saved predictions
    unseen: tuple[UnseenSplit, ...] = ()  # what each of `draws` leaves out; empty for the protocol `fewshot`


@concerning("protocol")
def check_protocol(config: EvalConfig, eval_set: EvalSet) -> None:
    """Raise UsageError where videos do not fit the protocol, or the official code has no such metrics."""
    weight = config.attributes.attribute_weight
    if weight is None:  # that of a trained branch is known later
        weight = 0.0 if config.attributes.attribute_model is None else TRAINED_ATTRIBUTE_WEIGHT
    check_attributes(config, weight)
    if (config.protocol == "multilabel") != eval_set.multi_label:
        problem = "have one label each" if config.protocol == "multilabel" else "have several labels"
        fix = "give --multi-label" if config.protocol == "multilabel" else "give --protocol multilabel"
        raise UsageError(f"protocol {config.protocol}: the videos {problem}; {fix}, or check the data")
    splits, classes = len(eval_set.splits), len(eval_set.labels)
    if config.protocol == "k600" and splits < 2:
        raise UsageError(f"protocol k600: needs at least 2 splits, got {splits}; give a list file for each")
    unseen_splits(config, eval_set)  # checks it
    if config.protocol == "zeroshot-half" and classes < 4:
        raise UsageError(f"protocol zeroshot-half: needs at least 4 classes, got {classes}; check the data")


def summarise(
    systems: Sequence[SystemScores],
    eval_set: EvalSet,
    places: Sequence[int],
    config: EvalConfig,
    *,
    data: EvalData,
    manifest: Manifest,
) -> EvaluationReport:
    """Return the report on the systems, each compared with the first.

    Args:
        places: index of the sample of each row of the tables.
    """
    results: list[SystemResult] = []
    splits: list[SplitResult] = []
    parts = _parts(eval_set, places) if config.protocol == "k600" else []
    for system in systems:
        result = measure(system.table, system.name, seed=config.seed, resamples=config.resamples)
        result = replace(result, provenance=system.provenance)
        try:
            splits += _splits(system, parts, config)
            if system.official is not None:
                result = replace(result, official=official_metrics(system.table, system.official, config, parts))
        except UsageError as e:  # must not hide the other metrics
            logger.warning("protocol %s: its own metrics are left out (%s)", config.protocol, e)
        results.append(result)
    compared = [row for other in systems[1:] for row in _compare(systems[0], other, config)]
    comparisons = mark_significant(compared, "map" if systems[0].table.multi_label else "top1")
    return EvaluationReport(
        config.protocol,
        manifest,
        data,
        tuple(results),
        tuple(comparisons),
        tuple(splits),
        decided_by=next((row.metric for row in comparisons if row.significant is not None), None),
    )


def manifest_of(
    config: EvalConfig, *, engine: Engine | None, model: str, arguments: Mapping[str, Value] | None = None
) -> Manifest:
    """Return what is needed to repeat an evaluation.

    Args:
        engine: engine of the first system; None for saved predictions, whose settings are unknown.
        model: name of its model.
    """
    settings = settings_affecting(config, *RESULTS)
    if engine is None:
        drawn = () if config.unseen_split is None else ("unseen_split", "trials")
        of_detections = ("official", "tiou") if config.protocol == "detection" else ()
        settings = {name: settings[name] for name in ("protocol", "seed", "resamples", *drawn, *of_detections)}
    placement = None if engine is None else engine.encoder.placement
    return Manifest(
        model,
        None if engine is None else engine.fingerprint,
        None if placement is None else placement.device.type,
        None if placement is None else str(placement.dtype).removeprefix("torch."),
        arguments or {},
        settings,
        versions(),
        config.seed,
    )


def describe_data(
    eval_set: EvalSet, files: Sequence[str], failed: Sequence[Failure], videos: int, contents: str | None = None
) -> EvalData:
    """Describe the videos of an evaluation. Videos that annotations name but that cannot be used count as failed."""
    digest = hashlib.sha256()
    for label in eval_set.labels:
        digest.update(bytes_of(f"{label}\0"))
    for sample in eval_set.samples:
        digest.update(bytes_of(f"\1{sample.source.id}\0{sample.labels}"))
    used = {label for sample in eval_set.samples for label in sample.labels}
    return EvalData(
        tuple(files),
        digest.hexdigest(),
        contents,
        videos,
        len(eval_set.labels),
        tuple(FailedVideo(f.source.id, f.kind, f.message) for f in (*failed, *eval_set.left_out)),
        tuple(label for i, label in enumerate(eval_set.labels) if i not in used),
    )


def bytes_of(text: str) -> bytes:
    """Return the bytes of a text; it may contain a file name that is not UTF-8."""
    try:
        return text.encode("utf-8", "surrogateescape")
    except UnicodeEncodeError:  # half a character, such as "\ud800"
        return text.encode("utf-8", "surrogatepass")


def _compare(first: SystemScores, other: SystemScores, config: EvalConfig) -> list[Comparison]:
    names = (first.name, other.name)
    try:
        return compare(first.table, other.table, names, seed=config.seed, resamples=config.resamples)
    except UsageError as e:
        logger.warning("%s: cannot be compared with %s (%s)", other.name, first.name, e)
        return []


# -- splits ------------------------------------------------------------------------------------------------------------


def _splits(system: SystemScores, parts: Sequence[Part], config: EvalConfig) -> list[SplitResult]:
    if config.protocol == "zeroshot-half":
        rows = [_split(system.name, f"half {i}", half) for i, half in enumerate(zeroshot_half(system.table))]
    elif config.protocol == "k600":
        rows = [_split_of_part(system, part) for part in parts]
    elif system.unseen:
        rows = [_of_unseen(system.name, *each) for each in zip(system.unseen, system.draws, strict=True)]
    elif config.protocol == "fewshot":
        rows = [_split(system.name, f"draw {i + 1}", table) for i, table in enumerate(system.draws)]
    else:
        return []
    mean = over_draws if system.draws else over_splits
    official = None if rows[0].official is None else _mean([row.official or {} for row in rows], mean)
    metrics = _mean([row.metrics for row in rows], mean)
    return [*rows, SplitResult(system.name, "mean ± std", None, None, metrics, official)]


def _split(system: str, name: str, table: ScoreTable) -> SplitResult:
    metrics = top_shares(table.logits, np.asarray(table.truth, dtype=np.int64))
    return SplitResult(system, name, len(table.labels), len(table.videos), _estimates(metrics))


def _of_unseen(system: str, split: UnseenSplit, table: ScoreTable) -> SplitResult:
    answers = Answers(table)
    metrics = values_of(answers, [metric for metric in metrics_of(answers) if metric.key in OPEN_SET])
    name, classes, videos = f"draw {split.trial + 1}", len(table.labels), len(table.videos)
    return SplitResult(system, name, classes, videos, _estimates(metrics), unseen=split.unseen)


def _split_of_part(system: SystemScores, part: Part) -> SplitResult:
    row = _split(system.name, part.name, part.of(system.table))
    if system.official is None:
        return row
    return replace(row, official=_estimates(official_part(system.official.views, system.table, part)))


def _estimates(metrics: Mapping[str, float]) -> dict[str, Estimate]:
    return {name: Estimate(value) for name, value in metrics.items()}


def _mean(splits: Sequence[Mapping[str, Estimate]], mean: Callable[[Sequence[float]], Estimate]) -> dict[str, Estimate]:
    return {name: mean([metrics[name].value for metrics in splits]) for name in splits[0]}


def _parts(eval_set: EvalSet, places: Sequence[int]) -> list[Part]:
    """Return the splits as rows and classes of the tables."""
    row_of = {place: row for row, place in enumerate(places)}
    parts = []
    for i, samples in enumerate(eval_set.splits):
        rows = [row_of[place] for place in samples if place in row_of]
        if not rows:
            logger.warning("split %d: none of its %d videos can be evaluated, so it is left out", i + 1, len(samples))
            continue
        classes = np.array(eval_set.classes_of(i), dtype=np.int64)
        parts.append(Part(np.array(rows, dtype=np.int64), classes, f"split {i + 1}"))
    return parts
