"""Stores that refuse, that are elsewhere, that do not answer, that are not there: each error says what to do."""

import sys
import time
from collections.abc import Iterator

import pytest

pytest.importorskip("pyarrow")
pytest.importorskip("fsspec")

from object_stores import CREDENTIALS, ObjectStore, refusing_store, running_store, silent_store

from bike_cli.data.inputs import find_sources
from bike_cli.data.remote.fetching import fetched
from bike_cli.data.remote.inputs import find_videos
from bike_cli.data.remote.uris import source_named
from bike_cli.data.search import Omissions
from bike_cli.errors import InputError, UsageError
from bike_cli.records import Failure, Source

ODD_NAMES = ["plain.mp4", "with space.mp4", "ü.mp4", "50%.mp4", "a%20b.mp4", "#1.mp4", "what?.mp4", "a+b&c=d.mp4"]
ODD_NAMES += ["[1].mp4", "{0..3}.mp4", "quote's \".mp4", "日本.mp4"]


@pytest.fixture(autouse=True)
def _login(monkeypatch: pytest.MonkeyPatch) -> None:
    for name, value in CREDENTIALS.items():
        monkeypatch.setenv(name, value)
    for name in ("AWS_ENDPOINT_URL", "AWS_ENDPOINT_URL_S3", "AWS_PROFILE"):
        monkeypatch.delenv(name, raising=False)


def failure_at(endpoint: str, name: str = "s3://films/a.mp4") -> Failure:
    """Return why a video at an endpoint cannot be fetched."""
    with fetched(source_named(f"{name}?endpoint_override={endpoint}"), 20) as failure:
        assert isinstance(failure, Failure)
        return failure


def test_an_object_that_may_not_be_read() -> None:
    with refusing_store(403) as endpoint:
        failure = failure_at(endpoint)

    assert failure.kind == "unreadable"
    assert f"s3://films/a.mp4?endpoint_override={endpoint}: access is denied (" in failure.message
    assert "check AWS_ACCESS_KEY_ID" in failure.message


def test_a_folder_that_may_not_be_listed() -> None:
    with refusing_store(403) as endpoint, pytest.raises(InputError, match="access is denied") as error:
        list(find_videos(f"s3://films/clips/?endpoint_override={endpoint}", Omissions()))

    assert error.value.kind == "unreadable"


def test_a_bucket_in_another_region() -> None:
    with refusing_store(301) as endpoint:
        failure = failure_at(endpoint)

    assert failure.kind == "unreadable"
    assert failure.message.endswith("check the region, as in ?region=eu-west-1, the endpoint and the credentials")


@pytest.mark.parametrize("name", ["s3:///clips/", "gs:///clips/"])
def test_a_name_without_a_bucket(name: str) -> None:
    with pytest.raises(InputError, match=r"names no bucket; write (s3|gs)://BUCKET/clips/") as error:
        list(find_videos(name, Omissions()))

    assert error.value.kind == "missing"


def test_a_missing_object() -> None:
    with refusing_store(404) as endpoint:
        assert failure_at(endpoint).kind == "missing"


def test_nothing_at_the_endpoint() -> None:
    with silent_store() as endpoint:
        pass  # it is closed

    failure = failure_at(endpoint)

    assert failure.kind == "unreadable"
    assert failure.message.endswith("check the network, the endpoint and the credentials")


def test_a_store_that_never_answers_is_given_up() -> None:
    start_s = time.monotonic()
    with silent_store() as endpoint, fetched(source_named(f"s3://b/a.mp4?endpoint_override={endpoint}"), 1) as failure:
        assert isinstance(failure, Failure)
        assert failure.kind == "timeout"
    assert time.monotonic() - start_s < 5


def test_a_password_in_a_uri_is_refused_and_not_repeated() -> None:
    with pytest.raises(InputError, match="AWS_SECRET_ACCESS_KEY") as error:
        list(find_videos("s3://key:hunter2@films/clips/", Omissions()))

    assert "hunter2" not in str(error.value)


def test_without_pyarrow_one_line_says_what_to_install(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in [name for name in sys.modules if name.split(".")[0] == "pyarrow"]:
        monkeypatch.delitem(sys.modules, name)
    monkeypatch.setitem(sys.modules, "pyarrow", None)

    with pytest.raises(InputError) as error:
        list(find_videos("s3://films/a.mp4", Omissions()))

    expected = "s3://films/a.mp4: needs pyarrow, which is not installed; pip install 'bike-cli[parquet]'"
    assert str(error.value) == expected


@pytest.mark.parametrize("name", ["http://host/a.mp4", "https://youtu.be/abc", "rtsp://camera/1", "sftp://host/a.mp4"])
def test_other_urls_are_refused_as_everywhere(name: str) -> None:
    with pytest.raises(UsageError) as error:
        list(find_videos(name, Omissions()))
    with pytest.raises(UsageError) as local:
        list(find_sources([name]))

    assert str(error.value) == str(local.value)


# -- a real store -----------------------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def store() -> Iterator[ObjectStore]:
    with running_store() as running:
        for name in ODD_NAMES:
            running.put(f"odd/{name}", name.encode())
        yield running


@pytest.fixture
def _endpoint(store: ObjectStore, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("AWS_ENDPOINT_URL", store.endpoint)


@pytest.mark.usefixtures("_endpoint")
@pytest.mark.parametrize("name", ODD_NAMES)
def test_every_key_can_be_named(name: str) -> None:
    with fetched(source_named(f"s3://films/odd/{name}"), 20) as local:
        assert isinstance(local, Source)
        assert local.path.read_bytes() == name.encode()


@pytest.mark.usefixtures("_endpoint")
def test_every_key_is_found_and_its_name_can_be_read() -> None:
    found = list(find_videos("s3://films/odd/", Omissions()))

    assert [source.id for source in found if isinstance(source, Source)] == [
        f"s3://films/odd/{name}" for name in sorted(ODD_NAMES)
    ]
    for source in found:
        assert isinstance(source, Source)
        with fetched(source, 20) as local:
            assert isinstance(local, Source)
            assert local.path.read_bytes() == source.id.rpartition("/")[2].encode()


def test_an_endpoint_in_the_uri_is_part_of_each_name(store: ObjectStore) -> None:
    query = f"?endpoint_override={store.endpoint.removeprefix('http://')}&scheme=http"

    found = [source.id for source in find_videos(f"s3://films/odd/{query}", Omissions()) if isinstance(source, Source)]

    assert found == [f"s3://films/odd/{name}{query}" for name in sorted(ODD_NAMES)]
    with fetched(source_named(found[0]), 20) as local:
        assert isinstance(local, Source)


@pytest.mark.usefixtures("_endpoint")
@pytest.mark.parametrize(
    ("name", "message"),
    [
        ("s3://films/none/", "no such object or folder"),
        ("s3://films/none", "no such object or folder"),
        ("s3://no-bucket/", "no such bucket"),
        ("s3://no-bucket/clips/", "no such bucket"),
    ],
)
def test_a_folder_that_does_not_exist(name: str, message: str) -> None:
    with pytest.raises(InputError, match=message) as error:
        list(find_videos(name, Omissions()))

    assert error.value.kind == "missing"
