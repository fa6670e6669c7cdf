"""The records that an earlier run wrote, and whether this run may add to them."""

from __future__ import annotations

import hashlib
import json
import logging
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Protocol

from bike_cli.cli.videos.retries import RETRIED, RetriedFailures
from bike_cli.cli.videos.summary import Tally
from bike_cli.config import Descriptions, DescriptionUse
from bike_cli.data.parts.names import NameCounts
from bike_cli.data.predictions.objects import DIGEST
from bike_cli.errors import UsageError
from bike_cli.json_text import JsonObject
from bike_cli.records import Source
from bike_cli.settings import SettingValue
from bike_cli.wording import count

logger = logging.getLogger(__name__)


class Record(Protocol):
    """What a run writes for a video."""

    @property
    def source(self) -> Source:
        """The video."""


class RecordCheck(Protocol):
    """Knows what the answers of a run look like."""

    def check(self, record: JsonObject, *, where: str) -> str:
        """Return the model that made an answer, or raise UsageError if this run would write another kind of answer."""


@dataclass
class ExistingRecords:
    """The records of a file, in little memory: 17 bytes stand for a path.

    Args:
        size: bytes of the whole records.
        retried: failures that are tried again; `tally` does not count them.
        model: the model that made the predictions; None without predictions.
        digest: stands for its weights and settings; None without predictions, and in records of earlier versions.
    """

    name: str = ""
    size: int = 0
    retried: RetriedFailures = field(default_factory=RetriedFailures)
    model: str | None = None
    digest: str | None = None
    tally: Tally = field(default_factory=Tally)
    _left: NameCounts = field(default_factory=NameCounts)

    @property
    def kept(self) -> Tally:
        """The number of records that this run has not replaced."""
        return self.tally + Tally(failed=self.retried.kinds)

    def note(self, record: Record) -> None:
        """Note that this run has written a record."""
        self.retried.replace(record.source.id)

    def take(self, name: str) -> bool:
        """Take one of the records of this video; return False if all of them are taken."""
        return bool(self._left) and self._left.take(name)

    def begin(self, model: str, digest: str, *, precision: str) -> None:
        """Raise UsageError if another model, or another version of it, made the records.

        Args:
            precision: in which the model computes.
        """
        del precision  # records do not say in which precision they were computed
        self.check_model(model)
        self.check_digest(model, digest)

    def check_precision(self, precision: str) -> None:
        """Raise UsageError if the records were computed in another precision; `begin` does so, too, but later."""
        del precision  # records do not say

    def check_model(self, model: str) -> None:
        """Raise UsageError if another model made the records."""
        if self.model not in (None, model):
            raise UsageError(
                f"{self.name}: contains answers of the model {self.model}, and this run uses {model}; "
                f"use --model {self.model}, or another -o",
                settings=("model",),
            )

    def check_digest(self, model: str, digest: str) -> None:
        """Raise UsageError if a model of the same name, but with other weights or settings, made the records.

        Args:
            digest: of the model alone, or as in records, with that of an attribute model.
        """
        if self.digest is not None and self.digest != digest and not self.digest.startswith(f"{digest}-"):
            raise UsageError(
                f"{self.name}: contains answers of another version of the model {model} (its digest was {self.digest} "
                f"and is now {digest}); restore its weights and settings, or choose another -o",
                settings=("model",),
            )

    def log_retries(self) -> None:
        """Log how many failures this run tries again."""
        if self.retried.n_read:
            retried = count(self.retried.n_read, "internal failure is", "internal failures are")
            logger.info("%s: %s tried again", self.name, retried)

    def add(self, record: JsonObject, wanted: RecordCheck, *, where: str, place: tuple[int, int]) -> None:
        """Count a record, or raise UsageError if it does not fit the others or this run.

        Args:
            place: its byte range, (start, stop).
        """
        path, error = record.get("path"), record.get("error")
        if not isinstance(path, str):
            raise not_a_record(where)
        if record.get("status") == "ok":
            model, digest = wanted.check(record, where=where), record.get(DIGEST)
            if not isinstance(digest, str | None):
                raise not_a_record(where)
            if self.model not in (None, model):
                raise UsageError(f"{where}: the model is {model}, and {self.model} above; split the file")
            if digest is not None and self.digest not in (None, digest):
                problem = f"the digest of the model is {digest}, and {self.digest} above"
                raise UsageError(f"{where}: {problem}; split the file")
            self.model, self.digest = model, digest or self.digest
            self.tally.ok += 1
        elif isinstance(error, dict) and isinstance(error.get("type"), str):
            if error["type"] in RETRIED:
                self.retried.add(path, error["type"], *place)
                return
            self.tally.failed[error["type"]] += 1
        else:
            raise not_a_record(where)
        self._left.add(path)
        self.retried.replace(path)  # of a run that was killed before it removed the failure


def without_descriptions(settings: Mapping[str, SettingValue]) -> dict[str, SettingValue]:
    """Return settings without how descriptions are used: it counts only where there are some."""
    return {name: value for name, value in settings.items() if name != "descriptions"}


def describe_descriptions(descriptions: Descriptions, use: DescriptionUse) -> dict[str, SettingValue]:
    """Return what stands for the descriptions of labels in the settings of records; empty if none count."""
    if use == "off" or not any(descriptions.values()):
        return {}
    described = sorted((label, list(texts)) for label, texts in descriptions.items() if texts)
    return {"descriptions": json.dumps([use, described])}


def settings_digest(labels: Sequence[str], settings: Mapping[str, SettingValue], saved: str) -> str:
    """Return what stands for labels, settings, and the digest of a saved classifier in records: eight digits."""
    text = json.dumps([sorted(labels), settings, saved], sort_keys=True)
    return hashlib.blake2b(text.encode(), digest_size=4).hexdigest()


def read_existing(path: Path, wanted: RecordCheck, *, named: Path) -> ExistingRecords:
    """Return the records of a file of JSON lines, without a last line that was cut short when its run ended.

    Raises:
        UsageError: a line is not a record, or differs from this run in its labels, settings or format.
    """
    existing = ExistingRecords(str(named))
    position = 0
    torn: tuple[str, bytes] | None = None
    with path.open("rb") as file:
        for number, line in enumerate(file, start=1):
            if torn is not None:
                raise not_a_record(torn[0])
            where = f"{named}:{number}"
            record = _parsed(line)
            if record is None:
                torn = (where, line)
                continue
            start, position = position, position + len(line)
            if line.strip():
                existing.add(record, wanted, where=where, place=(start, position))
    existing.size = position
    # Never cut a file that is not bike's: a record begins with `{`, and a power cut leaves zeros.
    if torn is not None and torn[1][:1] not in (b"{", b"\0"):
        raise not_a_record(torn[0])
    return existing


def _parsed(line: bytes) -> JsonObject | None:
    """Return the object of a line; an empty one for a blank line, None for a torn line."""
    if not line.endswith(b"\n"):
        return None
    try:
        record = json.loads(line.decode()) if line.strip() else {}
    except ValueError:
        return None
    return record if isinstance(record, dict) else {"": record}


def not_a_record(where: str) -> UsageError:
    """Return the error for a line that is not a record of bike."""
    return UsageError(f"{where}: is not a record of bike; remove the line, or leave --resume out to start over")
