"""Lists of paths: what is read as one, what is refused, and names that changed on their way."""

import csv
import gzip
import io
import os
from pathlib import Path

import numpy as np
import pytest
from films import write_video
from PIL import Image

from bike_cli.data.path_lists import existing_path, read_column, read_paths
from bike_cli.data.signatures import describe_content
from bike_cli.errors import UsageError

FAULTS = Path(__file__).parents[3] / "shared" / "faults"
PATHS = "v1.mp4\r\nv2.mp4\r\n"
CONTAINERS = [
    ("mp4", "mpeg4"),
    ("mov", "mpeg4"),
    ("matroska", "mpeg4"),
    ("webm", "libvpx-vp9"),
    ("avi", "mpeg4"),
    ("mpegts", "mpeg2video"),
    ("mpeg", "mpeg2video"),
    ("flv", "flv"),
    ("asf", "mpeg4"),
    ("ogg", "libvpx"),
    ("yuv4mpegpipe", "wrapped_avframe"),
    ("m4v", "mpeg4"),
    ("mpeg2video", "mpeg2video"),
    ("h264", "libx264"),
    ("ivf", "libvpx-vp9"),
]


@pytest.fixture(autouse=True)
def here(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.chdir(tmp_path)
    return tmp_path


def paths(content: bytes, *, nul: bool = False) -> list[str]:
    return list(read_paths(io.BytesIO(content), nul=nul))


def message(content: bytes, *, nul: bool = False) -> str:
    with pytest.raises(UsageError) as caught:
        paths(content, nul=nul)
    return str(caught.value)


# -- text in other encodings ----------------------------------------------------------------------------------------


@pytest.mark.parametrize("nul", [False, True])
@pytest.mark.parametrize("text", [PATHS, "clips\\a.mp4\r\n", "été/日本.mp4\r\nb.mp4\r\nclips/another one.mp4\r\n"])
@pytest.mark.parametrize("encoding", ["utf-16", "utf-16-le", "utf-16-be"])
def test_utf16_is_named(encoding: str, text: str, nul: bool) -> None:
    assert message(text.encode(encoding), nul=nul) == "stdin: is UTF-16; save it as UTF-8"


@pytest.mark.parametrize("nul", [False, True])
def test_utf16_with_a_mark_is_named_in_big_endian_and_utf32_too(nul: bool) -> None:
    assert message(b"\xfe\xff" + PATHS.encode("utf-16-be"), nul=nul) == "stdin: is UTF-16; save it as UTF-8"
    assert message(PATHS.encode("utf-32"), nul=nul) == "stdin: is UTF-32; save it as UTF-8"


@pytest.mark.parametrize("name", [b"\xff\xfe.mp4", b"\xfe\xff\xc3\xa9.mp4", b"caf\xe9.mp4", "日本.mp4".encode()])
@pytest.mark.parametrize("nul", [False, True])
def test_names_in_other_encodings_survive(name: bytes, nul: bool) -> None:
    end = b"\0" if nul else b"\n"

    assert [os.fsencode(path) for path in paths(name + end + b"b.mp4" + end, nul=nul)] == [name, b"b.mp4"]


def test_names_of_one_letter_ended_by_nul_are_not_utf16() -> None:
    assert paths(b"a\0b\0c\0d\0", nul=True) == ["a", "b", "c", "d"]


# -- entries that name nothing --------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "content", [b"", b"\n", b"\n\n\n", b"\r\n\r\n", b"  \n\t\n", b"\xef\xbb\xbf", b"\xef\xbb\xbf\n \n"]
)
def test_blank_lines_name_nothing(content: bytes) -> None:
    assert paths(content) == []


@pytest.mark.parametrize("content", [b"", b"\0", b"\0\0\0", b" \0", b"\n\0", b"\xef\xbb\xbf\0"])
def test_blank_entries_ended_by_nul_name_nothing(content: bytes) -> None:
    assert paths(content, nul=True) == []


def test_a_file_whose_name_is_a_space_can_be_listed() -> None:
    Path(" ").touch()

    assert paths(b" \na.mp4\n") == [" ", "a.mp4"]


def test_only_nul_bytes_are_no_list() -> None:
    assert message(b"\0\0\0") == "stdin: is binary data, not a list of paths; give paths as text, one per line"


def test_paths_between_nul_bytes_need_the_flag() -> None:
    assert message(b"a.mp4\0b.mp4\0") == "stdin: contains NUL bytes between paths, as find -print0 writes them; add -0"


# -- other files ----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("nul", [False, True])
@pytest.mark.parametrize(("container", "codec"), CONTAINERS)
def test_a_video_of_every_container_is_named(here: Path, container: str, codec: str, nul: bool) -> None:
    frames = np.random.default_rng(0).integers(0, 255, (8, 64, 64, 3), dtype=np.uint8)
    write_video(here / "clip", frames, codec=codec, container=container)

    result = message((here / "clip").read_bytes(), nul=nul)

    assert result == "stdin: is a video, not a list of paths; name the file itself, as in bike classify clip.mp4"


@pytest.mark.parametrize(
    ("content", "what"),
    [
        (b"GIF89a\x10\0\x10\0", "a video"),
        (b"\x06\x0e\x2b\x34\x02\x05\x01\x01\x0d\x01", "a video"),  # MXF: the key of a partition, SMPTE 377
        (b".RMF\0\0\0\x12", "a video"),
        (gzip.compress(b"a.mp4\n" * 9, mtime=0), "a gzip archive"),
        (b"PK\x03\x04\x14\0\0\0\x08\0", "a ZIP archive or an Office document"),
        (b"%PDF-1.7\n%\xe2\xe3\xcf\xd3\n1 0 obj\0", "a PDF document"),
        (b"\x93NUMPY\x01\0v\0", "a NumPy array"),
        (b"SQLite format 3\0", "an SQLite database"),
        (b"x" * 257 + b"ustar\0", "a tar archive"),
    ],
)
def test_other_files_are_named(content: bytes, what: str) -> None:
    assert message(content).startswith(f"stdin: is {what}, not a list of paths; ")


@pytest.mark.parametrize("format_", ["PNG", "JPEG", "WEBP", "TIFF"])
def test_an_image_is_named(format_: str) -> None:
    stream = io.BytesIO()
    Image.new("RGB", (64, 64), (9, 99, 199)).save(stream, format_)

    assert message(stream.getvalue()).startswith("stdin: is an image, not a list of paths")


@pytest.mark.parametrize(
    "name", [b"GIF89/a.mp4", b"RIFFs/AVI .mp4", b"OggS.ogv", b"Rar!.mp4", b"BZh.mp4", b"ID3.mp4", b"moov/a.mp4"]
)
def test_a_path_that_begins_like_a_video_is_a_path(name: bytes) -> None:
    assert describe_content(name + b"\nb.mp4\n") is None
    assert paths(name + b"\nb.mp4\n") == [name.decode(), "b.mp4"]


def test_bytes_that_arrive_one_by_one_are_recognised() -> None:
    class Slow(io.RawIOBase):
        def __init__(self, content: bytes) -> None:
            self.left = list(content)

        def read(self, size: int = -1) -> bytes:
            return bytes([self.left.pop(0)]) if self.left else b""

    with pytest.raises(UsageError, match="is a video"):
        list(read_paths(Slow(b"\0\0\0\x20ftypisom\0\0\x02\0"), nul=False))  # type: ignore[arg-type]
    assert list(read_paths(Slow(b"a.mp4\nb.mp4\n"), nul=False)) == ["a.mp4", "b.mp4"]  # type: ignore[arg-type]


@pytest.mark.parametrize(
    ("content", "form"),
    [
        (b"path,label\na.mp4,run\n", "CSV"),
        (b"video;class\na.mp4;run\n", "CSV"),
        (b"label,youtube_id,time_start,time_end,split,is_cc\nrun,x,0,10,test,0\n", "CSV"),
        (b"clip\taction\na.mp4\trun\n", "CSV"),
        (b'"path","label"\n"a.mp4","run"\n', "CSV"),
        (b"there.mp4,run\n", "CSV"),
        (b"there.mp4\trun\n", "CSV"),
        (b'{"path": "a.mp4", "status": "ok"}\n{"path": "b.mp4"}\n', "JSON"),
        (b'["a.mp4", "b.mp4"]\n', "JSON"),
        (b'[\n  "a.mp4"\n]\n', "JSON"),
        (b"{\n", "JSON"),
        (b"#EXTM3U\na.mp4\n", "a playlist"),
    ],
)
def test_lists_of_another_form_are_named(content: bytes, form: str) -> None:
    Path("there.mp4").touch()

    assert message(content).startswith(f"stdin: is {form}, not a list of paths; ")


@pytest.mark.parametrize(
    "name",
    [
        "run, jump.mp4",
        "[1] clip.mp4",
        "{a}.mp4",
        "path,label",
        "missing,run.mp4",
        "[",
        "a;b.mp4",
        "video,1.mp4",
        "clip;2.mp4",
    ],
)
def test_odd_names_are_paths(name: str) -> None:
    if not name.endswith(".mp4"):
        Path(name).touch()

    assert paths(f"{name}\nb.mp4\n".encode()) == [name, "b.mp4"]


# -- names that changed on their way --------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "written",
    [
        " sub dir/my clip.mp4",
        "sub dir/my clip.mp4  ",
        '"sub dir/my clip.mp4"',
        "'sub dir/my clip.mp4'",
        "\u201csub dir/my clip.mp4\u201d",
        "sub dir\\my clip.mp4",
        ".\\sub dir\\my clip.mp4",
        '"sub dir\\my clip.mp4"',
        "sub\\ dir/my\\ clip.mp4",
        "file:{here}/sub dir/my clip.mp4",
        "file://{here}/sub%20dir/my%20clip.mp4",
        "FILE://localhost{here}/sub%20dir/my%20clip.mp4",
        "~/sub dir/my clip.mp4",
    ],
)
def test_a_changed_name_is_the_file_that_exists(here: Path, written: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HOME", str(here))
    Path("sub dir").mkdir()
    Path("sub dir/my clip.mp4").touch()
    name = written.format(here=here)

    assert Path(existing_path(name)).resolve() == (here / "sub dir/my clip.mp4").resolve()
    assert Path(here, existing_path(name, str(here))).resolve() == (here / "sub dir/my clip.mp4").resolve()


@pytest.mark.parametrize("name", [" a.mp4", '"a.mp4"', "b\\a.mp4", "~", "file:a.mp4"])
def test_a_name_that_exists_stays(name: str) -> None:
    Path("b").mkdir()
    for path in (name, "a.mp4", "b/a.mp4"):
        Path(path).touch()

    assert existing_path(name) == name


@pytest.mark.parametrize(
    "name", ["", " ", '""', "''", '" "', "~nobody/a.mp4", "a\\b.mp4", "file:", "file://", "file://[", "\\"]
)
def test_a_name_without_a_file_stays(name: str) -> None:
    assert existing_path(name) == name


@pytest.mark.skipif(not FAULTS.exists(), reason="needs ../shared/faults")
def test_the_shared_list_of_powershell_is_named() -> None:
    content = (FAULTS / "text" / "u16.lst").read_bytes()

    assert message(content) == message(content, nul=True) == "stdin: is UTF-16; save it as UTF-8"


def test_lines_with_the_flag_for_nul_are_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "a.mp4").touch()
    (tmp_path / "odd\nname.mp4").touch()

    assert message(b"a.mp4\nb.mp4\n", nul=True) == (
        "stdin: has one path per line, and -0 is for paths that end with NUL; remove -0"
    )
    assert paths(b"odd\nname.mp4\0", nul=True) == ["odd\nname.mp4"]
    assert paths(b"a.mp4", nul=True) == ["a.mp4"]


# -- a column of a table --------------------------------------------------------------------------------------------


def column(content: bytes, name: str = "video") -> list[str]:
    return list(read_column(io.BytesIO(content), name, origin="clips.csv"))


def message_of_column(content: bytes, name: str = "video") -> str:
    with pytest.raises(UsageError) as caught:
        column(content, name)
    return str(caught.value)


@pytest.mark.parametrize("mark", [",", ";", "\t"])
@pytest.mark.parametrize("end", ["\n", "\r\n"])
@pytest.mark.parametrize("start", [b"", b"\xef\xbb\xbf", b"\n \n"])
def test_a_column_is_what_the_csv_module_reads(mark: str, end: str, start: bytes) -> None:
    names = ["a.mp4", "b, c; d\t.mp4", 'say "cheese".mp4', "two\nlines.mp4", " spaces .mp4", "été.mp4"]
    text = io.StringIO(newline="")
    csv.writer(text, delimiter=mark, lineterminator=end).writerows([("id", "video"), *enumerate(names)])

    assert column(start + text.getvalue().encode()) == names


def test_the_last_row_needs_no_end_and_names_may_be_invalid_utf8() -> None:
    assert [os.fsencode(path) for path in column(b"video\ncaf\xe9.mp4\nb.mp4")] == [b"caf\xe9.mp4", b"b.mp4"]


def test_rows_are_read_as_they_arrive() -> None:
    reading, writing = os.pipe()
    with os.fdopen(reading, "rb", buffering=0) as stream, os.fdopen(writing, "wb", buffering=0) as feed:
        feed.write(b"video,label\na.mp4,x\n")
        paths = read_column(stream, "video")

        assert next(paths) == "a.mp4"

        feed.write(b"b.mp4,y\n")
        assert next(paths) == "b.mp4"


@pytest.mark.parametrize(
    ("header", "name"), [("Video,id", "video"), ("id, video ", " video"), ("Video,video", "Video")]
)
def test_a_column_is_found_in_any_case_if_only_one_fits(header: str, name: str) -> None:
    assert column(f"{header}\nv.mp4,v.mp4\n".encode(), name) == ["v.mp4"]


@pytest.mark.parametrize(
    ("content", "expected"),
    [
        (b"path,label\na.mp4,x\n", "clips.csv: has no column 'video', only path, label; name the one of paths with"),
        (b"path\na.mp4\n", "clips.csv: has no column 'video', only path; name the one of paths with --column"),
        (b"a;b\tc;d\n", "clips.csv: has no column 'video', only a, b\tc, d; name the one of paths with --column"),
        (b"video,video\na,b\n", "clips.csv: column 'video' comes 2 times; rename all but one"),
        (b"Video,VIDEO\na,b\n", "clips.csv: column 'video' comes 2 times; rename all but one"),
        (b"", "clips.csv: is empty, and --column needs a first row with the names of the columns"),
        (b" \n\n", "clips.csv: is empty, and --column needs a first row with the names of the columns"),
        (b"video\n\0.mp4\n", "clips.csv: contains NUL bytes, and --column reads CSV; give CSV, or leave --column out"),
        (b'video\na.mp4\n"b.mp4\n', "clips.csv:3: is not valid CSV"),
        (b"PAR1" + bytes(99), "clips.csv: is a Parquet file, not a list of paths; give it with --files-from"),
        ("video\na.mp4\n".encode("utf-16"), "clips.csv: is UTF-16; save it as UTF-8"),
    ],
)
def test_a_table_without_the_column_or_of_another_kind_is_refused(content: bytes, expected: str) -> None:
    assert message_of_column(content).startswith(expected)


def test_rows_without_a_path_are_left_out_with_one_warning(caplog: pytest.LogCaptureFixture) -> None:
    rows = b"id,video\n1,a.mp4\n2,\n3\n4, \n5,b.mp4\n"

    assert column(rows) == ["a.mp4", "b.mp4"]
    assert caplog.messages == ["clips.csv: 3 rows have no path in column 'video'; left out (first: clips.csv:3)"]
    caplog.clear()
    assert column(b"id,video\n1,a.mp4\n2,\n") == ["a.mp4"]
    assert caplog.messages == ["clips.csv: 1 row has no path in column 'video'; left out (first: clips.csv:3)"]


def test_a_table_given_as_a_list_names_the_flag() -> None:
    assert message(b"video,label\nclip.mp4,x\n") == (
        "stdin: is CSV, not a list of paths; name the column of paths with --column"
    )
