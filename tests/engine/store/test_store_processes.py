"""Stores that several processes write to, also when they are killed or cannot write."""

import os
import random
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
import store_writer
from store_cases import SOURCE, sql

from bike_cli.engine.store import file as store_file
from bike_cli.engine.store.store import Store

ENVIRONMENT = {**os.environ, "PYTHONPATH": str(Path(__file__).parents[3])}


def writer(folder: Path, *arguments: int) -> subprocess.Popen[str]:
    """Start a process that writes, and return just before it does."""
    process = subprocess.Popen(
        [sys.executable, store_writer.__file__, str(folder), *map(str, arguments)],
        env=ENVIRONMENT,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )
    assert process.stdout
    assert process.stdout.readline() == "ready\n", process.communicate()[1]
    return process


def videos_right(folder: Path, numbers: range) -> int:
    """Return how many of these videos are stored, after checking their features and paths."""
    found = 0
    with Store.open(folder) as store:
        for i in numbers:
            kept = store.lookup(f"/videos/{i}.mp4", store_writer.STAMP, store_writer.RECIPE)
            if kept.features is not None:
                assert kept.content == store_writer.content(i)
                assert np.array_equal(kept.features.of(SOURCE).frames.numpy(), store_writer.frames(i))
                found += 1
    return found


def rows(folder: Path) -> int:
    ((count,),) = sql(folder, "SELECT count(*) FROM features")
    assert isinstance(count, int)
    return count


@pytest.mark.slow
def test_a_killed_writer_leaves_an_intact_store(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    rng = random.Random(1)
    for round_ in range(4):
        # Two at once; each also reads what the other process and earlier rounds have written.
        writers = [writer(tmp_path, 0), writer(tmp_path, 10_000 * (round_ + 1))]
        time.sleep(0.1 + 0.3 * rng.random())
        for process in writers:
            process.send_signal(signal.SIGKILL)
        assert [process.communicate()[1] for process in writers] == ["", ""]

        assert sql(tmp_path, "PRAGMA integrity_check") == [("ok",)]

    written = rows(tmp_path)
    assert written > 200
    assert videos_right(tmp_path, range(80_000)) == written
    assert caplog.records == []


@pytest.mark.slow
def test_two_processes_keep_the_same_videos(tmp_path: Path) -> None:
    writers = [writer(tmp_path, 0, 800), writer(tmp_path, 400, 800)]

    assert [process.communicate(timeout=60)[1] for process in writers] == ["", ""]

    assert [process.returncode for process in writers] == [0, 0]
    assert rows(tmp_path) == 1200
    assert videos_right(tmp_path, range(1200)) == 1200


@pytest.mark.slow  # over a second of a core
def test_processes_may_create_it_at_once(tmp_path: Path) -> None:
    command = [sys.executable, store_writer.__file__, str(tmp_path)]
    starts = [subprocess.Popen([*command, str(i), "1"], env=ENVIRONMENT, stderr=subprocess.PIPE) for i in range(4)]

    assert [process.communicate(timeout=60)[1] for process in starts] == [b""] * 4
    assert videos_right(tmp_path, range(4)) == 4


def test_a_full_disk_is_one_warning(tmp_path: Path) -> None:
    command = f'ulimit -f 300; exec "{sys.executable}" "{store_writer.__file__}" "{tmp_path}" 0 2000'
    done = subprocess.run(
        ["bash", "-c", command], env=ENVIRONMENT, capture_output=True, text=True, timeout=60, check=False
    )

    assert done.returncode == 0, done.stderr
    assert done.stderr.count("continuing without the cache") == 1
    assert len(done.stderr.splitlines()) == 1
    assert sql(tmp_path, "PRAGMA integrity_check") == [("ok",)]


@pytest.fixture
def read_only() -> Iterator[Path]:
    """Return a read-only folder with a store of 20 videos."""
    parent = Path(tempfile.mkdtemp())
    folder = parent / "cache"
    process = writer(folder, 0, 20)
    assert process.communicate(timeout=60)[1] == ""
    folder.chmod(0o555)
    (folder / store_file.FILE).chmod(0o444)
    parent.chmod(0o755)
    yield folder
    folder.chmod(0o755)
    shutil.rmtree(parent)


def test_a_read_only_store_is_read_and_not_written(read_only: Path) -> None:
    command = [sys.executable, store_writer.__file__, str(read_only), "0", "40"]
    environment = {**ENVIRONMENT, "BIKE_TEST_NOBODY": "1"}
    done = subprocess.run(command, env=environment, capture_output=True, text=True, timeout=60, check=False)

    assert done.returncode == 0, done.stderr
    assert done.stdout == "ready\n20 found\n"
    assert done.stderr.count("continuing without the cache") == 1
    assert len(done.stderr.splitlines()) == 1
