"""`bike models pull`, and what commands do where weights are not on this disk."""

import json
import os
import re
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import pytest
from hub_server import Hub, serving
from huggingface_hub import constants
from invoke import BIKE, Ran, bike, bike_on_terminal
from repositories import put_on_hub, write_repository
from safetensors.torch import save
from small_models import ARCH, TAG, put_in_cache, register, tiny_checkpoint

from bike_cli.cli.terminal import downloads
from bike_cli.engine.download import hub
from bike_cli.engine.models import aliases

REPOSITORY, SAFE = aliases.ALIASES["base"].repository, hub.WEIGHTS_FILES[0]
SMALL = "nobody/bike-test"
WITHOUT_NETWORK = [sys.executable, str(Path(__file__).with_name("without_network.py"))]
LABELS = "red square, blue circle"


@pytest.fixture(scope="module")
def weights() -> bytes:
    """The weights of a small CLIP."""
    return save(tiny_checkpoint().clip.state_dict())


@pytest.fixture
def server(weights: bytes, _empty_cache: None, monkeypatch: pytest.MonkeyPatch) -> Iterator[Hub]:
    """A hub that has a small model, as ARCH,TAG and as `base`; the cache is empty."""
    register(monkeypatch)
    small = replace(aliases.ALIASES["base"], arch=ARCH, tag=TAG, size=len(weights))
    monkeypatch.setitem(aliases.ALIASES, "base", small)  # type: ignore[arg-type]
    monkeypatch.setattr(constants, "HF_HUB_DOWNLOAD_TIMEOUT", 1)
    a_hub = Hub({f"{SMALL}/{SAFE}": weights, f"{REPOSITORY}/{SAFE}": weights})
    with serving(a_hub) as url:
        monkeypatch.setattr(constants, "ENDPOINT", url)
        yield a_hub


def environment(server: Hub, home: Path, **more: str) -> dict[str, str]:
    """Return the variables of a process that uses the server."""
    clean = {name: value for name, value in os.environ.items() if not name.startswith(("HF_", "TRANSFORMERS_"))}
    return {**clean, "HF_ENDPOINT": server.url, "HF_HOME": str(home), "OMP_NUM_THREADS": "1", **more}


def plain(text: str) -> str:
    return re.sub(r"\x1b\[[0-9;?]*[A-Za-z]", "", text)


def scores(ran: Ran) -> list[object]:
    assert ran.exit_code == 0, ran.stderr
    return [record["top"] for record in ran.records]


# -- pull


def test_pull_prints_the_path_and_says_how_to_use_it(server: Hub, weights: bytes) -> None:
    ran = bike("models", "pull", "base")

    assert (ran.exit_code, Path(ran.stdout.strip()).read_bytes()) == (0, weights)
    begun, ended, usage = ran.stderr.splitlines()
    assert re.fullmatch(rf"base: downloading {SAFE} \([0-9.]+ MB\) from {server.url}/{REPOSITORY}", begun)
    assert ended.startswith("base: downloaded and verified")
    assert usage == "base: ready, verified; use it with -m base"


def test_a_second_pull_finds_it_there_and_verifies_it_without_the_network(server: Hub) -> None:
    first = bike("models", "pull", "base")
    server.requests.clear()

    ran = bike("models", "pull", "base")

    assert (ran.exit_code, ran.stdout) == (0, first.stdout)
    assert ran.stderr == "base: already there, verified; use it with -m base\n"
    assert server.requests == []


def test_pull_repairs_a_damaged_file(server: Hub, weights: bytes) -> None:
    path = Path(bike("models", "pull", "base").stdout.strip())
    path.resolve().write_bytes(weights[:1000])

    ran = bike("models", "pull", "base")

    assert (ran.exit_code, path.read_bytes()) == (0, weights)
    assert f"warning: {path}: is damaged; downloading it again" in ran.stderr


def test_a_copy_of_weights_that_cannot_be_checked_is_not_called_verified(
    server: Hub, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    bike("models", "pull", "base")
    monkeypatch.setattr(hub, "is_intact", lambda *_, **__: None)  # as in a cache without symbolic links

    ran = bike("models", "pull", "base", "--to", str(tmp_path / "stick"), "--offline")

    assert ran.exit_code == 0
    assert "cannot be verified offline" in ran.stderr
    assert ", verified" not in ran.stderr


def test_two_copies_to_a_folder_do_not_share_a_partial_file(
    server: Hub, weights: bytes, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    bike("models", "pull", "base")
    monkeypatch.setattr(hub, "acquire_lock", lambda *_, **__: None)  # as on a file system without locks
    other = tmp_path / "stick" / f"{SAFE}.incomplete"
    other.parent.mkdir()
    other.write_bytes(b"of another process")

    ran = bike("models", "pull", "base", "--to", str(other.parent))

    assert (ran.exit_code, (other.parent / SAFE).read_bytes()) == (0, weights)
    assert other.read_bytes() == b"of another process"


def test_pull_with_v_says_each_thing_once(server: Hub, weights: bytes) -> None:
    server.drops = [len(weights) // 2]

    ran = bike("models", "pull", "base", "-v")

    lines = [line for line in ran.stderr.splitlines() if line.startswith("info: ")]
    assert ran.exit_code == 0
    assert any("stopped at" in line for line in lines)
    assert len(set(lines)) == len(lines)


@pytest.mark.parametrize("flag", ["-v", "--all", "--json"])
@pytest.mark.parametrize("command", [["list"], ["pull", "tiny"]])
def test_flags_before_a_command_are_refused(flag: str, command: list[str]) -> None:
    ran = bike("models", flag, *command)

    assert (ran.exit_code, ran.stdout) == (2, "")
    assert f"flags must follow {command[0]}" in ran.stderr


def test_pull_with_q_says_nothing(server: Hub) -> None:
    ran = bike("models", "pull", "base", "-q")

    assert (ran.exit_code, ran.stderr) == (0, "")
    assert Path(ran.stdout.strip()).is_file()


@pytest.mark.slow  # over a second of a core
def test_a_terminal_gets_a_bar(server: Hub) -> None:
    server.pause_s = 0.005

    ran = bike_on_terminal("models", "pull", "base", columns=120)

    assert "━" in ran.stderr
    assert re.search(r"[0-9.]+/[0-9.]+ [kM]B", plain(ran.stderr))
    assert "base: downloaded and verified" in plain(ran.stderr)


def test_long_downloads_print_a_line_now_and_then(server: Hub, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(downloads, "STEP_S", 0.0)

    lines = bike("models", "pull", "base").stderr.splitlines()

    shares = [int(match[1]) for line in lines if (match := re.match(r"base: (\d+) %, .* of ", line))]
    assert shares == sorted(shares)
    assert 5 <= len(shares) <= 10


@pytest.mark.slow  # over a second of a core
@pytest.mark.parametrize("name", [f"{ARCH},{TAG}", "base"])
def test_a_folder_works_on_another_machine(
    name: str, server: Hub, clips: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    here = bike("classify", clips, "-L", LABELS, "-m", name, "--no-cache")
    folder = tmp_path / "my stick" / "base"
    ran = bike("models", "pull", name, "--to", folder)
    assert (ran.exit_code, ran.stdout) == (0, f"{folder / SAFE}\n")
    assert f"copy '{folder}' to the other machine and run there: bike classify -m '{folder}' VIDEO" in ran.stderr
    assert sorted(file.name for file in folder.iterdir()) == ["open_clip_config.json", SAFE]
    moved = shutil.move(folder, tmp_path / "there")
    monkeypatch.setattr(constants, "HF_HUB_CACHE", str(tmp_path / "empty"))

    there = bike("classify", clips, "-L", LABELS, "-m", moved, "--no-cache", "--offline")
    by_name = bike("classify", clips, "-L", LABELS, "-m", f"{ARCH},{moved}/{SAFE}", "--no-cache", "--offline")

    assert scores(there) == scores(by_name) == scores(here)


def test_a_folder_is_written_from_the_hub_and_found_there_again(server: Hub, weights: bytes, tmp_path: Path) -> None:
    first = bike("models", "pull", "base", "--to", tmp_path / "out")
    asked = len(server.downloads())

    again = bike("models", "pull", "base", "--to", tmp_path / "out")

    assert (tmp_path / "out" / SAFE).read_bytes() == weights
    assert (first.exit_code, again.exit_code, again.stdout) == (0, 0, first.stdout)
    assert "base: already there, verified" in again.stderr
    assert len(server.downloads()) == asked
    assert not (tmp_path / "hub").exists()


def test_a_damaged_copy_in_a_folder_is_replaced(server: Hub, weights: bytes, tmp_path: Path) -> None:
    bike("models", "pull", "base")
    (tmp_path / SAFE).write_bytes(weights[:-1])

    ran = bike("models", "pull", "base", "--to", tmp_path, "--offline")

    assert (ran.exit_code, (tmp_path / SAFE).read_bytes()) == (0, weights)


def test_a_folder_that_is_a_file_is_a_usage_error(server: Hub, tmp_path: Path) -> None:
    (tmp_path / "file").touch()

    ran = bike("models", "pull", "base", "--to", tmp_path / "file")

    assert (ran.exit_code, ran.stdout) == (2, "")
    assert "is a file; give a folder" in ran.stderr


@pytest.mark.parametrize(
    ("name", "match"),
    [
        ("bse", r"is not a short name, ARCH,TAG or hf-hub:OWNER/NAME; did you mean base or pe-base\?"),
        ("siglip3", r"did you mean siglip2 or siglip2-large\?"),
        ("google/siglip2-base-patch16-256", r"did you mean siglip2\?"),
        ("some/body", r"did you mean hf-hub:some/body\?"),
        ("ViT-B-16,opnai", "open_clip has no such weights"),
        ("ViT-B-61,openai", "open_clip has no such architecture; did you mean "),
        ("ViT-B-16,openai", r"trained with another activation \(QuickGELU\); use ViT-B-16-quickgelu,openai"),
        ("nllb-clip-base,v1", r"pip install 'bike-cli\[hf\]'"),
        ("nope", r"is not a short name, ARCH,TAG or hf-hub:OWNER/NAME; bike models --all lists all names$"),
        ("ViT-B-32,zzz", r"open_clip has no such weights; choose openai, .* or another one of bike models --all$"),
        ("", "is not a short name"),
    ],
)
def test_a_name_that_cannot_be_pulled_is_reported(name: str, match: str) -> None:
    ran = bike("models", "pull", name)

    assert (ran.exit_code, ran.stdout) == (5, "")
    assert re.search(match, ran.stderr.rstrip("\n"))


def test_the_bundled_model_is_there() -> None:
    ran = bike("models", "pull", "tiny")

    assert ran.exit_code == 0
    assert Path(ran.stdout.strip()).is_file()
    assert bike("models", "pull", "tiny", "--to", "x").exit_code == 2


def test_a_checksum_that_is_wrong_ends_with_5(server: Hub, weights: bytes) -> None:
    server.content = weights[:-1] + b"!"

    ran = bike("models", "pull", "base")

    assert (ran.exit_code, ran.stdout) == (5, "")
    assert "a proxy or mirror changes it" in ran.stderr


@pytest.mark.slow
@pytest.mark.skipif(os.name == "nt", reason="sends signals")
@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_ctrl_c_leaves_a_part_that_the_next_run_continues(number: signal.Signals, tmp_path: Path) -> None:
    server = Hub({f"{REPOSITORY}/{SAFE}": os.urandom(3_000_000)}, pause_s=0.02)
    with serving(server):
        variables = environment(server, tmp_path)
        command = [*BIKE, "models", "pull", "base"]
        process = subprocess.Popen(command, env=variables, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
        end_s = time.monotonic() + 60
        while not (found := list(tmp_path.rglob("*.incomplete"))) or found[0].stat().st_size < 100_000:
            assert time.monotonic() < end_s
            time.sleep(0.01)
        process.send_signal(number)
        stdout, stderr = process.communicate(timeout=60)
        server.pause_s = 0
        again = subprocess.run(command, env=variables, capture_output=True, text=True, timeout=300, check=False)

    assert (process.returncode, stdout) == (130, "")
    assert re.search(r"^base: stopped at .* \(3 MB\); the same command continues there$", stderr, re.MULTILINE)
    assert "Traceback" not in stderr
    assert stderr.endswith("\ninterrupted\n")
    assert again.returncode == 0
    assert " are on disk" in again.stderr
    assert re.search(r"bytes=[1-9]\d+-$", server.downloads()[-1])
    assert Path(again.stdout.strip()).read_bytes() == server.files[f"{REPOSITORY}/{SAFE}"]


# -- commands that need weights


@pytest.mark.parametrize("name", [f"{ARCH},{TAG}", "base"])
def test_classify_downloads_what_is_missing(name: str, server: Hub, clips: Path) -> None:
    first = bike("classify", clips, "-L", LABELS, "-m", name)
    again = bike("classify", clips, "-L", LABELS, "-m", name, "--offline", "--no-cache")

    assert scores(again) == scores(first)
    assert len(first.records) == 3
    assert re.search(rf"^{name}: downloading {SAFE} ", first.stderr)
    assert (len(server.downloads()), again.stderr) == (1, "")


@pytest.mark.slow  # over a second of a core
def test_classify_on_a_terminal_shows_the_download(server: Hub, clips: Path) -> None:
    server.pause_s = 0.005

    ran = bike_on_terminal("classify", clips, "-L", LABELS, "-m", "base")

    assert ran.exit_code == 0
    assert re.search(r"[0-9.]+/[0-9.]+ [kM]B", plain(ran.stderr))


def test_classify_with_q_downloads_in_silence(server: Hub, clips: Path) -> None:
    ran = bike("classify", clips, "-L", LABELS, "-m", "base", "-q")

    assert (ran.exit_code, ran.stderr) == (0, "")


@pytest.mark.parametrize("name", [f"{ARCH},{TAG}", "base"])
def test_weights_that_were_cut_short_are_never_loaded(name: str, server: Hub, clips: Path, weights: bytes) -> None:
    path = Path(bike("models", "pull", name).stdout.strip())
    path.resolve().write_bytes(weights[: len(weights) // 2])

    ran = bike("classify", clips, "-L", LABELS, "-m", name)

    assert (ran.exit_code, ran.stdout) == (5, "")
    assert f"error: {path}: cannot be loaded" in ran.stderr
    assert f"to repair it, run bike models pull {name}" in ran.stderr


@pytest.mark.parametrize("command", ["classify", "fewshot", "eval", "finetune", "export"])
def test_every_command_says_how_to_get_the_weights(command: str, server: Hub, clips: Path, tmp_path: Path) -> None:
    server.status = 503
    data = tmp_path / "data"
    for clip in clips.glob("*.mp4"):
        for number in range(4):
            target = data / clip.stem / f"{number}.mp4"
            target.parent.mkdir(parents=True, exist_ok=True)
            shutil.copy(clip, target)
    given = {
        "classify": [clips, "-L", LABELS],
        "fewshot": [data, "--shots", 1],
        "eval": [data],
        "finetune": [data, "--save", tmp_path / "out"],
        "export": ["base", tmp_path / "out"],
    }[command]

    ran = bike(command, *given)

    assert (ran.exit_code, ran.stdout) == (5, "")
    error, *details = ran.stderr.splitlines()
    fact = f"are not on this disk and cannot be downloaded ({server.url.removeprefix('http://')} answers HTTP 503)"
    assert error == f"error: model 'base': its weights {fact}"
    assert len(details) == 4
    assert all(line.startswith("  ") for line in details)
    assert "bike models pull base --to DIR" in ran.stderr


@pytest.mark.slow  # over a second of a core
@pytest.mark.parametrize("name", ["base", "siglip2"])
def test_without_a_network_a_short_name_says_so_before_torch_is_imported(
    name: str, clips: Path, tmp_path: Path
) -> None:
    hangs = Hub(hangs=True)
    with serving(hangs):
        command = [sys.executable, "-X", "importtime", *BIKE[1:], "classify", str(clips), "-L", LABELS, "-m", name]
        variables = environment(hangs, tmp_path)
        done = subprocess.run(command, env=variables, capture_output=True, text=True, timeout=300, check=False)

    assert done.returncode == 5
    assert "does not answer within 3 s" in done.stderr
    lines = [line for line in done.stderr.splitlines() if not line.startswith("import time:")]
    assert len(lines) == 5
    modules = {line.rsplit("|", 1)[1].strip() for line in done.stderr.splitlines() if line.startswith("import time:")}
    assert "bike_cli.engine.download.hub" in modules
    assert not {"torch", "open_clip"} & modules
    assert len(hangs.requests) == 1  # what waits 3 s is done once


# -- offline

OFFLINE = ("cached", "cached repository", "missing alias", "pull cached", "missing tag", "list", "pull")


@pytest.mark.slow  # ten seconds each
@pytest.mark.parametrize("variable", ["HF_HUB_OFFLINE", "TRANSFORMERS_OFFLINE"])
@pytest.mark.parametrize("case", OFFLINE)
def test_the_clients_offline_variables_open_no_socket(case: str, variable: str, clips: Path, tmp_path: Path) -> None:
    if "cached" in case:
        put_in_cache(tmp_path / "hub", tiny_checkpoint())
        put_on_hub(tmp_path / "hub", write_repository(tmp_path / "r", "ViT-B-32"), "nobody/fine-tuned")
    name = f"{ARCH},{TAG}"
    classify = ["classify", str(clips), "-L", LABELS, "--no-cache", "-m"]
    arguments, code, match = {
        "cached": ([*classify, name], 0, ""),
        "cached repository": ([*classify, "hf-hub:nobody/fine-tuned"], 0, ""),
        "missing tag": ([*classify, name], 5, f"are not on this disk, and {variable} forbids downloading them"),
        "missing alias": ([*classify, "base"], 5, f"are not on this disk, and {variable} forbids downloading them"),
        "list": (["models", "--all"], 0, ""),
        "pull": (["models", "pull", "base"], 5, f"{variable} forbids downloading them"),
        "pull cached": (["models", "pull", name], 0, "its checksum cannot be verified offline"),
    }[case]
    server = Hub(url="http://127.0.0.1:9")
    variables = environment(server, tmp_path, **{variable: "1"})

    command = [*WITHOUT_NETWORK, *arguments]
    done = subprocess.run(command, env=variables, capture_output=True, text=True, timeout=300, check=False)

    assert done.returncode == code, done.stderr
    assert "NETWORK" not in done.stderr
    assert match in done.stderr
    if case in ("cached", "cached repository"):
        assert [json.loads(line)["status"] for line in done.stdout.splitlines()] == ["ok"] * 3


@pytest.mark.slow
def test_a_socket_that_is_opened_would_be_seen(clips: Path, tmp_path: Path) -> None:
    server = Hub(url="http://127.0.0.1:9")
    command = [*WITHOUT_NETWORK, "models", "pull", "base"]
    variables = environment(server, tmp_path)
    done = subprocess.run(command, env=variables, capture_output=True, text=True, timeout=300, check=False)

    assert done.returncode == 99
    assert "NETWORK socket." in done.stderr
