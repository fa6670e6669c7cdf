"""What is probably a mistake in annotations and detections: counted, with the first of each kind named."""

from __future__ import annotations

import logging
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import NamedTuple

from bike_cli.errors import shorten
from bike_cli.tasks.detection.report import DataProblem
from bike_cli.wording import count

logger = logging.getLogger(__name__)

SHOWN = 120  # characters of a name in a warning


class Kind(NamedTuple):
    """A kind of problem.

    Args:
        one, several: what there is, for one and for several.
        fate: what becomes of them.
        official: what becomes of them in the official code, where that differs.
    """

    one: str
    several: str
    fate: str
    official: str | None = None


PROBLEMS: Mapping[str, Kind] = {
    "zero_length": Kind(
        "true segment has no length",
        "true segments have no length",
        "left out",
        "counted as missed in mAP, as in the official code",
    ),
    "reversed": Kind(
        "true segment ends before it starts",
        "true segments end before they start",
        "left out",
        "counted as missed in mAP, as in the official code",
    ),
    "repeated": Kind("true segment is annotated twice", "true segments are annotated twice", "used"),
    "outside": Kind(
        "true segment is partly outside its video", "true segments are partly outside their videos", "used as annotated"
    ),
    "no_duration": Kind(
        "video has an unknown length", "videos have an unknown length", "counted up to the last segment"
    ),
    "no_detections": Kind("video has no answer", "videos have no answer", "counted as without detections"),
    "not_annotated": Kind(
        "video is not annotated",
        "videos are not annotated",
        "left out",
        "their detections are counted as wrong in mAP, as in the official code",
    ),
    "unknown_label": Kind(
        "label is not in the annotations", "labels are not in the annotations", "left out of mAP, wrong elsewhere"
    ),
    "never_detected": Kind("label is never detected", "labels are never detected", "counted with AP 0"),
    "detected_empty": Kind(
        "detected segment ends before or when it starts",
        "detected segments end before or when they start",
        "counted as wrong",
    ),
}


@dataclass
class Problems:
    """Collects problems; `official` says whether they are handled as in the official code."""

    official: bool
    _found: dict[tuple[str, str], list[str]] = field(default_factory=dict)

    def add(self, origin: str, kind: str, name: str) -> None:
        """Count a problem of a kind of `PROBLEMS`."""
        self._found.setdefault((origin, kind), []).append(name)

    def found(self) -> tuple[DataProblem, ...]:
        """Return a problem for each origin and kind."""
        return tuple(DataProblem(origin, kind, len(names), names[0]) for (origin, kind), names in self._found.items())

    def warn(self) -> None:
        """Log a warning for each origin and kind."""
        for problem in self.found():
            kind = PROBLEMS[problem.kind]
            fate = kind.official if self.official and kind.official is not None else kind.fate
            first = shorten(problem.first, SHOWN)
            name = f", {first}" if problem.count == 1 else f", first {first}"
            number = f"{count(problem.count, kind.one, kind.several)}"
            logger.warning("%s: %s%s; %s", problem.origin, number, name, fate)
