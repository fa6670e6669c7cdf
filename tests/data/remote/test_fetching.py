"""Videos are fetched to temporary files, which never stay."""

import tarfile
import time
from pathlib import Path

import pytest

pytest.importorskip("pyarrow")
pytest.importorskip("fsspec")

from full_disk import files_of_at_most
from object_stores import CountedFiles, put_in_memory

from bike_cli.data.remote import fetching
from bike_cli.data.remote.fetching import Fetcher, fetched
from bike_cli.data.remote.inputs import find_videos
from bike_cli.data.remote.uris import source_named
from bike_cli.data.search import Omissions
from bike_cli.media import RemoteFile
from bike_cli.records import Failure, Source
from bike_cli.scratch import scratch_folder

CONTENT = bytes(range(256)) * 300
LIMIT_S = 20.0


def left_over() -> list[Path]:
    return list(scratch_folder().glob("fetched-*"))


@pytest.mark.parametrize("piece", [1000, len(CONTENT) // 3, len(CONTENT), 2**22])
def test_an_object_is_copied_whole(monkeypatch: pytest.MonkeyPatch, piece: int) -> None:
    monkeypatch.setattr(fetching, "PIECE_BYTES", piece)
    put_in_memory({"a b.mp4": CONTENT})
    source = source_named("counted://store/a b.mp4")
    fetcher = Fetcher(LIMIT_S)

    local = fetcher.fetch(source).result(LIMIT_S)

    assert isinstance(local, Source)
    assert (local.id, local.remote, local.path.suffix) == (source.id, None, ".mp4")
    assert local.path.read_bytes() == CONTENT
    fetcher.discard(local)
    assert not local.path.exists()
    fetcher.close()


@pytest.mark.parametrize("name", ["a%20b.mp4", "a b.mp4"])
def test_a_name_may_be_percent_encoded_if_there_is_no_such_object(name: str) -> None:
    put_in_memory({"a b.mp4": CONTENT})

    with fetched(source_named(f"counted://store/{name}"), LIMIT_S) as local:
        assert isinstance(local, Source)
        assert local.path.read_bytes() == CONTENT


def test_a_name_with_a_percent_sign_is_first_taken_as_it_is() -> None:
    put_in_memory({"a b.mp4": b"other", "a%20b.mp4": CONTENT})

    with fetched(source_named("counted://store/a%20b.mp4"), LIMIT_S) as local:
        assert isinstance(local, Source)
        assert local.path.read_bytes() == CONTENT


def test_a_missing_object_is_a_failure_that_names_it() -> None:
    put_in_memory({})

    with fetched(source_named("counted://store/a.mp4"), LIMIT_S) as failure:
        assert isinstance(failure, Failure)
        assert (failure.kind, failure.source.id) == ("missing", "counted://store/a.mp4")
        assert failure.message == "counted://store/a.mp4: no such object or folder; check the name"
    assert left_over() == []


def test_the_bucket_is_only_blamed_if_it_is_missing() -> None:
    put_in_memory({}, store="my-bucket")

    with fetched(source_named("counted://my-bucket/bucket.mp4"), LIMIT_S) as failure:
        assert isinstance(failure, Failure)
        assert "no such object" in failure.message


def test_an_ending_of_any_length_is_fetched() -> None:
    name = "a." + "b" * 250
    put_in_memory({name: CONTENT})

    with fetched(source_named(f"counted://store/{name}"), LIMIT_S) as local:
        assert isinstance(local, Source)
        assert local.path.read_bytes() == CONTENT


def test_a_local_source_is_yielded_as_it_is(tmp_path: Path) -> None:
    source = Source.at(tmp_path)

    with fetched(source, LIMIT_S) as local:
        assert local is source


def test_closing_deletes_what_was_fetched_and_lets_nothing_appear() -> None:
    put_in_memory({"a.mp4": CONTENT})
    fetcher = Fetcher(LIMIT_S)
    for _ in range(3):
        fetcher.fetch(source_named("counted://store/a.mp4")).result(LIMIT_S)
    assert len(left_over()) == 3

    fetcher.close()

    assert left_over() == []
    assert isinstance(fetcher.fetch(source_named("counted://store/a.mp4")).result(LIMIT_S), Failure)
    assert left_over() == []


def test_a_store_that_stops_sending_is_a_timeout(monkeypatch: pytest.MonkeyPatch) -> None:
    put_in_memory({"slow.mp4": CONTENT})
    opened = CountedFiles._open

    def wait(self: CountedFiles, path: str, mode: str = "rb", **kwargs: object) -> object:
        time.sleep(3)
        return opened(self, path, mode, **kwargs)

    monkeypatch.setattr(CountedFiles, "_open", wait)
    start_s = time.monotonic()

    with fetched(source_named("counted://store/slow.mp4"), 0.2) as failure:
        assert isinstance(failure, Failure)
        assert failure.kind == "timeout"
        assert "counted://store/slow.mp4: the store does not answer within 0.2 s" in failure.message
    assert time.monotonic() - start_s < 2.5


def test_an_unknown_error_of_a_library_fails_one_video_only(monkeypatch: pytest.MonkeyPatch) -> None:
    class StrangeError(Exception):
        pass

    def fail(*arguments: object, **keywords: object) -> object:
        raise StrangeError("no idea")

    put_in_memory({"a.mp4": CONTENT})
    monkeypatch.setattr(CountedFiles, "_open", fail)

    with fetched(source_named("counted://store/a.mp4"), LIMIT_S) as failure:
        assert isinstance(failure, Failure)
        assert failure.kind == "unreadable"
        assert failure.message.startswith("counted://store/a.mp4: cannot be read (")


@pytest.mark.parametrize("size", [2000, len(CONTENT)])
def test_a_full_disk_fails_one_video_and_leaves_nothing(size: int) -> None:
    put_in_memory({"a.mp4": CONTENT[:size]})
    scratch_folder()

    with files_of_at_most(1000), fetched(source_named("counted://store/a.mp4"), LIMIT_S) as failure:
        assert isinstance(failure, Failure)
        assert failure.kind == "unreadable"
        assert f"counted://store/a.mp4: cannot be copied to {scratch_folder()} (" in failure.message
        assert failure.message.endswith("free some space, or set TMPDIR")
    assert left_over() == []


@pytest.mark.parametrize("place", ["local", "store"])
def test_members_of_a_tar_file_are_copied_without_the_rest(tmp_path: Path, place: str) -> None:
    contents = {f"{i}.mp4": bytes([i]) * (i * 700) for i in range(6)}
    file = tmp_path / "shard.tar"
    with tarfile.open(file, "w") as tar:
        for name, content in contents.items():
            (tmp_path / name).write_bytes(content)
            tar.add(tmp_path / name, name)
    put_in_memory({"shard.tar": file.read_bytes()})
    sources = list(find_videos(str(file) if place == "local" else "counted://store/shard.tar", Omissions()))
    CountedFiles.opened.clear()
    fetcher = Fetcher(LIMIT_S)

    copies = [fetcher.fetch(source).result(LIMIT_S) for source in sources if isinstance(source, Source)]

    assert [copy.path.read_bytes() for copy in copies if isinstance(copy, Source)] == list(contents.values())
    assert len(CountedFiles.opened) == (0 if place == "local" else 1)  # not once for each member
    fetcher.close()


def test_a_tar_file_that_became_shorter_is_a_failure(tmp_path: Path) -> None:
    (tmp_path / "a.tar").write_bytes(bytes(100))
    source = Source(tmp_path / "a.tar" / "b.mp4", "a.tar/b.mp4", RemoteFile(str(tmp_path / "a.tar"), 50, 100))

    with fetched(source, LIMIT_S) as failure:
        assert isinstance(failure, Failure)
        assert failure.kind == "damaged"
    assert left_over() == []
