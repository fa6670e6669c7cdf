"""URIs of objects in stores: keys as they are, then parameters."""

import pickle
from pathlib import Path

import pytest

from bike_cli.data.remote.uris import below_uri, parse_uri, source_named, uri_of_path
from bike_cli.media import RemoteFile, is_store_uri
from bike_cli.records import Source


@pytest.mark.parametrize(
    ("name", "parts"),
    [
        ("s3://bucket/clips/a.mp4", ("s3", "bucket", "clips/a.mp4", "")),
        ("S3://Bucket/A.mp4", ("s3", "Bucket", "A.mp4", "")),
        ("s3a://bucket/a.mp4", ("s3", "bucket", "a.mp4", "")),
        ("s3://bucket", ("s3", "bucket", "", "")),
        ("s3://bucket/", ("s3", "bucket", "", "")),
        ("s3://bucket?region=x", ("s3", "bucket", "", "region=x")),
        ("s3://b/ü 50%/#1 a%20b.mp4", ("s3", "b", "ü 50%/#1 a%20b.mp4", "")),
        ("s3://b/what?.mp4", ("s3", "b", "what?.mp4", "")),
        ("s3://b/a?b=c.mp4", ("s3", "b", "a?b=c.mp4", "")),
        ("s3://b/a?.mp4?region=x&scheme=http", ("s3", "b", "a?.mp4", "region=x&scheme=http")),
        ("hdfs://node:8020/videos/a.mp4?user=me", ("hdfs", "node:8020", "videos/a.mp4", "user=me")),
        ("hdfs:///videos/a.mp4", ("hdfs", "", "videos/a.mp4", "")),
        ("abfss://box@account.dfs.core.windows.net/a.mp4", ("abfss", "box@account.dfs.core.windows.net", "a.mp4", "")),
        ("s3://b/line\nbreak.mp4", ("s3", "b", "line\nbreak.mp4", "")),
    ],
)
def test_a_uri_has_these_parts(name: str, parts: tuple[str, str, str, str]) -> None:
    uri = parse_uri(name)

    assert (uri.scheme, uri.store, uri.key, uri.parameters) == parts


@pytest.mark.parametrize(
    "name", ["s3://b/c/a b.mp4", "s3://b/c/?region=x", "gs://b/50%.mp4", "hdfs:///v/a.mp4?user=me"]
)
def test_a_uri_is_written_as_it_was(name: str) -> None:
    assert str(parse_uri(name)) == name


@pytest.mark.parametrize(
    ("name", "expected"),
    [
        ("s3://b/a.mp4", True),
        ("hf://datasets/me/films/a.mp4", True),
        ("http://host/a.mp4", False),
        ("https://host/a.mp4", False),
        ("sftp://host/a.mp4", False),
        ("rtsp://host/a", False),
        ("file:///a.mp4", False),
        ("C://a.mp4", False),
        ("clips/a.mp4", False),
        ("s3:/b/a.mp4", False),
    ],
)
def test_what_is_in_a_store(name: str, expected: bool) -> None:
    assert is_store_uri(name) is expected


def test_a_uri_is_a_remote_source_with_its_name() -> None:
    name = "s3://b/c/a b.mp4?region=x"

    assert source_named(name) == Source(Path("s3://b/c/a b.mp4"), name, RemoteFile(name))
    assert source_named(name).path.name == "a b.mp4"
    assert pickle.loads(pickle.dumps(source_named(name))) == source_named(name)


def test_a_file_that_is_named_like_a_uri_is_local(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "s3:" / "b").mkdir(parents=True)
    (tmp_path / "s3:" / "b" / "a.mp4").touch()

    assert source_named("s3://b/a.mp4") == Source.at("s3://b/a.mp4")


def test_a_path_that_was_a_uri_becomes_one_again() -> None:
    assert uri_of_path(Path("s3://bucket/lists/a.parquet")) == "s3://bucket/lists/a.parquet"


@pytest.mark.parametrize("path", ["lists/a.csv", "/lists/a.csv", "a.csv", "http://host/a.csv", "C:/lists/a.csv"])
def test_other_paths_are_no_uris(path: str) -> None:
    assert uri_of_path(Path(path)) is None


@pytest.mark.parametrize(
    ("name", "expected"),
    [
        ("a.mp4", "s3://b/lists/a.mp4?region=x"),
        ("sub/a b.mp4", "s3://b/lists/sub/a b.mp4?region=x"),
        ("s3://other/a.mp4", "s3://other/a.mp4"),
        ("/disk/a.mp4", "/disk/a.mp4"),
    ],
)
def test_names_in_a_remote_table_start_in_its_folder(name: str, expected: str) -> None:
    assert below_uri("s3://b/lists/a.csv?region=x", name) == expected


def test_a_table_at_the_top_of_a_store() -> None:
    assert below_uri("s3://b/list.csv", "a.mp4") == "s3://b/a.mp4"
