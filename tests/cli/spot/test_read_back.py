"""`bike eval` reads the segments that `bike spot` writes."""

from pathlib import Path

import pytest
from answers import HOSTILE
from timelines import a_cut, failure, segment, timeline

from bike_cli.cli.spot.rows import CutTimeline, Record
from bike_cli.cli.spot.writers import Format, make_writer
from bike_cli.data.detection.detections import holds_detections, read_detections
from bike_cli.data.predictions.files import DataFile

TWO = (segment("goal", 5.0, 7.5, 0.75), segment("corner kick", 1.0, 2.5, 0.5))
RECORDS: list[Record] = [timeline(*TWO), failure("b.mp4"), timeline(path="quiet.mp4")]
FORMATS: list[Format] = ["jsonl", "json", "csv", "tsv"]


def read_back(records: list[Record], format_: Format, folder: Path, *, cuts: bool = False) -> object:
    file = folder / f"found.{format_}"
    with file.open("w", encoding="utf-8", errors="surrogateescape", newline="") as stream:
        writer = make_writer(stream, format_, settings="01234567", timeline=True, cuts=cuts)
        for record in records:
            writer.write(record)
        writer.close()
    data = DataFile(str(file), str(file))
    assert holds_detections(data)
    return read_detections(data, name="found")


@pytest.mark.parametrize("format_", FORMATS)
def test_every_format_reads_back(format_: Format, tmp_path: Path) -> None:
    found = read_back(RECORDS, format_, tmp_path)

    videos = {video.path: [tuple(segment) for segment in video.segments] for video in found.videos}  # type: ignore[attr-defined]
    assert videos == {
        "cup/match.mp4": [("corner kick", 1.0, 2.5, 0.5), ("goal", 5.0, 7.5, 0.75)],
        "quiet.mp4": [],
    }
    assert [(failed.source.id, failed.kind) for failed in found.failures] == [("b.mp4", "damaged")]  # type: ignore[attr-defined]


@pytest.mark.parametrize("format_", FORMATS)
def test_clips_are_no_hindrance(format_: Format, tmp_path: Path) -> None:
    found = read_back([CutTimeline(timeline(*TWO), (a_cut(), failure("clip.mp4")))], format_, tmp_path, cuts=True)

    assert [len(video.segments) for video in found.videos] == [2]  # type: ignore[attr-defined]


def test_results_of_the_challenge_read_back(tmp_path: Path) -> None:
    found = read_back(RECORDS, "activitynet", tmp_path)

    assert {video.path: len(video.segments) for video in found.videos} == {"match": 2, "quiet": 0}  # type: ignore[attr-defined]


@pytest.mark.parametrize("text", [text for text in HOSTILE if "\udce9" not in text])
def test_labels_read_back(text: str, tmp_path: Path) -> None:
    for format_ in FORMATS[:3]:
        found = read_back([timeline(segment(text, 1, 2), labels=[text])], format_, tmp_path)
        ((only,),) = (video.segments for video in found.videos)  # type: ignore[attr-defined]
        assert only.label.split() == text.split()
