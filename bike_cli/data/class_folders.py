"""Folders that sort videos by class, and perhaps by side before."""

from __future__ import annotations

import logging
import os
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Literal, NamedTuple

from bike_cli.data.inputs import VIDEO_EXTENSIONS, find_sources
from bike_cli.errors import UsageError
from bike_cli.records import Source

logger = logging.getLogger(__name__)

Side = Literal["train", "test", "val"]

SIDES: Mapping[str, Side] = {"train": "train", "test": "test", "val": "val", "validation": "val"}


class ClassFolder(NamedTuple):
    """The videos of one class, on one side."""

    path: str
    name: str
    videos: list[Source]
    side: Side | None  # None: nobody said


def class_folders(given: str) -> Iterator[ClassFolder]:
    """Yield the class folders of a folder, or of its sides where its only subfolders are sides.

    Raises:
        UsageError: no class folder, one without a video, a folder that cannot be read. Raised when its turn comes.
    """
    folders = _folders_in(given)
    sides = [SIDES.get(name.lower()) for name in folders]
    # `Train` beside `train` are no two sides; as classes, they are refused for their labels.
    if None in sides or "train" not in sides or len({name.lower() for name in folders}) < len(folders):
        yield from _classes_in(given, folders, side=None)
        return
    for name, side in zip(folders, sides, strict=True):
        folder = below(given, name)
        yield from _classes_in(folder, _folders_in(folder), side=side)


def below(folder: str, name: str) -> str:
    """Return the path of what lies in a folder, beginning as the folder is written: `./clips/a.mp4`."""
    return os.path.join(folder, name)  # noqa: PTH118 - Path drops a leading ./


def is_folder(path: str | Path) -> bool:
    """Return whether a folder is there, and can be looked at."""
    return os.path.isdir(path)  # noqa: PTH112 - False where the system refuses; Path.is_dir raises


def count_of(videos: Sequence[object]) -> str:
    """Return the number of videos in words for a message: "1 video", "2 videos"."""
    return f"{len(videos)} video{'s' if len(videos) > 1 else ''}"


def visible_in(folder: str) -> list[str]:
    """Return the names of what a folder holds, sorted, hidden ones left out; UsageError where it cannot be read."""
    try:
        return sorted(name for name in os.listdir(folder) if not name.startswith("."))  # noqa: PTH208
    except OSError as e:
        raise UsageError(f"{folder}: cannot be read ({e.strerror}); check its permissions") from e


def _folders_in(given: str) -> list[str]:
    """Return the names of the folders in a folder, frame folders left out; warn of videos beside them."""
    names = visible_in(given)
    kinds = {name: _kind(below(given, name)) for name in names}
    folders, videos = ([name for name in names if kinds[name] == kind] for kind in ("folder", "video"))
    if not folders:
        fact = f"holds {count_of(videos)} and no class folder" if videos else "holds no class folder"
        ways = "make a folder for each class, such as running/clip.mp4, or give a CSV file that begins with path,label"
        raise UsageError(f"{given}: {fact}; {ways}")
    if videos:
        logger.warning("%s: leaves out %s beside the folders, first %s", given, count_of(videos), videos[0])
    return folders


def _kind(path: str) -> Literal["folder", "video", "other"]:
    if not is_folder(path):
        return "video" if Path(path).suffix.lower() in VIDEO_EXTENSIONS else "other"
    visible_in(path)  # raises where it cannot be listed: `find_sources` has it as a source, as it has a frame folder
    try:
        first = next(find_sources([path]), None)
    except UsageError:  # it is empty
        return "folder"
    return "video" if first is not None and first.path == Path(path) else "folder"


def _classes_in(given: str, names: Sequence[str], *, side: Side | None) -> Iterator[ClassFolder]:
    for name in names:
        folder = below(given, name)
        try:
            videos = list(find_sources([folder]))
        except UsageError as e:
            raise UsageError(f"{folder}: is a class folder without a video; put some there, or remove it") from e
        yield ClassFolder(folder, name, videos, side)
