"""Decides whether a video fits none of the labels."""

from __future__ import annotations

import logging
import re
from collections.abc import Sequence
from dataclasses import dataclass

from bike_cli.config import Descriptions, RejectionConfig
from bike_cli.data.lines import key
from bike_cli.engine.calibration.calibration import Calibration
from bike_cli.engine.engine import Engine
from bike_cli.engine.heads.saved_classifier import SavedClassifier
from bike_cli.errors import UsageError
from bike_cli.inference.conditions import conditions_of
from bike_cli.records import Rejection
from bike_cli.wording import all_of

logger = logging.getLogger(__name__)

_SHORT_WORD = 3  # letters of words such as "a", "of" and "the", which labels and phrases may share
_SHOWN = 3  # labels in a message


@dataclass(frozen=True, eq=False)
class Rejector:
    """Decides whether a video fits none of the labels.

    Args:
        least: how well the best label must fit; None: only phrases reject.
        phrases: texts for what fits none of the labels; if one of them fits best, the video is rejected.
        calibration: what labelled clips say about how well labels fit; None: nothing is known.
    """

    least: float | None = None
    phrases: tuple[str, ...] = ()
    calibration: Calibration | None = None

    @property
    def scale(self) -> float:
        """The factor on logits that makes scores of known videos probabilities."""
        return 1.0 if self.calibration is None else self.calibration.scale

    def judge(self, value: float, phrase: int | None = None) -> Rejection:
        """Return whether a video is rejected.

        Args:
            value: how well its best label fits: the cosine, or what the calibration measures.
            phrase: the place of the phrase that fits better than all labels; None if a label fits best.
        """
        fit = right = None
        if self.calibration is not None:
            fit, right = self.calibration.fit(value), self.calibration.right(value)
        is_low = self.least is not None and value < self.least
        none = None if phrase is None else self.phrases[phrase]
        return Rejection(is_low or none is not None, fit, right, none)


def make_rejector(
    engine: Engine,
    config: RejectionConfig,
    labels: Sequence[str],
    phrases: Sequence[str],
    calibration: Calibration | None,
    *,
    descriptions: Descriptions,
    has_attributes: bool,
    saved: SavedClassifier | None,
) -> Rejector | None:
    """Return what rejects videos, or None if nothing was asked for.

    Args:
        calibration: None: `reject` auto uses the calibration in the classifier.
        descriptions: of labels and phrases, those that count.
        has_attributes: whether attributes count.
        saved: the classifier that decides; None: cosines do.
    Raises:
        UsageError: `reject` is auto without a calibration, or with one of other conditions or of too few clips; a
            cosine for a classifier; or attributes count.
    """
    calibration = config.choose_calibration(calibration, saved)
    if config.reject == "off" and calibration is None and not phrases:
        return None
    if has_attributes and (config.reject != "off" or calibration is not None):
        given = "--calibration" if config.reject == "off" else "--reject"
        raise UsageError(f"{given}: does not count attributes, which decide here, too; leave them out, or use --none")
    least = config.least_cosine
    if calibration is not None:
        described = {label: descriptions[label] for label in labels if label in descriptions}
        calibration.check(conditions_of(engine, config, described, saved))
        if saved is not None:
            check_calibrated(saved, calibration, labels)
        least = calibration.threshold(config.promise) if config.reject == "auto" else least
        _warn_of_other_labels(calibration, labels)
    if least is not None and config.spotting.pool != "tcs":
        logger.warning(
            "--reject: mean pooling of frames misses labels that are seen in a part of a video; such videos may be "
            "rejected, and others not; use --pool tcs"
        )
    _warn_of_shared_words(labels, phrases)
    return Rejector(least, tuple(phrases), calibration)


def check_calibrated(saved: SavedClassifier, calibration: Calibration, labels: Sequence[str]) -> None:
    """Raise UsageError if a calibration does not suit a classifier, or if some labels were not learned from videos."""
    if calibration.measure != saved.measure:
        problem = f"is of the {calibration.measure}, and the classifier goes by the {saved.measure}"
        raise UsageError(f"calibration: {problem}; run bike calibrate --classifier", settings=("calibration",))
    further = labels[len(saved.labels) :]
    if further:
        raise UsageError(
            f"label {further[0]!r}: the classifier learned it from no video, so no calibration holds for it; leave out "
            "--also, or --reject and --calibration"
        )


def check_phrases(labels: Sequence[str], phrases: Sequence[str]) -> None:
    """Raise UsageError if a phrase for what fits none of the labels is a label, too."""
    known = {key(label) for label in labels}
    both = next((phrase for phrase in phrases if key(phrase) in known), None)
    if both is not None:
        raise UsageError(f"--none {both}: is a label, too; remove it from one of them")


def _warn_of_other_labels(calibration: Calibration, labels: Sequence[str]) -> None:
    trained, now = ({key(label): label for label in found} for found in (calibration.labels, labels))
    differing = [now[k] for k in now.keys() - trained.keys()] + [trained[k] for k in trained.keys() - now.keys()]
    if differing:
        shown = all_of(sorted(differing)[:_SHOWN])
        more = len(differing) - _SHOWN
        shown += f" and {more} more" if more > 0 else ""
        logger.warning(
            "--calibration: was made with other labels (they differ in %s), and its promise holds for those; calibrate "
            "again with clips of these",
            shown,
        )


def _warn_of_shared_words(labels: Sequence[str], phrases: Sequence[str]) -> None:
    """Warn of a phrase that shares a word with a label, as it may fit videos of the label better than the label."""
    of_labels = {word: label for label in labels for word in _words(label)}
    for phrase in phrases:
        shared = next((word for word in _words(phrase) if word in of_labels), None)
        if shared is not None:
            logger.warning(
                "--none %s: shares the word %r with the label %r, so it may win in its videos; use other words",
                phrase,
                shared,
                of_labels[shared],
            )


def _words(text: str) -> list[str]:
    return [word for word in re.findall(r"\w+", text.casefold()) if len(word) > _SHORT_WORD]
