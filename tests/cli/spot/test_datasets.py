"""Formats of other programs: their structure, and the times that they mean."""

import io
import json
from pathlib import Path

import pytest
from answers import HOSTILE
from timelines import LABELS, failure, segment, timeline

from bike_cli.cli.spot.datasets import ActivityNetWriter, FiftyOneWriter, activitynet_id, as_label_studio_task
from bike_cli.cli.spot.writers import make_folder_writer, make_writer
from bike_cli.errors import UsageError
from bike_cli.records import Source

TWO = (segment("goal", 5.0, 7.5, 0.75), segment("corner kick", 1.0, 2.5, 0.5))

# -- Label Studio -------------------------------------------------------------------------------------------------


def test_a_task_of_label_studio() -> None:
    assert as_label_studio_task(timeline(*TWO), "0123abcd") == {
        "data": {"video": "cup/match.mp4", "fps": 24.0},
        "predictions": [
            {
                "model_version": "bike tiny 0123abcd",
                "score": 0.625,
                "result": [
                    {
                        "id": "segment1",
                        "type": "timelinelabels",
                        "from_name": "videoLabels",
                        "to_name": "video",
                        "score": 0.5,
                        "value": {"ranges": [{"start": 25, "end": 60}], "timelinelabels": ["corner kick"]},
                    },
                    {
                        "id": "segment2",
                        "type": "timelinelabels",
                        "from_name": "videoLabels",
                        "to_name": "video",
                        "score": 0.75,
                        "value": {"ranges": [{"start": 121, "end": 180}], "timelinelabels": ["goal"]},
                    },
                ],
            }
        ],
    }


@pytest.mark.parametrize("fps", [0.5, 1, 2, 2.5, 3, 4, 5, 8, 10, 12, 24, 25, 29.97, 30, 60])
def test_frames_of_label_studio_mean_the_same_times(fps: float) -> None:
    # Frame f begins (f - 1) / rate after the start, and the last frame of a range is part of it.
    found = timeline(*(segment("goal", k / fps, (k + 3) / fps) for k in range(0, 40, 5)), fps=fps)
    task = json.loads(json.dumps(as_label_studio_task(found)))
    rate = task["data"]["fps"]

    ranges = [region["value"]["ranges"][0] for region in task["predictions"][0]["result"]]

    assert rate >= 24
    for one, shown in zip(found.segments, ranges, strict=True):
        assert (shown["start"] - 1) / rate == pytest.approx(one.start_s, abs=1e-4)
        assert shown["end"] / rate == pytest.approx(one.end_s, abs=1e-4)


def test_label_studio_gets_a_list_of_tasks_without_failures() -> None:
    stream = io.StringIO()
    writer = make_writer(stream, "labelstudio")
    for record in (failure(), timeline(*TWO), failure(), timeline(path="quiet.mp4")):
        writer.write(record)
    writer.close()

    tasks = json.loads(stream.getvalue())
    assert [task["data"]["video"] for task in tasks] == ["cup/match.mp4", "quiet.mp4"]
    assert tasks[1]["predictions"] == [{"model_version": "bike tiny", "result": []}]


# -- ActivityNet --------------------------------------------------------------------------------------------------


def test_results_of_the_activitynet_challenge() -> None:
    stream = io.StringIO()
    writer = make_writer(stream, "activitynet")
    for record in (timeline(*TWO, path="anet/v_JDg--pjY5gg.mp4"), failure(), timeline(path="quiet.mp4")):
        writer.write(record)
    writer.close()

    results = json.loads(stream.getvalue())
    assert {*results} == {"version", "results", "external_data"}  # eval_detection.py: PREDICTION_FIELDS
    assert results["version"] == "VERSION 1.3"
    assert results["results"] == {
        "JDg--pjY5gg": [
            {"label": "corner kick", "score": 0.5, "segment": [1.0, 2.5]},
            {"label": "goal", "score": 0.75, "segment": [5.0, 7.5]},
        ],
        "quiet": [],
    }
    assert results["external_data"]["used"] is True


def test_results_without_a_video_are_still_json() -> None:
    stream = io.StringIO()
    ActivityNetWriter(stream).close()

    assert json.loads(stream.getvalue())["results"] == {}


def test_the_second_video_of_an_id_is_left_out(caplog: pytest.LogCaptureFixture) -> None:
    stream = io.StringIO()
    writer = ActivityNetWriter(stream)
    writer.write(timeline(*TWO, path="a/x.mp4"))
    writer.write(timeline(path="b/x.mp4"))
    writer.close()

    assert len(json.loads(stream.getvalue())["results"]["x"]) == 2
    assert "b/x.mp4: is left out, because a/x.mp4 has the same id, x" in caplog.text


@pytest.mark.parametrize(
    ("name", "id_"),
    [("v_JDg--pjY5gg.mp4", "JDg--pjY5gg"), ("JDg--pjY5gg.mkv", "JDg--pjY5gg"), ("v_short.mp4", "v_short")],
)
def test_ids_of_activitynet(name: str, id_: str) -> None:
    assert activitynet_id(Source.at(f"anet/{name}")) == id_


# -- FiftyOne -----------------------------------------------------------------------------------------------------


def test_a_dataset_of_fiftyone(tmp_path: Path) -> None:
    folder = tmp_path / "new" / "dataset"
    writer = make_folder_writer(folder, "fiftyone")
    for record in (timeline(*TWO), failure(), timeline(path="quiet.mp4", labels=["goal", "throw-in"])):
        writer.write(record)
    writer.close()

    labels = json.loads((folder / "labels.json").read_text(encoding="utf-8"))
    assert (folder / "data").is_dir()  # the importer fails without it
    assert labels["classes"] == [*LABELS, "throw-in"]
    assert labels["labels"] == {
        str(Path("cup/match.mp4").absolute()): [
            {"label": 0, "timestamps": [1.0, 2.5], "confidence": 0.5},
            {"label": 1, "timestamps": [5.0, 7.5], "confidence": 0.75},
        ],
        str(Path("quiet.mp4").absolute()): [],
    }


def test_fiftyone_reads_it(tmp_path: Path) -> None:
    importers = pytest.importorskip("fiftyone.utils.data.importers")  # heavy: not installed for the tests
    film = Path(__file__).parents[3] / "examples" / "clips" / "red_circle_moving_left.mp4"
    writer = FiftyOneWriter(tmp_path)
    writer.write(timeline(segment("goal", 0.5, 1.0), path=str(film)))
    writer.close()

    with importers.FiftyOneTemporalDetectionDatasetImporter(dataset_dir=str(tmp_path)) as importer:
        ((path, _, detections, _),) = importer

    (found,) = detections.detections
    assert (path, found.label, found.confidence) == (str(film), "goal", 0.9)


def test_a_place_for_a_dataset_that_cannot_be_written_is_a_usage_error(tmp_path: Path) -> None:
    (tmp_path / "file").touch()

    with pytest.raises(UsageError, match="cannot be written"):
        FiftyOneWriter(tmp_path / "file")


# -- all ----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("text", HOSTILE)
def test_labels_survive_in_json(text: str, tmp_path: Path) -> None:
    found = timeline(segment(text, 1, 2), labels=[text])
    stream = io.StringIO()
    writer, folder_writer = ActivityNetWriter(stream), FiftyOneWriter(tmp_path)
    for each in (writer, folder_writer):
        each.write(found)
        each.close()

    assert json.loads(stream.getvalue())["results"]["match"][0]["label"] == text
    assert json.loads((tmp_path / "labels.json").read_text(encoding="utf-8"))["classes"] == [text]
