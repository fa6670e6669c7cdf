"""Folders of videos sorted by class, perhaps below folders for sides."""

from __future__ import annotations

import logging
from collections.abc import Iterator, Mapping, Sequence
from typing import Literal, NamedTuple

from bike_cli.data.inputs import find_sources
from bike_cli.data.search import FolderListing, Omissions, below, holds_frames, list_folder
from bike_cli.errors import UsageError
from bike_cli.records import Source
from bike_cli.wording import count

logger = logging.getLogger(__name__)

Side = Literal["train", "test", "val"]

SIDES: Mapping[str, Side] = {"train": "train", "test": "test", "val": "val", "validation": "val"}


class ClassFolder(NamedTuple):
    """The videos of one class, on one side."""

    path: str
    name: str
    videos: list[Source]
    side: Side | None  # None if there are no folders for sides


def class_folders(given: str) -> Iterator[ClassFolder]:
    """Yield the class folders of a folder, or of its sides if all its subfolders are sides.

    Raises:
        UsageError: no class folder, one without a video, or a folder that cannot be read; raised when it is reached.
    """
    omissions = Omissions()
    folders = _folders_in(given, omissions)
    sides = [SIDES.get(name.lower()) for name in folders]
    # `Train` next to `train` are not two sides; as classes, they are refused for having the same label.
    if None in sides or "train" not in sides or len({name.lower() for name in folders}) < len(folders):
        yield from _classes_in(given, folders, omissions, side=None)
    else:
        for name, side in zip(folders, sides, strict=True):
            folder = below(given, name)
            yield from _classes_in(folder, _folders_in(folder, omissions), omissions, side=side)
    omissions.report()


def visible_in(folder: str) -> list[str]:
    """Return the names in a folder, sorted, without hidden and system ones; raise UsageError if it cannot be read."""
    return [name for name, _ in _listed(folder).entries]


def _listed(folder: str) -> FolderListing:
    try:
        return list_folder(folder)
    except OSError as e:
        raise UsageError(f"{folder}: cannot be read ({e.strerror}); check its permissions") from e


def _folders_in(given: str, omissions: Omissions) -> list[str]:
    """Return the names of the folders in a folder, without frame folders; count everything else as left out."""
    listing = _listed(given)
    folders, videos = [], []
    for name, kind in listing.entries:
        path = below(given, name)
        is_video = kind == "video" or (kind == "folder" and holds_frames(path, _listed(path)))
        if is_video:
            videos.append(name)
        elif kind == "folder":
            folders.append(name)
        else:
            omissions.add("file", path)
    if not folders:
        reason = f"contains {count(len(videos), 'video')} and no class folder" if videos else "contains no class folder"
        fix = "make a folder for each class, such as running/clip.mp4, or give a CSV file that begins with path,label"
        raise UsageError(f"{given}: {reason}; {fix}")
    for name in videos:
        omissions.add("video", below(given, name))
    omissions.add_hidden(given, listing)
    return folders


def _classes_in(given: str, names: Sequence[str], omissions: Omissions, *, side: Side | None) -> Iterator[ClassFolder]:
    for name in names:
        folder = below(given, name)
        try:
            videos = list(find_sources([folder], omissions))
        except UsageError as e:
            raise UsageError(f"{folder}: is a class folder without a video; add some, or remove it") from e
        yield ClassFolder(folder, name, videos, side)
