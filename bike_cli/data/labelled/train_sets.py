"""Labelled videos to train on, with test and validation sides."""

from __future__ import annotations

import logging
import os
import re
import unicodedata
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from bike_cli.config import Descriptions
from bike_cli.data.csv_rows import by_column, csv_rows
from bike_cli.data.label_files import read_table
from bike_cli.data.labelled.class_folders import Side
from bike_cli.data.labelled.entries import ID, Entry, Listing
from bike_cli.data.labelled.formats import find_listing, keep_labelled
from bike_cli.data.labels import label_set
from bike_cli.data.lines import Line, check, is_comment, key, nfc, read_text, tidy
from bike_cli.data.search import below, is_folder
from bike_cli.errors import UsageError
from bike_cli.records import Sample
from bike_cli.wording import count, nearest

logger = logging.getLogger(__name__)

PURPOSES: Mapping[Side, str] = {"train": "to train on", "test": "to test on", "val": "for validation"}
ADJECTIVES: Mapping[Side, str] = {"train": "training", "test": "test", "val": "validation"}
_HYPHEN_BETWEEN_LETTERS = re.compile(r"(?<=[^\W\d_])-(?=[^\W\d_])")


@dataclass(frozen=True)
class TrainSet:
    """Labelled videos to train on, and perhaps to test and validate on. Their order does not depend on the source.

    Args:
        labels: the text that the model reads for each class; no two are equal, ignoring case and space.
        names: for each of `labels`, the name of the class in the source: folder, id, or CSV cell or part of one. They
            are in Unicode's NFC form, sorted by code points, or ids by value. Each has a sample in `train`.
        train, test, val: sorted by path; test and val are None if the source does not say what they are.
        multi_label: whether a sample may have several labels.
        descriptions: for each label that the names file describes, its descriptions.
    """

    labels: tuple[str, ...]
    names: tuple[str, ...]
    train: tuple[Sample, ...]
    test: tuple[Sample, ...] | None
    val: tuple[Sample, ...] | None = None
    multi_label: bool = False
    descriptions: Descriptions = field(default_factory=dict)


def read_labelled(
    given: str | Path,
    *,
    names_file: str | Path | None = None,
    test: str | Path | None = None,
    root: str | Path | None = None,
    val: str | Path | None = None,
    keep_val: bool = False,
    multi_label: bool = False,
) -> TrainSet:
    """Return the labelled videos of a folder or a file.

    `given` is the first of these that fits:
        a folder whose only subfolders are `train` and `test`, `val` or `validation` (in any case), or `train` alone,
            each with class folders;
        a folder of class folders, with videos (see `find_sources`) at any depth;
        Charades' CSV or ActivityNet's JSON annotations (see `read_charades`, `read_activitynet`);
        a list file, `path id` or `path frames id` per line; its first line ends in a space and a whole number, and
            contains no comma if the file is named .csv;
        a CSV file that begins with `path,label` or `path,label,split`, in any order; a split is one of the names above.
    Paths in a list file may contain spaces. If every line ends in two whole numbers, the first is a frame count, unless
    existing files say otherwise: the first line for which only one of `clip 3` and `clip` exists decides for all.
    Videos that do not exist are samples too, so that each gets its own failure.

    Args:
        names_file: a CSV file. For list files it begins with `id,name` and is needed; for others it begins with
            `name,label` and replaces the labels of `label_of`. Or a file of labels with descriptions, see
            `read_label_set`.
        test: a separate source of test videos; its classes are among those of `given`.
        root: the folder that relative paths in files start at; None: the folder of each file.
        val: a separate source of validation videos; implies `keep_val`.
        keep_val: whether validation videos are a side of their own. If not, they are the test side if there is no
            other, and left out if there is.
        multi_label: whether a video may have several classes: `running; jumping` in a CSV cell, `path 3,17` in a list
            file. If not, the first label in annotations counts.
    Raises:
        UsageError: no such source, fewer than two classes, a class without a training video, classes with the same
            label, a video with two different classes or sides, test classes without training videos, or a malformed
            file.
    """
    check_root(root, [str(name) for name in (given, test, val) if name is not None])

    def read(name: str | Path) -> Listing:
        return keep_labelled(find_listing(str(name), root=root, multi_label=multi_label), multi_label=multi_label)

    listing = read(given)
    sides: dict[Side, str | Path | None] = {"test": test, "val": val}
    separate = {side: read(name) for side, name in sides.items() if name is not None}
    entries = distinct(_sides(listing, separate, keep_val=keep_val or val is not None), multi_label=multi_label)
    names = _names(entries, origin=listing.origin, by_id=listing.by_id)
    labels, descriptions = _labels(names, entries, names_file=names_file, by_id=listing.by_id)
    number = {name: i for i, name in enumerate(names)}
    train_side, test_side, val_side = (
        tuple(_sample(entry, number) for entry in entries if entry.side == side) for side in PURPOSES
    )
    sides_read = (train_side, test_side or None, val_side or None)
    return TrainSet(labels, tuple(names), *sides_read, multi_label, descriptions)


def label_of(name: str) -> str:
    """Return the label for a class name: `playing_guitar` is "playing guitar".

    Underscores become spaces, and repeated spaces one. A name that contains a space is not changed further. In other
    names, a hyphen between letters becomes a space, and Latin words in CamelCase are split and put in lower case,
    except for acronyms (`PlayingTV` is "playing TV"). Words in capitals, digits and other scripts stay as they are, and
    so does a name of separators only. The label is in Unicode's NFC form.
    """
    text = tidy(nfc(name))
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
    # A single capital is a word (`TakeAPhoto`); two are an acronym.
    return [hump if len(hump) > 1 and hump.isupper() else hump.lower() for hump in humps]


def _begins_hump(word: str, i: int) -> bool:
    before, after = word[i - 1], word[i + 1 : i + 2]
    return word[i].isupper() and (before.islower() or (before.isalnum() and after.islower()))


def check_root(root: str | Path | None, given: Sequence[str]) -> None:
    """Raise UsageError if the root is not a folder, or if all sources are folders, which have no use for it."""
    if root is not None and not is_folder(root):
        raise UsageError(f"{root}: no such folder; give the folder that relative paths start at")
    if root is not None and all(is_folder(name) for name in given):
        raise UsageError(f"{root}: is a root for the paths in a file, but {given[0]} is a folder; leave the root out")


def _sides(listing: Listing, separate: Mapping[Side, Listing], *, keep_val: bool) -> list[Entry]:
    """Return the videos of all sides, each marked with its side."""
    sides = _split(listing, keep_val=keep_val)
    if not sides["train"]:
        raise UsageError(f"{listing.origin}: contains no video to train on; mark some as train")
    check_same_form([listing, *separate.values()])
    for side, other in separate.items():
        _check_separate(other, side=side, keep_val=keep_val)
        if sides[side]:
            raise UsageError(
                f"{listing.origin}: has videos {PURPOSES[side]}, and so does {other.origin}; give one of the two"
            )
        split = _split(other, keep_val=keep_val)
        sides[side] = split["train"] or split[side]  # videos without a side are of the side that they were given for
    return [entry._replace(side=side) for side, entries in sides.items() for entry in entries]


def _split(listing: Listing, *, keep_val: bool) -> dict[Side, list[Entry]]:
    sides: dict[Side, list[Entry]] = {
        side: [entry for entry in listing.entries if (entry.side or "train") == side] for side in PURPOSES
    }
    if keep_val:
        return sides
    test, val = sides["test"], sides["val"]
    if test and val:
        logger.warning(
            "%s: leaves out %s for validation, because there is a test side", listing.origin, count(len(val), "video")
        )
    return {"train": sides["train"], "test": test or val, "val": []}


def check_same_form(listings: Sequence[Listing]) -> None:
    """Raise UsageError if some listings have class ids and others have class names."""
    ids = next((listing.origin for listing in listings if listing.by_id), None)
    names = next((listing.origin for listing in listings if not listing.by_id), None)
    if ids is not None and names is not None:
        raise UsageError(f"{ids}: has class ids, but {names} has class names; use the same in all")


def _check_separate(separate: Listing, *, side: Side, keep_val: bool) -> None:
    allowed = {None, side} if keep_val else {None, side, "val"}
    other = next((entry.side for entry in separate.entries if entry.side not in allowed), None)
    if other is not None:
        raise UsageError(f"{separate.origin}: also has videos {PURPOSES[other]}; give only those {PURPOSES[side]}")


def distinct(entries: Sequence[Entry], *, multi_label: bool) -> list[Entry]:
    """Return the entries sorted by path, each path once."""
    here, seen, repeated = os.getcwd(), dict[str, Entry](), list[Entry]()  # noqa: PTH109
    for entry in sorted(entries, key=lambda e: (nfc(e.place), e.place)):
        # Not Path.absolute(), which takes seconds for the 240,000 videos of Kinetics.
        first = seen.setdefault(below(here, str(entry.source.path)), entry)
        if first is not entry:
            _check_same(entry, first, multi_label=multi_label)
            repeated.append(entry)
    if repeated:
        logger.warning("%s: %s named more than once, used once", repeated[0].where, count(len(repeated), "video"))
    return list(seen.values())


def _check_same(entry: Entry, first: Entry, *, multi_label: bool) -> None:
    """Raise UsageError if two entries for a path have different classes or sides."""
    if set(first.names) != set(entry.names):
        before = ", ".join(map(repr, first.names)) or "none"
        reason = f"has {_listed(entry.names)}, but {before} at {first.where}"
        fix = "keep one, or put all classes on one line" if multi_label else "keep one"
        raise UsageError(f"{entry.where}: {entry.source.id} {reason}; {fix}")
    if first.side != entry.side:
        sides = f"is {_purpose(entry)}, but {_purpose(first)} at {first.where}"
        raise UsageError(f"{entry.where}: {entry.source.id} {sides}; keep one")


def _names(entries: Sequence[Entry], *, origin: str, by_id: bool) -> list[str]:
    """Return the sorted classes of the training side; those of other sides must be among them."""
    trained = {name for entry in entries if entry.side == "train" for name in entry.names}
    names = sorted(trained, key=int) if by_id else sorted(trained)
    others = sorted((name, e.where, _purpose(e)) for e in entries for name in e.names if name not in trained)
    if others:
        _, where, purpose = others[0]
        classes = _listed(list(dict.fromkeys(name for name, _, other in others if other == purpose)))
        raise UsageError(f"{where}: {classes} {purpose}, but not in {origin} to train on; add or remove videos")
    if len(names) < 2:
        raise UsageError(f"{origin}: contains one class, {names[0]!r}; give two or more")
    return names


def _purpose(entry: Entry) -> str:
    return PURPOSES[entry.side or "train"]


def _sample(entry: Entry, number: Mapping[str, int]) -> Sample:
    label, *others = sorted(number[name] for name in entry.names)
    return Sample(entry.source, label, tuple(others))


def _labels(
    names: Sequence[str], entries: Sequence[Entry], *, names_file: str | Path | None, by_id: bool
) -> tuple[tuple[str, ...], Descriptions]:
    where = {name: e.where for e in reversed(entries) for name in e.names}
    if by_id and names_file is None:
        raise UsageError(f"{where[names[0]]}: has an id but no name; give --labels a CSV file that begins with id,name")
    path = None if names_file is None else Path(names_file)
    given, descriptions = ({}, {}) if path is None else _read_names_file(path, names, by_id=by_id)
    lines = [given.get(tidy(name)) or Line(where[name], label_of(name)) for name in names]
    nameless = [name for name in names if by_id and name not in given]
    if nameless:
        raise UsageError(f"{where[nameless[0]]}: id {nameless[0]} has no name in {names_file}; add it there")
    _check_unused(given, names, by_id=by_id)
    check_labels(names, lines)
    labels = tuple(line.text for line in lines)
    return labels, {label: descriptions[label] for label in labels if label in descriptions}


def _read_names_file(path: Path, names: Sequence[str], *, by_id: bool) -> tuple[dict[str, Line], Descriptions]:
    """Return the labels in a file by class, and their descriptions."""
    text = read_text(path, of="labels")
    is_plain = _columns(text) in (set(), set(_header(by_id=by_id)))
    table = None if is_plain else read_table(text, path)
    if table is None or not table.descriptions:
        return labels_by_class(text, path, by_id=by_id), {}
    described = label_set(table)
    if by_id or table.names:
        return labels_by_class(text, path, by_id=by_id), described.descriptions
    spelled = {key(label_of(name)): tidy(name) for name in names}
    return {spelled.get(key(label_of(line.text)), line.text): line for line in table.lines}, described.descriptions


def _header(*, by_id: bool) -> tuple[str, str]:
    return ("id", "name") if by_id else ("name", "label")


def _columns(text: str) -> set[str]:
    """Return the cells of the first line of a table."""
    begin = next((line for line in text.split("\n") if not is_comment(line)), "")
    return {cell.strip().lower() for cell in begin.split(",")} if begin else set()


def labels_by_class(text: str, path: Path, *, by_id: bool) -> dict[str, Line]:
    """Return the labels in a file by class.

    Args:
        text: of `path`, a CSV file that begins with `id,name`, or without `by_id` with `name,label`, or another format
            with ids or names (see `read_table`). Lines that begin with `#` are comments.
    Raises:
        UsageError: another header, an id that is not a whole number, or a class twice.
    """
    header, columns = _header(by_id=by_id), _columns(text)
    if columns and columns != set(header):
        table = read_table(text, path)
        keys = [str(id_) for id_ in table.ids] if by_id else [nfc(tidy(name)) for name in table.names]
        if keys:
            return lines_by_key(keys, table.lines, header[0])
    rows = [row for row in csv_rows(text, str(path)) if not row.cells[0].lstrip().startswith("#")]
    keys, lines = [], []
    for where, row in by_column(rows, str(path), needed=header):
        name = nfc(tidy(row[header[0]]))
        if by_id and not ID.fullmatch(name):
            raise UsageError(f"{where}: id {name!r} is not a whole number; number the classes as the list file does")
        keys.append(str(int(name)) if by_id else name)
        lines.append(Line(where, tidy(row[header[1]])))
    return lines_by_key(keys, lines, header[0])


def lines_by_key(keys: Sequence[str], lines: Sequence[Line], column: str) -> dict[str, Line]:
    """Return the lines by their keys; raise UsageError for a key that is there twice."""
    labels: dict[str, Line] = {}
    for name, line in zip(keys, lines, strict=True):
        first = labels.setdefault(name, line)
        if first is not line:
            raise UsageError(f"{line.where}: {column} {name!r} is at {first.where} too; remove one")
    return labels


def _check_unused(given: Mapping[str, Line], names: Sequence[str], *, by_id: bool) -> None:
    known = {tidy(name) for name in names}
    unused = [name for name in given if name not in known]
    if unused and by_id:  # names of all classes are common, with videos of some
        text = "%s: class %s has no video to train on, so it is not among the labels (%d of %s)"
        named = count(len(given), "class", "classes")
        logger.warning(text, given[unused[0]].where, unused[0], len(unused), named)
    elif unused:
        near = nearest(unused[0], known)
        raise UsageError(f"{given[unused[0]].where}: there is no class {unused[0]!r}; the nearest is {near!r}")


def check_labels(names: Sequence[str], lines: Sequence[Line]) -> None:
    """Raise UsageError if the label of a class is empty, not valid text or that of another class."""
    check(list(lines), origin="", of="labels")
    seen: dict[str, str] = {}
    for name, (where, label) in zip(names, lines, strict=True):
        if any(unicodedata.category(c) == "Cs" for c in label):
            raise UsageError(f"{where}: class {name!r} is not valid UTF-8, so a model cannot read it; rename it")
        first = seen.setdefault(key(label), name)
        if first != name:
            reason = f"classes {first!r} and {name!r} have the same label, {label!r}"
            raise UsageError(f"{where}: {reason}; rename one, or give them different labels with --labels")


def _listed(names: Sequence[str], most: int = 5) -> str:
    if not names:
        return "no class"
    more = f" and {len(names) - most} more" if len(names) > most else ""
    return f"class{'es' if len(names) > 1 else ''} {', '.join(map(repr, names[:most]))}{more}"
