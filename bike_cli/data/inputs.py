"""What the user names becomes sources: files, folders, globs, lists, frame folders."""

from __future__ import annotations

import codecs
import glob
import os
import select
import time
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import BinaryIO

from bike_cli.errors import UsageError
from bike_cli.records import Source
from bike_cli.time_limits import FILE_LIMIT_S, call_within

# What a folder is searched for; a file named by the user is taken whatever it is called.
# fmt: off
VIDEO_EXTENSIONS = frozenset({
    ".mp4", ".m4v", ".mov", ".mkv", ".webm", ".avi", ".mpg", ".mpeg", ".m2v", ".ts", ".mts", ".m2ts", ".wmv", ".asf",
    ".flv", ".f4v", ".3gp", ".3g2", ".ogv", ".vob", ".mxf", ".y4m", ".gif",
})
# fmt: on
# The frames of a frame folder; the same as `FRAME_EXTENSIONS` of the decoder, as a test checks.
IMAGE_EXTENSIONS = frozenset({".jpg", ".jpeg", ".png", ".webp", ".bmp", ".tif", ".tiff"})


def find_sources(inputs: Iterable[str | Path]) -> Iterator[Source]:
    """Yield the videos that the inputs name, in the order given, as soon as each input arrives.

    An input is, whichever comes first:
        a frame folder, which holds images and no more: one source;
        a folder: every video below it, in the order of names, `VIDEO_EXTENSIONS` in any case, hidden ones left out;
        a glob, where nothing has that very name: what a shell makes of it (`**` is any depth);
        anything else: itself, so that a file missing or of another kind gets its own failure.
    What is named twice, or reached by two ways, is yielded twice. Links are followed, each folder once, and never back
    to one above.

    Raises:
        UsageError: a folder without a video, a glob without a match. Raised when its turn comes.
    """
    for given in inputs:
        if not _answers(str(given)):
            yield Source.at(str(given))  # its own failure says so, and the others need not wait
            continue
        for name in _expanded(str(given)):
            yield from _sources_in(name) if _is_folder(name) else [Source.at(name)]


def read_paths(stream: BinaryIO, *, nul: bool) -> Iterator[str]:
    """Yield paths from a stream as they arrive, one a line, or with `nul` each ended by a NUL as `find -print0` does.

    Bytes that are no UTF-8 survive, as `os.fsdecode` keeps them. Empty lines and a byte order mark are left out;
    spaces belong to the name.

    Raises:
        UsageError: a NUL in a line.
    """
    records = _ended_by(b"\0" if nul else b"\n", stream)
    for i, record in enumerate(records if nul else (line.rstrip(b"\r") for line in records)):
        name = record.removeprefix(b"\xef\xbb\xbf") if i == 0 else record
        if b"\0" in name:
            raise UsageError("the list of paths holds NUL bytes, as find -print0 writes them; add -0")
        if name:
            yield os.fsdecode(name)


def looks_like_text(path: str | Path) -> bool:
    """Return whether the file begins like UTF-8 text; False for one that is empty or cannot be read."""
    # Incremental: a character that the end of the head cuts in two is no fault of the text.
    decoder = codecs.getincrementaldecoder("utf-8")()
    try:
        text = decoder.decode(_head(path))
    except UnicodeDecodeError:
        return False
    return bool(text) and all(c.isprintable() or c.isspace() or c == "\ufeff" for c in text)


def looks_like_video(path: str | Path) -> bool:
    """Return whether the file begins like a video, or is named like one and is no text."""
    head = _head(path)
    if any(head[at:].startswith(mark) for at, mark in _MARKS):
        return True
    return Path(path).suffix.lower() in VIDEO_EXTENSIONS and not looks_like_text(path)


_HEAD_BYTES, READ_BYTES = 4096, 65536
POLL_S = 0.02
_MARKS = (  # where a container names itself, and how
    (4, b"ftyp"),
    (0, b"\x1a\x45\xdf\xa3"),  # Matroska, WebM
    (8, b"AVI "),
    (0, b"FLV\x01"),
    (0, b"\x00\x00\x01\xba"),  # MPEG-PS
    (0, b"OggS"),
    (0, b"GIF8"),
    (0, b"\x30\x26\xb2\x75"),  # ASF, WMV
)


def _head(path: str | Path) -> bytes:
    """Return the beginning of a file; nothing where it cannot be read, or not soon."""

    def read() -> bytes:
        if not Path(path).is_file():  # a pipe would wait, and what is read of it is gone
            return b""
        with Path(path).open("rb") as file:
            return file.read(_HEAD_BYTES)

    try:
        return call_within(FILE_LIMIT_S, read, otherwise=b"")
    except (OSError, ValueError):
        return b""


def _answers(name: str) -> bool:
    """Return whether the file system says anything at all about a name; one that is gone may not."""
    return call_within(FILE_LIMIT_S, lambda: os.path.lexists(name) is not None, otherwise=False)


def _ended_by(end: bytes, stream: BinaryIO) -> Iterator[bytes]:
    # What is there is taken, without waiting for more.
    read_some = getattr(stream, "read1", stream.read)
    begun = b""
    while (arrived := read_some(READ_BYTES)) != b"":
        if arrived is None:  # a pipe that does not wait by itself
            _wait_for(stream)
            continue
        *records, begun = (begun + arrived).split(end)
        yield from records
    yield begun


def _wait_for(stream: BinaryIO) -> None:
    """Wait until a pipe that does not block has more; where pipes cannot be waited for, for a moment."""
    try:
        select.select([stream], [], [])
    except (OSError, ValueError):  # Windows selects sockets alone; select knows 1024 files
        time.sleep(POLL_S)


def _expanded(given: str) -> list[str]:
    if os.path.lexists(given) or not glob.has_magic(given):
        return [given]
    names = sorted(glob.glob(given, recursive=True))  # noqa: PTH207 - Path.glob drops a leading ./
    if not names and not {"*", "?"} & set(given):
        return [given]  # brackets are common in names: `clip [1].mp4`, which is missing
    if not names:
        raise UsageError(f"{given}: matches no file; check the pattern and the folder it starts in")
    return names


def _sources_in(given: str) -> Iterator[Source]:
    folder = Path(given)
    if _is_frame_folder(folder):
        yield Source.at(given)
        return
    # Videos are yielded while the folder is still being searched: the first answer waits for no million of names.
    n_videos = n_others = 0
    for path in _files_below(folder):
        if path.suffix.lower() in VIDEO_EXTENSIONS or _is_folder(path):
            n_videos += 1
            yield Source(path, _joined(given, path.relative_to(folder)))
        else:
            n_others += 1
    if not n_videos:
        found = f"holds {n_others} file{'s' if n_others > 1 else ''}, none a video" if n_others else "holds no file"
        stray = _stray_file(folder)
        if stray is not None:
            raise UsageError(f"{given}: holds frames, but {stray} is none; remove it, a frame folder holds images only")
        raise UsageError(f"{given}: {found} (.mp4, .mkv, .webm, …); name the files, or a folder that holds videos")


def _joined(given: str, below: Path) -> str:
    """Return the name of what lies below a folder, beginning as the user wrote the folder: `./clips/a.mp4`."""
    return given if below == Path() else os.path.join(given, below)  # noqa: PTH118


def _is_folder(path: str | Path) -> bool:
    return os.path.isdir(path)  # noqa: PTH112 - False where the system refuses; Path.is_dir raises


def _files_below(folder: Path) -> Iterator[Path]:
    """Yield what a folder holds, depth first: files, frame folders, and folders that cannot be listed."""
    # Folders that link to one another would make a number of ways that nobody lives to see the end of.
    linked: set[tuple[int, int]] = set()
    above: list[tuple[int, int]] = []
    left: list[Iterator[Path]] = [iter([folder])]  # no recursion: folders may be deeper than Python's stack
    while left:
        entry = next(left[-1], None)
        if entry is None:
            left.pop()
            above[-1:] = []
        elif entry is folder or (_is_folder(entry) and not _is_frame_folder(entry)):
            try:
                status, names = entry.stat(), _visible(entry)
            except OSError:
                yield entry  # the decoder says why, in a record of its own
                continue
            here = (status.st_dev, status.st_ino)
            if here in above or (entry.is_symlink() and here in linked):
                continue
            if entry.is_symlink():
                linked.add(here)
            above.append(here)
            left.append(map(entry.joinpath, names))
        else:
            yield entry


def _is_frame_folder(folder: Path) -> bool:
    try:
        names = _visible(folder)
    except OSError:
        return False
    return bool(names) and all(_is_image(name) and not _is_folder(folder / name) for name in names)


def _stray_file(folder: Path) -> str | None:
    """Return the first file of a folder of images that is no image; None where images are not most of it."""
    names = _visible(folder)
    strays = [name for name in names if not _is_image(name)]
    return strays[0] if strays and 2 * len(strays) < len(names) else None


def _is_image(name: str) -> bool:
    return Path(name).suffix.lower() in IMAGE_EXTENSIONS


def _visible(folder: Path) -> list[str]:
    # Names, not paths: of 200,000 files, the first is known after 0.3 s instead of 3.9 s.
    return sorted(name for name in os.listdir(folder) if not name.startswith("."))  # noqa: PTH208
