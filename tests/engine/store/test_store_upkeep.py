"""Content, pruning and location of the store."""

import random
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import pytest
from store_cases import CONTENT, OTHER, RECIPE, features, filled, raw, sql

from bike_cli.config import StoreConfig
from bike_cli.engine.store import file as store_file
from bike_cli.engine.store.store import Store, open_store
from bike_cli.errors import StoreError

DAY_S = 24 * 3600


@pytest.fixture
def store(tmp_path: Path) -> Iterator[Store]:
    with Store.open(tmp_path) as opened:
        yield opened


def age(folder: Path, days: dict[int, float]) -> None:
    """Set how many days ago videos were last used."""
    values = [(int(time.time() - d * DAY_S), i.to_bytes(32, "big")) for i, d in days.items()]
    with raw(folder) as other:
        other.executemany("UPDATE features SET last_used = ? WHERE content = ?", values)


def left(folder: Path) -> set[int]:
    return {int.from_bytes(c, "big") for (c,) in sql(folder, "SELECT content FROM features")}


def test_info_counts(tmp_path: Path, store: Store) -> None:
    store.describe(RECIPE, "tiny, 8 frames")
    store.remember("/a.mp4", b"1", CONTENT)
    store.remember("/b.mp4", b"1", CONTENT)
    store.keep(CONTENT, RECIPE, features(dim=16))
    store.keep(OTHER, RECIPE, features(dim=16))
    store.keep(OTHER, OTHER, features(dim=32))

    info = store.info()

    by_name = {r.recipe: (r.videos, r.bytes) for r in info.recipes}
    assert (info.videos, info.files) == (2, 2)
    assert by_name == {"tiny, 8 frames": (2, 2 * 8 * 16 * 4), OTHER.hex(): (1, 8 * 32 * 4)}
    assert info.last_used is not None
    assert abs(info.last_used - time.time()) < 60
    assert info.bytes == sum(f.stat().st_size for f in tmp_path.iterdir() if not f.name.endswith("-shm"))


def test_models_of_the_same_name_are_told_apart(store: Store) -> None:
    for recipe in (RECIPE, OTHER):
        store.describe(recipe, "actions, 8 frames")
        store.keep(CONTENT, recipe, features(dim=16))

    names = {r.recipe for r in store.info().recipes}

    assert names == {f"actions, 8 frames ({recipe.hex()[:8]})" for recipe in (RECIPE, OTHER)}


def test_an_empty_store_has_no_last_use(store: Store) -> None:
    info = store.info()

    assert (info.videos, info.files, info.last_used, info.recipes) == (0, 0, None, ())


def test_the_least_recently_used_go_first_and_the_file_shrinks(tmp_path: Path) -> None:
    before = len(filled(tmp_path, videos=200))
    order = random.Random(5).sample(range(200), 200)
    age(tmp_path, {video: 1 + place for place, video in enumerate(order)})

    with Store.open(tmp_path) as store:
        pruned = store.prune(before // 3, None)

    after = (tmp_path / store_file.FILE).stat().st_size
    kept_ = left(tmp_path)
    assert before // 4 < after <= before // 3
    assert kept_ == set(order[: len(kept_)])
    assert (pruned.features, pruned.files, pruned.bytes_after) == (200 - len(kept_), 200 - len(kept_), after)


def test_features_that_were_unused_for_days_are_deleted(tmp_path: Path) -> None:
    filled(tmp_path, videos=4)
    age(tmp_path, {0: 0, 1: 29, 2: 31, 3: 300})

    with Store.open(tmp_path) as store:
        pruned = store.prune(None, 30)
        assert store.content("/1.mp4", b"1") is not None
        assert store.content("/2.mp4", b"1") is None

    assert left(tmp_path) == {0, 1}
    assert pruned.features == 2


def test_features_that_fit_stay(tmp_path: Path) -> None:
    filled(tmp_path)

    with Store.open(tmp_path) as store:
        pruned = store.prune(10**9, 1)

    assert (pruned.features, pruned.files) == (0, 0)
    assert len(left(tmp_path)) == 30


def test_an_empty_folder_stays_empty(tmp_path: Path) -> None:
    filled(tmp_path)

    with Store.open(tmp_path) as store:
        store.prune(0, None)

        assert (store.info().videos, store.info().files) == (0, 0)


def test_a_use_counts_once_a_day(tmp_path: Path) -> None:
    filled(tmp_path, videos=3)
    age(tmp_path, {0: 0.5, 1: 2, 2: -9})  # the clock was nine days ahead

    with Store.open(tmp_path) as store:
        for i in range(3):
            assert store.lookup(f"/{i}.mp4", b"1", RECIPE).features

    ages = sql(tmp_path, "SELECT (strftime('%s', 'now') - last_used) / 3600 FROM features ORDER BY content")
    assert ages == [(12,), (0,), (0,)]


def test_pruning_a_store_in_use_says_so(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    filled(tmp_path)
    monkeypatch.setattr(store_file, "BUSY_S", 0.05)

    with raw(tmp_path) as other, Store.open(tmp_path) as store:
        other.execute("BEGIN IMMEDIATE")
        with pytest.raises(StoreError, match=r"locked.*; try again"):
            store.prune(0, None)

    assert len(left(tmp_path)) == 30


def test_a_damaged_store_is_removed_completely(tmp_path: Path) -> None:
    whole = filled(tmp_path)
    (tmp_path / store_file.FILE).write_bytes(whole[:5000])
    (tmp_path / f"{store_file.FILE}-wal").write_bytes(b"rest")

    freed = store_file.remove(tmp_path / store_file.FILE)

    assert freed == 5004
    assert list(tmp_path.iterdir()) == []


# -- where it is, and whether -------------------------------------------------------------------------------------


@pytest.fixture
def home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("HOME", str(tmp_path / "home"))
    monkeypatch.delenv("XDG_CACHE_HOME", raising=False)
    return tmp_path / "home"


@pytest.mark.parametrize(
    ("platform", "folder"), [("linux", ".cache/bike"), ("freebsd14", ".cache/bike"), ("darwin", "Library/Caches/bike")]
)
def test_the_default_is_the_cache_folder_of_the_user(
    home: Path, monkeypatch: pytest.MonkeyPatch, platform: str, folder: str
) -> None:
    monkeypatch.setattr(sys, "platform", platform)

    assert store_file.default_folder() == home / folder


@pytest.mark.parametrize(("chosen", "folder"), [("/var/xdg", "/var/xdg/bike"), ("relative", None), ("", None)])
def test_an_absolute_xdg_folder_is_used(
    home: Path, monkeypatch: pytest.MonkeyPatch, chosen: str, folder: str | None
) -> None:
    monkeypatch.setenv("XDG_CACHE_HOME", chosen)
    monkeypatch.setattr(sys, "platform", "linux")

    assert store_file.default_folder() == (Path(folder) if folder else home / ".cache/bike")


def test_the_store_opens_in_the_default_folder(home: Path) -> None:
    store = open_store(StoreConfig())

    assert store is not None
    store.close()
    assert store_file.default_folder().is_dir()
    assert home in store.file.parents


def test_no_cache_is_no_store(home: Path) -> None:
    assert open_store(StoreConfig(cache=False)) is None
    assert not home.exists()


def test_a_named_folder_that_cannot_be_created_is_a_warning(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    (tmp_path / "file").touch()

    assert open_store(StoreConfig(cache_dir=str(tmp_path / "file" / "cache"))) is None
    assert "cannot be opened" in caplog.text
    assert caplog.text.rstrip().endswith("continuing without the cache")


def test_a_default_folder_that_cannot_be_created_is_a_warning(home: Path, caplog: pytest.LogCaptureFixture) -> None:
    home.touch()

    assert open_store(StoreConfig()) is None
    assert "cannot be opened" in caplog.text


def test_a_damaged_store_in_the_default_folder_is_an_error(home: Path) -> None:
    Store.open(None).close()
    store_file.store_file(None).write_bytes(b"text")

    with pytest.raises(StoreError, match="not a store of bike"):
        open_store(StoreConfig())
