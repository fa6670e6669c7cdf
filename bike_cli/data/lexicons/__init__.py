"""Lists of phrases that can describe a video, one per line; the first lines of each file name its source."""

from __future__ import annotations

from pathlib import Path

from bike_cli.data.lines import key, path_of, read_lines
from bike_cli.errors import concerning

_FOLDER = Path(__file__).parent


def lexicon_names() -> tuple[str, ...]:
    """Return the names of the lexicons that come with bike, sorted."""
    return tuple(sorted(file.stem for file in _FOLDER.glob("*.txt")))


@concerning("attributes")
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
    if name_or_file in lexicon_names():
        return _FOLDER / f"{name_or_file}.txt"
    return path_of(name_or_file, lexicon_names(), kind="lexicon", fix="give a file of phrases")
