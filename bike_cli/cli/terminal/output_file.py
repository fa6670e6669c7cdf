"""Write the file of -o: it appears when it is complete, survives crashes, and only one run writes it at a time.

Until a run is complete, its records are in `.NAME.part` next to the file; --resume appends to the file itself.
"""

from __future__ import annotations

import errno
import io
import logging
import os
import shutil
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager, nullcontext, suppress
from pathlib import Path
from typing import NamedTuple, TextIO

from filelock import FileLock, Timeout

from bike_cli.cli.terminal.console import notice
from bike_cli.errors import UsageError

# Without flock, a lock file next to each file keeps runs apart, and an open file cannot be moved or removed.
try:
    import fcntl
except ImportError:
    HAS_FLOCK = False
else:
    HAS_FLOCK = True

logger = logging.getLogger(__name__)

NOT_RESUMED = (".csv", ".tsv", ".json", ".npz")  # endings of the formats that --resume does not continue
WHOLE_LINE = 1 << 20  # bytes of a buffer that any record fits into, so that a single write puts it on disk
COPIED = 1 << 24  # bytes at a time


@contextmanager
def open_output(output: Path) -> Iterator[TextIO]:
    """Yield a stream to a file that gets its name when it is complete, or interrupted while no older file exists.

    Only a complete file replaces an older one. If the run ends in any other way, the records stay in the unfinished
    file, and a warning names it. Something other than an ordinary file, such as /dev/null or a pipe, is written to
    directly. The encoding is UTF-8; bytes of file names that are not UTF-8 are restored.

    Raises:
        UsageError: the file cannot be written, or another run writes it; raised before the first record.
    """
    if output.exists() and not output.is_file():
        with _opened(output) as stream:
            yield stream
        return
    named, output = output, output.resolve()  # keep a symbolic link
    unfinished = _locked(part_of(output), named=named)
    try:
        _refuse_if_taken(output, named=named)
    except UsageError:
        _drop_if_empty(unfinished)
        raise
    _copy_of(unfinished.path).unlink(missing_ok=True)  # from a run that was killed
    if unfinished.size():
        way_out = "" if _is_not_resumed(named) else "; --resume would keep them"
        logger.warning("%s: replaces the records of an unfinished run%s", named, way_out)
    with _Text(unfinished) as stream, _renamed_at_the_end(unfinished, stream, output, named=named):
        yield stream


class Resumed(NamedTuple):
    """A file to append to.

    Attributes:
        path: where to read its existing records.
        keep: takes byte ranges, (start, stop), and removes all other bytes; flush the stream before. If the run is
            killed meanwhile, the file stays as it was.
    """

    path: Path
    stream: TextIO
    keep: Callable[[Sequence[tuple[int, int]]], None]


@contextmanager
def open_resumed(output: Path) -> Iterator[Resumed]:
    """Yield the file that --resume appends to; no other run can write it meanwhile.

    That is the file itself, a new one, or that of an unfinished run if it is newer.

    Raises:
        UsageError: not an ordinary file, one that cannot be written, or one that another run writes.
    """
    if output.exists() and not output.is_file():
        raise UsageError(
            f"{output}: is not an ordinary file, which --resume needs; name one with -o, or leave --resume out"
        )
    named, output = output, output.resolve()
    file = _file_to_resume(output, named=named)
    file.starts_over = False
    with _Text(file) as stream:
        if file.path == output:
            is_complete = False
            try:
                yield Resumed(output, stream, file.keep_ranges)
                is_complete = True
            except KeyboardInterrupt as e:
                e.args = (*e.args, f"written to {named}")
                raise
            finally:
                if not is_complete:
                    _drop_if_empty(file)
        else:
            with _renamed_at_the_end(file, stream, output, named=named):
                yield Resumed(file.path, stream, file.keep_ranges)


def part_of(output: Path) -> Path:
    """Return the path of the records of an unfinished run."""
    return output.with_name(f".{output.name}.part")


class _Locked(io.FileIO):
    """A file locked by this run; its content stays until the first write, which replaces it or appends to it."""

    def __init__(self, path: Path) -> None:
        super().__init__(path, "r+", opener=_open_to_append)
        self.path = path
        self.lock_file: FileLock | None = None
        self.starts_over = True
        self.has_written = False

    def begin(self) -> None:
        """Prepare for a write: the first one drops the content of an earlier run, unless this run appends to it."""
        if not self.has_written:
            if self.starts_over:
                self.truncate(0)
            self.has_written = True

    def size(self) -> int:
        return os.fstat(self.fileno()).st_size

    def keep_ranges(self, ranges: Sequence[tuple[int, int]]) -> None:
        """Remove all bytes outside of these ranges; see `Resumed`."""
        if not ranges or (len(ranges) == 1 and ranges[0][0] == 0):
            self.truncate(ranges[0][1] if ranges else 0)
            return
        copy = _copy_of(self.path)
        try:
            with self.path.open("rb") as old, _Locked(copy) as new:
                if HAS_FLOCK:
                    with suppress(OSError):  # a file system without locks
                        new.lock()
                new.truncate(0)
                for start, stop in ranges:
                    old.seek(start)
                    for position in range(start, stop, COPIED):
                        piece = memoryview(old.read(min(COPIED, stop - position)))
                        while piece:
                            piece = piece[io.FileIO.write(new, piece) :]
                shutil.copymode(self.path, copy)
                os.fsync(new.fileno())
                if HAS_FLOCK:
                    copy.replace(self.path)
                    os.dup2(new.fileno(), self.fileno(), inheritable=False)  # with its lock
            if not HAS_FLOCK:
                super().close()  # an open file cannot be replaced; the lock file stays
                copy.replace(self.path)
                super().__init__(self.path, "r+", opener=_open_to_append)
        finally:
            copy.unlink(missing_ok=True)  # unless it has replaced the file

    def rename(self, target: Path) -> None:
        self._release_on_windows()
        self.path.replace(target)
        self.path = target

    def unlink(self) -> None:
        self._release_on_windows()
        self.path.unlink()
        self.close()

    def lock(self) -> None:
        """Keep other runs from writing the file until it is closed.

        Raises:
            BlockingIOError: another run has locked it.
            OSError: the file system has no locks.
        """
        if HAS_FLOCK:
            fcntl.flock(self.fileno(), fcntl.LOCK_EX | fcntl.LOCK_NB)
            return
        lock_file = FileLock(self.path.with_name(f".{self.path.name.lstrip('.')}.lock"), thread_local=False)
        try:
            lock_file.acquire(timeout=0)
        except Timeout as e:
            raise BlockingIOError from e
        self.lock_file = lock_file

    def close(self) -> None:
        super().close()
        if self.lock_file is not None:
            lock_file, self.lock_file = self.lock_file, None
            lock_file.release()
            with suppress(OSError):
                Path(lock_file.lock_file).unlink(missing_ok=True)

    def _release_on_windows(self) -> None:
        if not HAS_FLOCK:
            self.close()


def _copy_of(path: Path) -> Path:
    return path.with_name(f".{path.name.lstrip('.')}.copy")


def _open_to_append(name: str, flags: int) -> int:
    # 0o666 minus the umask, like any new file.
    return os.open(name, flags | os.O_CREAT | os.O_APPEND, 0o666)


def _locked(path: Path, *, named: Path) -> _Locked:
    while True:
        try:
            file = _Locked(path)
        except OSError as e:
            raise _unwritable(named, e) from e
        try:
            file.lock()
        except BlockingIOError as e:
            file.close()
            raise UsageError(f"{named}: another run is writing it; wait for that, or choose another name for -o") from e
        except OSError:
            return file  # a file system without locks
        if not HAS_FLOCK or _is_at(file, path):
            return file
        file.close()  # a run that has just ended renamed or removed it


def _is_at(file: _Locked, path: Path) -> bool:
    try:
        return os.path.samestat(path.stat(), os.fstat(file.fileno()))
    except FileNotFoundError:
        return False


def _refuse_if_taken(output: Path, *, named: Path) -> None:
    # A run with --resume locks the file itself. A file that cannot be opened can still be replaced.
    if output.exists() and os.access(output, os.W_OK):
        _locked(output, named=named).close()


def _file_to_resume(output: Path, *, named: Path) -> _Locked:
    """Return the file to append to. The lock of the unfinished file keeps two runs from choosing at the same time."""
    unfinished = _locked(part_of(output), named=named)
    if not output.exists():
        unfinished.rename(output)  # with its lock
        return _locked(output, named=named) if unfinished.closed else unfinished
    try:
        finished = _locked(output, named=named)
    except UsageError:
        _drop_if_empty(unfinished)
        raise
    if unfinished.size() and unfinished.path.stat().st_mtime_ns >= output.stat().st_mtime_ns:
        logger.warning("%s: continues %s, which is newer and replaces it at the end", named, unfinished.path.name)
        finished.close()
        return unfinished
    if unfinished.size():
        logger.warning("%s: %s, left by an older run, is ignored; remove it", named, unfinished.path.name)
    _drop_if_empty(unfinished)
    unfinished.close()
    return finished


def _drop_if_empty(file: _Locked) -> None:
    if not file.closed and not file.size():
        file.unlink()


@contextmanager
def _renamed_at_the_end(file: _Locked, stream: TextIO, output: Path, *, named: Path) -> Iterator[None]:
    is_whole = is_interrupted = False
    try:
        yield
        is_whole = True
    except KeyboardInterrupt as e:
        is_interrupted = True
        if file.has_written:
            kept = f"written to {named}" if not output.exists() else f"{named.name} is unchanged; {_kept(file, named)}"
            e.args = (*e.args, kept)
        raise
    finally:
        with suppress(OSError) if not is_whole else nullcontext():  # it would hide the first error
            stream.flush()
        if is_whole:
            file.begin()  # a run without records leaves an empty file
        if is_whole or (is_interrupted and file.has_written and not output.exists()):
            file.rename(output)
        elif file.has_written:
            if not is_interrupted:
                notice(f"{named}: is not complete; {_kept(file, named)}", level="warning")
        else:
            _drop_if_empty(file)  # nothing to keep, and an older file may exist


def _kept(file: _Locked, named: Path) -> str:
    kept = f"its records are in {_as_named(file.path, named)}"
    return kept if _is_not_resumed(named) else f"{kept}, and --resume continues them"


def _is_not_resumed(named: Path) -> bool:
    return named.suffix.lower() in NOT_RESUMED


def _as_named(path: Path, named: Path) -> Path:
    """Return the path of a file next to the output, written as the user wrote that of the output.

    The output may be a symbolic link to a file in another folder; then the path stays as it is.
    """
    beside = named.with_name(path.name)
    return beside if beside.parent.resolve() == path.parent else path


class _Text(io.TextIOWrapper):
    """The text layer above a locked file.

    This layer, not the file, prepares the first write: Ctrl-C may arrive between any two lines of Python, and a buffer
    whose file is interrupted after a write would write the same bytes again.
    """

    def __init__(self, file: _Locked) -> None:
        buffer = io.BufferedWriter(file, WHOLE_LINE)
        super().__init__(buffer, encoding="utf-8", errors="surrogateescape", newline="")
        self._bytes = buffer
        self._file = file

    def write(self, text: str) -> int:
        self._file.begin()
        return super().write(text)

    @property
    def buffer(self) -> io.BufferedWriter[_Locked]:
        """The stream for formats that are not text. Asking for it starts the file, as a first `write` does."""
        self._file.begin()
        return self._bytes


def _opened(file: Path) -> TextIO:
    try:
        return file.open("w", encoding="utf-8", errors="surrogateescape", newline="")
    except OSError as e:
        raise _unwritable(file, e) from e


def _unwritable(named: Path, e: OSError) -> UsageError:
    if e.errno == errno.ENOENT and not named.absolute().parent.exists():
        return UsageError(f"{named}: its folder does not exist; create it, or choose another")
    way_out = "choose a shorter name" if e.errno == errno.ENAMETOOLONG else "choose a folder that you may write to"
    return UsageError(f"{named}: cannot be written ({e.strerror}); {way_out}")
