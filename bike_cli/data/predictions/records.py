"""The records of a file that `bike classify -o` wrote, one after another: JSON of any layout, CSV or TSV."""

from __future__ import annotations

import io
import json
import logging
import os
import re
import shutil
import stat
import tempfile
from collections.abc import Iterable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import IO, BinaryIO, Literal, NamedTuple

from bike_cli.data.csv_rows import Row, csv_rows
from bike_cli.data.inputs import looks_like_video
from bike_cli.errors import UsageError
from bike_cli.scratch import scratch_folder

logger = logging.getLogger(__name__)

_START, _CHUNK = 1 << 16, 1 << 20  # bytes that tell what a file holds, and that are read at once
_HEAD_CHARACTERS, _CHUNK_CHARACTERS, _LONGEST = 65536, 1 << 20, 1 << 26
_TAIL = 16  # characters that a literal or an escape may need which was cut in two
_NEEDED = ("path", "status", "label", "score")
_SPACE = re.compile(r"[ \t\r\n]*")
_TSV_ESCAPE = re.compile(r"\\(.)")
_TSV_ESCAPED = {"t": "\t", "n": "\n", "r": "\r"}


class Answer(NamedTuple):
    """One record, as JSON has it, and the number of the line that it begins at."""

    line: int
    record: object


def read_answers(path: Path, *, copy: Path | None = None) -> Iterator[Answer]:
    """Yield the records of a file, of which little is in memory at a time.

    JSON is one record a line, records one behind the other with whatever space `jq` puts into them, or an array. A last
    record that was cut short by the end of its run is left out, with a warning.

    Args:
        path: what messages name.
        copy: where that lies which came through the pipe `path`.
    Raises:
        UsageError: the file cannot be read, is a video, no UTF-8, no JSON, no CSV, or has other columns. Raised when
            its turn comes.
    """
    there = path if copy is None else copy
    if there.is_file() and looks_like_video(there):
        raise UsageError(f"{path}: is a video, no predictions; give what bike classify -o wrote")
    try:
        with there.open("rb") as file:
            head = file.peek(_HEAD_CHARACTERS).removeprefix(b"\xef\xbb\xbf").lstrip()
            if head.partition(b"\n")[0].strip() == b"{":
                with _text(file, newline="\n") as text:
                    yield from _laid_out(text, path)
            elif head[:1] in (b"{", b"\0"):
                yield from _in_lines(file, path)
            elif head[:1] == b"[":
                with _text(file, newline="\n") as text:
                    yield from _in_array(text, path)
            elif head:
                with _text(file, newline="") as text:
                    yield from _in_cells(text, path)
    except FileNotFoundError as e:
        raise UsageError(f"{path}: no such file; give what bike classify -o wrote") from e
    except OSError as e:
        raise UsageError(f"{path}: cannot be read ({e.strerror}); give what bike classify -o wrote") from e
    except UnicodeDecodeError as e:
        where = _first_without_utf8(path, there)
        raise UsageError(f"{where}: byte 0x{e.object[e.start]:02x} is not UTF-8; fix the record") from e


def _first_without_utf8(path: Path, there: Path) -> str:
    """Return the path and the line; of a pipe, which is gone, the path alone."""
    if there.is_file():
        with there.open("rb") as file:
            for number, line in enumerate(file, start=1):
                try:
                    line.decode()
                except UnicodeDecodeError:
                    return f"{path}:{number}"
    return str(path)


def _text(file: BinaryIO, *, newline: str) -> io.TextIOWrapper:
    return io.TextIOWrapper(file, encoding="utf-8-sig", newline=newline)


def _tell_torn(where: str) -> None:
    logger.warning("%s: the file was cut short here; what is not whole is left out", where)


def _no_json(where: str, error: Exception) -> UsageError:
    fact = error.msg if isinstance(error, json.JSONDecodeError) else str(error)
    return UsageError(f"{where}: is not valid JSON ({fact}); fix or remove the record")


# -- JSON lines -----------------------------------------------------------------------------------------------------


def _in_lines(file: Iterable[bytes], path: Path) -> Iterator[Answer]:
    for number, line in enumerate(file, start=1):
        where = f"{path}:{number}"
        if not line.strip():
            continue
        try:
            record = json.loads(line.decode("utf-8-sig" if number == 1 else "utf-8"))
        except (ValueError, RecursionError) as e:
            # Zeros are what a power cut leaves.
            if not line.endswith(b"\n") and line[:1] in (b"{", b"\0"):
                _tell_torn(where)
                return
            if isinstance(e, UnicodeDecodeError):
                raise UsageError(f"{where}: byte 0x{line[e.start]:02x} is not UTF-8; fix the record") from e
            raise _no_json(where, e) from e
        yield Answer(number, record)


# -- JSON that is laid out ------------------------------------------------------------------------------------------


class _Window:
    """The part of a JSON text that is being read; `end`: with what the whole text ends."""

    def __init__(self, stream: io.TextIOBase, *, end: str) -> None:
        self._stream, self._text, self._at, self._end = stream, "", 0, end
        self._decoder = json.JSONDecoder()
        self.line = 1

    def mark(self) -> str:
        """Return the next character that is no space, which stays the next; an empty text at the end."""
        while True:
            space = _SPACE.match(self._text, self._at)
            self.skip(0 if space is None else space.end() - self._at)
            if self._at < len(self._text):
                return self._text[self._at]
            if not self._more():
                return ""

    def skip(self, count: int = 1) -> None:
        """Go on by some characters."""
        self.line += self._text.count("\n", self._at, self._at + count)
        self._at += count

    def value(self) -> object:
        """Return the value that begins here, and go on behind it.

        Raises:
            EOFError: the text ends within it.
            ValueError: it is not valid JSON.
        """
        while True:
            try:
                value, end = self._decoder.raw_decode(self._text, self._at)
            except json.JSONDecodeError as e:
                if not self._ends_early(e):
                    raise
                if not self._more():
                    if self._is_cut(e):
                        raise EOFError from e
                    raise
                continue
            self.skip(end - self._at)
            return value

    def _ends_early(self, error: json.JSONDecodeError) -> bool:
        is_open = error.msg.startswith("Unterminated string")
        return len(self._text) - self._at < _LONGEST and (is_open or len(self._text) - error.pos <= _TAIL)

    def _is_cut(self, error: json.JSONDecodeError) -> bool:
        """Return whether the text ends within the value, rather than with the end of it all."""
        text = self._text.rstrip()
        is_behind_bracket = error.msg.startswith("Expecting ','") and error.pos >= len(text)
        return is_behind_bracket or not text.endswith(self._end)

    def _more(self) -> bool:
        arrived = self._stream.read(_CHUNK_CHARACTERS)
        self._text, self._at = self._text[self._at :] + arrived, 0
        return bool(arrived)


def _laid_out(stream: io.TextIOBase, path: Path) -> Iterator[Answer]:
    """Yield records that stand one behind the other, each on many lines."""
    window = _Window(stream, end="}")
    while window.mark() and (answer := _next_answer(window, path)) is not None:
        yield answer


def _next_answer(window: _Window, path: Path) -> Answer | None:
    """Return the record that begins here; None: it is torn, as a run left it that was killed."""
    line = window.line
    try:
        return Answer(line, window.value())
    except EOFError:
        _tell_torn(f"{path}:{line}")
        return None
    except (ValueError, RecursionError) as e:
        raise _no_json(f"{path}:{line}", e) from e


def _in_array(stream: io.TextIOBase, path: Path) -> Iterator[Answer]:
    window = _Window(stream, end="]")
    window.mark()
    window.skip()  # the bracket
    mark = window.mark()
    while mark not in ("", "]"):
        answer = _next_answer(window, path)
        if answer is None:
            return
        yield answer
        mark = window.mark()
        if mark == ",":
            window.skip()
            mark = window.mark()
        elif mark not in ("", "]"):
            raise UsageError(
                f"{path}:{window.line}: is not valid JSON ({mark!r} where ',' or ']' was due); fix the array"
            )
    if mark == "":
        _tell_torn(f"{path}:{window.line}")
    window.skip()
    if window.mark():
        raise UsageError(f"{path}:{window.line}: goes on behind the end of the array; give each array a file")


# -- CSV and TSV ----------------------------------------------------------------------------------------------------


class _Lines:
    """The lines of a text, of which the last one taken is known to have an end or none."""

    def __init__(self, stream: Iterable[str]) -> None:
        self._stream = stream
        self.is_whole = True

    def __iter__(self) -> Iterator[str]:
        for line in self._stream:
            self.is_whole = line.endswith(("\n", "\r"))
            yield line


def _in_cells(stream: io.TextIOBase, path: Path) -> Iterator[Answer]:
    header = stream.readline()
    has_tabs = "\t" in header
    lines = _Lines(_chained(header, stream))
    rows = _tsv_rows(lines, path) if has_tabs else csv_rows(lines, str(path))
    columns: list[str] = []
    for row in _whole(rows, lines):
        if not columns:
            columns = _columns(row)
        elif len(row.cells) == len(columns):
            line = int(row.where.rpartition(":")[2])
            yield Answer(line, _record(row, columns))
        elif lines.is_whole:
            raise UsageError(f"{row.where}: has {len(row.cells)} cells, not {len(columns)}; fix or remove the row")
        else:
            _tell_torn(row.where)


def _chained(first: str, rest: Iterable[str]) -> Iterator[str]:
    yield first
    yield from rest


def _whole(rows: Iterator[Row], lines: _Lines) -> Iterator[Row]:
    """Yield the rows up to one that is not valid CSV because the text ends within it."""
    try:
        yield from rows
    except UsageError as e:
        if lines.is_whole:
            raise
        _tell_torn(str(e).partition(": ")[0])


def _tsv_rows(lines: Iterable[str], path: Path) -> Iterator[Row]:
    for number, line in enumerate(lines, start=1):
        if line.strip():
            cells = line.rstrip("\r\n").split("\t")
            yield Row(f"{path}:{number}", [_TSV_ESCAPE.sub(_unescaped, cell) for cell in cells])


def _unescaped(match: re.Match[str]) -> str:
    return _TSV_ESCAPED.get(match[1], match[1])


def _columns(row: Row) -> list[str]:
    missing = next((name for name in _NEEDED if name not in row.cells), None)
    if missing is not None:
        fact = f"is no answer of bike: no JSON, and no row of columns with {missing!r}"
        raise UsageError(f"{row.where}: {fact}; give what bike classify -o wrote")
    return row.cells


def _record(row: Row, columns: Sequence[str]) -> Mapping[str, object]:
    cells = dict(zip(columns, row.cells, strict=True))
    if cells["status"] != "ok":
        error = {"type": cells.get("error"), "message": cells.get("message", "")}
        return {"path": cells["path"], "status": cells["status"], "error": error}
    endings = ["", *(name.removeprefix("label") for name in columns if name.startswith("label_"))]
    top = [
        {
            "label": cells[f"label{ending}"],
            "score": _number(row.where, cells.get(f"score{ending}", "")),
            "cosine": _number(row.where, cells.get(f"cosine{ending}", "")),
        }
        for ending in endings
        if cells[f"label{ending}"]
    ]
    return {"path": cells["path"], "status": "ok", "top": top, "model": cells.get("model", "")}


def _number(where: str, cell: str) -> float | None:
    try:
        return float(cell) if cell else None
    except ValueError as e:
        raise UsageError(f"{where}: {cell!r} is no number; fix or remove the row") from e


class Piped(str):
    """The name of a pipe, which can be read only once, with a copy of what came through it."""

    copy: IO[bytes]  # it lasts as long as this

    @classmethod
    def of(cls, name: str, copy: IO[bytes]) -> Piped:
        """Return the name with the copy."""
        piped = cls(name)
        piped.copy = copy
        return piped


def looked_at(files: Sequence[str], *, merge: bool) -> tuple[list[str], list[bool]]:
    """Return the files, pipes as what can be read again, and whether each holds predictions: all do, or none.

    Args:
        merge: files of predictions are parts of one, some of which may be empty.
    Raises:
        UsageError: files of predictions are mixed with others, or a file is empty.
    """
    held = [_piped(file) if _is_pipe(file) else file for file in files]
    kinds = [_kind(_there(file)) for file in held]
    if "empty" in kinds and not (merge and "predicted" in kinds):
        way = "name labelled videos, or what bike classify -o wrote; parts may be empty with --merge"
        raise UsageError(f"{held[kinds.index('empty')]}: is empty; {way}")
    if "predicted" not in kinds:
        # A list of videos is read by the name of its file alone.
        held = [Piped.of(one.copy.name, one.copy) if isinstance(one, Piped) else one for one in held]
        return held, [False] * len(held)
    if "other" in kinds:
        other, predicted = held[kinds.index("other")], held[kinds.index("predicted")]
        raise UsageError(f"{other}: holds no predictions, but {predicted} does; give files of one kind")
    return held, [True] * len(held)


def _is_pipe(file: str) -> bool:
    try:
        return stat.S_ISFIFO(os.stat(file).st_mode)  # noqa: PTH116 - a Path would be made for every file
    except (OSError, ValueError):
        return False


def _piped(file: str) -> Piped:
    try:
        copy = tempfile.NamedTemporaryFile(dir=scratch_folder())  # noqa: SIM115 - closed with the last who names it
        with Path(file).open("rb") as pipe:
            shutil.copyfileobj(pipe, copy, _CHUNK)
        copy.flush()
    except OSError as e:
        raise UsageError(f"{file}: cannot be copied to a temporary file ({e.strerror}); give an ordinary file") from e
    return Piped.of(file, copy)


def _there(file: str) -> Path:
    """Return where the bytes of a file lie."""
    return Path(file.copy.name if isinstance(file, Piped) else file)


def _kind(file: Path) -> Literal["predicted", "empty", "other"]:
    """Return whether a file holds answers of `bike classify`: ActivityNet annotations are JSON, too."""
    if not file.is_file():
        return "other"
    with file.open("rb") as stream:
        start = stream.read(_START).decode("utf-8", "replace").lstrip("\ufeff \t\r\n[")
    if not start.strip("] \t\r\n"):
        return "empty"
    if start.startswith("{"):
        first = start.split("\n")[0]
        record = start if first.strip() == "{" else first
        is_answer = '"path"' in record and '"database"' not in record
    else:
        is_answer = file.suffix.lower() in (".csv", ".tsv", "") and start.startswith(("path,status", "path\tstatus"))
    return "predicted" if is_answer else "other"
