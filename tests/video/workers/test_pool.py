"""Decode workers return the same clips as decoding in process, and isolate faults of single videos."""

import gc
import multiprocessing
import os
import subprocess
import sys
import time
import weakref
from collections.abc import Callable, Iterator
from concurrent.futures import Future
from contextlib import suppress
from pathlib import Path

import numpy as np
import pytest
from films import drawn, write_video

from bike_cli.config import DecodingConfig, SamplingConfig
from bike_cli.errors import UsageError
from bike_cli.records import Clip, Failure, Source
from bike_cli.video.decoding import decode
from bike_cli.video.workers import pool as pools
from bike_cli.video.workers.machine import cores
from bike_cli.video.workers.pool import DecodePool

SAMPLING = SamplingConfig(frames=4)
HOSTILE = Path(__file__).parents[2] / "hostile"
needs_proc = pytest.mark.skipif(not Path("/proc/self/fd").exists(), reason="only Linux shows processes as files")


@pytest.fixture(scope="module")
def film(tmp_path_factory: pytest.TempPathFactory) -> Source:
    path = tmp_path_factory.mktemp("films") / "red square.mp4"
    write_video(path, drawn("red square"))
    return Source.at(path)


@pytest.fixture(scope="module")
def pool() -> Iterator[DecodePool]:
    with DecodePool(SAMPLING, DecodingConfig(workers=2)) as running:
        yield running


# -- what comes out -----------------------------------------------------------------------------------------------


def test_a_worker_returns_what_decoding_returns(pool: DecodePool, film: Source) -> None:
    here = decode(film, SAMPLING)

    there = pool.decode(film).result()

    assert isinstance(there, Clip)
    assert np.array_equal(there.frames, here.frames)
    assert np.array_equal(there.times_s, here.times_s)
    assert there.positions is not None
    assert there.positions.tolist() == np.asarray(here.positions).tolist()
    assert (there.source, there.duration_s, there.warning) == (film, here.duration_s, here.warning)


def test_a_missing_file_is_a_failure_with_the_message_of_the_decoder(pool: DecodePool, tmp_path: Path) -> None:
    gone = Source.at(tmp_path / "gone.mp4")

    assert pool.decode(gone).result() == Failure(gone, "missing", f"{gone.id}: no such file; check the path")


@pytest.mark.parametrize("name", ["a b.mp4", "line\nend.mp4", "\udcff.mp4", "-x.mp4", "ü'\".mp4"])
def test_any_name_reaches_the_worker(pool: DecodePool, film: Source, tmp_path: Path, name: str) -> None:
    path = tmp_path / name
    path.symlink_to(film.path)

    assert isinstance(pool.decode(Source.at(path)).result(), Clip)


def test_a_clip_that_cannot_be_received_is_a_failure(
    pool: DecodePool, film: Source, monkeypatch: pytest.MonkeyPatch
) -> None:
    def too_many(*_: object) -> None:
        raise OSError(24, "Too many open files")

    monkeypatch.setattr(pools.Handover, "pixels", too_many)

    outcome = pool.decode(film).result(timeout=20)

    assert isinstance(outcome, Failure)
    assert "cannot be received from the worker" in outcome.message


def open_files() -> int:
    return len(list(Path("/proc/self/fd").iterdir()))


@needs_proc
def test_clips_leave_no_open_file_behind(pool: DecodePool, film: Source, tmp_path: Path) -> None:
    pool.decode(film).result()
    before = open_files()

    for source in [film, Source.at(tmp_path / "gone.mp4")] * 5:
        pool.decode(source).result()

    assert open_files() <= before


@needs_proc
def test_storage_is_used_again_once_its_clip_is_gone(pool: DecodePool, film: Source) -> None:
    clips = [pool.decode(film).result() for _ in range(3)]
    held = {clip.frames.ctypes.data for clip in clips if isinstance(clip, Clip)}
    del clips
    _wait_until(lambda: len(pool._storage._free) >= 3, pool)

    again = [pool.decode(film).result() for _ in range(3)]

    assert len(held) == 3
    assert {clip.frames.ctypes.data for clip in again if isinstance(clip, Clip)} & held


def test_a_clip_keeps_its_pixels_as_long_as_it_is_held(pool: DecodePool, film: Source, tmp_path: Path) -> None:
    other = tmp_path / "blue circle.mp4"
    write_video(other, drawn("blue circle"))
    expected = decode(film, SAMPLING).frames
    clip = pool.decode(film).result()
    assert isinstance(clip, Clip)
    part = clip.frames[0, 1:]
    del clip

    others = [pool.decode(Source.at(other)).result() for _ in range(5)]

    assert len(others) == 5
    assert np.array_equal(part, expected[0, 1:])


@needs_proc
def test_storage_that_is_kept_is_limited(film: Source, monkeypatch: pytest.MonkeyPatch) -> None:
    size = decode(film, SAMPLING).frames.nbytes
    monkeypatch.setattr(pools, "STORAGE_BYTES", 2 * size)
    before = _memories()  # of other tests
    with DecodePool(SAMPLING, DecodingConfig(workers=1)) as small:
        clips = [small.decode(film).result() for _ in range(6)]
        assert len(clips) == 6
        del clips

        _wait_until(lambda: _memories() <= before + 2, small)


def test_storage_of_a_task_that_was_tried_again_is_not_used_again(
    film: Source, monkeypatch: pytest.MonkeyPatch
) -> None:
    schedule = pools.ProcessPool.schedule
    lost: list[object] = []

    def lose_the_first(self: pools.ProcessPool, *arguments: object, **named: object) -> object:
        if lost:
            return schedule(self, *arguments, **named)  # type: ignore[arg-type]
        lost.append(self)
        return pools._broken()

    monkeypatch.setattr(pools.ProcessPool, "schedule", lose_the_first)
    with DecodePool(SAMPLING, DecodingConfig(workers=1)) as losing:
        first = losing.decode(film).result(timeout=30)
        assert isinstance(first, Clip)
        assert losing._storage._free == []
        place = weakref.ref(first.frames.base)
        del first
        _wait_until(lambda: place() is None, losing)

        assert not any(free.mapped_bytes for free in losing._storage._free)
        assert isinstance(losing.decode(film).result(timeout=30), Clip)
        _wait_until(lambda: any(free.mapped_bytes for free in losing._storage._free), losing)


def _memories() -> int:
    """Return how many clips this process has memory for."""
    found = set()
    for file in Path("/proc/self/fd").iterdir():
        with suppress(OSError):  # the descriptor of the folder itself is closed by now
            found |= {file.stat().st_ino} if "bike clip" in str(file.readlink()) else set()
    return len(found)


def _wait_until(holds: Callable[[], bool], pool: DecodePool) -> None:
    """Wait for the threads of the pool, which have their last result in hand until the next."""
    end_s = time.monotonic() + 10
    while not holds():
        assert time.monotonic() < end_s
        assert isinstance(pool.decode(Source.at("gone.mp4")).result(timeout=10), Failure)
        gc.collect()


def test_workers_are_replaced_and_nothing_is_lost(film: Source, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(pools, "TASKS_PER_WORKER", 2)

    with DecodePool(SAMPLING, DecodingConfig(workers=2)) as short_lived:
        coming = [short_lived.decode(film) for _ in range(11)]

        assert all(isinstance(one.result(timeout=30), Clip) for one in coming)


def test_a_task_that_a_pool_loses_is_done_by_the_next(film: Source, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(pools, "GRACE_S", 0.1)
    schedule = pools.ProcessPool.schedule
    lost: list[object] = []

    def lose_the_first(self: pools.ProcessPool, *arguments: object, **named: object) -> object:
        if lost:
            return schedule(self, *arguments, **named)  # type: ignore[arg-type]
        lost.append(self)
        return Future()

    monkeypatch.setattr(pools.ProcessPool, "schedule", lose_the_first)

    with DecodePool(SAMPLING, DecodingConfig(workers=1, decode_timeout=2)) as losing:
        assert isinstance(losing.decode(film).result(timeout=30), Clip)
        assert losing._pool is not lost[0]


@pytest.mark.skipif(os.name != "posix", reason="elsewhere files are not counted so")
def test_more_workers_than_the_system_has_open_files_for_are_refused() -> None:
    import resource

    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    most = 10**6 if hard == resource.RLIM_INFINITY else hard
    if hard == resource.RLIM_INFINITY:
        pytest.skip("this system does not limit open files")

    with pytest.raises(UsageError, match=rf"workers is {most}: .* give --workers \d+"):
        DecodePool(SAMPLING, DecodingConfig(workers=most))

    assert resource.getrlimit(resource.RLIMIT_NOFILE) == (soft, hard)


@pytest.mark.skipif(os.name != "posix", reason="elsewhere files are not counted so")
def test_the_limit_of_open_files_is_raised_to_what_workers_need(film: Source) -> None:
    import resource

    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (70, hard))
    try:
        with DecodePool(SAMPLING, DecodingConfig(workers=2)) as raised:
            assert resource.getrlimit(resource.RLIMIT_NOFILE)[0] >= 80
            assert isinstance(raised.decode(film).result(timeout=30), Clip)
    finally:
        resource.setrlimit(resource.RLIMIT_NOFILE, (soft, hard))


def test_at_least_one_core_is_available() -> None:
    assert 1 <= cores() <= (os.cpu_count() or 1)


@pytest.mark.parametrize(("processes", "share"), [("1", 1), ("0", 1), ("many", 1), (str(10**6), 10**6)])
def test_processes_of_a_launcher_share_the_cores(processes: str, share: int, monkeypatch: pytest.MonkeyPatch) -> None:
    alone = cores()
    monkeypatch.setenv("LOCAL_WORLD_SIZE", processes)

    assert cores() == max(1, alone // share)


# -- what a video cannot do ---------------------------------------------------------------------------------------

RUN = """
import sys, time
from bike_cli.config import DecodingConfig, SamplingConfig
from bike_cli.records import Source
from bike_cli.video.workers.pool import DecodePool

with DecodePool(SamplingConfig(frames=4), DecodingConfig(workers=2, decode_timeout=2, decode_memory=700)) as pool:
    coming = [pool.decode(Source.at(path)) for path in sys.argv[1:]]
    for one in coming:
        outcome = one.result(timeout=60)
        print(getattr(outcome, "kind", "ok"), flush=True)
"""


INTERRUPTED = """
import os, signal, sys, time
from bike_cli.config import DecodingConfig, SamplingConfig
from bike_cli.records import Source
from bike_cli.video.workers.pool import DecodePool

heard = []
signal.signal(signal.SIGINT, lambda *_: heard.append(1))
with DecodePool(SamplingConfig(frames=4), DecodingConfig(workers=2)) as pool:
    if sys.argv[2] == "warm":
        pool.warm_up()
    coming = pool.decode(Source.at(sys.argv[1]))
    for _ in range(40):
        os.killpg(0, signal.SIGINT)
        time.sleep(0.02)
    print(type(coming.result(timeout=60)).__name__, len(heard) > 1)
"""


@needs_proc
@pytest.mark.parametrize("start", ["warm", "cold"])
def test_starting_workers_do_not_receive_ctrl_c(film: Source, start: str) -> None:
    done = subprocess.run(
        [sys.executable, "-c", INTERRUPTED, str(film.path), start],
        capture_output=True,
        text=True,
        timeout=120,
        check=False,
        start_new_session=True,
    )

    assert (done.stdout, done.stderr, done.returncode) == ("Clip True\n", "", 0)


def hostile_environment() -> dict[str, str]:
    return {**os.environ, "PYTHONPATH": os.pathsep.join([str(HOSTILE), *sys.path])}


def run_hostile(folder: Path, film: Source, names: list[str]) -> list[str]:
    """Return the outcome of videos that behave as their names say, in a separate program."""
    paths = [folder / f"{i} {name}.mp4" for i, name in enumerate(names)]
    for path in paths:
        path.symlink_to(film.path)
    done = subprocess.run(
        [sys.executable, "-c", RUN, *map(str, paths)],
        env=hostile_environment(),
        capture_output=True,
        text=True,
        timeout=120,
        check=True,
    )
    assert done.stderr == ""
    return done.stdout.split()


@pytest.mark.slow  # over a second of a core
def test_a_failing_video_affects_no_other(film: Source, tmp_path: Path) -> None:
    names = ["fine", "hangs", "segfaults", "fine", "is_killed", "eats", "leaves", "fine", "floods", "is_a_bug", "spins"]

    kinds = run_hostile(tmp_path, film, [*names, "fine", "fine"])

    expected = {
        "fine": "ok",
        "floods": "ok",
        "hangs": "timeout",
        "spins": "timeout",
        "eats": "out_of_memory",
        "is_a_bug": "internal",
    }
    assert kinds == [*(expected.get(name, "crashed") for name in names), "ok", "ok"]


@needs_proc
def test_a_pool_survives_the_death_of_idle_workers(film: Source) -> None:
    with DecodePool(SAMPLING, DecodingConfig(workers=2)) as struck:
        struck.decode(film).result()

        for worker in multiprocessing.active_children():
            worker.kill()
        time.sleep(0.5)

        assert isinstance(struck.decode(film).result(timeout=30), Clip)


@needs_proc
def test_nothing_is_left_when_a_hanging_pool_is_closed(film: Source, tmp_path: Path) -> None:
    hanging = tmp_path / "hangs.mp4"
    hanging.symlink_to(film.path)
    program = RUN.replace("outcome = one.result(timeout=60)", "time.sleep(1.5); break")

    with started(program, hanging) as running:
        start_s = time.monotonic()
        running.wait(timeout=30)

        assert running.returncode == 0
        assert time.monotonic() - start_s < 6  # including the start of an interpreter
        assert gone(group=running.pid, within_s=2)


@needs_proc
def test_nothing_is_left_when_the_program_is_killed(film: Source, tmp_path: Path) -> None:
    hanging = tmp_path / "hangs.mp4"
    hanging.symlink_to(film.path)

    with started(RUN.replace("decode_timeout=2", "decode_timeout=60"), hanging) as running:
        time.sleep(2)
        assert members(running.pid)
        running.kill()
        running.wait()

        assert gone(group=running.pid, within_s=2)


def test_a_program_needs_no_guard_around_its_main_part(film: Source, tmp_path: Path) -> None:
    program = tmp_path / "program.py"
    program.write_text("print('once')\n" + RUN)

    done = subprocess.run([sys.executable, program, film.path], capture_output=True, text=True, timeout=60, check=True)

    assert done.stdout == "once\nok\n"


# -- processes ----------------------------------------------------------------------------------------------------


def started(program: str, *arguments: Path) -> subprocess.Popen[bytes]:
    command = [sys.executable, "-c", program, *map(str, arguments)]
    return subprocess.Popen(command, env=hostile_environment(), start_new_session=True, stdout=subprocess.DEVNULL)


def members(group: int) -> list[int]:
    """Return the living processes of a group, named by the program that started it."""
    found = []
    for entry in Path("/proc").iterdir():
        if entry.name.isdecimal():
            try:
                state, _, its_group = (entry / "stat").read_text().rsplit(")", 1)[1].split()[:3]
            except OSError:
                continue
            if int(its_group) == group and state != "Z":
                found.append(int(entry.name))
    return found


def gone(*, group: int, within_s: float) -> bool:
    end_s = time.monotonic() + within_s
    while members(group) and time.monotonic() < end_s:
        time.sleep(0.05)
    return not members(group)
