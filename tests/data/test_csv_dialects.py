"""CSV files of labelled videos as people write them, and paths in them that changed on their way."""

import logging
from collections.abc import Callable
from pathlib import Path

import pytest

from bike_cli.config import SamplingConfig
from bike_cli.data.labelled.eval_sets import read_eval_set
from bike_cli.data.labelled.train_sets import read_labelled
from bike_cli.errors import UsageError, VideoError
from bike_cli.video.decoding import decode

FAULTS = Path(__file__).parents[3] / "shared" / "faults" / "text"


@pytest.fixture(autouse=True)
def here(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.chdir(tmp_path)
    return tmp_path


def read(text: str, name: str = "all.csv", encoding: str = "utf-8") -> dict[str, str]:
    """Return the label of each path, which training and evaluation read alike."""
    Path(name).write_text(text, encoding=encoding, newline="")
    labelled, tested = read_labelled(name), read_eval_set([name])
    labels = {sample.source.id: labelled.labels[sample.label] for sample in labelled.train}
    assert labels == {sample.source.id: tested.labels[sample.label] for sample in tested.samples}
    return labels


@pytest.mark.parametrize(
    "text",
    [
        "path,label\na.mp4,run\nb.mp4,walk\n",
        "path;label\na.mp4;run\nb.mp4;walk\n",
        "path\tlabel\na.mp4\trun\nb.mp4\twalk\n",
        "path|label\na.mp4|run\nb.mp4|walk\n",
        '"path","label"\n"a.mp4","run"\n"b.mp4","walk"\n',
        '"path";"label"\n"a.mp4";"run"\n"b.mp4";"walk"\n',
        "\ufeffpath;label\r\na.mp4;run\r\nb.mp4;walk\r\n",
        "sep=;\r\npath;label\r\na.mp4;run\r\nb.mp4;walk\r\n",
        "Path, Label\na.mp4, run\nb.mp4, walk\n",
        "label,path\nrun,a.mp4\nwalk,b.mp4\n",
        "video,label\na.mp4,run\nb.mp4,walk\n",
        "filename,class\na.mp4,run\nb.mp4,walk\n",
        "file;category\na.mp4;run\nb.mp4;walk\n",
        "video_path,action\na.mp4,run\nb.mp4,walk\n",
        "\n\npath,label\na.mp4,run\n\nb.mp4,walk\n",
    ],
)
def test_usual_dialects_are_read(text: str) -> None:
    assert read(text) == {"a.mp4": "run", "b.mp4": "walk"}


def test_a_split_may_have_other_names() -> None:
    Path("all.csv").write_text("file;class;subset\na.mp4;run;train\nb.mp4;walk;train\nc.mp4;walk;test\n")

    labelled = read_labelled("all.csv")

    assert [s.source.id for s in labelled.test or ()] == ["c.mp4"]


def test_how_a_file_was_read_is_logged(caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.INFO, "bike_cli")
    Path("all.csv").write_text("video;class\na.mp4;run\nb.mp4;walk\n")

    read_labelled("all.csv")

    assert caplog.messages == [
        "all.csv: read as CSV with ';' between the columns path, label",
        "all.csv: 2 videos, read as a CSV file",
    ]


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("a.mp4,run\nb.mp4,walk\n", r"^all.csv:1: column 'a.mp4' is unknown, .*begin the file with path,label"),
        ("video_id;label\na;run\n", r"^all.csv:1: column 'video_id;label' is unknown"),
        ("path,video,label\na.mp4,a.mp4,run\n", r"^all.csv:1: column 'video' is unknown"),
        ("path;label\na.mp4;run;x\n", r"^all.csv:2: has 3 cells, not 2"),
        ("sep=;\npath;label\na.mp4;\n", r"^all.csv:3: label is empty"),
        ("path;label\n", r"^all.csv: contains no video"),
        ("path,label\n ,run\n", r"^all.csv:2: path is empty"),
    ],
)
def test_other_files_are_refused_by_line(text: str, message: str) -> None:
    Path("all.csv").write_text(text)

    with pytest.raises(UsageError, match=message):
        read_labelled("all.csv")


@pytest.mark.parametrize("encoding", ["utf-16", "utf-16-le"])
def test_utf16_is_named(encoding: str) -> None:
    with pytest.raises(UsageError, match=r"^all.csv: is UTF-16; save it as UTF-8"):
        read("path,label\r\na.mp4,run\r\n", encoding=encoding)


def test_an_excel_file_is_named() -> None:
    Path("all.xlsx").write_bytes(b"PK\x03\x04\x14\0\x06\0")

    with pytest.raises(UsageError, match=r"^all.xlsx: is a ZIP archive or an Office document, not a list of labelled"):
        read_labelled("all.xlsx")


# -- paths ----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("form", ["path,label\n{0},run\n{1},walk\n", "{0} 0\n{1} 1\n"])
@pytest.mark.parametrize(
    "change",
    [
        lambda p: p,
        lambda p: f" {p}",
        lambda p: p.replace("/", "\\"),
        lambda p: ".\\" + p.replace("/", "\\"),
        lambda p: f"'{p}'",
    ],
    ids=["as it is", "space", "backslashes", "backslashes after a dot", "quotes"],
)
def test_a_path_that_changed_is_the_file_that_exists(form: str, change: Callable[[str], str]) -> None:
    Path("data/sub dir").mkdir(parents=True)
    names = ["sub dir/my clip.mp4", "sub dir/other.mp4"]
    for name in names:
        Path("data", name).touch()
    Path("data/all.txt").write_text(form.format(*map(change, names)))
    Path("names.csv").write_text("id,name\n0,run\n1,walk\n")

    labelled = read_labelled("data/all.txt", names_file="names.csv" if "path" not in form else None)

    assert all(sample.source.path.exists() for sample in labelled.train)
    assert {sample.source.path.resolve() for sample in labelled.train} == {Path("data", n).resolve() for n in names}


def test_a_path_that_exists_is_not_changed() -> None:
    for name in (" a.mp4", "a.mp4", "sub\\b.mp4"):
        Path(name).touch()
    Path("sub").mkdir()
    Path("sub/b.mp4").touch()

    assert read("path,label\n a.mp4,run\nsub\\b.mp4,walk\n") == {" a.mp4": "run", "sub\\b.mp4": "walk"}


@pytest.mark.parametrize(
    ("path", "message"),
    [
        ("https://youtu.be/x", "https://youtu.be/x: bike does not read URLs; download it first, e.g. yt-dlp"),
        ("rtsp://camera/1", "rtsp://camera/1: bike does not read streams; record a part first"),
        ("sub\\gone.mp4", r"data/sub\\gone.mp4: no such file; its backslashes separate folders on Windows only"),
        (" gone.mp4", "data/ gone.mp4: no such file; check the path"),
    ],
)
def test_a_path_without_a_file_fails_with_the_reason(path: str, message: str) -> None:
    Path("data").mkdir()
    Path("data/all.csv").write_text(f"path,label\n{path},run\nb.mp4,walk\n")
    source = next(s.source for s in read_labelled("data/all.csv").train if "b.mp4" not in s.source.id)

    with pytest.raises(VideoError, match=f"^{message}") as caught:
        decode(source, SamplingConfig())
    assert caught.value.kind == "missing"


@pytest.mark.skipif(not FAULTS.exists(), reason="needs ../shared/faults")
def test_the_shared_csv_files_name_files_that_exist() -> None:
    for name in ("v1.mp4", "v2.mp4", "v5.mp4", "v6.mp4", "sub dir/my clip.mp4"):
        Path(name).parent.mkdir(exist_ok=True)
        Path(name).touch()

    for file in ("spaces2.csv", "back.csv"):
        labelled = read_labelled(FAULTS / file, root=".")
        assert labelled.labels == ("run", "walk")
        assert [sample.source.path.exists() for sample in labelled.train] == [True] * 4
