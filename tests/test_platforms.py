"""bike does without what other platforms lack: each is switched off here, in the run and in all of its workers."""

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

from bike_cli import scratch
from bike_cli.cli.terminal import output_file
from bike_cli.config import DecodingConfig, SamplingConfig
from bike_cli.data import path_lists
from bike_cli.errors import UsageError
from bike_cli.records import Clip, Source
from bike_cli.video.workers import processes, shared_memory, worker
from bike_cli.video.workers.pool import DecodePool

WITHOUT = Path(__file__).parent / "without"
EVERYTHING = "forkserver,memfd,fcntl,resource,sigmask,affinity,signals"  # as on Windows
SAMPLING = SamplingConfig(frames=4)


@pytest.mark.slow
@pytest.mark.parametrize(
    "missing",
    [
        EVERYTHING,
        *(
            pytest.param(name, marks=pytest.mark.slow)
            for name in ("forkserver", "memfd", "fcntl", "resource", "sigmask", "affinity", "signals")
        ),
    ],
)
def test_videos_are_classified_without(missing: str, clips: Path, tmp_path: Path) -> None:
    temporary, answers = tmp_path / "tmp", tmp_path / "answers.jsonl"
    temporary.mkdir()
    environment = {
        **os.environ,
        "OMP_NUM_THREADS": "1",
        "PYTHONPATH": os.pathsep.join([str(WITHOUT), *sys.path]),
        "WITHOUT": missing,
        "TMPDIR": str(temporary),
    }
    labels = ("-L", "red square,blue circle,green cross")

    done = subprocess.run(
        [sys.executable, "-m", "bike_cli", "classify", clips, "-m", "tiny", *labels, "--workers", "2", "-o", answers],
        env=environment,
        capture_output=True,
        text=True,
        timeout=300,
        check=False,
    )

    assert (done.returncode, done.stdout) == (0, "")
    assert done.stderr.startswith("3 videos: 3 ok in ")  # the closing line, and no warning before it
    told = {Path(r["path"]).stem: r["label"] for r in map(json.loads, answers.read_text().splitlines())}
    assert told == {name.replace(" ", "_"): name for name in ("red square", "blue circle", "green cross")}
    assert [path.name for path in tmp_path.iterdir() if path.name.startswith(".answers")] == []
    assert [path.name for path in temporary.iterdir() if "bike" in path.name] == []


def test_a_program_without_a_guard_starts_processes_from_scratch(clips: Path, tmp_path: Path) -> None:
    program = tmp_path / "program.py"
    program.write_text(
        "print('once')\n"
        "import sys\n"
        "from bike_cli.config import DecodingConfig, SamplingConfig\n"
        "from bike_cli.records import Source\n"
        "from bike_cli.video.workers.pool import DecodePool\n"
        "with DecodePool(SamplingConfig(frames=4), DecodingConfig(workers=2)) as pool:\n"
        "    print(type(pool.decode(Source.at(sys.argv[1])).result(60)).__name__)\n"
    )
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join([str(WITHOUT), *sys.path]), "WITHOUT": "forkserver"}

    done = subprocess.run(
        [sys.executable, program, clips / "red_square.mp4"],
        env=environment,
        capture_output=True,
        text=True,
        timeout=120,
        check=False,
    )

    assert (done.stdout, done.stderr) == ("once\nClip\n", "")


# -- in this process ----------------------------------------------------------------------------------------------


@pytest.mark.parametrize("method", ["forkserver", "spawn"])
@pytest.mark.parametrize("shares_memory", [True, False])
def test_workers_hand_over_the_same_pixels(
    method: str, shares_memory: bool, clips: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(processes, "HAS_FORK_SERVER", method == "forkserver")
    monkeypatch.setattr(shared_memory, "shares_memory", lambda: shares_memory)
    film = Source.at(clips / "red_square.mp4")

    with DecodePool(SAMPLING, DecodingConfig(workers=1)) as pool:
        outcome = pool.decode(film).result(timeout=120)
        left = [path.name for path in scratch.scratch_folder().iterdir() if path.name.startswith("clip-")]

    assert isinstance(outcome, Clip)
    assert outcome.frames.tobytes() == worker.decode(film, SAMPLING, decoder="auto").frames.tobytes()
    assert left == []


def test_processes_start_from_scratch_where_no_path_is_short_enough(
    clips: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    deep = tmp_path / ("a" * 120)
    deep.mkdir()
    monkeypatch.setattr(scratch, "candidates", lambda: iter([deep]))

    assert isinstance(processes.worker_context(), processes._SpawnContext)
    with DecodePool(SAMPLING, DecodingConfig(workers=1)) as pool:
        assert isinstance(pool.decode(Source.at(clips / "red_square.mp4")).result(timeout=120), Clip)


def test_memory_is_not_limited_where_its_use_cannot_be_read(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    resource = pytest.importorskip("resource")
    before = resource.getrlimit(resource.RLIMIT_AS)
    monkeypatch.setattr(worker, "STATM", tmp_path / "statm")

    worker._limit_memory(1)

    assert resource.getrlimit(resource.RLIMIT_AS) == before


@pytest.mark.parametrize("has_flock", [True, False])
def test_two_runs_never_write_one_file(has_flock: bool, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(output_file, "HAS_FLOCK", has_flock)
    file = tmp_path / "answers.jsonl"

    with output_file.open_output(file) as stream:
        stream.write("{}\n")
        with pytest.raises(UsageError, match="another run is writing it"), output_file.open_output(file):
            pass
    with output_file.open_resumed(file) as resumed:
        with pytest.raises(UsageError, match="another run is writing it"), output_file.open_resumed(file):
            pass
        with pytest.raises(UsageError, match="another run is writing it"), output_file.open_output(file):
            pass
        resumed.stream.write("{}\n")

    assert file.read_text() == "{}\n{}\n"
    assert [path.name for path in tmp_path.iterdir()] == ["answers.jsonl"]


def test_a_list_arrives_where_pipes_cannot_be_selected(monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(*_: object) -> None:
        raise OSError(10038, "an operation was attempted on something that is not a socket")

    monkeypatch.setattr(path_lists.select, "select", refuse)
    reader, writer = os.pipe()
    os.set_blocking(reader, False)
    program = f"import os, time; time.sleep(0.3); os.write({writer}, b'a.mp4\\nb.mp4\\n')"
    with (
        open(reader, "rb", buffering=0) as stream,  # noqa: PTH123
        subprocess.Popen([sys.executable, "-c", program], pass_fds=[writer]),
    ):
        os.close(writer)

        assert list(path_lists.read_paths(stream, nul=False)) == ["a.mp4", "b.mp4"]
