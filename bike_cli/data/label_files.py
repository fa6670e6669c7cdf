"""Label files in all common formats: lines, numbered lists, tables, JSON and YAML.

The format is decided by the whole file. A number, a quote or a header is removed only if every line has it and the rest
is a list of distinct labels. A comma, a semicolon or a digit within a label stays.
"""

from __future__ import annotations

import csv
import logging
import re
from collections.abc import Iterable, Sequence
from pathlib import Path

from bike_cli.data.csv_rows import cells_of, csv_rows
from bike_cli.data.label_documents import read_document
from bike_cli.data.label_tables import FIX, LabelTable, is_header, is_id, labels_by_header, pair_labels
from bike_cli.data.lines import Line, check, is_comment, key, tidy
from bike_cli.errors import UsageError
from bike_cli.wording import count

logger = logging.getLogger(__name__)

_HEADER_ALONE = frozenset({"label", "labels", "name", "names", "class", "classes", "class_name", "classname"})
_HEADER_ALONE |= {"class name", "class_names", "classnames", "category", "categories", "label_name"}
_DELIMITERS = {",": "comma", ";": "semicolon", "\t": "tab", "|": "bar"}


def read_table(text: str, path: Path) -> LabelTable:
    """Return the labels of a text that was read from `path`, in any format.

    Raises:
        UsageError: the text is not a list of labels (HTML, code, a list of videos), or is malformed.
    """
    _refuse_code(text, path)
    lines = [Line(f"{path}:{i}", line.strip()) for i, line in enumerate(text.split("\n"), start=1)]
    lines = [line for line in lines if not is_comment(line.text)]
    table = read_document(text, path, lines) or _table(text, path, lines) or _listed(path, lines)
    check(list(table.lines), origin=str(path), of="labels")
    _check_plain(table.lines)
    logger.info("%s: read as %s, %s", path, table.form, count(len(table.lines), "label"))
    if len(table.lines) > 1 and all(line.text.isdecimal() for line in table.lines):
        logger.warning("%s: all labels are numbers, which say nothing to a model; %s", path, FIX)
    return table


# -- what is not a list of labels -----------------------------------------------------------------------------------

_CODE = re.compile(
    r"(import|from) [\w.]+( import .*| as \w+)?|(async )?def \w+\(.*|class \w+(\(.*\))?:|\w+ *= *[\[({].*|"
    r"(const|let|var) \w+ *=.*|#include\b.*|function \w*\(.*|public class .*"
)


def _refuse_code(text: str, path: Path) -> None:
    first = next((line.strip() for line in text.split("\n") if line.strip()), "")
    if re.match(r"<(!doctype|html|\?xml)", first, re.IGNORECASE) or (first.startswith("<") and "</" in text):
        raise UsageError(f"{path}: is HTML or XML, not a list of labels; save the text itself, one label per line")
    if first.startswith("{\\rtf"):
        raise UsageError(f"{path}: is an RTF document, not a list of labels; save it as plain text")
    code = [line.strip() for line in text.split("\n") if _CODE.fullmatch(line.strip())]
    is_code = first.startswith(("#!/", "#include")) or len(code) > 1 or re.match(r"\w+ *= *[\[({]", first)
    if is_code or path.suffix.lower() in (".py", ".js", ".c", ".cpp", ".java"):
        raise UsageError(f"{path}: is program code, not a list of labels; write one label per line")
    if path.suffix.lower() == ".ipynb":
        raise UsageError(f"{path}: is a notebook, not a list of labels; write one label per line")


_ONLY_SIGNS = re.compile(r"[\s{}\[\]()<>,;:|\"'`\\/=_*.-]+")


def _check_plain(lines: Iterable[Line]) -> None:
    """Raise UsageError if a label has only signs, or is part of another format."""
    for where, text in lines:
        if _ONLY_SIGNS.fullmatch(text):
            raise UsageError(f"{where}: {text!r} is not a label; {FIX}")
        if re.fullmatch(r"[\w\s\"']*[{\[]", text) or re.fullmatch(r"\"?\w+\"?\s*:\s*[\"{\[].*", text):
            raise UsageError(f"{where}: {text!r} is a part of JSON or another format, not a label; {FIX}")


# -- tables ---------------------------------------------------------------------------------------------------------


def _table(text: str, path: Path, lines: Sequence[Line]) -> LabelTable | None:
    """Return the labels of a table of ids and names, with a header or without; None if the file is not a table."""
    if not lines:
        return None
    for delimiter, name in _DELIMITERS.items():
        header = _cells(lines[0].text, delimiter)
        if len(header) > 1 and is_header(header):
            rows = _rows(text, path, delimiter)
            wheres = [Line(where, "") for where, _ in rows[1:]]
            return labels_by_header(header, [row for _, row in rows[1:]], wheres, str(path), f"{name}-separated table")
    if len(lines) > 1 and _unquoted(lines[0].text).lower() in _HEADER_ALONE:
        logger.warning("%s: the first line %r is read as a header, not as a label", path, lines[0].text)
        below = _listed(path, lines[1:])
        return LabelTable(below.lines, f"one column below the header {lines[0].text}", below.ids)
    words = lines[0].text.lower().split()
    if len(lines) > 1 and len(words) == 2 and is_header(words):
        spaced = _numbered(lines[1:])
        if spaced is not None:
            return spaced
    return _pairs_of_lines(path, lines)


def _pairs_of_lines(path: Path, lines: Sequence[Line]) -> LabelTable | None:
    """Return the labels of lines with an id, a delimiter and a name; the first line may be a header."""
    for delimiter, name in {**_DELIMITERS, ":": "colon", "=": "equals sign"}.items():
        cells = [_split_once(line.text, delimiter) for line in lines]
        has_header = len(lines) > 2 and not cells[0] and len(_cells(lines[0].text, delimiter)) == 2
        rows, of_rows = (lines[1:], cells[1:]) if has_header else (lines, cells)
        is_sure = len(rows) > 1 or delimiter in ";\t|"
        if not is_sure or not all(of_rows) or _holds_numbers(rows, delimiter):
            continue
        _check_columns(path, rows, delimiter)
        found = pair_labels(rows, of_rows, f"{name}-separated ids and names")
        if found is not None:
            return found
        if delimiter in _DELIMITERS:
            raise UsageError(f"{path}: every line has a number, but some are duplicated; {FIX}")
    if all("\t" in line.text for line in lines):
        fact = "has several columns and no header that names them"
        raise UsageError(f"{path}: {fact}; begin the file with id,name or name,label, or keep the labels alone")
    return None


def _rows(text: str, path: Path, delimiter: str) -> list[tuple[str, list[str]]]:
    rows = []
    for where, cells in csv_rows(text, str(path), delimiter=delimiter, skip_spaces=True):
        if any(cell.strip() for cell in cells) and not is_comment(cells[0] or "x"):
            rows.append((where, [cell.strip() for cell in _without_edges(cells, delimiter)]))
    return [row for row in rows if not all(re.fullmatch(r":?-{2,}:?", cell) for cell in row[1])]


def _cells(line: str, delimiter: str) -> list[str]:
    return [cell.strip().lower() for cell in _without_edges(cells_of(line, delimiter), delimiter)]


def _without_edges(row: list[str], delimiter: str) -> list[str]:
    """Return the cells of a row without the bars around a row of Markdown."""
    is_framed = delimiter == "|" and len(row) > 2 and not row[0].strip() and not row[-1].strip()
    return row[1:-1] if is_framed else row


def _split_once(line: str, delimiter: str) -> list[str]:
    """Split a line at its first or last delimiter, so that one of the two parts is a number."""
    for parts in (line.split(delimiter, 1), line.rsplit(delimiter, 1)):
        cells = [_unquoted(part.strip().rstrip(",")) for part in parts]
        if len(cells) == 2 and (is_id(cells[0]) or is_id(cells[1])):
            return cells
    return []


def _holds_numbers(lines: Sequence[Line], delimiter: str) -> bool:
    """Return whether the delimiter is within numbers, as in 10,000 and 9:15."""
    return delimiter in ",:" and all(re.search(rf"\d{delimiter}\d", line.text) for line in lines)


def _check_columns(path: Path, lines: Sequence[Line], delimiter: str) -> None:
    """Raise UsageError for lines such as `0,run,sports`, in which any column may be the label."""
    if delimiter in _DELIMITERS and all(len(_cells(line.text.rstrip(delimiter), delimiter)) > 2 for line in lines):
        way = "begin the file with the names of the columns, such as id,name, and put quotes around names with a comma"
        raise UsageError(f"{path}: has more than two columns and no header; {way}")


# -- lines ----------------------------------------------------------------------------------------------------------

_NUMBERED = (  # form, pattern, whether numbers must follow one another from 0 or 1
    ("numbered list", re.compile(r"[(\[]?(?P<id>\d{1,18})[.)\]]+\s+(?P<label>\S.*)"), True),
    ("numbered list", re.compile(r"#?(?P<id>\d{1,18})\s*[:\u2013-]\s+(?P<label>\S.*)"), True),
    ("ids and names", re.compile(r"(?P<id>\d{1,18})\s+(?P<label>\S.*)"), True),
    ("names and ids", re.compile(r"(?P<label>\S.*?)\s+(?P<id>\d{1,18})"), True),
    ("codes and names", re.compile(r"(?P<code>[A-Za-z])(?P<id>\d{1,18})[.:)]?\s+(?P<label>\S.*)"), False),
)
_BULLET = re.compile(r"(?P<sign>[-*+\u2022\u2013\u00b7])\s+(?P<label>\S.*)")
_QUOTES = (('"', '"'), ("'", "'"), ("\u201c", "\u201d"), ("\u2018", "\u2019"), ("`", "`"))


def _listed(path: Path, lines: Sequence[Line]) -> LabelTable:
    """Return the labels of lines, without the signs that all of them have around the label."""
    forms = ["one label per line"]
    table = _numbered(lines)
    if table is not None:
        return LabelTable(_without_quotes(table.lines, []), table.form, table.ids)
    if len(lines) == 1 and "," in lines[0].text.strip(","):
        try:
            cells = next(csv.reader([lines[0].text.strip(",")], skipinitialspace=True), [])
        except csv.Error as e:  # a cell of over 131,072 characters
            raise UsageError(f"{lines[0].where}: is not valid CSV ({e}); {FIX}") from e
        named = [tidy(cell) for cell in cells if cell.strip()]
        if len(named) > 1:
            logger.warning(
                "%s: one line with commas is read as %s; otherwise %s", path, count(len(named), "label"), FIX
            )
        labelled = tuple(Line(f"{lines[0].where}, label {i}", name) for i, name in enumerate(named, start=1))
        return LabelTable(_without_quotes(labelled, []), "labels between commas")
    listed = list(lines)
    bullets = [_BULLET.fullmatch(line.text) for line in listed]
    if listed and all(bullets) and len({match["sign"] for match in bullets if match is not None}) == 1:
        listed = [Line(line.where, match["label"]) for line, match in zip(listed, bullets, strict=True) if match]
        forms.append("bullets removed")
    for sign in (",", ";"):
        if len(listed) > 1 and all(line.text.endswith(sign) for line in listed[:-1]):
            listed = [Line(line.where, line.text.removesuffix(sign).rstrip()) for line in listed]
            forms.append(f"{_DELIMITERS[sign]}s at the end removed")
    listed = list(_without_quotes(listed, forms))
    _warn_of_numbers(path, listed)
    return LabelTable(tuple(Line(line.where, tidy(line.text)) for line in listed), ", ".join(forms))


def _warn_of_numbers(path: Path, lines: Sequence[Line]) -> None:
    """Warn if every label begins with a different number, which may be an id or a part of the label."""
    numbers = [match[1] for line in lines if (match := re.match(r"[(\[#]?(\d+)[.:)\]]*\s+[^\W\d]", line.text))]
    if len(lines) > 1 and len(numbers) == len(set(numbers)) == len(lines):
        fact = "every label begins with a number, which stays a part of it"
        logger.warning("%s: %s; if the numbers are ids, begin the file with id,name and put commas between", path, fact)


def _without_quotes(lines: Sequence[Line], forms: list[str]) -> tuple[Line, ...]:
    """Return lines without quotes around them: double quotes of any line, others if all lines have them."""
    are_quoted = bool(lines) and all(_unquoted(line.text, _QUOTES) != line.text for line in lines)
    quotes = _QUOTES if are_quoted else _QUOTES[:1]
    bare = tuple(Line(line.where, _unquoted(line.text, quotes)) for line in lines)
    if bare != tuple(lines):
        forms.append("quotes removed")
    return bare


def _unquoted(text: str, quotes: Sequence[tuple[str, str]] = _QUOTES) -> str:
    for opening, closing in quotes:
        inner = text[1:-1]
        if len(text) > 2 and text.startswith(opening) and text.endswith(closing):
            bare = inner.replace('""', '"') if opening == '"' else inner
            if opening not in inner.replace('""', ""):
                return bare
    return text


def _numbered(lines: Sequence[Line]) -> LabelTable | None:
    """Return the labels of lines that all begin or end with a different number; None if they do not."""
    if len(lines) < 2:
        return None
    for form, pattern, in_order in _NUMBERED:
        matches = [match for match in (pattern.fullmatch(line.text) for line in lines) if match is not None]
        if len(matches) < len(lines):
            continue
        ids, labels = [int(match["id"]) for match in matches], [match["label"] for match in matches]
        codes = {match.groupdict().get("code") for match in matches}
        consecutive = sorted(ids) == list(range(min(ids), min(ids) + len(ids)))
        is_wordnet = all(re.match(r"[a-z]\d{8}\s", line.text) for line in lines)
        is_order = (consecutive and min(ids) in (0, 1)) if in_order else len(codes) == 1 and (consecutive or is_wordnet)
        # "1 person, 2 people", "1 on 1, 2 on 2" and "zone 1, zone 2" are labels.
        are_distinct = len({key(label) for label in labels}) == len(labels)
        repeat = all(re.search(rf"\b{id_}\b", label) for id_, label in zip(ids, labels, strict=True))
        if is_order and are_distinct and not repeat and not all(label.isdecimal() for label in labels):
            labelled = tuple(Line(line.where, tidy(label)) for line, label in zip(lines, labels, strict=True))
            return LabelTable(labelled, f"{form} from {min(ids)}", tuple(ids))
    return None
