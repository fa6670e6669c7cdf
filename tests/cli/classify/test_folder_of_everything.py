"""A folder as people have them, ordinary, odd, broken and hostile: a record for each file, and nothing else happens."""

import json
import os
import signal
import subprocess
import sys
import time
import wave
from pathlib import Path

import pytest
from films import drawn, write_video
from invoke import BIKE, ONE_THREAD
from mutations import mutated

REAL = Path(__file__).parents[4] / "shared" / "clips"
HOSTILE = Path(__file__).parents[2] / "hostile"
MUTATED = 84

KINDS = {  # what a video that behaves as its name says comes to
    "hangs": "timeout",
    "spins": "timeout",
    "segfaults": "crashed",
    "is_killed": "crashed",
    "leaves": "crashed",
    "is_a_bug": "internal",
    "eats": "out_of_memory",
    "floods": None,
}


@pytest.fixture(scope="module")
def folder(clips: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """At least 120 files, in folders."""
    top = tmp_path_factory.mktemp("everything")
    ordinary = sorted(clips.iterdir())
    _make_ordinary(top / "a ordinary", ordinary)
    _make_broken(top / "b broken", ordinary)
    _make_hostile(top / "c hostile", ordinary[0])
    _make_mutated(top / "d mutated", [*ordinary, *_small_real_ones()])
    if REAL.is_dir():
        (top / "e real").symlink_to(REAL)
    return top


def _make_ordinary(folder: Path, films: list[Path]) -> None:
    folder.mkdir()
    for i in range(12):
        (folder / f"film {i}.mp4").symlink_to(films[i % len(films)])
    for name in ("line\nend.mp4", "\udcff no utf-8.mp4", "-x.mp4", "quote'\".mp4", "日本.mp4"):
        (folder / name).symlink_to(films[0])
    others = (("vp9.webm", "libvpx-vp9", "webm"), ("mpeg4.avi", "mpeg4", "avi"), ("mpeg2.ts", "mpeg2video", "mpegts"))
    for name, codec, container in others:
        write_video(folder / name, drawn("red square"), codec=codec, container=container)


def _make_broken(folder: Path, films: list[Path]) -> None:
    folder.mkdir()
    (folder / "empty.mp4").touch()
    (folder / "text.mp4").write_text("This is no film.\n" * 50)
    (folder / "noise.mkv").write_bytes(bytes(range(256)) * 40)
    (folder / "gone.mp4").symlink_to(folder / "nowhere")
    (folder / "round.mp4").symlink_to(folder / "round.mp4")
    (folder / "half.mp4").write_bytes(films[0].read_bytes()[: films[0].stat().st_size // 2])
    with wave.open(str(folder / "sound.avi"), "wb") as sound:
        sound.setnchannels(1)
        sound.setsampwidth(2)
        sound.setframerate(8000)
        sound.writeframes(bytes(16000))
    os.mkfifo(folder / "pipe.mp4")


def _make_hostile(folder: Path, film: Path) -> None:
    folder.mkdir()
    for name in KINDS:  # each with bytes of its own behind the film, or the cache would know it
        (folder / f"{name}.mp4").write_bytes(film.read_bytes() + name.encode())


def _make_mutated(folder: Path, films: list[Path]) -> None:
    folder.mkdir()
    originals = [film.read_bytes() for film in films]
    for i in range(MUTATED):
        (folder / f"{i:03}.mp4").write_bytes(mutated(originals, i))


def _small_real_ones() -> list[Path]:
    names = ("carphone_176x144.mp4", "alpha_200x200.webm", "h265.mp4", "short_vp8_720p.webm", "mpeg4.avi")
    return [REAL / name for name in names if (REAL / name).exists()]


@pytest.mark.slow
def test_each_file_has_one_record_and_nothing_is_left_behind(folder: Path, tmp_path: Path) -> None:
    output = tmp_path / "answers.jsonl"
    command = [*BIKE, "classify", str(folder), "-m", "tiny", "-L", "red square,blue circle", "-o", str(output)]
    limits = ["--decode-timeout", "4", "--decode-memory", "1200", "--workers", "2"]
    environment = {**os.environ, **ONE_THREAD, "PYTHONPATH": os.pathsep.join([str(HOSTILE), *sys.path])}

    with subprocess.Popen([*command, *limits], env=environment, stderr=subprocess.PIPE, start_new_session=True) as run:
        assert run.stderr is not None
        said = run.stderr.read()
        code = run.wait(timeout=240)

    records = [json.loads(line) for line in output.read_bytes().splitlines()]
    assert code == 3
    assert b"Jack" not in said
    assert b"Traceback" not in said
    assert len(records) >= 120
    assert [record["path"] for record in records] == _files(folder)
    by_name = {Path(record["path"]).name: record.get("error", {}).get("type") for record in records}
    assert {name: by_name[f"{name}.mp4"] for name in KINDS} == KINDS
    assert not [record for record in records if "/a ordinary/" in record["path"] and record["status"] != "ok"]
    assert {record["status"] for record in records if "/b broken/" in record["path"]} <= {"error", "ok"}
    assert _living(run.pid, within_s=2) == []


@pytest.mark.slow
@pytest.mark.parametrize("signal_", [signal.SIGTERM, signal.SIGINT])
def test_a_signal_ends_a_run_that_hangs(folder: Path, tmp_path: Path, signal_: signal.Signals) -> None:
    output = tmp_path / "answers.jsonl"
    command = [
        *BIKE,
        "classify",
        str(folder / "a ordinary"),
        str(folder / "c hostile"),
        "-m",
        "tiny",
        "-L",
        "red square",
    ]
    environment = {**os.environ, **ONE_THREAD, "PYTHONPATH": os.pathsep.join([str(HOSTILE), *sys.path])}

    with subprocess.Popen([*command, "-o", str(output)], env=environment, start_new_session=True) as run:
        _await_records(output.with_name(f".{output.name}.part"), count=20)  # the next one hangs, for 30 s
        time.sleep(0.5)
        os.killpg(run.pid, signal_)
        start_s = time.monotonic()
        code = run.wait(timeout=60)

    assert time.monotonic() - start_s < 2
    assert code == 130
    assert len([json.loads(line) for line in output.read_bytes().splitlines()]) >= 20
    assert _living(run.pid, within_s=2) == []


def _await_records(file: Path, *, count: int) -> None:
    end_s = time.monotonic() + 60
    while not file.exists() or file.read_bytes().count(b"\n") < count:
        assert time.monotonic() < end_s
        time.sleep(0.02)


def _files(folder: Path) -> list[str]:
    """All files of a folder, in the order of names, folder by folder; links to folders are gone into."""
    listed = []
    for here, folders, files in os.walk(folder, followlinks=True):
        folders.sort()
        listed += [os.path.join(here, file) for file in sorted(files) if file != "README.md"]  # noqa: PTH118
    return listed


def _living(group: int, *, within_s: float) -> list[str]:
    """The processes of a group that live on after a while."""
    end_s = time.monotonic() + within_s
    while (left := _members(group)) and time.monotonic() < end_s:
        time.sleep(0.05)
    return left


def _members(group: int) -> list[str]:
    listed = subprocess.run(["ps", "-A", "-o", "pgid=,stat=,args="], capture_output=True, text=True, check=True)
    rows = [line.split(None, 2) for line in listed.stdout.splitlines()]
    return [row[2] for row in rows if row[0] == str(group) and not row[1].startswith("Z")]
