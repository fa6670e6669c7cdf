"""Find the videos that the user names: files, folders, globs and frame folders."""

from __future__ import annotations

import codecs
import glob
import logging
import os
from collections.abc import Iterable, Iterator
from pathlib import Path, PurePath

from bike_cli.data.path_lists import existing_path
from bike_cli.data.search import Omissions, is_folder, is_frame_folder, is_system_name, videos_below
from bike_cli.data.signatures import VIDEO, describe_content
from bike_cli.errors import UsageError
from bike_cli.media import VIDEO_EXTENSIONS, missing_message, url_problem
from bike_cli.records import Source
from bike_cli.time_limits import call_on_path
from bike_cli.wording import count

logger = logging.getLogger(__name__)


def find_sources(inputs: Iterable[str | Path], omissions: Omissions | None = None) -> Iterator[Source]:
    """Yield the videos that the inputs name, in the order given, as soon as each input arrives.

    An input is the first of these that fits:
        a frame folder (see `is_frame_folder`): one source;
        a folder: every video below it, in the order of names, with `VIDEO_EXTENSIONS` in any case and frame folders;
        a glob, if no file has this name: its matches, as in a shell (`**` is any depth);
        anything else: itself, so that a missing file, or one of another kind, gets its own failure.
    Searches and globs leave out hidden files and the folders of systems and NAS boxes, except if they are named. An
    input that is named twice, or reached in two ways, is yielded twice. Links are followed, each folder once, and never
    back to a parent.

    Args:
        omissions: collects what searches leave out; None: a warning reports it after the last input.
    Raises:
        UsageError: a folder without a video, a glob without a match, a URL or an empty name; raised when it is reached.
    """
    left_out = Omissions() if omissions is None else omissions
    for given in inputs:
        if not _answers(str(given)):
            yield Source.at(str(given))  # becomes a failure; the other inputs need not wait
            continue
        for name in _expanded(str(given), left_out):
            yield from _sources_in(name, left_out) if is_folder(name) else [Source.at(name)]
    if omissions is None:
        left_out.report()


def looks_like_text(path: str | Path) -> bool:
    """Return whether the file begins like UTF-8 text; False if it is empty or cannot be read."""
    # Incremental, because the head may end within a character.
    decoder = codecs.getincrementaldecoder("utf-8")()
    try:
        text = decoder.decode(_head(path))
    except UnicodeDecodeError:
        return False
    return bool(text) and all(c.isprintable() or c.isspace() or c == "\ufeff" for c in text)


def looks_like_video(path: str | Path) -> bool:
    """Return whether the file begins like a video, or is named like one and is not text."""
    if describe_content(_head(path)) == VIDEO:
        return True
    return Path(path).suffix.lower() in VIDEO_EXTENSIONS and not looks_like_text(path)


_HEAD_BYTES = 4096


def _head(path: str | Path) -> bytes:
    """Return the beginning of a file; empty if it cannot be read, or not soon."""

    def read() -> bytes:
        if not Path(path).is_file():  # reading a pipe would block and consume it
            return b""
        with Path(path).open("rb") as file:
            return file.read(_HEAD_BYTES)

    try:
        return call_on_path(path, read, default=b"")
    except (OSError, ValueError):
        return b""


def _answers(name: str) -> bool:
    """Return whether the file system responds; one that is unreachable may not."""
    return call_on_path(name, lambda: os.path.lexists(name) is not None, default=False)


def _expanded(given: str, omissions: Omissions) -> list[str]:
    name = existing_path(given)
    if os.path.lexists(name):
        if name != given:
            logger.info("%s: does not exist, read as %s", given, name)
        return [name]
    if not given.strip() or url_problem(given) is not None:
        raise UsageError(missing_message(given))
    if not glob.has_magic(given):
        return [given]
    names = sorted(glob.glob(given, recursive=True))  # noqa: PTH207 - Path.glob drops a leading ./
    if not names and not {"*", "?"} & set(given):
        return [given]  # brackets are common in names: `clip [1].mp4`, which is missing
    if not names:
        raise UsageError(f"{given}: matches no file; check the pattern and the folder it starts in")
    return _without_system_folders(given, names, omissions)


def _without_system_folders(pattern: str, names: list[str], omissions: Omissions) -> list[str]:
    """Return the matches of a pattern, except those in system folders that it does not name."""
    named = set(PurePath(pattern).parts)
    found, reached = [], dict[str, None]()
    for name in names:
        parts = PurePath(name).parts
        place = next((i for i, part in enumerate(parts) if part not in named and is_system_name(part)), None)
        if place is None:
            found.append(name)
        else:
            reached.setdefault(str(PurePath(*parts[: place + 1])))
    for folder in reached:
        omissions.add("system", folder)
    return found


def _sources_in(given: str, omissions: Omissions) -> Iterator[Source]:
    if is_frame_folder(given):
        yield Source.at(given)
        return
    # Yield videos during the search, so that the first answer does not wait for a million names.
    n_videos, left_out = 0, Omissions()
    for path in videos_below(given, left_out):
        n_videos += 1
        yield Source(Path(path), path)
    if not n_videos:
        raise UsageError(without_video(given, left_out))
    omissions.update(left_out)


def without_video(given: str, left_out: Omissions) -> str:
    """Return the error message for a folder without a video."""
    counts = {kind: number for kind, number in left_out.counts.items() if kind != "empty"}
    if not counts:
        return f"{given}: contains no video (.mp4, .mkv, .webm, …); name the files, or a folder that contains videos"
    if "mixed" in counts:
        fact = f"contains images in {left_out.first['mixed']} next to other files or folders"
        way = "a folder of frames contains numbered images, or mostly images, and no video or further folder of images"
        return f"{given}: {fact}, and no video; {way}"
    way = "name the files, or a folder that contains videos"
    if set(counts) == {"file"}:
        files, first = count(counts["file"], "file"), left_out.first["file"]
        return f"{given}: contains {files}, none of them a video (.mp4, .mkv, .webm, …; first {first}); {way}"
    return f"{given}: contains no video but {left_out}; {way}"
