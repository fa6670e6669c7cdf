"""Lists of phrases that can describe a video, one per line; the first lines of each file name its source."""

from __future__ import annotations

from pathlib import Path

from bike_cli.data.lines import key, read_lines
from bike_cli.errors import UsageError
from bike_cli.wording import nearest

_FOLDER = Path(__file__).parent


def lexicon_names() -> tuple[str, ...]:
    """Return the names of the lexicons that come with bike, sorted."""
    return tuple(sorted(file.stem for file in _FOLDER.glob("*.txt")))


def read_lexicon(name_or_file: str | Path) -> tuple[str, ...]:
    """Return the phrases of a lexicon that comes with bike, or of a file with one per line, in its order.

    A repeated phrase (ignoring case and space) counts once; unlike a repeated label, it does no harm.

    Raises:
        UsageError: an unknown name, or a file that is not UTF-8 text, is a video or has no phrase.
    """
    lines = read_lines(_file(str(name_or_file)), of="phrases")
    distinct: dict[str, str] = {}
    for line in lines:
        distinct.setdefault(key(line.text), line.text)
    return tuple(distinct.values())


def _file(name_or_file: str) -> Path:
    names, path = lexicon_names(), Path(name_or_file)
    if name_or_file in names:
        return _FOLDER / f"{name_or_file}.txt"
    if not path.exists() and not path.suffix and path.name == name_or_file:
        near = nearest(name_or_file, names)
        known = f"the nearest is {near!r} (of {', '.join(names)})"
        raise UsageError(f"{name_or_file}: no such lexicon; {known}, or give a file of phrases")
    return path
