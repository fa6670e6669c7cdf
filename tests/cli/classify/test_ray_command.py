"""`bike classify --ray`: the records of a run without it, and what goes wrong before Ray starts."""

import importlib
import json
import os
import random
import signal
import socket
import socketserver
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Iterator
from pathlib import Path

import pytest
from invoke import bike
from ray_runs import check_one_by_one, kill, lines_in, odd_clips, ray_run, varied_clips

from bike_cli.cli.terminal.output_file import part_of
from bike_cli.tasks.cluster import runtime

HOSTILE = Path(__file__).parents[2] / "hostile"
HOSTILE_ACTORS = Path(__file__).parents[2] / "hostile_actors"
LABELS = ("-m", "tiny", "-L", "red square,blue circle,green cross")
CLIPS = 40


@pytest.fixture(scope="module")
def videos(clips: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    return varied_clips(clips, tmp_path_factory.mktemp("videos") / "clips", CLIPS)


@pytest.fixture(scope="module")
def expected(videos: Path, tmp_path_factory: pytest.TempPathFactory) -> bytes:
    """The records of a run without Ray."""
    pytest.importorskip("ray")
    output = tmp_path_factory.mktemp("expected") / "answers.jsonl"
    with ray_run("classify", videos, *LABELS, "--no-cache", "-o", output) as run:
        assert run.end()[0] == 0
    return output.read_bytes()


# -- before Ray starts ---------------------------------------------------------------------------------------------


@pytest.fixture
def _ray_never_starts(monkeypatch: pytest.MonkeyPatch) -> None:
    ray = pytest.importorskip("ray")
    monkeypatch.setattr(ray, "init", lambda **_: pytest.fail("Ray was started"))


@pytest.mark.usefixtures("_ray_never_starts")
@pytest.mark.parametrize(
    ("arguments", "code", "message"),
    [
        (("-m", "nowhere.pt", "-L", "red,blue"), 5, "nowhere.pt: no such file or folder"),
        (("-m", "tiny", "-l", "nowhere.txt"), 2, "nowhere.txt"),
        (("-m", "tiny", "-L", "red,blue", "--template", "no place"), 2, "no place"),
        (("-m", "tiny", "-L", "red,blue", "--attributes", "no_lexicon"), 2, "no_lexicon"),
        (("-m", "tiny", "-L", "red,blue", "--scores", "sigmoid"), 2, "--scores sigmoid"),
        (("-m", "tiny", "-L", "red,blue", "--ray-actors", "0"), 2, "--ray-actors 0: must be at least 1"),
        (("-m", "tiny", "-L", "red,blue", "--ray-cpus", "few"), 2, "--ray-cpus few: is not a number"),
        (
            ("-m", "tiny", "-L", "red,blue", "--device", "cuda:1"),
            2,
            "device cuda:1: each process of --ray has a GPU of its own",
        ),
    ],
)
def test_mistakes_are_reported_before_ray_starts(
    clips: Path, arguments: tuple[str, ...], code: int, message: str
) -> None:
    ran = bike("classify", clips, *arguments, "--ray", "local")

    assert (ran.exit_code, ran.stdout) == (code, "")
    assert message in ran.stderr
    assert ran.stderr.count("\n") == 1


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (("--ray", "ray://head:10001"), "ray job submit -- bike … --ray auto"),
        (("--ray", "http://head:8265"), "is not an address; give HOST:PORT"),
        (("--ray", "head"), "is not an address; give HOST:PORT"),
        (("--ray-actors", "2"), "--ray-actors: only counts with --ray; add it"),
        (("--ray-cpus", "2"), "--ray-cpus: only counts with --ray; add it"),
    ],
)
def test_flags_that_do_not_fit_are_refused(clips: Path, arguments: tuple[str, ...], message: str) -> None:
    ran = bike("classify", clips, *LABELS, *arguments)

    assert ran.exit_code == 2
    assert message in ran.stderr


@pytest.mark.parametrize("has_folder", [False, True])
def test_without_ray_a_line_says_what_to_install(
    clips: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, has_folder: bool
) -> None:
    if has_folder:
        (tmp_path / "ray").mkdir()  # which can be imported, as a namespace
    bike("classify", clips, *LABELS, "--ray", "ray://head")  # imports what it needs
    monkeypatch.delitem(sys.modules, "ray", raising=False)
    with_ray = [path for path in sys.path if Path(path, "ray", "__init__.py").exists()]
    monkeypatch.setattr(sys, "path", [str(tmp_path), *(path for path in sys.path if path not in with_ray)])
    importlib.invalidate_caches()

    ran = bike("classify", clips, *LABELS, "--ray", "local")

    assert (ran.exit_code, ran.stdout) == (2, "")
    assert ran.stderr == "error: --ray: needs Ray, which is not installed; pip install 'bike-cli[ray]'\n"


def test_the_cache_is_off_unless_it_is_asked_for(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    pytest.importorskip("ray")
    file = tmp_path / "config.yaml"
    file.write_text("cache: true\n")

    def cache(*arguments: object) -> str:
        lines = bike("classify", "--dump-config", "--ray", "local", *arguments).stdout.splitlines()
        return next(line for line in lines if line.startswith("cache:"))

    assert cache() == "cache: false"
    assert cache("--cache") == "cache: true"
    assert cache("--config", file) == "cache: true"
    monkeypatch.setenv("BIKE_CACHE", "true")
    assert cache() == "cache: true"


def test_help_imports_no_ray() -> None:
    code = """import sys
from bike_cli.cli.app import app
try:
    app(["classify", "--help"])
except SystemExit:
    assert not {"ray", "torch"} & sys.modules.keys()
"""
    done = subprocess.run([sys.executable, "-c", code], check=True, capture_output=True, text=True, timeout=60)

    assert "--ray-cpus" in done.stdout


@pytest.mark.usefixtures("_ray_never_starts")
@pytest.mark.parametrize("is_named", [True, False])
def test_an_address_without_a_cluster_is_reported_at_once(
    clips: Path, monkeypatch: pytest.MonkeyPatch, is_named: bool
) -> None:
    with socket.create_server(("127.0.0.1", 0)) as server:
        address = f"127.0.0.1:{server.getsockname()[1]}"
    monkeypatch.setenv("RAY_ADDRESS", address)  # `auto` prefers it to the clusters of other tests

    ran = bike("classify", clips, *LABELS, "--ray", address if is_named else "auto")

    assert (ran.exit_code, ran.stdout) == (2, "")
    of_variable = f"--ray auto: the cluster at {address}, which RAY_ADDRESS names, cannot be connected to ("
    assert (f"--ray {address}: cannot be connected to (" if is_named else of_variable) in ran.stderr
    assert ran.stderr.count("\n") == 1


class Hangup(socketserver.BaseRequestHandler):
    """Closes connections at once."""


class Silence(socketserver.BaseRequestHandler):
    """Reads, and answers nothing."""

    def handle(self) -> None:
        while self.request.recv(1000):
            pass


class WebServer(socketserver.BaseRequestHandler):
    """Answers in another protocol than HTTP/2."""

    def handle(self) -> None:
        self.request.recv(1000)
        self.request.sendall(b"HTTP/1.1 400 Bad Request\r\n\r\n")


@pytest.mark.usefixtures("_ray_never_starts")
@pytest.mark.parametrize("server", [Hangup, Silence, WebServer])
def test_another_server_at_the_address_is_reported_at_once(
    clips: Path, server: type[socketserver.BaseRequestHandler], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(runtime, "REACH_S", 1.0)
    with socketserver.ThreadingTCPServer(("127.0.0.1", 0), server) as running:
        threading.Thread(target=running.serve_forever, daemon=True).start()
        address = f"127.0.0.1:{running.server_address[1]}"

        ran = bike("classify", clips, *LABELS, "--ray", address)
        running.shutdown()

    assert (ran.exit_code, ran.stdout) == (2, "")
    assert f"--ray {address}: cannot be connected to (" in ran.stderr


@pytest.mark.slow
@pytest.mark.parametrize("is_named", [True, False])
def test_what_ray_logs_while_it_connects_is_not_shown(clips: Path, is_named: bool) -> None:
    pytest.importorskip("ray")

    with socketserver.ThreadingTCPServer(("127.0.0.1", 0), Hangup) as server:
        threading.Thread(target=server.serve_forever, daemon=True).start()
        address = f"127.0.0.1:{server.server_address[1]}"
        command = [sys.executable, "-m", "bike_cli", "classify", clips, *LABELS, "-m", "tiny", "-q", "--ray"]
        environment = {**os.environ, "RAY_ADDRESS": address}
        done = subprocess.run(
            [*map(str, command), address if is_named else "auto"],
            env=environment,
            capture_output=True,
            text=True,
            timeout=120,
            check=False,
        )
        server.shutdown()

    assert (done.returncode, done.stdout) == (2, "")
    assert done.stderr.startswith("error: --ray ")
    assert done.stderr.count("\n") == 1


def test_what_keeps_ray_from_starting_is_reported(clips: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    ray = pytest.importorskip("ray")

    def refuse(**_: object) -> None:
        raise RuntimeError("Failed to start GCS.")

    monkeypatch.setattr(ray, "init", refuse)

    ran = bike("classify", clips, *LABELS, "--ray", "local")

    assert (ran.exit_code, ran.stdout) == (2, "")
    assert "Ray cannot be started (Failed to start GCS)" in ran.stderr


# -- the same records ----------------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def odd_folder(clips: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    return odd_clips(clips, tmp_path_factory.mktemp("odd") / "odd")


@pytest.mark.slow
def test_the_records_of_an_odd_folder_are_those_of_a_run_without_ray(odd_folder: Path, tmp_path: Path) -> None:
    pytest.importorskip("ray")
    command = ("classify", odd_folder.name, *LABELS, "--decode-timeout", "8", "--decode-memory", "1200")
    limits = {"cwd": odd_folder.parent, "path": (HOSTILE,)}
    with ray_run(*command, "--no-cache", **limits) as run:  # type: ignore[arg-type]
        code, expected, _ = run.end()
    with ray_run(*command, "--ray", "local", **limits) as run:  # type: ignore[arg-type]
        code_of_ray, stdout, stderr = run.end()
        left = run.left(within_s=10)

    kinds = {record["error"]["type"] for record in map(json.loads, expected.splitlines()) if "error" in record}
    assert kinds >= {"timeout", "crashed", "internal", "out_of_memory", "missing", "not_video"}
    assert (code_of_ray, stdout) == (code, expected)
    assert stderr == ""
    assert left == {}


@pytest.mark.slow
@pytest.mark.parametrize("format_", ["csv", "json", "table"])
def test_every_format_is_that_of_a_run_without_ray(clips: Path, format_: str) -> None:
    pytest.importorskip("ray")
    command = ("classify", clips, *LABELS, "-f", format_)
    with ray_run(*command, "--no-cache") as run:
        expected = run.end()
    with ray_run(*command, "--ray", "local") as run:
        assert run.end() == expected


@pytest.mark.slow
def test_strict_stops_at_the_first_failure(odd_folder: Path) -> None:
    pytest.importorskip("ray")
    command = ("classify", odd_folder, *LABELS, "--strict")
    with ray_run(*command, "--no-cache") as run:
        expected = run.end()
    with ray_run(*command, "--ray", "local") as run:
        assert run.end() == expected
        assert run.left(within_s=10) == {}


@pytest.mark.slow
def test_paths_on_stdin_are_answered_one_by_one(clips: Path) -> None:
    pytest.importorskip("ray")
    check_one_by_one(sorted(clips.iterdir()), "classify", "-", *LABELS, "--ray", "local")


# -- kills -----------------------------------------------------------------------------------------------------------


@pytest.mark.slow
def test_a_killed_actor_costs_no_answer(videos: Path, expected: bytes, tmp_path: Path) -> None:
    output = tmp_path / "answers.jsonl"
    with ray_run("classify", videos, *LABELS, "--ray", "local", "-o", output) as run:
        run.await_records(output, random.randrange(1, CLIPS // 2))
        actors = run.actors()
        for pid in actors:
            kill(pid)
        code, _, stderr = run.end()
        left = run.left(within_s=10)

    assert actors
    assert code == 0
    assert output.read_bytes() == expected
    assert stderr.startswith(f"{CLIPS} videos: {CLIPS} ok")
    assert stderr.count("\n") == 1  # nothing of Ray
    assert left == {}


@pytest.mark.slow
@pytest.mark.parametrize(("name", "kind"), [("kills_actor", "crashed"), ("a_bug_in_actor", "internal")])
def test_a_video_that_ends_its_actor_fails_alone(
    videos: Path, expected: bytes, tmp_path: Path, name: str, kind: str
) -> None:
    folder, deaths, output = tmp_path / "videos", tmp_path / "deaths", tmp_path / "answers.jsonl"
    folder.mkdir()
    deaths.mkdir()
    place = random.randrange(CLIPS)
    for i, video in enumerate(sorted(videos.iterdir())):
        (folder / (f"{i:03} {name}.mp4" if i == place else video.name)).symlink_to(video)
    hostile = {"environment": {"ACTORS": str(deaths)}, "path": (HOSTILE_ACTORS,)}
    with ray_run("classify", folder, *LABELS, "--ray", "local", "-o", output, **hostile) as run:  # type: ignore[arg-type]
        code, _, _ = run.end()

    records, wanted = (
        list(map(json.loads, output.read_bytes().splitlines())),
        [json.loads(line) for line in expected.splitlines()],
    )
    assert code == 3
    assert records[place]["error"]["type"] == kind
    assert len(list(deaths.iterdir())) == (4 if kind == "crashed" else 0)
    for records_of_run in (records, wanted):
        del records_of_run[place]
        for record in records_of_run:
            del record["path"]
    assert records == wanted


@pytest.mark.slow
def test_actors_that_cannot_start_end_the_run(clips: Path, tmp_path: Path) -> None:
    pytest.importorskip("ray")
    (tmp_path / "starts_die").touch()
    hostile = {"environment": {"ACTORS": str(tmp_path)}, "path": (HOSTILE_ACTORS,)}
    with ray_run("classify", clips, *LABELS, "--ray", "local", **hostile) as run:  # type: ignore[arg-type]
        code, stdout, stderr = run.end()

    assert (code, stdout) == (2, "")
    assert stderr.startswith("error: --ray: actors end before they are ready")
    assert stderr.count("\n") == 1
    assert len(list(tmp_path.glob("death-*"))) == 3


@pytest.mark.slow
def test_a_killed_run_is_resumed(videos: Path, expected: bytes, tmp_path: Path) -> None:
    output = tmp_path / "answers.jsonl"
    command = ("classify", videos, *LABELS, "--ray", "local", "-o", output)
    with ray_run(*command) as run:
        run.await_records(output, random.randrange(1, CLIPS // 2))
        kill(run.process.pid)
        assert run.end()[0] == -signal.SIGKILL
    assert lines_in(part_of(output)) > 0

    with ray_run(*command, "--resume") as run:
        assert run.end()[0] == 0
    assert output.read_bytes() == expected

    with ray_run(*command, "--resume") as run:
        code, _, stderr = run.end()
    assert code == 0
    assert "nothing left to do" in stderr
    assert output.read_bytes() == expected


@pytest.mark.slow
def test_ctrl_c_keeps_what_was_answered(videos: Path, expected: bytes, tmp_path: Path) -> None:
    output = tmp_path / "answers.jsonl"
    with ray_run("classify", videos, *LABELS, "--ray", "local", "-o", output) as run:
        run.await_records(output, random.randrange(1, CLIPS // 2))
        os.killpg(run.process.pid, signal.SIGINT)
        start_s = time.monotonic()
        code, _, stderr = run.end()
        took_s = time.monotonic() - start_s
        left = run.left(within_s=10)

    assert code == 130
    assert took_s < 3
    assert left == {}
    assert stderr.startswith("interrupted; ")
    assert "continue with --resume" in stderr
    assert stderr.count("\n") == 1
    assert output.read_bytes()
    assert expected.startswith(output.read_bytes())


@pytest.fixture
def ray_folder() -> Iterator[Path]:
    """A folder for the sessions of Ray; the paths of its sockets must be short."""
    with tempfile.TemporaryDirectory(prefix="ray-", dir="/tmp") as folder:
        yield Path(folder)


@pytest.mark.slow
@pytest.mark.parametrize("wait_s", [0.0, 1.0])
def test_ctrl_c_while_ray_starts_leaves_nothing(clips: Path, ray_folder: Path, wait_s: float) -> None:
    pytest.importorskip("ray")
    environment = {"RAY_TMPDIR": str(ray_folder)}
    with ray_run("classify", clips, *LABELS, "--ray", "local", environment=environment) as run:
        while run.process.poll() is None and not list(ray_folder.glob("ray/session_*_*")):
            time.sleep(0.01)
        time.sleep(wait_s)
        os.killpg(run.process.pid, signal.SIGINT)
        code, stdout, _ = run.end()
        left = run.left(within_s=10)

    assert (code, stdout) == (130, "")
    assert left == {}
    assert [entry for entry in (ray_folder / "ray").iterdir() if not entry.is_symlink()] == []
