"""Read which clips a calibration is made with; imports no torch, so that mistakes are found at once."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from bike_cli.data.labelled.eval_sets import NONE, EvalSet, read_eval_set
from bike_cli.data.lines import key
from bike_cli.errors import UsageError, shorten
from bike_cli.records import Sample
from bike_cli.wording import nearest

NONE_LABEL = "none"  # of clips that show none of the labels


def read_calibration_set(
    data: str | Path | Sequence[str | Path],
    *,
    none_label: str | None = None,
    names_file: str | Path | None = None,
    root: str | Path | None = None,
    learned: Sequence[str] = (),
) -> EvalSet:
    """Return labelled clips, those of one class without a label; see `read_eval_set`.

    Args:
        none_label: that class; None: `none`, if it exists and is not one of `learned`.
        learned: the labels of the classifier to calibrate, if there is one.
    Raises:
        UsageError: malformed data, several labels per video, or no class `none_label`.
    """
    eval_set = read_eval_set(
        [data] if isinstance(data, str | Path) else list(data),
        names_file=names_file,
        root=root,
        none_of_these=none_label or (None if NONE_LABEL in map(key, learned) else NONE_LABEL),
        needs_none=none_label is not None,
    )
    check_single_labels(eval_set)
    return eval_set


def samples_of_classifier(eval_set: EvalSet, labels: Sequence[str]) -> list[Sample]:
    """Return the clips with their places among the labels of a classifier.

    Raises:
        UsageError: a class with clips that is not one of its labels.
    """
    places = {key(label): i for i, label in enumerate(labels)}
    for sample in eval_set.samples:
        if sample.label != NONE and key(eval_set.labels[sample.label]) not in places:
            label = eval_set.labels[sample.label]
            raise UsageError(
                f"{sample.source.id}: its class {shorten(label, 60)!r} is not one of the classifier's; the nearest is "
                f"{nearest(label, labels)!r}; name it so, or move clips that show none of the classes to none"
            )
    return [
        sample if sample.label == NONE else Sample(sample.source, places[key(eval_set.labels[sample.label])])
        for sample in eval_set.samples
    ]


def check_single_labels(eval_set: EvalSet) -> None:
    """Raise UsageError for videos with several labels."""
    if eval_set.multi_label:
        raise UsageError("videos: have several labels, and a calibration needs one each; name other data")
