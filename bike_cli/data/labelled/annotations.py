"""Videos and their classes as Charades and ActivityNet are distributed: CSV and JSON files that name no path."""

from __future__ import annotations

import json
import logging
import os
import re
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path

from bike_cli.data.csv_rows import csv_rows
from bike_cli.data.labelled.candidates import nearest
from bike_cli.data.labelled.class_folders import below, count_of, is_folder, visible_in
from bike_cli.data.labelled.entries import Entry, Found, LeftOut, base_of
from bike_cli.data.lines import nfc, tidy
from bike_cli.errors import UsageError
from bike_cli.media import VIDEO_EXTENSIONS
from bike_cli.records import Source

logger = logging.getLogger(__name__)

_ACTION = re.compile(r"c(?P<id>[0-9]{3}) +[0-9.]+ +[0-9.]+")
_USUAL = (".mp4", ".mkv", ".webm")
_EXTENSIONS = (*_USUAL, *sorted(VIDEO_EXTENSIONS.difference(_USUAL)))  # the first there is taken


def read_annotations(
    text: str, given: str, *, root: str | Path | None, multi_label: bool = False, subset: str = "validation"
) -> Found | None:
    """Return the videos of an annotation file, or None where the text is none.

    Charades: a CSV file with the columns `id` and `actions`, such as `c092 11.90 21.20;c147 0.00 12.60`, or none. A
    class is its number (`c092` is 92), videos have several. Source: Charades_v1_test.csv of allenai.org/plato/charades.

    ActivityNet: a JSON object whose `database` has `subset` and `annotations` with a `label` for each id. Where a
    video may have several labels, each counts once; where it has one, that of its first annotation counts, as in
    MMAction2's lists (tools/data/activitynet/generate_rawframes_filelist.py). A video without a label, or with an id
    that no file can be named by, is left out. Labels of other subsets are further classes. Source:
    activity_net.v1-3.min.json of activity-net.org.

    A video is `ID` in Charades, `v_ID` or `ID` in ActivityNet, with any of `VIDEO_EXTENSIONS`, or a folder of frames;
    one that is not there is named .mp4, so that it gets its own failure.

    Args:
        text: of the file `given`.
        root: the folder of the videos; None: the file's own.
        multi_label: whether an ActivityNet video may have several labels, or none.
        subset: which videos of ActivityNet to take.
    Raises:
        UsageError: an action, a record or JSON that is malformed; no such subset, or one without labels.
    """
    base = base_of(given, root)
    if _is_charades(text):
        found = Found(given, list(_in_charades(text, given, base)), by_id=True, multi_label=True)
    elif _is_activitynet(text):
        found = _in_activitynet(_database(text, given), given, base, multi_label=multi_label, subset=subset)
    else:
        return None
    if not found.entries:
        raise UsageError(f"{given}: holds no video; write one per line")
    return found


# -- Charades -------------------------------------------------------------------------------------------------------


def _is_charades(text: str) -> bool:
    first = next((line for line in text.split("\n") if line.strip()), "")
    return {"id", "actions"} <= {cell.strip().lower() for cell in first.split(",")}


def _in_charades(text: str, given: str, base: str) -> Iterator[Entry]:
    rows = csv_rows(text, given)
    columns = [cell.strip().lower() for cell in next(rows).cells]
    path_of = _paths_in(base, ("",))
    for where, cells in rows:
        if len(cells) != len(columns):
            way = "put quotes around a cell with a comma in it"
            raise UsageError(f"{where}: has {len(cells)} cells, not {len(columns)}; {way}")
        row = dict(zip(columns, cells, strict=True))
        if not row["id"].strip():
            raise UsageError(f"{where}: id is empty; fill it in, or remove the row")
        name = path_of(row["id"].strip())
        yield Entry(where, _classes(where, row["actions"]), Source.at(below(base, name)), name, None)


def _classes(where: str, actions: str) -> tuple[str, ...]:
    """Return the classes of a cell, each once: an action may come back later in a video."""
    classes = []
    for action in (part.strip() for part in actions.split(";")) if actions.strip() else ():
        match = _ACTION.fullmatch(action)
        if match is None:
            raise UsageError(f"{where}: action {action!r} is no class with two times; write it as c092 11.90 21.20")
        classes.append(str(int(match["id"])))
    return tuple(dict.fromkeys(classes))


# -- ActivityNet ----------------------------------------------------------------------------------------------------

_Video = Mapping[str, object]
_Database = Sequence[tuple[str, _Video]]  # where each stands, and what is said of it


def _is_activitynet(text: str) -> bool:
    return text.lstrip().startswith("{") and '"database"' in text


def _database(text: str, given: str) -> list[tuple[str, _Video]]:
    try:
        told = json.loads(text)
    except json.JSONDecodeError as e:
        raise UsageError(f"{given}:{e.lineno}: is not valid JSON ({e.msg}); download the file again") from e
    except RecursionError as e:
        raise UsageError(f"{given}: is nested too deeply to be annotations; download the file again") from e
    database = told["database"] if isinstance(told, dict) and "database" in told else None
    if not isinstance(database, dict):
        raise UsageError(f"{given}: has no object 'database', so is no annotation file; give ActivityNet's own")
    return [(f"{given}, video {id_}", _video(f"{given}, video {id_}", id_, video)) for id_, video in database.items()]


def _video(where: str, id_: str, told: object) -> _Video:
    if not isinstance(told, dict) or not isinstance(told.get("subset"), str):
        raise UsageError(f"{where}: has no text 'subset'; write training, validation or testing")
    return {**told, "id": id_}


def _labels(where: str, video: _Video) -> tuple[str, ...]:
    annotations = video.get("annotations", [])
    told = annotations if isinstance(annotations, list) else [None]
    labels = [annotation.get("label") if isinstance(annotation, dict) else None for annotation in told]
    names = [nfc(tidy(label)) for label in labels if isinstance(label, str)]
    if len(names) < len(labels) or not all(names):
        raise UsageError(f"{where}: has an annotation without a label; write 'annotations': [{{'label': ...}}, ...]")
    return tuple(dict.fromkeys(names))


def _in_activitynet(database: _Database, given: str, base: str, *, multi_label: bool, subset: str) -> Found:
    labels = {where: _labels(where, video) for where, video in database}
    path_of = _paths_in(base, ("v_", ""))
    entries, left_out = list[Entry](), list[LeftOut]()
    several = list[str]()
    for where, video in _of_subset(database, labels, subset, given):
        id_, names = str(video["id"]), labels[where]
        name = path_of(id_)
        why = _why_left_out(id_, names, multi_label=multi_label)
        if why is not None:
            kind, fact = why
            left_out.append(LeftOut(_printable(below(base, name)), kind, _printable(f"{where}: {fact}")))
            continue
        several += [id_] if len(names) > 1 else []
        own = names if multi_label else names[:1]
        entries.append(Entry(where, own, Source.at(below(base, name)), name, None))
    if several and not multi_label:
        fact = "%s with several labels, first %s; that of the first annotation counts"
        logger.warning(f"%s: holds {fact}", given, count_of(several), several[0])
    if left_out:
        logger.warning("%s; %s left out", left_out[0].message, count_of(left_out))
    further = {name for names in labels.values() for name in names}
    return Found(given, entries, further=tuple(sorted(further)), left_out=tuple(left_out))


def _of_subset(database: _Database, labels: Mapping[str, Sequence[str]], subset: str, given: str) -> _Database:
    wanted = [(where, video) for where, video in database if video["subset"] == subset]
    if not wanted:
        known = list(dict.fromkeys(str(video["subset"]) for _, video in database))
        near = f", the nearest is {nearest(subset, known)!r} (of {', '.join(known)})" if known else ""
        raise UsageError(f"{given}: holds no video of the subset {subset!r}{near}; choose another")
    if not any(labels[where] for where, _ in wanted):
        labelled = sorted({str(video["subset"]) for where, video in database if labels[where]}, reverse=True)
        way = f"choose {' or '.join(labelled)}" if labelled else "give a file with labels"
        raise UsageError(f"{given}: the subset {subset!r} has no labels, so nothing to test against; {way}")
    return wanted


def _why_left_out(id_: str, names: Sequence[str], *, multi_label: bool) -> tuple[str, str] | None:
    """Return the kind of what keeps a video from being tested on, and the fact."""
    if not _is_name(id_):
        return "no_name", "has an id that no file can be named by; fix it"
    return None if names or multi_label else ("no_label", "has no label; annotate it")


def _is_name(text: str) -> bool:
    r"""Return whether a file can be named so: JSON may hold half a character, such as "\ud800", or a NUL."""
    try:
        return b"\0" not in os.fsencode(text)
    except UnicodeEncodeError:
        return False


def _printable(text: str) -> str:
    return text if _is_name(text) else text.encode("utf-8", "backslashreplace").decode().replace("\0", "\\x00")


# -- where the videos are -------------------------------------------------------------------------------------------


def _paths_in(base: str, prefixes: Sequence[str]) -> Callable[[str], str]:
    """Return what tells the name of an id's video in a folder, which is listed once."""
    names: dict[str, str] = {}
    for name in sorted(visible_in(base or "."), key=_rank):
        stem, extension = _split(name)
        if extension.lower() in VIDEO_EXTENSIONS:
            names.setdefault(stem, name)
        elif is_folder(below(base, name)):
            names.setdefault(name, name)

    def path_of(id_: str) -> str:
        there = (names.get(prefix + id_) for prefix in prefixes)
        return next((name for name in there if name is not None), f"{prefixes[0]}{id_}.mp4")

    return path_of


def _rank(name: str) -> tuple[int, str]:
    extension = _split(name)[1].lower()
    return (_EXTENSIONS.index(extension) if extension in _EXTENSIONS else len(_EXTENSIONS), name)


def _split(name: str) -> tuple[str, str]:
    path = Path(name)
    return path.stem, path.suffix
