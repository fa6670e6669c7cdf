"""Videos in tar files, such as the shards of WebDataset; they are found by reading the headers only."""

from __future__ import annotations

import re
import tarfile
from collections.abc import Iterator
from contextlib import closing
from dataclasses import dataclass
from itertools import product
from pathlib import Path, PurePosixPath
from typing import BinaryIO, cast

from bike_cli.data.remote.files import buffered, open_file
from bike_cli.data.remote.uris import parse_uri
from bike_cli.data.search import Omissions, is_system_name, kind_of
from bike_cli.data.signatures import describe_content
from bike_cli.errors import InputError, first_line
from bike_cli.media import RemoteFile, is_store_uri
from bike_cli.records import Failure, Source

MOST_SHARDS = 1_000_000  # that braces may stand for
_COMPRESSED = re.compile(r"\.(tgz|tbz2?|txz|tzst|tar\.(gz|bz2|xz|zst|lz4|lzma|Z))$", re.IGNORECASE)
_BRACES = re.compile(r"\{([^{}]*)\}")
_RANGE = re.compile(r"(\d+)\.\.(\d+)")
# What tarfile raises for headers that are damaged or made to harm.
_DAMAGE = (tarfile.TarError, OSError, EOFError, ValueError, OverflowError, KeyError, IndexError, RecursionError)


def is_tar_name(name: str) -> bool:
    """Return whether a path or URI names a tar file, compressed or not."""
    text = str(parse_uri(name).name) if is_store_uri(name) else name
    return text.lower().endswith(".tar") or _COMPRESSED.search(text) is not None


def expand_braces(name: str) -> Iterator[str]:
    """Yield the names that braces stand for: `{000..999}` is a range, and `{train,val}` a choice.

    Raises:
        InputError: a range that counts down, or too many names.
    """
    parts = _BRACES.split(name)
    choices = [_choices(name, part) if i % 2 else [part] for i, part in enumerate(parts)]
    n_names = 1
    for choice in choices:
        n_names *= len(choice)
    if n_names > MOST_SHARDS:
        raise InputError(f"{name}: stands for {n_names:,} names; give at most {MOST_SHARDS:,}", kind="missing")
    yield from ("".join(words) for words in product(*choices))


def _choices(name: str, braced: str) -> list[str] | _Range:
    match = _RANGE.fullmatch(braced)
    if match is None:
        return braced.split(",") if "," in braced else [f"{{{braced}}}"]
    first, last = int(match[1]), int(match[2])
    if first > last:
        raise InputError(f"{name}: {{{braced}}} counts down; write the smaller number first", kind="missing")
    is_padded = any(number.startswith("0") and len(number) > 1 for number in match.groups())
    return _Range(first, last, max(map(len, match.groups())) if is_padded else 0)


@dataclass(frozen=True)
class _Range:
    """Numbers of one width, as texts; a list of them could be too long to keep."""

    first: int
    last: int
    width: int

    def __len__(self) -> int:
        return self.last - self.first + 1

    def __iter__(self) -> Iterator[str]:
        return (f"{number:0{self.width}d}" for number in range(self.first, self.last + 1))


def videos_in_tar(name: str, place: str, omissions: Omissions) -> Iterator[Source | Failure]:
    """Yield the videos in a tar file, in its order; each is named after the tar file and its name in there.

    Files that are not videos and hidden ones are left out. A tar file that is damaged yields the videos before the
    damage and then a failure.

    Args:
        name: of the tar file, as the user gave it.
        place: its URI or local path.
    Raises:
        InputError: it is missing, cannot be read, is compressed, is not a tar file, or contains no video.
    """
    _check_not_compressed(name, b"")
    with closing(open_file(place)) as file, closing(buffered(file)) as stream:
        head = stream.peek(512)[:512]
        _check_not_compressed(name, head)
        n_videos, left_out = 0, Omissions()
        reader = _Reader(name, cast(BinaryIO, stream), file.size)
        for member in reader:
            found = _video(name, place, member, left_out)
            if found is not None:
                n_videos += 1
                yield found
    omissions.update(left_out)
    if reader.error is not None:
        error = reader.error if reader.n_members else _at_start(name, reader.error, head)
        if not n_videos:
            raise error
        yield Failure(_tar(name), error.kind, str(error))
    elif not n_videos:
        raise InputError(_without_video(name, left_out), kind="not_video")


def _tar(name: str) -> Source:
    return Source(parse_uri(name).name if is_store_uri(name) else Path(name), name)


def _at_start(name: str, error: InputError, head: bytes) -> InputError:
    """Return the error for a tar file of which no member can be read; it may be another kind of file."""
    content = describe_content(head)
    if error.kind != "damaged" or content == "a tar archive":
        return error
    what = (
        "is an empty file" if not head else "is not a tar file" if content is None else f"is {content}, not a tar file"
    )
    return InputError(f"{name}: {what}; give one that is not compressed", kind="not_video")


def _without_video(name: str, left_out: Omissions) -> str:
    known = f" but {left_out}" if left_out.counts else ""
    return f"{name}: contains no video (.mp4, .mkv, .webm, …){known}; name a tar file that contains videos"


def _check_not_compressed(name: str, head: bytes) -> None:
    content = describe_content(head) or ""
    if _COMPRESSED.search(str(parse_uri(name).name) if is_store_uri(name) else name) or content.endswith(
        ("gzip archive", "bzip2 archive", "xz archive", "Zstandard archive", "LZ4 archive")
    ):
        problem = "is compressed, so the videos in it cannot be read one by one; unpack it, as in gunzip clips.tar.gz"
        raise InputError(f"{name}: {problem}", kind="not_video")


def _video(name: str, place: str, member: tarfile.TarInfo, omissions: Omissions) -> Source | Failure | None:
    """Return the source of a member, or a failure if it cannot be read; None if it is left out."""
    inner = member.name.removeprefix("./")
    parts = [part for part in PurePosixPath(inner).parts if part not in ("/", "..")]
    full = f"{name}/{inner}"
    if member.isdir() or not parts:
        return None
    if any(is_system_name(part) for part in parts) or any(part.startswith(".") for part in parts):
        omissions.add("hidden", full)
        return None
    if kind_of(inner) != "video":
        omissions.add("file", full)
        return None
    path = _tar(name).path.joinpath(*parts)
    if member.issparse() or not member.isreg():
        what = "a sparse file" if member.issparse() else "a link or a device"
        problem = f"is {what} in the tar file, which bike does not read; pack the video itself"
        return Failure(Source(path, full), "unreadable", f"{full}: {problem}")
    return Source(path, full, RemoteFile(place, member.offset_data, member.size))


class _Reader:
    """The members of a tar file, up to its end or the first damage.

    Attributes:
        error: why the reading ended before the end of the file; None if it did not.
        n_members: the number of intact members.
    """

    def __init__(self, name: str, stream: BinaryIO, size: int) -> None:
        self._name, self._stream, self._size = name, stream, size
        self._last = ""
        self.error: InputError | None = None
        self.n_members = 0

    def __iter__(self) -> Iterator[tarfile.TarInfo]:
        try:
            with tarfile.open(fileobj=self._stream, mode="r:") as tar:
                while (member := tar.next()) is not None:
                    tar.members = []  # type: ignore[attr-defined] # it keeps all, and a tar file may have millions
                    # A sparse file takes less room in a tar file than its size says.
                    is_plain = member.isreg() and not member.issparse()
                    if is_plain and member.offset_data + member.size > self._size:
                        self.error = self._damaged(f"{member.name} is longer than the rest of the file")
                        return
                    self._last = member.name
                    self.n_members += 1
                    yield member
                self._check_end(tar.offset)
        except InputError as e:
            self.error = e
        except _DAMAGE as e:
            self.error = self._damaged(first_line(e))

    def _check_end(self, offset: int) -> None:
        """Note a damaged header, which tarfile takes for the end of the file."""
        self._stream.seek(offset)
        if any(self._stream.read(tarfile.BLOCKSIZE)):
            self.error = self._damaged("invalid header")

    def _damaged(self, problem: str) -> InputError:
        place = f"after {self._last}" if self._last else "at its start"
        text = f"{self._name}: is damaged or cut off {place} ({problem}); copy it again"
        return InputError(text, kind="damaged")
