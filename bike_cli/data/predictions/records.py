"""The records of a file that bike wrote with `-o`: JSON lines, a JSON array, CSV or TSV."""

from __future__ import annotations

import json
import logging
import re
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import BinaryIO, NamedTuple

from bike_cli.data.csv_rows import Row, csv_rows
from bike_cli.data.inputs import looks_like_video
from bike_cli.data.predictions.files import HEAD_BYTES, DataFile, Origin, format_of, simple_columns
from bike_cli.errors import UsageError, shorten
from bike_cli.records import Failure, Source
from bike_cli.wording import count

logger = logging.getLogger(__name__)

_NEEDED = ("path", "status", "label", "score")
_NEEDED_OF_OTHERS = ("path", "label")  # of programs other than bike; a file without scores has those of sure answers
SURE = 1.0  # score of an answer without one
_SPACE = re.compile(r"[ \t\r\n]*")
_TSV_ESCAPE = re.compile(r"\\(.)")
_TSV_ESCAPED = {"t": "\t", "n": "\n", "r": "\r"}


class Answer(NamedTuple):
    """One record, as JSON has it, and the number of the line that it starts on."""

    line: int
    record: object


class TableForm(NamedTuple):
    """How the rows of a CSV or TSV file become records.

    Args:
        command: the command that writes such files, for messages.
        columns: returns the names of the columns in a header; it may raise UsageError.
        record: returns the record in a row.
    """

    command: str
    columns: Callable[[Row], Sequence[str]]
    record: Callable[[Row, Sequence[str]], Mapping[str, object]]


def read_answers(file: DataFile, form: TableForm | None = None) -> Iterator[Answer]:
    """Yield the records of a file.

    JSON is one record per line, an array of records, or records one after another as `jq` prints them. JSON lines, CSV
    and TSV are read line by line, other JSON at once. A last record that was cut short when its run ended is left out,
    with a warning.

    Args:
        form: how to read CSV and TSV; None: as `bike classify -o` writes them.
    Raises:
        UsageError: the file cannot be read, is a video, or is not valid UTF-8, JSON or CSV; columns are missing. Raised
            when the faulty record is reached.
    """
    path, form = Path(file.path), form or _CLASSIFIED
    fix = f"give the output of {form.command}"
    if path.is_file() and looks_like_video(path):
        raise UsageError(f"{file.name}: is a video, not predictions; {fix}")
    try:
        with path.open("rb") as stream:
            format_ = format_of(stream.peek(HEAD_BYTES))
            if format_ == "jsonl":
                yield from _json_lines(stream, file.origin)
            elif format_ == "json":
                yield from _json_document("".join(_decoded(stream, file.name)), file.name)
            elif format_ is not None:
                yield from _table_rows(_decoded(stream, file.name), file.name, form, tabs=format_ == "tsv")
    except FileNotFoundError as e:
        raise UsageError(f"{file.name}: no such file; {fix}") from e
    except OSError as e:
        raise UsageError(f"{file.name}: cannot be read ({e.strerror}); {fix}") from e


def _decoded(stream: BinaryIO, origin: str) -> Iterator[str]:
    """Yield the lines of a UTF-8 file, without a byte order mark."""
    for number, line in enumerate(stream, start=1):
        yield _decode(line, number, origin)


def _decode(line: bytes, number: int, origin: str) -> str:
    try:
        return line.decode("utf-8-sig" if number == 1 else "utf-8")
    except UnicodeDecodeError as e:
        raise UsageError(f"{origin}:{number}: byte 0x{line[e.start]:02x} is not UTF-8; fix the record") from e


def _warn_of_torn_record(where: str) -> None:
    logger.warning("%s: the file was cut short here; the incomplete record is left out", where)


def _invalid_json(where: str, error: Exception) -> UsageError:
    reason = error.msg if isinstance(error, json.JSONDecodeError) else str(error)
    return UsageError(f"{where}: is not valid JSON ({reason}); fix or remove the record")


def _json_lines(stream: Iterable[bytes], origin: Origin) -> Iterator[Answer]:
    for number, line in enumerate(stream, start=1):
        if not line.strip():
            continue
        # A killed run leaves part of a line, a power cut zeros.
        may_be_torn = not line.endswith(b"\n") and line.startswith((b"{", b"\0"))
        try:
            record = json.loads(line if may_be_torn else _decode(line, number, origin))
        except (ValueError, RecursionError) as e:
            if not may_be_torn:
                raise _invalid_json(origin.at(number), e) from e
            _warn_of_torn_record(origin.at(number))
            return
        yield Answer(number, record)


def _json_document(text: str, origin: str) -> Iterator[Answer]:
    """Yield the elements of an array, or the values of a text that has one after another."""
    text, decoder = text.rstrip(), json.JSONDecoder()
    at, line = _skip_space(text, 0, 1)
    is_array = text.startswith("[", at)
    if is_array:
        at, line = _skip_space(text, at + 1, line)
    while at < len(text) and not (is_array and text[at] == "]"):
        try:
            record, end = decoder.raw_decode(text, at)
        except (ValueError, RecursionError) as e:
            if not _is_torn(e, text, "]" if is_array else "}"):
                raise _invalid_json(f"{origin}:{line}", e) from e
            _warn_of_torn_record(f"{origin}:{line}")
            return
        yield Answer(line, record)
        at, line = _skip_space(text, end, line + text.count("\n", at, end))
        if is_array and text.startswith(",", at):
            at, line = _skip_space(text, at + 1, line)
        elif is_array and at < len(text) and text[at] != "]":
            raise UsageError(f"{origin}:{line}: is not valid JSON (expected ',' or ']' before {text[at]!r}); fix it")
    if is_array and at == len(text):
        _warn_of_torn_record(f"{origin}:{line}")
    elif is_array and at + 1 < len(text):
        line = _skip_space(text, at + 1, line)[1]
        raise UsageError(f"{origin}:{line}: continues after the end of the array; put each array in its own file")


def _skip_space(text: str, at: int, line: int) -> tuple[int, int]:
    """Return where the next character is that is not space, and its line."""
    match = _SPACE.match(text, at)
    end = at if match is None else match.end()
    return end, line + text.count("\n", at, end)


def _is_torn(error: Exception, text: str, closing: str) -> bool:
    """Return whether the text ends within a record, rather than holding an invalid one."""
    if not isinstance(error, json.JSONDecodeError):
        return False
    return error.pos >= len(text) or ("\n" not in text[error.pos :] and not text.endswith(closing))


class _Lines:
    """The lines of a text; `is_whole` is False once a line without an end was taken."""

    def __init__(self, lines: Iterable[str]) -> None:
        self._lines = lines
        self.is_whole = True

    def __iter__(self) -> Iterator[str]:
        for line in self._lines:
            self.is_whole = line.endswith(("\n", "\r"))
            yield line


def _table_rows(text: Iterable[str], origin: str, form: TableForm, *, tabs: bool) -> Iterator[Answer]:
    lines = _Lines(text)
    rows = _whole_rows(_tsv_rows(lines, origin) if tabs else csv_rows(lines, origin), lines)
    header = next(rows, None)
    if header is None:
        return
    columns = form.columns(header)
    for row in rows:
        if len(row.cells) == len(header.cells):
            yield Answer(int(row.where.rpartition(":")[2]), form.record(row, columns))
        elif lines.is_whole:
            raise UsageError(
                f"{row.where}: has {count(len(row.cells), 'cell')}, not {len(header.cells)}; fix or remove the row"
            )
        else:
            _warn_of_torn_record(row.where)


def _whole_rows(rows: Iterator[Row], lines: _Lines) -> Iterator[Row]:
    """Yield the rows, without a last one that is invalid CSV because the text ends within it."""
    try:
        yield from rows
    except UsageError as e:
        if lines.is_whole:
            raise
        _warn_of_torn_record(str(e).partition(": ")[0])


def _tsv_rows(lines: Iterable[str], origin: str) -> Iterator[Row]:
    for number, line in enumerate(lines, start=1):
        if line.strip():
            cells = line.rstrip("\r\n").split("\t")
            texts = [_TSV_ESCAPE.sub(lambda match: _TSV_ESCAPED.get(match[1], match[1]), cell) for cell in cells]
            yield Row(f"{origin}:{number}", texts)


def _columns(header: Row) -> list[str]:
    is_simple = "status" not in header.cells
    columns = simple_columns(header.cells) if is_simple else header.cells
    missing = next((name for name in (_NEEDED_OF_OTHERS if is_simple else _NEEDED) if name not in columns), None)
    if missing is not None:
        reason = f"is neither JSON nor a table with the column {missing!r}"
        raise UsageError(f"{header.where}: {reason}; give the output of bike classify -o")
    return columns


def _record(row: Row, columns: Sequence[str]) -> Mapping[str, object]:
    cells = dict(zip(columns, row.cells, strict=True))
    if cells.setdefault("status", "ok") != "ok":
        error = {"type": cells.get("error"), "message": cells.get("message", "")}
        return {"path": cells["path"], "status": cells["status"], "error": error}
    suffixes = ["", *(name.removeprefix("label") for name in columns if name.startswith("label_"))]
    if cells.get("rejected") == "true":
        cells["label"] = cells.get("best", "")
    top = [
        {
            "label": cells[f"label{suffix}"],
            "score": number_in(row.where, cells.get(f"score{suffix}", "")) if "score" in columns else SURE,
            "cosine": number_in(row.where, cells.get(f"cosine{suffix}", "")),
        }
        for suffix in suffixes
        if cells[f"label{suffix}"]
    ]
    others: dict[str, object] = {name: cells.get(name, "") for name in ("model", "scores")}
    others |= {"rejected": cells["rejected"] == "true"} if cells.get("rejected") in ("true", "false") else {}
    others |= {"right": number_in(row.where, cells.get("right", ""))} if cells.get("rejected") else {}
    return {"path": cells["path"], "status": "ok", "top": top, **others}


def number_in(where: str, cell: str) -> float | None:
    """Return the number in a cell, None if it is empty; raise UsageError for anything else."""
    try:
        return float(cell) if cell else None
    except ValueError as e:
        raise UsageError(f"{where}: {cell!r} is not a number; fix or remove the row") from e


def share_in(where: str, value: object) -> float | None:
    """Return the probability `right` of a record; raise UsageError for anything else."""
    if value is None:
        return None
    if isinstance(value, bool) or not isinstance(value, int | float) or not 0 <= value <= 1:
        raise UsageError(f"{where}: right is {shorten(repr(value), 60)}, not from 0 to 1; fix or remove the record")
    return float(value)


def failure_in(where: str, path: str, error: object) -> Failure:
    """Return the failure in a record; raise UsageError if it has no type."""
    details = error if isinstance(error, dict) else {}
    kind, message = details.get("type"), details.get("message", "")
    if not isinstance(kind, str) or not isinstance(message, str):
        raise UsageError(f"{where}: has the status 'error' but no 'error' with a type; remove it")
    return Failure(Source.at(path), kind, message)


_CLASSIFIED = TableForm("bike classify -o", _columns, _record)
