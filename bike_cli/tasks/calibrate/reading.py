"""Read which clips a calibration is made with; imports no torch, so that mistakes are found at once."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from bike_cli.data.labelled.eval_sets import EvalSet, read_eval_set
from bike_cli.errors import UsageError

NONE_LABEL = "none"  # of clips that show none of the labels


def read_calibration_set(
    data: str | Path | Sequence[str | Path],
    *,
    none_label: str | None = None,
    names_file: str | Path | None = None,
    root: str | Path | None = None,
) -> EvalSet:
    """Return labelled clips, those of one class without a label; see `read_eval_set`.

    Args:
        none_label: that class; None: `none`, if it exists.
    Raises:
        UsageError: malformed data, several labels per video, or no class `none_label`.
    """
    eval_set = read_eval_set(
        [data] if isinstance(data, str | Path) else list(data),
        names_file=names_file,
        root=root,
        none_of_these=none_label or NONE_LABEL,
        needs_none=none_label is not None,
    )
    check_single_labels(eval_set)
    return eval_set


def check_single_labels(eval_set: EvalSet) -> None:
    """Raise UsageError for videos with several labels."""
    if eval_set.multi_label:
        raise UsageError("videos: have several labels, and a calibration needs one each; name other data")
