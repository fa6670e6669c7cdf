"""Arguments of `bike eval` that several of its modules read."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from bike_cli.errors import UsageError

if TYPE_CHECKING:
    from bike_cli.data.labelled.eval_sets import Tested

OUTPUTS = {"-o": "output", "--report": "report", "--confusion": "confusion"}


def labels_of(given: Mapping[str, object]) -> list[Path]:
    """Return the files of --labels in their order: none, one for all data, or one for each."""
    labels = given["labels"]
    files = labels if isinstance(labels, list) else [] if labels is None else [labels]
    return [Path(str(file)) for file in files]


def one_of(labels: Sequence[Path], why: str) -> Path | None:
    """Return the one file of --labels, or None, where one is all there may be.

    Raises:
        UsageError: there are more.
    """
    if len(labels) > 1:
        raise UsageError(f"--labels: {why}, and {len(labels)} files were named; name one")
    return labels[0] if labels else None


def tested_of(given: Mapping[str, object], files: Sequence[str], *, names: Sequence[Path]) -> Tested:
    """Return the labelled videos that files name, with all classes from one names file, or one for each file."""
    from bike_cli.data.labelled.eval_sets import read_tested

    return read_tested(
        list(files),
        names_file=names,
        root=given["root"] if isinstance(given["root"], Path) else None,
        multi_label=bool(given["multi_label"]),
        none_of_these=None if given["unknown"] is None else str(given["unknown"]),
        subset=str(given["subset"] or "validation"),
    )


def targets_of(given: Mapping[str, object], flags: Mapping[str, str]) -> dict[str, Path]:
    """Return the files to write, by flag; `flags` are those that name files, and under which name they are given."""
    return {flag: file for flag, name in flags.items() if isinstance(file := given[name], Path)}
