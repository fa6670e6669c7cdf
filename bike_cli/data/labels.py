"""The labels a video may get, and the sentences they are put in."""

from __future__ import annotations

import csv
import difflib
import io
import logging
import os
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path

from bike_cli.config import PROMPT
from bike_cli.data.lines import Line, as_lines, check, is_comment, key, read_lines, read_text, tidy
from bike_cli.errors import UsageError
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
}


def read_labels(path: str | Path) -> tuple[str, ...]:
    """Return the labels of a file, in its order.

    One a line, with `#` comments; or a CSV file that begins with `id,name`, as BIKE's label files do.

    Raises:
        UsageError: the file cannot be read as UTF-8 text, is a video, holds no label, a label twice (case and space
            aside), a control character, or an id that is no whole number or comes twice.
    """
    path = Path(path)
    text = read_text(path, of="labels")  # once: it may be a pipe
    is_csv = _is_csv(text)
    lines = _csv_lines(text, path) if is_csv else as_lines(text, path, of="labels")
    labels = _distinct(lines)
    logger.info("%s: %d labels, read as %s", path, len(labels), "CSV id,name" if is_csv else "one per line")
    return labels


def parse_labels(text: str, named: str = "-L") -> tuple[str, ...]:
    """Return the labels of a comma-separated text, in its order; quotes keep a comma: `'"stop, drop", roll'`.

    Args:
        named: the flag that gave the text, for messages.
    Raises:
        UsageError: no label, a label twice, a control character, a quote left open.
    """
    rows = _csv_rows(text, origin=named)
    labels = [tidy(cell) for _, row in rows for cell in row if cell.strip()]
    lines = [Line(f"{named}, label {i}", label) for i, label in enumerate(labels, start=1)]
    if not lines:
        raise UsageError(f"{named}: holds no label; give some, such as {named} 'running, jumping'")
    return _distinct(check(lines, origin=named, of="labels"))


def read_templates(name_or_file: str | Path) -> tuple[str, ...]:
    """Return the templates of a set in `TEMPLATES`, of a file with one a line, or the template given itself.

    Raises:
        UsageError: an unknown name, a file that cannot be read, a template without exactly one `{}`.
    """
    given = str(name_or_file)
    if given in TEMPLATES:
        return TEMPLATES[given]
    if _is_there(given) or not _is_template(given):
        lines = read_lines(_existing(given), of="templates")
    else:
        lines = [Line(repr(given), given)]
    for where, text in lines:
        if text.count("{}") != 1:
            raise UsageError(f"{where}: has {text.count('{}')} places for the label; write {{}} once")
    return tuple(text for _, text in lines)


def fill(template: str, label: str) -> Prompt:
    """Return the sentence about a label, knowing where the label stands in it; other braces are plain text."""
    before, after = template.split("{}")
    return Prompt(f"{before}{label}{after}", len(before), len(before) + len(label))


def _is_template(given: str) -> bool:
    return "{}" in given


def _is_there(given: str) -> bool:
    return os.path.exists(given)  # noqa: PTH110 - a Path raises where a text is too long for a name


def _existing(given: str) -> Path:
    path = Path(given)
    if not _is_there(given) and not path.suffix and path.name == given:
        near = difflib.get_close_matches(given, TEMPLATES, n=1, cutoff=0.0)[0]
        known = f"the nearest is {near!r} (of {', '.join(TEMPLATES)})"
        raise UsageError(f"{given}: no such set of templates; {known}, or give a file, or a text with {{}} in it")
    return path


def _is_csv(text: str) -> bool:
    first = next((line for line in text.split("\n") if not is_comment(line)), "")
    return [cell.strip().lower() for cell in first.split(",")] == ["id", "name"]


def _csv_lines(text: str, path: Path) -> list[Line]:
    rows = _csv_rows(text, origin=str(path))
    filled = [(i, row) for i, row in rows if any(cell.strip() for cell in row) and not is_comment(row[0])]
    seen: dict[int, int] = {}
    lines = []
    for number, row in filled[1:]:
        where = f"{path}:{number}"
        _check_id(where, row, seen)
        seen[int(row[0])] = number
        lines.append(Line(where, tidy(row[1])))
    return check(lines, origin=str(path), of="labels")


def _check_id(where: str, row: Sequence[str], seen: Mapping[int, int]) -> None:
    if len(row) != 2 or not row[1].strip():
        raise UsageError(f"{where}: has {len(row)} cells, not an id and a name; put quotes around a name with a comma")
    if not row[0].strip().isdecimal():
        raise UsageError(f"{where}: id {row[0]!r} is no whole number; number the labels from 0")
    first = seen.get(int(row[0]))
    if first is not None:
        raise UsageError(f"{where}: id {row[0].strip()} is on line {first} too; give each label its own")


def _csv_rows(text: str, *, origin: str) -> Iterator[tuple[int, list[str]]]:
    reader = csv.reader(io.StringIO(text, newline=""), skipinitialspace=True, strict=True)
    try:
        for row in reader:
            yield reader.line_num, row
    except csv.Error as e:
        raise UsageError(
            f"{origin}: is no CSV at line {reader.line_num} ({e}); put quotes around whole names only"
        ) from e


def _distinct(lines: Sequence[Line]) -> tuple[str, ...]:
    seen: dict[str, Line] = {}
    for line in lines:
        first = seen.setdefault(key(line.text), line)
        if first is not line:
            raise UsageError(f"{line.where}: label {line.text!r} is {first.text!r} of {first.where} again; remove one")
    return tuple(line.text for line in lines)
