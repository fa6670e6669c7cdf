"""`bike eval` of predictions that were made before."""

from __future__ import annotations

import hashlib
import logging
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from bike_cli.cli.eval.arguments import OUTPUTS, labels_of, one_of, targets_of, tested_of
from bike_cli.cli.eval.repeat import arguments_of
from bike_cli.cli.terminal.targets import check_videos
from bike_cli.config import EvalConfig
from bike_cli.data.predictions.files import DataFile
from bike_cli.errors import UsageError

if TYPE_CHECKING:
    from bike_cli.data.labelled.eval_sets import Tested
    from bike_cli.data.predictions.predictions import MatchedPredictions, Predictions
    from bike_cli.tasks.evaluate.mistakes import Mistakes
    from bike_cli.tasks.evaluate.report import EvaluationReport
    from bike_cli.tasks.evaluate.score_table import ScoreTable

logger = logging.getLogger(__name__)


def _digest(files: Iterable[Path]) -> str:
    """Return the hash of the bytes of all files; folders and pipes that are gone have none."""
    digest = hashlib.sha256()
    for file in files:
        if file.is_file():
            with file.open("rb") as stream:
                hashlib.file_digest(stream, lambda: digest)
    return digest.hexdigest()


def of_predictions(
    given: dict[str, object], config: EvalConfig, files: Sequence[DataFile]
) -> tuple[EvaluationReport, Mistakes] | None:
    """Return the report on predictions, and no mistakes: there is nothing to look at.

    Of processes that a launcher started the first one tells; None for the others.
    """
    from bike_cli.inference.processes import found
    from bike_cli.tasks.evaluate.mistakes import Mistakes
    from bike_cli.tasks.evaluate.report import FailedVideo
    from bike_cli.tasks.evaluate.summary import SystemScores, check_protocol, describe_data, manifest_of, summarize

    if not found().is_first:
        return None
    labels, names_file = _truth(given, config, files[0].name), given["names"]
    tested = tested_of(given, [str(labels)], names=[names_file] if isinstance(names_file, Path) else [])
    check_protocol(config, tested)
    check_videos(*targets_of(given, OUTPUTS).values(), samples=tested.samples)
    read = _read(files, merge=bool(given["merge"]))
    joined = _joined(read, tested, given["unknown"])
    names = _named([file.name for file in files[: len(read)]])
    for one, its in zip(read, joined, strict=True):
        _tell_left_out(one.origin, its, config)
    systems = [SystemScores(name, _table(its, tested)) for name, its in zip(names, joined, strict=True)]
    places = {sample.source.id: i for i, sample in enumerate(tested.samples)}
    evaluated = [places[video] for video in systems[0].table.videos]
    failed = [FailedVideo(f.source.id, f.kind, f.message) for f in joined[0].failures]
    contents = _digest([*(Path(file.path) for file in files), labels])
    data = describe_data(tested, [*(file.name for file in files), str(labels)], failed, len(evaluated), contents)
    models = dict.fromkeys(model for one in read for model in one.models)
    manifest = manifest_of(config, engine=None, model=", ".join(models), arguments=arguments_of(given))
    return summarize(systems, tested, evaluated, config, data=data, manifest=manifest), Mistakes()


def _truth(given: Mapping[str, object], config: EvalConfig, file: str) -> Path:
    """Return the file of what is true, or raise UsageError where predictions are not enough."""
    labels = one_of(labels_of(given), "predictions have one truth")
    if labels is None:
        raise UsageError(f"{file}: holds predictions; name what is true with --labels truth.csv")
    if config.official:
        raise UsageError(
            "--official: needs the videos, and these are predictions; leave it out, or evaluate the videos"
        )
    if config.protocol == "k600":
        fact = "is a mean over splits, and predictions have none"
        raise UsageError(f"protocol k600: {fact}; evaluate the videos, with a list file for each split")
    return labels


def _read(files: Sequence[DataFile], *, merge: bool) -> list[Predictions]:
    """Return the predictions of each file, or of all as one."""
    from bike_cli.data.predictions.merge import merge_parts
    from bike_cli.data.predictions.predictions import read_predictions

    read = [read_predictions(file, is_part=merge) for file in files]
    return [merge_parts(read)] if merge else read


def _joined(read: Sequence[Predictions], tested: Tested, unknown: object) -> list[MatchedPredictions]:
    from bike_cli.data.predictions.predictions import match

    return [match(one, tested, unknown=None if unknown is None else str(unknown)) for one in read]


def _table(joined: MatchedPredictions, tested: Tested) -> ScoreTable:
    from bike_cli.tasks.evaluate.evaluation import names_of, truth_of
    from bike_cli.tasks.evaluate.score_table import ScoreTable

    places = range(len(joined.truth.samples))
    names, truth = names_of(joined.truth, places), truth_of(joined.truth, places)
    return ScoreTable(tested.labels, names, joined.logits, truth, joined.named)


def _named(files: Sequence[str]) -> list[str]:
    """Return names of files that are short, and different."""
    stems = [Path(file).stem for file in files]
    return stems if len(set(stems)) == len(stems) else list(files)


def _tell_left_out(file: str, joined: MatchedPredictions, config: EvalConfig) -> None:
    """Warn of videos and figures that are left out.

    Raises:
        UsageError: what is asked for needs the scores of all labels.
    """
    from bike_cli.tasks.evaluate.answers import TOP

    sides = {"have no label": joined.only_predicted, "are not predicted": joined.only_labelled}
    for fact, videos in sides.items():
        if videos:
            logger.warning("%s: %d videos %s, first %s; they are left out", file, len(videos), fact, videos[0])
    classes, fewest = joined.logits.shape[1], int(joined.named.min())
    if fewest == classes:
        return
    few = "" if fewest == joined.named.max() else "as few as "
    fact, way = f"names {few}{fewest} of {classes} labels a video", f"classify with -k {classes}"
    if config.protocol == "zeroshot-half":
        raise UsageError(f"{file}: {fact}, and halves of them need all; {way}")
    lost = "top-5 and mAP are" if fewest < min(TOP, classes) else "mAP is"
    logger.warning("%s: %s, so %s left out; %s", file, fact, lost, way)
