"""What the main process does with a file never holds up a run."""

import json
import os
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from pathlib import Path

import pytest
from films import drawn, write_video

from bike_cli import time_limits
from bike_cli.data import inputs
from bike_cli.time_limits import call_interruptibly, call_on_path, call_with_timeout
from bike_cli.video import content


def test_a_call_in_time_returns_its_value() -> None:
    assert call_with_timeout(10, lambda: 7, default=0) == 7


def test_a_call_in_time_raises_its_error() -> None:
    with pytest.raises(FileNotFoundError):
        call_with_timeout(10, lambda: os.stat("/nowhere/at/all"), default=None)  # noqa: PTH116


@pytest.fixture(autouse=True)
def no_unresponsive_paths() -> Iterator[None]:
    """Let no test know what did not answer in another."""
    yield
    time_limits._unresponsive.clear()


@pytest.fixture
def stuck() -> Iterator[threading.Event]:
    """An event that nobody sets before the test is over."""
    event = threading.Event()
    yield event
    event.set()


def test_a_call_that_blocks_is_abandoned(stuck: threading.Event) -> None:
    start_s = time.perf_counter()

    assert call_with_timeout(0.1, stuck.wait, default=False) is False
    assert time.perf_counter() - start_s < 5


def test_a_call_raises_errors_of_any_kind() -> None:
    def fail() -> None:
        raise RuntimeError("broken")

    with pytest.raises(RuntimeError, match="broken"):
        call_with_timeout(10, fail, default=None)


def test_a_long_call_can_be_interrupted() -> None:
    release, ended = threading.Event(), threading.Event()
    threading.Timer(0.1, signal.pthread_kill, args=[threading.main_thread().ident, signal.SIGINT]).start()

    def wait() -> None:
        release.wait(60)
        ended.set()

    with pytest.raises(KeyboardInterrupt):
        call_interruptibly(wait)

    assert not ended.is_set()
    release.set()
    assert ended.wait(60)  # it was not stopped


def test_an_uninterrupted_long_call_returns_its_value_or_raises_its_error() -> None:
    assert call_interruptibly(lambda: 3) == 3
    with pytest.raises(ZeroDivisionError):
        call_interruptibly(lambda: 1 / 0)


def test_fast_calls_share_a_thread() -> None:
    threads = {call_with_timeout(10, threading.get_ident, default=0) for _ in range(100)}

    assert len(threads) < 10  # the next call may come before the thread is idle again
    assert 0 not in threads


def test_folders_that_do_not_answer_are_waited_for_once(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, stuck: threading.Event
) -> None:
    monkeypatch.setattr(time_limits, "FILE_LIMIT_S", 0.1)
    monkeypatch.setattr(os.path, "lexists", lambda _: stuck.wait())
    n_threads, start_s = threading.active_count(), time.perf_counter()

    sources = list(inputs.find_sources([tmp_path / f"{i}.mp4" for i in range(200)]))

    assert len(sources) == 200
    assert time.perf_counter() - start_s < 10  # 20 s where each path takes its 0.1 s
    assert threading.active_count() - n_threads < 10


@pytest.mark.parametrize("level", ["mount", "mount/class"])
def test_paths_below_a_folder_that_does_not_answer_are_not_tried(
    level: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, stuck: threading.Event
) -> None:
    monkeypatch.setattr(time_limits, "FILE_LIMIT_S", 0.1)
    dead, stat, asked = str(tmp_path / level), os.stat, []

    def look(path: str) -> os.stat_result:
        if path.startswith(dead):
            asked.append(path)
            stuck.wait()
        return stat(path)

    monkeypatch.setattr(os, "stat", look)
    paths = [str(tmp_path / "mount" / "class" / f"{kind}/{i}.mp4") for kind in "abc" for i in range(5)]

    assert all(call_on_path(path, lambda path=path: look(path), default=None) is None for path in paths)
    assert asked == [paths[0], dead]
    assert call_on_path(str(tmp_path), lambda: look(str(tmp_path)), default=None) is not None


def test_one_file_that_does_not_answer_leaves_its_folder_alone(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, stuck: threading.Event
) -> None:
    monkeypatch.setattr(time_limits, "FILE_LIMIT_S", 0.1)

    assert call_on_path(tmp_path / "locked.mp4", stuck.wait, default=None) is None
    assert call_on_path(tmp_path / "fine.mp4", lambda: 1, default=None) == 1


def test_a_file_system_that_answers_again_is_used_again(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, stuck: threading.Event
) -> None:
    monkeypatch.setattr(time_limits, "FILE_LIMIT_S", 0.1)
    monkeypatch.setattr(time_limits, "RETRY_S", 0.5)
    assert call_on_path(tmp_path / "film.mp4", stuck.wait, default=None) is None
    assert call_on_path(tmp_path / "film.mp4", lambda: 1, default=None) is None

    time.sleep(0.6)

    assert call_on_path(tmp_path / "film.mp4", lambda: 1, default=None) == 1


def test_a_file_system_that_does_not_answer_does_not_block(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, stuck: threading.Event
) -> None:
    (tmp_path / "film.mp4").write_bytes(b"running")
    monkeypatch.setattr(time_limits, "FILE_LIMIT_S", 0.1)

    def never(*_: object, **__: object) -> None:
        stuck.wait()
        raise OSError

    for name in ("stat", "lstat", "open"):
        monkeypatch.setattr(os, name, never)
        monkeypatch.setattr(Path, name, never)

    names = [source.id for source in inputs.find_sources([tmp_path / "film.mp4", tmp_path / "other.mp4"])]

    assert names == [str(tmp_path / "film.mp4"), str(tmp_path / "other.mp4")]
    assert not inputs.looks_like_text(tmp_path / "film.mp4")
    assert content.stamp_of(tmp_path / "film.mp4") is None
    assert content.changed_lately(tmp_path / "film.mp4")


@pytest.mark.slow
@pytest.mark.skipif(sys.platform != "linux", reason="only Linux has leases")
def test_a_first_file_that_cannot_be_opened_is_a_timeout_and_does_not_affect_the_others(tmp_path: Path) -> None:
    import fcntl

    blocked, fine = write_video(tmp_path / "blocked.mp4", drawn("red square")), tmp_path / "fine.mp4"
    fine.write_bytes(blocked.read_bytes())
    before = signal.signal(signal.SIGIO, signal.SIG_IGN)
    # While a program holds a lease, the system lets others wait who open the file: as long as this program allows, or
    # for /proc/sys/fs/lease-break-time, 45 s.
    handle = os.open(blocked, os.O_RDWR)
    try:
        fcntl.fcntl(handle, fcntl.F_SETLEASE, fcntl.F_WRLCK)
    except OSError:
        pytest.skip("this file system has no leases")
    try:
        command = [sys.executable, "-m", "bike_cli", "classify", blocked, fine, "-m", "tiny", "-L", "red square, blue"]
        settings = ["--decode-timeout", "3", "-f", "jsonl", "--no-cache"]
        ran = subprocess.run([*command, *settings], capture_output=True, text=True, stdin=subprocess.DEVNULL)
    finally:
        os.close(handle)
        signal.signal(signal.SIGIO, before)

    first, second = map(json.loads, ran.stdout.splitlines())
    assert first["error"]["type"] == "timeout"
    assert second["status"] == "ok"
