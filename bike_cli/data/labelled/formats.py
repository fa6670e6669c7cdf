"""Every format of labelled videos. All commands that take labelled videos read them through `find_listing`."""

from __future__ import annotations

import logging
import os
from collections.abc import Callable, Mapping
from pathlib import Path

from bike_cli.data.labelled.annotations import read_activitynet, read_charades
from bike_cli.data.labelled.class_folders import class_folders
from bike_cli.data.labelled.entries import Entry, Listing, ReadOptions, read_csv, read_list_file
from bike_cli.data.lines import nfc, read_text
from bike_cli.data.search import is_folder
from bike_cli.errors import UsageError
from bike_cli.records import Failure
from bike_cli.wording import count, either

logger = logging.getLogger(__name__)

# Each takes the text of a file, the name of the file, and options. It returns None if the text has another format.
FILE_FORMATS: Mapping[str, Callable[[str, str, ReadOptions], Listing | None]] = {
    "Charades annotations": read_charades,
    "ActivityNet annotations": read_activitynet,
    "a list file": read_list_file,
    "a CSV file": read_csv,
}


def find_listing(
    given: str, *, root: str | Path | None, multi_label: bool = False, subset: str | None = None
) -> Listing:
    """Return the labelled videos of a folder or a file; see `read_labelled` for the formats.

    Args:
        root: the folder that relative paths in a file start at; None: the folder of the file.
        multi_label, subset: see `ReadOptions`.
    Raises:
        UsageError: no such file or folder, no video, or a malformed file.
    """
    if is_folder(given):
        logger.info("%s: read as class folders", given)
        return Listing(given, list(_in_class_folders(given)))
    if not os.path.lexists(given):
        ways = either(("a folder of class folders", "a CSV file that begins with path,label", *list(FILE_FORMATS)[:-1]))
        raise UsageError(f"{given}: no such file or folder; give {ways}")
    text = read_text(Path(given), of="labelled videos")  # once: it may be a pipe
    base = os.path.dirname(given) if root is None else str(root)  # noqa: PTH120 - Path.parent drops a leading ./
    options = ReadOptions(base, multi_label, subset)
    listings = ((name, read(text, given, options)) for name, read in FILE_FORMATS.items())
    name, listing = next((name, listing) for name, listing in listings if listing is not None)
    logger.info("%s: %s, read as %s", given, count(len(listing.entries), "video"), name)
    if not listing.entries and not listing.left_out:
        raise UsageError(f"{given}: contains no video; write one per line below the line path,label")
    return listing


def keep_labelled(listing: Listing, *, multi_label: bool) -> Listing:
    """Return the listing without videos that have no label, and with the first label of each unless `multi_label`."""
    entries = [entry for entry in listing.entries if entry.names]
    left_out = [
        Failure(entry.source, "no_label", f"{entry.where}: has no label; annotate it")
        for entry in listing.entries
        if not entry.names
    ]
    if left_out:
        logger.warning("%s; %s left out", left_out[0].message, count(len(left_out), "video"))
    if not multi_label:
        several = [entry for entry in entries if len(entry.names) > 1]
        if several:
            text = "%s: %s with several labels, first %s; only the first label counts"
            logger.warning(text, listing.origin, count(len(several), "video"), several[0].source.id)
        entries = [entry._replace(names=entry.names[:1]) for entry in entries]
    return listing._replace(entries=entries, left_out=(*left_out, *listing.left_out))


def _in_class_folders(given: str) -> list[Entry]:
    return [
        Entry(path, (nfc(name),), video, video.id.removeprefix(given), side)
        for path, name, videos, side in class_folders(given)
        for video in videos
    ]
