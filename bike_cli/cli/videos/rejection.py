"""How a run decides that a video fits none of the labels."""

from __future__ import annotations

import hashlib
import json
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import TYPE_CHECKING

from bike_cli.cli.videos.labels import phrases_of
from bike_cli.config import Descriptions, RejectionConfig

if TYPE_CHECKING:
    from bike_cli.engine.calibration.calibration import Calibration
    from bike_cli.engine.heads.saved_classifier import SavedClassifier


@dataclass(frozen=True, eq=False)
class RejectionRule:
    """How a run decides that a video fits none of the labels.

    Args:
        reject: as in `RejectionConfig`.
        phrases: what else may be seen.
        calibration: from `--calibration` or, with `reject` auto, from the classifier; None: there is none there.
        digest: of the calibration.
        descriptions: of the phrases, by phrase.
    """

    reject: str = "off"
    phrases: tuple[str, ...] = ()
    calibration: Calibration | None = None
    digest: str = ""
    descriptions: Descriptions = field(default_factory=dict)

    @property
    def is_used(self) -> bool:
        """Whether records say if a video is rejected."""
        return self.reject != "off" or bool(self.phrases) or self.calibration is not None

    def settings(self) -> dict[str, str]:
        """Return the rule's part of the digest of settings, without `reject`; empty if the rule is not used."""
        return {"none": "\n".join(sorted(self.phrases)), "calibration": self.digest} if self.is_used else {}


def rule_of(
    config: RejectionConfig,
    calibration: Path | None,
    none: tuple[str, ...] = (),
    none_from: Path | None = None,
    saved: SavedClassifier | None = None,
) -> RejectionRule:
    """Return the rule of a run.

    Args:
        calibration: file that `bike calibrate` wrote; None: `reject` auto uses the calibration in the classifier.
        none: phrases, as `--none` gives them.
        none_from: file of more phrases.
        saved: the classifier that decides; None: cosines do.
    Raises:
        UsageError: a file that cannot be read, `--reject auto` without a calibration, or a promise without that.
    """
    from bike_cli.engine.calibration.files import read_calibration, to_json

    chosen = config.choose_calibration(calibration, saved)
    phrases = phrases_of(none, none_from)
    rule = RejectionRule(config.reject, phrases.labels, descriptions=phrases.descriptions)
    if chosen is None:
        return rule
    if isinstance(chosen, Path):
        read, content = read_calibration(chosen), chosen.read_bytes()
    else:
        read, content = chosen, json.dumps(to_json(chosen), sort_keys=True).encode()
    return replace(rule, calibration=read, digest=hashlib.blake2b(content).hexdigest())
