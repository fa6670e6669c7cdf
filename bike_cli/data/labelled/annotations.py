"""The annotation files of Charades and ActivityNet, which name videos by id."""

from __future__ import annotations

import json
import logging
import os
import re
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path

from bike_cli.data.csv_rows import check_width, csv_rows
from bike_cli.data.labelled.class_folders import SIDES, Side, visible_in
from bike_cli.data.labelled.entries import Entry, Listing, ReadOptions
from bike_cli.data.lines import nfc, tidy
from bike_cli.data.search import below, is_folder
from bike_cli.errors import UsageError
from bike_cli.media import VIDEO_EXTENSIONS
from bike_cli.records import Failure, Source
from bike_cli.wording import count, either, nearest

logger = logging.getLogger(__name__)

_ACTION = re.compile(r"c(?P<id>[0-9]{3}) +[0-9.]+ +[0-9.]+")
_USUAL = (".mp4", ".mkv", ".webm")
_EXTENSIONS = (*_USUAL, *sorted(VIDEO_EXTENSIONS.difference(_USUAL)))  # in the order of preference
_SIDES: Mapping[str, Side] = {**SIDES, "training": "train", "testing": "test"}


# -- Charades -------------------------------------------------------------------------------------------------------


def read_charades(text: str, given: str, options: ReadOptions) -> Listing | None:
    """Return the videos of a Charades CSV file; None if the text has another format.

    It has the columns `id` and `actions`, such as `c092 11.90 21.20;c147 0.00 12.60`, or nothing. A class is its number
    (`c092` is 92), and videos have several. A video is the file `ID` with any of `VIDEO_EXTENSIONS`, or a folder of
    frames; one that does not exist is named .mp4, so that it gets its own failure.

    Source: Charades_v1_test.csv of allenai.org/plato/charades.

    Raises:
        UsageError: a malformed action or row.
    """
    if not _is_charades(text):
        return None
    return Listing(given, list(_charades_entries(text, given, options.base)), by_id=True, multi_label=True)


def _is_charades(text: str) -> bool:
    first = next((line for line in text.split("\n") if line.strip()), "")
    return {"id", "actions"} <= {cell.strip().lower() for cell in first.split(",")}


def _charades_entries(text: str, given: str, base: str) -> Iterator[Entry]:
    rows = csv_rows(text, given)
    columns = [cell.strip().lower() for cell in next(rows).cells]
    path_of = paths_in(base, ("",))
    for row in rows:
        check_width(row, columns)
        cells = dict(zip(columns, row.cells, strict=True))
        if not cells["id"].strip():
            raise UsageError(f"{row.where}: id is empty; fill it in, or remove the row")
        name = path_of(cells["id"].strip())
        yield Entry(row.where, _classes(row.where, cells["actions"]), Source.at(below(base, name)), name, None)


def _classes(where: str, actions: str) -> tuple[str, ...]:
    """Return the classes of a cell, each once; an action may occur more than once in a video."""
    classes = []
    for action in (part.strip() for part in actions.split(";")) if actions.strip() else ():
        match = _ACTION.fullmatch(action)
        if match is None:
            raise UsageError(f"{where}: action {action!r} is not a class with two times; write it as c092 11.90 21.20")
        classes.append(str(int(match["id"])))
    return tuple(dict.fromkeys(classes))


# -- ActivityNet ----------------------------------------------------------------------------------------------------

_Video = Mapping[str, object]
_Database = Sequence[tuple[str, _Video]]  # the place of each video, for messages, and its record


def read_activitynet(text: str, given: str, options: ReadOptions) -> Listing | None:
    """Return the videos of an ActivityNet JSON file; None if the text has another format.

    Its `database` has for each id a `subset` and `annotations` with a `label`. If one subset is asked for, the labels
    of others are further classes; if not, training, validation and testing are sides. A video has each of its labels
    once, in the order of its annotations, or none. If one label is needed, the first one counts, as in MMAction2's
    lists (tools/data/activitynet/generate_rawframes_filelist.py). A video whose id cannot be a file name is left out.

    A video is the file `v_ID` or `ID` with any of `VIDEO_EXTENSIONS`, or a folder of frames; one that does not exist is
    named .mp4, so that it gets its own failure.

    Source: activity_net.v1-3.min.json of activity-net.org.

    Raises:
        UsageError: malformed JSON or records; no such subset, or one without labels.
    """
    if not text.lstrip().startswith("{") or '"database"' not in text:
        return None
    database, (base, _, subset) = _database(text, given), options
    labels = {where: _labels(where, video) for where, video in database}
    chosen = database if subset is None else _of_subset(database, labels, subset, given)
    path_of = paths_in(base, ("v_", ""))
    entries, left_out = list[Entry](), list[Failure]()
    for where, video in chosen:
        id_ = str(video["id"])
        name = path_of(id_)
        if _is_name(id_):
            side = _side(where, video) if subset is None else None
            entries.append(Entry(where, labels[where], Source.at(below(base, name)), name, side))
        else:
            message = _printable(f"{where}: has an id that cannot be a file name; fix it")
            left_out.append(Failure(Source.at(_printable(below(base, name))), "no_name", message))
    if left_out:
        logger.warning("%s; %s left out", left_out[0].message, count(len(left_out), "video"))
    further = {name for names in labels.values() for name in names}
    return Listing(given, entries, further=tuple(sorted(further)), left_out=tuple(left_out))


def parse_annotations(text: str, given: str) -> object:
    """Return the JSON document in a text that was read from `given`; raise UsageError if it is invalid."""
    try:
        return json.loads(text)
    except json.JSONDecodeError as e:
        raise UsageError(f"{given}:{e.lineno}: is not valid JSON ({e.msg}); download the file again") from e
    except RecursionError as e:
        raise UsageError(f"{given}: is nested too deeply to be annotations; download the file again") from e


def _database(text: str, given: str) -> list[tuple[str, _Video]]:
    document = parse_annotations(text, given)
    database = document["database"] if isinstance(document, dict) and "database" in document else None
    if not isinstance(database, dict):
        raise UsageError(f"{given}: has no object 'database'; give an annotation file of ActivityNet")
    return [(f"{given}, video {id_}", _video(f"{given}, video {id_}", id_, video)) for id_, video in database.items()]


def _video(where: str, id_: str, record: object) -> _Video:
    if not isinstance(record, dict) or not isinstance(record.get("subset"), str):
        raise UsageError(f"{where}: has no string 'subset'; write training, validation or testing")
    return {**record, "id": id_}


def _side(where: str, video: _Video) -> Side:
    side = _SIDES.get(str(video["subset"]).strip().lower())
    if side is None:
        raise UsageError(f"{where}: subset {video['subset']!r} is unknown; write training, validation or testing")
    return side


def _labels(where: str, video: _Video) -> tuple[str, ...]:
    annotations = video.get("annotations", [])
    annotations = annotations if isinstance(annotations, list) else [None]
    labels = [annotation.get("label") if isinstance(annotation, dict) else None for annotation in annotations]
    names = [nfc(tidy(label)) for label in labels if isinstance(label, str)]
    if len(names) < len(labels) or not all(names):
        raise UsageError(f"{where}: has an annotation without a label; write 'annotations': [{{'label': ...}}, ...]")
    return tuple(dict.fromkeys(names))


def _of_subset(database: _Database, labels: Mapping[str, Sequence[str]], subset: str, given: str) -> _Database:
    wanted = [(where, video) for where, video in database if video["subset"] == subset]
    if not wanted:
        known = list(dict.fromkeys(str(video["subset"]) for _, video in database))
        near = f", the nearest is {nearest(subset, known)!r} (of {', '.join(known)})" if known else ""
        raise UsageError(f"{given}: contains no video of the subset {subset!r}{near}; choose another")
    if not any(labels[where] for where, _ in wanted):
        labelled = sorted({str(video["subset"]) for where, video in database if labels[where]}, reverse=True)
        fix = f"choose {either(labelled)}" if labelled else "give a file with labels"
        raise UsageError(f"{given}: the subset {subset!r} has no labels; {fix}")
    return wanted


def _is_name(text: str) -> bool:
    r"""Return whether a text can be a file name; JSON may hold a lone surrogate, such as "\ud800", or a NUL."""
    try:
        return b"\0" not in os.fsencode(text)
    except UnicodeEncodeError:
        return False


def _printable(text: str) -> str:
    return text if _is_name(text) else text.encode("utf-8", "backslashreplace").decode().replace("\0", "\\x00")


# -- finding the videos -------------------------------------------------------------------------------------------


def paths_in(base: str, prefixes: Sequence[str]) -> Callable[[str], str]:
    """Return a function that returns the file name of an id's video in a folder, which is listed once.

    Args:
        prefixes: what a file name may begin with, before the id; an id without a file has the first, and ends in .mp4.
    """
    names: dict[str, str] = {}
    for name in sorted(visible_in(base or "."), key=_rank):
        path = Path(name)
        if path.suffix.lower() in VIDEO_EXTENSIONS:
            names.setdefault(path.stem, name)
        elif is_folder(below(base, name)):
            names.setdefault(name, name)

    def path_of(id_: str) -> str:
        existing = (names.get(prefix + id_) for prefix in prefixes)
        return next((name for name in existing if name is not None), f"{prefixes[0]}{id_}.mp4")

    return path_of


def _rank(name: str) -> tuple[int, str]:
    extension = Path(name).suffix.lower()
    return (_EXTENSIONS.index(extension) if extension in _EXTENSIONS else len(_EXTENSIONS), name)
