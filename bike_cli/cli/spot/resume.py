"""What the records of `bike spot` have in common, so that a run may add to those of an earlier one."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

from bike_cli.cli.videos.differences import Given
from bike_cli.cli.videos.existing import describe_descriptions, not_a_record, settings_digest, without_descriptions
from bike_cli.config import RESULTS, Descriptions, SpotConfig
from bike_cli.errors import UsageError
from bike_cli.json_text import JsonObject
from bike_cli.settings import settings_affecting

if TYPE_CHECKING:
    from bike_cli.engine.heads.saved_classifier import SavedClassifier


@dataclass(frozen=True)
class SpotFormat:
    """What all records of a file have in common.

    Args:
        settings: stands for the labels and all settings that segments depend on.
        top: segments per label; None: all.
        timeline: whether records contain the scores of all bins.
        given: the labels and settings themselves.
    """

    settings: str
    top: int | None
    timeline: bool
    given: Given = Given()

    def check(self, record: JsonObject, *, where: str) -> str:
        """Return the model of a record, or raise UsageError if it differs from what this run writes."""
        model, segments = record.get("model"), record.get("segments")
        if not isinstance(model, str) or not isinstance(segments, list):
            raise not_a_record(where)
        if ("timeline" in record) != self.timeline:
            has, fix = ("a", "add") if "timeline" in record else ("no", "remove")
            problem = f"{where}: has {has} timeline, unlike this run"
            raise UsageError(f"{problem}; {fix} --timeline, or choose another -o", settings=("timeline",))
        if record.get("settings") != self.settings:
            raise UsageError(
                f"{where}: was made with other labels or settings, which change segments; "
                "use those of the earlier run, or choose another -o"
            )
        return model


def spot_format(
    labels: Sequence[str],
    none: Sequence[str],
    config: SpotConfig,
    saved: SavedClassifier | None,
    descriptions: Descriptions | None = None,
) -> SpotFormat:
    """Return what all records of a run have in common."""
    settings = without_descriptions(settings_affecting(config, *RESULTS))
    settings |= describe_descriptions(descriptions or {}, config.descriptions)
    del settings["model"]  # each record names it
    # Of a label's segments, fewer are written with --top.
    settings |= {"top": config.top, "none": "\n".join(sorted(none))}
    digest = "" if saved is None else saved.digest
    given = Given.of(labels, settings, digest)
    return SpotFormat(settings_digest(labels, settings, digest), config.top, config.timeline, given)
