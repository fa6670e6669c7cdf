"""Videos whose class is known: class folders, CSV files and BIKE's list files become samples of two sides."""

from __future__ import annotations

import csv
import difflib
import io
import logging
import os
import re
import unicodedata
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Literal, NamedTuple

from bike_cli.data.inputs import VIDEO_EXTENSIONS, find_sources
from bike_cli.data.lines import Line, check, key, read_text, tidy
from bike_cli.errors import UsageError
from bike_cli.records import Sample, Source

logger = logging.getLogger(__name__)

Side = Literal["train", "test", "val"]

_SIDES: Mapping[str, Side] = {"train": "train", "test": "test", "val": "val", "validation": "val"}
_ID = re.compile(r"[0-9]{1,9}")
_LISTED = re.compile(r"(?P<path>.*\S)\s+(?P<id>-?[0-9]+)")
_COUNTED = re.compile(r"(?P<whole>(?P<path>.*\S)\s+[0-9]+)\s+(?P<id>-?[0-9]+)")
_HYPHEN_BETWEEN_LETTERS = re.compile(r"(?<=[^\W\d_])-(?=[^\W\d_])")


@dataclass(frozen=True)
class LabelledSet:
    """Videos to learn from and to test on, the same whatever order the file system or the file had.

    Args:
        labels: what the model reads, one for each class; no two are the same, case and space aside.
        names: beside `labels`, the class as it was found: folder, CSV cell or id; in Unicode's NFC form, sorted by
            code points, ids by value. Each has a sample in `train`.
        train, test: in the order of paths below what was given; test is None where nobody said what is for testing.
    """

    labels: tuple[str, ...]
    names: tuple[str, ...]
    train: tuple[Sample, ...]
    test: tuple[Sample, ...] | None


class _Entry(NamedTuple):
    """One video of a class, while classes have no numbers yet."""

    where: str
    name: str
    source: Source
    place: str  # the path below the folder, or as the file writes it: what the order goes by
    side: Side | None  # None: nobody said


class _Found(NamedTuple):
    """What one folder or file names; `by_id`: its classes are numbers, as in BIKE's list files."""

    origin: str
    entries: list[_Entry]
    by_id: bool = False


def read_labelled(
    given: str | Path,
    *,
    names_file: str | Path | None = None,
    test: str | Path | None = None,
    root: str | Path | None = None,
) -> LabelledSet:
    """Return the labelled videos that a folder or a file names.

    `given` is, whichever comes first:
        a folder whose only subfolders are `train` and `test`, `val` or `validation` (in any case) or `train` alone,
            each with class folders; `val` is for testing where there is no `test`, and left out where there is;
        a folder of class folders, with videos (see `find_sources`) at any depth;
        a list file, whose first line ends in a space and a whole number, and holds no comma where the file is named
            .csv: `path id` or `path frames id` a line;
        a CSV file that begins with `path,label` or `path,label,split`, in any order; a split is one of the names above.
    Spaces belong to a list file's path. Where every line ends in two whole numbers, the first is a count of frames,
    unless files say otherwise: the first line of which only one reading exists (`clip 3` or `clip`) decides for all.
    Videos that do not exist are samples too, so that each gets its own failure.

    Args:
        names_file: a CSV file. For list files it begins with `id,name` and is needed; for others with `name,label`,
            and gives class names another label than `label_of` does.
        test: what to test on, given apart; its classes are some of those of `given`.
        root: the folder that relative paths in files begin at; otherwise the file's own.
    Raises:
        UsageError: nothing there, no two classes, a class without a video to train on, classes with the same label, a
            video of two classes or on both sides, test classes without training videos, a file that is malformed.
    """
    _check_root(root, [str(name) for name in (given, test) if name is not None])
    found = _find(str(given), root)
    apart = None if test is None else _find(str(test), root)
    entries = _distinct(_sides(found, apart))
    names = _names(entries, origin=found.origin, by_id=found.by_id)
    labels = _labels(names, entries, names_file=names_file, by_id=found.by_id)
    number = {name: i for i, name in enumerate(names)}
    train, held_out = (
        tuple(Sample(e.source, number[e.name]) for e in entries if e.side == side) for side in ("train", "test")
    )
    return LabelledSet(labels, tuple(names), train, held_out or None)


def label_of(name: str) -> str:
    """Return the label that a class name stands for: `playing_guitar` is "playing guitar".

    Underscores become spaces, and runs of space one. A name with a space in it is changed no further. In others, a
    hyphen between letters becomes a space, and each Latin word with a capital and a small letter is CamelCase: split
    before each capital that begins a word and put in lower case, but for acronyms (`PlayingTV` is "playing TV"). A
    word all in capitals keeps them, digits stay where they are, other scripts keep their case; a name of separators
    only stays itself. The label is in Unicode's NFC form.
    """
    text = tidy(_nfc(name))
    if " " in text:
        return tidy(text.replace("_", " ")) or text
    words = _HYPHEN_BETWEEN_LETTERS.sub(" ", text.replace("_", " ")).split()
    return " ".join(hump for word in words for hump in _humps(word)) or text


def _humps(word: str) -> list[str]:
    letters = [c for c in word if c.isalpha()]
    if word.isupper() or not all(unicodedata.name(c, "").startswith("LATIN") for c in letters):
        return [word]
    starts = [0, *(i for i in range(1, len(word)) if _begins_hump(word, i))]
    humps = [word[start:stop] for start, stop in zip(starts, [*starts[1:], None], strict=True)]
    # One capital is a word like others (`TakeAPhoto`), two are an acronym.
    return [hump if len(hump) > 1 and hump.isupper() else hump.lower() for hump in humps]


def _begins_hump(word: str, i: int) -> bool:
    before, after = word[i - 1], word[i + 1 : i + 2]
    return word[i].isupper() and (before.islower() or (before.isalnum() and after.islower()))


# -- what is named ------------------------------------------------------------------------------------------------


def _find(given: str, root: str | Path | None) -> _Found:
    if _is_folder(given):
        return _Found(given, list(_in_folder(given)))
    if not os.path.lexists(given):
        ways = "give a folder of class folders, a CSV file that begins with path,label, or a list file"
        raise UsageError(f"{given}: no such file or folder; {ways}")
    text = read_text(Path(given), of="labelled videos")  # once: it may be a pipe
    base = os.path.dirname(given) if root is None else str(root)  # noqa: PTH120 - Path.parent drops a leading ./
    by_id = _is_list(text, given)
    entries = list(_in_list(text, given, base) if by_id else _in_csv(text, given, base))
    if not entries:
        raise UsageError(f"{given}: holds no video; write one a line below the line path,label")
    return _Found(given, entries, by_id)


def _check_root(root: str | Path | None, given: Sequence[str]) -> None:
    if root is not None and not _is_folder(root):
        raise UsageError(f"{root}: no such folder; give the one that relative paths begin at")
    if root is not None and all(_is_folder(name) for name in given):
        raise UsageError(f"{root}: is a root for the paths in a file, but {given[0]} is a folder; leave the root out")


def _in_folder(given: str) -> Iterator[_Entry]:
    folders = _folders_in(given)
    sides = [_SIDES.get(name.lower()) for name in folders]
    # `Train` beside `train` are no two sides; as classes, they are refused for their labels.
    if None in sides or "train" not in sides or len({name.lower() for name in folders}) < len(folders):
        yield from _in_classes(given, folders, top=given, side=None)
        return
    for name, side in zip(folders, sides, strict=True):
        folder = _below(given, name)
        yield from _in_classes(folder, _folders_in(folder), top=given, side=side)


def _folders_in(given: str) -> list[str]:
    """Return the names of the folders in a folder, frame folders left out; warn of videos beside them."""
    names = _visible(given)
    kinds = {name: _kind(_below(given, name)) for name in names}
    folders, videos = ([name for name in names if kinds[name] == kind] for kind in ("folder", "video"))
    if not folders:
        fact = f"holds {_count(videos)} and no class folder" if videos else "holds no class folder"
        ways = "make a folder for each class, such as running/clip.mp4, or give a CSV file that begins with path,label"
        raise UsageError(f"{given}: {fact}; {ways}")
    if videos:
        logger.warning("%s: leaves out %s beside the folders, first %s", given, _count(videos), videos[0])
    return folders


def _kind(path: str) -> Literal["folder", "video", "other"]:
    if not _is_folder(path):
        return "video" if Path(path).suffix.lower() in VIDEO_EXTENSIONS else "other"
    _visible(path)  # raises where it cannot be listed: `find_sources` has it as a source, as it has a frame folder
    try:
        first = next(find_sources([path]), None)
    except UsageError:  # it is empty
        return "folder"
    return "video" if first is not None and first.path == Path(path) else "folder"


def _in_classes(given: str, names: Sequence[str], *, top: str, side: Side | None) -> Iterator[_Entry]:
    for name in names:
        folder = _below(given, name)
        try:
            sources = list(find_sources([folder]))
        except UsageError as e:
            raise UsageError(f"{folder}: is a class folder without a video; put some there, or remove it") from e
        for source in sources:
            yield _Entry(folder, _nfc(name), source, source.id.removeprefix(top), side)


def _in_csv(text: str, given: str, base: str) -> Iterator[_Entry]:
    for where, row in _by_column(_csv_rows(text, given), given, needed=("path", "label"), further=("split",)):
        side = _SIDES.get(row["split"].strip().lower()) if "split" in row else None
        if "split" in row and side is None:
            raise UsageError(f"{where}: split {row['split']!r} is unknown; write train, test or val")
        yield _Entry(where, _nfc(tidy(row["label"])), Source.at(_below(base, row["path"])), row["path"], side)


def _is_list(text: str, given: str) -> bool:
    first = next((line.strip() for line in text.split("\n") if line.strip()), "")
    is_csv = given.lower().endswith(".csv") and "," in first  # `a.mp4, 3` below no header
    return _LISTED.fullmatch(first) is not None and not is_csv


def _in_list(text: str, given: str, base: str) -> Iterator[_Entry]:
    lines = [Line(f"{given}:{i}", line.strip()) for i, line in enumerate(text.split("\n"), start=1) if line.strip()]
    form = _COUNTED if _has_frame_counts([line.text for line in lines], base) else _LISTED
    for where, line in lines:
        match = form.fullmatch(line)
        if match is None or not _ID.fullmatch(match["id"]):
            raise UsageError(f"{where}: {line!r} ends in no class id; write path and id, a whole number from 0")
        source = Source.at(_below(base, match["path"]))
        yield _Entry(where, str(int(match["id"])), source, match["path"], None)


def _has_frame_counts(lines: Sequence[str], base: str) -> bool:
    """Return whether lines are `path frames id`: `clip 3 5` may be clip 3 of class 5 as well."""
    counted = [match for match in map(_COUNTED.fullmatch, lines) if match is not None]
    if len(counted) < len(lines):
        return False
    for match in counted:
        path, whole = (os.path.lexists(_below(base, match[group])) for group in ("path", "whole"))
        if path != whole:
            return path
    return True


# -- sides, classes and labels ------------------------------------------------------------------------------------


def _sides(found: _Found, apart: _Found | None) -> list[_Entry]:
    """Return the videos to train on and those to test on, each marked so."""
    train, test = _split(found)
    if not train:
        raise UsageError(f"{found.origin}: holds no video to train on; mark some as train")
    if apart is not None:
        _check_apart(apart, found)
        if test:
            raise UsageError(f"{found.origin}: has videos to test on, and so has {apart.origin}; give one of the two")
        unmarked, marked = _split(apart)
        test = unmarked or marked
    return [e._replace(side="train") for e in train] + [e._replace(side="test") for e in test]


def _split(found: _Found) -> tuple[list[_Entry], list[_Entry]]:
    sides: tuple[Side, ...] = ("train", "test", "val")
    train, test, val = ([e for e in found.entries if (e.side or "train") == side] for side in sides)
    if test and val:
        logger.warning("%s: leaves out %s for validation, as others are for testing", found.origin, _count(val))
    return train, test or val


def _check_apart(apart: _Found, found: _Found) -> None:
    if apart.by_id != found.by_id:
        ids, names = (apart, found) if apart.by_id else (found, apart)
        raise UsageError(f"{ids.origin}: has class ids, but {names.origin} class names; give both in one form")
    if any(e.side == "train" for e in apart.entries):
        raise UsageError(f"{apart.origin}: has videos to train on, too; give only those to test on")


def _distinct(entries: Sequence[_Entry]) -> list[_Entry]:
    """Return the entries in the order of their paths, each path once."""
    here, seen, again = os.getcwd(), dict[str, _Entry](), list[_Entry]()  # noqa: PTH109
    for entry in sorted(entries, key=lambda e: (_nfc(e.place), e.place)):
        # Not Path.absolute(), which takes seconds for the 240,000 videos of Kinetics.
        first = seen.setdefault(_below(here, str(entry.source.path)), entry)
        if first.name != entry.name:
            classes = f"is of class {entry.name!r}, but of {first.name!r} at {first.where}"
            raise UsageError(f"{entry.where}: {entry.source.id} {classes}; keep one")
        if first.side != entry.side:
            sides = f"is to {entry.side} on, but to {first.side} on at {first.where}"
            raise UsageError(f"{entry.where}: {entry.source.id} {sides}; keep one")
        if first is not entry:
            again.append(entry)
    if again:
        logger.warning("%s: %s named more than once, used once", again[0].where, _count(again))
    return list(seen.values())


def _names(entries: Sequence[_Entry], *, origin: str, by_id: bool) -> list[str]:
    """Return the classes to train on, in their order; those to test on are among them."""
    found = {e.name for e in entries if e.side == "train"}
    names = sorted(found, key=int) if by_id else sorted(found)
    strange = sorted({(e.name, e.where) for e in entries if e.name not in found})
    if strange:
        classes = _listed(list(dict.fromkeys(name for name, _ in strange)))
        raise UsageError(
            f"{strange[0][1]}: {classes} to test on, but not in {origin} to train on; add or remove videos"
        )
    if len(names) < 2:
        raise UsageError(f"{origin}: holds one class, {names[0]!r}; give two or more to tell apart")
    return names


def _labels(
    names: Sequence[str], entries: Sequence[_Entry], *, names_file: str | Path | None, by_id: bool
) -> tuple[str, ...]:
    where = {e.name: e.where for e in reversed(entries)}
    if by_id and names_file is None:
        raise UsageError(f"{where[names[0]]}: has an id, no name; give --labels a CSV file that begins with id,name")
    given = {} if names_file is None else _given_labels(Path(names_file), by_id=by_id)
    lines = [given.get(tidy(name)) or Line(where[name], label_of(name)) for name in names]
    nameless = [name for name in names if by_id and name not in given]
    if nameless:
        raise UsageError(f"{where[nameless[0]]}: id {nameless[0]} has no name in {names_file}; add it there")
    _check_unused(given, names, by_id=by_id)
    _check_labels(names, lines)
    return tuple(line.text for line in lines)


def _given_labels(path: Path, *, by_id: bool) -> dict[str, Line]:
    """Return the labels of a file by the class they are for, with `#` comments left out as in any label file."""
    header = ("id", "name") if by_id else ("name", "label")
    text = read_text(path, of="labels")
    rows = [row for row in _csv_rows(text, str(path)) if not row.cells[0].lstrip().startswith("#")]
    lines: dict[str, Line] = {}
    for where, row in _by_column(rows, str(path), needed=header):
        name, label = _nfc(tidy(row[header[0]])), tidy(row[header[1]])
        if by_id and not _ID.fullmatch(name):
            raise UsageError(f"{where}: id {name!r} is no whole number; number the classes as the list file does")
        name = str(int(name)) if by_id else name
        first = lines.setdefault(name, Line(where, label))
        if first.where != where:
            raise UsageError(f"{where}: {header[0]} {name!r} is at {first.where} too; remove one")
    return lines


def _check_unused(given: Mapping[str, Line], names: Sequence[str], *, by_id: bool) -> None:
    known = {tidy(name) for name in names}
    unused = [name for name in given if name not in known]
    if unused and by_id:  # a list of some classes goes with the names of all
        text = "%s: no video to train on, so class %s is none of the labels (%d of %d)"
        logger.warning(text, given[unused[0]].where, unused[0], len(unused), len(given))
    elif unused:
        near = difflib.get_close_matches(unused[0], sorted(known), n=1, cutoff=0.0)[0]
        raise UsageError(f"{given[unused[0]].where}: no class is named {unused[0]!r}; the nearest is {near!r}")


def _check_labels(names: Sequence[str], lines: Sequence[Line]) -> None:
    check(list(lines), origin="", of="labels")
    seen: dict[str, str] = {}
    for name, (where, label) in zip(names, lines, strict=True):
        if any(unicodedata.category(c) == "Cs" for c in label):
            raise UsageError(f"{where}: class {name!r} is no UTF-8, so no text for a model; rename it")
        first = seen.setdefault(key(label), name)
        if first != name:
            fact = f"classes {first!r} and {name!r} have the same label, {label!r}"
            raise UsageError(f"{where}: {fact}; rename one, or tell them apart with --labels")


# -- CSV ----------------------------------------------------------------------------------------------------------


class _Row(NamedTuple):
    where: str
    cells: list[str]


def _csv_rows(text: str, origin: str) -> Iterator[_Row]:
    """Yield the rows of an RFC 4180 text that are not blank; spaces belong to cells."""
    reader = csv.reader(io.StringIO(text, newline=""), strict=True)
    line = 1
    try:
        for cells in reader:
            if len(cells) > 1 or "".join(cells).strip():
                yield _Row(f"{origin}:{line}", cells)
            line = reader.line_num + 1
    except csv.Error as e:
        raise UsageError(f"{origin}:{line}: is no CSV ({e}); put quotes around whole cells only") from e


def _by_column(
    rows: Iterable[_Row], origin: str, *, needed: Sequence[str], further: Sequence[str] = ()
) -> Iterator[tuple[str, Mapping[str, str]]]:
    """Yield where each row stands and its cells by the names in the first row, none of them empty."""
    rows = iter(rows)
    where, header = next(rows, _Row(origin, []))
    columns = [cell.strip().lower() for cell in header]
    known, begin = (*needed, *further), f"begin the file with {','.join(needed)}"
    for cell, column in zip(header, columns, strict=True):
        if column not in known:
            near = difflib.get_close_matches(column, known, n=1, cutoff=0.0)[0]
            raise UsageError(f"{where}: column {cell!r} is unknown, the nearest is {near!r}; {begin}")
    for column in known:
        if columns.count(column) > 1 or (column in needed and column not in columns):
            raise UsageError(f"{where}: column {column!r} comes {columns.count(column)} times; {begin}")
    for where, cells in rows:
        if len(cells) != len(columns):
            way = "put quotes around a cell with a comma in it"
            raise UsageError(f"{where}: has {len(cells)} cells, not {len(columns)}; {way}")
        row = dict(zip(columns, cells, strict=True))
        empty = next((column for column in columns if not row[column].strip()), None)
        if empty is not None:
            raise UsageError(f"{where}: {empty} is empty; fill it in, or remove the row")
        yield where, row


# -- small words --------------------------------------------------------------------------------------------------


def _is_folder(path: str | Path) -> bool:
    return os.path.isdir(path)  # noqa: PTH112 - False where the system refuses; Path.is_dir raises


def _visible(folder: str) -> list[str]:
    try:
        return sorted(name for name in os.listdir(folder) if not name.startswith("."))  # noqa: PTH208
    except OSError as e:
        raise UsageError(f"{folder}: cannot be read ({e.strerror}); check its permissions") from e


def _below(folder: str, name: str) -> str:
    return os.path.join(folder, name)  # noqa: PTH118 - Path drops a leading ./


def _nfc(text: str) -> str:
    return unicodedata.normalize("NFC", text)


def _count(videos: Sequence[object]) -> str:
    return f"{len(videos)} video{'s' if len(videos) > 1 else ''}"


def _listed(names: Sequence[str], most: int = 5) -> str:
    more = f" and {len(names) - most} more" if len(names) > most else ""
    return f"class{'es' if len(names) > 1 else ''} {', '.join(map(repr, names[:most]))}{more}"
