"""The files of a folder of records: on this machine or in an object store, each written in one step."""

from __future__ import annotations

import json
import logging
import os
import re
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar
from urllib.parse import urlsplit

from bike_cli.data.remote.stores import ask, file_system_of
from bike_cli.data.remote.uris import StoreUri, parse_uri
from bike_cli.errors import InputError, UsageError, fix_of_write
from bike_cli.media import is_store_uri

if TYPE_CHECKING:
    from pyarrow.fs import FileSystem

RUN_FILE = "_run.json"  # what all records of the folder have in common
FORMAT = 1  # of the folder; written to the run file
DONE = "_done"  # begins the names of files that a complete run writes
PART = re.compile(r"part-[0-9a-f]{16}(?P<retry>-retry)?\.parquet")

Result = TypeVar("Result")

logger = logging.getLogger(__name__)


@dataclass(frozen=True)
class PartFolder:
    """A folder that the records of a run are written to.

    Readers of Parquet ignore names that begin with `_` or a dot, so those are of bike alone.

    Args:
        name: as the user wrote it.
        files: where it is.
        path: its path there.
        store: the URI of a folder in an object store; None: it is on this machine, or on a disk that it mounts.
        tag: tells the unfinished files of this run from those of other runs, which work on other videos.
    """

    name: str
    files: FileSystem
    path: str
    store: StoreUri | None = None
    tag: str = "all"

    @property
    def shown(self) -> str:
        """The name with a slash at its end, to which the name of a file can be added."""
        return self.name if self.name.endswith(("/", os.sep)) else f"{self.name}/"

    def file(self, name: str) -> str:
        """Return the path of a file, as the user would write it."""
        return f"{self.shown}{name}"

    def names(self) -> list[str]:
        """Return the names of all files in the folder; none if it does not exist.

        Raises:
            UsageError: the folder cannot be read.
        """
        from pyarrow.fs import FileSelector, FileType

        selector = FileSelector(self.path, allow_not_found=True)
        found = self._run("read", lambda: self.files.get_file_info(selector))
        return sorted(info.base_name for info in found if info.type != FileType.Directory)

    def parts(self) -> list[str]:
        """Return the names of the Parquet files of records."""
        return [name for name in self.names() if PART.fullmatch(name)]

    def create(self, *, expects: str = RUN_FILE) -> None:
        """Create the folder; an object store has none.

        Args:
            expects: a file that it has if bike wrote it.
        Raises:
            UsageError: it cannot be created, or it contains other files and not this one.
        """
        if self.is_local:
            with self._explained("written"):
                if Path(self.path).exists() and not Path(self.path).is_dir():
                    raise UsageError(f"{self.name}: is a file, and Parquet is written to a folder; choose another name")
                Path(self.path).mkdir(parents=True, exist_ok=True)
        names = [name for name in self.names() if not name.startswith((".", DONE))]
        if names and expects not in names:
            problem = f"contains other files (first {names[0]}), and no {expects} of an earlier run"
            raise UsageError(f"{self.name}: {problem}; name a new or an empty folder")

    def read_json(self, name: str) -> dict[str, Any] | None:
        """Return the object in a JSON file; None if there is no such file.

        Raises:
            UsageError: the file cannot be read, or is no JSON object.
        """
        try:
            found = json.loads(self._run("read", lambda: self._content_of(name)))
        except FileNotFoundError:
            return None
        except InputError as e:
            if e.kind != "missing":
                raise
            return None
        except ValueError as e:
            raise UsageError(f"{self.file(name)}: is not valid JSON ({e}); restore it, or name a new folder") from e
        if not isinstance(found, dict):
            raise UsageError(f"{self.file(name)}: is not an object of JSON; restore it, or name a new folder")
        return found

    def write_json(self, name: str, value: object) -> None:
        """Write a JSON file; see `write`."""
        self.write(name, _json(value))

    def create_json(self, name: str, value: object) -> bool:
        """Write a JSON file unless there is one; return whether this call wrote it."""
        if not self.is_local:  # not in one step, but the content is nearly always the same
            if name in self.names():
                return False
            self.write_json(name, value)
            return True
        with self._explained("written"), self._unfinished(name, _json(value)) as unfinished:
            try:
                os.link(unfinished, Path(self.path) / name)
            except FileExistsError:
                return False
            except OSError:  # a file system without hard links
                unfinished.replace(Path(self.path) / name)
        return True

    def read(self, name: str, read: Callable[[Any], Result]) -> Result:
        """Return what a function reads from a file, which it gets as a random access file of pyarrow.

        Raises:
            UsageError: the file cannot be read.
            FileNotFoundError: the file does not exist, in a folder on this machine.
        """

        def opened() -> Result:
            with self.files.open_input_file(f"{self.path}/{name}") as file:
                return read(file)

        return self._run("read", opened)

    def write(self, name: str, content: bytes) -> None:
        """Write a file in one step: whoever reads it, even after a power cut, sees all of it or the earlier one.

        Raises:
            UsageError: it cannot be written.
        """
        if not self.is_local:
            self._run("written", lambda: self._put(name, content))
            return
        with self._explained("written"), self._unfinished(name, content) as unfinished:
            unfinished.replace(Path(self.path) / name)

    def remove_unfinished(self) -> None:
        """Remove the unfinished files of earlier runs with the same tag, which were killed."""
        if self.is_local:
            with self._explained("written"):
                for unfinished in Path(self.path).glob(f".{self.tag}.*.tmp"):
                    unfinished.unlink(missing_ok=True)

    def remove(self, name: str) -> None:
        """Remove a file, if it exists."""
        if name in self.names():
            self._run("written", lambda: self.files.delete_file(f"{self.path}/{name}"))

    @property
    def is_local(self) -> bool:
        """Whether it is on this machine, or on a disk that it mounts."""
        return self.store is None

    def _content_of(self, name: str) -> bytes:
        with self.files.open_input_stream(f"{self.path}/{name}") as stream:
            content: bytes = stream.read()
        return content

    def _put(self, name: str, content: bytes) -> None:
        with self.files.open_output_stream(f"{self.path}/{name}") as stream:
            stream.write(content)

    def _run(self, done: str, operation: Callable[[], Result]) -> Result:
        """Return what an operation on files returns, with its errors as UsageError."""
        if self.store is not None:
            return ask(self.store, operation, done=done)
        with self._explained(done):
            return operation()

    @contextmanager
    def _unfinished(self, name: str, content: bytes) -> Iterator[Path]:
        """Write a file, yield its path to be renamed, and remove it if it still has that path."""
        path = Path(self.path) / f".{self.tag}.{name}.tmp"
        try:
            with path.open("wb") as file:
                file.write(content)
                file.flush()
                os.fsync(file.fileno())
            yield path
        finally:
            with suppress(OSError):
                path.unlink(missing_ok=True)

    @contextmanager
    def _explained(self, done: str) -> Iterator[None]:
        """Turn the errors of a disk into a UsageError that names the folder, except those of a missing file."""
        try:
            yield
        except OSError as e:
            if isinstance(e, FileNotFoundError) and done == "read":
                raise
            problem = e.strerror or str(e).partition("\n")[0]
            way_out = "check that it is a folder, and that you may read it" if done == "read" else fix_of_write(e)
            raise UsageError(f"{self.name}: cannot be {done} ({problem}); {way_out}") from e


def _json(value: object) -> bytes:
    return (json.dumps(value, indent=2) + "\n").encode()


def part_folder(name: str, *, tag: str = PartFolder.tag) -> PartFolder:
    """Return the folder of records of this name, which need not exist; see `PartFolder`.

    Raises:
        UsageError: pyarrow is not installed, or the name is a URI that cannot be used.
    """
    try:
        from pyarrow.fs import LocalFileSystem
    except ImportError as e:
        problem, way_out = "needs pyarrow, which is not installed", "pip install 'bike-cli[parquet]'"
        raise UsageError(f"{name}: a folder of Parquet files {problem}; {way_out}, or name an ordinary file") from e
    if is_store_uri(name):
        uri = parse_uri(name)
        uri = uri.at(f"{uri.key.rstrip('/')}/" if uri.key else "")
        files, path = file_system_of(uri)
        return PartFolder(name, files, path.rstrip("/"), uri, tag)
    if name.lower().startswith("file://"):
        from urllib.request import url2pathname  # here: it imports HTTP and TLS, which start-up does not need

        return PartFolder(name, LocalFileSystem(), str(Path(url2pathname(urlsplit(name).path))), None, tag)
    if is_uri(name):
        raise UsageError(f"{name}: is not a place that bike can write to; give a folder, or s3://bucket/answers/")
    return PartFolder(name, LocalFileSystem(), str(Path(name).absolute()), None, tag)


def is_uri(name: str) -> bool:
    """Return whether a name is a URI, such as `s3://bucket/folder/`; one letter is a drive of Windows."""
    return re.match(r"[A-Za-z][A-Za-z0-9+.-]+://", name) is not None


def is_retry_part(name: str) -> bool:
    """Return whether a part may hold failures that the next run tries again."""
    match = PART.fullmatch(name)
    return match is not None and match["retry"] is not None


def is_part_folder(path: str | Path) -> bool:
    """Return whether a folder on this machine holds the records of a run, or copies of its Parquet files alone."""
    folder = Path(path)
    return (folder / RUN_FILE).is_file() or any(PART.fullmatch(file.name) for file in folder.glob("part-*.parquet"))
