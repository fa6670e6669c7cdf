"""The formats of true segments: ActivityNet's JSON, THUMOS14's text files and JSON, and tables."""

from __future__ import annotations

import logging
import os
import re
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import NamedTuple

from bike_cli.data.detection.segment_tables import finite_number, is_segment_table, read_segment_rows
from bike_cli.data.labelled.annotations import parse_annotations
from bike_cli.data.labelled.class_folders import visible_in
from bike_cli.data.lines import nfc, read_text, tidy
from bike_cli.data.search import below, is_folder
from bike_cli.errors import UsageError
from bike_cli.wording import count

logger = logging.getLogger(__name__)

AMBIGUOUS = "Ambiguous"  # THUMOS14's name for segments that count neither as true nor as false
_FORMATS = "annotations of ActivityNet or THUMOS14, or a CSV file that begins with path,start_s,end_s,label"
_CLASS_FILE = re.compile(r"(?P<label>.+)_(?P<subset>train|training|val|validation|test|testing)\.txt")
_THUMOS_ID = re.compile(r"video_(?P<subset>train|validation|test)_[0-9]+")
_DURATIONS = ("duration", "duration_s", "duration_second")


class TrueSegment(NamedTuple):
    """A part of a video in which a label is to be found; times are as annotated, in seconds."""

    label: str
    start_s: float
    end_s: float


class Annotated(NamedTuple):
    """One video in annotations.

    Args:
        name: its id, or its path as the file writes it.
        subset: None if the annotations do not say.
        duration_s: None if the annotations do not say.
    """

    name: str
    segments: tuple[TrueSegment, ...]
    subset: str | None = None
    duration_s: float | None = None


class Annotations(NamedTuple):
    """The videos in a file or folder of annotations.

    Args:
        by_id: videos have ids instead of paths.
        files: the files that were read.
    """

    videos: list[Annotated]
    by_id: bool
    files: tuple[str, ...]


def read_annotations(given: str) -> Annotations:
    """Return the annotated videos of a file or folder, of all subsets.

    The formats are:
        ActivityNet: JSON with a `database` that has for each id a `subset`, a `duration` and `annotations`, each with a
            `label` and a `segment`, two times.
        THUMOS14 and MultiTHUMOS: a folder of files such as `BaseballPitch_test.txt`, with a line per segment:
            `video_test_0000004 1.2 3.4`. Ambiguous segments are left out.
        THUMOS14 as T3AL has it: JSON with `annotations`, as those of ActivityNet, and `duration_second` for each id.
        a table, CSV or TSV: a row per segment with the columns `path`, `start_s`, `end_s` and `label`, and perhaps
            `duration_s` and `subset`. A video without a segment has a row in which times and label are empty.

    Source: activity_net.v1-3.min.json of activity-net.org; the annotations of crcv.ucf.edu/THUMOS14.

    Raises:
        UsageError: the file cannot be read, has another format, or is malformed.
    """
    if is_folder(given):
        return _class_files(given)
    text = read_text(Path(given), of="true segments")
    first_line = next((line for line in text.split("\n") if line.strip()), "")
    if first_line.lstrip().startswith(("{", "[")):
        if '"path"' in first_line and '"status"' in first_line:
            raise UsageError(f"{given}: contains predictions, not true segments; give {_FORMATS}")
        return Annotations(list(_json_videos(text, given)), by_id=True, files=(given,))
    if not is_segment_table(first_line):
        raise UsageError(f"{given}: contains no true segments; give {_FORMATS}")
    return Annotations(_table_videos(text, given), by_id=False, files=(given,))


# -- JSON --------------------------------------------------------------------------------------------------------------


def _json_videos(text: str, given: str) -> Iterator[Annotated]:
    document = parse_annotations(text, given)
    has_database = isinstance(document, dict) and "database" in document
    database = document.get("database", document) if isinstance(document, dict) else None
    if has_database and isinstance(database, dict):  # a video to test on may have no annotations
        database = {id_: {"annotations": []} | one if isinstance(one, dict) else one for id_, one in database.items()}
    if not isinstance(database, dict) or not all(_is_annotated(record) for record in database.values()):
        raise UsageError(f"{given}: is JSON, but not annotations of segments; give {_FORMATS}")
    for id_, record in database.items():
        where = f"{given}, video {id_}"
        _check_name(where, id_)
        subset, written = record.get("subset"), _THUMOS_ID.fullmatch(id_)
        if subset is None and written is not None:
            subset = written["subset"]
        if subset is not None and not isinstance(subset, str):
            raise UsageError(f"{where}: subset {subset!r} is not text; fix it")
        duration = next((record[name] for name in _DURATIONS if record.get(name) is not None), None)
        duration_s = None if duration is None else finite_number(where, "duration", duration)
        yield Annotated(id_, tuple(_annotation(where, one) for one in record["annotations"]), subset, duration_s)


def _check_name(where: str, name: str) -> None:
    r"""Raise UsageError for a text that cannot be a file name; JSON may have a lone surrogate, such as "\ud800"."""
    try:
        is_name = b"\0" not in os.fsencode(name)
    except UnicodeEncodeError:
        is_name = False
    if not is_name:
        raise UsageError(f"{where}: has a name that cannot be a file name; fix it")


def _is_annotated(record: object) -> bool:
    return isinstance(record, dict) and isinstance(record.get("annotations"), list)


def _annotation(where: str, annotation: object) -> TrueSegment:
    record: Mapping[str, object] = annotation if isinstance(annotation, dict) else {}
    label, segment = record.get("label"), record.get("segment")
    if not isinstance(label, str) or not tidy(label) or not isinstance(segment, list) or len(segment) != 2:
        fix = "write 'annotations': [{'label': ..., 'segment': [start, end]}, ...]"
        raise UsageError(f"{where}: has an annotation without a label and two times; {fix}")
    return TrueSegment(
        nfc(tidy(label)), finite_number(where, "start", segment[0]), finite_number(where, "end", segment[1])
    )


# -- THUMOS14's text files --------------------------------------------------------------------------------------------


def _class_files(given: str) -> Annotations:
    found = [(name, match) for name in visible_in(given) if (match := _CLASS_FILE.fullmatch(name)) is not None]
    if not found:
        fix = "give THUMOS14's folder of files such as BaseballPitch_test.txt, or a file"
        raise UsageError(f"{given}: is a folder without annotations of segments; {fix}")
    segments: dict[tuple[str, str], list[TrueSegment]] = {}
    ambiguous = 0
    for name, match in found:
        rows = list(_class_rows(below(given, name), nfc(tidy(match["label"].replace("\t", " ")))))
        if match["label"] == AMBIGUOUS:
            ambiguous += len(rows)
            continue
        for id_, segment in rows:
            segments.setdefault((match["subset"], id_), []).append(segment)
    if ambiguous:
        logger.info("%s: %s left out", given, count(ambiguous, "ambiguous segment"))
    videos = [Annotated(id_, tuple(found), subset) for (subset, id_), found in segments.items()]
    return Annotations(videos, by_id=True, files=tuple(below(given, name) for name, _ in found))


def _class_rows(path: str, label: str) -> Iterator[tuple[str, TrueSegment]]:
    text = read_text(Path(path), of="segments")
    for number, line in enumerate(text.split("\n"), start=1):
        cells, where = line.split(), f"{path}:{number}"
        if cells and len(cells) != 3:
            raise UsageError(f"{where}: {line.strip()!r} is not a video with two times; write it as ID 1.2 3.4")
        if cells:
            yield (
                cells[0],
                TrueSegment(label, finite_number(where, "start", cells[1]), finite_number(where, "end", cells[2])),
            )


# -- tables ------------------------------------------------------------------------------------------------------------


def _table_videos(text: str, given: str) -> list[Annotated]:
    segments: dict[str, list[TrueSegment]] = {}
    subsets: dict[str, str | None] = {}
    durations: dict[str, float] = {}
    for where, cells in read_segment_rows(text, given):
        name, subset = cells["path"], cells.get("subset", "").strip() or None
        if not name.strip():
            raise UsageError(f"{where}: path is empty; fill it in, or remove the row")
        if cells.get("status") == "error":
            raise UsageError(f"{where}: is a video that failed, not one with true segments; remove the row")
        _check_name(where, name)
        segments.setdefault(name, []).extend(_segments_in(where, cells))
        _check_same(where, name, "subset", subset, subsets.setdefault(name, subset))
        duration = cells.get("duration_s", "").strip()
        if duration:
            duration_s = finite_number(where, "duration_s", duration)
            _check_same(where, name, "duration", duration_s, durations.setdefault(name, duration_s))
    return [Annotated(name, tuple(rows), subsets[name], durations.get(name)) for name, rows in segments.items()]


def _check_same(where: str, name: str, what: str, value: object, before: object) -> None:
    if value != before:
        raise UsageError(f"{where}: {name} has the {what} {value!r}, and {before!r} in an earlier row; keep one")


def _segments_in(where: str, cells: Mapping[str, str]) -> Sequence[TrueSegment]:
    """Return the segment in a row; none if its cells are empty."""
    written = {name: cells[name].strip() for name in ("start_s", "end_s", "label")}
    empty = [name for name, cell in written.items() if not cell]
    if len(empty) == len(written):
        return ()
    if empty:
        fix = "fill it in, or leave start_s, end_s and label empty for a video without a segment"
        raise UsageError(f"{where}: {empty[0]} is empty; {fix}")
    start, end = (finite_number(where, name, written[name]) for name in ("start_s", "end_s"))
    return (TrueSegment(nfc(tidy(written["label"])), start, end),)
