"""Every format holds the same answers."""

import csv
import io
import json
from pathlib import Path

import pytest
from answers import HOSTILE, failure, prediction, steering
from invoke import Terminal

from bike_cli.cli.classify.writers import Format, format_of, make_writer
from bike_cli.data.predictions.objects import as_object
from bike_cli.records import Failure, Prediction

RECORDS: list[Prediction | Failure] = [prediction(), failure(), prediction("c.mp4", ("sitting",), weights=None)]
OBJECTS = [as_object(record) for record in RECORDS]


def written(format_: Format, records: list[Prediction | Failure], *, top: int = 3) -> str:
    stream = io.StringIO()
    writer = make_writer(stream, format_, top=top, names=None)
    for record in records:
        writer.write(record)
    writer.close()
    return stream.getvalue()


def test_jsonl_is_an_object_a_line() -> None:
    assert [json.loads(line) for line in written("jsonl", RECORDS).splitlines()] == OBJECTS


@pytest.mark.parametrize("count", [0, 1, 3])
def test_json_is_one_array_however_many_records(count: int) -> None:
    assert json.loads(written("json", RECORDS[:count])) == OBJECTS[:count]


class InterruptedAfterFlush(io.StringIO):
    """A stream on which Ctrl-C comes the moment a record is out."""

    def flush(self) -> None:
        if self.getvalue().endswith("}"):
            raise KeyboardInterrupt


def test_an_interrupt_right_after_a_record_leaves_a_whole_array() -> None:
    stream = InterruptedAfterFlush()
    writer = make_writer(stream, "json", top=3, names=None)

    with pytest.raises(KeyboardInterrupt):
        writer.write(RECORDS[0])
    writer.close()

    assert json.loads(stream.getvalue()) == OBJECTS[:1]


def test_csv_reads_back_with_its_names() -> None:
    first, failed, single = csv.DictReader(io.StringIO(written("csv", RECORDS)))

    assert (first["path"], first["label"], first["score"], first["label_2"]) == ("a.mp4", "running", "0.5", "jumping")
    assert (failed["path"], failed["status"], failed["error"], failed["label"]) == ("b.mp4", "error", "damaged", "")
    assert (single["label"], single["label_2"]) == ("sitting", "")


@pytest.mark.parametrize("text", HOSTILE)
def test_csv_keeps_any_text(text: str) -> None:
    (row,) = csv.DictReader(io.StringIO(written("csv", [prediction(text, (text,))]), newline=""))

    assert (row["path"], row["label"]) == (text, text)


@pytest.mark.parametrize("text", [*HOSTILE, "back\\slash\\n"])
def test_tsv_keeps_any_text_on_one_line(text: str) -> None:
    header, row, end = written("tsv", [prediction(text)]).split("\n")

    escapes = {"\\\\": "\\", "\\t": "\t", "\\n": "\n", "\\r": "\r"}
    path, parts = row.split("\t")[header.split("\t").index("path")], []
    while path:
        size = 2 if path[:2] in escapes else 1
        parts.append(escapes.get(path[:2], path[:1]))
        path = path[size:]
    assert "".join(parts) == text
    assert end == ""


@pytest.mark.parametrize("format_", ["jsonl", "json", "csv", "tsv", "table"])
@pytest.mark.parametrize("text", HOSTILE)
def test_no_format_steers_a_terminal(format_: Format, text: str) -> None:
    screen = Terminal()
    writer = make_writer(screen, format_, top=3, names=None)

    writer.write(prediction(text, (text, "other"), warning=text))
    writer.write(failure(text))
    writer.close()

    assert steering(screen.text.replace("\t", " ")) == set()


@pytest.mark.parametrize("format_", ["jsonl", "json", "csv", "tsv", "table"])
def test_a_record_is_out_before_the_next_one_is_known(format_: Format, tmp_path: Path) -> None:
    file = tmp_path / "out"
    with file.open("w", encoding="utf-8") as stream:
        make_writer(stream, format_, top=3, names=None).write(prediction())

        assert "a.mp4" in file.read_text(encoding="utf-8")


# -- which format -------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("name", "format_"),
    [("a.jsonl", "jsonl"), ("a.json", "json"), ("a.CSV", "csv"), ("a.tsv", "tsv"), ("a.txt", "jsonl"), ("a", "jsonl")],
)
def test_the_suffix_of_a_file_decides_its_format(name: str, format_: str) -> None:
    assert format_of(None, Path(name)) == format_


def test_the_format_asked_for_wins_over_the_ending() -> None:
    assert format_of("tsv", Path("a.json")) == "tsv"


@pytest.mark.parametrize(("stream", "format_"), [(Terminal(), "table"), (io.StringIO(), "jsonl")])
def test_a_person_gets_a_table_and_a_pipe_lines(
    stream: io.TextIOBase, format_: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("sys.stdout", stream)

    assert format_of(None, None) == format_
