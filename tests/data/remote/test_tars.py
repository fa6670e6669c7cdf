"""Videos in tar files: found by their headers, read where they are."""

import io
import shutil
import subprocess
import tarfile
import threading
from pathlib import Path

import pytest
from object_stores import CountedFiles, put_in_memory

from bike_cli.data.remote.inputs import AT_ONCE, find_videos
from bike_cli.data.remote.tars import expand_braces
from bike_cli.data.search import Omissions
from bike_cli.errors import InputError
from bike_cli.records import Failure, Source

LONG = "/".join(["a long name of a folder"] * 12) + "/ünïcode.mp4"  # more than a plain header has room for
CONTENTS = {
    "0001.mp4": b"first" * 1000,
    "0001.json": b"{}",
    "0001.cls": b"3",
    "sub/0002.webm": b"second" * 3000,
    "empty.mp4": b"",
    "with space 50%.MKV": bytes(range(256)) * 7,
    LONG: b"third",
}
VIDEOS = [name for name in CONTENTS if not name.endswith((".json", ".cls"))]


def packed(file: Path, contents: dict[str, bytes] = CONTENTS, format_: int = tarfile.PAX_FORMAT) -> Path:
    with tarfile.open(file, "w", format=format_) as tar:
        for name, content in contents.items():
            info = tarfile.TarInfo(name)
            info.size = len(content)
            tar.addfile(info, io.BytesIO(content))
    return file


def found(file: Path | str, omissions: Omissions | None = None) -> list[Source | Failure]:
    return list(find_videos(str(file), omissions or Omissions()))


def content_of(source: Source | Failure) -> bytes:
    """Return what lies where a source says it does."""
    assert isinstance(source, Source)
    assert source.remote is not None
    assert source.remote.offset is not None
    assert source.remote.size is not None
    data = Path(source.remote.place).read_bytes()
    return data[source.remote.offset : source.remote.offset + source.remote.size]


def names(sources: list[Source | Failure], file: Path) -> list[str]:
    return [s.id.removeprefix(f"{file}/") for s in sources if isinstance(s, Source)]


@pytest.mark.parametrize("format_", [tarfile.USTAR_FORMAT, tarfile.GNU_FORMAT, tarfile.PAX_FORMAT])
def test_the_videos_are_found_with_their_bytes(tmp_path: Path, format_: int) -> None:
    contents = {k: v for k, v in CONTENTS.items() if k != LONG} if format_ == tarfile.USTAR_FORMAT else CONTENTS
    file = packed(tmp_path / "shard.tar", contents, format_)

    sources = found(file)

    assert names(sources, file) == [name for name in VIDEOS if name in contents]
    assert [content_of(source) for source in sources] == [contents[name] for name in VIDEOS if name in contents]
    assert [s.path.name for s in sources if isinstance(s, Source)] == [Path(n).name for n in names(sources, file)]


@pytest.mark.skipif(shutil.which("tar") is None, reason="needs tar")
def test_what_tar_packs_is_found(tmp_path: Path) -> None:
    for name in ("b.mp4", "a.mp4", ".hidden.mp4", ".cache/x.mp4", "a.txt", "sub/c.mp4", "._a.mp4"):
        (tmp_path / "in" / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / "in" / name).write_bytes(name.encode())
    file = tmp_path / "all.tar"
    subprocess.run(["tar", "cf", file, "--sort=name", "-C", tmp_path / "in", "."], check=True)
    omissions = Omissions()

    sources = found(file, omissions)

    assert names(sources, file) == ["a.mp4", "b.mp4", "sub/c.mp4"]
    assert [content_of(source) for source in sources] == [b"a.mp4", b"b.mp4", b"sub/c.mp4"]
    assert dict(omissions.counts) == {"hidden": 3, "file": 1}


def test_links_and_sparse_files_are_failures_of_their_own(tmp_path: Path) -> None:
    file = tmp_path / "odd.tar"
    with tarfile.open(file, "w") as tar:
        for name, kind in (
            ("link.mp4", tarfile.SYMTYPE),
            ("hard.mp4", tarfile.LNKTYPE),
            ("pipe.mp4", tarfile.FIFOTYPE),
        ):
            info = tarfile.TarInfo(name)
            info.type, info.linkname = kind, "a.mp4"
            tar.addfile(info)
        folder = tarfile.TarInfo("folder.mp4")
        folder.type = tarfile.DIRTYPE
        tar.addfile(folder)
        tar.addfile(tarfile.TarInfo("a.mp4"))

    *failures, video = found(file)

    assert [(f.source.id, f.kind) for f in failures if isinstance(f, Failure)] == [
        (f"{file}/{name}", "unreadable") for name in ("link.mp4", "hard.mp4", "pipe.mp4")
    ]
    assert isinstance(video, Source)


@pytest.mark.skipif(shutil.which("tar") is None, reason="needs tar")
def test_a_sparse_file_is_not_read_as_if_it_were_whole(tmp_path: Path) -> None:
    with (tmp_path / "holes.mp4").open("wb") as holes:
        holes.seek(2**20)
        holes.write(b"end")
    (tmp_path / "whole.mp4").write_bytes(b"whole")
    file = tmp_path / "sparse.tar"
    subprocess.run(["tar", "cSf", file, "-C", tmp_path, "holes.mp4", "whole.mp4"], check=True)

    sparse, whole = found(file)

    assert isinstance(sparse, Failure)
    assert "is a sparse file in the tar file" in sparse.message
    assert content_of(whole) == b"whole"


@pytest.mark.parametrize("name", ["../../etc/a.mp4", "/etc/a.mp4", "x/../../a.mp4"])
def test_names_never_lead_out_of_the_tar_file(tmp_path: Path, name: str) -> None:
    file = packed(tmp_path / "evil.tar", {name: b"x"})

    (source,) = found(file)

    assert isinstance(source, Source)
    assert source.path.resolve().is_relative_to(file.resolve())


# -- damage -----------------------------------------------------------------------------------------------------------


def test_a_tar_file_that_is_cut_off_anywhere_yields_the_videos_before(tmp_path: Path) -> None:
    contents = {"a.mp4": b"a" * 700, "a.json": b"{}", "b.mp4": b"b" * 1500, "c.mp4": b"c"}
    whole = packed(tmp_path / "whole.tar", contents, tarfile.USTAR_FORMAT).read_bytes()
    ends = {}  # of each member's bytes, by a plain reading of the format: a header of 512 bytes, then whole blocks
    place = 0
    for name, content in contents.items():
        ends[name] = place + 512 + len(content)
        place += 512 + -(-len(content) // 512) * 512
    cut = tmp_path / "cut.tar"
    for length in [*range(513, place, 97), place - 1]:
        cut.write_bytes(whole[:length])
        intact = [name for name in contents if ends[name] <= length and name.endswith(".mp4")]
        if not intact:
            with pytest.raises(InputError):
                found(cut)
            continue

        sources = found(cut)

        assert names(sources, cut) == intact, length
        failures = [source for source in sources if isinstance(source, Failure)]
        # A file that ends exactly behind a member's blocks may have been written without a mark at its end.
        is_at_a_seam = length in {-(-end // 512) * 512 for end in ends.values()}
        is_in_the_padding_of_the_last = length >= ends["c.mp4"]
        if not is_at_a_seam and not is_in_the_padding_of_the_last:
            assert [(f.source.id, f.kind) for f in failures] == [(str(cut), "damaged")], length


def test_a_damaged_header_in_the_middle_is_a_failure_of_the_tar_file(tmp_path: Path) -> None:
    file = packed(tmp_path / "shard.tar", {f"{i}.mp4": bytes(600) for i in range(5)}, tarfile.USTAR_FORMAT)
    data = bytearray(file.read_bytes())
    data[3 * 1536 + 148] ^= 0xFF  # in the checksum of the fourth header
    file.write_bytes(data)

    *sources, failure = found(file)

    assert names(sources, file) == ["0.mp4", "1.mp4", "2.mp4"]
    assert isinstance(failure, Failure)
    assert (failure.source.id, failure.kind) == (str(file), "damaged")
    assert failure.message.startswith(f"{file}: is damaged or cut off after 2.mp4")


@pytest.mark.parametrize(
    ("name", "content", "message"),
    [
        ("a.tar", b"", "is an empty file"),
        ("a.tar", b"some text\n" * 100, "is not a tar file"),
        ("a.tar", b"\x1f\x8b\x08" + bytes(600), "is compressed"),
        ("a.tar", b"PK\x03\x04" + bytes(600), "is a ZIP archive or an Office document, not a tar file"),
        ("a.tar.gz", b"anything", "is compressed"),
        ("a.tgz", b"anything", "is compressed"),
        ("a.tar.zst", b"anything", "is compressed"),
        ("a.tar", bytes(10240), "contains no video"),
    ],
)
def test_what_is_no_tar_file_of_videos_is_refused(tmp_path: Path, name: str, content: bytes, message: str) -> None:
    file = tmp_path / name
    file.write_bytes(content)

    with pytest.raises(InputError, match=message) as error:
        found(file)

    assert error.value.kind == "not_video"
    assert str(error.value).startswith(f"{file}: ")


def test_a_tar_file_without_videos_says_what_is_in_it(tmp_path: Path) -> None:
    file = packed(tmp_path / "a.tar", {"a.txt": b"x", "b.json": b"x"})

    with pytest.raises(InputError, match=r"contains no video .* but 2 files that are not videos \(first: .*a.txt\)"):
        found(file)


# -- several ----------------------------------------------------------------------------------------------------------


@pytest.mark.skipif(shutil.which("bash") is None, reason="needs bash")
@pytest.mark.parametrize(
    "name",
    [
        "s-{000..012}.tar",
        "s-{8..11}.tar",
        "{train,val}/s-{00..02}.tar",
        "s-{1..010}.tar",
        "{x}.tar",
        "s.tar",
        "{a,}.tar",
    ],
)
def test_braces_stand_for_what_they_do_in_bash(name: str) -> None:
    done = subprocess.run(["bash", "-c", f"printf '%s\\n' {name}"], capture_output=True, text=True, check=True)

    assert list(expand_braces(name)) == done.stdout.splitlines()


@pytest.mark.parametrize("name", ["s-{9..1}.tar", "s-{0..9999999}.tar"])
def test_braces_that_stand_for_nothing_or_too_much_are_refused(name: str) -> None:
    with pytest.raises(InputError):
        list(expand_braces(name))


def test_each_tar_file_of_a_range_answers_for_itself(tmp_path: Path) -> None:
    packed(tmp_path / "s-0.tar", {"a.mp4": b"x"})
    packed(tmp_path / "s-1.tar", {"a.txt": b"x"})
    packed(tmp_path / "s-3.tar", {"b.mp4": b"x"})

    first, empty, missing, last = found(f"{tmp_path}/s-{{0..3}}.tar")

    assert (first.id, last.id) == (f"{tmp_path}/s-0.tar/a.mp4", f"{tmp_path}/s-3.tar/b.mp4")  # type: ignore[union-attr]
    assert isinstance(empty, Failure)
    assert isinstance(missing, Failure)
    assert (empty.source.id, empty.kind) == (f"{tmp_path}/s-1.tar", "not_video")
    assert (missing.source.id, missing.kind) == (f"{tmp_path}/s-2.tar", "missing")


def test_a_pattern_of_tar_files(tmp_path: Path) -> None:
    for i in range(3):
        packed(tmp_path / f"s-{i}.tar", {f"{i}.mp4": b"x"})

    assert [s.id for s in found(f"{tmp_path}/*.tar") if isinstance(s, Source)] == [
        f"{tmp_path}/s-{i}.tar/{i}.mp4" for i in range(3)
    ]


@pytest.mark.parametrize("given", ["counted://store/s-{00..11}.tar", "counted://store/s-*.tar"])
def test_tar_files_in_a_store_are_read_at_the_same_time_and_found_in_order(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, given: str
) -> None:
    files = {}
    for i in range(12):
        file = packed(tmp_path / f"s-{i:02}.tar", {f"{j}.mp4": b"x" * (i + j) for j in range(5)} | {"a.txt": b"text"})
        files[file.name] = file.read_bytes() if i != 7 else b"no tar file"
    put_in_memory(files)
    barrier, opened = threading.Barrier(AT_ONCE, timeout=10), CountedFiles._open

    def open_together(self: CountedFiles, path: str, *arguments: object, **options: object) -> object:
        if any(f"s-{i:02}.tar" in path for i in range(AT_ONCE)):
            barrier.wait()  # broken, unless the first files are opened at the same time
        return opened(self, path, *arguments, **options)  # type: ignore[arg-type]

    monkeypatch.setattr(CountedFiles, "_open", open_together)
    omissions = Omissions()

    sources = list(find_videos(given, omissions))

    wanted = [[f"s-{i:02}.tar/{j}.mp4" for j in range(5)] if i != 7 else ["s-07.tar"] for i in range(12)]
    names = [one.id if isinstance(one, Source) else one.source.id for one in sources]
    assert names == [f"counted://store/{name}" for tar in wanted for name in tar]
    assert [i for i, one in enumerate(sources) if isinstance(one, Failure)] == [35]
    assert omissions.counts == {"file": 11}
    assert omissions.first == {"file": "counted://store/s-00.tar/a.txt"}


def test_a_file_named_with_braces_is_itself(tmp_path: Path) -> None:
    file = packed(tmp_path / "s-{0..3}.tar", {"a.mp4": b"x"})

    assert names(found(file), file) == ["a.mp4"]


def test_a_folder_named_like_a_tar_file_is_a_folder(tmp_path: Path) -> None:
    (tmp_path / "clips.tar").mkdir()
    (tmp_path / "clips.tar" / "a.mp4").touch()

    assert found(tmp_path / "clips.tar") == [Source.at(str(tmp_path / "clips.tar" / "a.mp4"))]


def test_a_url_of_a_tar_file_on_this_machine(tmp_path: Path) -> None:
    packed(tmp_path / "my shard.tar", {"a.mp4": b"x"})

    (source,) = found(f"file://{tmp_path}/my%20shard.tar")

    assert content_of(source) == b"x"
