"""bike works as daemons, job launchers and full disks let it, and blames no video for what is not its fault."""

import json
import os
import shutil
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest
from _pytest.mark import ParameterSet
from invoke import BIKE, ONE_THREAD, Ran, shell

from bike_cli.errors import ExitCode

LABELS = "-L 'red square,blue circle,green cross'"
HOSTILE = Path(__file__).parents[2] / "hostile"
CLOSED = ["<&-", ">&-", "2>&-", "<&- >&-", "<&- 2>&-", ">&- 2>&-"]


def slow(*values: object) -> ParameterSet:
    """Return parameters for the slow tests only: the others cover the same code in less time."""
    return pytest.param(*values, marks=pytest.mark.slow)


@pytest.fixture(scope="module")
def data(clips: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder of three classes, each of two videos."""
    folder = tmp_path_factory.mktemp("data")
    for clip in clips.iterdir():
        for i in range(2):
            (folder / clip.stem).mkdir(exist_ok=True)
            shutil.copy(clip, folder / clip.stem / f"{i}.mp4")
            with (folder / clip.stem / f"{i}.mp4").open("ab") as file:
                file.write(b"\0\0\0\x09free" + bytes([i]))  # an empty box: another file, the same film
    return folder


def records(file: Path) -> list[dict[str, object]]:
    return [json.loads(line) for line in file.read_text().splitlines()]


# -- descriptors --------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("closed", [*map(slow, ("<&- >&- 2>&-", *CLOSED))])
def test_classify_works_with_closed_streams(closed: str, clips: Path, tmp_path: Path) -> None:
    done = shell(f'bike classify "$1" -m tiny {LABELS} --no-cache -o "$2" {closed}', clips, tmp_path / "a.jsonl")

    assert (done.exit_code, done.stdout, done.stderr) == (ExitCode.DONE, "", "")
    assert [record["status"] for record in records(tmp_path / "a.jsonl")] == ["ok"] * 3


@pytest.mark.slow
def test_answers_reach_stdout_when_the_other_streams_are_closed(clips: Path) -> None:
    done = shell(f'bike classify "$1" -m tiny {LABELS} --no-cache <&- 2>&-', clips)

    assert [record["status"] for record in done.records] == ["ok"] * 3


@pytest.mark.parametrize(
    "command",
    [
        slow("fewshot $1 -m tiny --shots 1 --trials 1 -o $2/report.json"),
        slow("eval $1 -m tiny -o $2/report.json"),
        slow(
            "finetune $1 -m tiny --epochs 1 --freeze image,scale --frames 2 --batch-size 4 --device cpu --save $2/run"
        ),
    ],
)
def test_other_commands_work_with_closed_streams(command: str, data: Path, tmp_path: Path) -> None:
    done = shell(f"bike {command} <&- >&- 2>&-", data, tmp_path)

    assert done.exit_code == ExitCode.DONE
    assert list(tmp_path.glob("**/report.json"))


@pytest.mark.slow  # over a second of a core
@pytest.mark.parametrize(
    "command",
    [
        f"classify $1 -m tiny {LABELS}",
        slow("eval $1 -m tiny"),
        slow("fewshot $1 -m tiny"),
        "cache info",
        slow("models"),
        slow("classify --dump-config"),
    ],
)
def test_what_needs_stdout_says_that_it_is_closed(command: str, data: Path) -> None:
    done = shell(f"bike {command} >&-", data)

    assert done.exit_code == ExitCode.USAGE
    assert done.stderr.startswith("error: stdout: is closed, so the ")
    assert done.stderr.count("\n") == 1


# -- temporary files ----------------------------------------------------------------------------------------------


def classify_in(temporary: object, clips: Path, *arguments: object, **environment: str) -> Ran:
    done = subprocess.run(
        [*BIKE, "classify", clips, "-m", "tiny", "-L", "red square,blue circle,green cross", *map(str, arguments)],
        env={**os.environ, **ONE_THREAD, "TMPDIR": os.fsdecode(os.fspath(temporary)), **environment},  # type: ignore[call-overload]
        capture_output=True,
        text=True,
        timeout=120,
        check=False,
    )
    return Ran(done.returncode, done.stdout, done.stderr)


@pytest.mark.parametrize(
    "name",
    list(map(slow, ("\udcff" * 120, "with spaces", "\udcff\udcfe", "missing", "a file", "read-only", "a" * 200))),
)
def test_any_folder_for_temporary_files_works(name: str, clips: Path, tmp_path: Path) -> None:
    folder = tmp_path / name
    if name == "a file":
        folder.touch()
    elif name != "missing":
        folder.mkdir(mode=0o555 if name == "read-only" else 0o755)

    done = classify_in(folder, clips)

    assert (done.exit_code, done.stderr) == (ExitCode.DONE, "")
    assert [record["status"] for record in done.records] == ["ok"] * 3
    if folder.is_dir():
        assert [path.name for path in folder.iterdir() if "torchinductor" not in path.name] == []


@pytest.fixture
def full_disk(tmp_path: Path) -> Iterator[Path]:
    """A small disk without a free byte."""
    disk = tmp_path / "disk"
    disk.mkdir()
    mount = ["mount", "-t", "tmpfs", "-o", "size=64k", "tmpfs", str(disk)]
    if os.name != "posix" or os.geteuid() or subprocess.run(mount, capture_output=True, check=False).returncode:
        pytest.skip("only root may mount a small disk")
    try:
        (disk / "rest").write_bytes(bytes(os.statvfs(disk).f_bavail * os.statvfs(disk).f_frsize))
        yield disk
    finally:
        subprocess.run(["umount", str(disk)], check=True)


@pytest.mark.slow
def test_a_full_disk_for_temporary_files_and_the_cache(full_disk: Path, clips: Path) -> None:
    done = classify_in(full_disk, clips, "--cache-dir", full_disk / "cache")

    assert [record["status"] for record in done.records] == ["ok"] * 3
    assert done.exit_code == ExitCode.DONE
    assert done.stderr.startswith("warning: ")
    assert done.stderr.count("\n") == 1


# -- the cache ----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("by", "name"),
    [(by, name) for by in ("variable", "flag") for name in ("a file", "a file/below", "/proc/cache", "x" * 300)],
)
@pytest.mark.slow
def test_a_cache_that_cannot_be_made_is_a_warning(by: str, name: str, clips: Path, tmp_path: Path) -> None:
    (tmp_path / "a file").touch()
    folder = tmp_path / name

    if by == "flag":
        done = classify_in("", clips, "--cache-dir", folder)
    else:
        done = classify_in("", clips, BIKE_CACHE_DIR=str(folder))

    assert [record["status"] for record in done.records] == ["ok"] * 3
    assert (done.exit_code, done.stderr.count("\n")) == (ExitCode.DONE, 1)
    assert done.stderr.startswith(f"warning: {folder}")
    assert done.stderr.endswith("continuing without the cache\n")


# -- workers ------------------------------------------------------------------------------------------------------


@pytest.mark.slow
@pytest.mark.parametrize("fault", ["bug", "start"])
def test_where_no_worker_can_decode_no_video_is_blamed(fault: str, clips: Path, tmp_path: Path) -> None:
    file = tmp_path / "answers.jsonl"
    path = os.pathsep.join([str(HOSTILE), *sys.path])

    done = classify_in("", clips, "-o", file, "--resume", "--no-cache", HOSTILE=fault, PYTHONPATH=path)
    again = classify_in("", clips, "-o", file, "--resume", "--no-cache")

    assert done.exit_code == ExitCode.USAGE
    assert done.stderr.startswith("error: decode workers: cannot decode any video (")
    assert done.stderr.count("\n") == 1
    assert (again.exit_code, again.stderr) == (ExitCode.DONE, "")
    assert [record["status"] for record in records(file)] == ["ok"] * 3
