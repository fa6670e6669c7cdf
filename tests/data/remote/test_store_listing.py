"""Videos in object stores: found like those in local folders, a folder at a time."""

import itertools
from pathlib import Path

import pytest

pytest.importorskip("pyarrow")
pytest.importorskip("fsspec")

from object_stores import CountedFiles, put_in_memory

from bike_cli.data.inputs import find_sources
from bike_cli.data.remote.inputs import find_videos
from bike_cli.data.search import Omissions
from bike_cli.errors import InputError
from bike_cli.records import Failure, Source

ROOT = "counted://store/"
NAMES = (
    *("b.mp4", "a.mp4", "B.MKV", "a.txt", ".hidden.mp4", "Thumbs.db", "._a.mp4", "sub/c.mp4", "sub-x.mp4", "sub.mp4"),
    *("sub/deep/d e.webm", "sub/.git/x.mp4", "@eaDir/a.mp4", "ü/50%/a%20b.mp4", "z/readme.md", "10.mp4", "9.mp4"),
)


def found(name: str, omissions: Omissions | None = None) -> list[str]:
    sources = list(find_videos(name, omissions or Omissions()))
    assert all(isinstance(source, Source) and source.remote is not None for source in sources)
    return [source.id for source in sources if isinstance(source, Source)]


def test_a_store_is_searched_like_a_folder(tmp_path: Path) -> None:
    for name in NAMES:
        file = tmp_path / name
        file.parent.mkdir(parents=True, exist_ok=True)
        file.touch()
    put_in_memory(dict.fromkeys(NAMES, b""))
    left_out, left_out_here = Omissions(), Omissions()

    names = [name.removeprefix(ROOT) for name in found(ROOT, left_out)]

    assert names == [str(Path(s.id).relative_to(tmp_path)) for s in find_sources([tmp_path], left_out_here)]
    assert names
    assert left_out.counts["file"] == left_out_here.counts["file"]


@pytest.mark.parametrize("name", ["counted://store/sub", "counted://store/sub/"])
def test_a_folder_may_end_in_a_slash(name: str) -> None:
    put_in_memory(dict.fromkeys(NAMES, b""))

    assert found(name) == [f"{ROOT}sub/c.mp4", f"{ROOT}sub/deep/d e.webm"]


def test_folders_are_listed_as_they_are_needed() -> None:
    put_in_memory({f"{folder:03d}/{i}.mp4": b"" for folder in range(50) for i in range(4)})

    first = list(itertools.islice(find_videos(ROOT, Omissions()), 6))

    assert [source.id for source in first if isinstance(source, Source)][-1] == f"{ROOT}001/1.mp4"
    assert CountedFiles.listed == ["/store", "/store/000", "/store/001"]


def test_an_object_is_not_looked_up_before_it_is_fetched() -> None:
    put_in_memory({})

    assert found("counted://store/none.mp4") == ["counted://store/none.mp4"]
    assert not CountedFiles.listed


def test_an_object_of_any_ending_can_be_named() -> None:
    put_in_memory({"clip.bin": b"x"})

    assert found(f"{ROOT}clip.bin") == [f"{ROOT}clip.bin"]


@pytest.mark.parametrize(
    ("pattern", "expected"),
    [
        ("*.mp4", ["10.mp4", "9.mp4", "a.mp4", "b.mp4", "sub-x.mp4", "sub.mp4"]),
        ("?.mp4", ["9.mp4", "a.mp4", "b.mp4"]),
        ("sub/*", ["sub/c.mp4"]),
        ("*/*.mp4", ["sub/c.mp4"]),
        ("**/*.webm", ["sub/deep/d e.webm"]),
        ("**/?.mp4", ["9.mp4", "a.mp4", "b.mp4", "sub/c.mp4"]),
        ("s*/d*/*", ["sub/deep/d e.webm"]),
    ],
)
def test_patterns_match_as_in_a_shell(pattern: str, expected: list[str]) -> None:
    put_in_memory(dict.fromkeys(NAMES, b""))

    assert found(ROOT + pattern) == [ROOT + name for name in expected]


@pytest.mark.parametrize(
    ("name", "kind", "message"),
    [
        ("counted://store/none/", "missing", "no such object or folder"),
        ("counted://store/none", "missing", "no such object or folder"),
        ("counted://store/*.avi", "missing", "matches no video"),
        (
            "counted://store/z/",
            "not_video",
            r"contains 1 file, none of them a video \(.*first counted://store/z/readme",
        ),
        ("unknown://host/folder/", "unreadable", "bike cannot read unknown:// URIs; download the videos first"),
    ],
)
def test_a_name_without_a_video_is_an_error_that_names_it(name: str, kind: str, message: str) -> None:
    put_in_memory(dict.fromkeys(NAMES, b""))

    with pytest.raises(InputError, match=message) as error:
        found(name)

    assert error.value.kind == kind
    assert str(error.value).startswith(f"{name}: ")


def test_a_folder_that_cannot_be_listed_does_not_hide_the_others(monkeypatch: pytest.MonkeyPatch) -> None:
    put_in_memory({"a/1.mp4": b"", "b/2.mp4": b"", "c/3.mp4": b""})
    find = CountedFiles.find

    def deny(self: CountedFiles, path: str, **kwargs: object) -> object:
        if path.rstrip("/").endswith("/b"):
            raise PermissionError(13, "Permission denied", path)
        return find(self, path, **kwargs)

    monkeypatch.setattr(CountedFiles, "find", deny)

    one, denied, three = find_videos(ROOT, Omissions())

    assert isinstance(one, Source)
    assert isinstance(three, Source)
    assert (one.id, three.id) == (f"{ROOT}a/1.mp4", f"{ROOT}c/3.mp4")
    assert isinstance(denied, Failure)
    assert (denied.kind, denied.source.id) == ("unreadable", f"{ROOT}b/")
    assert "access is denied" in denied.message
