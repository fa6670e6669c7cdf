"""A chunk of videos in, one Parquet file out: what the workers of any cluster run, with no engine of its own."""

from __future__ import annotations

import hashlib
import json
import secrets
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, fields
from pathlib import Path

from torch import Tensor

from bike_cli.config import RESULTS, ClassifyConfig
from bike_cli.data.parts.folder import FORMAT, RUN_FILE, PartFolder, part_folder
from bike_cli.data.parts.tables import as_parquet, as_table, part_name, read_found
from bike_cli.data.predictions.objects import as_object
from bike_cli.engine.heads.few_shot import Head
from bike_cli.engine.models.weights import digest_of_weights
from bike_cli.errors import UsageError
from bike_cli.inference.classifier import Classifier
from bike_cli.records import Source
from bike_cli.settings import settings_affecting
from bike_cli.tasks.classify import classify_with
from bike_cli.versions import __version__
from bike_cli.video.workers.pool import DecodePool


@dataclass(frozen=True)
class Part:
    """A Parquet file with the records of a chunk of videos.

    Args:
        name: of the file, in its folder.
        ok: the number of answers.
        failed: the number of failures, by kind.
        is_new: whether this call wrote it; False: it existed.
    """

    name: str
    ok: int
    failed: Mapping[str, int]
    is_new: bool


def classify_part(
    classifier: Classifier,
    videos: Sequence[str | Path | Source],
    folder: str,
    *,
    pool: DecodePool | None = None,
) -> Part:
    """Classify a chunk of videos, and write their records to a file in a folder; do nothing if that file exists.

    The name of the file is a digest of the videos and the classifier, and the file appears when it is complete. So a
    task that died can be started again, on any machine, and a job that is run again does what is left. `bike eval` and
    all readers of Parquet read the folder.

    Args:
        classifier: what `prepare_classifier` returns.
        videos: paths and sources, up to some thousand.
        folder: on a disk that all workers share, or a URI such as `s3://bucket/answers/`.
        pool: running workers, as in `classify_with`.
    Raises:
        TypeError: `videos` is a single path, or the classifier was made for another task.
        UsageError: the folder cannot be written, or contains records of another classifier.
    """
    if isinstance(videos, (str, Path)):
        raise TypeError("videos must be a list; put a single one in brackets")
    if not isinstance(classifier.config, ClassifyConfig):
        raise TypeError("classifier was made for another task; call prepare_classifier")
    names, settings = [v.id if isinstance(v, Source) else str(v) for v in videos], settings_of(classifier)
    name = part_name(names, settings)
    target = part_folder(folder, tag=secrets.token_hex(4))  # two tasks may do the same chunk at the same time
    if name in target.parts():
        errors = [found.error for found in read_found(target, name)]
        return Part(name, errors.count(None), Counter(filter(None, errors)), is_new=False)
    facts = _begin(target, classifier, settings)
    records = [as_object(answer, settings) for answer in classify_with(classifier, videos, pool=pool)]
    target.write(name, as_parquet(as_table(records, facts)))
    failed = Counter(str(error["type"]) for record in records if isinstance(error := record.get("error"), dict))
    return Part(name, len(records) - failed.total(), failed, is_new=True)


def settings_of(classifier: Classifier) -> str:
    """Return eight digits that stand for all that the scores of a classifier depend on besides the videos."""
    rejector, head = classifier.rejector, classifier.head
    facts = [
        sorted(classifier.labels),
        settings_affecting(classifier.config, *RESULTS),
        classifier.model_digest,
        sorted((label, list(texts)) for label, texts in classifier.descriptions.items()),
        None if head is None else _digest_of_head(head),
        None if rejector is None else [rejector.least, rejector.phrases, repr(rejector.calibration)],
    ]
    return hashlib.blake2b(json.dumps(facts, sort_keys=True).encode(), digest_size=4).hexdigest()


def _digest_of_head(head: Head) -> list[str]:
    values = {f.name: getattr(head, f.name) for f in fields(head)}
    weights = {name: value for name, value in values.items() if isinstance(value, Tensor)}
    return [digest_of_weights(weights), *(repr(value) for name, value in values.items() if name not in weights)]


def _begin(folder: PartFolder, classifier: Classifier, settings: str) -> dict[str, object]:
    """Return what all records of a folder have in common; write it, if this is the first part."""
    placement = classifier.engine.encoder.placement
    facts: dict[str, object] = {
        "format": FORMAT,
        "command": "classify",
        "settings": settings,
        "model": classifier.engine.name,
    }
    facts |= {"model_digest": classifier.model_digest, "precision": placement.precision, "bike": __version__}
    folder.create()
    while (existing := folder.read_json(RUN_FILE)) is None:
        folder.create_json(RUN_FILE, facts)
    different = next((name for name in facts if name != "bike" and existing.get(name) != facts[name]), None)
    if different is not None:
        has, wants = existing.get(different), facts[different]
        problem = f"contains records with {different} {has}, and this classifier has {wants}"
        raise UsageError(f"{folder.name}: {problem}; choose another folder")
    return facts
