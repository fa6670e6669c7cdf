"""`bike classify` and `bike spot` on an S3 server: records, exit codes, and what a killed run leaves behind."""

import json
import signal
import subprocess
import sys
import tarfile
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

pytest.importorskip("pyarrow")

from invoke import BIKE, ONE_THREAD, Ran, bike
from object_stores import ObjectStore, environment_of, put_in_memory, running_store, silent_store

TINY = ("-m", "tiny", "--workers", "1", "--frames", "2", "--no-cache", "-L", "red square,blue circle,green cross")
POSIX = pytest.mark.skipif(sys.platform == "win32", reason="Windows has no such signals")


@pytest.fixture(scope="module")
def store(clips: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[ObjectStore]:
    with running_store() as running:
        names = sorted(file.name for file in clips.iterdir())
        for name in names:
            running.put(f"clips/{name}", (clips / name).read_bytes())
        shard = tmp_path_factory.mktemp("shards") / "shard.tar"
        with tarfile.open(shard, "w") as tar:
            for name in names:
                tar.add(clips / name, name)
        running.put("shards/s-000.tar", shard.read_bytes())
        running.put("shards/s-001.tar", shard.read_bytes()[: shard.stat().st_size * 6 // 10])
        rows = "".join(f"{name},x\n" for name in names)
        running.put("clips/clips.csv", f"video,label\n{rows}".encode())
        yield running


@pytest.fixture
def _endpoint(store: ObjectStore, monkeypatch: pytest.MonkeyPatch) -> None:
    for name, value in store.environment.items():
        monkeypatch.setenv(name, value)


def records(ran: Ran, place: str = "") -> list[dict[str, object]]:
    """Return the records of a run, with what stands before the names of the videos taken away."""
    return [{**record, "path": str(record["path"]).removeprefix(place)} for record in ran.records]


@pytest.mark.usefixtures("_endpoint")
@pytest.mark.parametrize("command", ["classify", "spot"])
def test_records_of_objects_equal_those_of_files(command: str, clips: Path) -> None:
    local = bike(command, clips, *(TINY if command == "classify" else without_frames()))

    ran = bike(command, "s3://films/clips/", *(TINY if command == "classify" else without_frames()))

    assert ran.exit_code == local.exit_code == 0
    assert records(ran, "s3://films/clips/") == records(local, f"{clips}/")
    assert "clips.csv" in ran.stderr  # left out, which is reported


def without_frames() -> tuple[str, ...]:
    return tuple(word for word in TINY if word not in ("--frames", "2"))


@pytest.mark.usefixtures("_endpoint")
def test_tar_files_in_a_store(clips: Path) -> None:
    local = bike("classify", clips, *TINY)

    ran = bike("classify", "s3://films/shards/s-{000..002}.tar", *TINY)

    assert ran.exit_code == 3
    *_, damaged, missing = ran.records
    assert records(Ran(0, "\n".join(ran.stdout.splitlines()[:3]), ""), "s3://films/shards/s-000.tar/") == records(
        local, f"{clips}/"
    )
    assert (damaged["path"], damaged["error"]["type"]) == ("s3://films/shards/s-001.tar", "damaged")  # type: ignore[index]
    assert (missing["path"], missing["error"]["type"]) == ("s3://films/shards/s-002.tar", "missing")  # type: ignore[index]
    paths = [str(record["path"]) for record in ran.records]
    assert len(paths) == len(set(paths))


@pytest.mark.usefixtures("_endpoint")
@pytest.mark.parametrize("how", ["argument", "stdin", "list", "column", "parquet", "remote table"])
def test_uris_are_read_wherever_paths_are(how: str, clips: Path, tmp_path: Path) -> None:
    names = [f"s3://films/clips/{name}" for name in sorted(file.name for file in clips.iterdir())]
    lines = "\n".join(names)
    (tmp_path / "names.txt").write_text(lines)
    (tmp_path / "names.csv").write_text(f"uri\n{lines}\n")
    if how == "parquet":
        import pyarrow as pa
        import pyarrow.parquet as pq

        pq.write_table(pa.table({"uri": names}), tmp_path / "names.parquet")
    arguments: dict[str, tuple[object, ...]] = {
        "argument": tuple(names),
        "stdin": ("-",),
        "list": ("--files-from", tmp_path / "names.txt"),
        "column": ("--files-from", tmp_path / "names.csv", "--column", "uri"),
        "parquet": ("--files-from", tmp_path / "names.parquet", "--column", "uri"),
        "remote table": ("--files-from", "s3://films/clips/clips.csv", "--column", "video"),
    }

    ran = bike("classify", *arguments[how], *TINY, stdin=lines.encode() if how == "stdin" else b"")

    assert ran.exit_code == 0
    assert [record["path"] for record in ran.records] == names


@pytest.mark.usefixtures("_endpoint")
def test_one_bad_name_holds_nothing_back(clips: Path) -> None:
    name = sorted(file.name for file in clips.iterdir())[0]
    lines = f"s3://films/none.mp4\ns3://none-such/a.mp4\ns3://films/none/\nnone://x/\ns3://films/clips/{name}\n"

    ran = bike("classify", "-", *TINY, stdin=lines.encode())

    assert ran.exit_code == 3
    assert [record["path"] for record in ran.records] == lines.split()
    kinds = [record.get("error", {"type": "ok"})["type"] for record in ran.records]  # type: ignore[index]
    assert kinds == ["missing", "missing", "missing", "unreadable", "ok"]


@pytest.mark.usefixtures("_endpoint")
@pytest.mark.parametrize("name", ["s3://films/none/", "s3://none-such/", "s3://films/none", "s3://films/*.avi"])
def test_an_argument_without_a_video_is_a_usage_error(name: str) -> None:
    ran = bike("classify", name, *TINY)

    assert (ran.exit_code, ran.stdout) == (2, "")
    assert ran.stderr.startswith(f"error: {name}")
    assert len(ran.stderr.splitlines()) == 1


@pytest.mark.usefixtures("_endpoint")
def test_a_run_on_a_store_is_resumed_from_another_folder(
    clips: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    answers = tmp_path / "answers.jsonl"
    bike("classify", "s3://films/clips/", *TINY, "-o", answers)
    whole = answers.read_text()
    answers.write_text("".join(whole.splitlines(keepends=True)[:2]))
    monkeypatch.chdir(tmp_path)

    ran = bike("classify", "s3://films/clips/", *TINY, "-o", answers, "--resume")

    assert ran.exit_code == 0
    assert answers.read_text() == whole


@pytest.mark.parametrize("command", ["eval", "fewshot"])
def test_other_commands_say_that_they_read_no_uris(command: str, tmp_path: Path) -> None:
    table = tmp_path / "table.csv"
    table.write_text("path,label\n" + "".join(f"s3://films/{i}.mp4,{'ab'[i % 2]}\n" for i in range(8)))
    more = ("--shots", "1") if command == "fewshot" else ()

    ran = bike(command, table, "-m", "tiny", "--no-cache", "--workers", "1", *more)

    assert ran.exit_code != 0
    assert (
        "only bike classify, bike embed and bike spot read object stores; download it first, e.g. aws s3 cp"
        in ran.stderr
    )


# -- what bike spot writes for each video -----------------------------------------------------------------------------


@pytest.fixture
def _in_memory(clips: Path) -> None:
    film = (clips / "red_square.mp4").read_bytes()
    put_in_memory({"day 1/a.mp4": film, "day 2/a.mp4": film})


@pytest.mark.usefixtures("_in_memory")
def test_clips_and_pictures_of_objects_are_those_of_files(clips: Path, tmp_path: Path) -> None:
    outputs = ("--cut", tmp_path / "cut", "--report", tmp_path / "page.html")
    local = ("--cut", tmp_path / "local", "--report", tmp_path / "local.html")

    ran = bike("spot", "counted://store/", *without_frames(), *outputs)
    bike("spot", clips / "red_square.mp4", *without_frames(), *local)

    assert ran.exit_code == 0
    assert [record["path"] for record in ran.records] == [f"counted://store/day {i}/a.mp4" for i in (1, 2)]
    (expected,) = (tmp_path / "local").rglob("*.mp4")
    found = sorted((tmp_path / "cut").rglob("*.mp4"))
    assert [file.relative_to(tmp_path / "cut").parts[:2] for file in found] == [("day 1", "a"), ("day 2", "a")]
    assert [file.read_bytes() for file in found] == [expected.read_bytes()] * 2
    pictures = [(tmp_path / name).read_text().count("data:image/jpeg") for name in ("page.html", "local.html")]
    assert pictures[0] == 2 * pictures[1] > 0


@pytest.mark.usefixtures("_in_memory")
def test_subtitles_keep_the_tree_of_a_folder_in_a_store(tmp_path: Path) -> None:
    ran = bike("spot", "counted://store/", *without_frames(), "-f", "srt", "-o", f"{tmp_path / 'subtitles'}/")

    assert ran.exit_code == 0
    files = sorted(str(file.relative_to(tmp_path / "subtitles")) for file in (tmp_path / "subtitles").rglob("*.srt"))
    assert files == ["day 1/a.srt", "day 2/a.srt"]


# -- what is left behind ----------------------------------------------------------------------------------------------


def started(folder: Path, environment: dict[str, str], *arguments: object) -> "subprocess.Popen[bytes]":
    folder.mkdir(exist_ok=True)
    return subprocess.Popen(
        [*BIKE, *map(str, arguments)],
        env={**environment, **ONE_THREAD, "TMPDIR": str(folder)},
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        start_new_session=True,
    )


@pytest.fixture
def short_folder() -> Iterator[Path]:
    """A folder for temporary files with room for the name of a socket, as usual ones have."""
    with tempfile.TemporaryDirectory(prefix="bike-test-", dir="/tmp") as folder:
        yield Path(folder)


def wait_for_files(folder: Path) -> None:
    end_s = time.monotonic() + 60
    while not list(folder.glob("bike-tmp-*/fetched-*")):
        assert time.monotonic() < end_s, "nothing is fetched"
        time.sleep(0.002)


def wait_until_empty(folder: Path) -> None:
    end_s = time.monotonic() + 20
    while (left := list(folder.glob("bike-tmp-*/fetched-*"))) and time.monotonic() < end_s:
        time.sleep(0.05)
    assert left == []


@POSIX
@pytest.mark.slow
@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM, signal.SIGKILL], ids=lambda number: number.name)
@pytest.mark.parametrize("command", ["classify", "spot"])
def test_a_killed_run_leaves_no_fetched_file(
    command: str, number: signal.Signals, store: ObjectStore, clips: Path, short_folder: Path
) -> None:
    film = sorted(clips.iterdir())[0].read_bytes()
    for i in range(60):
        store.put(f"many/{i:02d}.mp4", film)
    arguments = (command, "s3://films/many/", *(TINY if command == "classify" else without_frames()))
    with started(short_folder, environment_of(store.endpoint), *arguments) as process:
        wait_for_files(short_folder)
        process.send_signal(number)
        _, stderr = process.communicate(timeout=60)

    assert process.returncode != 0
    assert b"Traceback" not in stderr
    wait_until_empty(short_folder)


@POSIX
@pytest.mark.slow
@pytest.mark.parametrize("name", ["s3://films/a.mp4", "s3://films/clips/"])
def test_ctrl_c_does_not_wait_for_a_store_that_never_answers(name: str, tmp_path: Path) -> None:
    with (
        silent_store() as endpoint,
        started(tmp_path / "tmp", environment_of(endpoint), "classify", name, *TINY, "-v") as process,
    ):
        time.sleep(6)
        assert process.poll() is None
        start_s = time.monotonic()
        process.send_signal(signal.SIGINT)
        process.communicate(timeout=60)

    assert process.returncode in (130, -signal.SIGINT)
    assert time.monotonic() - start_s < 5


@pytest.mark.slow
def test_a_store_that_never_answers_fails_its_videos_only(clips: Path, tmp_path: Path) -> None:
    film = sorted(clips.iterdir())[0]
    with silent_store() as endpoint:
        arguments = ("classify", "s3://films/a.mp4", film, *TINY, "--decode-timeout", "4")
        with started(tmp_path / "tmp", environment_of(endpoint), *arguments) as process:
            stdout, _ = process.communicate(timeout=100)

    failure, answer = map(json.loads, stdout.splitlines())
    assert process.returncode == 3
    assert failure["error"]["type"] in ("timeout", "unreadable")
    assert answer["status"] == "ok"
