"""Facts for `bike doctor` about devices, the model hub and the cache."""

import socket
import threading
import time
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, HTTPServer
from pathlib import Path

import huggingface_hub
import pytest
import torch

from bike_cli.config import StoreConfig
from bike_cli.engine.doctor_facts import (
    describe_cache,
    describe_devices,
    describe_hub,
    describe_models,
    describe_torch,
    file_system_of,
    is_network,
)
from bike_cli.engine.store.file import FILE
from bike_cli.engine.store.store import open_store
from bike_cli.engine.towers.placement import place
from bike_cli.errors import StoreError


def test_torch_is_described() -> None:
    facts = describe_torch()

    assert facts["version"] == torch.__version__
    assert facts["threads"] == torch.get_num_threads()


def test_the_device_is_the_one_that_auto_chooses() -> None:
    facts = describe_devices()

    placement = place("auto", "auto")
    assert facts["device"] == str(placement.device)
    assert f"torch.{facts['precision']}" == str(placement.dtype)
    assert facts["error"] is None
    assert facts["reason"]


@pytest.mark.parametrize(
    ("message", "reason"),
    [
        ("Found no NVIDIA driver on your system. Please check that", "Found no NVIDIA driver on your system"),
        ("The NVIDIA driver on your system is too old (found version 11040). Please", "too old (found version 11040)"),
    ],
)
def test_a_cuda_build_reports_what_is_missing(message: str, reason: str, monkeypatch: pytest.MonkeyPatch) -> None:
    def init() -> None:
        raise RuntimeError(message)

    monkeypatch.setattr(torch.version, "cuda", "13.0")
    monkeypatch.setattr(torch.cuda, "init", init)
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)

    assert reason in str(describe_devices()["reason"])


def test_a_build_without_cuda_is_reported(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(torch.version, "cuda", None)
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)

    assert describe_devices()["reason"] == "torch is built without CUDA"


def test_models_on_this_disk_are_listed() -> None:
    facts = describe_models()

    assert facts["bundled_model"] is True
    assert "tiny" in facts["on_disk"]  # type: ignore[operator]


# -- the hub ----------------------------------------------------------------------------------------------------------


@pytest.fixture
def _no_proxy(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("http_proxy", "https_proxy", "all_proxy"):
        monkeypatch.delenv(name, raising=False)
        monkeypatch.delenv(name.upper(), raising=False)


@pytest.fixture
def server() -> Iterator[HTTPServer]:
    class Handler(BaseHTTPRequestHandler):
        def do_HEAD(self) -> None:
            time.sleep(self.server.delay_s)  # type: ignore[attr-defined]
            self.send_response(self.server.status)  # type: ignore[attr-defined]
            self.end_headers()

        def log_message(self, *_: object) -> None:
            pass

    httpd = HTTPServer(("127.0.0.1", 0), Handler)
    httpd.status, httpd.delay_s = 200, 0.0  # type: ignore[attr-defined]
    threading.Thread(target=httpd.serve_forever, daemon=True).start()
    yield httpd
    httpd.shutdown()
    httpd.server_close()


def _point_to(server: HTTPServer, monkeypatch: pytest.MonkeyPatch) -> str:
    endpoint = f"http://127.0.0.1:{server.server_port}"
    monkeypatch.setattr(huggingface_hub.constants, "ENDPOINT", endpoint)
    return endpoint


@pytest.mark.usefixtures("_no_proxy")
@pytest.mark.parametrize("status", [200, 404, 503])
def test_the_answer_of_the_hub_is_reported(status: int, server: HTTPServer, monkeypatch: pytest.MonkeyPatch) -> None:
    server.status = status  # type: ignore[attr-defined]
    endpoint = _point_to(server, monkeypatch)

    facts = describe_hub(30)

    assert (facts["endpoint"], facts["status"]) == (endpoint, status)


@pytest.mark.usefixtures("_no_proxy")
def test_a_name_look_up_that_hangs_takes_no_longer_than_the_limit(monkeypatch: pytest.MonkeyPatch) -> None:
    woken = threading.Event()

    def sleep(*_: object, **__: object) -> list[object]:
        woken.wait(60)
        raise socket.gaierror("too late")

    monkeypatch.setattr(socket, "getaddrinfo", sleep)
    monkeypatch.setattr(huggingface_hub.constants, "ENDPOINT", "http://hub.invalid")
    start_s = time.monotonic()

    facts = describe_hub(0.5)

    assert time.monotonic() - start_s < 5
    assert facts["status"] is None
    woken.set()


# -- the cache --------------------------------------------------------------------------------------------------------


def test_a_cache_that_does_not_exist_is_empty_and_not_created(tmp_path: Path) -> None:
    facts = describe_cache(str(tmp_path / "new" / "cache"))

    assert (facts["videos"], facts["bytes"], facts["error"]) == (0, 0, None)
    assert list(tmp_path.iterdir()) == []


def test_a_cache_is_counted(tmp_path: Path) -> None:
    store = open_store(StoreConfig(cache_dir=str(tmp_path)))
    assert store is not None
    store.close()

    facts = describe_cache(str(tmp_path))

    assert facts["videos"] == 0
    assert facts["bytes"] == sum(file.stat().st_size for file in tmp_path.iterdir() if not file.name.endswith("-shm"))


def test_a_cache_below_a_file_cannot_be_written(tmp_path: Path) -> None:
    (tmp_path / "file").touch()

    assert "is not a folder" in str(describe_cache(str(tmp_path / "file" / "cache"))["error"])


def test_a_damaged_cache_is_an_error(tmp_path: Path) -> None:
    (tmp_path / FILE).write_bytes(b"something else" * 100)

    with pytest.raises(StoreError):
        describe_cache(str(tmp_path))


MOUNTS = """\
22 1 8:1 / / rw,relatime shared:1 - ext4 /dev/sda1 rw
30 22 0:30 / /home rw,relatime shared:2 - nfs4 server:/home rw
31 30 8:2 / /home/a\\040b rw - xfs /dev/sdb1 rw
32 22 0:31 / /mnt/x rw master:1 propagate_from:2 - fuse.sshfs me@host:/ rw
33 22 0:32 / /mnt/y rw - ext4 /dev/sdc rw
34 22 0:33 / /mnt/y rw - cifs //server/share rw
"""


@pytest.mark.parametrize(
    ("folder", "file_system", "is_remote"),
    [
        ("/var/cache", "ext4", False),
        ("/home/me/.cache", "nfs4", True),
        ("/home/a b/cache", "xfs", False),
        ("/home/abc", "nfs4", True),
        ("/mnt/x/cache", "fuse.sshfs", True),
        ("/mnt/y", "cifs", True),  # mounted over another
    ],
)
def test_the_file_system_of_a_folder_is_known(folder: str, file_system: str, is_remote: bool, tmp_path: Path) -> None:
    mounts = tmp_path / "mountinfo"
    mounts.write_text(MOUNTS)

    assert file_system_of(Path(folder), mounts) == file_system
    assert is_network(file_system) == is_remote


def test_without_a_list_of_mounts_nothing_is_known(tmp_path: Path) -> None:
    assert file_system_of(Path("/home"), tmp_path / "missing") is None
    assert not is_network(None)
