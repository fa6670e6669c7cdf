"""Videos to test on, of known classes: a class need have no video, and a video need be of no class."""

from __future__ import annotations

import logging
import os
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from bike_cli.config import SUBSET
from bike_cli.data.labelled.candidates import Candidates, Find, finder, read_candidates
from bike_cli.data.labelled.class_folders import Side, below
from bike_cli.data.labelled.entries import Entry, Listing
from bike_cli.data.labelled.formats import find_listing, keep_labelled
from bike_cli.data.labelled.train_sets import PURPOSES, check_labels, check_root, distinct, label_of
from bike_cli.data.lines import Line, key, nfc
from bike_cli.errors import UsageError
from bike_cli.records import Failure, Sample, Source
from bike_cli.wording import count, nearest

logger = logging.getLogger(__name__)

NONE = -1  # Sample.label of a video that is of none of the labels


@dataclass(frozen=True)
class Tested:
    """Videos to test on, the same whatever order the file system or a file had.

    Args:
        labels: the candidates, as a model reads them; no two are the same, case and space aside.
        names: beside `labels`, the class as files call it: folder, CSV cell, line of the names file, or id; of several
            names files, the label.
        samples: in the order of paths below what was given. `label` is `NONE` for a video of none of the labels.
        multi_label: whether a sample may have several labels, or none.
        side: the side they are of; None where nobody said sides.
        splits: for each folder or file given, the places of its samples, ascending; a video may be of several.
        candidates: beside `splits`, the places of the labels of its own names file, ascending; empty where there is one
            names file for all, or none.
        left_out: videos that annotations name and that cannot be tested on.
    """

    labels: tuple[str, ...]
    names: tuple[str, ...]
    samples: tuple[Sample, ...]
    multi_label: bool = False
    side: Side | None = None
    splits: tuple[tuple[int, ...], ...] = ()
    candidates: tuple[tuple[int, ...], ...] = ()
    left_out: tuple[Failure, ...] = ()

    def classes_of(self, split: int) -> tuple[int, ...]:
        """Return the places of the labels that the videos of a split may be of, ascending.

        They are those of its own names file; where it has none, those that its videos have.
        """
        if self.candidates:
            return self.candidates[split]
        return tuple(sorted({label for place in self.splits[split] for label in self.samples[place].labels} - {NONE}))


def read_tested(
    given: Sequence[str | Path],
    *,
    names_file: str | Path | Sequence[str | Path] | None = None,
    root: str | Path | None = None,
    multi_label: bool = False,
    side: Literal["auto"] | Side = "auto",
    none_of_these: str | None = None,
    subset: str = SUBSET,
) -> Tested:
    """Return the labelled videos of folders and files, all of one side, and the classes they may be of.

    What may be given is what `read_labelled` and `read_annotations` take. Without a names file, the candidates are all
    classes that are named there, those of other sides and subsets too, as labels in the order of code points.

    Args:
        names_file: what all candidates are, in its order, with videos or without; see `read_candidates`. Classes of
            folders and files are looked up there as `finder` does. Needed where classes are ids, which it gives names.
            Several are one for each of what is given, in its order: an id is a place in its own. Their labels are
            united, in the order of the files; those alike but for case and space are one.
        root: the folder that relative paths in files begin at; otherwise each file's own.
        multi_label: a video may have several classes, or none; always so with Charades annotations.
        side: which videos to take where some are marked with sides; auto: test, where there is none val.
        none_of_these: a class that is no candidate; its videos are of none of the labels.
        subset: which videos to take of ActivityNet annotations.
    Raises:
        UsageError: nothing there, no video of the side, a class or an id that is no candidate, ids with a gap, classes
            with the same label, a video of other classes the second time, however its path is written, a file that is
            malformed, names files for some of what is given.
    """
    if not given:
        raise ValueError("given is empty; name a folder or a file of labelled videos")
    origins = [str(name) for name in given]
    names_files = _names_files(names_file, origins)
    check_root(root, origins)
    founds = [_read(origin, root=root, multi_label=multi_label, subset=subset) for origin in origins]
    _check_forms(founds)
    multi_label = any(found.multi_label for found in founds) or multi_label
    taken = _side_of(founds, side)
    parts = _spelled_once([_taken(found, taken, tell=side == "auto") for found in founds])
    by_id, own = founds[0].by_id, list[Candidates]()
    if len(names_files) > 1:
        own = [read_candidates(file, by_id=by_id) for file in names_files]
        candidates, by_id = _united(own), False
        ways = zip(parts, own, names_files, strict=True)
        parts = [_renamed(*way, candidates, none_of_these, by_id=founds[0].by_id) for way in ways]
    else:
        candidates = _candidates(founds, names_files[0] if names_files else None)
    entries = distinct([entry for part in parts for entry in part], multi_label=multi_label)
    # A label may be a number, and no id.
    find = finder(candidates.names) if by_id else finder(*candidates)
    if none_of_these is not None:
        candidates, find = _without(none_of_these, candidates, find, entries)
    samples = tuple(_sample(entry, find, candidates, names_files) for entry in entries)
    splits, left_out = _splits(parts, entries), tuple(one for found in founds for one in found.left_out)
    return Tested(
        candidates.labels, candidates.names, samples, multi_label, taken, splits, _places_of(own, candidates), left_out
    )


def _names_files(given: str | Path | Sequence[str | Path] | None, origins: Sequence[str]) -> list[Path]:
    """Return the names files: none, one for all, or one for each of the origins."""
    if given is None:
        return []
    files = [Path(file) for file in ([given] if isinstance(given, str | Path) else given)]
    if len(files) not in (0, 1, len(origins)):
        counted = f"{len(files)} for {len(origins)} list{'s' * (len(origins) > 1)}"
        raise UsageError(f"--labels: there are {counted}; give one for all, or one for each, in their order")
    return files


def _read(given: str, *, root: str | Path | None, multi_label: bool, subset: str) -> Listing:
    listing = find_listing(given, root=root, multi_label=multi_label, subset=subset)
    return listing if multi_label or listing.multi_label else keep_labelled(listing, multi_label=False)


def _check_forms(founds: Sequence[Listing]) -> None:
    other = next((found for found in founds if found.by_id != founds[0].by_id), None)
    if other is not None:
        ids, names = (other, founds[0]) if other.by_id else (founds[0], other)
        raise UsageError(f"{ids.origin}: has class ids, but {names.origin} class names; give all in one form")


# -- sides ----------------------------------------------------------------------------------------------------------


def _side_of(founds: Sequence[Listing], wanted: Literal["auto"] | Side) -> Side | None:
    """Return the side to take; None where no video is marked."""
    marked = {entry.side for found in founds for entry in found.entries if entry.side is not None}
    if not marked or wanted != "auto":
        return wanted if marked and wanted != "auto" else None
    if marked == {"train"}:
        raise UsageError(f"{founds[0].origin}: holds videos to train on only; mark some as test, or choose the side")
    return "test" if "test" in marked else "val"


def _taken(found: Listing, side: Side | None, *, tell: bool) -> list[Entry]:
    """Return the entries of one side, and those that nobody marked, as all of that side."""
    entries = [entry._replace(side=side) for entry in found.entries if entry.side in (None, side)]
    others = [e for e in found.entries if e.side not in (None, side)]
    counts = " and ".join(
        f"{count(len(n), 'video')} {PURPOSES[s]}" for s in PURPOSES if (n := [e for e in others if e.side == s])
    )
    if side is not None and not entries:
        raise UsageError(f"{found.origin}: holds no video {PURPOSES[side]}, but {counts}; choose another side")
    if side is not None and others and tell:
        logger.warning(
            "%s: takes %s %s; leaves out %s", found.origin, count(len(entries), "video"), PURPOSES[side], counts
        )
    return entries


def _splits(parts: Sequence[Sequence[Entry]], entries: Sequence[Entry]) -> tuple[tuple[int, ...], ...]:
    here = os.getcwd()  # noqa: PTH109
    place = {below(here, str(entry.source.path)): i for i, entry in enumerate(entries)}
    return tuple(tuple(sorted({place[below(here, str(entry.source.path))] for entry in part})) for part in parts)


# -- one file, many spellings ---------------------------------------------------------------------------------------


def _spelled_once(parts: Sequence[Sequence[Entry]]) -> list[list[Entry]]:
    """Return the entries, where each file has one source, however its path is written: `a/../b.mp4`, or by a link."""
    real = _RealPaths()
    entries = [entry for part in parts for entry in part]
    first: dict[str, Source] = {}
    for entry in sorted(entries, key=lambda e: (nfc(e.place), e.place)):  # the first is that of `distinct`
        first.setdefault(real.of(entry.source), entry.source)
    return [[entry._replace(source=first[real.of(entry.source)]) for entry in part] for part in parts]


class _RealPaths:
    """Where files really are; each folder is looked at once, as Kinetics has 240,000 files in few."""

    def __init__(self) -> None:
        self._here = os.getcwd()  # noqa: PTH109
        self._folders: dict[str, str] = {}
        self._known: dict[Path, str] = {}

    def of(self, source: Source) -> str:
        if source.path not in self._known:
            self._known[source.path] = self._found(below(self._here, str(source.path)))
        return self._known[source.path]

    def _found(self, path: str) -> str:
        folder, name = os.path.split(path)
        try:
            if name == os.pardir or os.path.islink(path):  # noqa: PTH114 - a Path for each takes seconds
                return os.path.realpath(path)
            if folder not in self._folders:
                self._folders[folder] = os.path.realpath(folder)
        except ValueError:  # a NUL: no file can be there
            return path
        return below(self._folders[folder], name)


# -- classes --------------------------------------------------------------------------------------------------------


def _united(own: Sequence[Candidates]) -> Candidates:
    """Return the labels of several names files, each once, case and space aside."""
    labels: dict[str, str] = {}
    for candidates in own:
        for label in candidates.labels:
            labels.setdefault(key(label), label)
    united = tuple(labels.values())
    return Candidates(united, united)


def _renamed(
    part: Sequence[Entry], own: Candidates, names_file: Path, united: Candidates, out: str | None, *, by_id: bool
) -> list[Entry]:
    """Return the entries of one list with the united labels for classes; its own names file says which these are."""
    find = finder(own.names) if by_id else finder(*own)
    labels = {key(label): label for label in united.labels}

    def label(where: str, name: str) -> str:
        place = find(name)
        if place is not None:
            return labels[key(own.labels[place])]
        if out is None or key(label_of(name)) != key(label_of(out)):
            raise _unknown(where, name, own, names_file)
        return name

    return [e._replace(names=tuple(dict.fromkeys(label(e.where, name) for name in e.names))) for e in part]


def _places_of(own: Sequence[Candidates], united: Candidates) -> tuple[tuple[int, ...], ...]:
    """Return where the labels of each names file are among all; one that is none of these is nowhere."""
    place = {key(label): i for i, label in enumerate(united.labels)}
    alike = ([place.get(key(label)) for label in one.labels] for one in own)
    return tuple(tuple(sorted(found for found in places if found is not None)) for places in alike)


def _candidates(founds: Sequence[Listing], names_file: Path | None) -> Candidates:
    by_id = founds[0].by_id
    if names_file is not None:
        return read_candidates(names_file, by_id=by_id)
    where = dict(reversed(list(_named(founds))))
    if by_id:
        first = next((entry.where for found in founds for entry in found.entries if entry.names), founds[0].origin)
        raise UsageError(f"{first}: has an id but no name; give --labels a CSV file that begins with id,name")
    names = sorted(where)
    lines = [Line(where[name], label_of(name)) for name in names]
    check_labels(names, lines)
    return Candidates(tuple(names), tuple(line.text for line in lines))


def _named(founds: Sequence[Listing]) -> Iterator[tuple[str, str]]:
    """Yield each class of what was given, and where it stands; the first time comes first."""
    for found in founds:
        yield from ((name, entry.where) for entry in found.entries for name in entry.names)
        yield from ((name, found.origin) for name in found.further)


def _without(
    none_of_these: str, given: Candidates, find_given: Find, entries: Sequence[Entry]
) -> tuple[Candidates, Find]:
    """Return the candidates but for one class, and what finds the place of each, NONE for that class."""
    out = key(label_of(none_of_these))

    def is_out(name: str) -> bool:
        return key(label_of(name)) == out

    kept = [i for i, pair in enumerate(zip(*given, strict=True)) if not any(map(is_out, pair))]
    known = {name for entry in entries for name in entry.names} | {*given.names, *given.labels}
    if not any(map(is_out, known)):
        near = nearest(none_of_these, known)
        raise UsageError(
            f"no class is named {none_of_these!r}, for videos of none of the labels; the nearest is {near!r}"
        )
    if not kept:
        raise UsageError(f"{entries[0].where}: no class is there but {none_of_these!r}; add videos of others")
    new = {old: i for i, old in enumerate(kept)}

    def find(name: str) -> int | None:
        place = find_given(name)
        return NONE if is_out(name) else None if place is None else new.get(place, NONE)

    return Candidates(*(tuple(texts[i] for i in kept) for texts in given)), find


def _sample(entry: Entry, find: Find, candidates: Candidates, names_files: Sequence[Path]) -> Sample:
    places = {name: find(name) for name in entry.names}
    strange = next((name for name, place in places.items() if place is None), None)
    if strange is not None:
        raise _unknown(entry.where, strange, candidates, names_files[0])
    label, *others = sorted({place for place in places.values() if place is not None}) or [NONE]
    if others and label == NONE:
        raise UsageError(f"{entry.where}: {entry.source.id} is of none of the labels and of others; keep one")
    return Sample(entry.source, label, tuple(others))


def _unknown(where: str, name: str, candidates: Candidates, names_file: Path) -> UsageError:
    count = len(candidates.labels)
    if name.isdecimal() and candidates.names == tuple(map(str, range(count))):
        fact = f"id {name} is none of the {count} classes of {names_file}, which end with {count - 1}"
        return UsageError(f"{where}: {fact}; fix the id, or name all classes there")
    near = nearest(name, {*candidates.names, *candidates.labels})
    return UsageError(f"{where}: class {name!r} is none of the {count} of {names_file}; the nearest is {near!r}")
