"""A process that cuts and reads stills: whatever a video does to it, the next one is served, and nothing torn stays."""

import os
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pytest
from films import drawn, write_video
from numbered_films import CLIPS, needs_clips

from bike_cli.config import DecodingConfig
from bike_cli.records import Failure, Source
from bike_cli.video.cutting import Cut, part_of
from bike_cli.video.workers.media_worker import MediaWorker

HOSTILE = Path(__file__).parents[2] / "hostile"
needs_fork_server = pytest.mark.skipif(sys.platform == "win32", reason="only workers of a fork server are changed")
RUN = """
import sys
from pathlib import Path
from bike_cli.config import DecodingConfig
from bike_cli.records import Failure, Source
from bike_cli.video.workers.media_worker import MediaWorker

with MediaWorker(DecodingConfig(decode_timeout=1, decode_memory=512)) as worker:
    for number, path in enumerate(sys.argv[1:]):
        done = worker.cut(Source.at(path), 0.0, 1.0, Path(path).with_name(f"{number}.mp4"), exact=False)
        print(done.kind if isinstance(done, Failure) else "ok", flush=True)
"""


@pytest.fixture(scope="module")
def film(tmp_path_factory: pytest.TempPathFactory) -> Source:
    return Source.at(write_video(tmp_path_factory.mktemp("films") / "red square.mp4", drawn("red square")))


def run_hostile(folder: Path, film: Source, names: list[str]) -> list[str]:
    paths = [folder / f"{number} {name}.mp4" for number, name in enumerate(names)]
    for path in paths:
        path.symlink_to(film.path)
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join([str(HOSTILE), os.environ.get("PYTHONPATH", "")])}
    command = [sys.executable, "-c", RUN, *map(str, paths)]
    done = subprocess.run(command, env=environment, capture_output=True, text=True, timeout=120, check=True)
    assert done.stderr == ""
    return done.stdout.split()


def test_a_clip_is_cut(film: Source, tmp_path: Path) -> None:
    with MediaWorker(DecodingConfig()) as worker:
        made = [worker.cut(film, 0.5, 1.0, tmp_path / f"{exact}.mp4", exact=exact) for exact in (True, False)]

    assert made == [Cut(tmp_path / "True.mp4", 0.5, True), Cut(tmp_path / "False.mp4", 0.0, False)]
    assert sorted(f.name for f in tmp_path.iterdir()) == ["False.mp4", "True.mp4"]


def test_an_error_is_a_failure_of_its_kind(film: Source, tmp_path: Path) -> None:
    (tmp_path / "clip.mp4").write_bytes(b"mine")
    missing = Source.at(tmp_path / "gone.mp4")
    with MediaWorker(DecodingConfig()) as worker:
        kept = worker.cut(film, 0.5, 1.0, tmp_path / "clip.mp4", exact=False)
        gone = worker.cut(missing, 0.5, 1.0, tmp_path / "other.mp4", exact=False)

    assert isinstance(kept, Failure)
    assert (kept.kind, (tmp_path / "clip.mp4").read_bytes()) == ("unwritable", b"mine")
    assert gone == Failure(missing, "missing", f"{missing.id}: no such file; check the path")


@pytest.mark.slow  # over a second of a core
@needs_fork_server
def test_a_hostile_video_affects_no_other(film: Source, tmp_path: Path) -> None:
    expected = {
        "fine": "ok",
        "floods": "ok",
        "works_long": "ok",  # three seconds, but it shows signs of life
        "begins hangs": "timeout",
        "spins": "timeout",
        "begins segfaults": "crashed",
        "is_killed": "crashed",
        "leaves": "crashed",
        "eats": "out_of_memory",
        "is_a_bug": "internal",
    }
    names = [name for hostile in expected for name in (hostile, "fine")]

    kinds = run_hostile(tmp_path, film, names)

    assert kinds == [expected[name] for name in names]
    clips = {f"{number}.mp4" for number, name in enumerate(names) if expected[name] == "ok"}
    assert {f.name for f in tmp_path.iterdir() if not f.is_symlink()} == clips  # no `.part`


def test_a_worker_that_died_between_two_tasks_is_replaced(film: Source, tmp_path: Path) -> None:
    with MediaWorker(DecodingConfig()) as worker:
        worker.cut(film, 0.0, 1.0, tmp_path / "1.mp4", exact=False)
        assert worker._process is not None
        worker._process.kill()
        worker._process.join(10)

        assert isinstance(worker.cut(film, 0.0, 1.0, tmp_path / "2.mp4", exact=False), Cut)


@needs_fork_server
def test_a_program_that_is_interrupted_leaves_nothing(film: Source, tmp_path: Path) -> None:
    path = tmp_path / "begins hangs.mp4"
    path.symlink_to(film.path)
    program = RUN.replace("decode_timeout=1", "decode_timeout=60") + "\nprint('not reached')"
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join([str(HOSTILE), os.environ.get("PYTHONPATH", "")])}
    command = [sys.executable, "-c", program, str(path)]
    with subprocess.Popen(command, env=environment, stdout=subprocess.PIPE, stderr=subprocess.PIPE) as running:
        end_s = time.monotonic() + 30
        while not part_of(tmp_path / "0.mp4").exists() and time.monotonic() < end_s:
            time.sleep(0.05)
        running.send_signal(2)
        output, _ = running.communicate(timeout=30)

    assert output == b""
    assert [f.name for f in tmp_path.iterdir()] == ["begins hangs.mp4"]


@pytest.mark.parametrize("exact", [True, False])
def test_damage_anywhere_ends_in_a_clip_or_a_failure(film: Source, tmp_path: Path, exact: bool) -> None:
    content, rng = film.path.read_bytes(), np.random.default_rng(7)
    outcomes = []
    with MediaWorker(DecodingConfig(decode_timeout=10)) as worker:
        for number in range(25):
            damaged = bytearray(content)
            if number % 5 == 0:
                del damaged[rng.integers(len(content)) :]
            for place in rng.integers(0, len(damaged) or 1, 12):
                damaged[place : place + 1] = rng.bytes(1)
            path = tmp_path / f"{number}.damaged.mp4"
            path.write_bytes(damaged)
            outcomes.append(worker.cut(Source.at(path), 0.5, 1.5, tmp_path / f"{number}.clip.mp4", exact=exact))

    assert {type(outcome) for outcome in outcomes} == {Cut, Failure}
    assert not [f for f in tmp_path.iterdir() if f.name.endswith(".part")]
    assert not [o for o in outcomes if isinstance(o, Failure) and o.kind == "internal"]
    clips = {o.path for o in outcomes if isinstance(o, Cut)}
    assert clips == {*tmp_path.glob("*.clip.mp4")}


@needs_clips
def test_stills_are_read(tmp_path: Path) -> None:
    with MediaWorker(DecodingConfig()) as worker:
        found = worker.stills(Source.at(CLIPS / "yoga.mp4"), [5.0, 1.0], side_px=64)
        failed = worker.stills(Source.at(tmp_path / "gone.mp4"), [1.0], side_px=64)

    assert isinstance(found, list)
    assert all(still is not None and still.startswith(b"\xff\xd8") for still in found)
    assert isinstance(failed, Failure)
