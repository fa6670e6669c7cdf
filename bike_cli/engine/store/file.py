"""The file of the store: where it is, whether it is a store of bike, how it is opened and removed.

SQLite's `application_id` identifies a store of bike, `user_version` is its format, and the schema must be the expected
one to the letter, so that no trigger or view of a foreign file ever runs.
"""

from __future__ import annotations

import contextlib
import os
import shlex
import sqlite3
import struct
import sys
from pathlib import Path
from typing import Literal

from bike_cli.errors import StoreError, concerning

FILE = "features.sqlite"
APPLICATION = 0x42494B45  # "BIKE"
FORMAT = 1  # raised when the tables change
BUSY_S = 10.0  # how long to wait for other processes, which hold the lock for one batch
SCHEMA = (
    "CREATE TABLE files (path BLOB PRIMARY KEY, stamp BLOB NOT NULL, content BLOB NOT NULL, "
    "checksum INTEGER NOT NULL) WITHOUT ROWID",
    "CREATE INDEX files_by_content ON files (content)",
    # The largest cell comes last: SQLite reads the others without it.
    "CREATE TABLE features (id INTEGER PRIMARY KEY, content BLOB NOT NULL, recipe BLOB NOT NULL, "
    "last_used INTEGER NOT NULL, views INTEGER NOT NULL, clips INTEGER NOT NULL, frames INTEGER NOT NULL, "
    "dim INTEGER NOT NULL, duration_s BLOB, warning BLOB, checksum INTEGER NOT NULL, times_s BLOB NOT NULL, "
    "positions BLOB, features BLOB NOT NULL)",
    "CREATE UNIQUE INDEX features_by_key ON features (content, recipe)",
    "CREATE TABLE recipes (recipe BLOB PRIMARY KEY, description BLOB NOT NULL) WITHOUT ROWID",
)
DAMAGED = (sqlite3.DatabaseError, UnicodeDecodeError)  # SQLite's message may quote bytes that are not text
_MAGIC = b"SQLite format 3\0"

Origin = Literal["none", "ours", "foreign"]


class OutOfReachError(StoreError):
    """The store cannot be used: its folder cannot be created, or its file cannot be opened.

    Args:
        fact: what is wrong, without what to do.
    """

    def __init__(self, fact: str) -> None:
        super().__init__(f"{fact}; name another folder with --cache-dir, or use --no-cache")
        self.fact = fact


def default_folder() -> Path:
    """Return the user's cache folder of bike.

    Raises:
        OutOfReachError: the user has no home folder.
    """
    chosen = os.environ.get("XDG_CACHE_HOME", "")
    if Path(chosen).is_absolute():  # the XDG specification says to ignore others
        return Path(chosen) / "bike"
    try:
        home = Path.home()
    except RuntimeError as e:
        raise OutOfReachError("no home folder to keep features in") from e
    if sys.platform == "darwin":
        return home / "Library" / "Caches" / "bike"
    if sys.platform == "win32":
        return Path(os.environ.get("LOCALAPPDATA", home / "AppData" / "Local")) / "bike" / "cache"
    return home / ".cache" / "bike"


@concerning("cache_dir")
def store_file(folder: Path | None) -> Path:
    """Return the path of the store in `folder`, which need not exist; None: the default folder."""
    try:
        return (folder.expanduser() if folder else default_folder()) / FILE
    except RuntimeError as e:  # ~ of an unknown user
        raise OutOfReachError(f"{folder}: cannot be found ({e})") from e


@concerning("cache_dir")
def origin(file: Path) -> Origin:
    """Return whose file this is, from its header alone; SQLite neither opens nor locks it.

    Raises:
        OutOfReachError: it cannot be read.
    """
    try:
        if not file.exists():
            return "none"
        if not file.is_file():
            return "foreign"
        with file.open("rb") as f:
            header = f.read(100)
    except OSError as e:
        raise out_of_reach(file, e) from e
    application, changes_of_schema = header[68:72], header[40:44]
    if header.startswith(_MAGIC) and application == struct.pack(">I", APPLICATION):
        return "ours"
    # Empty, or without a table: another process is creating it, or was killed while it did.
    is_begun = not header or (header.startswith(_MAGIC) and application == changes_of_schema == bytes(4))
    return "none" if is_begun else "foreign"


@concerning("cache_dir")
def connect(file: Path) -> sqlite3.Connection:
    """Return a connection to the store in `file`, which is created if it does not exist.

    Raises:
        StoreError: damaged, of another format or foreign.
        OutOfReachError: the folder or file cannot be opened.
    """
    try:
        file.parent.mkdir(parents=True, exist_ok=True)
    except OSError as e:
        raise out_of_reach(file, e) from e
    if origin(file) == "foreign":
        raise StoreError(f"{file}: is not a store of bike; move it away, or name another folder with --cache-dir")
    try:
        return _prepared(file, str(file))
    except sqlite3.OperationalError as e:
        if not _is_read_only(file):
            raise out_of_reach(file, e) from e
    except DAMAGED as e:
        raise damaged(file, e) from e
    try:
        # In a read-only folder SQLite cannot create its shared files, and does not need them.
        return _prepared(file, f"{file.absolute().as_uri()}?immutable=1")
    except DAMAGED as e:
        raise out_of_reach(file, e) from e


@concerning("cache_dir")
def remove(file: Path) -> int:
    """Remove a store, damaged or not, and return the bytes that it took; a run that has it open continues without.

    Raises:
        StoreError: it is not ours, or cannot be removed.
    """
    if origin(file) == "foreign":
        raise StoreError(f"{file}: is not a store of bike, so it is left alone; remove it yourself")
    freed = bytes_on_disk(file)
    try:
        for part in _parts(file):
            part.unlink(missing_ok=True)
    except OSError as e:
        raise StoreError(f"{file}: cannot be removed ({e}); remove it yourself") from e
    return freed


def bytes_on_disk(file: Path) -> int:
    """Return the size of the store, including SQLite's write-ahead log."""
    sizes = 0
    for part in _parts(file)[:2]:
        with contextlib.suppress(OSError):
            sizes += part.stat().st_size
    return sizes


def damaged(file: Path, fact: object) -> StoreError:
    """Return the error for a damaged store."""
    return StoreError(f"{file}: is damaged ({fact}); {_start_over(file)}, or go without: --no-cache")


def out_of_reach(file: Path, fact: object) -> OutOfReachError:
    """Return the error for a store that cannot be opened."""
    return OutOfReachError(f"{file}: cannot be opened ({fact})")


def _start_over(file: Path) -> str:
    return f"start over with `bike cache prune --all --cache-dir {shlex.quote(str(file.parent))}`"


def _parts(file: Path) -> list[Path]:
    # The file itself first: without it, SQLite ignores the others.
    return [file, *(file.with_name(file.name + ending) for ending in ("-wal", "-shm", "-journal"))]


def _is_read_only(file: Path) -> bool:
    wal = _parts(file)[1]
    unfinished = wal.exists() and wal.stat().st_size > 0
    return file.exists() and not unfinished and not os.access(file.parent, os.W_OK)


def _prepared(file: Path, name: str) -> sqlite3.Connection:
    uri = name.startswith("file:")
    connection = sqlite3.connect(name, timeout=BUSY_S, isolation_level=None, check_same_thread=False, uri=uri)
    try:
        connection.text_factory = bytes  # a damaged cell may be marked as text
        for setting in ("trusted_schema=OFF", "cell_size_check=ON", "synchronous=NORMAL"):
            connection.execute(f"PRAGMA {setting}")
        if pragma(connection, "application_id") == 0:
            _create(connection)
        _check_format(file, connection)
        # Some file systems do not support WAL, and another process may hold the lock; then the mode stays as it is.
        with contextlib.suppress(sqlite3.OperationalError):
            if connection.execute("PRAGMA journal_mode=WAL").fetchone() != (b"wal",):
                connection.execute("PRAGMA synchronous=FULL")  # without WAL, NORMAL may not outlive a power cut
    except (*DAMAGED, StoreError):
        connection.close()
        raise
    return connection


def _create(connection: sqlite3.Connection) -> None:
    connection.execute("PRAGMA auto_vacuum=INCREMENTAL")  # so that pruning shrinks the file step by step
    with connection:
        connection.execute("BEGIN IMMEDIATE")
        if connection.execute("SELECT 1 FROM sqlite_master LIMIT 1").fetchone():
            return  # another process was faster
        for statement in SCHEMA:
            connection.execute(statement)
        connection.execute(f"PRAGMA application_id={APPLICATION}")
        connection.execute(f"PRAGMA user_version={FORMAT}")


def _check_format(file: Path, connection: sqlite3.Connection) -> None:
    version = pragma(connection, "user_version")
    if version != FORMAT:
        raise StoreError(
            f"{file}: is a store of format {version}, but this bike reads {FORMAT}; "
            f"{_start_over(file)}, name another folder with --cache-dir, or go without: --no-cache"
        )
    statements = connection.execute("SELECT sql FROM sqlite_master WHERE sql IS NOT NULL").fetchall()
    if {sql for (sql,) in statements} != {sql.encode() for sql in SCHEMA}:
        raise damaged(file, "its tables are not those of bike")


def pragma(connection: sqlite3.Connection, name: str) -> int:
    """Return a setting or a count of a database."""
    return int(connection.execute(f"PRAGMA {name}").fetchone()[0])
