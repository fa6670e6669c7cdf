"""Lists of paths, as `find` and other programs write them, and names that were altered on the way."""

from __future__ import annotations

import json
import logging
import os
import re
import select
import time
from collections.abc import Callable, Iterator
from itertools import chain, islice
from typing import BinaryIO
from urllib.parse import unquote, urlsplit

from bike_cli.data.columns import PATH_COLUMNS, VIDEO_ID_COLUMNS
from bike_cli.data.csv_rows import cells_of, csv_rows
from bike_cli.data.search import below
from bike_cli.data.signatures import describe_content, is_binary, utf_encoding
from bike_cli.errors import UsageError, shorten
from bike_cli.media import url_problem
from bike_cli.wording import count

READ_BYTES = 65536
POLL_S = 0.02
SHOWN = 80  # characters of the names of columns in a message
_HEAD_BYTES = 4096
_DELIMITERS = ",;\t"
_WAYS = {  # what to do with a list that is another kind of file
    "a video": "name the file itself, as in bike classify clip.mp4",
    "a Parquet file": "give it with --files-from, and the column of paths with --column",
}

logger = logging.getLogger(__name__)


def read_paths(stream: BinaryIO, *, nul: bool, origin: str = "stdin") -> Iterator[str]:
    """Yield paths from a stream as they arrive, one per line; with `nul`, each ends in a NUL, as with `find -print0`.

    Invalid UTF-8 is kept as `os.fsdecode` does. Blank lines and a byte order mark are left out; spaces are part of the
    name.

    Args:
        origin: what the stream is, for messages.
    Raises:
        UsageError: a NUL in a line, or another kind of file: a video, an archive, UTF-16, CSV or JSON.
    """
    records = _ended_by(b"\0" if nul else b"\n", stream, lambda head: _check_head(head, origin, nul=nul))
    first = True
    for record in records if nul else (line.rstrip(b"\r") for line in records):
        name = record.removeprefix(b"\xef\xbb\xbf") if first else record
        if b"\0" in name:
            raise _with_nul(name, origin)
        if _is_blank(name):
            continue
        path = os.fsdecode(name)
        if first:
            _check_first(path, origin, nul=nul)
        first = False
        yield path


def read_column(stream: BinaryIO, column: str, *, origin: str = "stdin", warns: bool = True) -> Iterator[str]:
    """Yield the paths in a column of CSV or TSV as rows arrive. The first row names the columns.

    Invalid UTF-8 is kept as `os.fsdecode` does. Rows without a path are left out, with one warning at the end.

    Args:
        column: its name, in any case if only one fits.
        origin: what the stream is, for messages.
        warns: whether to warn about rows without a path.
    Raises:
        UsageError: no such column, or several; a quote that is not closed; a NUL, or another kind of file.
    """
    lines = _text_lines(stream, origin)
    start: list[str] = []  # blank lines and the header
    for line in lines:
        start.append(line)
        if line.strip():
            break
    delimiter, place = _find_column(start[-1], column, origin)
    blank = 0
    first = ""
    rows = csv_rows(chain(start, lines), origin, delimiter=delimiter)
    for row in islice(rows, 1, None):
        path = row.cells[place] if place < len(row.cells) else ""
        if path.strip():
            yield path
        else:
            first = first or row.where
            blank += 1
    if blank and warns:
        rows_without = count(blank, "row has", "rows have")
        logger.warning("%s: %s no path in column %r; left out (first: %s)", origin, rows_without, column, first)


def existing_path(name: str, base: str = "") -> str:
    """Return the path of the existing file that a name means, or the name itself if there is no such file.

    If no file has the name itself, the name may have gained spaces or quotes, be a `file://` URL, begin with `~`, or
    have the backslashes of Windows.

    Args:
        base: the folder that a relative name starts at.
    """
    if not _MAY_BE_CHANGED.search(name) or os.path.lexists(os.path.join(base, name)):  # noqa: PTH118
        return name
    for candidate in _candidates(name):
        if candidate.strip("./ ") and os.path.lexists(os.path.join(base, candidate)):  # noqa: PTH118
            return candidate
    return name


def locate(name: str, folder: str) -> tuple[str, str]:
    """Return the path of a video that a table in `folder` names, and the name as it was meant; see `existing_path`.

    A URI of an object store is returned as it is, and so is any other URL, so that it fails as one.
    """
    if url_problem(name) is not None and not os.path.lexists(below(folder, name)):
        return name, name
    meant = existing_path(name, folder)
    if meant != name:
        logger.info("%s: does not exist, read as %s", name, meant)
    return below(folder, meant), meant


# Only the few names that match are looked for; the others cost nothing.
_MAY_BE_CHANGED = re.compile(r"^[\s\"'<~\u201c\u2018]|[\s\"'>\u201d\u2019]$|\\|^file:", re.IGNORECASE)
_QUOTES = (('"', '"'), ("'", "'"), ("\u201c", "\u201d"), ("\u2018", "\u2019"), ("<", ">"))


def _candidates(name: str) -> Iterator[str]:
    """Yield what a name may have been before it was altered, the likeliest first."""
    bare = name.strip()
    for opening, closing in _QUOTES:
        if len(bare) > 2 and bare.startswith(opening) and bare.endswith(closing):
            bare = bare[1:-1]
            break
    if bare.lower().startswith("file:"):
        bare = _path_of_url(bare)
    yield bare
    if bare.startswith("~"):
        yield os.path.expanduser(bare)  # noqa: PTH111 - Path.expanduser raises for a user that does not exist
    if "\\" in bare and os.sep == "/":
        yield bare.replace("\\ ", " ")  # a space that was quoted for a shell
        yield bare.replace("\\", "/")


def _path_of_url(url: str) -> str:
    try:
        parts = urlsplit(url)
    except ValueError:
        return url
    return unquote(parts.path, errors="surrogateescape") if parts.netloc in ("", "localhost") else url


def _text_lines(stream: BinaryIO, origin: str) -> Iterator[str]:
    """Yield the lines of a stream with their ends, as they arrive."""
    first = True
    for line in _ended_by(b"\n", stream, lambda head: _check_head(head, origin, nul=False)):
        if b"\0" in line:
            raise UsageError(f"{origin}: contains NUL bytes, and --column reads CSV; give CSV, or leave --column out")
        yield os.fsdecode(line.removeprefix(b"\xef\xbb\xbf") if first else line) + "\n"
        first = False


def _find_column(header: str, column: str, origin: str) -> tuple[str, int]:
    """Return the delimiter of a header, and the place of a column."""
    by_delimiter = {mark: [cell.strip() for cell in cells_of(header, mark)] for mark in _DELIMITERS}
    for same in (str, str.casefold):
        for delimiter, names in by_delimiter.items():
            places = [i for i, name in enumerate(names) if same(name) == same(column.strip())]
            if len(places) > 1:
                raise UsageError(f"{origin}: column {column!r} comes {len(places)} times; rename all but one")
            if places:
                return delimiter, places[0]
    names = max(by_delimiter.values(), key=len)
    if not any(names):
        raise UsageError(f"{origin}: is empty, and --column needs a first row with the names of the columns")
    shown = shorten(", ".join(names), SHOWN)
    raise UsageError(f"{origin}: has no column {column!r}, only {shown}; name the one of paths with --column")


def _check_head(head: bytes, origin: str, *, nul: bool) -> None:
    encoding = utf_encoding(head)
    if encoding is not None and (not nul or _is_surely_wide(head)):
        raise UsageError(f"{origin}: is {encoding}; save it as UTF-8")
    content = describe_content(head)
    if content is not None:
        way = _WAYS.get(content, "give paths as text")
        raise UsageError(f"{origin}: is {content}, not a list of paths; {way}")


def _is_surely_wide(head: bytes) -> bool:
    """Return whether UTF-16 is more likely than NUL-terminated names; names of one letter look like UTF-16."""
    has_mark = head.startswith((b"\xff\xfe", b"\xfe\xff", b"\0\0"))
    return b"\n\0" in head or b"\0\n" in head or (has_mark and 3 * head.count(0) >= len(head))


def _with_nul(name: bytes, origin: str) -> UsageError:
    names = name.split(b"\0")
    if is_binary(b"".join(names)) or not all(names[:-1]):
        return UsageError(f"{origin}: is binary data, not a list of paths; give paths as text, one per line")
    return UsageError(f"{origin}: contains NUL bytes between paths, as find -print0 writes them; add -0")


def _check_first(path: str, origin: str, *, nul: bool) -> None:
    """Raise UsageError if the first path shows that the file has another format."""
    if os.path.lexists(path):
        return
    line, newline, _ = path.partition("\n")
    if nul and newline and os.path.lexists(line):
        raise UsageError(f"{origin}: has one path per line, and -0 is for paths that end with NUL; remove -0")
    if path.startswith("#EXTM3U"):
        raise UsageError(f"{origin}: is a playlist, not a list of paths; remove the lines that begin with #")
    if path.strip() in ("{", "[") or (path.lstrip()[:1] in ("{", "[") and _is_json(path)):
        raise UsageError(f"{origin}: is JSON, not a list of paths; write the paths alone, one per line")
    cells = next((cells for mark in _DELIMITERS if len(cells := cells_of(path, mark)) > 1), [])
    if cells and (_is_header(cells) or os.path.isfile(cells[0].strip())):  # noqa: PTH113
        raise UsageError(f"{origin}: is CSV, not a list of paths; name the column of paths with --column")


def _is_header(cells: list[str]) -> bool:
    """Return whether every cell looks like the name of a column, and one like that of paths; `video,1.mp4` does not."""
    names = [cell.strip().lower() for cell in cells]
    are_words = all(re.fullmatch(r"[^\W\d][\w -]*", name) for name in names)
    return are_words and not (PATH_COLUMNS | VIDEO_ID_COLUMNS).isdisjoint(names)


def _is_json(text: str) -> bool:
    try:
        json.loads(text)
    except (ValueError, RecursionError):
        return False
    return True


def _is_blank(name: bytes) -> bool:
    """Return whether an entry is blank, so that it never means the current folder."""
    return not name.strip() and not (name and os.path.lexists(name))


def _ended_by(end: bytes, stream: BinaryIO, check: Callable[[bytes], None]) -> Iterator[bytes]:
    """Yield the records that `end` terminates as they arrive; `check` gets the first bytes before that."""
    read_some = getattr(stream, "read1", stream.read)
    partial, head = b"", b""
    while (arrived := read_some(READ_BYTES)) != b"":
        if arrived is None:  # a non-blocking pipe
            _wait_for(stream)
            continue
        if len(head) < _HEAD_BYTES:
            head += arrived[: _HEAD_BYTES - len(head)]
            check(head)
        *records, partial = (partial + arrived).split(end)
        yield from records
    yield partial


def _wait_for(stream: BinaryIO) -> None:
    """Wait until a non-blocking pipe has more to read, or for a moment if select does not support pipes."""
    try:
        select.select([stream], [], [])
    except (OSError, ValueError):  # select takes only sockets on Windows, and at most 1,024 files elsewhere
        time.sleep(POLL_S)
