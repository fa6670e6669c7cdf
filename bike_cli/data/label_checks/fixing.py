"""The corrected list: what --fix can correct, in the order of the labels."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import yaml

from bike_cli.data.csv_rows import csv_text
from bike_cli.data.label_checks.findings import CheckedLabels, Finding
from bike_cli.data.label_checks.spelling import corrected, same_spelling
from bike_cli.data.label_files import read_table
from bike_cli.data.labels import LabelSet, label_set
from bike_cli.data.lines import Line
from bike_cli.errors import UsageError

SUFFIXES = (".txt", ".csv", ".yaml", ".yml")


@dataclass(frozen=True)
class FixedLabels:
    """A corrected list.

    Args:
        labels: the labels and their descriptions.
        ids, names: of each label, if the file has any.
        changed: labels that are written in another way.
        merged: labels that are left out because of an earlier one, and that one.
        removed: lines that are no labels.
    """

    labels: LabelSet
    ids: tuple[int, ...]
    names: tuple[str, ...]
    changed: tuple[tuple[Line, str], ...]
    merged: tuple[tuple[Line, str], ...]
    removed: tuple[Line, ...]


def fix_labels(labels: CheckedLabels, findings: Sequence[Finding]) -> FixedLabels:
    """Return the labels with the corrections of findings; descriptions of merged labels are joined."""
    numbered = {finding.where for finding in findings if finding.kind == "id" and finding.corrected is not None}
    headers = {finding.where for finding in findings if finding.kind == "header"}
    written = {finding.where for finding in findings if finding.kind in ("invisible", "blanks", "quotes")}
    first: dict[str, str] = {}
    places: list[int] = []
    described: dict[str, tuple[str, ...]] = {}
    changed, merged, removed = list[tuple[Line, str]](), list[tuple[Line, str]](), list[Line]()
    for i, line in enumerate(labels.lines):
        if line.where in headers:
            removed.append(line)
            continue
        text = corrected(line.text, is_numbered=line.where in numbered)
        spelled = same_spelling(text)
        is_merged = spelled in first
        kept = first.setdefault(spelled, text)
        texts = labels.descriptions.get(line.text, ())
        if texts:
            described[kept] = tuple(dict.fromkeys((*described.get(kept, ()), *texts)))
        if is_merged:
            merged.append((line, kept))
            continue
        places.append(i)
        if text != line.text or line.where in written:
            changed.append((line, text))
    return FixedLabels(
        LabelSet(tuple(first.values()), described),
        tuple(labels.ids[i] for i in places) if labels.ids else (),
        tuple(labels.names[i] for i in places) if labels.names else (),
        tuple(changed),
        tuple(merged),
        tuple(removed),
    )


def labels_text(labels: LabelSet, path: Path, *, ids: Sequence[int] = (), names: Sequence[str] = ()) -> str:
    """Return the content of a file of labels: lines, CSV or YAML, by the ending of its name.

    Raises:
        UsageError: another ending, or labels that this form cannot have.
    """
    suffix = path.suffix.lower()
    if suffix not in SUFFIXES:
        raise UsageError(f"{path}: labels are written as .txt, .csv or .yaml; end the name in one of these")
    if labels.descriptions and suffix == ".txt":
        raise UsageError(f"{path}: lines have no room for descriptions; end the name in .yaml or .csv")
    if suffix == ".txt":
        text = "".join(f"{label}\n" for label in labels.labels)
    elif suffix == ".csv":
        text = csv_text(_rows(labels, ids, names))
    else:
        content: object = {label: list(labels.descriptions.get(label, ())) for label in labels.labels}
        content = content if labels.descriptions else list(labels.labels)
        text = yaml.safe_dump(content, allow_unicode=True, sort_keys=False, width=10**6)
    if label_set(read_table(text, path)) != labels:
        raise UsageError(f"{path}: a label would be read in another way from this form; end the name in .csv")
    return text


def _rows(labels: LabelSet, ids: Sequence[int], names: Sequence[str]) -> list[list[str]]:
    columns = [*(["id"] if ids else []), *(["name", "label"] if names else ["name" if ids else "label"])]
    columns += ["description"] if labels.descriptions else []
    if len(columns) == 1:
        columns.append("description")  # a single column would be read as lines, with commas inside
    rows = [columns]
    for i, label in enumerate(labels.labels):
        start = [*([str(ids[i])] if ids else []), *([names[i]] if names else []), label]
        texts = labels.descriptions.get(label, ()) or ("",)
        rows += [[*start, *([text] if len(columns) > len(start) else [])] for text in texts]
    return rows
