"""A foreign or damaged store is refused or counts as a miss; it is never misread."""

import contextlib
import logging
import random
import sqlite3
from pathlib import Path

import pytest
from store_cases import CONTENT, OTHER, RECIPE, SOURCE, features, filled, kept, raw, same_bits, sql

from bike_cli.engine.store import file as store_file
from bike_cli.engine.store.store import Lookup, Store
from bike_cli.errors import StoreError


def foreign_database(file: Path, application: int, *statements: str) -> None:
    connection = sqlite3.connect(file)
    connection.execute(f"PRAGMA application_id={application}")
    for statement in statements:
        connection.execute(statement)
    connection.commit()
    connection.close()


@pytest.mark.parametrize("kind", ["text", "short", "random", "database", "another program's", "folder"])
def test_a_foreign_file_is_refused_and_left_alone(tmp_path: Path, kind: str) -> None:
    file = tmp_path / store_file.FILE
    if kind == "folder":
        file.mkdir()
    elif kind in ("database", "another program's"):
        foreign_database(file, 0 if kind == "database" else 7, "CREATE TABLE features (id)")
    else:
        file.write_bytes({"text": b"notes\n" * 999, "short": b"x", "random": random.Random(1).randbytes(9999)}[kind])
    before = None if kind == "folder" else file.read_bytes()

    with pytest.raises(StoreError, match=r"features\.sqlite: is not a store of bike; move it away"):
        Store.open(tmp_path)
    with pytest.raises(StoreError, match="left alone"):
        store_file.remove(file)

    assert list(tmp_path.iterdir()) == [file]
    assert before is None or file.read_bytes() == before


def test_a_store_whose_creator_was_killed_is_created(tmp_path: Path) -> None:
    sql(tmp_path, "PRAGMA auto_vacuum=INCREMENTAL")  # writes the first page
    assert (tmp_path / store_file.FILE).stat().st_size == 4096

    with Store.open(tmp_path) as store:
        store.keep(CONTENT, RECIPE, features(1))
        store.flush()

        assert same_bits(kept(store, CONTENT), features(1))


@pytest.mark.parametrize("version", [0, 2])
def test_another_format_is_refused(tmp_path: Path, version: int) -> None:
    Store.open(tmp_path).close()
    sql(tmp_path, f"PRAGMA user_version={version}")

    with pytest.raises(StoreError, match=f"format {version}, but this bike reads 1; start over with `bike cache"):
        Store.open(tmp_path)


def test_a_file_with_additional_tables_is_refused(tmp_path: Path) -> None:
    Store.open(tmp_path).close()
    sql(tmp_path, "CREATE TRIGGER t AFTER INSERT ON files BEGIN DELETE FROM features; END")

    with pytest.raises(StoreError, match="its tables are not those of bike"):
        Store.open(tmp_path)


def use(folder: Path, videos: int = 30) -> None:
    """Read and write everything; what is found must be correct."""
    with Store.open(folder) as store:
        for i in range(videos):
            found = store.lookup(f"/{i}.mp4", b"1", RECIPE)
            assert found.content in (None, i.to_bytes(32, "big"))
            if found.features is not None:
                assert same_bits(found.features.of(SOURCE), features(i, views=1 + i % 3, dim=40))
        for i in range(videos):
            store.keep(i.to_bytes(32, "big"), RECIPE, features(i, views=1 + i % 3, dim=40))
        store.info()
        store.prune(40_000, None)


@pytest.mark.parametrize("size", [100, 4096, 4097, 20_000, -4096])
def test_a_truncated_store_is_damaged(tmp_path: Path, size: int) -> None:
    whole = filled(tmp_path)
    (tmp_path / store_file.FILE).write_bytes(whole[:size])

    with pytest.raises(StoreError, match=r"is damaged \(.*\); start over with `bike cache prune --all"):
        use(tmp_path)


@pytest.mark.parametrize("seed", range(40))
def test_flipped_bits_are_never_misread(tmp_path: Path, seed: int, caplog: pytest.LogCaptureFixture) -> None:
    broken, rng = bytearray(filled(tmp_path)), random.Random(seed)
    for _ in range(3 ** (seed % 6)):
        broken[rng.randrange(len(broken))] ^= 1 << rng.randrange(8)
    (tmp_path / store_file.FILE).write_bytes(broken)

    with contextlib.suppress(StoreError):
        use(tmp_path)

    assert len(caplog.records) <= 1


def test_an_empty_page_is_damage_for_the_call_that_reads_it(tmp_path: Path) -> None:
    whole = filled(tmp_path)
    ((page,),) = sql(tmp_path, "SELECT rootpage FROM sqlite_master WHERE name = 'features'")
    assert isinstance(page, int)
    start = (page - 1) * 4096
    (tmp_path / store_file.FILE).write_bytes(whole[:start] + bytes(4096) + whole[start + 4096 :])

    with Store.open(tmp_path) as store, pytest.raises(StoreError, match="malformed"):
        store.features((0).to_bytes(32, "big"), RECIPE)


def say_of_features(folder: Path, schema: str) -> None:
    """Overwrite SQLite's schema of the table, so that it accepts any cell."""
    with raw(folder) as other:
        other.execute("PRAGMA writable_schema=ON")
        other.execute("UPDATE sqlite_master SET sql = ? WHERE name = 'features'", (schema,))


@pytest.mark.parametrize(
    "change",
    [
        "features = zeroblob(length(features))",
        "features = substr(features, 2)",
        "features = 'text'",
        "features = 1",
        "dim = dim + 1",
        "views = -views, dim = -dim",
        "clips = 0",
        "frames = NULL",
        "times_s = zeroblob(64)",
        "positions = NULL",
        "warning = x'61'",
        "duration_s = x'61'",
        "checksum = checksum + 1",
    ],
)
def test_a_damaged_row_is_a_miss_and_deleted(tmp_path: Path, change: str, caplog: pytest.LogCaptureFixture) -> None:
    with Store.open(tmp_path) as store:
        store.keep(CONTENT, RECIPE, features(1))
        store.keep(OTHER, RECIPE, features(2))
        store.keep(CONTENT, OTHER, features(3))
    say_of_features(tmp_path, store_file.SCHEMA[2].replace(" NOT NULL", ""))
    sql(tmp_path, f"UPDATE features SET {change} WHERE content = ?", CONTENT)
    say_of_features(tmp_path, store_file.SCHEMA[2])

    with Store.open(tmp_path) as store:
        assert store.features(CONTENT, RECIPE) is None
        assert store.features(CONTENT, OTHER) is None
        assert same_bits(kept(store, OTHER), features(2))

    assert sql(tmp_path, "SELECT content FROM features") == [(OTHER,)]
    assert [r.levelno for r in caplog.records] == [logging.WARNING]


def test_a_row_with_another_key_is_a_miss(tmp_path: Path) -> None:
    with Store.open(tmp_path) as store:
        store.keep(CONTENT, RECIPE, features(1))
    sql(tmp_path, "UPDATE features SET content = ?", OTHER)

    with Store.open(tmp_path) as store:
        assert store.features(OTHER, RECIPE) is None


def test_a_damaged_row_of_a_file_is_a_miss_and_deleted(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    with Store.open(tmp_path) as store:
        store.remember("/a.mp4", b"1", CONTENT)
        store.keep(OTHER, RECIPE, features(1))
    sql(tmp_path, "UPDATE files SET content = ?", OTHER)

    with Store.open(tmp_path) as store:
        assert store.lookup("/a.mp4", b"1", RECIPE) == Lookup()

    assert sql(tmp_path, "SELECT * FROM files") == []
    assert "damaged row" in caplog.text


def test_a_damaged_row_is_stored_again(tmp_path: Path) -> None:
    with Store.open(tmp_path) as store:
        store.keep(CONTENT, RECIPE, features(1))
    sql(tmp_path, "UPDATE features SET times_s = zeroblob(64)")

    with Store.open(tmp_path) as store:
        assert store.features(CONTENT, RECIPE) is None
        store.keep(CONTENT, RECIPE, features(1))
        assert same_bits(kept(store, CONTENT), features(1))
    with Store.open(tmp_path) as store:
        assert same_bits(kept(store, CONTENT), features(1))
