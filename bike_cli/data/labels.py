"""Candidate labels, and the sentences that they are put in."""

from __future__ import annotations

import logging
import os
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from bike_cli.config import PROMPT, Descriptions
from bike_cli.data.csv_rows import csv_rows
from bike_cli.data.label_files import read_table
from bike_cli.data.label_tables import LabelTable
from bike_cli.data.lines import Line, check, key, path_of, read_lines, read_text, tidy
from bike_cli.errors import UsageError, concerning
from bike_cli.media import VIDEO_EXTENSIONS
from bike_cli.records import Prompt

logger = logging.getLogger(__name__)

TEMPLATES: Mapping[str, tuple[str, ...]] = {
    "bike": (PROMPT,),
    "class": ("{}",),
    # CLIP's Kinetics-700 ensemble, spelling included: openai/CLIP data/prompts.md.
    "action": tuple(
        f"a {medium} of {person}{{}}."
        for medium in ("photo", "video", "example", "demonstration")
        for person in (
            "",
            "a person ",
            "a person using ",
            "a person doing ",
            "a person during ",
            "a person performing ",
            "a person practicing ",
        )
    ),
    # sallymmx/ActionCLIP utils/Text_Prompt.py, in its order.
    "actionclip": (
        "a photo of action {}",
        "a picture of action {}",
        "Human action of {}",
        "{}, an action",
        "{} this is an action",
        "{}, a video of action",
        "Playing action of {}",
        "{}",
        "Playing a kind of action, {}",
        "Doing a kind of action, {}",
        "Look, the human is {}",
        "Can you recognize the action of {}?",
        "Video classification of {}",
        "A video of {}",
        "The man is {}",
        "The woman is {}",
    ),
}

_LABEL_SUFFIXES = frozenset({".txt", ".csv", ".tsv", ".json", ".yaml", ".yml"})


@dataclass(frozen=True)
class LabelSet:
    """Labels, and what describes them.

    Args:
        labels: in the order of their source; no two are equal, ignoring case and space.
        descriptions: for each label that has some, texts that say what can be seen in a video of it.
    """

    labels: tuple[str, ...]
    descriptions: Descriptions = field(default_factory=dict)


def read_labels(path: str | Path) -> tuple[str, ...]:
    """Return the labels of a file, in its order, without descriptions; see `read_label_set`."""
    return read_label_set(path).labels


def read_label_set(path: str | Path) -> LabelSet:
    """Return the labels of a file, in its order, with their descriptions if it has any.

    One per line, with `#` comments; a table with ids, as BIKE's label files are (`id,name`), or with descriptions
    (`label,description`, several rows per label); JSON or YAML, such as `archery: [a person draws a bow, …]`.
    `read_table` has all forms, and logs which it is at INFO.

    Raises:
        UsageError: the file is not UTF-8 text or not a list of labels; it has no label, a label twice (ignoring case
            and space), a control character, or an id that is not a whole number or not unique.
    """
    path = Path(path)
    if not _is_there(path) and (not path.suffix or "," in str(path)):
        raise UsageError(f"{path}: no such file; -l takes a file of labels, -L the labels: -L 'running, jumping'")
    text = read_text(path, of="labels")  # once: it may be a pipe
    return label_set(read_table(text, path))


def label_set(table: LabelTable) -> LabelSet:
    """Return the labels of a table; raise UsageError if one is there twice."""
    labels = _distinct(table.lines)
    return LabelSet(labels, {label: texts for label, texts in zip(labels, table.descriptions, strict=False) if texts})


def parse_labels(texts: str | Sequence[str], named: str = "-L") -> tuple[str, ...]:
    """Return the labels of comma-separated texts, in their order; quotes keep a comma: `'"stop, drop", roll'`.

    Args:
        texts: one, or one for each time that the flag was given.
        named: the flag that gave the texts, for messages.
    Raises:
        UsageError: a text without a label, a label twice, a control character, an open quote, or the name of a file.
    """
    labels: list[str] = []
    for text in [texts] if isinstance(texts, str) else texts:
        rows = csv_rows(text, named, skip_spaces=True)
        cells = [tidy(cell) for row in rows for cell in row.cells if cell.strip()]
        _refuse_files(tidy(text), cells, named)
        if not cells:
            raise UsageError(f"{named}: contains no label; give some, such as {named} 'running, jumping'")
        labels += cells
    lines = [Line(f"{named}, label {i}", label) for i, label in enumerate(labels, start=1)]
    return _distinct(check(lines, origin=named, of="labels"))


@concerning("template")
def read_templates(name_or_file: str | Path) -> tuple[str, ...]:
    """Return the templates of a set in `TEMPLATES`, of a file with one per line, or the given template.

    Raises:
        UsageError: an unknown name, a file that cannot be read, or a template without exactly one `{}`.
    """
    given = str(name_or_file)
    if given in TEMPLATES:
        return TEMPLATES[given]
    if _is_there(given) or "{}" not in given:
        fix = "give a file, or a text with {} in it"
        lines = read_lines(path_of(given, TEMPLATES, kind="set of templates", fix=fix), of="templates")
    else:
        lines = [Line(repr(given), given)]
    for where, text in lines:
        if text.count("{}") != 1:
            raise UsageError(f"{where}: has {text.count('{}')} places for the label; write {{}} once")
    return tuple(text for _, text in lines)


def fill(template: str, label: str) -> Prompt:
    """Return a template with its label, and the place of the label; other braces are plain text."""
    before, after = template.split("{}")
    return Prompt(f"{before}{label}{after}", len(before), len(before) + len(label))


def _refuse_files(text: str, labels: Sequence[str], named: str) -> None:
    """Raise UsageError if a text, or a label in it, is the name of a file of labels or of a video."""
    for label in (text, *labels):
        suffix = Path(label).suffix.lower()
        is_file = bool(suffix or os.sep in label) and os.path.isfile(label)  # noqa: PTH113 - a label may be too long
        if is_file or (len(labels) == 1 and suffix in _LABEL_SUFFIXES):
            fact = "is a file" if is_file else "looks like a file name, but no such file exists"
            way = f"a file of labels goes after -l: -l {label}" if named == "-L" else "give the labels themselves"
            raise UsageError(f"{named}: {label} {fact}; {way}")
    video = next((label for label in labels if Path(label).suffix.lower() in VIDEO_EXTENSIONS), None)
    if video is not None:
        hint = f"; a video named -L{video} is written ./-L{video}" if named == "-L" and len(labels) == 1 else ""
        raise UsageError(f"{named}: {video} is the name of a video, not a label; name videos without a flag{hint}")


def _is_there(given: str | Path) -> bool:
    return os.path.exists(given)  # noqa: PTH110 - a Path raises if a text is too long for a name


def _distinct(lines: Sequence[Line]) -> tuple[str, ...]:
    seen: dict[str, Line] = {}
    for line in lines:
        first = seen.setdefault(key(line.text), line)
        if first is not line:
            raise UsageError(f"{line.where}: label {line.text!r} repeats {first.text!r} ({first.where}); remove one")
    return tuple(line.text for line in lines)
