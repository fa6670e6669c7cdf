"""Text files with one entry per line: label lists, templates and lexicons."""

from __future__ import annotations

import os
import unicodedata
from collections.abc import Collection
from pathlib import Path
from typing import NamedTuple

from bike_cli.data.inputs import looks_like_video
from bike_cli.data.remote.uris import uri_of_path
from bike_cli.data.signatures import describe_content, utf_encoding
from bike_cli.errors import UsageError
from bike_cli.wording import nearest


class Line(NamedTuple):
    """One entry, and its place for messages: `labels.txt:3`."""

    where: str
    text: str


def read_lines(path: Path, *, of: str) -> list[Line]:
    """Return the entries of a file, without comments (`#` first) and blank lines, and with single spaces.

    Args:
        of: what the entries are, in the plural, for messages: "labels".
    Raises:
        UsageError: no such file, a folder, a video, invalid UTF-8, a control character, or no entry.
    """
    return as_lines(read_text(path, of=of), path, of=of)


def as_lines(text: str, path: Path, *, of: str) -> list[Line]:
    """Return the entries of a text that was read from `path`; see `read_lines`."""
    numbered = enumerate(text.split("\n"), start=1)
    lines = [Line(f"{path}:{i}", tidy(entry)) for i, entry in numbered if not is_comment(entry)]
    return check(lines, origin=str(path), of=of)


def path_of(given: str, known: Collection[str], *, kind: str, fix: str) -> Path:
    """Return the path of a file that is given instead of a known name; raise UsageError for an unknown name."""
    path = Path(given)
    if not os.path.lexists(given) and not path.suffix and path.name == given:
        near = f"the nearest is {nearest(given, known)!r} (of {', '.join(known)})"
        raise UsageError(f"{given}: no such {kind}; {near}, or {fix}")
    return path


def read_text(path: Path, *, of: str) -> str:
    """Return the text of a UTF-8 file, its line ends as `\\n`.

    Raises:
        UsageError: no such file, a folder, a video or another file that is not text, another encoding.
    """
    try:
        if path.is_file() and looks_like_video(path):
            raise UsageError(f"{path}: is a video, not a list of {of}; did you swap it with the file of {of}?")
        content = path.read_bytes()
    except FileNotFoundError as e:
        uri = uri_of_path(Path(path))
        if uri is not None:
            problem = f"{of} are not read from object stores"
            raise UsageError(f"{uri}: {problem}; copy the file to this machine, and give its path") from e
        raise UsageError(f"{path}: no such file; give a text file of {of}, one per line") from e
    except IsADirectoryError as e:
        raise UsageError(f"{path}: is a folder, not a list of {of}; give a text file, one per line") from e
    except (OSError, ValueError) as e:
        raise UsageError(f"{path}: cannot be read ({getattr(e, 'strerror', None) or e}); check the path") from e
    return decode_text(content, path, of=of)


def decode_text(content: bytes, path: Path, *, of: str) -> str:
    """Return the text of the content of a file; see `read_text`."""
    encoding = utf_encoding(content[:4096])
    if encoding is not None:
        raise UsageError(f"{path}: is {encoding}; save it as UTF-8")
    kind = describe_content(content[:4096])
    if kind is not None:
        raise UsageError(f"{path}: is {kind}, not a list of {of}; give a text file, one per line")
    try:
        text = content.decode("utf-8-sig")
    except UnicodeDecodeError as e:
        line = content[: e.start].count(b"\n") + 1
        raise UsageError(f"{path}:{line}: byte 0x{content[e.start]:02x} is not UTF-8; save the {of} as UTF-8") from e
    return text.replace("\r\n", "\n").replace("\r", "\n")


def is_comment(text: str) -> bool:
    """Return whether a line is blank or a comment, which begins with `#`."""
    return not text.strip() or text.lstrip().startswith("#")


def tidy(text: str) -> str:
    """Return the text without surrounding space, and with single spaces."""
    return " ".join(text.split())


def key(text: str) -> str:
    """Return a key that is equal for texts that differ only in case, space or Unicode form."""
    return nfc(tidy(text).casefold())


def nfc(text: str) -> str:
    """Return the text in Unicode's composed form."""
    return unicodedata.normalize("NFC", text)


def check(lines: list[Line], *, origin: str, of: str) -> list[Line]:
    """Return the lines. Raise UsageError if the file is empty or a line has a control character."""
    if not lines:
        raise UsageError(f"{origin}: contains no {of}; write one per line")
    for where, text in lines:
        control = next((c for c in text if unicodedata.category(c) == "Cc"), None)
        if control is not None:
            raise UsageError(f"{where}: contains the control character {control!r}; remove it")
    return lines
