"""Read a list of labels leniently: what other commands refuse, or repair without a word, becomes a finding."""

from __future__ import annotations

import re
import unicodedata
from collections.abc import Iterator, Sequence
from pathlib import Path

from bike_cli.data.columns import CLASS_ID_COLUMNS, CLASS_NAME_COLUMNS, DESCRIPTION_COLUMNS
from bike_cli.data.csv_rows import csv_rows
from bike_cli.data.label_checks.findings import CheckedLabels, Finding
from bike_cli.data.label_files import read_table
from bike_cli.data.lines import Line, is_comment, read_text, tidy
from bike_cli.errors import UsageError
from bike_cli.wording import all_of

JOINERS = {"\u200c", "\u200d"}  # several scripts and emoji need them
PLAIN_FORM = "one label per line"


def read_to_check(path: Path) -> CheckedLabels:
    """Return the labels of a file.

    Raises:
        UsageError: the file cannot be read as a list of labels in any form.
    """
    return text_to_check(read_text(path, of="labels"), path)


def text_to_check(text: str, path: Path) -> CheckedLabels:
    """Return the labels of a text that was read from `path`; see `read_to_check`."""
    shown, header = visible(text, keep="\n\t"), None
    try:
        table = read_table(shown, path)
    except UsageError:
        header = _header(shown, path)
        if header is None:
            raise
        table = read_table(shown.replace(header.text, "", 1), path)
    found = [finding for line in _raw_lines(text, path) for finding in _of_raw_line(line)]
    if not table.form.startswith(PLAIN_FORM):  # other forms have signs of their own around labels
        found = [finding for finding in found if finding.kind == "invisible"]
    described = dict(zip((line.text for line in table.lines), table.descriptions, strict=False))
    lines = _with_labels(table.lines, path)
    if header is not None:
        problem, fix = "is a header, but the lines below are no table", "remove it; or put ids and commas in all lines"
        found.append(Finding(header.where, header.text, "header", problem, fix, ""))
        lines = (header, *lines)
    return CheckedLabels(lines, described, table.ids, table.names, tuple(found))


def parse_to_check(texts: Sequence[str]) -> CheckedLabels:
    """Return the labels of comma-separated texts, those of `-L`."""
    cells = [cell for text in texts for row in csv_rows(text, "-L", skip_spaces=True) for cell in row.cells]
    lines = [Line(f"-L, label {i}", cell) for i, cell in enumerate(cells, start=1) if cell.strip()]
    if not lines:
        raise UsageError("-L: contains no label; give some, such as -L 'running, jumping'")
    found = [finding for line in lines for finding in _invisible(line)]
    labels = tuple(Line(line.where, tidy(visible(line.text))) for line in lines)
    return CheckedLabels(labels, {}, findings=tuple(found))


def visible(text: str, keep: str = "") -> str:
    """Return the text without characters that nobody sees; unusual spaces become plain ones."""
    return "".join(c if c in keep else _shown(c) for c in text)


def _shown(character: str) -> str:
    category = unicodedata.category(character)
    if category in ("Zs", "Zl", "Zp") or character in "\t\n\v\f\r":
        return " "
    return "" if _is_invisible(character) else character


def _is_invisible(character: str) -> bool:
    return character not in JOINERS and unicodedata.category(character) in ("Cc", "Cf", "Co", "Cn")


def _header(text: str, path: Path) -> Line | None:
    """Return the first line if it is a header of labels; None otherwise."""
    first = next(_raw_lines(text, path), None)
    cells = [] if first is None else [cell.strip().lower() for cell in re.split(r"[,;\t|]", first.text)]
    columns = {*CLASS_NAME_COLUMNS, *CLASS_ID_COLUMNS, *DESCRIPTION_COLUMNS}
    return first if len(cells) > 1 and set(cells) <= columns else None


def _raw_lines(text: str, path: Path) -> Iterator[Line]:
    for number, line in enumerate(text.split("\n"), start=1):
        if not is_comment(line):
            yield Line(f"{path}:{number}", line)


def _of_raw_line(line: Line) -> Iterator[Finding]:
    yield from _invisible(line)
    bare = tidy(visible(line.text))
    if line.text != line.text.strip() or "  " in line.text.strip():
        where = "surrounding blanks" if line.text != line.text.strip() else "repeated blanks"
        yield Finding(line.where, bare, "blanks", f"has {where}", "remove them", bare)
    if len(bare) > 2 and bare[0] == bare[-1] == '"' and '"' not in bare[1:-1]:  # others stay in the label
        yield Finding(line.where, bare, "quotes", "has quotes, which bike removes", f"write {bare[1:-1]!r}", bare[1:-1])


def _invisible(line: Line) -> Iterator[Finding]:
    odd = dict.fromkeys(c for c in line.text if c not in " \t" and _shown(c) != c)
    if odd:
        names = all_of(f"U+{ord(c):04X} {unicodedata.name(c, '')}".strip() for c in odd)
        bare = tidy(visible(line.text))
        problem = f"contains what cannot be seen: {names}"
        yield Finding(line.where, bare, "invisible", problem, f"write {bare!r}", bare)


def _with_labels(lines: Sequence[Line], path: Path) -> tuple[Line, ...]:
    """Return the lines with places that begin with the file."""
    return tuple(
        Line(line.where if line.where.startswith(str(path)) else f"{path}: {line.where}", line.text) for line in lines
    )
