"""The candidate classes in a names file, and how to find a class by any of its spellings."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable, Sequence
from pathlib import Path
from types import MappingProxyType
from typing import NamedTuple

from bike_cli.config import Descriptions
from bike_cli.data.label_files import read_table
from bike_cli.data.labelled.train_sets import check_labels, label_of, labels_by_class, lines_by_key
from bike_cli.data.labels import label_set
from bike_cli.data.lines import Line, as_lines, check, is_comment, key, nfc, read_text, tidy
from bike_cli.errors import UsageError

_CODED = re.compile(r"c(?P<id>[0-9]{3})\s+(?P<name>\S.*)")  # Charades_v1_classes.txt

Find = Callable[[str], int | None]


class Candidates(NamedTuple):
    """Classes, in the order of their places: the name of each in files, and the label that a model reads.

    `descriptions` are those of labels, by label.
    """

    names: tuple[str, ...]
    labels: tuple[str, ...]
    descriptions: Descriptions = MappingProxyType({})


def read_candidates(path: Path, *, by_id: bool) -> Candidates:
    """Return the classes of a names file, with videos or without.

    A file is the first of these that fits: that of Charades (`c000 Holding some clothes` per line); a CSV file that
    begins with `id,name`, with the ids 0 to C - 1 in any order; one that begins with `name,label`; any other format of
    `read_table`, such as one label per line.

    Args:
        by_id: the classes of the videos are numbers, which only the first two formats have; they are the names then.
    Raises:
        UsageError: the file cannot be read or is malformed, an id is missing, or a label is there twice.
    """
    text = read_text(path, of="labels")
    entries = [line.strip() for line in text.split("\n") if not is_comment(line)]
    header = {cell.strip().lower() for cell in entries[0].split(",")} if entries else set()
    coded = [_CODED.fullmatch(entry) for entry in entries]
    if coded and all(coded):
        lines = _coded_lines(text, path)
    elif by_id or header == {"id", "name"}:
        lines = labels_by_class(text, path, by_id=True)
    elif header == {"name", "label"}:
        lines = labels_by_class(text, path, by_id=False)
        return _checked(list(lines), list(lines.values()), path)
    else:
        table = read_table(text, path)
        listed = list(table.lines)
        candidates = _checked(table.names or [line.text for line in listed], listed, path)
        return candidates._replace(descriptions=label_set(table).descriptions)
    ordered = _in_order(lines, path)
    return _checked([str(i) if by_id else line.text for i, line in enumerate(ordered)], ordered, path)


def finder(*lists: Sequence[str]) -> Find:
    """Return a function that finds the place of a class by its name in any of several parallel lists.

    Names match if they are equal except for space and Unicode form; otherwise if they are equal ignoring case;
    otherwise if their labels are (see `label_of`). A spelling that two classes share finds neither.
    """
    spellings: tuple[Callable[[str], str], ...] = (lambda text: nfc(tidy(text)), key, lambda text: key(label_of(text)))
    known = [(spell, _places(map(spell, names))) for spell in spellings for names in lists]

    def find(name: str) -> int | None:
        matches = (places.get(spell(name)) for spell, places in known)
        return next((place for place in matches if place is not None), None)

    return find


def _places(spelled: Iterable[str]) -> dict[str, int | None]:
    places: dict[str, int | None] = {}
    for i, text in enumerate(spelled):
        places[text] = None if text in places else i
    return places


def _coded_lines(text: str, path: Path) -> dict[str, Line]:
    codes, lines = [], []
    for where, entry in as_lines(text, path, of="labels"):
        code, name = entry.split(maxsplit=1)
        codes.append(code)
        lines.append(Line(where, name))
    return {str(int(code[1:])): line for code, line in lines_by_key(codes, lines, "code").items()}


def _in_order(lines: dict[str, Line], path: Path) -> list[Line]:
    missing = next((i for i in range(len(lines)) if str(i) not in lines), None)
    if missing is not None:
        highest = max(map(int, lines))
        raise UsageError(f"{path}: has ids up to {highest}, but not {missing}; name every class from 0")
    return [lines[str(i)] for i in range(len(lines))]


def _checked(names: Sequence[str], lines: list[Line], path: Path) -> Candidates:
    check(lines, origin=str(path), of="labels")
    check_labels(names, lines)
    return Candidates(tuple(names), tuple(line.text for line in lines))
