"""Frame features on disk, so that a second run with other labels decodes nothing.

The store maps a file's path and stamp to the hash of its content, and content and recipe to features, which come back
bit by bit. Threads and processes may share a store. It never stops a run: features that cannot be written are dropped
with one warning; only a damaged or foreign store is an error.
"""

from __future__ import annotations

import hashlib
import json
import logging
import os
import sqlite3
import threading
import time
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path

from bike_cli.config import StoreConfig
from bike_cli.engine.store.file import DAMAGED, OutOfReachError, connect, damaged, store_file
from bike_cli.engine.store.rows import COLUMNS, OF_TEXTS, Row, StoredFeatures, checksum, pack, unpack
from bike_cli.engine.store.upkeep import Pruned, StoreInfo, evict, survey
from bike_cli.records import VideoFeatures
from bike_cli.settings import settings_affecting

__all__ = ["Lookup", "Pruned", "Store", "StoreInfo", "StoredFeatures", "open_store", "recipe_key", "text_recipe"]

TEXT_VERSION = 1  # raise it when the same texts give other features, so that old ones are not found
READER_VERSION = 2  # raise it when decoding or preprocessing give other pixels, so that old features are not found
BATCH_ROWS, BATCH_BYTES, BATCH_S = 256, 16 * 2**20, 1.0
DAMAGED_ROW = "has a damaged row, which is computed again"
USED_EVERY_S = 24 * 3600  # a row's last use is written at most once a day

_CELLS = ", ".join(f"x.{column}" for column in COLUMNS)
_LOOKUP = (
    f"SELECT f.content, f.checksum, x.id, x.last_used, {_CELLS} FROM files f "
    "LEFT JOIN features x ON x.content = f.content AND x.recipe = ? WHERE f.path = ? AND f.stamp = ?"
)
_FEATURES = f"SELECT x.id, x.last_used, {_CELLS} FROM features x WHERE x.content = ? AND x.recipe = ?"
_RECIPES = "SELECT x.recipe FROM features x WHERE x.content = ? AND x.recipe BETWEEN ? AND ?"
_KEEP = (
    f"INSERT OR REPLACE INTO features (content, recipe, last_used, {', '.join(COLUMNS)}) "
    f"VALUES ({', '.join('?' * (3 + len(COLUMNS)))})"
)

logger = logging.getLogger(__name__)


@dataclass(frozen=True)
class Lookup:
    """What the store knows about a file: nothing, the hash of its content, or its features as well."""

    content: bytes | None = None
    features: StoredFeatures | None = None


@dataclass
class _Pending:
    """Changes that the next transaction writes."""

    files: dict[bytes, tuple[bytes, bytes]] = field(default_factory=dict)  # path -> stamp, content
    rows: dict[tuple[bytes, bytes], Row] = field(default_factory=dict)  # content, recipe -> cells
    recipes: dict[bytes, str] = field(default_factory=dict)
    used: dict[int, int] = field(default_factory=dict)  # row -> when
    bad_rows: set[int] = field(default_factory=set)
    bad_files: set[bytes] = field(default_factory=set)
    size: int = 0  # of the rows, in bytes

    @property
    def is_full(self) -> bool:
        return len(self.rows) + len(self.files) // 8 + len(self.used) // 8 >= BATCH_ROWS or self.size >= BATCH_BYTES


class Store:
    """The features kept in one folder; see `Store.open`."""

    def __init__(self, file: Path, connection: sqlite3.Connection) -> None:
        self.file = file
        self._connection = connection
        self._lock = threading.RLock()
        self._pending = _Pending()
        self._written_at = 0.0
        self._can_write = True
        self._warned: set[str] = set()

    @classmethod
    def open(cls, folder: Path | None) -> Store:
        """Return the store in `folder`, which is created if it does not exist; None: the user's cache folder.

        Raises:
            StoreError: damaged, foreign, of another format, or out of reach.
        """
        file = store_file(folder)
        return cls(file, connect(file))

    def __enter__(self) -> Store:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def lookup(self, path: str, stamp: bytes, recipe: bytes) -> Lookup:
        """Return what the store knows about the file at `path` with this stamp.

        Raises:
            StoreError: the store is damaged.
        """
        name = os.fsencode(path)
        with self._lock:
            if name in self._pending.files:
                known, pending = self._pending.files[name]
                return Lookup(pending, self.features(pending, recipe)) if known == stamp else Lookup()
            rows = self._rows(_LOOKUP, (recipe, name, stamp))
            if not rows:
                return Lookup()
            row = rows[0]
            content, written = row[:2]
            if not isinstance(content, bytes) or checksum((name, stamp, content)) != written:
                self._pending.bad_files.add(name)
                self._warn("row", DAMAGED_ROW)
                return Lookup()
            return Lookup(content, self._unpacked(content, recipe, row[2:]))

    def content(self, path: str, stamp: bytes) -> bytes | None:
        """Return the hash of the file's content; None if it is not known."""
        return self.lookup(path, stamp, b"").content

    def remember(self, path: str, stamp: bytes, content: bytes) -> None:
        """Remember the content of the file at `path` with this stamp."""
        with self._lock:
            self._pending.files[os.fsencode(path)] = (stamp, content)
            self._write_if_due()

    def features(self, content: bytes, recipe: bytes) -> StoredFeatures | None:
        """Return the features of a content under a recipe; None if they are not stored.

        Raises:
            StoreError: the store is damaged.
        """
        with self._lock:
            return self._unpacked(content, recipe, next(iter(self._rows(_FEATURES, (content, recipe))), (None,)))

    def recipes(self, content: bytes, first: bytes, last: bytes) -> list[bytes]:
        """Return the recipes from `first` to `last` under which a content has features, in order.

        Raises:
            StoreError: the store is damaged.
        """
        with self._lock:
            pending = {recipe for other, recipe in self._pending.rows if other == content and first <= recipe <= last}
            stored = {recipe for (recipe,) in self._rows(_RECIPES, (content, first, last)) if isinstance(recipe, bytes)}
            return sorted(pending | stored)

    def keep(self, content: bytes, recipe: bytes, features: VideoFeatures) -> None:
        """Store features.

        Raises:
            StoreError: the store is damaged.
            ValueError: features that are not float32.
        """
        row = pack(content, recipe, features)
        with self._lock:
            self._pending.rows[content, recipe] = row
            self._pending.size += len(row.features)
            self._write_if_due()

    def describe(self, recipe: bytes, text: str) -> None:
        """Store a description of a recipe, which `info` shows."""
        with self._lock:
            self._pending.recipes[recipe] = text

    def flush(self) -> None:
        """Write pending changes; those that cannot be written are dropped with a warning.

        Raises:
            StoreError: the store is damaged.
        """
        with self._lock:
            pending, self._pending = self._pending, _Pending()
            self._written_at = time.monotonic()
            if not self._can_write or pending == _Pending():
                return
            try:
                _write(self._connection, pending)
            except sqlite3.ProgrammingError:
                raise
            except sqlite3.OperationalError as e:
                self._can_write = False
                if pending.files or pending.rows:
                    self._warn("write", f"cannot be written ({e}); continuing without the cache")
            except DAMAGED as e:
                raise damaged(self.file, e) from e

    def close(self) -> None:
        """Write pending changes, and close the file."""
        with self._lock:
            try:
                self.flush()
            finally:
                self._connection.close()

    def info(self) -> StoreInfo:
        """Return what the store holds.

        Raises:
            StoreError: the store is damaged.
        """
        with self._lock:
            self.flush()
            return survey(self._connection, self.file)

    def prune(self, max_bytes: int | None, unused_days: float | None) -> Pruned:
        """Delete features that were unused for this many days, then the least recently used until the rest fits.

        Raises:
            StoreError: the store is damaged, or cannot be written now.
        """
        with self._lock:
            self.flush()
            before = None if unused_days is None else time.time() - 24 * 3600 * unused_days
            return evict(self._connection, self.file, max_bytes=max_bytes, unused_since=before)

    def _rows(self, query: str, parameters: Sequence[object]) -> Sequence[Sequence[object]]:
        try:
            rows: Sequence[Sequence[object]] = self._connection.execute(query, parameters).fetchall()
        except sqlite3.ProgrammingError:
            raise  # a bug: the store is closed
        except sqlite3.OperationalError as e:
            if self._can_write:  # otherwise a full disk, say, was reported before
                self._warn("read", f"cannot be read now ({e}); continuing without it")
            return ()
        except DAMAGED as e:
            raise damaged(self.file, e) from e
        return rows

    def _unpacked(self, content: bytes, recipe: bytes, found: Sequence[object]) -> StoredFeatures | None:
        """Return the features in a row (id, last use, cells), or else the pending ones."""
        row_id, *rest = found
        if isinstance(row_id, int):
            try:
                kept = unpack(content, recipe, rest[1:])
            except ValueError:
                self._pending.bad_rows.add(row_id)
                self._warn("row", DAMAGED_ROW)
            else:
                self._note_use(row_id, rest[0])
                return kept
        pending = self._pending.rows.get((content, recipe))
        return None if pending is None else unpack(content, recipe, pending)

    def _note_use(self, row_id: int, last_used: object) -> None:
        now = int(time.time())
        # A last use in the future comes from a wrong clock or a damaged cell.
        if not isinstance(last_used, int) or abs(now - last_used) >= USED_EVERY_S:
            self._pending.used[row_id] = now
            if self._pending.is_full:
                self.flush()

    def _write_if_due(self) -> None:
        if self._pending.is_full or time.monotonic() - self._written_at >= BATCH_S:
            self.flush()

    def _warn(self, kind: str, fact: str) -> None:
        if kind not in self._warned:
            self._warned.add(kind)
            logger.warning("%s: %s", self.file, fact)


def _write(connection: sqlite3.Connection, pending: _Pending) -> None:
    """Write all in one transaction, or nothing."""
    now, run = int(time.time()), connection.executemany
    with connection:  # commits, or rolls back: an open transaction would block other processes
        connection.execute("BEGIN IMMEDIATE")
        run("DELETE FROM features WHERE id = ?", [(row,) for row in pending.bad_rows])
        run("DELETE FROM files WHERE path = ?", [(path,) for path in pending.bad_files])
        run("UPDATE features SET last_used = ? WHERE id = ?", [(when, row) for row, when in pending.used.items()])
        files = [(path, *known, checksum((path, *known))) for path, known in pending.files.items()]
        run("INSERT OR REPLACE INTO files (path, stamp, content, checksum) VALUES (?, ?, ?, ?)", files)
        run(_KEEP, [(*key, now, *row) for key, row in pending.rows.items()])
        texts = [(recipe, text.encode("utf-8", "surrogatepass")) for recipe, text in pending.recipes.items()]
        run("INSERT OR REPLACE INTO recipes (recipe, description) VALUES (?, ?)", texts)


def open_store(config: StoreConfig) -> Store | None:
    """Return the store that a config names; None if the cache is off, or its folder cannot be used.

    Raises:
        StoreError: a store that is damaged, foreign or of another format.
    """
    if not config.cache:
        logger.info("cache: off")
        return None
    try:
        store = Store.open(Path(config.cache_dir) if config.cache_dir else None)
        logger.info("cache: %s", store.file)
        return store
    except OutOfReachError as e:
        logger.warning("%s; continuing without the cache", e.fact)
        return None


def recipe_key(identity: str, config: object) -> bytes:
    """Return a hash of all that features depend on apart from the content: the model, the pixels, the reader code."""
    recipe = {"reader": READER_VERSION, "model": identity, **settings_affecting(config, "pixels")}
    return hashlib.sha256(json.dumps(recipe, sort_keys=True).encode()).digest()


def text_recipe(identity: str, positions: str) -> bytes:
    """Return the recipe of the features of texts: a hash of all that these depend on, and a mark.

    Args:
        identity: of the text tower; see `Engine.text_identity`.
        positions: whose features are kept.
    """
    recipe = {"texts": TEXT_VERSION, "model": identity, "positions": positions}
    return hashlib.sha256(json.dumps(recipe, sort_keys=True).encode()).digest() + OF_TEXTS
