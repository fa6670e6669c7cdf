"""Findings: what is wrong with a label, and the labels that are checked."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

from bike_cli.config import Descriptions
from bike_cli.data.lines import Line

# fmt: off
Kind = Literal[
    "invisible", "blanks", "quotes", "punctuation", "header", "id", "number", "spelling", "duplicate", "plural", "none",
    "mixture", "few", "many", "cut", "unknown", "similar",
]
# fmt: on


@dataclass(frozen=True)
class Finding:
    """Something that makes a label work badly.

    Args:
        where: place of the label, such as `labels.txt:3`.
        label: as it is written; empty for a finding about the whole list.
        kind: what is wrong, as a word for programs.
        problem: what is wrong.
        fix: what to do about it.
        corrected: what --fix writes instead of the label, empty if it leaves the label out; None if it cannot fix it.
    """

    where: str
    label: str
    kind: Kind
    problem: str
    fix: str
    corrected: str | None = None


@dataclass(frozen=True)
class CheckedLabels:
    """The labels to check.

    Args:
        lines: each label as it is written, and its place.
        descriptions: by label.
        ids, names: for each of `lines`, its id or its second name in the file; empty for a file without these.
        findings: what was wrong on the way to the labels.
    """

    lines: tuple[Line, ...]
    descriptions: Descriptions
    ids: tuple[int, ...] = ()
    names: tuple[str, ...] = ()
    findings: tuple[Finding, ...] = ()
