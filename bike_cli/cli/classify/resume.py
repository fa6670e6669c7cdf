"""What the records of `bike classify` have in common, so that a run may add to those of an earlier one."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, NamedTuple

from bike_cli.cli.videos.differences import Given
from bike_cli.cli.videos.existing import describe_descriptions, not_a_record, settings_digest, without_descriptions
from bike_cli.config import RESULTS, ClassifyConfig, Descriptions
from bike_cli.errors import UsageError
from bike_cli.json_text import JsonObject
from bike_cli.settings import settings_affecting
from bike_cli.wording import count

if TYPE_CHECKING:
    from bike_cli.cli.videos.rejection import RejectionRule
    from bike_cli.engine.heads.saved_classifier import SavedClassifier

SHOWN = 60  # characters of a label in a message
ADDED_SINCE_0_1 = ("precision",)  # settings that version 0.1 did not compare
SCORES = "softmax"  # all that there was before --scores
NO_REJECTION = "off"  # all that there was before --reject


class RecordFormat(NamedTuple):
    """What all records of a file have in common.

    Args:
        settings: stands for the labels and all settings that scores depend on.
        settings_0_1: the same, as version 0.1 wrote it.
        rejects: whether records say if a video fits none of the labels.
        given: the labels and settings themselves.
    """

    labels: frozenset[str]
    top: int
    explain: bool
    scores: str
    settings: str
    settings_0_1: str
    rejects: bool = False
    given: Given = Given()

    def check(self, record: JsonObject, *, where: str) -> str:
        """Return the model of a prediction, or raise UsageError if it differs from what this run writes."""
        model, top = record.get("model"), record.get("top")
        if not isinstance(model, str) or not isinstance(top, list):
            raise not_a_record(where)
        labels = [r.get("label") for r in top if isinstance(r, dict)]
        if len(labels) < len(top) or not all(isinstance(label, str) for label in labels):
            raise not_a_record(where)
        unknown = next((label for label in labels if label not in self.labels), None)
        if unknown is not None:
            shown = ", ".join(sorted(self.labels))
            shown = shown if len(shown) <= SHOWN else f"{shown[:SHOWN]}…"
            raise UsageError(f"{where}: has the label {unknown!r}, and this run has {shown}; choose another -o")
        if len(top) != self.top:
            raise UsageError(
                f"{where}: has {count(len(top), 'label')}, this run {self.top}; set --top, or choose another -o",
                settings=("top",),
            )
        if ("saliency" in record) != self.explain:
            has, fix = ("an", "add") if "saliency" in record else ("no", "remove")
            problem = f"{where}: has {has} explanation, unlike this run"
            raise UsageError(f"{problem}; {fix} --explain, or choose another -o", settings=("explain",))
        scores = record.get("scores", SCORES)
        if scores != self.scores:
            problem = f"{where}: has {scores} scores, this run {self.scores}"
            raise UsageError(f"{problem}; set --scores, or choose another -o", settings=("scores",))
        if ("rejected" in record) != self.rejects:
            says, fix = ("say", "give") if "rejected" in record else ("do not say", "leave out")
            raise UsageError(
                f"{where}: its records {says} whether a video fits none of the labels; {fix} --reject, --none and "
                "--calibration, or choose another -o"
            )
        if record.get("settings", self.settings) not in (self.settings, self.settings_0_1):
            raise UsageError(
                f"{where}: was made with other labels or settings, which change scores; "
                "use those of the earlier run, or choose another -o"
            )
        return model


def record_format(
    labels: Sequence[str],
    config: ClassifyConfig,
    saved: SavedClassifier | None,
    descriptions: Descriptions | None = None,
    rule: RejectionRule | None = None,
) -> RecordFormat:
    """Return what all records of a run have in common."""
    settings = without_descriptions(settings_affecting(config, *RESULTS))
    del settings["model"]  # each record names it
    if settings["scores"] == SCORES:
        del settings["scores"]  # so that earlier records, which do not have it, can be resumed
    if settings["reject"] == NO_REJECTION:
        del settings["reject"]
    if settings["promise"] is None:
        del settings["promise"]
    settings |= {} if rule is None else rule.settings()
    # In version 0.1, what is shown was part of the settings, too.
    old = {**settings, **settings_affecting(config, "nothing")}
    old = {name: value for name, value in old.items() if name not in ADDED_SINCE_0_1}
    described = describe_descriptions(descriptions or {}, config.descriptions)
    settings, old = {**settings, **described}, {**old, **described}
    digest = "" if saved is None else saved.digest
    top = min(config.top, len(labels))
    digests = (settings_digest(labels, settings, digest), settings_digest(labels, old, digest))
    rejects = rule is not None and rule.is_used
    return RecordFormat(
        frozenset(labels), top, config.explain, config.scores, *digests, rejects, Given.of(labels, settings, digest)
    )
