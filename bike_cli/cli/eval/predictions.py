"""`bike eval` of predictions that were made before."""

from __future__ import annotations

import hashlib
import logging
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from bike_cli.cli.eval.request import EvalRequest, read_requested_videos, single_file
from bike_cli.cli.terminal.signals import import_torch
from bike_cli.cli.terminal.targets import check_videos
from bike_cli.config import EvalConfig
from bike_cli.data.predictions.files import DataFile
from bike_cli.errors import UsageError
from bike_cli.wording import all_of

if TYPE_CHECKING:
    from bike_cli.data.labelled.eval_sets import EvalSet
    from bike_cli.data.predictions.predictions import MatchedPredictions
    from bike_cli.tasks.evaluate.mistakes import Mistakes
    from bike_cli.tasks.evaluate.protocols import UnseenSplit
    from bike_cli.tasks.evaluate.report import EvaluationReport
    from bike_cli.tasks.evaluate.score_table import ScoreTable
    from bike_cli.tasks.evaluate.summary import SystemScores

logger = logging.getLogger(__name__)


def digest_of(files: Iterable[Path]) -> str:
    """Return the hash of the content of all files; folders and closed pipes are skipped."""
    digest = hashlib.sha256()
    for file in files:
        if file.is_file():
            with file.open("rb") as stream:
                hashlib.file_digest(stream, lambda: digest)
    return digest.hexdigest()


def system_names(files: Sequence[DataFile]) -> list[str]:
    """Return the names of the systems in files: without folders and endings, if the names stay different."""
    stems = [Path(file.name).stem for file in files]
    return stems if len(set(stems)) == len(stems) else [file.name for file in files]


def evaluate_predictions(
    config: EvalConfig, request: EvalRequest, files: Sequence[DataFile]
) -> tuple[EvaluationReport, Mistakes] | None:
    """Return the report on predictions, without mistakes to show.

    Of several processes, the first one reports; the others return None.
    """
    import_torch()
    from bike_cli.data.predictions.merge import merge_parts
    from bike_cli.data.predictions.predictions import match, read_predictions
    from bike_cli.inference.processes import group_from_env
    from bike_cli.tasks.evaluate.mistakes import Mistakes
    from bike_cli.tasks.evaluate.protocols import unseen_splits, usable_splits
    from bike_cli.tasks.evaluate.summary import check_protocol, describe_data, manifest_of, summarise

    if not group_from_env().is_first:
        return None
    truth = _truth(config, request, files[0].name)
    tested = read_requested_videos(request, [str(truth)], names=[] if request.names is None else [request.names])
    check_protocol(config, tested)
    check_videos(*request.targets.values(), samples=tested.samples)
    predictions = [read_predictions(file, is_part=request.merge) for file in files]
    predictions = [merge_parts(predictions)] if request.merge else predictions
    is_split = config.unseen_split is not None
    joined = [match(read, tested, unknown=request.unknown, keeps_cosines=is_split) for read in predictions]
    for read, matched in zip(predictions, joined, strict=True):
        _warn_of_left_out(read.origin, matched, config)
    names = system_names(files[: len(predictions)])
    tables = [_table(matched, tested) for matched in joined]
    unseen = usable_splits(unseen_splits(config, tested), [np.asarray(table.truth) for table in tables])
    systems = [_system(name, table, unseen) for name, table in zip(names, tables, strict=True)]
    places = {sample.source.id: i for i, sample in enumerate(tested.samples)}
    evaluated = [places[video] for video in systems[0].table.videos]
    contents = digest_of([*(Path(file.path) for file in files), truth])
    names = [*(file.name for file in files), str(truth)]
    data = describe_data(tested, names, joined[0].failures, len(evaluated), contents)
    models = ", ".join(dict.fromkeys(model for read in predictions for model in read.models))
    manifest = manifest_of(config, engine=None, model=models, arguments=request.arguments)
    return summarise(systems, tested, evaluated, config, data=data, manifest=manifest), Mistakes()


def _truth(config: EvalConfig, request: EvalRequest, file: str) -> Path:
    """Return the file of true labels, or raise UsageError if predictions are not enough."""
    truth = single_file(request.labels, "predictions have one file of true labels")
    if truth is None:
        raise UsageError(f"{file}: contains predictions; name the true labels with --labels truth.csv")
    if config.official:
        problem = "--official: needs videos, but these are predictions"
        raise UsageError(f"{problem}; leave it out, or evaluate the videos", settings=("official",))
    if config.protocol == "k600":
        problem = "averages over splits, but predictions have no splits"
        way_out = "evaluate the videos, with a list file for each split"
        raise UsageError(f"protocol k600: {problem}; {way_out}", settings=("protocol",))
    return truth


def _system(name: str, table: ScoreTable, unseen: tuple[UnseenSplit, ...]) -> SystemScores:
    from bike_cli.tasks.evaluate.summary import SystemScores

    draws = tuple(split.of(table) for split in unseen)
    return SystemScores(name, draws[0] if draws else table, draws=draws, unseen=unseen)


def _table(joined: MatchedPredictions, tested: EvalSet) -> ScoreTable:
    from bike_cli.tasks.evaluate.score_table import score_samples

    return score_samples(
        tested.labels,
        joined.truth.samples,
        joined.logits,
        multi_label=joined.truth.multi_label,
        named=joined.named,
        cosines=joined.cosines,
        best_cosines=joined.best_cosines,
        rejected=joined.rejected,
        right=joined.right,
    )


def _warn_of_left_out(file: str, joined: MatchedPredictions, config: EvalConfig) -> None:
    """Warn of videos and metrics that are left out.

    Raises:
        UsageError: the protocol needs the scores of all labels.
    """
    from bike_cli.tasks.evaluate.metrics import TOP

    sides = {"have no label": joined.only_predicted, "have no prediction": joined.only_labelled}
    for problem, videos in sides.items():
        if videos:
            logger.warning("%s: %d videos %s, first %s; they are left out", file, len(videos), problem, videos[0])
    if config.unseen_split is not None and joined.rejected is not None:
        problem = "says which videos fit none of all labels, not which fit none of those that remain"
        logger.warning("%s: %s, so rejection is left out; evaluate the videos", file, problem)
    classes, fewest = joined.logits.shape[1], int(joined.named.min())
    if fewest == classes:
        return
    few = "" if fewest == joined.named.max() else "as few as "
    problem, way_out = f"has {few}{fewest} of {classes} labels per video", f"classify with -k {classes}"
    if config.protocol == "zeroshot-half":
        raise UsageError(f"{file}: {problem}, but zeroshot-half needs all; {way_out}", settings=("protocol",))
    if config.unseen_split is not None:
        raise UsageError(f"{file}: {problem}, but --unseen-split needs all; {way_out}", settings=("unseen_split",))
    lost = ["top-5"] if fewest < TOP < classes else []
    lost += ["mAP"] if joined.truth.multi_label else ["log loss", "the Brier score", "mAP"]
    verb = "are" if len(lost) > 1 else "is"
    logger.warning("%s: %s, so %s %s left out; %s", file, problem, all_of(lost), verb, way_out)
