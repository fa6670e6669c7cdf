"""The store returns features bit by bit, in any thread, or not at all."""

import dataclasses
import os
import tempfile
import threading
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from store_cases import CONTENT, OTHER, RECIPE, SOURCE, features, kept, raw, same_bits, sql

from bike_cli.config import ClassifyConfig, DecodingConfig, SamplingConfig, StoreConfig
from bike_cli.engine.store import file as store_file
from bike_cli.engine.store import rows
from bike_cli.engine.store import store as store_module
from bike_cli.engine.store.store import Lookup, Store, recipe_key
from bike_cli.records import FrameTimes


@pytest.fixture
def store(tmp_path: Path) -> Iterator[Store]:
    with Store.open(tmp_path) as opened:
        yield opened


any_float = st.floats(width=32, allow_nan=True, allow_infinity=True)
any_path = st.binary(min_size=1, max_size=40).map(lambda name: "/" + os.fsdecode(name))
any_text = st.none() | st.text(st.characters(), max_size=20)


@settings(max_examples=60)
@given(
    crops=st.integers(1, 3),
    shape=st.tuples(st.integers(1, 3), st.integers(1, 5), st.integers(1, 7)),
    number=any_float,
    path=any_path,
    warning=any_text,
    duration_s=st.none() | st.floats(),
    has_positions=st.booleans(),
    is_written=st.booleans(),
)
def test_stored_features_are_restored_bit_by_bit(
    crops: int,
    shape: tuple[int, int, int],
    number: float,
    path: str,
    warning: str | None,
    duration_s: float | None,
    has_positions: bool,
    is_written: bool,
) -> None:
    clips, frames, dim = shape
    given_ = features(1, views=crops * clips, frames=frames, dim=dim, clips=clips)
    given_.frames[-1, -1, -1] = number
    given_.times_s[0, 0] = np.nan
    positions = given_.positions if has_positions else None
    timeline = FrameTimes(given_.times_s, positions, duration_s, warning)
    given_ = dataclasses.replace(given_, timeline=timeline)

    with tempfile.TemporaryDirectory() as folder, Store.open(Path(folder)) as store:
        store.remember(path, b"stamp", CONTENT)
        store.keep(CONTENT, RECIPE, given_)
        if is_written:
            store.flush()
        found = store.lookup(path, b"stamp", RECIPE)

    assert found.content == CONTENT
    assert found.features is not None
    assert same_bits(found.features.of(SOURCE), given_)


@dataclasses.dataclass(frozen=True, repr=False)
class FrameTimesWithFacts(FrameTimes):
    """The timeline of a later version of bike."""

    fps: float | None = None
    codec: str | None = None


@pytest.mark.parametrize("warning", [None, "a warning", "\0"])
def test_a_new_fact_about_a_video_is_kept_in_the_same_table(
    tmp_path: Path, warning: str | None, monkeypatch: pytest.MonkeyPatch
) -> None:
    plain = dataclasses.replace(features(), timeline=FrameTimes(features().times_s, warning=warning))
    facts = FrameTimesWithFacts(plain.times_s, warning=warning, fps=30000 / 1001, codec="h264 \udcff")
    with Store.open(tmp_path) as store:
        store.keep(CONTENT, RECIPE, plain)
        store.keep(OTHER, RECIPE, dataclasses.replace(plain, timeline=facts))

    with Store.open(tmp_path) as store:
        assert same_bits(kept(store, CONTENT), plain)
        assert same_bits(kept(store, OTHER), plain)  # this version of bike does not know the facts

        monkeypatch.setattr(rows, "FrameTimes", FrameTimesWithFacts)
        read, older = kept(store, OTHER).timeline, kept(store, CONTENT).timeline

    assert isinstance(read, FrameTimesWithFacts)
    assert (read.warning, read.fps, read.codec) == (warning, facts.fps, facts.codec)
    assert isinstance(older, FrameTimesWithFacts)
    assert (older.warning, older.fps, older.codec) == (warning, None, None)


def test_a_later_run_finds_it(tmp_path: Path) -> None:
    with Store.open(tmp_path) as store:
        store.remember("/a.mp4", b"1", CONTENT)
        store.keep(CONTENT, RECIPE, features(3))

    with Store.open(tmp_path) as store:
        found = store.lookup("/a.mp4", b"1", RECIPE)

    assert found.features is not None
    assert same_bits(found.features.of(SOURCE), features(3))


@pytest.mark.parametrize("is_written", [True, False])
def test_a_file_is_known_by_path_and_stamp(store: Store, is_written: bool) -> None:
    store.remember("/a.mp4", b"1", CONTENT)
    store.keep(CONTENT, RECIPE, features())
    if is_written:
        store.flush()

    assert store.lookup("/a.mp4", b"2", RECIPE) == Lookup()
    assert store.lookup("/b.mp4", b"1", RECIPE) == Lookup()
    assert store.lookup("/a.mp4", b"1", OTHER) == Lookup(CONTENT)
    assert store.content("/a.mp4", b"1") == CONTENT
    assert store.content("/a.mp4", b"2") is None


def test_a_changed_file_is_stored_again(store: Store) -> None:
    store.remember("/a.mp4", b"1", CONTENT)
    store.flush()
    store.remember("/a.mp4", b"2", OTHER)
    store.flush()

    assert store.content("/a.mp4", b"1") is None
    assert store.content("/a.mp4", b"2") == OTHER


def test_recipes_do_not_mix(store: Store) -> None:
    store.keep(CONTENT, RECIPE, features(1))
    store.keep(CONTENT, OTHER, features(2, frames=4))
    store.flush()

    assert same_bits(kept(store, CONTENT), features(1))
    assert same_bits(kept(store, CONTENT, OTHER), features(2, frames=4))


def test_pending_features_do_not_change_with_their_tensor(store: Store) -> None:
    given_ = features(1)

    store.keep(CONTENT, RECIPE, given_)
    given_.frames.zero_()

    assert same_bits(kept(store, CONTENT), features(1))


def test_loaded_features_are_writable(store: Store) -> None:
    store.keep(CONTENT, RECIPE, features(1))
    store.flush()

    kept(store, CONTENT).frames.zero_()

    assert same_bits(kept(store, CONTENT), features(1))


def test_half_precision_is_refused(store: Store) -> None:
    half = dataclasses.replace(features(), frames=features().frames.half())

    with pytest.raises(ValueError, match="float16; expected float32"):
        store.keep(CONTENT, RECIPE, half)


def test_rows_are_written_in_batches_without_being_asked(tmp_path: Path, store: Store) -> None:
    for i in range(store_module.BATCH_ROWS + 1):
        store.keep(i.to_bytes(32, "big"), RECIPE, features(dim=1))

    ((rows,),) = sql(tmp_path, "SELECT count(*) FROM features")
    assert rows >= store_module.BATCH_ROWS


# -- threads, and runs that cannot write --------------------------------------------------------------------------


def test_threads_share_a_store(store: Store) -> None:
    wrong: list[int] = []

    def work(start: int) -> None:
        for i in range(start, start + 150):
            key = i.to_bytes(32, "big")
            store.remember(f"/{i}.mp4", b"1", key)
            store.keep(key, RECIPE, features(i, dim=4))
            found = store.lookup(f"/{i}.mp4", b"1", RECIPE).features
            if found is None or not same_bits(found.of(SOURCE), features(i, dim=4)):
                wrong.append(i)

    threads = [threading.Thread(target=work, args=(100 * n,)) for n in range(4)]  # they overlap
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    store.flush()

    assert wrong == []
    assert store.info().videos == 450


def test_a_store_that_stays_locked_is_read_and_not_written(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    with Store.open(tmp_path) as store:
        store.keep(CONTENT, RECIPE, features(1))
    monkeypatch.setattr(store_file, "BUSY_S", 0.05)

    with raw(tmp_path) as other, Store.open(tmp_path) as store:
        other.execute("BEGIN IMMEDIATE")
        for i in range(3):
            store.keep(i.to_bytes(32, "big"), RECIPE, features(2))
            store.flush()
        found = store.features(CONTENT, RECIPE)

    assert found is not None
    assert [r.message for r in caplog.records] == [
        f"{tmp_path / store_file.FILE}: cannot be written (database is locked); continuing without the cache"
    ]


def test_a_store_that_is_removed_during_a_run_is_created_again(tmp_path: Path) -> None:
    with Store.open(tmp_path) as old:
        old.keep(CONTENT, RECIPE, features(1))
        old.flush()
        store_file.remove(tmp_path / store_file.FILE)
        with Store.open(tmp_path) as new:
            new.keep(OTHER, RECIPE, features(2))
            new.flush()
            old.keep(b"x" * 32, RECIPE, features(3))
            old.close()
            new.keep(b"y" * 32, RECIPE, features(4))

    with Store.open(tmp_path) as store:
        assert same_bits(kept(store, OTHER), features(2))
        assert same_bits(kept(store, b"y" * 32), features(4))
        assert store.features(CONTENT, RECIPE) is None
    assert sql(tmp_path, "PRAGMA integrity_check") == [("ok",)]


# -- recipes ------------------------------------------------------------------------------------------------------


def test_all_that_changes_features_changes_the_recipe(monkeypatch: pytest.MonkeyPatch) -> None:
    plain = SamplingConfig()
    samplings = [
        SamplingConfig(frames=9),
        SamplingConfig(clips=2),
        SamplingConfig(crops=3),
        SamplingConfig(sampling="keyframe"),
        SamplingConfig(draft=True),
    ]
    assert len(samplings) == len(dataclasses.fields(SamplingConfig))

    configs = [ClassifyConfig(sampling=sampling) for sampling in [plain, *samplings]]
    keys = {recipe_key("m", config) for config in configs}
    keys |= {recipe_key("n", configs[0]), recipe_key("m", ClassifyConfig(decoding=DecodingConfig(decoder="av")))}
    monkeypatch.setattr(store_module, "READER_VERSION", 0)
    keys.add(recipe_key("m", configs[0]))

    assert len(keys) == 9
    assert {len(key) for key in keys} == {32}


@pytest.mark.parametrize(
    ("config", "key"),
    [
        (ClassifyConfig(), "6a26a45418558877b747a21494a3ebd2dbec3011d83b1f81497381d4a1330dda"),
        (
            ClassifyConfig(
                sampling=SamplingConfig(frames=4, clips=2, crops=3, sampling="dense", draft=True),
                decoding=DecodingConfig(decoder="av", workers=3),
                template="class",
            ),
            "207107966cf079b9b31405eccc8d17bd7efbe617cdefb2df2386ebb5517cbd51",
        ),
    ],
)
def test_keys_are_those_of_version_0_1(config: ClassifyConfig, key: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(store_module, "READER_VERSION", 2)  # as in 0.1; a higher one makes stored features unreachable

    assert recipe_key("m", config).hex() == key


def test_settings_that_do_not_change_pixels_do_not_change_the_recipe() -> None:
    other = ClassifyConfig(top=3, template="class", decoding=DecodingConfig(workers=1), store=StoreConfig(cache=False))

    assert recipe_key("m\udc80", other) == recipe_key("m\udc80", ClassifyConfig())
