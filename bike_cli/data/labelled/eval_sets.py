"""Labelled videos to evaluate on. A class may have no video, and a video may have none of the classes."""

from __future__ import annotations

import logging
import os
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from functools import cache
from pathlib import Path
from typing import Literal

from bike_cli.config import SUBSET, Descriptions
from bike_cli.data.labelled.candidates import Candidates, Find, finder, read_candidates
from bike_cli.data.labelled.class_folders import Side
from bike_cli.data.labelled.entries import Entry, Listing
from bike_cli.data.labelled.formats import find_listing, keep_labelled
from bike_cli.data.labelled.train_sets import ADJECTIVES, check_labels, check_root, check_same_form, distinct, label_of
from bike_cli.data.lines import Line, key, nfc
from bike_cli.data.search import below
from bike_cli.errors import UsageError
from bike_cli.records import Failure, Sample, Source
from bike_cli.wording import all_of, count, nearest

logger = logging.getLogger(__name__)

NONE = -1  # Sample.label of a video without any of the labels


@dataclass(frozen=True)
class EvalSet:
    """Labelled videos to evaluate on. Their order does not depend on the source.

    Args:
        labels: the candidates, as a model reads them; no two are equal, ignoring case and space.
        names: for each of `labels`, the name of the class in the source: folder, CSV cell, line of the names file, or
            id; with several names files, the label.
        samples: sorted by path. `label` is `NONE` for a video without any of the labels.
        multi_label: whether a sample may have several labels, or none.
        side: the side of all samples; None if the source has no sides.
        splits: for each source, the places of its samples, ascending; a video may be in several.
        candidates: for each of `splits`, the places of the labels in its own names file, ascending; empty if there is
            one names file for all, or none.
        left_out: videos in annotations that cannot be evaluated.
        descriptions: for each label that the names file describes, its descriptions.
    """

    labels: tuple[str, ...]
    names: tuple[str, ...]
    samples: tuple[Sample, ...]
    multi_label: bool = False
    side: Side | None = None
    splits: tuple[tuple[int, ...], ...] = ()
    candidates: tuple[tuple[int, ...], ...] = ()
    left_out: tuple[Failure, ...] = ()
    descriptions: Descriptions = field(default_factory=dict)

    def classes_of(self, split: int) -> tuple[int, ...]:
        """Return the places of the labels in a split, ascending.

        They are those of its own names file or, if it has none, those of its videos.
        """
        if self.candidates:
            return self.candidates[split]
        return tuple(sorted({label for place in self.splits[split] for label in self.samples[place].labels} - {NONE}))


def read_eval_set(
    given: Sequence[str | Path],
    *,
    names_file: str | Path | Sequence[str | Path] | None = None,
    root: str | Path | None = None,
    multi_label: bool = False,
    side: Literal["auto"] | Side = "auto",
    none_of_these: str | None = None,
    needs_none: bool = True,
    subset: str = SUBSET,
) -> EvalSet:
    """Return the labelled videos of folders and files, all of one side, and the candidate classes.

    The formats are those of `read_labelled`. Without a names file, the candidates are all classes in the sources,
    including those of other sides and subsets, sorted.

    Args:
        names_file: a file with all candidates, in its order, with videos or without; see `read_candidates`. Classes of
            the sources are looked up in it as by `finder`. It is needed if classes are ids. Several files are one per
            source, in the same order; an id is a place in its own file. Their labels are united, in the order of the
            files, and count as one if they are equal, ignoring case and space.
        root: the folder that relative paths in files start at; None: the folder of each file.
        multi_label: whether a video may have several classes, or none; always so with Charades annotations.
        side: the side to read if videos are marked with sides; auto: test, or val if there is no test side.
        none_of_these: a class that is not a candidate; its videos have none of the labels.
        needs_none: whether that class must exist.
        subset: the subset of ActivityNet annotations to read.
    Raises:
        UsageError: no such source, no video of the side, a class or id that is not a candidate, missing ids, classes
            with the same label, a video with two different classes, a malformed file, or a wrong number of names files.
    """
    if not given:
        raise ValueError("given is empty; name a folder or a file of labelled videos")
    origins = [str(name) for name in given]
    names_files = _names_files(names_file, origins)
    check_root(root, origins)
    listings = [_read(origin, root=root, multi_label=multi_label, subset=subset) for origin in origins]
    check_same_form(listings)
    multi_label = any(listing.multi_label for listing in listings) or multi_label
    taken = _side_of(listings, side)
    parts = _spelled_once([_entries_of(listing, taken, warn=side == "auto") for listing in listings])
    by_id, own = listings[0].by_id, list[Candidates]()
    if len(names_files) > 1:
        own = [read_candidates(file, by_id=by_id) for file in names_files]
        candidates, by_id = _united(own), False
        ways = zip(parts, own, names_files, strict=True)
        parts = [_renamed(*way, candidates, none_of_these, by_id=listings[0].by_id) for way in ways]
    else:
        candidates = _candidates(listings, names_files[0] if names_files else None)
    entries = distinct([entry for part in parts for entry in part], multi_label=multi_label)
    # A label may be a number, which is not an id.
    find = finder(candidates.names) if by_id else finder(candidates.names, candidates.labels)
    if none_of_these is not None:
        candidates, find = _without(none_of_these, candidates, find, entries, needed=needs_none)
    samples = tuple(_sample(entry, find, candidates, names_files) for entry in entries)
    splits, left_out = _splits(parts, entries), tuple(one for listing in listings for one in listing.left_out)
    read = (samples, multi_label, taken, splits, _places_of(own, candidates), left_out, candidates.descriptions)
    return EvalSet(candidates.labels, candidates.names, *read)


def _names_files(given: str | Path | Sequence[str | Path] | None, origins: Sequence[str]) -> list[Path]:
    """Return the names files: none, one for all sources, or one for each."""
    if given is None:
        return []
    files = [Path(file) for file in ([given] if isinstance(given, str | Path) else given)]
    if len(files) not in (0, 1, len(origins)):
        counts = f"{count(len(files), 'file')} for {count(len(origins), 'list')}"
        raise UsageError(f"--labels: there are {counts}; give one for all, or one for each, in the same order")
    return files


def _read(given: str, *, root: str | Path | None, multi_label: bool, subset: str) -> Listing:
    listing = find_listing(given, root=root, multi_label=multi_label, subset=subset)
    return listing if multi_label or listing.multi_label else keep_labelled(listing, multi_label=False)


# -- sides ----------------------------------------------------------------------------------------------------------


def _side_of(listings: Sequence[Listing], wanted: Literal["auto"] | Side) -> Side | None:
    """Return the side to read; None if no video is marked with a side."""
    marked = {entry.side for listing in listings for entry in listing.entries if entry.side is not None}
    if not marked or wanted != "auto":
        return wanted if marked and wanted != "auto" else None
    if marked == {"train"}:
        origin = listings[0].origin
        raise UsageError(f"{origin}: contains only videos to train on; mark some as test, or choose the side")
    return "test" if "test" in marked else "val"


def _entries_of(listing: Listing, side: Side | None, *, warn: bool) -> list[Entry]:
    """Return the entries of a side; entries without a side count as part of it."""
    entries = [entry._replace(side=side) for entry in listing.entries if entry.side in (None, side)]
    others = [e for e in listing.entries if e.side not in (None, side)]
    if side is None or not others:
        return entries
    by_side = {other: sum(entry.side == other for entry in others) for other in ADJECTIVES}
    counts = all_of(count(n, f"{ADJECTIVES[other]} video") for other, n in by_side.items() if n)
    if not entries:
        raise UsageError(f"{listing.origin}: contains no {ADJECTIVES[side]} video, but {counts}; choose another side")
    if warn:
        used = count(len(entries), f"{ADJECTIVES[side]} video")
        logger.warning("%s: uses its %s, and leaves out %s", listing.origin, used, counts)
    return entries


def _splits(parts: Sequence[Sequence[Entry]], entries: Sequence[Entry]) -> tuple[tuple[int, ...], ...]:
    here = os.getcwd()  # noqa: PTH109
    place = {below(here, str(entry.source.path)): i for i, entry in enumerate(entries)}
    return tuple(tuple(sorted({place[below(here, str(entry.source.path))] for entry in part})) for part in parts)


# -- spellings of paths -----------------------------------------------------------------------------------------------


def _spelled_once(parts: Sequence[Sequence[Entry]]) -> list[list[Entry]]:
    """Return the entries with one source per file, however its path is written: `a/../b.mp4`, or through a link."""
    entries = [entry for part in parts for entry in part]
    here, real_folder = os.getcwd(), cache(os.path.realpath)  # noqa: PTH109 - Kinetics has 240,000 files in few folders
    real = {path: _real(below(here, path), real_folder) for path in {entry.source.path for entry in entries}}
    first: dict[str, Source] = {}
    for entry in sorted(entries, key=lambda e: (nfc(e.place), e.place)):  # the first is that of `distinct`
        first.setdefault(real[entry.source.path], entry.source)
    return [[entry._replace(source=first[real[entry.source.path]]) for entry in part] for part in parts]


def _real(path: str, real_folder: Callable[[str], str]) -> str:
    folder, name = os.path.split(path)
    try:
        if name == os.pardir or os.path.islink(path):  # noqa: PTH114 - a Path for each takes seconds
            return os.path.realpath(path)
        return below(real_folder(folder), name)
    except ValueError:  # a NUL
        return path


# -- classes --------------------------------------------------------------------------------------------------------


def _united(own: Sequence[Candidates]) -> Candidates:
    """Return the labels of several names files, each once, ignoring case and space."""
    labels: dict[str, str] = {}
    for candidates in own:
        for label in candidates.labels:
            labels.setdefault(key(label), label)
    united = tuple(labels.values())
    described: dict[str, tuple[str, ...]] = {}
    for candidates in own:
        for label, texts in candidates.descriptions.items():
            described.setdefault(labels[key(label)], texts)
    return Candidates(united, united, described)


def _renamed(
    part: Sequence[Entry], own: Candidates, names_file: Path, united: Candidates, out: str | None, *, by_id: bool
) -> list[Entry]:
    """Return the entries of one source with the united labels as their classes, looked up in its own names file."""
    find = finder(own.names) if by_id else finder(own.names, own.labels)
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
    """Return the places of the labels of each names file among all labels, without `none_of_these`."""
    place = {key(label): i for i, label in enumerate(united.labels)}
    places = ([place.get(key(label)) for label in candidates.labels] for candidates in own)
    return tuple(tuple(sorted(one for one in split if one is not None)) for split in places)


def _candidates(listings: Sequence[Listing], names_file: Path | None) -> Candidates:
    by_id = listings[0].by_id
    if names_file is not None:
        return read_candidates(names_file, by_id=by_id)
    where = dict(reversed(list(_named(listings))))
    if by_id:
        labelled = (entry.where for listing in listings for entry in listing.entries if entry.names)
        first = next(labelled, listings[0].origin)
        raise UsageError(f"{first}: has an id but no name; give --labels a CSV file that begins with id,name")
    names = sorted(where)
    lines = [Line(where[name], label_of(name)) for name in names]
    check_labels(names, lines)
    return Candidates(tuple(names), tuple(line.text for line in lines))


def _named(listings: Sequence[Listing]) -> Iterator[tuple[str, str]]:
    for listing in listings:
        yield from ((name, entry.where) for entry in listing.entries for name in entry.names)
        yield from ((name, listing.origin) for name in listing.further)


def _without(
    none_of_these: str, given: Candidates, find_given: Find, entries: Sequence[Entry], *, needed: bool
) -> tuple[Candidates, Find]:
    """Return the candidates without one class, and a function that finds their places, `NONE` for that class."""
    out = key(label_of(none_of_these))

    def is_out(name: str) -> bool:
        return key(label_of(name)) == out

    pairs = zip(given.names, given.labels, strict=True)
    kept = [i for i, pair in enumerate(pairs) if not any(map(is_out, pair))]
    known = {name for entry in entries for name in entry.names} | {*given.names, *given.labels}
    if not any(map(is_out, known)):
        if not needed:
            return given, find_given
        near = nearest(none_of_these, known)
        raise UsageError(
            f"there is no class {none_of_these!r}, for videos without any of the labels; the nearest is {near!r}"
        )
    if not kept:
        raise UsageError(f"{entries[0].where}: {none_of_these!r} is the only class; add videos of others")
    new = {old: i for i, old in enumerate(kept)}

    def find(name: str) -> int | None:
        place = find_given(name)
        return NONE if is_out(name) else None if place is None else new.get(place, NONE)

    names, labels = (tuple(texts[i] for i in kept) for texts in (given.names, given.labels))
    described = {label: texts for label, texts in given.descriptions.items() if label in set(labels)}
    return Candidates(names, labels, described), find


def _sample(entry: Entry, find: Find, candidates: Candidates, names_files: Sequence[Path]) -> Sample:
    places = {name: find(name) for name in entry.names}
    strange = next((name for name, place in places.items() if place is None), None)
    if strange is not None:
        raise _unknown(entry.where, strange, candidates, names_files[0])
    label, *others = sorted({place for place in places.values() if place is not None}) or [NONE]
    if others and label == NONE:
        raise UsageError(f"{entry.where}: {entry.source.id} has none of the labels and also has others; keep one")
    return Sample(entry.source, label, tuple(others))


def _unknown(where: str, name: str, candidates: Candidates, names_file: Path) -> UsageError:
    number = len(candidates.labels)
    if name.isdecimal() and candidates.names == tuple(map(str, range(number))):
        reason = (
            f"id {name} is not in {names_file}, where the last of {count(number, 'class', 'classes')} is {number - 1}"
        )
        return UsageError(f"{where}: {reason}; fix the id, or name all classes there")
    near = nearest(name, {*candidates.names, *candidates.labels})
    return UsageError(f"{where}: class {name!r} is not among the {number} in {names_file}; the nearest is {near!r}")
