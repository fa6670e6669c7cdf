"""Entries of labelled videos, and the CSV and list files that hold them."""

from __future__ import annotations

import logging
import os
import re
from collections.abc import Iterator, Sequence
from typing import NamedTuple

from bike_cli.data.columns import LABELLED_COLUMNS
from bike_cli.data.csv_rows import Row, by_column, cells_of, csv_rows
from bike_cli.data.labelled.class_folders import SIDES, Side
from bike_cli.data.lines import Line, nfc, tidy
from bike_cli.data.path_lists import locate
from bike_cli.data.search import below
from bike_cli.errors import UsageError
from bike_cli.records import Failure, Source

logger = logging.getLogger(__name__)

ID = re.compile(r"[0-9]{1,9}")


class Entry(NamedTuple):
    """One labelled video, before classes have numbers.

    Args:
        where: the place of the entry, for messages: `all.csv:3`.
        names: the names of its classes, each once.
        place: the path below the folder, or as the file writes it; entries are sorted by it.
        side: None if the source does not say.
    """

    where: str
    names: tuple[str, ...]
    source: Source
    place: str
    side: Side | None


class Listing(NamedTuple):
    """The labelled videos of one folder or file.

    Args:
        by_id: classes are numbers, as in BIKE's list files.
        multi_label: the format gives videos several classes, or none.
        further: classes that the file names in addition to those of the entries.
        left_out: further videos, which cannot be used.
    """

    origin: str
    entries: list[Entry]
    by_id: bool = False
    multi_label: bool = False
    further: tuple[str, ...] = ()
    left_out: tuple[Failure, ...] = ()


class ReadOptions(NamedTuple):
    """How to read a file of labelled videos.

    Args:
        base: the folder that relative paths start at.
        multi_label: whether a CSV cell holds classes separated by `;`, and a line of a list file ids separated by `,`.
        subset: which subset of an annotation file to read; None: all, marked as sides.
    """

    base: str
    multi_label: bool = False
    subset: str | None = None


class _Form(NamedTuple):
    """The patterns of a line in a list file, without and with a frame count, and how to fix another line."""

    listed: re.Pattern[str]
    counted: re.Pattern[str]
    fix: str

    @classmethod
    def of(cls, path: str, ids: str, fix: str) -> _Form:
        listed = rf"(?P<path>{path})\s+(?P<ids>{ids})"
        counted = rf"(?P<whole>(?P<path>{path})\s+[0-9]+)\s+(?P<ids>{ids})"
        return cls(re.compile(listed), re.compile(counted), fix)


_ONE_ID = _Form.of(r".*\S", "-?[0-9]+", "write path and id, a whole number from 0")
# Missing and negative ids match too, so that the error can name them. A path must not end in a comma, or it would take
# the first of the ids in `clip 3, 5`.
_IDS = _Form.of(
    r".*[^\s,]",
    r"-?[0-9]+(?:\s*,(?:\s*-?[0-9]+)?)*",
    "write path and ids, whole numbers from 0 with a comma between two",
)


# -- CSV files ----------------------------------------------------------------------------------------------------


def read_csv(text: str, given: str, options: ReadOptions) -> Listing:
    """Return the videos of a CSV file with the columns `path`, `label` and perhaps `split`.

    Raises:
        UsageError: malformed CSV, missing columns or cells, an unknown split.
    """
    return Listing(given, list(_csv_entries(text, given, options)))


def _csv_entries(text: str, given: str, options: ReadOptions) -> Iterator[Entry]:
    for where, row in by_column(_rows_of(text, given), given, needed=("path", "label"), further=("split",)):
        side = SIDES.get(row["split"].strip().lower()) if "split" in row else None
        if "split" in row and side is None:
            raise UsageError(f"{where}: split {row['split']!r} is unknown; write train, test or val")
        names = _names(where, row["label"]) if options.multi_label else (nfc(tidy(row["label"])),)
        source, place = _located(options.base, row["path"])
        yield Entry(where, names, source, place, side)


def _rows_of(text: str, given: str) -> Iterator[Row]:
    """Yield the rows of a CSV text with any usual delimiter; the header has the column names that bike uses."""
    lines = text.split("\n")
    start = next((i for i, line in enumerate(lines) if line.strip()), 0)
    declared = re.fullmatch(r"sep=(.)", lines[start].strip(), re.IGNORECASE)  # as Excel writes
    if declared is not None:
        lines[start] = ""
        text, start = "\n".join(lines), min(start + 1, len(lines) - 1)
    delimiter = declared[1] if declared is not None else _delimiter_of(lines[start])
    rows = csv_rows(text, given, delimiter=delimiter)
    header = next(rows, None)
    if header is None:
        return
    columns = _columns(header.cells)
    if delimiter != "," or columns != [cell.strip().lower() for cell in header.cells]:
        logger.info("%s: read as CSV with %r between the columns %s", given, delimiter, ", ".join(columns))
    yield Row(header.where, columns)
    yield from rows


def _delimiter_of(header: str) -> str:
    """Return the delimiter that splits a header into columns with a path and a label; a comma if none does."""
    found = (mark for mark in ",;\t|" if {"path", "label"} <= set(_columns(cells_of(header, mark))))
    return next(found, ",")


def _columns(cells: Sequence[str]) -> list[str]:
    """Return the column names that bike uses; a common alternative stands in for a missing one."""
    columns = [cell.strip().lower() for cell in cells]
    for column, others in LABELLED_COLUMNS.items():
        if column not in columns:
            columns = [column if name in others else name for name in columns]
    return [name if name in ("path", "label", "split") else cell for name, cell in zip(columns, cells, strict=True)]


def _located(base: str, path: str) -> tuple[Source, str]:
    """Return the source at a path that a file names, and the path; see `locate`."""
    place, name = locate(path, base)
    return Source.at(place), name


def _names(where: str, label: str) -> tuple[str, ...]:
    names = [nfc(tidy(name)) for name in label.split(";")]
    if not all(names):
        raise UsageError(
            f"{where}: label {label!r} has an empty part; write one ';' between two classes, and none at an end"
        )
    return _once(where, names)


def _once(where: str, names: Sequence[str]) -> tuple[str, ...]:
    """Return the names, or raise UsageError if one is there twice."""
    repeated = next((name for i, name in enumerate(names) if name in names[:i]), None)
    if repeated is not None:
        raise UsageError(f"{where}: class {repeated!r} is named twice; remove one")
    return tuple(names)


# -- BIKE's list files --------------------------------------------------------------------------------------------


def read_list_file(text: str, given: str, options: ReadOptions) -> Listing | None:
    """Return the videos of a list file, `path id` or `path frames id` per line; None if the text has another format.

    Raises:
        UsageError: a malformed line.
    """
    form = _IDS if options.multi_label else _ONE_ID
    lines = [Line(f"{given}:{i}", line.strip()) for i, line in enumerate(text.split("\n"), start=1) if line.strip()]
    first = lines[0].text if lines else ""
    is_csv = given.lower().endswith(".csv") and "," in first  # `a.mp4, 3` without a header
    if is_csv or not form.listed.fullmatch(first):
        return None
    pattern = form.counted if _has_frame_counts([line.text for line in lines], options.base, form) else form.listed
    entries = []
    for line in lines:
        path, ids = _path_and_ids(line, pattern, form.fix)
        source, place = _located(options.base, path)
        entries.append(Entry(line.where, ids, source, place, None))
    return Listing(given, entries, by_id=True)


def _path_and_ids(line: Line, pattern: re.Pattern[str], fix: str) -> tuple[str, tuple[str, ...]]:
    where, text = line
    match = pattern.fullmatch(text)
    ids = [] if match is None else [part.strip() for part in match["ids"].split(",")]
    if "" in ids:
        raise UsageError(f"{where}: {text!r} has an empty id; write one comma between two ids, and none at the end")
    if match is None or not all(ID.fullmatch(id_) for id_ in ids):
        raise UsageError(f"{where}: {text!r} does not end in a class id; {fix}")
    return match["path"], _once(where, [str(int(id_)) for id_ in ids])


def _has_frame_counts(lines: Sequence[str], base: str, form: _Form) -> bool:
    """Return whether lines are `path frames id`: `clip 3 5` may be clip 3 of class 5 as well."""
    counted = [match for match in map(form.counted.fullmatch, lines) if match is not None]
    if len(counted) < len(lines):
        return False
    for match in counted:
        path, whole = (os.path.lexists(below(base, match[group])) for group in ("path", "whole"))
        if path != whole:
            return path
    return True
