"""Every format holds the same segments, and each output is a file or a folder as its name says."""

import csv
import io
import json
from pathlib import Path

import pytest
from answers import HOSTILE, steering
from invoke import Terminal
from timelines import a_cut, failure, segment, timeline

from bike_cli.cli.spot.rows import CutTimeline, Record, as_object
from bike_cli.cli.spot.subtitles import as_srt
from bike_cli.cli.spot.writers import (
    SINGLE_FORMATS,
    Format,
    check_format_of_name,
    format_of,
    make_folder_writer,
    make_writer,
    names_of_files,
    writes_folder,
)
from bike_cli.errors import UsageError

FOUND = timeline(segment("goal", 5.0, 7.5), segment("corner kick", 1.0, 2.5, 0.75))
RECORDS: list[Record] = [FOUND, failure(), timeline(path="quiet.mp4")]
STREAMED: list[Format] = ["jsonl", "json", "csv", "tsv", "table", "labelstudio", "activitynet"]


def written(format_: Format, records: list[Record], **how: object) -> str:
    stream = io.StringIO()
    writer = make_writer(stream, format_, **how)  # type: ignore[arg-type]
    for record in records:
        writer.write(record)
    writer.close()
    return stream.getvalue()


def test_json_lines_and_an_array_hold_the_same_objects() -> None:
    objects = [as_object(record, "0123abcd") for record in RECORDS]

    assert [json.loads(line) for line in written("jsonl", RECORDS, settings="0123abcd").splitlines()] == objects
    assert json.loads(written("json", RECORDS, settings="0123abcd")) == objects


def test_the_scores_of_bins_are_written_if_asked_for() -> None:
    found = timeline(segment("goal", 5.0, 7.5), scores=True)

    assert len(json.loads(written("jsonl", [found], timeline=True))["timeline"]["times_s"]) == 40
    assert "timeline" not in json.loads(written("jsonl", [found]))


def test_csv_has_a_row_per_segment_and_loses_no_video() -> None:
    rows = list(csv.DictReader(io.StringIO(written("csv", RECORDS))))

    assert [(row["path"], row["start_s"], row["end_s"], row["label"], row["score"]) for row in rows] == [
        ("cup/match.mp4", "1.0", "2.5", "corner kick", "0.75"),
        ("cup/match.mp4", "5.0", "7.5", "goal", "0.9"),
        ("b.mp4", "", "", "", ""),
        ("quiet.mp4", "", "", "", ""),
    ]
    assert [row["status"] for row in rows] == ["ok", "ok", "error", "ok"]


def test_csv_has_the_clips_if_there_are_any() -> None:
    record = CutTimeline(FOUND, (a_cut(), failure()))
    rows = list(csv.DictReader(io.StringIO(written("csv", [record], cuts=True))))

    assert [(row["clip"], row["clip_start_s"]) for row in rows] == [("clips/match/0001_goal.mp4", "1.5"), ("", "")]


@pytest.mark.parametrize("text", HOSTILE)
def test_csv_keeps_any_text(text: str) -> None:
    record = timeline(segment(text, 1, 2), path=text, labels=[text])
    (row,) = csv.DictReader(io.StringIO(written("csv", [record]), newline=""))

    assert (row["path"], row["label"]) == (text, text)


@pytest.mark.parametrize("format_", [*STREAMED, *SINGLE_FORMATS])
@pytest.mark.parametrize("text", HOSTILE)
def test_no_format_steers_a_terminal(format_: Format, text: str) -> None:
    screen = Terminal()
    writer = make_writer(screen, format_, cuts=True)

    writer.write(timeline(segment(text, 1, 2), path=text, labels=[text], warning=text))
    writer.write(failure(text))
    writer.close()

    assert steering(screen.text.replace("\t", " ")) == set()


@pytest.mark.parametrize("format_", [*STREAMED, *SINGLE_FORMATS])
def test_a_record_is_out_before_the_next_one_is_known(format_: Format, tmp_path: Path) -> None:
    file = tmp_path / "out"
    with file.open("w", encoding="utf-8") as stream:
        make_writer(stream, format_).write(FOUND)

        text = file.read_text(encoding="utf-8")
        assert "2.5" in text or "2,5" in text or "2500" in text or "60" in text  # its end, as seconds or as a frame


# -- formats of one video -----------------------------------------------------------------------------------------


@pytest.mark.parametrize("format_", SINGLE_FORMATS)
def test_a_stream_takes_one_video(format_: Format) -> None:
    assert written(format_, [FOUND])
    assert written(format_, [failure()]) == ""
    with pytest.raises(UsageError, match="is of one video"):
        written(format_, [FOUND, FOUND])


def test_a_folder_has_a_file_per_video(tmp_path: Path) -> None:
    videos = tmp_path / "videos"
    for name in ("cup/final.mp4", "final.mkv", "broken.mp4"):
        (videos / name).parent.mkdir(parents=True, exist_ok=True)
        (videos / name).touch()
    found = [
        timeline(segment("goal", i, i + 1), path=str(videos / n)) for i, n in enumerate(("cup/final.mp4", "final.mkv"))
    ]
    writer = make_folder_writer(tmp_path / "out", "srt", arguments=[str(videos)])

    for record in (*found, failure(str(videos / "broken.mp4"))):
        writer.write(record)
    writer.close()

    texts = {str(f.relative_to(tmp_path / "out")): f.read_text() for f in (tmp_path / "out").rglob("*") if f.is_file()}
    assert texts == {"cup/final.srt": as_srt(found[0]), "final.srt": as_srt(found[1])}


def test_a_file_that_cannot_be_completed_leaves_the_older_one(tmp_path: Path) -> None:
    (tmp_path / "match.srt").write_text("older")
    writer = make_folder_writer(tmp_path, "srt")
    lone_surrogate = timeline(segment("\ud800", 1, 2), labels=["\ud800"])  # not a byte of a name; no text either

    with pytest.raises(UnicodeEncodeError):
        writer.write(lone_surrogate)

    assert {f.name: f.read_text() for f in tmp_path.iterdir()} == {"match.srt": "older"}


def test_names_that_clash_are_a_usage_error_before_work_starts(tmp_path: Path) -> None:
    names = names_of_files(tmp_path, "vtt")

    names.check([timeline(path="a/x.mp4").source, timeline(path="b/y.mp4").source, failure("a/x.mp4")])
    with pytest.raises(UsageError, match=r"b/x\.mkv: would be written to .*x\.vtt, as a/x\.mp4 would; rename"):
        names.check([timeline(path="a/x.mp4").source, timeline(path="b/x.mkv").source])


# -- which format, and where --------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("name", "format_"),
    [
        *((f"a.{format_}", format_) for format_ in ("jsonl", "json", "csv", "tsv", *SINGLE_FORMATS)),
        *(("a.ndjson", "jsonl"), ("a.SRT", "srt"), ("a", "jsonl"), ("a.txt", "jsonl")),
    ],
)
def test_the_suffix_of_a_file_decides_its_format(name: str, format_: str) -> None:
    assert format_of(None, Path(name)) == format_


@pytest.mark.parametrize(("stream", "format_"), [(Terminal(), "table"), (io.StringIO(), "jsonl")])
def test_a_person_gets_a_table_and_a_pipe_lines(
    stream: io.TextIOBase, format_: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("sys.stdout", stream)

    assert format_of(None, None) == format_


@pytest.mark.parametrize(("wanted", "name"), [("vtt", "a.srt"), ("srt", "a.json"), ("labelstudio", "a.csv")])
def test_a_name_that_promises_another_format_is_a_usage_error(wanted: Format, name: str) -> None:
    with pytest.raises(UsageError, match=f"--format is {wanted}; change one of them"):
        check_format_of_name(wanted, Path(name))


def test_an_unknown_ending_names_those_that_there_are() -> None:
    with pytest.raises(UsageError, match=r"\.sub is not an output format; end the name in .*\.srt.*or add --format"):
        check_format_of_name(None, Path("a.sub"))


@pytest.mark.parametrize(
    ("wanted", "name"),
    [("srt", "a.srt"), (None, "a.srt"), ("activitynet", "a.json"), ("labelstudio", "a.json"), ("ffmetadata", "a.txt")],
)
def test_a_name_that_fits_is_taken(wanted: Format | None, name: str) -> None:
    check_format_of_name(wanted, Path(name))


@pytest.mark.parametrize(
    ("format_", "output", "videos", "is_folder"),
    [
        ("srt", None, 1, False),
        ("srt", "a.srt", 1, False),
        ("srt", "found", 1, True),
        ("srt", "found", None, True),
        ("vtt", "there.d", 7, True),  # exists
        ("jsonl", "a.jsonl", None, False),
        ("labelstudio", "a.json", 7, False),
        ("fiftyone", "dataset", 1, True),
    ],
)
def test_what_is_written_to_a_folder(
    format_: Format, output: str | None, videos: int | None, is_folder: bool, tmp_path: Path
) -> None:
    (tmp_path / "there.d").mkdir()

    assert writes_folder(format_, output and tmp_path / output, videos=videos) is is_folder


@pytest.mark.parametrize("output", [None, "a.srt", "file"])
@pytest.mark.parametrize("videos", [2, None])
def test_a_file_takes_one_video_only(output: str | None, videos: int | None, tmp_path: Path) -> None:
    (tmp_path / "file").touch()

    with pytest.raises(UsageError, match="name a folder, such as -o found/"):
        writes_folder("srt", output and tmp_path / output, videos=videos)


@pytest.mark.parametrize("output", [None, "a.json", "file"])
def test_fiftyone_needs_a_folder(output: str | None, tmp_path: Path) -> None:
    (tmp_path / "file").touch()

    with pytest.raises(UsageError, match="--format fiftyone writes a folder; name one, such as -o dataset"):
        writes_folder("fiftyone", output and tmp_path / output, videos=1)
