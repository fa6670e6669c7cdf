"""`bike eval` of predictions that were made before."""

from __future__ import annotations

import hashlib
import logging
import os
import shutil
import stat
import tempfile
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import IO, TYPE_CHECKING, Literal

from bike_cli.cli.eval.arguments import OUTPUTS, labels_of, one_of, targets_of, tested_of
from bike_cli.cli.terminal.targets import check_videos
from bike_cli.config import EvalConfig
from bike_cli.errors import UsageError
from bike_cli.scratch import scratch_folder

if TYPE_CHECKING:
    from bike_cli.cli.eval.page import Mistakes
    from bike_cli.data.labelled.eval_sets import Tested
    from bike_cli.data.predictions.predictions import Joined, Predictions
    from bike_cli.tasks.evaluate.score_table import ScoreTable

logger = logging.getLogger(__name__)

_START, _CHUNK = 1 << 16, 1 << 20  # bytes that tell what a file holds, and that are read at once


# -- what files hold ---------------------------------------------------------------------------------------------------


class Piped(str):
    """The name of a pipe, which can be read only once, with a copy of what came through it."""

    copy: IO[bytes]  # it lasts as long as this

    @classmethod
    def of(cls, name: str, copy: IO[bytes]) -> Piped:
        """Return the name with the copy."""
        piped = cls(name)
        piped.copy = copy
        return piped


def looked_at(files: Sequence[str], *, merge: bool) -> tuple[list[str], list[bool]]:
    """Return the files, pipes as what can be read again, and whether each holds predictions: all do, or none.

    Args:
        merge: files of predictions are parts of one, some of which may be empty.
    Raises:
        UsageError: predictions beside something else, a file that is empty.
    """
    held = [_piped(file) if _is_pipe(file) else file for file in files]
    kinds = [_kind(_there(file)) for file in held]
    if "empty" in kinds and not (merge and "predicted" in kinds):
        way = "name labelled videos, or what bike classify -o wrote; parts may be empty with --merge"
        raise UsageError(f"{held[kinds.index('empty')]}: is empty; {way}")
    if "predicted" not in kinds:
        # A list of videos is read by the name of its file alone.
        held = [Piped.of(one.copy.name, one.copy) if isinstance(one, Piped) else one for one in held]
        return held, [False] * len(held)
    if "other" in kinds:
        other, predicted = held[kinds.index("other")], held[kinds.index("predicted")]
        raise UsageError(f"{other}: holds no predictions, but {predicted} does; give files of one kind")
    return held, [True] * len(held)


def _is_pipe(file: str) -> bool:
    try:
        return stat.S_ISFIFO(os.stat(file).st_mode)  # noqa: PTH116 - a Path would be made for every file
    except (OSError, ValueError):
        return False


def _piped(file: str) -> Piped:
    try:
        copy = tempfile.NamedTemporaryFile(dir=scratch_folder())  # noqa: SIM115 - closed with the last who names it
        with Path(file).open("rb") as pipe:
            shutil.copyfileobj(pipe, copy, _CHUNK)
        copy.flush()
    except OSError as e:
        raise UsageError(f"{file}: cannot be copied to a temporary file ({e.strerror}); give an ordinary file") from e
    return Piped.of(file, copy)


def _there(file: str) -> Path:
    """Return where the bytes of a file lie."""
    return Path(file.copy.name if isinstance(file, Piped) else file)


def _kind(file: Path) -> Literal["predicted", "empty", "other"]:
    """Return whether a file holds answers of `bike classify`: ActivityNet annotations are JSON, too."""
    if not file.is_file():
        return "other"
    with file.open("rb") as stream:
        start = stream.read(_START).decode("utf-8", "replace").lstrip("\ufeff \t\r\n[")
    if not start.strip("] \t\r\n"):
        return "empty"
    if start.startswith("{"):
        first = start.split("\n")[0]
        record = start if first.strip() == "{" else first
        is_answer = '"path"' in record and '"database"' not in record
    else:
        is_answer = file.suffix.lower() in (".csv", ".tsv", "") and start.startswith(("path,status", "path\tstatus"))
    return "predicted" if is_answer else "other"


def _digest(files: Iterable[Path]) -> str:
    """Return the hash of the bytes of all files; folders and pipes that are gone have none."""
    digest = hashlib.sha256()
    for file in files:
        if file.is_file():
            with file.open("rb") as stream:
                while chunk := stream.read(_CHUNK):
                    digest.update(chunk)
    return digest.hexdigest()


# -- figures -----------------------------------------------------------------------------------------------------------


def of_predictions(
    given: dict[str, object], config: EvalConfig, files: Sequence[str]
) -> tuple[dict[str, object], Mistakes] | None:
    """Return the report on predictions, and no mistakes: there is nothing to look at.

    Of processes that a launcher started the first one tells; None for the others.
    """
    from bike_cli.cli.eval.page import Mistakes
    from bike_cli.cli.eval.tables import whole_report
    from bike_cli.inference.processes import found
    from bike_cli.tasks.evaluate.report import Judged, check_protocol, data_of, report_of

    if not found().is_first:
        return None
    labels, names_file = _truth(given, config, files[0]), given["names"]
    tested = tested_of(given, [str(labels)], names=[names_file] if isinstance(names_file, Path) else [])
    check_protocol(config, tested)
    check_videos(*targets_of(given, OUTPUTS).values(), samples=tested.samples)
    read = _read(files, merge=bool(given["merge"]))
    joined = _joined(read, tested, given["unknown"])
    names = _named(files[: len(read)])
    for one, its in zip(read, joined, strict=True):
        _tell_left_out(one.origin, its, config)
    judged = [Judged(name, _table(its, tested)) for name, its in zip(names, joined, strict=True)]
    known = {sample.source.id: i for i, sample in enumerate(tested.samples)}
    kept = [known[video] for video in judged[0].table.videos]
    figures = report_of(judged, tested, kept, config)
    failed = [{"path": f.path, "type": f.type, "message": f.message} for f in joined[0].failures]
    contents = _digest([*map(_there, files), labels])
    data = data_of(tested, [*files, str(labels)], failed, len(kept), contents)
    models = dict.fromkeys(model for one in read for model in one.models)
    report = whole_report(given, config, data, figures, engine=None, model=", ".join(models))
    return report, Mistakes()


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


def _read(files: Sequence[str], *, merge: bool) -> list[Predictions]:
    """Return the predictions of each file, or of all as one."""
    from bike_cli.data.predictions.merge import merged
    from bike_cli.data.predictions.predictions import read_predictions

    copies = [_there(file) if isinstance(file, Piped) else None for file in files]
    read = [read_predictions(file, copy=copy, is_part=merge) for file, copy in zip(files, copies, strict=True)]
    return [merged(read)] if merge else read


def _joined(read: Sequence[Predictions], tested: Tested, unknown: object) -> list[Joined]:
    from bike_cli.data.predictions.predictions import join

    return [join(one, tested, unknown=None if unknown is None else str(unknown)) for one in read]


def _table(joined: Joined, tested: Tested) -> ScoreTable:
    from bike_cli.tasks.evaluate.evaluation import names_of, truth_of
    from bike_cli.tasks.evaluate.score_table import ScoreTable

    places = range(len(joined.truth.samples))
    names, truth = names_of(joined.truth, places), truth_of(joined.truth, places)
    return ScoreTable(tested.labels, names, joined.logits, truth, joined.named)


def _named(files: Sequence[str]) -> list[str]:
    """Return names of files that are short, and different."""
    stems = [Path(file).stem for file in files]
    return stems if len(set(stems)) == len(stems) else list(files)


def _tell_left_out(file: str, joined: Joined, config: EvalConfig) -> None:
    """Warn of videos and figures that are left out.

    Raises:
        UsageError: what is asked for needs the scores of all labels.
    """
    from bike_cli.tasks.evaluate.figures import TOP

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
