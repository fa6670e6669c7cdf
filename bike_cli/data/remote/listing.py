"""Find the videos in object stores: one object, a folder, or a pattern."""

from __future__ import annotations

import glob
import re
from collections.abc import Iterator
from functools import partial
from pathlib import PurePosixPath
from typing import Literal, NamedTuple

from bike_cli.data.inputs import without_video
from bike_cli.data.remote.stores import ask, check_pyarrow, file_system_of
from bike_cli.data.remote.tars import is_tar_name
from bike_cli.data.remote.uris import StoreUri, parse_uri, source_named
from bike_cli.data.search import Omissions, is_system_name, kind_of
from bike_cli.errors import InputError
from bike_cli.records import Failure, Source

LIST_S = 600.0  # for one folder: a page of 1,000 names takes a second at most


def find_objects(name: str, omissions: Omissions) -> Iterator[Source | Failure]:
    """Yield the videos that a URI names, in the order of names: an object, a folder, or the matches of a pattern.

    A name with the ending of a video is taken for an object; whether it exists, the store says when it is fetched. A
    folder is listed level by level: its videos are yielded before folders after them are listed. A pattern may contain
    `*`, `?` and `**`, and matches videos and tar files.

    Raises:
        InputError: the store cannot be read, or contains no video or nothing of that name.
    """
    check_pyarrow(name)
    uri = parse_uri(name)
    if {"*", "?"} & set(uri.key):
        yield from _matches(uri, omissions)
    elif uri.is_folder:
        yield from _videos_below(uri, omissions)
    elif kind_of(uri.key) == "video" or _kind_of(uri) == "file":
        yield source_named(name)
    else:
        yield from _videos_below(uri.at(f"{uri.key}/"), omissions)


def _kind_of(uri: StoreUri) -> Literal["file", "folder"]:
    file_system, path = file_system_of(uri)
    info = ask(uri, partial(file_system.get_file_info, path))
    if info.type.name == "NotFound":
        raise InputError(f"{uri}: no such object or folder; check the name", kind="missing")
    return "folder" if info.type.name == "Directory" else "file"


class _Entry(NamedTuple):
    name: str
    is_folder: bool


def _entries(folder: StoreUri) -> list[_Entry]:
    """Return what is in a folder, in the order of names."""
    from pyarrow import fs

    file_system, path = file_system_of(folder)
    selector = fs.FileSelector(path.rstrip("/") or "/", recursive=False)
    infos = ask(folder, partial(file_system.get_file_info, selector), limit_s=LIST_S)
    # A folder that was made in a browser is an object that is called like its folder.
    return sorted(_Entry(info.base_name, info.type.name == "Directory") for info in infos if info.base_name)


def _videos_below(folder: StoreUri, omissions: Omissions) -> Iterator[Source | Failure]:
    n_videos, left_out = 0, Omissions()
    for found in _walk(folder, left_out):
        if isinstance(found, Failure):
            yield found
        elif kind_of(found.key) == "video":
            n_videos += 1
            yield source_named(str(found))
        else:
            left_out.add("file", str(found))
    if not n_videos:
        raise InputError(without_video(str(folder), left_out), kind="not_video")
    omissions.update(left_out)


def _walk(folder: StoreUri, left_out: Omissions, *, levels: int | None = None) -> Iterator[StoreUri | Failure]:
    """Yield the objects below a folder, depth first in the order of names, except hidden ones.

    Args:
        levels: of folders to list; None: all.
    Raises:
        InputError: the folder cannot be listed. One below it becomes a failure.
    """
    left = [(folder, iter(_entries(folder)))]
    while left:
        here, entries = left[-1]
        entry = next(entries, None)
        if entry is None:
            left.pop()
            continue
        uri = here.at(f"{here.key}{entry.name}{'/' * entry.is_folder}")
        if is_system_name(entry.name) or entry.name.startswith("."):
            left_out.add("hidden", str(uri))
        elif not entry.is_folder:
            yield uri
        elif levels is None or len(left) < levels:
            try:
                left.append((uri, iter(_entries(uri))))
            except InputError as e:
                yield Failure(Source(uri.name, str(uri)), e.kind, str(e))


def _matches(pattern: StoreUri, omissions: Omissions) -> Iterator[Source | Failure]:
    parts = pattern.key.split("/")
    n_plain = next(i for i, part in enumerate(parts) if glob.has_magic(part))
    start = pattern.at("".join(f"{part}/" for part in parts[:n_plain]))
    levels = None if "**" in parts else len(parts) - n_plain
    is_match = _regex(parts)
    is_found = False
    for found in _walk(start, omissions, levels=levels):
        if isinstance(found, Failure):
            yield found
        elif is_match.fullmatch(found.key) and (
            kind_of(found.key) == "video" or is_tar_name(PurePosixPath(found.key).name)
        ):
            is_found = True
            yield source_named(str(found))
    if not is_found:
        raise InputError(f"{pattern}: matches no video; check the pattern and the folder it starts in", kind="missing")


def _regex(parts: list[str]) -> re.Pattern[str]:
    """Return the expression for a pattern; `*` and `?` match within one part, and a part `**` any number of them."""
    text = ""
    for i, part in enumerate(parts):
        is_last = i == len(parts) - 1
        if part == "**":
            text += ".*" if is_last else "(?:[^/]+/)*"
            continue
        text += "".join({"*": "[^/]*", "?": "[^/]"}.get(letter, re.escape(letter)) for letter in part)
        text += "" if is_last else "/"
    return re.compile(text, re.DOTALL)
