"""What the file of an earlier run holds, and whether this run may add to it."""

from __future__ import annotations

import hashlib
import json
from collections import Counter
from collections.abc import Iterable
from dataclasses import dataclass, field
from pathlib import Path
from typing import NamedTuple

from bike_cli.cli.classify.summary import Tally
from bike_cli.config import ClassifyConfig
from bike_cli.errors import UsageError
from bike_cli.settings import flatten

SHOWN = 60  # characters of a label in a message
TRIED_AGAIN = frozenset({"internal"})  # kinds of failure that are no fault of the video


class Shape(NamedTuple):
    """What all records of a file share."""

    labels: frozenset[str]
    top: int
    explain: bool
    settings: str


@dataclass
class Held:
    """The records of a file, in little room: 16 bytes stand for a path.

    Args:
        ranges: of the bytes that stay, (start, stop), ascending. They hold all whole records but those of failures
            that are tried again.
        n_tried_again: how many those are; nothing else here counts them.
        model: of all predictions; None where there is none yet.
    """

    name: str = ""
    ranges: list[tuple[int, int]] = field(default_factory=list)
    n_tried_again: int = 0
    model: str | None = None
    tally: Tally = field(default_factory=Tally)
    _left: Counter[bytes] = field(default_factory=Counter)

    def take(self, name: str) -> bool:
        """Return whether a record of this video is here that no earlier call has taken."""
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
        """Raise UsageError where the records were made by another model."""
        if self.model not in (None, model):
            raise UsageError(
                f"{self.name}: holds answers of the model {self.model}, and this run's is {model}; "
                f"choose --model {self.model}, or another name for -o"
            )

    def keep(self, start: int, stop: int) -> None:
        """Let a range of bytes stay, which lies behind all others."""
        if self.ranges and self.ranges[-1][1] == start:
            start = self.ranges.pop()[0]
        self.ranges.append((start, stop))

    def add(self, record: dict[str, object], shape: Shape, *, where: str) -> bool:
        """Count a record, or raise UsageError where it does not fit the others or this run.

        Returns:
            False for a failure that is tried again, which is not counted among the records.
        """
        path, error = record.get("path"), record.get("error")
        if not isinstance(path, str):
            raise _no_record(where)
        if record.get("status") == "ok":
            model = _checked_model(record, shape, where=where)
            if self.model not in (None, model):
                raise UsageError(f"{where}: is of the model {model}, those above of {self.model}; split the file")
            self.model = model
            self.tally.ok += 1
        elif isinstance(error, dict) and isinstance(error.get("type"), str):
            if error["type"] in TRIED_AGAIN:
                self.n_tried_again += 1
                return False
            self.tally.failed[error["type"]] += 1
        else:
            raise _no_record(where)
        self._left[_place(path)] += 1
        return True


def settings_of(labels: Iterable[str], config: ClassifyConfig, *, learnt_by: str = "") -> str:
    """Return eight hex digits that stand for the labels and for all options that answers depend on, but the model.

    Args:
        learnt_by: digest of a classifier; empty: there is none.
    """
    told = flatten(config)
    for name in (*flatten(config.engine), *flatten(config.store)):
        told.pop(name)
    for name in ("workers", "decode_timeout", "decode_memory"):
        told.pop(name)
    text = json.dumps([sorted(labels), told, learnt_by], sort_keys=True)
    return hashlib.blake2b(text.encode(), digest_size=4).hexdigest()


def read_held(path: Path, shape: Shape, *, named: Path) -> Held:
    """Return what a file of JSON lines holds; a last line that was cut short by the end of its run does not count.

    Raises:
        UsageError: a line that is no record; labels, their number or an explanation unlike this run's.
    """
    held = Held(str(named))
    position = 0
    torn: tuple[str, bytes] | None = None
    with path.open("rb") as file:
        for number, line in enumerate(file, start=1):
            if torn is not None:
                raise _no_record(torn[0])
            where = f"{named}:{number}"
            record = _parsed(line)
            if record is None:
                torn = (where, line)
                continue
            start, position = position, position + len(line)
            if not line.strip() or held.add(record, shape, where=where):
                held.keep(start, position)
    # A file that is no answer of bike is not to be cut: `{` begins a record, and zeros are what a power cut leaves.
    if torn is not None and torn[1][:1] not in (b"{", b"\0"):
        raise _no_record(torn[0])
    return held


def _parsed(line: bytes) -> dict[str, object] | None:
    """Return the object of a line, an empty one of a blank line, None of one that is torn."""
    if not line.endswith(b"\n"):
        return None
    try:
        record = json.loads(line.decode()) if line.strip() else {}
    except ValueError:
        return None
    return record if isinstance(record, dict) else {"": record}


def _checked_model(record: dict[str, object], shape: Shape, *, where: str) -> str:
    """Return the model of a prediction, or raise UsageError where its labels are not those of this run."""
    model, top = record.get("model"), record.get("top")
    if not isinstance(model, str) or not isinstance(top, list):
        raise _no_record(where)
    labels = [r.get("label") for r in top if isinstance(r, dict)]
    if len(labels) < len(top) or not all(isinstance(label, str) for label in labels):
        raise _no_record(where)
    unknown = next((label for label in labels if label not in shape.labels), None)
    if unknown is not None:
        shown = ", ".join(sorted(shape.labels))
        shown = shown if len(shown) <= SHOWN else f"{shown[:SHOWN]}…"
        raise UsageError(f"{where}: holds the label {unknown!r}, and this run's are {shown}; choose another -o")
    if len(top) != shape.top:
        raise UsageError(f"{where}: shows {len(top)} labels, and this run {shape.top}; set --top, or choose another -o")
    if ("saliency" in record) != shape.explain:
        has, wants = ("an", "none") if "saliency" in record else ("no", "one")
        raise UsageError(f"{where}: has {has} explanation, and this run gives {wants}; fix --explain, or the -o")
    if record.get("settings", shape.settings) != shape.settings:
        raise UsageError(
            f"{where}: was made with other labels or options, which change scores; "
            "give those of the run before, or choose another -o"
        )
    return model


def _no_record(where: str) -> UsageError:
    return UsageError(f"{where}: is no record of bike; remove the line, or leave --resume out to start over")


def _place(path: str) -> bytes:
    # Any surrogate passes: the file may have been edited.
    return hashlib.blake2b(path.encode(errors="surrogatepass"), digest_size=16).digest()
