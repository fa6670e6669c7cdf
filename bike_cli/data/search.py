"""Search folders for videos: what counts as a video or a frame folder, and what is left out."""

from __future__ import annotations

import logging
import os
import re
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Literal, NamedTuple

from bike_cli.media import IMAGE_EXTENSIONS, VIDEO_EXTENSIONS
from bike_cli.wording import count

logger = logging.getLogger(__name__)

Kind = Literal["folder", "video", "image", "other"]

# Folders that systems, NAS boxes and tools create, in lower case. They hold copies, thumbnails or deleted files.
# fmt: off
SYSTEM_FOLDERS = frozenset({
    # Synology, QNAP and other NAS boxes
    "@eadir", "@tmp", "@database", "@appstore", "@sharebin", "@recycle", "@recently-snapshot", "@transcode", "@qpkg",
    "#recycle", "#snapshot", ".@__thumb", ".@upload_cache", ".@analytic", ".@qmariadb", ".snapshot", ".snapshots",
    "~snapshot", ".zfs", ".recycle", ".stversions", ".stfolder",
    ".wdmc", ".wd_tv", ".ugreen",
    # Windows
    "$recycle.bin", "recycler", "system volume information", "$winreagent", "$extend", "$windows.~bt",
    "$windows.~ws", "config.msi", "found.000",
    # macOS
    "__macosx", ".appledouble", ".appledb", ".appledesktop", ".trashes", ".trash", ".spotlight-v100", ".fseventsd",
    ".documentrevisions-v100", ".temporaryitems", "temporary items", "network trash folder",
    "thevolumesettingsfolder", ".mobilebackups", ".picasaoriginals",
    # Linux, and tools
    "lost+found", ".thumbnails", ".thumbs", ".xvpics", ".cache", ".git", ".svn", ".hg", ".dvc", ".bzr",
    "__pycache__", ".ipynb_checkpoints", ".dropbox.cache", ".dropbox", ".tmp.drivedownload", ".tmp.driveupload",
})
SYSTEM_FILES = frozenset({
    "thumbs.db", "thumbs.db:encryptable", "ehthumbs.db", "ehthumbs_vista.db", "desktop.ini", "folder.htt", "icon\r",
    ".ds_store", ".localized", ".directory", ".apdisk", ".volumeicon.icns", ".nomedia", ".picasa.ini", "picasa.ini",
    ".gitkeep", ".gitignore", ".gitattributes", ".keep", "zbthumbnail.info",
})
# fmt: on
_TRASH = re.compile(r"\.trash-\d+", re.IGNORECASE)  # of one user, on a removable disk


def below(folder: str | Path, name: str | Path) -> str:
    """Return the path of a file in a folder, starting as the folder is written: `./clips/a.mp4`."""
    return os.path.join(folder, name)  # noqa: PTH118 - Path drops a leading ./


def is_folder(path: str | Path) -> bool:
    """Return whether a path is a folder that can be accessed."""
    return os.path.isdir(path)  # noqa: PTH112 - Path.is_dir raises if access is denied


def is_system_name(name: str) -> bool:
    """Return whether a file or folder of this name belongs to a system, a NAS box or a tool, not to the user."""
    small = name.casefold()
    return small in SYSTEM_FOLDERS or _is_system_file(small) or _TRASH.fullmatch(small) is not None


def _is_system_file(small: str) -> bool:
    return small in SYSTEM_FILES or small.startswith("._")  # `._a.mp4`: AppleDouble keeps a.mp4's resources there


class Named(NamedTuple):
    """The name of a file or folder, and its kind by this name."""

    name: str
    kind: Kind


@dataclass(frozen=True)
class FolderListing:
    """The contents of one folder, sorted by name; hidden and system entries are separate."""

    entries: tuple[Named, ...]
    hidden: tuple[str, ...]
    system: tuple[str, ...]

    def names(self, kind: Kind) -> list[str]:
        """Return the names of one kind."""
        return [entry.name for entry in self.entries if entry.kind == kind]


def list_folder(folder: str | Path) -> FolderListing:
    """Return the contents of a folder.

    Raises:
        OSError: the folder cannot be listed.
    """
    entries: list[Named] = []
    hidden: list[str] = []
    system: list[str] = []
    # scandir returns the file types; a request for each of 200,000 names takes seconds on a network.
    with os.scandir(folder) as found:
        for entry in found:
            if is_system_name(entry.name):
                system.append(entry.name)
            elif entry.name.startswith("."):
                hidden.append(entry.name)
            else:
                entries.append(Named(entry.name, "folder" if _is_dir(entry) else kind_of(entry.name)))
    return FolderListing(tuple(sorted(entries)), tuple(sorted(hidden)), tuple(sorted(system)))


def kind_of(name: str) -> Kind:
    """Return what a file is by its extension."""
    extension = os.path.splitext(name)[1].lower()  # noqa: PTH122 - a Path for each of 200,000 names takes a second
    return "video" if extension in VIDEO_EXTENSIONS else "image" if extension in IMAGE_EXTENSIONS else "other"


def _is_dir(entry: os.DirEntry[str]) -> bool:
    try:
        return entry.is_dir()
    except OSError:  # a link to somewhere out of reach
        return False


# -- folders of frames ----------------------------------------------------------------------------------------------


def is_frame_folder(folder: str | Path) -> bool:
    """Return whether a folder is one video, an image per frame; False if it cannot be listed.

    A frame folder holds images, but no video and no folder with images or videos. It may hold other files (a caption,
    features, sound): any number if the images are numbered or each file is named after one, otherwise fewer than
    images. Hidden and system files do not count.
    """
    try:
        listing = list_folder(folder)
    except OSError:
        return False
    return holds_frames(folder, listing)


def holds_frames(folder: str | Path, listing: FolderListing) -> bool:
    """Return whether a folder of these contents is a frame folder; see `is_frame_folder`."""
    if not _look_like_frames(listing) or listing.names("video"):
        return False
    return not any(_holds_media(below(folder, name)) for name in listing.names("folder"))


def _look_like_frames(listing: FolderListing) -> bool:
    images = listing.names("image")
    stems = {_stem(name) for name in images}
    companions = [name for name in listing.names("other") if _stem(name) not in stems]
    return bool(images) and (len(companions) < len(images) or _are_numbered(stems))


def _are_numbered(stems: set[str]) -> bool:
    """Return whether names differ only in their numbers, like those of extracted frames."""
    patterns = {re.sub(r"\d+", "0", stem) for stem in stems}
    return len(patterns) == 1 and "0" in next(iter(patterns))


def _stem(name: str) -> str:
    return os.path.splitext(name)[0]  # noqa: PTH122


def _holds_media(folder: str) -> bool:
    """Return whether images or videos are in or below a folder, or may be, because it cannot be listed."""
    left = [folder]
    while left:
        here = left.pop()
        try:
            listing = list_folder(here)
        except OSError:
            return True
        if any(entry.kind in ("image", "video") for entry in listing.entries):
            return True
        folders = (below(here, name) for name in listing.names("folder"))
        left += [path for path in folders if not os.path.islink(path)]  # noqa: PTH114 - a link may lead back
    return False


# -- what is left out -----------------------------------------------------------------------------------------------

_PHRASES = {  # kind: for one, for several
    "video": ("video outside the class folders", "videos outside the class folders"),
    "file": ("file that is not a video", "files that are not videos"),
    "mixed": ("folder of images next to videos or folders", "folders of images next to videos or folders"),
    "hidden": ("hidden file or folder", "hidden files or folders"),
    "system": ("system folder", "system folders"),
    "empty": ("empty folder", "empty folders"),
}


@dataclass
class Omissions:
    """What a search leaves out, counted by kind; each name is logged at INFO."""

    counts: Counter[str] = field(default_factory=Counter)
    first: dict[str, str] = field(default_factory=dict)

    def add(self, kind: str, path: str) -> None:
        """Count one thing; `kind` is a key of `_PHRASES`."""
        self.counts[kind] += 1
        self.first.setdefault(kind, path)
        logger.info("%s: left out, %s", path, _PHRASES[kind][0])

    def add_hidden(self, folder: str | Path, listing: FolderListing) -> None:
        """Count the hidden entries and the system folders of a folder; files of the system are never videos."""
        for name in listing.hidden:
            self.add("hidden", below(folder, name))
        for name in listing.system:
            if not _is_system_file(name.casefold()):
                self.add("system", below(folder, name))

    def update(self, other: Omissions) -> None:
        """Add what another search left out."""
        self.counts += other.counts
        self.first = {**other.first, **self.first}

    def __str__(self) -> str:
        kinds = [kind for kind in _PHRASES if kind in self.counts]
        return ", ".join(f"{count(self.counts[kind], *_PHRASES[kind])} (first: {self.first[kind]})" for kind in kinds)

    def report(self) -> None:
        """Log one warning with the count and the first name of each kind, if anything was left out."""
        if self.counts:
            way = "" if logger.isEnabledFor(logging.INFO) else "; -v lists them"
            logger.warning("left out: %s%s", self, way)


# -- the search -----------------------------------------------------------------------------------------------------


def videos_below(folder: str, omissions: Omissions) -> Iterator[str]:
    """Yield the videos of a folder, depth first in the order of names: files, frame folders, unreadable folders.

    Links are followed, each folder once, and never back to a parent. Paths begin as the folder is written.
    """
    # Folders that link to one another make an exponential number of paths.
    linked: set[tuple[int, int]] = set()
    above: list[tuple[int, int]] = []
    # Texts instead of Path, which would take longer than the search; no recursion, because Python's stack is short.
    left: list[Iterator[tuple[str, Kind]]] = [iter([(folder, "folder")])]
    while left:
        entry = next(left[-1], None)
        if entry is None:
            left.pop()
            above[-1:] = []
            continue
        path, kind = entry
        if kind == "video":
            yield path
        if kind != "folder":
            continue
        try:
            status, listing = os.stat(path), list_folder(path)  # noqa: PTH116
        except OSError:
            yield path  # the decoder will report why
            continue
        if path is not folder and holds_frames(path, listing):
            yield path
            continue
        here = (status.st_dev, status.st_ino)
        is_link = os.path.islink(path)  # noqa: PTH114
        if here in above or (is_link and here in linked):
            logger.info("%s: left out, links to a folder that is searched anyway", path)
            continue
        if is_link:
            linked.add(here)
        above.append(here)
        _count_left_out(path, listing, omissions)
        left.append(_inside(path, listing))


def _inside(folder: str, listing: FolderListing) -> Iterator[tuple[str, Kind]]:
    start = below(folder, "")
    return ((start + name, kind) for name, kind in listing.entries)


def _count_left_out(folder: str, listing: FolderListing, omissions: Omissions) -> None:
    images, others = listing.names("image"), listing.names("other")
    if len(images) > 1 and _look_like_frames(listing):
        omissions.add("mixed", folder)
    else:
        others = sorted([*images, *others])
    for name in others:
        omissions.add("file", below(folder, name))
    omissions.add_hidden(folder, listing)
    if not (listing.entries or listing.hidden or any(not _is_system_file(name.casefold()) for name in listing.system)):
        omissions.add("empty", folder)
