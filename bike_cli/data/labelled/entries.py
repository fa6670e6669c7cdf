"""Videos and their classes as folders, CSV files and BIKE's list files name them."""

from __future__ import annotations

import csv
import logging
import os
import re
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import NamedTuple

from bike_cli.data.columns import LABELLED_COLUMNS
from bike_cli.data.csv_rows import Row, by_column, csv_rows
from bike_cli.data.labelled.class_folders import SIDES, Side, below, class_folders, is_folder
from bike_cli.data.lines import Line, nfc, read_text, tidy
from bike_cli.data.path_lists import existing_path
from bike_cli.errors import UsageError
from bike_cli.media import url_problem
from bike_cli.records import Source

logger = logging.getLogger(__name__)

ID = re.compile(r"[0-9]{1,9}")


class Entry(NamedTuple):
    """One video of one class or more, while classes have no numbers yet."""

    where: str
    names: tuple[str, ...]  # as they are written, each once
    source: Source
    place: str  # the path below the folder, or as the file writes it: what the order goes by
    side: Side | None  # None: nobody said


class LeftOut(NamedTuple):
    """A video that a file names and that cannot be tested on, and why: it keeps the others back from nothing."""

    path: str
    kind: str  # of a failure; or no_label, no_name, no_number
    message: str


class Found(NamedTuple):
    """What one folder or file names.

    Args:
        by_id: its classes are numbers, as in BIKE's list files.
        multi_label: its videos may have several classes or none, whether or not that was asked for.
        further: classes it names beside those of the entries.
        left_out: videos it names beside those of the entries.
    """

    origin: str
    entries: list[Entry]
    by_id: bool = False
    multi_label: bool = False
    further: tuple[str, ...] = ()
    left_out: tuple[LeftOut, ...] = ()


class _Form(NamedTuple):
    """The two patterns that lines of a list file may have, without frame counts and with, and how to write one."""

    listed: re.Pattern[str]
    counted: re.Pattern[str]
    way: str

    @classmethod
    def of(cls, path: str, ids: str, way: str) -> _Form:
        listed = rf"(?P<path>{path})\s+(?P<ids>{ids})"
        counted = rf"(?P<whole>(?P<path>{path})\s+[0-9]+)\s+(?P<ids>{ids})"
        return cls(re.compile(listed), re.compile(counted), way)


_ONE_ID = _Form.of(r".*\S", "-?[0-9]+", "write path and id, a whole number from 0")
# Ids that are missing or negative match too, so that they are refused for what they are; a path that ended in a comma
# would have taken the first of the ids in `clip 3, 5`.
_IDS = _Form.of(
    r".*[^\s,]",
    r"-?[0-9]+(?:\s*,(?:\s*-?[0-9]+)?)*",
    "write path and ids, whole numbers from 0 with a comma between two",
)


def find_entries(given: str, *, root: str | Path | None, multi_label: bool = False) -> Found:
    """Return what a folder or a file names; see `read_labelled` for what these may be.

    Args:
        root: the folder that relative paths in a file begin at; None: the file's own.
        multi_label: whether a cell holds classes with `;` between, and a line of a list file ids with commas.
    Raises:
        UsageError: nothing there, no video, a file that is malformed.
    """
    if is_folder(given):
        logger.info("%s: read as class folders", given)
        return Found(given, list(_in_folder(given)))
    return entries_in(read_listing(given), given, root=root, multi_label=multi_label)


def read_listing(given: str) -> str:
    """Return the text of a file that names videos; once, as it may be a pipe.

    Raises:
        UsageError: nothing there, a video, no UTF-8.
    """
    if not os.path.lexists(given):
        ways = "give a folder of class folders, a CSV file that begins with path,label, or a list file"
        raise UsageError(f"{given}: no such file or folder; {ways}")
    return read_text(Path(given), of="labelled videos")


def base_of(given: str, root: str | Path | None) -> str:
    """Return the folder that relative paths in the file `given` begin at: the root, or the file's own."""
    return os.path.dirname(given) if root is None else str(root)  # noqa: PTH120 - Path.parent drops a leading ./


def entries_in(text: str, given: str, *, root: str | Path | None, multi_label: bool = False) -> Found:
    """Return what the text of a CSV or list file names, read from `given`; see `find_entries`."""
    base = base_of(given, root)
    form = _IDS if multi_label else _ONE_ID
    by_id = _is_list(text, given, form)
    in_file = _in_list(text, given, base, form) if by_id else _in_csv(text, given, base, multi_label=multi_label)
    entries = list(in_file)
    logger.info("%s: %d videos, read as a %s", given, len(entries), "list file" if by_id else "CSV file")
    if not entries:
        raise UsageError(f"{given}: holds no video; write one per line below the line path,label")
    return Found(given, entries, by_id)


def _in_folder(given: str) -> Iterator[Entry]:
    for path, name, videos, side in class_folders(given):
        for video in videos:
            yield Entry(path, (nfc(name),), video, video.id.removeprefix(given), side)


# -- CSV files ----------------------------------------------------------------------------------------------------


def _in_csv(text: str, given: str, base: str, *, multi_label: bool) -> Iterator[Entry]:
    for where, row in by_column(_rows_of(text, given), given, needed=("path", "label"), further=("split",)):
        side = SIDES.get(row["split"].strip().lower()) if "split" in row else None
        if "split" in row and side is None:
            raise UsageError(f"{where}: split {row['split']!r} is unknown; write train, test or val")
        names = _names(where, row["label"]) if multi_label else (nfc(tidy(row["label"])),)
        source, place = _located(base, row["path"])
        yield Entry(where, names, source, place, side)


def _rows_of(text: str, given: str) -> Iterator[Row]:
    """Yield the rows of a CSV text with any usual delimiter; the columns of the first have the names that bike uses."""
    lines = text.split("\n")
    start = next((i for i, line in enumerate(lines) if line.strip()), 0)
    declared = re.fullmatch(r"sep=(.)", lines[start].strip(), re.IGNORECASE)  # Excel writes it, and reads it
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
    """Return the delimiter that makes a path and a label of a header; a comma where none does."""
    for delimiter in ",;\t|":
        try:
            cells = next(csv.reader([header], delimiter=delimiter), [])
        except csv.Error:
            continue
        if {"path", "label"} <= set(_columns(cells)):
            return delimiter
    return ","


def _columns(cells: Sequence[str]) -> list[str]:
    """Return column names as bike has them; a usual other name counts where bike's own is not there."""
    columns = [cell.strip().lower() for cell in cells]
    for column, others in LABELLED_COLUMNS.items():
        if column not in columns:
            columns = [column if name in others else name for name in columns]
    return [name if name in ("path", "label", "split") else cell for name, cell in zip(columns, cells, strict=True)]


def _located(base: str, path: str) -> tuple[Source, str]:
    """Return the source at a path that a file names, and the path; see `existing_path`."""
    if url_problem(path) is not None and not os.path.lexists(below(base, path)):
        return Source.at(path), path  # its failure says that it is a URL
    place = existing_path(path, base)
    if place != path:
        logger.info("%s: does not exist, read as %s", path, place)
    return Source.at(below(base, place)), place


def _names(where: str, label: str) -> tuple[str, ...]:
    names = [nfc(tidy(name)) for name in label.split(";")]
    if not all(names):
        raise UsageError(
            f"{where}: label {label!r} has an empty part; write one ';' between two classes, and none at an end"
        )
    return _once(where, names)


def _once(where: str, names: Sequence[str]) -> tuple[str, ...]:
    """Return the names, or raise UsageError where one comes twice."""
    again = next((name for i, name in enumerate(names) if name in names[:i]), None)
    if again is not None:
        raise UsageError(f"{where}: class {again!r} is named twice; remove one")
    return tuple(names)


# -- BIKE's list files --------------------------------------------------------------------------------------------


def _is_list(text: str, given: str, form: _Form) -> bool:
    first = next((line.strip() for line in text.split("\n") if line.strip()), "")
    is_csv = given.lower().endswith(".csv") and "," in first  # `a.mp4, 3` below no header
    return form.listed.fullmatch(first) is not None and not is_csv


def _in_list(text: str, given: str, base: str, form: _Form) -> Iterator[Entry]:
    lines = [Line(f"{given}:{i}", line.strip()) for i, line in enumerate(text.split("\n"), start=1) if line.strip()]
    is_counted = _has_frame_counts([line.text for line in lines], base, form)
    for line in lines:
        path, ids = _path_and_ids(line, form.counted if is_counted else form.listed, form.way)
        source, place = _located(base, path)
        yield Entry(line.where, ids, source, place, None)


def _path_and_ids(line: Line, pattern: re.Pattern[str], way: str) -> tuple[str, tuple[str, ...]]:
    where, text = line
    match = pattern.fullmatch(text)
    ids = [] if match is None else [part.strip() for part in match["ids"].split(",")]
    if "" in ids:
        raise UsageError(f"{where}: {text!r} has an empty id; write one comma between two ids, and none at the end")
    if match is None or not all(ID.fullmatch(id_) for id_ in ids):
        raise UsageError(f"{where}: {text!r} ends in no class id; {way}")
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
