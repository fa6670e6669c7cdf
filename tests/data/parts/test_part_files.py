"""A folder of Parquet files: what is written is read back, by bike and by other readers."""

import json
import os
from pathlib import Path

import pytest

from bike_cli.data.parts.folder import RUN_FILE, part_folder
from bike_cli.data.parts.tables import COLUMNS, PART_VIDEOS, part_name, read_found, read_records
from bike_cli.data.parts.writer import PartWriter
from bike_cli.data.predictions.objects import as_object
from bike_cli.errors import UsageError
from bike_cli.json_text import as_json
from bike_cli.records import Failure, Source

pq = pytest.importorskip("pyarrow.parquet")

ANSWER = {
    "path": "a.mp4",
    "status": "ok",
    "label": "red",
    "top": [{"label": "red", "score": 0.75, "cosine": 0.25, "match": None}],
    "frames": 8,
    "duration_s": 2.5,
}
ODD_NAMES = ["a b.mp4", "ä\n.mp4", "\udcff.mp4", "\\xff.mp4", "\u202e.mp4", "s3://bucket/a.mp4", ""]


def failure(name: str, kind: str = "damaged") -> dict[str, object]:
    return dict(as_object(Failure(Source(Path("x"), name), kind, f"{name}: is damaged; copy it again")))


def test_columns_hold_what_the_record_says(tmp_path: Path) -> None:
    writer = PartWriter(part_folder(f"{tmp_path}/"), "s", {"model": "tiny"})
    writer.write(ANSWER)
    writer.write(failure("b.mp4"))
    writer.flush()

    table = pq.read_table(tmp_path)
    answer, failed = table.to_pylist()
    assert table.column_names == list(COLUMNS)
    assert {name: answer[name] for name in COLUMNS[:5]} == {
        "path": "a.mp4",
        "status": "ok",
        "label": "red",
        "score": 0.75,
        "cosine": 0.25,
    }
    assert (answer["frames"], answer["duration_s"], answer["error"]) == (8, 2.5, None)
    assert (failed["status"], failed["error"], failed["label"]) == ("error", "damaged", None)
    assert failed["message"] == "b.mp4: is damaged; copy it again"
    assert [json.loads(row["record"]) for row in (answer, failed)] == [ANSWER, failure("b.mp4")]
    assert json.loads(pq.read_schema(next(tmp_path.glob("part-*"))).metadata[b"bike"]) == {"model": "tiny"}


@pytest.mark.parametrize("name", ODD_NAMES)
def test_any_name_is_read_back_as_it_is(tmp_path: Path, name: str) -> None:
    folder = part_folder(str(tmp_path))
    writer = PartWriter(folder, "s", {})
    writer.write({**ANSWER, "path": name})
    writer.write(failure(name))
    writer.flush()

    (part,) = folder.parts()
    assert [found.path for found in read_found(folder, part)] == [name, name]
    assert [record["path"] for record in read_records(folder, part)] == [name, name]
    assert [as_json(record) for record in read_records(folder, part)] == [
        as_json({**ANSWER, "path": name}),
        as_json(failure(name)),
    ]


def test_a_part_has_512_videos(tmp_path: Path) -> None:
    folder = part_folder(str(tmp_path))
    writer = PartWriter(folder, "s", {})
    for i in range(PART_VIDEOS + 1):
        writer.write({**ANSWER, "path": f"{i}.mp4"})
    assert len(folder.parts()) == 1  # written before the last video

    writer.flush()

    assert sorted(pq.read_metadata(tmp_path / part).num_rows for part in folder.parts()) == [1, PART_VIDEOS]
    assert writer.parts == 2


def test_a_part_of_slow_videos_is_written_after_five_minutes(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    now_s = [1000.0]
    monkeypatch.setattr("bike_cli.data.parts.writer.time.monotonic", lambda: now_s[0])
    folder = part_folder(str(tmp_path))
    writer = PartWriter(folder, "s", {})
    writer.write(ANSWER)
    now_s[0] += 299
    writer.write(failure("b.mp4"))
    assert folder.parts() == []

    now_s[0] += 2
    writer.write(failure("c.mp4"))

    (part,) = folder.parts()
    assert [found.path for found in read_found(folder, part)] == ["a.mp4", "b.mp4", "c.mp4"]


def test_the_same_videos_and_settings_make_the_same_part() -> None:
    name = part_name(["a", "b"], "s")

    assert name == part_name(["a", "b"], "s")
    others = [part_name(["b", "a"], "s"), part_name(["a", "b"], "t"), part_name(["ab"], "s"), part_name(["a"], "sb")]
    assert len({name, *others}) == 5


def test_videos_that_are_named_again_get_a_part_of_their_own(tmp_path: Path) -> None:
    folder = part_folder(str(tmp_path))
    for _ in range(2):  # two runs
        writer = PartWriter(folder, "s", {}, existing=folder.parts())
        for _ in range(2):
            writer.write(ANSWER)
            writer.flush()

    assert len(folder.parts()) == 4
    assert pq.read_table(tmp_path)["path"].to_pylist() == ["a.mp4"] * 4


def test_a_part_with_failures_to_try_again_says_so(tmp_path: Path) -> None:
    folder = part_folder(str(tmp_path))
    writer = PartWriter(folder, "s", {}, retried=["internal"])
    writer.write(failure("a.mp4", "internal"))
    writer.flush()
    writer.write(failure("a.mp4", "damaged"))
    writer.flush()

    assert [part.endswith("-retry.parquet") for part in folder.parts()].count(True) == 1


def test_an_unfinished_file_is_no_part_and_is_removed(tmp_path: Path) -> None:
    folder = part_folder(str(tmp_path), tag="1-of-2")
    mine, other = (tmp_path / f".{tag}.part-0123456789abcdef.parquet.tmp" for tag in ("1-of-2", "2-of-2"))
    for file in (mine, other):
        file.write_bytes(b"PAR1")

    assert folder.parts() == []
    folder.remove_unfinished()

    assert [mine.exists(), other.exists()] == [False, True]


def test_nothing_is_left_of_a_file_that_cannot_be_written(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def full(descriptor: int) -> None:
        raise OSError(28, os.strerror(28))

    monkeypatch.setattr("bike_cli.data.parts.folder.os.fsync", full)
    with pytest.raises(UsageError, match=r"cannot be written .No space left on device.; free some space"):
        part_folder(str(tmp_path)).write("part-0123456789abcdef.parquet", b"PAR1")

    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize(
    ("name", "message"),
    [
        ("file/out", "Not a directory); a part of its path is a file, so choose another name"),
        ("n" * 300, "File name too long); choose a shorter name"),
        ("locked/out", "Permission denied); choose a folder that you may write to"),
    ],
)
def test_the_way_out_fits_what_is_wrong(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, name: str, message: str
) -> None:
    (tmp_path / "file").touch()
    mkdir = Path.mkdir

    def refuse(self: Path, *arguments: object, **options: object) -> None:  # root may write everywhere
        if "locked" in self.parts:
            raise PermissionError(13, os.strerror(13), str(self))
        mkdir(self, *arguments, **options)  # type: ignore[arg-type]

    monkeypatch.setattr(Path, "mkdir", refuse)

    with pytest.raises(UsageError) as raised:
        part_folder(str(tmp_path / name)).create()

    assert str(raised.value) == f"{tmp_path / name}: cannot be written ({message}"


def test_only_one_of_two_runs_creates_a_file(tmp_path: Path) -> None:
    first, second = part_folder(str(tmp_path), tag="1-of-2"), part_folder(str(tmp_path), tag="2-of-2")

    assert first.create_json(RUN_FILE, {"settings": "a"})
    assert not second.create_json(RUN_FILE, {"settings": "b"})

    assert second.read_json(RUN_FILE) == {"settings": "a"}
    assert [file.name for file in tmp_path.iterdir()] == [RUN_FILE]


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (b"PAR1", "out/part-0123456789abcdef.parquet: cannot be read"),
        (b"", "out/part-0123456789abcdef.parquet: cannot be read"),
    ],
)
def test_a_damaged_part_is_named(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, content: bytes, message: str) -> None:
    monkeypatch.chdir(tmp_path)
    Path("out").mkdir()
    Path("out/part-0123456789abcdef.parquet").write_bytes(content)

    with pytest.raises(UsageError, match=message):
        read_found(part_folder("out/"), "part-0123456789abcdef.parquet")


def test_a_part_of_another_program_is_named(tmp_path: Path) -> None:
    import pyarrow as pa

    pq.write_table(pa.table({"path": ["a.mp4"]}), tmp_path / "part-0123456789abcdef.parquet")

    with pytest.raises(UsageError, match="has no column 'error', so it is not a part of bike; remove it"):
        read_found(part_folder(str(tmp_path)), "part-0123456789abcdef.parquet")
