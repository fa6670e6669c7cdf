"""The records that an earlier run wrote, and whether this run may add to them."""

from __future__ import annotations

import hashlib
import json
import os
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, NamedTuple

from bike_cli.cli.terminal.json_text import JsonObject
from bike_cli.cli.videos.summary import Tally
from bike_cli.config import RESULTS, ClassifyConfig
from bike_cli.errors import UsageError
from bike_cli.settings import settings_affecting
from bike_cli.wording import count

if TYPE_CHECKING:
    from bike_cli.engine.heads.saved_classifier import SavedClassifier

SHOWN = 60  # characters of a label in a message
RETRIED = frozenset({"internal"})  # kinds of failure that are not the video's fault
ADDED_SINCE_0_1 = ("precision",)  # settings that version 0.1 did not compare
SCORES = "softmax"  # all that there was before --scores


class RecordFormat(NamedTuple):
    """What all records of a file have in common.

    Args:
        settings: stands for the labels and all settings that scores depend on.
        settings_0_1: the same, as version 0.1 wrote it.
    """

    labels: frozenset[str]
    top: int
    explain: bool
    scores: str
    settings: str
    settings_0_1: str


@dataclass
class ExistingRecords:
    """The records of a file, in little memory: 16 bytes stand for a path.

    Args:
        ranges: byte ranges to keep, (start, stop), ascending. They contain all whole records except failures that are
            retried.
        n_retried: the number of those failures; nothing else here counts them.
        model: the model that made the predictions; None without predictions.
    """

    name: str = ""
    ranges: list[tuple[int, int]] = field(default_factory=list)
    n_retried: int = 0
    model: str | None = None
    tally: Tally = field(default_factory=Tally)
    _left: Counter[bytes] = field(default_factory=Counter)

    def take(self, name: str) -> bool:
        """Take one of the records of this video; return False if all of them are taken."""
        if not self._left:
            return False
        place = _place(name)
        if place not in self._left:
            return False
        self._left[place] -= 1
        if not self._left[place]:
            del self._left[place]
        return True

    def check_model(self, model: str) -> None:
        """Raise UsageError if another model made the records."""
        if self.model not in (None, model):
            raise UsageError(
                f"{self.name}: contains answers of the model {self.model}, and this run uses {model}; "
                f"use --model {self.model}, or another -o",
                settings=("model",),
            )

    def keep(self, start: int, stop: int) -> None:
        """Keep a range of bytes that follows all others."""
        if self.ranges and self.ranges[-1][1] == start:
            start = self.ranges.pop()[0]
        self.ranges.append((start, stop))

    def add(self, record: JsonObject, wanted: RecordFormat, *, where: str) -> bool:
        """Count a record, or raise UsageError if it does not fit the others or this run.

        Returns:
            False for a failure that is retried, which is not counted.
        """
        path, error = record.get("path"), record.get("error")
        if not isinstance(path, str):
            raise _not_a_record(where)
        if record.get("status") == "ok":
            model = _checked_model(record, wanted, where=where)
            if self.model not in (None, model):
                raise UsageError(f"{where}: the model is {model}, and {self.model} above; split the file")
            self.model = model
            self.tally.ok += 1
        elif isinstance(error, dict) and isinstance(error.get("type"), str):
            if error["type"] in RETRIED:
                self.n_retried += 1
                return False
            self.tally.failed[error["type"]] += 1
        else:
            raise _not_a_record(where)
        self._left[_place(path)] += 1
        return True


def record_format(labels: Sequence[str], config: ClassifyConfig, saved: SavedClassifier | None) -> RecordFormat:
    """Return what all records of a run have in common."""
    settings = settings_affecting(config, *RESULTS)
    del settings["model"]  # each record names it
    if settings["scores"] == SCORES:
        del settings["scores"]  # so that earlier records, which do not have it, can be resumed
    # In version 0.1, what is shown was part of the settings, too.
    old = {**settings, **settings_affecting(config, "nothing")}
    old = {name: value for name, value in old.items() if name not in ADDED_SINCE_0_1}
    digest = "" if saved is None else saved.digest
    top = min(config.top, len(labels))
    digests = (_digest(labels, settings, digest), _digest(labels, old, digest))
    return RecordFormat(frozenset(labels), top, config.explain, config.scores, *digests)


def _digest(labels: Sequence[str], settings: Mapping[str, object], saved: str) -> str:
    text = json.dumps([sorted(labels), settings, saved], sort_keys=True)
    return hashlib.blake2b(text.encode(), digest_size=4).hexdigest()


def read_existing(path: Path, wanted: RecordFormat, *, named: Path) -> ExistingRecords:
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
                raise _not_a_record(torn[0])
            where = f"{named}:{number}"
            record = _parsed(line)
            if record is None:
                torn = (where, line)
                continue
            start, position = position, position + len(line)
            if not line.strip() or existing.add(record, wanted, where=where):
                existing.keep(start, position)
    # Never cut a file that is not bike's: a record begins with `{`, and a power cut leaves zeros.
    if torn is not None and torn[1][:1] not in (b"{", b"\0"):
        raise _not_a_record(torn[0])
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


def _checked_model(record: JsonObject, wanted: RecordFormat, *, where: str) -> str:
    """Return the model of a prediction, or raise UsageError if it differs from what this run writes."""
    model, top = record.get("model"), record.get("top")
    if not isinstance(model, str) or not isinstance(top, list):
        raise _not_a_record(where)
    labels = [r.get("label") for r in top if isinstance(r, dict)]
    if len(labels) < len(top) or not all(isinstance(label, str) for label in labels):
        raise _not_a_record(where)
    unknown = next((label for label in labels if label not in wanted.labels), None)
    if unknown is not None:
        shown = ", ".join(sorted(wanted.labels))
        shown = shown if len(shown) <= SHOWN else f"{shown[:SHOWN]}…"
        raise UsageError(f"{where}: has the label {unknown!r}, and this run has {shown}; choose another -o")
    if len(top) != wanted.top:
        raise UsageError(
            f"{where}: has {count(len(top), 'label')}, this run {wanted.top}; set --top, or choose another -o",
            settings=("top",),
        )
    if ("saliency" in record) != wanted.explain:
        has, fix = ("an", "add") if "saliency" in record else ("no", "remove")
        problem = f"{where}: has {has} explanation, unlike this run"
        raise UsageError(f"{problem}; {fix} --explain, or choose another -o", settings=("explain",))
    scores = record.get("scores", SCORES)
    if scores != wanted.scores:
        problem = f"{where}: has {scores} scores, this run {wanted.scores}"
        raise UsageError(f"{problem}; set --scores, or choose another -o", settings=("scores",))
    if record.get("settings", wanted.settings) not in (wanted.settings, wanted.settings_0_1):
        raise UsageError(
            f"{where}: was made with other labels or settings, which change scores; "
            "use those of the earlier run, or choose another -o"
        )
    return model


def _not_a_record(where: str) -> UsageError:
    return UsageError(f"{where}: is not a record of bike; remove the line, or leave --resume out to start over")


def _place(path: str) -> bytes:
    """Return what stands for a path: the same for `clips/a.mp4`, `./clips/a.mp4` and its absolute path."""
    absolute = os.path.abspath(path)  # noqa: PTH100 - Path.absolute keeps a/../
    # Surrogates of any kind are accepted: the file may have been edited.
    return hashlib.blake2b(absolute.encode(errors="surrogatepass"), digest_size=16).digest()
