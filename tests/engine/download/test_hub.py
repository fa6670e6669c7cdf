"""Downloads from a hub are complete and verified, or fail quickly with advice on how to get the weights."""

import errno
import hashlib
import logging
import os
import shutil
import socket
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from types import SimpleNamespace

import huggingface_hub
import pytest
from full_disk import files_of_at_most
from hub_server import Hub, serving
from huggingface_hub import constants

from bike_cli.engine.download import hub, transfer
from bike_cli.engine.download.progress import Reporter, Transfer, reporting_to
from bike_cli.errors import ExitCode, ModelError

BLOCK = 8192
REPOSITORY, SAFE, PICKLE = "timm/somebody", *hub.WEIGHTS_FILES
CONTENT = bytes(range(256)) * 4000  # 1 MB
WEIGHTS = hub.ModelFile("base", "ViT-B-16-quickgelu", REPOSITORY, size=len(CONTENT))


@pytest.fixture
def server() -> Iterator[Hub]:
    a_hub = Hub({f"{REPOSITORY}/{SAFE}": CONTENT})
    with serving(a_hub):
        yield a_hub


@pytest.fixture(autouse=True)
def _use(monkeypatch: pytest.MonkeyPatch, tmp_path: Path, request: pytest.FixtureRequest) -> None:
    """Point the client to the server, and to a cache of its own."""
    for name in ("HF_HUB_ETAG_TIMEOUT", "HF_TOKEN", "HF_HUB_OFFLINE", "TRANSFORMERS_OFFLINE"):
        monkeypatch.delenv(name, raising=False)
    for name in [name for name in os.environ if name.lower().endswith("_proxy")]:
        monkeypatch.delenv(name)
    monkeypatch.setattr(constants, "HF_HUB_CACHE", str(tmp_path / "hub"))
    monkeypatch.setattr(constants, "HF_HUB_DOWNLOAD_TIMEOUT", 1)
    monkeypatch.setattr(constants, "HF_HUB_OFFLINE", False)
    if "server" in request.fixturenames:
        point_to(request.getfixturevalue("server").url, monkeypatch)


def point_to(url: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(constants, "ENDPOINT", url)
    template = f"{url}/{{repo_id}}/resolve/{{revision}}/{{filename}}"
    monkeypatch.setattr(constants, "HUGGINGFACE_CO_URL_TEMPLATE", template)


class RecordingReporter(Reporter):
    """Records the calls that it receives."""

    def __init__(self, *, interrupt_at: int | None = None) -> None:
        self.lines: list[str] = []
        self.sizes: list[int] = []
        self._interrupt_at = interrupt_at

    def started(self, transfer: Transfer, done: int) -> None:
        self.lines.append(f"started {transfer.file} at {done} of {transfer.size} from {transfer.source}")

    def progressed(self, done: int) -> None:
        self.sizes.append(done)
        if self._interrupt_at is not None and done >= self._interrupt_at:
            raise KeyboardInterrupt

    def waiting(self, transfer: Transfer) -> None:
        self.lines.append("waiting")

    def stopped(self, transfer: Transfer, done: int, *, is_complete: bool) -> None:
        self.lines.append(f"stopped at {done}, {'complete' if is_complete else 'incomplete'}")


def partials(folder: Path) -> list[Path]:
    return [file for file in folder.rglob("*.incomplete") if file.is_file()]


def fetch(folder: Path | None = None) -> Path:
    return hub.download(WEIGHTS, offline=False, folder=folder)


def refused(match: str) -> ModelError:
    """Expect a refusal within five seconds that says how to get the weights."""
    start_s = time.monotonic()
    with pytest.raises(ModelError, match=match) as caught:
        fetch()
    assert time.monotonic() - start_s < 5
    assert caught.value.exit_code == ExitCode.NO_MODEL
    details = "\n".join(caught.value.details)
    for part in (SAFE, REPOSITORY, "1 MB", "HF_ENDPOINT", "HF_HOME", "bike models pull base --to DIR"):
        assert part in details
    assert "tiny" not in str(caught.value)
    return caught.value


# -- downloads that work


def test_a_download_is_where_the_client_of_the_hub_finds_it(server: Hub, tmp_path: Path) -> None:
    reporter = RecordingReporter()
    with reporting_to(reporter):
        file = fetch()

    assert file.read_bytes() == CONTENT
    assert huggingface_hub.try_to_load_from_cache(REPOSITORY, SAFE) == str(file)
    assert hub.cached_file(WEIGHTS) == file
    # The client itself takes it without downloading anything.
    assert Path(huggingface_hub.hf_hub_download(REPOSITORY, SAFE)).read_bytes() == CONTENT
    assert server.downloads().count(f"GET {SAFE}") == 1
    assert reporter.lines[0] == f"started {SAFE} at 0 of {len(CONTENT)} from {server.url}/{REPOSITORY}"
    assert reporter.lines[-1] == f"stopped at {len(CONTENT)}, complete"
    assert reporter.sizes == sorted(reporter.sizes)
    assert reporter.sizes[-1] == len(CONTENT)
    assert partials(tmp_path) == []


def test_the_cache_is_one_that_the_client_can_scan(server: Hub) -> None:
    fetch()

    info = huggingface_hub.scan_cache_dir(constants.HF_HUB_CACHE)
    assert [repo.repo_id for repo in info.repos] == [REPOSITORY]
    assert not info.warnings


def test_a_redirect_to_another_host_is_followed_without_the_token(server: Hub, monkeypatch: pytest.MonkeyPatch) -> None:
    server.has_cdn = True
    monkeypatch.setenv("HF_TOKEN", "hf_secret")

    assert fetch().read_bytes() == CONTENT


@pytest.mark.parametrize("ending", ["", "/", "//"])
def test_a_mirror_may_have_a_path_and_a_slash(ending: str, monkeypatch: pytest.MonkeyPatch) -> None:
    with serving(Hub({f"{REPOSITORY}/{SAFE}": CONTENT}, prefix="/mirror/hf")) as url:
        point_to(url, monkeypatch)
        monkeypatch.setattr(constants, "ENDPOINT", url + ending)
        monkeypatch.setattr(
            constants, "HUGGINGFACE_CO_URL_TEMPLATE", url + ending + "/{repo_id}/resolve/{revision}/{filename}"
        )

        assert fetch().read_bytes() == CONTENT


def test_the_second_file_is_used_if_the_preferred_one_is_missing(server: Hub) -> None:
    server.files = {f"{REPOSITORY}/{PICKLE}": CONTENT}

    assert fetch().name == PICKLE


def test_a_mirror_with_another_kind_of_checksum_is_used(server: Hub) -> None:
    server.etag = "5f:1-abc"

    assert fetch().read_bytes() == CONTENT


def test_a_folder_receives_the_file_and_nothing_else(server: Hub, tmp_path: Path) -> None:
    file = fetch(tmp_path / "stick" / "base")

    assert file.read_bytes() == CONTENT
    assert list(file.parent.iterdir()) == [file]
    assert not (tmp_path / "hub").exists()


def test_without_symbolic_links_the_file_itself_is_in_the_cache(server: Hub, monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(*_: object, **__: object) -> None:
        raise OSError("a privilege is not held")

    monkeypatch.setattr(Path, "symlink_to", refuse)
    file = fetch()

    assert not file.is_symlink()
    assert hub.cached_file(WEIGHTS) == file
    assert hub.is_intact(file, WEIGHTS, offline=False) is True
    assert hub.is_intact(file, WEIGHTS, offline=True) is None


# -- interruptions


def test_an_interrupted_download_continues(server: Hub, tmp_path: Path) -> None:
    server.pause_s = 0.001
    with reporting_to(RecordingReporter(interrupt_at=300_000)) as _, pytest.raises(KeyboardInterrupt):
        fetch()
    (partial,) = partials(tmp_path)
    size = partial.stat().st_size
    assert 300_000 <= size < len(CONTENT)
    assert hub.cached_file(WEIGHTS) is None  # no file that could be mistaken for weights
    reporter = RecordingReporter()

    with reporting_to(reporter):
        file = fetch()

    assert file.read_bytes() == CONTENT
    assert server.downloads() == [f"GET {SAFE}", f"GET {SAFE} bytes={size}-"]
    assert f"at {size} of" in reporter.lines[0]


DOWNLOAD_PROGRAM = """
import sys
from bike_cli.engine.download import hub
hub.download(hub.ModelFile("base", "A", sys.argv[1]), offline=False)
"""


def download_in_another_process(server: Hub, folder: Path) -> subprocess.Popen[bytes]:
    environment = {**os.environ, "HF_ENDPOINT": server.url, "HF_HUB_CACHE": str(folder / "hub")}
    return subprocess.Popen([sys.executable, "-c", DOWNLOAD_PROGRAM, REPOSITORY], env=environment)


def test_a_killed_download_continues(server: Hub, tmp_path: Path) -> None:
    server.pause_s = 0.02
    process = download_in_another_process(server, tmp_path)
    end_s = time.monotonic() + 60
    while not any(file.stat().st_size > 200_000 for file in partials(tmp_path)) and time.monotonic() < end_s:
        time.sleep(0.01)
    process.kill()
    process.wait()
    (partial,) = partials(tmp_path)
    size = partial.stat().st_size
    assert 200_000 < size < len(CONTENT)
    assert hub.cached_file(WEIGHTS) is None
    server.pause_s = 0

    assert fetch().read_bytes() == CONTENT
    assert server.downloads()[-1] == f"GET {SAFE} bytes={size}-"


def test_a_dropped_connection_is_resumed(server: Hub) -> None:
    server.drops = [10 * BLOCK, 5 * BLOCK, 20 * BLOCK]

    assert fetch().read_bytes() == CONTENT
    ranges = [line.partition("bytes=")[2] for line in server.downloads()]
    assert ranges == ["", *(f"{blocks * BLOCK}-" for blocks in (10, 15, 35))]


def test_a_stalled_transfer_is_resumed(server: Hub, monkeypatch: pytest.MonkeyPatch) -> None:
    server.stalls_after = 400_000
    monkeypatch.setattr(constants, "HF_HUB_DOWNLOAD_TIMEOUT", 0.5)

    assert fetch().read_bytes() == CONTENT
    assert len(server.downloads()) == 3


def test_a_download_without_progress_is_given_up(server: Hub, monkeypatch: pytest.MonkeyPatch) -> None:
    server.drops = [10 * BLOCK, 0, 0, 0, 0, 0]
    monkeypatch.setattr(transfer, "ATTEMPTS", 2)

    refused(r"the connection to .* was lost; 81.9 kB of 1 MB are downloaded; the next attempt continues")


def test_a_server_without_ranges_starts_over(server: Hub, tmp_path: Path) -> None:
    server.drops, server.ignores_range = [300_000], True
    reporter = RecordingReporter()

    with reporting_to(reporter):
        assert fetch().read_bytes() == CONTENT
    assert reporter.sizes[-1] == len(CONTENT)


@pytest.mark.parametrize("left", [b"x" * 5000, b"x" * len(CONTENT), b"x" * (len(CONTENT) + 1)])
def test_a_partial_file_with_other_content_is_replaced(
    left: bytes, server: Hub, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    blobs = tmp_path / "hub" / f"models--{REPOSITORY.replace('/', '--')}" / "blobs"
    blobs.mkdir(parents=True)
    (blobs / f"{hashlib.sha256(CONTENT).hexdigest()}.bike.incomplete").write_bytes(left)

    assert fetch().read_bytes() == CONTENT
    assert ("from an earlier download was damaged" in caplog.text) == (len(left) <= len(CONTENT))


def test_two_processes_do_not_download_the_same_file_twice(server: Hub, tmp_path: Path) -> None:
    server.pause_s = 0.01
    process = download_in_another_process(server, tmp_path)
    end_s = time.monotonic() + 60
    while not partials(tmp_path) and time.monotonic() < end_s:
        time.sleep(0.01)
    reporter = RecordingReporter()

    with reporting_to(reporter):
        assert fetch().read_bytes() == CONTENT

    assert process.wait() == 0
    assert reporter.lines == ["waiting"]
    assert len(server.downloads()) == 1


@pytest.mark.parametrize("number", [errno.ENOLCK, errno.EOPNOTSUPP, errno.ENOSYS])
def test_a_file_system_without_locks_works(
    number: int, server: Hub, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def refuse(*_: object) -> None:
        raise OSError(number, os.strerror(number))

    monkeypatch.setattr("fcntl.flock", refuse)

    assert fetch().read_bytes() == CONTENT
    assert fetch(tmp_path / "folder").read_bytes() == CONTENT
    assert [file.name for file in (tmp_path / "folder").iterdir()] == [SAFE]
    assert partials(tmp_path) == []


def test_without_locks_two_downloads_do_not_write_one_file(
    server: Hub, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("bike_cli.engine.download.hub.acquire_lock", lambda *_, **__: None)
    other = tmp_path / "folder" / f"{SAFE}.incomplete"
    other.parent.mkdir()
    other.write_bytes(b"of another process")

    assert fetch(other.parent).read_bytes() == CONTENT
    assert other.read_bytes() == b"of another process"


def test_a_partial_file_that_another_process_wrote_to_is_never_kept(server: Hub, tmp_path: Path) -> None:
    class OtherProcess(Reporter):
        def progressed(self, done: int) -> None:
            if done == len(CONTENT):
                with partials(tmp_path)[0].open("ab") as file:
                    file.write(b"more")

    with reporting_to(OtherProcess()), pytest.raises(ModelError, match="has the SHA-256"):
        fetch()
    assert hub.cached_file(WEIGHTS) is None
    assert partials(tmp_path) == []


def test_log_messages_of_the_client_are_not_repeated(
    server: Hub, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    look_up = huggingface_hub.get_hf_file_metadata

    def log_and_look_up(*arguments: object, **more: object) -> object:
        logging.getLogger("huggingface_hub").warning("a retry")
        return look_up(*arguments, **more)  # type: ignore[arg-type]

    monkeypatch.setattr(huggingface_hub, "get_hf_file_metadata", log_and_look_up)
    with caplog.at_level(logging.INFO):
        fetch()

    assert caplog.text.count("a retry") <= 1


# -- wrong content


@pytest.mark.parametrize(
    ("content", "match"),
    [
        (CONTENT[:-1] + b"!", "has the SHA-256 [0-9a-f]{12}… instead of [0-9a-f]{12}…: a proxy or mirror changes it"),
        (CONTENT + b"more", "bytes instead of 1,024,000"),
        (b"<html>blocked</html>", "the connection to .* was lost"),
    ],
)
def test_wrong_content_is_never_kept_as_weights(content: bytes, match: str, server: Hub, tmp_path: Path) -> None:
    server.content = content

    refused(match)
    assert hub.cached_file(WEIGHTS) is None
    assert sum(file.stat().st_size for file in tmp_path.rglob("*") if file.is_file()) < 1000


def test_a_damaged_file_in_the_cache_is_noticed_and_replaced(server: Hub) -> None:
    file = fetch()
    file.resolve().write_bytes(CONTENT[:-1] + b"!")

    assert hub.is_intact(file, WEIGHTS, offline=True) is False
    assert fetch().read_bytes() == CONTENT
    assert hub.is_intact(file, WEIGHTS, offline=True) is True


# -- hubs that do not serve the file


def test_a_missing_file_is_reported(server: Hub) -> None:
    server.files = {f"{REPOSITORY}/README.md": b"hello"}

    refused(f"has no {SAFE} or {PICKLE} in {REPOSITORY}, HTTP 404")


def test_a_missing_repository_is_reported(server: Hub) -> None:
    server.files = {}

    refused(f"has no public repository {REPOSITORY}, HTTP 401")


@pytest.mark.parametrize("status", [401, 403])
def test_a_gated_repository_asks_for_its_terms_and_a_token(status: int, server: Hub) -> None:
    server.status, server.error_code = status, "GatedRepo"

    error = refused(f"{REPOSITORY} is gated, HTTP {status}")
    assert f"accept the terms at {server.url}/{REPOSITORY}, and set HF_TOKEN" in error.details[0]


@pytest.mark.parametrize("status", [400, 403, 404, 418, 429, 500, 502, 503, 504])
def test_an_http_status_is_reported(status: int, server: Hub) -> None:
    server.status = status

    # Some versions of the client retry after HTTP 429.
    refused(f"HTTP {status}" if status != 429 else "HTTP 429|does not answer within 3 s")


@pytest.mark.parametrize("status", [403, 404, 416, 500, 503])
def test_a_status_of_only_the_download_is_reported(status: int, server: Hub) -> None:
    server.download_status = status

    refused(f"HTTP {status}")


def test_a_login_page_is_not_a_hub(server: Hub) -> None:
    server.is_page = True

    refused("does not answer as a model hub; check HF_ENDPOINT")


def test_a_hub_that_does_not_answer_is_given_up_after_three_seconds(server: Hub) -> None:
    server.hangs = True

    refused("does not answer within 3 s; HF_HUB_ETAG_TIMEOUT=30 waits longer")


def test_a_host_name_that_never_resolves_is_given_up_after_three_seconds(
    server: Hub, monkeypatch: pytest.MonkeyPatch
) -> None:
    def hang(*_: object, **__: object) -> None:
        server.released.wait(30)
        raise OSError("too late")

    monkeypatch.setattr(socket, "getaddrinfo", hang)

    refused("does not answer within 3 s")
    server.released.set()


def test_an_unknown_host_name_is_reported(monkeypatch: pytest.MonkeyPatch) -> None:
    point_to("https://hub.invalid", monkeypatch)

    refused("hub.invalid cannot be reached: ")


def test_a_closed_port_is_reported(monkeypatch: pytest.MonkeyPatch) -> None:
    with socket.socket() as closed:
        closed.bind(("127.0.0.1", 0))
        point_to(f"http://127.0.0.1:{closed.getsockname()[1]}", monkeypatch)

        refused("cannot be reached: Connection refused")


def test_a_server_without_tls_is_reported(server: Hub, monkeypatch: pytest.MonkeyPatch) -> None:
    point_to(server.url.replace("http:", "https:"), monkeypatch)

    refused("cannot be reached: .*SSL")


@pytest.mark.parametrize("proxy", ["http://127.0.0.1:9", "nonsense://x", "socks5://127.0.0.1:9"])
def test_a_broken_proxy_is_reported(proxy: str, monkeypatch: pytest.MonkeyPatch) -> None:
    point_to("http://hub.invalid", monkeypatch)
    huggingface_hub.close_session()  # the next one reads the proxy variables again
    monkeypatch.setenv("HTTP_PROXY", proxy)

    refused("cannot be reached: ")
    huggingface_hub.close_session()


@pytest.mark.parametrize("url", ["nonsense", "http://", "ftp://x", "http://[bad", "http://x:99999", ""])
def test_an_invalid_endpoint_is_reported(url: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(constants, "ENDPOINT", url)

    with pytest.raises(ModelError, match=r"^HF_ENDPOINT: .* is not a URL; use one such as https://"):
        fetch()


def test_a_password_in_the_endpoint_is_not_shown(monkeypatch: pytest.MonkeyPatch) -> None:
    point_to("http://me:secret@127.0.0.1:9", monkeypatch)

    error = refused("127.0.0.1:9 cannot be reached")
    assert "secret" not in str(error)


# -- disks


def test_a_full_disk_is_reported_before_the_download(server: Hub, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(shutil, "disk_usage", lambda _: SimpleNamespace(free=1000))

    with pytest.raises(ModelError, match=r"model 'base': needs 1 MB in .*, where 0 MB are free; make room, or set HF_"):
        fetch()
    assert server.downloads() == []


def test_a_disk_that_fills_up_is_reported_and_the_download_resumes(
    server: Hub, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    said = r"cannot be written .*make room and run the command again"
    with files_of_at_most(400_000), pytest.raises(ModelError, match=said):
        fetch()

    assert partials(tmp_path)[0].stat().st_size == 400_000
    assert fetch().read_bytes() == CONTENT
    assert server.downloads()[-1].endswith("bytes=400000-")


def test_an_unwritable_cache_is_reported(server: Hub, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "file").write_text("not a folder")
    monkeypatch.setattr(constants, "HF_HUB_CACHE", str(tmp_path / "file" / "hub"))

    with pytest.raises(ModelError, match=r"weights cannot be written \(.*\); choose a folder .*HF_HOME"):
        fetch()


@pytest.mark.skipif(hasattr(os, "geteuid") and os.geteuid() == 0, reason="root may write everywhere")
def test_a_read_only_cache_is_reported(server: Hub, tmp_path: Path) -> None:
    (tmp_path / "hub").mkdir(mode=0o555)

    with pytest.raises(ModelError, match=r"weights cannot be written"):
        fetch()


# -- offline, and logs


def test_offline_sends_no_request(server: Hub) -> None:
    with pytest.raises(ModelError, match="are not on this disk, and --offline forbids downloading them"):
        hub.download(WEIGHTS, offline=True)
    assert server.requests == []


@pytest.mark.parametrize("name", ["HF_HUB_OFFLINE", "TRANSFORMERS_OFFLINE"])
def test_the_offline_variables_of_the_client_are_respected(
    name: str, server: Hub, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv(name, "1")
    monkeypatch.setattr(constants, "HF_HUB_OFFLINE", True)

    refused(f"are not on this disk, and {name} forbids downloading them")
    assert server.requests == []


def test_retries_print_nothing(
    server: Hub, capfd: pytest.CaptureFixture[str], caplog: pytest.LogCaptureFixture
) -> None:
    server.drops = [BLOCK, BLOCK]
    with caplog.at_level(logging.INFO):
        fetch()

    assert capfd.readouterr() == ("", "")
    assert all(record.levelno == logging.INFO for record in caplog.records if record.name.startswith("bike_cli"))


# -- files that not every repository has --------------------------------------------------------------------------

_, _, TOKENIZER, SETTINGS = hub.repository_files("hf-hub:timm/somebody", REPOSITORY)


def test_a_file_that_the_repository_does_not_have_is_asked_for_once(server: Hub) -> None:
    server.files[f"{REPOSITORY}/tokenizer.json"] = CONTENT

    hub.fetch_with_companion(TOKENIZER, SETTINGS, offline=False)
    asked = len(server.requests)
    hub.fetch_with_companion(TOKENIZER, SETTINGS, offline=False)

    assert hub.cached_file(TOKENIZER) is not None
    assert hub.cached_file(SETTINGS) is None
    assert len(server.requests) == asked


def test_a_hub_that_does_not_answer_is_not_taken_for_one_without_the_file(server: Hub) -> None:
    server.files |= {f"{REPOSITORY}/{name}": CONTENT for name in ("tokenizer.json", "tokenizer_config.json")}
    server.status = 503

    with pytest.raises(ModelError, match="HTTP 503"):
        hub.fetch_with_companion(TOKENIZER, SETTINGS, offline=False)
    server.status = None
    hub.fetch_with_companion(TOKENIZER, SETTINGS, offline=False)

    assert hub.cached_file(SETTINGS) is not None
