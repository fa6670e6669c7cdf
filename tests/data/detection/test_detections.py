"""Detected segments in every format, and what is wrong with files of other kinds."""

import json
import logging
from pathlib import Path

import numpy as np
import pytest

from bike_cli.data.detection.detections import (
    DetectedVideo,
    Detections,
    ScoredSegment,
    holds_detections,
    merge_detections,
    read_detections,
)
from bike_cli.data.predictions.files import DataFile
from bike_cli.errors import UsageError
from bike_cli.records import Failure, Segment, Source, Timeline

A = DetectedVideo(
    "a.mp4", (ScoredSegment("red circle", 1.5, 4.0, 0.75), ScoredSegment("blue star", 2.0, 3.0, 0.5)), 9.5
)
B = DetectedVideo("b.mp4", (), 8.0)
C = Failure(Source.at("c.mp4"), "missing", "c.mp4: no such file")


@pytest.fixture(autouse=True)
def _here(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)


def answer(video: DetectedVideo, **more: object) -> dict[str, object]:
    """Return the record that `bike spot` writes of a video."""
    segments = [{**segment._asdict(), "peak_s": segment.start_s} for segment in video.segments]
    record = {"path": video.path, "status": "ok", "segments": segments, "model": "tiny", "settings": "0a1b2c3d"}
    return {**record, "fps": 4, "frames": 32, "duration_s": video.duration_s, **more}


def failed(failure: Failure) -> dict[str, object]:
    error = {"type": failure.kind, "message": failure.message}
    return {"path": failure.source.id, "status": "error", "error": error}


def lines(*records: object) -> str:
    return "".join(f"{json.dumps(record)}\n" for record in records)


def write(text: str, name: str = "found.jsonl") -> str:
    Path(name).write_text(text, encoding="utf-8")
    return name


# -- what bike writes -------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("form", ["jsonl", "json", "indented"])
def test_records_of_bike_spot_are_read(form: str) -> None:
    records = [answer(A), answer(B), failed(C)]
    texts = {"jsonl": lines(*records), "json": json.dumps(records), "indented": json.dumps(records, indent=1)}

    found = read_detections(write(texts[form]))

    assert (found.videos, found.failures) == ((A, B), (C,))
    assert (found.name, found.models, found.settings) == ("found.jsonl", ("tiny",), ("0a1b2c3d",))


@pytest.mark.parametrize("mark", [",", "\t"])
def test_tables_of_bike_spot_are_read(mark: str) -> None:
    rows = [
        "path,status,start_s,end_s,label,score,duration_s,model,error,message",
        "a.mp4,ok,1.5,4.0,red circle,0.75,9.5,tiny,,",
        "b.mp4,ok,,,,,8.0,tiny,,",
        "a.mp4,ok,2.0,3.0,blue star,0.5,9.5,tiny,,",
        "c.mp4,error,,,,,,,missing,c.mp4: no such file",
    ]
    text = "".join(f"{row}\n" for row in rows).replace(",", mark)

    found = read_detections(write(text, "found.csv"))

    assert (found.videos, found.failures, found.models) == ((A, B), (C,), ("tiny",))


def test_a_table_needs_only_the_columns_of_segments() -> None:
    found = read_detections(write("path,start_s,end_s,label,score\na.mp4,1,2,x,0.5\nb.mp4,,,,\n", "found.csv"))

    assert found.videos == (
        DetectedVideo("a.mp4", (ScoredSegment("x", 1.0, 2.0, 0.5),)),
        DetectedVideo("b.mp4", ()),
    )


def test_results_of_the_challenge_are_read() -> None:
    results = {"vid": [{"label": "Long jump", "score": 12.5, "segment": [1, 2.5]}], "empty": []}
    whole = {"version": "VERSION 1.3", "results": results, "external_data": {"used": False}}
    expected = (DetectedVideo("vid", (ScoredSegment("Long jump", 1.0, 2.5, 12.5),)), DetectedVideo("empty", ()))

    for text in (
        json.dumps(whole),
        json.dumps(whole, indent=2),
        '{"version": "x",\n "results": ' + json.dumps(results) + "}",
    ):
        assert read_detections(write(text)).videos == expected


def test_answers_in_memory_are_read_as_from_a_file() -> None:
    segments = tuple(Segment(*segment, peak_s=2.0) for segment in A.segments)
    timeline = Timeline(
        Source.at("a.mp4"), ("red circle",), segments, np.array([0.0, 9.5]), None, "tiny", 4.0, 38, duration_s=9.5
    )

    found = Detections.of_answers("mine", [timeline, C])

    assert found == Detections("mine", (A,), (C,), ("tiny",))


# -- repeated and torn records ----------------------------------------------------------------------------------------


def test_identical_answers_are_used_once(caplog: pytest.LogCaptureFixture) -> None:
    found = read_detections(write(lines(answer(A), answer(B), answer(A), failed(C), failed(C))))

    assert (found.videos, found.failures) == ((A, B), (C,))
    assert "found.jsonl:3: 1 record with more than one identical answer" in caplog.text


def test_a_repeated_row_is_used_once(caplog: pytest.LogCaptureFixture) -> None:
    text = "path,start_s,end_s,label,score\na.mp4,1,2,x,0.5\na.mp4,1,2,x,0.5\na.mp4,1,2,x,0.25\n"

    assert len(read_detections(write(text, "found.csv")).videos[0].segments) == 2
    assert "found.csv:3: 1 record with" in caplog.text


def test_a_torn_last_record_is_left_out(caplog: pytest.LogCaptureFixture) -> None:
    found = read_detections(write(lines(answer(A)) + lines(answer(B))[:40]))

    assert found.videos == (A,)
    assert "found.jsonl:2: the file was cut short here" in caplog.text


@pytest.mark.parametrize(
    ("text", "problem"),
    [
        (lines(answer(A), answer(A._replace(segments=()))), r"jsonl:2: a.mp4 has another answer in an earlier record"),
        (lines(failed(C), answer(A._replace(path="c.mp4"))), r"jsonl:2: c.mp4 has another answer"),
        (lines(answer(A._replace(path="c.mp4")), failed(C)), r"jsonl:2: c.mp4 has another answer"),
        (lines({"path": "a.mp4", "status": "ok"}), r"jsonl:1: is not an answer of bike spot -o: status must be 'ok'"),
        (lines({"path": "a.mp4", "status": "maybe", "segments": []}), r"jsonl:1: is not an answer"),
        (lines({"segments": []}), r"jsonl:1: is not an answer of bike spot -o, as it has no 'path'"),
        (lines([3]), r"jsonl:1: is not an answer"),
        (lines([]), r"jsonl: is empty"),
        (lines(answer(A, segments=[3])), r"jsonl:1: has a segment without a label"),
        (lines(answer(A, segments=[{"label": "x", "start_s": 1, "end_s": "?"}])), r"end_s '\?' is not a finite number"),
        (lines(answer(A, segments=[{"label": "x", "start_s": 1}])), r"jsonl:1: end_s None is not a finite number"),
        (lines(answer(A, duration_s="long")), r"jsonl:1: duration_s 'long' is not a finite number"),
        (lines({"path": "a.mp4", "status": "error"}), r"jsonl:1: has the status 'error' but no 'error'"),
        ("{}\n\n", r"jsonl:1: is not an answer"),
        ("{,}\n", r"jsonl:1: is not valid JSON"),
        ("", r"jsonl: is empty"),
        ("path,start_s,end_s\n", r"jsonl:1: is neither JSON nor a table with the column 'label'"),
        ("path,start_s,end_s,label,score\na.mp4,1,2,x\n", r"jsonl:2: has 4 cells, not 5"),
        ("path,start_s,end_s,label,score\na.mp4,1,2,x,\n", r"jsonl:2: score '' is not a finite number"),
        ("path,start_s,end_s,label,score\na.mp4,1,,x,1\n", r"jsonl:2: end_s '' is not a finite number"),
        ('{"results": []}', r"jsonl: has no object 'results' of lists"),
        ('{"results": {"v": 3}}', r"jsonl: has no object 'results' of lists"),
        ('{"results": {"v": [{"label": "x", "score": 1}]}}', r"jsonl, video v: has a segment without a label"),
        (
            '{"results": {"v": [{"label": "x", "score": NaN, "segment": [0, 1]}]}}',
            r"video v: score nan is not a finite",
        ),
        ('{"results": {', r"jsonl: is not valid JSON"),
    ],
)
def test_what_is_wrong_with_a_file_is_named(text: str, problem: str) -> None:
    with pytest.raises(UsageError, match=problem):
        read_detections(write(text))


def test_a_missing_file_is_named() -> None:
    with pytest.raises(UsageError, match=r"nowhere.jsonl: no such file; give the output of bike spot -o"):
        read_detections("nowhere.jsonl")


def test_segments_without_scores_rank_alike(caplog: pytest.LogCaptureFixture) -> None:
    found = read_detections(write("path,start_s,end_s,label\na.mp4,1,2,x\n", "found.csv"))

    assert found.videos[0].segments[0].score == 1.0
    assert "found.csv:1: has no column 'score'" in caplog.text


# -- kinds of files, and parts ----------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("text", "holds"),
    [
        (lines(answer(A)), True),
        (json.dumps([answer(A)], indent=1), True),
        ('{"version": "x", "results": {}}', True),
        ("path,start_s,end_s,label,score\n", True),
        ("path\tstatus\tstart_s\tend_s\tlabel\n", True),
        ("path,start_s,end_s,label\n", False),
        ('{"database": {}}', False),
        ("path,label\n", False),
        ("", False),
    ],
)
def test_files_of_detections_are_told_from_others(text: str, holds: bool) -> None:
    write(text, "some file")

    assert holds_detections(DataFile("some file", "some file")) is holds


def test_parts_are_joined(caplog: pytest.LogCaptureFixture) -> None:
    other = Detections("two", (B,), (Failure(Source.at("a.mp4"), "timeout", "too slow"), C), ("tiny",))
    with caplog.at_level(logging.WARNING):
        joined = merge_detections([Detections("one", (A,), (), ("tiny",)), other], name="all")

    assert joined == Detections("all", (A, B), (C,), ("tiny",))
    assert caplog.text == ""
    with pytest.raises(UsageError, match=r"three: a.mp4 has another answer in an earlier part"):
        merge_detections([joined, Detections("three", (A._replace(segments=()),))], name="all")
    merge_detections([joined, Detections("three", (), (), ("base",))], name="all")
    assert "all: the parts have different models; are they parts of one run?" in caplog.text
