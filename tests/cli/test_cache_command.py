"""`bike cache`: what is kept, and how to let go of it."""

import re
import sqlite3
from contextlib import closing
from pathlib import Path

import numpy as np
import pytest
import torch
from invoke import bike, bike_on_terminal

from bike_cli.cli.options import size_in_bytes
from bike_cli.engine.store.file import FILE
from bike_cli.engine.store.store import Store
from bike_cli.errors import ExitCode, UsageError
from bike_cli.records import FrameTimes, Source, VideoFeatures

RECIPE = b"r" * 32
ROW_BYTES = 8 * 256 * 4


@pytest.fixture
def cache(tmp_path: Path) -> Path:
    """A cache of 40 videos, by a recipe whose name could steer a terminal."""
    folder = tmp_path / "cache"
    with Store.open(folder) as store:
        store.describe(RECIPE, "[red]tiny\x1b[2J, 8 frames")
        for i in range(40):
            features = VideoFeatures(Source.at("a"), torch.full((1, 8, 256), float(i)), FrameTimes(np.zeros((1, 8))))
            store.remember(f"/{i}.mp4", b"1", bytes([i]) * 32)
            store.keep(bytes([i]) * 32, RECIPE, features)
    return folder


def videos(folder: Path) -> int:
    with closing(sqlite3.connect(folder / FILE)) as connection:
        (count,) = connection.execute("SELECT count(*) FROM features").fetchone()
    return int(count)


def test_a_pipe_gets_one_json_object(cache: Path) -> None:
    (found,) = bike("cache", "info", "--cache-dir", cache).records

    (recipe,) = found["recipes"]
    assert (found["file"], found["videos"], found["files"]) == (str(cache / FILE), 40, 40)
    assert found["bytes"] == (cache / FILE).stat().st_size
    assert (recipe["recipe"], recipe["videos"]) == ("[red]tiny\x1b[2J, 8 frames", 40)
    assert recipe["bytes"] == 40 * ROW_BYTES
    assert re.fullmatch(r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\dZ", str(found["last_used"]))


def test_a_terminal_gets_a_table_that_steers_nothing(cache: Path) -> None:
    shown = bike_on_terminal("cache", "info", "--cache-dir", cache).stdout

    assert "[red]tiny\\x1b[2J, 8 frames" in shown
    assert "40 videos, 40 known files" in shown
    assert "\x1b[2J" not in shown
    assert shown.splitlines()[0].strip()
    assert shown.splitlines()[-1].strip()


def test_json_on_a_terminal_is_for_the_asking(cache: Path) -> None:
    assert bike_on_terminal("cache", "info", "--json", "--cache-dir", cache).records[0]["videos"] == 40


def test_where_nothing_is_kept_it_says_so_and_makes_nothing(tmp_path: Path) -> None:
    folder = tmp_path / "none"

    piped, shown = (
        bike("cache", "info", "--cache-dir", folder),
        bike_on_terminal("cache", "info", "--cache-dir", folder),
    )

    assert (piped.exit_code, shown.exit_code) == (0, 0)
    assert piped.records[0]["videos"] == 0
    assert "is empty" in shown.stdout
    assert not folder.exists()


def test_the_folder_may_stand_in_the_environment(cache: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("BIKE_CACHE_DIR", str(cache))

    assert bike("cache", "info").records[0]["videos"] == 40


def test_a_foreign_file_is_a_usage_error(tmp_path: Path) -> None:
    (tmp_path / FILE).write_text("notes")

    for arguments in (["info"], ["prune", "--all"], ["prune", "--max-size", "1GB"]):
        ran = bike("cache", *arguments, "--cache-dir", tmp_path)

        assert ran.exit_code == ExitCode.USAGE
        assert f"error: {tmp_path / FILE}: is not a store of bike" in ran.stderr.replace("\n", " ")

    assert (tmp_path / FILE).read_text() == "notes"


def test_prune_to_a_size(cache: Path) -> None:
    ran = bike("cache", "prune", "--max-size", "200kB", "--cache-dir", cache)

    assert 15 <= videos(cache) <= 20
    assert (cache / FILE).stat().st_size <= 200_000
    assert ran.records[0]["features"] == 40 - videos(cache)
    assert ran.records[0]["bytes_after"] == (cache / FILE).stat().st_size


def test_prune_by_age(cache: Path) -> None:
    with closing(sqlite3.connect(cache / FILE, isolation_level=None)) as connection:
        connection.execute("UPDATE features SET last_used = last_used - 86400 * 31 WHERE id <= 10")

    ran = bike_on_terminal("cache", "prune", "--unused-days", "30", "--cache-dir", cache, columns=200)

    assert videos(cache) == 30
    assert "dropped the features of 10 videos" in ran.stdout


@pytest.mark.parametrize("is_damaged", [False, True])
def test_prune_all_removes_it_damaged_or_not(cache: Path, is_damaged: bool) -> None:
    whole = (cache / FILE).read_bytes()
    if is_damaged:
        (cache / FILE).write_bytes(whole[:9000])
        assert bike("cache", "info", "--cache-dir", cache).exit_code == ExitCode.USAGE

    ran = bike("cache", "prune", "--all", "--cache-dir", cache)

    assert ran.exit_code == 0
    assert ran.records[0]["bytes_before"] == (9000 if is_damaged else len(whole))
    assert list(cache.iterdir()) == []


@pytest.mark.parametrize("arguments", [["--all"], ["--max-size", "1GB"]])
def test_where_nothing_is_kept_nothing_is_pruned(tmp_path: Path, arguments: list[str]) -> None:
    ran = bike_on_terminal("cache", "prune", *arguments, "--cache-dir", tmp_path / "none", columns=200)

    assert ran.exit_code == 0
    assert "was empty" in ran.stdout
    assert not (tmp_path / "none").exists()


@pytest.mark.parametrize(
    ("arguments", "fact"),
    [
        ([], "give --max-size 10GB, --unused-days 30 or --all"),
        (["--all", "--unused-days", "3"], "give it alone"),
        (["--unused-days", "-1"], "is not a number of days"),
        (["--unused-days", "nan"], "is not a number of days"),
        (["--max-size", "many"], "--max-size 'many': is not a size"),
    ],
)
def test_a_wrong_choice_is_refused_and_nothing_is_lost(cache: Path, arguments: list[str], fact: str) -> None:
    ran = bike("cache", "prune", *arguments, "--cache-dir", cache)

    assert ran.exit_code == ExitCode.USAGE
    assert fact in ran.stderr.replace("\n", " ")
    assert videos(cache) == 40


@pytest.mark.parametrize(
    ("text", "size"),
    [
        ("0", 0),
        ("1000B", 1000),
        ("12B", 12),
        ("500MB", 500_000_000),
        ("10GB", 10**10),
        ("10g", 10**10),
        ("1GiB", 2**30),
        ("1.5 KiB", 1536),
        ("2tb", 2 * 10**12),
    ],
)
def test_a_size_is_read(text: str, size: int) -> None:
    assert size_in_bytes(text) == size


@pytest.mark.parametrize("text", ["10", "1.5", " 1000000 "])
def test_a_size_needs_a_unit(text: str) -> None:
    with pytest.raises(UsageError, match=f"has no unit; give one, such as {text.strip()}GB or"):
        size_in_bytes(text)


@pytest.mark.parametrize("text", ["", "GB", "-1GB", "1 PB", "1iB", "1e9", "1,5GB", "10GBs", "٣MB", "inf"])
def test_what_is_no_size_is_refused(text: str) -> None:
    with pytest.raises(UsageError, match="give one such as 500MB, 10GB or 1GiB"):
        size_in_bytes(text)
