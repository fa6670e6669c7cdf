"""Names of the files and folders that are written for each video."""

from __future__ import annotations

import logging
import os
import sys
from collections.abc import Iterable, Sequence
from pathlib import Path

from bike_cli.data.remote.uris import parse_uri
from bike_cli.errors import UsageError
from bike_cli.media import is_media_name, is_store_uri
from bike_cli.records import Failure, Source

logger = logging.getLogger(__name__)


class VideoNames:
    """One path in a folder for each video: its name with another ending; the tree of a searched folder is kept.

    `videos/cup/final.mp4`, found in `videos/`, becomes `FOLDER/cup/final.srt`.

    Args:
        folder: where the paths lie.
        suffix: the new ending; empty for a folder per video.
        arguments: the inputs on the command line; those that are folders were searched.
    """

    def __init__(self, folder: Path, suffix: str = "", arguments: Sequence[str] = ()) -> None:
        self._folder, self._suffix = folder, suffix
        stored = [parse_uri(argument).name.absolute() for argument in arguments if is_store_uri(argument)]
        roots = [Path(argument).absolute() for argument in arguments]
        folders = [*stored, *(root for root in roots if root.is_dir())]
        self._roots = sorted(folders, key=lambda root: -len(root.parts))
        self._owners: dict[str, Source] = {}  # of the paths that are given out

    def check(self, sources: Iterable[Source | Failure]) -> None:
        """Raise UsageError if two videos would have the same path; call it before work starts."""
        owners: dict[str, Source] = {}
        for source in sources:
            if isinstance(source, Failure):
                continue
            path = self._wanted(source)
            other = owners.setdefault(_key(path), source)
            if not _is_same(other, source):
                raise UsageError(
                    f"{source.id}: would be written to {path}, as {other.id} would; rename one of them, or write them "
                    "to two folders"
                )

    def path_of(self, source: Source) -> Path:
        """Return the path for a video, the same each time.

        If another video has it, which `check` finds among videos that are known beforehand, the name gets a number.
        """
        wanted = path = self._wanted(source)
        number = 1
        while not _is_same(self._owners.setdefault(_key(path), source), source):
            number += 1
            path = wanted.with_name(f"{stem_of(source)}-{number}{self._suffix}")
        if path != wanted:
            logger.warning("%s: is written to %s, because %s is of another video", source.id, path, wanted.name)
        return path

    def _wanted(self, source: Source) -> Path:
        path = source.path.absolute()
        # An argument that is itself a folder of frames is the source, not the place where it was found.
        root = next((root for root in self._roots if root != path and path.is_relative_to(root)), None)
        tree = Path() if root is None else path.relative_to(root).parent
        return self._folder / tree / f"{stem_of(source)}{self._suffix}"


def stem_of(source: Source) -> str:
    """Return the name of a video without its ending; that of a folder of frames is whole."""
    path = source.path
    name = path.name or path.absolute().name  # of `.`
    return Path(name).stem if is_media_name(name) else name


def check_clip_folder(folder: Path, arguments: Iterable[str]) -> None:
    """Raise UsageError if no clips can be written into a folder, or if they would become inputs of a search there."""
    place = folder.absolute()
    existing = next(path for path in (place, *place.parents) if path.exists() or path.is_symlink())
    if not existing.is_dir():
        where = "" if existing == place else f"lies in {existing}, which "
        raise UsageError(f"--cut {folder}: {where}is not a folder; name a folder for the clips")
    if not os.access(existing, os.W_OK):
        raise UsageError(f"--cut {folder}: cannot be written; choose a folder that you may write to")
    for argument in arguments:
        root = Path(argument).absolute()
        if root.is_dir() and place.resolve().is_relative_to(root.resolve()):
            raise UsageError(
                f"{folder}: lies in {argument}, which is searched for videos, so its clips would be inputs; "
                "choose a folder outside of it"
            )


def _is_same(one: Source, other: Source) -> bool:
    return one.path.absolute() == other.path.absolute()


def _key(path: Path) -> str:
    # The usual file systems of macOS and Windows do not distinguish the case of letters.
    return str(path) if sys.platform not in ("darwin", "win32") else str(path).casefold()
