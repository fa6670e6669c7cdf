"""How a run decides that a video fits none of the labels."""

from __future__ import annotations

import hashlib
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING

from bike_cli.cli.videos.labels import phrases_of
from bike_cli.config import Descriptions, RejectionConfig

if TYPE_CHECKING:
    from pathlib import Path

    from bike_cli.engine.calibration.calibration import Calibration


@dataclass(frozen=True, eq=False)
class RejectionRule:
    """How a run decides that a video fits none of the labels.

    Args:
        reject: as in `RejectionConfig`.
        phrases: what else may be seen.
        calibration: None: none was given.
        digest: of the file with the calibration.
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
    config: RejectionConfig, calibration: Path | None, none: tuple[str, ...] = (), none_from: Path | None = None
) -> RejectionRule:
    """Return the rule of a run.

    Args:
        calibration: file that `bike calibrate` wrote.
        none: phrases, as `--none` gives them.
        none_from: file of more phrases.
    Raises:
        UsageError: a file that cannot be read, `--reject auto` without a calibration, or a promise without that.
    """
    from bike_cli.engine.calibration.files import read_calibration

    config.check_basis(has_calibration=calibration is not None)
    phrases = phrases_of(none, none_from)
    rule = RejectionRule(config.reject, phrases.labels, descriptions=phrases.descriptions)
    if calibration is None:
        return rule
    read = read_calibration(calibration)
    return replace(rule, calibration=read, digest=hashlib.blake2b(calibration.read_bytes()).hexdigest())
