"""`bike models pull` and `verify` for models of several files: tokenizers, and repositories on the hub."""

import hashlib
import json
import re
import shutil
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import open_clip
import pytest
from hub_server import COMMIT, Hub, serving
from huggingface_hub import constants
from invoke import Ran, bike, bike_on_terminal
from open_clip import hf_model
from repositories import write_repository
from text_configs import small_config

from bike_cli.engine.download import hub
from bike_cli.engine.models import aliases

SAFE, CONFIG, TOKENIZER = hub.WEIGHTS_FILES[0], "open_clip_config.json", "tokenizer.json"
DESCRIPTION = "config.json"
LABELS = "red square, blue circle"
ARCH, TAG = "bike-test-SigLIP", "webli"
ON_HUB = "hf-hub:nobody/siglip"


@pytest.fixture(scope="module")
def files(tmp_path_factory: pytest.TempPathFactory) -> dict[str, bytes]:
    """The files of a small SigLIP."""
    folder = write_repository(tmp_path_factory.mktemp("siglip"), "ViT-B-16-SigLIP", "siglip")
    return {file.name: file.read_bytes() for file in folder.iterdir()}


@pytest.fixture
def server(files: dict[str, bytes], _empty_cache: None, monkeypatch: pytest.MonkeyPatch) -> Iterator[Hub]:
    """A hub that has a small SigLIP, as ARCH,TAG, as `siglip2` and as a repository; its small files are in git."""
    config = json.loads(files[CONFIG])
    config["model_cfg"]["text_cfg"]["hf_tokenizer_name"] = "timm/ViT-B-16-SigLIP"
    pretrained = {"hf_hub": "nobody/siglip/", **config["preprocess_cfg"]}
    monkeypatch.setitem(open_clip.factory._MODEL_CONFIGS, ARCH, config["model_cfg"])
    monkeypatch.setitem(open_clip.pretrained._PRETRAINED, ARCH, {TAG: pretrained})
    small = replace(aliases.ALIASES["siglip2"], arch=ARCH, tag=TAG, size=len(files[SAFE]), repository="nobody/siglip")
    monkeypatch.setitem(aliases.ALIASES, "siglip2", replace(small, tokenizer="timm/ViT-B-16-SigLIP"))  # type: ignore[arg-type]
    served = {f"nobody/siglip/{name}": content for name, content in files.items()}
    served[f"timm/ViT-B-16-SigLIP/{TOKENIZER}"] = files[TOKENIZER]
    a_hub = Hub(served, git_files=frozenset({CONFIG, TOKENIZER}))
    with serving(a_hub) as url:
        monkeypatch.setattr(constants, "ENDPOINT", url)
        yield a_hub


def scores(ran: Ran) -> list[object]:
    assert ran.exit_code == 0, ran.stderr
    return [record["top"] for record in ran.records]


def test_the_small_model_has_a_tokenizer(files: dict[str, bytes]) -> None:
    assert files.keys() == {SAFE, CONFIG, TOKENIZER}
    assert small_config("ViT-B-16-SigLIP")["text_cfg"]["hf_tokenizer_name"]


# -- pull


@pytest.mark.parametrize("name", ["siglip2", f"{ARCH},{TAG}", ON_HUB, f"{ON_HUB}@v1"])
def test_pull_gets_all_files_of_a_model(name: str, server: Hub, clips: Path, files: dict[str, bytes]) -> None:
    ran = bike("models", "pull", name)

    assert ran.exit_code == 0, ran.stderr
    assert Path(ran.stdout.strip()).read_bytes() == files[SAFE]
    assert ran.stderr.splitlines()[-1] == f"{name}: ready, verified; use it with -m {name}"
    fetched = {line.split()[1] for line in server.downloads()}
    assert fetched == ({SAFE, TOKENIZER, CONFIG} if name.startswith("hf-hub") else {SAFE, TOKENIZER})
    server.requests.clear()
    again = bike("models", "pull", name, "--offline")
    assert (again.stdout, server.downloads()) == (ran.stdout, [])
    assert again.stderr == f"{name}: already there, verified; use it with -m {name}\n"
    assert len(scores(bike("classify", clips, "-L", LABELS, "-m", name, "--offline", "--no-cache"))) == 3


@pytest.mark.parametrize("name", ["siglip2", f"{ARCH},{TAG}", ON_HUB])
@pytest.mark.parametrize("is_cached", [True, False])
def test_a_folder_works_on_another_machine(
    name: str, is_cached: bool, server: Hub, clips: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    here = bike("classify", clips, "-L", LABELS, "-m", name, "--no-cache")
    if not is_cached:
        shutil.rmtree(tmp_path / "hub")
    folder = tmp_path / "stick"
    ran = bike("models", "pull", name, "--to", folder)
    assert (ran.exit_code, ran.stdout) == (0, f"{folder / SAFE}\n")
    assert sorted(file.name for file in folder.iterdir()) == sorted([CONFIG, SAFE, TOKENIZER])
    assert "already there" in bike("models", "pull", name, "--to", folder).stderr
    monkeypatch.setattr(constants, "HF_HUB_CACHE", str(tmp_path / "empty"))

    there = bike("classify", clips, "-L", LABELS, "-m", folder, "--no-cache", "--offline")

    assert scores(there) == scores(here)


def test_weights_with_a_name_of_their_own_get_the_usual_one_in_a_folder(
    server: Hub, files: dict[str, bytes], clips: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    pretrained = {**open_clip.pretrained._PRETRAINED[ARCH][TAG], "hf_hub": "nobody/siglip/own.safetensors"}
    monkeypatch.setitem(open_clip.pretrained._PRETRAINED, ARCH, {TAG: pretrained})
    server.files["nobody/siglip/own.safetensors"] = files[SAFE]

    for folder in (tmp_path / "from the hub", tmp_path / "from the cache"):
        assert bike("models", "pull", f"{ARCH},{TAG}", "--to", folder).stdout == f"{folder / SAFE}\n"
        assert len(scores(bike("classify", clips, "-L", LABELS, "-m", folder, "--no-cache", "--offline"))) == 3
        bike("models", "pull", f"{ARCH},{TAG}")


def test_a_damaged_tokenizer_is_repaired(server: Hub, files: dict[str, bytes]) -> None:
    bike("models", "pull", "siglip2")
    [tokenizer] = Path(constants.HF_HUB_CACHE).rglob(f"snapshots/*/{TOKENIZER}")
    tokenizer.resolve().write_bytes(b"{}")

    ran = bike("models", "pull", "siglip2")

    assert (ran.exit_code, tokenizer.read_bytes()) == (0, files[TOKENIZER])
    assert f"warning: {tokenizer}: is damaged; downloading it again" in ran.stderr


@pytest.mark.parametrize("command", [["models", "pull"], ["export"]])
def test_offline_names_all_files_that_are_missing(command: list[str], server: Hub, tmp_path: Path) -> None:
    out = [tmp_path / "out"] if command == ["export"] else []

    ran = bike(*command, "siglip2", *out, "--offline")

    assert (ran.exit_code, ran.stdout, server.requests) == (5, "", [])
    assert "its weights and tokenizer are not on this disk, and --offline forbids downloading them" in ran.stderr
    assert f"needed: {TOKENIZER} of timm/ViT-B-16-SigLIP" in ran.stderr


@pytest.mark.parametrize("name", [SAFE, TOKENIZER, CONFIG])
def test_a_missing_file_of_a_repository_is_named_offline(name: str, server: Hub, clips: Path) -> None:
    bike("models", "pull", ON_HUB)
    server.requests.clear()
    [path] = Path(constants.HF_HUB_CACHE).rglob(f"snapshots/*/{name}")
    path.unlink()

    ran = bike("classify", clips, "-L", LABELS, "-m", ON_HUB, "--offline")

    assert (ran.exit_code, ran.stdout, server.requests) == (5, "", [])
    assert f"needed: {name} of nobody/siglip" in ran.stderr


def test_a_repository_without_weights_for_open_clip_is_reported(server: Hub) -> None:
    del server.files[f"nobody/siglip/{CONFIG}"]

    ran = bike("models", "pull", ON_HUB)

    assert (ran.exit_code, ran.stdout) == (5, "")
    assert f"has no {CONFIG} in nobody/siglip, HTTP 404" in ran.stderr
    assert server.downloads() == []


# -- verify


def test_verify_reports_every_file(server: Hub, files: dict[str, bytes]) -> None:
    bike("models", "pull", "siglip2")

    ran = bike("models", "verify", "siglip2")

    assert (ran.exit_code, ran.stderr) == (0, "2 files: 2 intact\n")
    weights, tokenizer = ran.records
    assert weights == {
        "model": "siglip2",
        "repository": "nobody/siglip",
        "commit": COMMIT,
        "path": weights["path"],
        "bytes": len(files[SAFE]),
        "checksum": hashlib.sha256(files[SAFE]).hexdigest(),
        "status": "intact",
    }
    git = hashlib.sha1(b"blob %d\0" % len(files[TOKENIZER]) + files[TOKENIZER]).hexdigest()
    assert (tokenizer["repository"], tokenizer["checksum"]) == ("timm/ViT-B-16-SigLIP", git)


@pytest.mark.parametrize("damaged", [SAFE, TOKENIZER])
@pytest.mark.parametrize("name", [ON_HUB, None])
def test_a_changed_byte_is_found(damaged: str, name: str | None, server: Hub) -> None:
    bike("models", "pull", ON_HUB)
    [path] = Path(constants.HF_HUB_CACHE).rglob(f"snapshots/*/{damaged}")
    content = bytearray(path.read_bytes())
    content[len(content) // 2] ^= 1
    path.resolve().write_bytes(content)

    ran = bike("models", "verify", *([name] if name else []))

    assert ran.exit_code == 3
    statuses = {Path(str(record["path"])).name: record["status"] for record in ran.records}
    assert statuses == {SAFE: "intact", TOKENIZER: "intact", CONFIG: "intact"} | {damaged: "damaged"}
    assert f"{path}: is damaged; to repair it, run bike models pull " in ran.stderr
    repair = next(line for line in ran.stderr.splitlines() if "damaged; to repair" in line).split("run bike ")[1]
    assert bike(*repair.split()).exit_code == 0


def test_a_damaged_file_of_a_pinned_revision_is_found(server: Hub, files: dict[str, bytes]) -> None:
    for revision in ("v1", "refs/pr/2", COMMIT):
        pinned = f"{ON_HUB}@{revision}"
        weights = Path(bike("models", "pull", pinned).stdout.strip())
        weights.resolve().write_bytes(b"damaged")

        ran = bike("models", "verify")

        assert (ran.exit_code, [record["status"] for record in ran.records].count("damaged")) == (3, 1)
        assert {record["model"] for record in ran.records} == {pinned}
        assert f"{weights}: is damaged; to repair it, run bike models pull {pinned}\n" in ran.stderr
        assert bike("models", "pull", pinned).exit_code == 0
        assert weights.read_bytes() == files[SAFE]
        shutil.rmtree(constants.HF_HUB_CACHE)


def test_every_revision_is_verified_and_a_shared_file_once(server: Hub) -> None:
    bike("models", "pull", ON_HUB)
    snapshots = Path(constants.HF_HUB_CACHE, "models--nobody--siglip", "snapshots")
    shutil.copytree(snapshots / COMMIT, snapshots / "before", symlinks=True)
    changed = snapshots / "before" / CONFIG
    changed.unlink()
    changed.write_bytes(b"{}")  # as where links do not exist

    ran = bike("models", "verify", "--offline")

    named = [(record["model"], record["status"], Path(str(record["path"])).name) for record in ran.records]
    assert [entry for entry in named if entry[2] == CONFIG] == [
        (ON_HUB, "intact", CONFIG),
        (f"{ON_HUB}@before", "unknown", CONFIG),
    ]
    assert len(named) == len({Path(str(record["path"])).resolve() for record in ran.records}) == 4


ROBERTA = "roberta-ViT-B-32,laion2b_s12b_b32k"


@pytest.fixture
def roberta(server: Hub, files: dict[str, bytes], monkeypatch: pytest.MonkeyPatch) -> Hub:
    """A hub with a model whose text tower is a separate model, as ARCH,TAG and as a repository."""
    config = open_clip.get_model_config("roberta-ViT-B-32")
    repository = str(open_clip.get_pretrained_cfg(*ROBERTA.split(","))["hf_hub"]).rstrip("/")
    for place in (repository, "nobody/roberta"):
        server.files[f"{place}/{SAFE}"] = b"weights of " + place.encode()
    server.files |= {
        f"nobody/roberta/{CONFIG}": json.dumps({"model_cfg": config}).encode(),
        f"nobody/roberta/{TOKENIZER}": files[TOKENIZER],
        f"roberta-base/{TOKENIZER}": files[TOKENIZER],
        f"roberta-base/{DESCRIPTION}": b'{"model_type": "roberta"}',
    }
    server.git_files |= {DESCRIPTION}
    monkeypatch.setattr(hf_model, "transformers", hf_model)  # pulling only asks whether it is installed
    return server


@pytest.mark.parametrize(
    ("name", "there"),
    [
        (ROBERTA, {SAFE, TOKENIZER, DESCRIPTION}),
        ("hf-hub:nobody/roberta", {SAFE, CONFIG, TOKENIZER, DESCRIPTION}),
        ("hf-hub:nobody/roberta@v1", {SAFE, CONFIG, TOKENIZER, DESCRIPTION}),
    ],
)
@pytest.mark.parametrize("has_transformers", [True, False])
def test_the_description_and_the_tokenizer_of_a_text_tower_are_verified(
    name: str, there: set[str], has_transformers: bool, roberta: Hub, monkeypatch: pytest.MonkeyPatch
) -> None:
    assert bike("models", "pull", name).exit_code == 0
    if not has_transformers:
        monkeypatch.setattr(hf_model, "transformers", None)
    for damaged in (TOKENIZER, DESCRIPTION):
        [path] = Path(constants.HF_HUB_CACHE).rglob(f"snapshots/*/{damaged}")
        content = path.read_bytes()
        path.resolve().write_bytes(b"damaged")

        for ran in (bike("models", "verify"), bike("models", "verify", name)):
            statuses = {Path(str(record["path"])).name: record["status"] for record in ran.records}
            assert statuses == dict.fromkeys(there, "intact") | {damaged: "damaged"}
            assert ran.exit_code == 3
            assert {record["commit"] for record in ran.records} == {COMMIT}
        path.resolve().write_bytes(content)


@pytest.mark.parametrize("config", [b"{", b'{"model_cfg": {"text_cfg": {"hf_model_name": "../../x"}}}'])
def test_a_repository_with_an_unusable_configuration_is_verified(config: bytes, server: Hub) -> None:
    bike("models", "pull", ON_HUB)
    [path] = Path(constants.HF_HUB_CACHE).rglob(f"snapshots/*/{CONFIG}")
    path.resolve().write_bytes(config)

    for ran in (bike("models", "verify"), bike("models", "verify", ON_HUB)):
        statuses = {Path(str(record["path"])).name: record["status"] for record in ran.records}
        assert (ran.exit_code, statuses) == (3, {SAFE: "intact", TOKENIZER: "intact", CONFIG: "damaged"})


def test_a_file_whose_checksum_only_the_hub_knows_is_unknown_offline(server: Hub) -> None:
    path = Path(bike("models", "pull", "siglip2").stdout.strip())
    blob = path.resolve()
    path.unlink()
    blob.rename(path)  # as where links do not exist

    offline, online = bike("models", "verify", "siglip2", "--offline"), bike("models", "verify", "siglip2")

    assert [record["status"] for record in offline.records] == ["unknown", "intact"]
    assert (offline.exit_code, offline.stderr) == (0, "2 files: 1 intact, 1 unknown\n")
    assert [record["status"] for record in online.records] == ["intact", "intact"]


def test_verify_on_a_terminal_prints_a_table(server: Hub) -> None:
    bike("models", "pull", "siglip2")

    ran = bike_on_terminal("models", "verify", columns=80)

    assert ran.exit_code == 0
    assert ran.stdout.count("intact") == 2
    lines = re.sub(r"\x1b\[[0-9;]*m", "", ran.stdout).splitlines()
    assert re.match(r"intact +siglip2 +open_clip_model.safetensors +[0-9.]+ kB", lines[2])
    assert max(map(len, lines)) <= 80


def test_verify_of_what_is_not_there(server: Hub) -> None:
    assert bike("models", "verify").stderr == "no model has been downloaded\n"
    absent, tiny, unknown = (bike("models", "verify", name) for name in ("siglip2", "tiny", "nope"))
    assert (absent.exit_code, tiny.exit_code, unknown.exit_code) == (5, 2, 5)
    assert "is not on this disk; run bike models pull siglip2" in absent.stderr
