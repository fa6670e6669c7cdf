"""Reports what the store holds, and makes it smaller."""

from __future__ import annotations

import math
import sqlite3
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from bike_cli.engine.store.file import DAMAGED, bytes_on_disk, damaged, pragma
from bike_cli.engine.store.rows import OF_TEXTS
from bike_cli.errors import StoreError

STEP_ROWS, STEP_PAGES = 1000, 2000  # a transaction; other processes write in between
# The features of a long video are stored in parts, whose recipes differ after the first 32 bytes.
# Those of texts have a mark there.
_IS_VIDEO = f"substr(x.recipe, 33) <> x'{OF_TEXTS.hex()}'"
_BY_RECIPE = f"""
SELECT substr(x.recipe, 1, 32), r.description, count(DISTINCT CASE WHEN {_IS_VIDEO} THEN x.content END),
    CAST(total(4 * x.views * x.frames * x.dim) AS INTEGER),
    coalesce(max(CAST(x.last_used AS INTEGER)), 0)
FROM features x LEFT JOIN recipes r ON r.recipe = substr(x.recipe, 1, 32)
GROUP BY 1 ORDER BY 5 DESC, 1
"""


@dataclass(frozen=True)
class RecipeInfo:
    """The features of one recipe.

    Args:
        recipe: its description, or its hash without one; both where another has the same description, as a model has
            that was trained again in the same folder.
        videos: number of different contents; 0 for the features of texts.
        last_used: seconds since 1970.
    """

    recipe: str
    videos: int
    bytes: int
    last_used: int


@dataclass(frozen=True)
class StoreInfo:
    """What a store holds.

    Args:
        bytes: on disk.
        videos: number of different contents.
        files: number of remembered paths.
        last_used: seconds since 1970; None while the store is empty.
    """

    file: Path
    bytes: int
    videos: int
    files: int
    last_used: int | None
    recipes: tuple[RecipeInfo, ...]


@dataclass(frozen=True)
class Pruned:
    """What was deleted.

    Args:
        features: rows of videos, each of one under one recipe; None if the store was removed without reading it.
        files: remembered paths; None likewise.
        bytes_before, bytes_after: on disk.
    """

    features: int | None
    files: int | None
    bytes_before: int
    bytes_after: int


def survey(connection: sqlite3.Connection, file: Path) -> StoreInfo:
    """Return what the store in `file` holds.

    Raises:
        StoreError: the store is damaged, or busy for too long.
    """
    with _translated(file):
        (videos,) = connection.execute(f"SELECT count(DISTINCT x.content) FROM features x WHERE {_IS_VIDEO}").fetchone()
        (files,) = connection.execute("SELECT count(*) FROM files").fetchone()
        rows = connection.execute(_BY_RECIPE).fetchall()
    shared = Counter(row[1] for row in rows)
    recipes = tuple(RecipeInfo(_described(*row[:2], is_shared=shared[row[1]] > 1), *map(int, row[2:])) for row in rows)
    last_used = max((r.last_used for r in recipes), default=None)
    return StoreInfo(file, bytes_on_disk(file), int(videos), int(files), last_used, recipes)


def evict(connection: sqlite3.Connection, file: Path, *, max_bytes: int | None, unused_since: float | None) -> Pruned:
    """Delete rows last used before a time, then the least recently used until the file fits; shrink it.

    A remembered path is deleted with the last features of its content. Features stay when their file has disappeared:
    it may have been moved, and is found by its content.
    """
    before = bytes_on_disk(file)
    with _translated(file):
        features = _videos(connection)
        if unused_since is not None:
            rows = connection.execute("SELECT id FROM features WHERE last_used < ?", (unused_since,)).fetchall()
            _delete(connection, rows)
        if max_bytes is not None:
            rows = connection.execute("SELECT id FROM features ORDER BY last_used, id").fetchall()
            _delete_until_it_fits(connection, rows, max_bytes)
        features -= _videos(connection)
        files = connection.execute("DELETE FROM files WHERE content NOT IN (SELECT content FROM features)").rowcount
        connection.execute("DELETE FROM recipes WHERE recipe NOT IN (SELECT substr(recipe, 1, 32) FROM features)")
        _shrink(connection)
    return Pruned(features, files, before, bytes_on_disk(file))


def _videos(connection: sqlite3.Connection) -> int:
    """Return the number of rows with the features of a video, or of a part of one."""
    return int(connection.execute(f"SELECT count(*) FROM features x WHERE {_IS_VIDEO}").fetchone()[0])


def _delete_until_it_fits(connection: sqlite3.Connection, oldest: list[tuple[int]], max_bytes: int) -> None:
    deleted = 0
    while deleted < len(oldest) and (excess := _live_bytes(connection) - max_bytes) > 0:
        row_bytes = _live_bytes(connection) / (len(oldest) - deleted)
        step = max(1, int(excess / row_bytes))  # not more than are too many, if all are of one size
        _delete(connection, oldest[deleted : deleted + step])
        deleted += step


def _delete(connection: sqlite3.Connection, rows: list[tuple[int]]) -> None:
    for start in range(0, len(rows), STEP_ROWS):
        with connection:
            connection.execute("BEGIN IMMEDIATE")
            connection.executemany("DELETE FROM features WHERE id = ?", rows[start : start + STEP_ROWS])


def _shrink(connection: sqlite3.Connection) -> None:
    free, before = pragma(connection, "freelist_count"), math.inf
    while 0 < free < before:
        # A step of the statement frees one page. As it has no columns, sqlite3 takes one step only, except in a script.
        connection.executescript(f"PRAGMA incremental_vacuum({STEP_PAGES})")
        free, before = pragma(connection, "freelist_count"), free
    connection.execute("PRAGMA wal_checkpoint(TRUNCATE)").fetchall()


def _live_bytes(connection: sqlite3.Connection) -> int:
    pages = pragma(connection, "page_count") - pragma(connection, "freelist_count")
    return pages * pragma(connection, "page_size")


def _described(recipe: object, description: object, *, is_shared: bool) -> str:
    digest = recipe.hex() if isinstance(recipe, bytes) else ""
    if not isinstance(description, bytes):
        return digest
    text = description.decode("utf-8", "replace")
    return f"{text} ({digest[:8]})" if is_shared else text


@contextmanager
def _translated(file: Path) -> Iterator[None]:
    try:
        yield
    except sqlite3.ProgrammingError:
        raise  # a bug: the store was closed
    except sqlite3.OperationalError as e:
        raise StoreError(f"{file}: is busy or cannot be opened now ({e}); try again when no other run uses it") from e
    except DAMAGED as e:
        raise damaged(file, e) from e
