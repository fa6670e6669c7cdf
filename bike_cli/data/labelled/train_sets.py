"""Videos whose class is known: class folders, CSV files and BIKE's list files become samples of two sides."""

from __future__ import annotations

import logging
import os
import re
import unicodedata
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from bike_cli.data.csv_rows import by_column, csv_rows
from bike_cli.data.label_files import read_table
from bike_cli.data.labelled.class_folders import Side, below, is_folder
from bike_cli.data.labelled.entries import ID, Entry, Listing
from bike_cli.data.labelled.formats import find_listing, keep_labelled
from bike_cli.data.lines import Line, check, is_comment, key, nfc, read_text, tidy
from bike_cli.errors import UsageError
from bike_cli.records import Sample
from bike_cli.wording import count, nearest

logger = logging.getLogger(__name__)

PURPOSES: Mapping[Side, str] = {"train": "to train on", "test": "to test on", "val": "for validation"}
_HYPHEN_BETWEEN_LETTERS = re.compile(r"(?<=[^\W\d_])-(?=[^\W\d_])")


@dataclass(frozen=True)
class LabelledSet:
    """Videos to learn from and to test on, the same whatever order the file system or the file had.

    Args:
        labels: what the model reads, one for each class; no two are the same, case and space aside.
        names: beside `labels`, the class as it was found: folder, id, CSV cell or part of one; in Unicode's NFC form,
            sorted by code points, ids by value. Each has a sample in `train`.
        train, test, val: in the order of paths below what was given; test and val are None where nobody said what is
            for testing and for validation.
        multi_label: whether a sample may have several labels.
    """

    labels: tuple[str, ...]
    names: tuple[str, ...]
    train: tuple[Sample, ...]
    test: tuple[Sample, ...] | None
    val: tuple[Sample, ...] | None = None
    multi_label: bool = False


def read_labelled(
    given: str | Path,
    *,
    names_file: str | Path | None = None,
    test: str | Path | None = None,
    root: str | Path | None = None,
    val: str | Path | None = None,
    keep_val: bool = False,
    multi_label: bool = False,
) -> LabelledSet:
    """Return the labelled videos that a folder or a file names.

    `given` is, whichever comes first:
        a folder whose only subfolders are `train` and `test`, `val` or `validation` (in any case) or `train` alone,
            each with class folders; unless it is kept, `val` is for testing where there is no `test`, and left out
            where there is;
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
        val: what to validate on, given apart as `test` is; implies `keep_val`.
        keep_val: give what is for validation a side of its own, never tested on.
        multi_label: a video may have several classes: `running; jumping` in a CSV cell, `path 3,17` in a list file.
            One in a class folder has one.
    Raises:
        UsageError: nothing there, no two classes, a class without a video to train on, classes with the same label, a
            video of other classes the second time or on two sides, test classes without training videos, a file that
            is malformed.
    """
    check_root(root, [str(name) for name in (given, test, val) if name is not None])

    def read(name: str | Path) -> Listing:
        return keep_labelled(find_listing(str(name), root=root, multi_label=multi_label), multi_label=multi_label)

    listing = read(given)
    sides: dict[Side, str | Path | None] = {"test": test, "val": val}
    separate = {side: read(name) for side, name in sides.items() if name is not None}
    entries = distinct(_sides(listing, separate, keep_val=keep_val or val is not None), multi_label=multi_label)
    names = _names(entries, origin=listing.origin, by_id=listing.by_id)
    labels = _labels(names, entries, names_file=names_file, by_id=listing.by_id)
    number = {name: i for i, name in enumerate(names)}
    train_side, test_side, val_side = (
        tuple(_sample(entry, number) for entry in entries if entry.side == side) for side in PURPOSES
    )
    return LabelledSet(labels, tuple(names), train_side, test_side or None, val_side or None, multi_label)


def label_of(name: str) -> str:
    """Return the label that a class name stands for: `playing_guitar` is "playing guitar".

    Underscores become spaces, and runs of space one. A name with a space in it is changed no further. In others, a
    hyphen between letters becomes a space, and each Latin word with a capital and a small letter is CamelCase: split
    before each capital that begins a word and put in lower case, but for acronyms (`PlayingTV` is "playing TV"). A
    word all in capitals keeps them, digits stay where they are, other scripts keep their case; a name of separators
    only stays itself. The label is in Unicode's NFC form.
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
    # One capital is a word like others (`TakeAPhoto`), two are an acronym.
    return [hump if len(hump) > 1 and hump.isupper() else hump.lower() for hump in humps]


def _begins_hump(word: str, i: int) -> bool:
    before, after = word[i - 1], word[i + 1 : i + 2]
    return word[i].isupper() and (before.islower() or (before.isalnum() and after.islower()))


# -- sides, classes and labels ------------------------------------------------------------------------------------


def check_root(root: str | Path | None, given: Sequence[str]) -> None:
    """Raise UsageError where the root is no folder, or where nothing given is a file with paths in it."""
    if root is not None and not is_folder(root):
        raise UsageError(f"{root}: no such folder; give the one that relative paths begin at")
    if root is not None and all(is_folder(name) for name in given):
        raise UsageError(f"{root}: is a root for the paths in a file, but {given[0]} is a folder; leave the root out")


def _sides(found: Listing, apart: Mapping[Side, Listing], *, keep_val: bool) -> list[Entry]:
    """Return the videos of all sides, each marked with its own."""
    sides = _split(found, keep_val=keep_val)
    if not sides["train"]:
        raise UsageError(f"{found.origin}: holds no video to train on; mark some as train")
    for side, other in apart.items():
        _check_apart(other, found, side=side, keep_val=keep_val)
        if sides[side]:
            fact = f"has videos {PURPOSES[side]}, and so has {other.origin}"
            raise UsageError(f"{found.origin}: {fact}; give one of the two")
        split = _split(other, keep_val=keep_val)
        sides[side] = split["train"] or split[side]  # what is unmarked is what it was given as
    return [entry._replace(side=side) for side, entries in sides.items() for entry in entries]


def _split(found: Listing, *, keep_val: bool) -> dict[Side, list[Entry]]:
    sides: dict[Side, list[Entry]] = {
        side: [e for e in found.entries if (e.side or "train") == side] for side in PURPOSES
    }
    if keep_val:
        return sides
    test, val = sides["test"], sides["val"]
    if test and val:
        logger.warning(
            "%s: leaves out %s for validation, as others are for testing", found.origin, count(len(val), "video")
        )
    return {"train": sides["train"], "test": test or val, "val": []}


def _check_apart(apart: Listing, found: Listing, *, side: Side, keep_val: bool) -> None:
    if apart.by_id != found.by_id:
        ids, names = (apart, found) if apart.by_id else (found, apart)
        raise UsageError(f"{ids.origin}: has class ids, but {names.origin} class names; give both in one form")
    taken = {side} if keep_val else {side, "val"}
    strange = next((e.side for e in apart.entries if e.side is not None and e.side not in taken), None)
    if strange is not None:
        fact = f"has videos {PURPOSES[strange]}, too"
        raise UsageError(f"{apart.origin}: {fact}; give only those {PURPOSES[side]}")


def distinct(entries: Sequence[Entry], *, multi_label: bool) -> list[Entry]:
    """Return the entries in the order of their paths, each path once."""
    here, seen, again = os.getcwd(), dict[str, Entry](), list[Entry]()  # noqa: PTH109
    for entry in sorted(entries, key=lambda e: (nfc(e.place), e.place)):
        # Not Path.absolute(), which takes seconds for the 240,000 videos of Kinetics.
        first = seen.setdefault(below(here, str(entry.source.path)), entry)
        if first is not entry:
            _check_again(entry, first, multi_label=multi_label)
            again.append(entry)
    if again:
        logger.warning("%s: %s named more than once, used once", again[0].where, count(len(again), "video"))
    return list(seen.values())


def _check_again(entry: Entry, first: Entry, *, multi_label: bool) -> None:
    """Raise UsageError where a path that was there before has other classes now, or another side."""
    if set(first.names) != set(entry.names):
        before = ", ".join(map(repr, first.names)) or "none"
        classes = f"is of {_listed(entry.names)}, but of {before} at {first.where}"
        way = "keep one, or name all classes on one line" if multi_label else "keep one"
        raise UsageError(f"{entry.where}: {entry.source.id} {classes}; {way}")
    if first.side != entry.side:
        sides = f"is {_purpose(entry)}, but {_purpose(first)} at {first.where}"
        raise UsageError(f"{entry.where}: {entry.source.id} {sides}; keep one")


def _names(entries: Sequence[Entry], *, origin: str, by_id: bool) -> list[str]:
    """Return the classes to train on, in their order; those of other sides are among them."""
    found = {name for e in entries if e.side == "train" for name in e.names}
    names = sorted(found, key=int) if by_id else sorted(found)
    strange = sorted((name, e.where, _purpose(e)) for e in entries for name in e.names if name not in found)
    if strange:
        _, where, purpose = strange[0]
        classes = _listed(list(dict.fromkeys(name for name, _, other in strange if other == purpose)))
        raise UsageError(f"{where}: {classes} {purpose}, but not in {origin} to train on; add or remove videos")
    if len(names) < 2:
        raise UsageError(f"{origin}: holds one class, {names[0]!r}; give two or more to tell apart")
    return names


def _purpose(entry: Entry) -> str:
    return PURPOSES[entry.side or "train"]


def _sample(entry: Entry, number: Mapping[str, int]) -> Sample:
    label, *others = sorted(number[name] for name in entry.names)
    return Sample(entry.source, label, tuple(others))


def _labels(
    names: Sequence[str], entries: Sequence[Entry], *, names_file: str | Path | None, by_id: bool
) -> tuple[str, ...]:
    where = {name: e.where for e in reversed(entries) for name in e.names}
    if by_id and names_file is None:
        raise UsageError(f"{where[names[0]]}: has an id, no name; give --labels a CSV file that begins with id,name")
    path = None if names_file is None else Path(names_file)
    given = {} if path is None else labels_by_class(read_text(path, of="labels"), path, by_id=by_id)
    lines = [given.get(tidy(name)) or Line(where[name], label_of(name)) for name in names]
    nameless = [name for name in names if by_id and name not in given]
    if nameless:
        raise UsageError(f"{where[nameless[0]]}: id {nameless[0]} has no name in {names_file}; add it there")
    _check_unused(given, names, by_id=by_id)
    check_labels(names, lines)
    return tuple(line.text for line in lines)


def labels_by_class(text: str, path: Path, *, by_id: bool) -> dict[str, Line]:
    """Return the labels of a file by the class they are for, with `#` comments left out as in any label file.

    Args:
        text: of `path`, a CSV file that begins with `id,name`, or without `by_id` with `name,label`; or another form
            that gives ids or names (see `read_table`).
    Raises:
        UsageError: another header, an id that is not a whole number, a class twice.
    """
    header = ("id", "name") if by_id else ("name", "label")
    begin = next((line for line in text.split("\n") if not is_comment(line)), "")
    if begin and {cell.strip().lower() for cell in begin.split(",")} != set(header):
        table = read_table(text, path)
        keys = [str(id_) for id_ in table.ids] if by_id else [nfc(tidy(name)) for name in table.names]
        if keys:
            return _by_key(keys, table.lines, header[0])
    rows = [row for row in csv_rows(text, str(path)) if not row.cells[0].lstrip().startswith("#")]
    lines: dict[str, Line] = {}
    for where, row in by_column(rows, str(path), needed=header):
        name, label = nfc(tidy(row[header[0]])), tidy(row[header[1]])
        if by_id and not ID.fullmatch(name):
            raise UsageError(f"{where}: id {name!r} is not a whole number; number the classes as the list file does")
        name = str(int(name)) if by_id else name
        first = lines.setdefault(name, Line(where, label))
        if first.where != where:
            raise UsageError(f"{where}: {header[0]} {name!r} is at {first.where} too; remove one")
    return lines


def _by_key(keys: Sequence[str], lines: Sequence[Line], column: str) -> dict[str, Line]:
    labels: dict[str, Line] = {}
    for name, line in zip(keys, lines, strict=True):
        first = labels.setdefault(name, line)
        if first is not line:
            raise UsageError(f"{line.where}: {column} {name!r} is at {first.where} too; remove one")
    return labels


def _check_unused(given: Mapping[str, Line], names: Sequence[str], *, by_id: bool) -> None:
    known = {tidy(name) for name in names}
    unused = [name for name in given if name not in known]
    if unused and by_id:  # a list of some classes goes with the names of all
        text = "%s: no video to train on, so class %s is none of the labels (%d of %d)"
        logger.warning(text, given[unused[0]].where, unused[0], len(unused), len(given))
    elif unused:
        near = nearest(unused[0], known)
        raise UsageError(f"{given[unused[0]].where}: no class is named {unused[0]!r}; the nearest is {near!r}")


def check_labels(names: Sequence[str], lines: Sequence[Line]) -> None:
    """Raise UsageError where the label of a class, and where it stands, is no text or that of another class."""
    check(list(lines), origin="", of="labels")
    seen: dict[str, str] = {}
    for name, (where, label) in zip(names, lines, strict=True):
        if any(unicodedata.category(c) == "Cs" for c in label):
            raise UsageError(f"{where}: class {name!r} is no UTF-8, so no text for a model; rename it")
        first = seen.setdefault(key(label), name)
        if first != name:
            fact = f"classes {first!r} and {name!r} have the same label, {label!r}"
            raise UsageError(f"{where}: {fact}; rename one, or tell them apart with --labels")


def _listed(names: Sequence[str], most: int = 5) -> str:
    if not names:
        return "no class"
    more = f" and {len(names) - most} more" if len(names) > most else ""
    return f"class{'es' if len(names) > 1 else ''} {', '.join(map(repr, names[:most]))}{more}"
